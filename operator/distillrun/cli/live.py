"""The live view of a run: one renderable for a terminal, and lines for everything else. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distillrun.cli.view import RunView, StageView
from distillrun.cli.words import count, duration, headline, money, score_words

MARKS = {
    "Succeeded": ("✔", "green"),
    "Reused": ("✔", "green"),
    "Running": ("●", "cyan"),
    "Failed": ("✘", "red"),
    "Skipped": ("–", "dim"),
    "Pending": ("○", "dim"),
}
EVENTS_SHOWN = 5


@dataclass(frozen=True)
class EventView:
    """One event about a run."""

    time: datetime | None
    warning: bool
    reason: str
    message: str


def events(items: Sequence[Mapping[str, Any]]) -> list[EventView]:
    """Events as the API server returns them, oldest first. Both event APIs' times are understood."""
    found = []
    for each in items:
        text = (each.get("series") or {}).get("lastObservedTime") or each.get("lastTimestamp") or each.get("eventTime")
        time = datetime.fromisoformat(text) if text else None
        warning = each.get("type") == "Warning"
        found.append(EventView(time, warning, each.get("reason", ""), each.get("message") or each.get("note") or ""))
    return sorted(found, key=lambda event: event.time.timestamp() if event.time else 0.0)


def live(run: RunView, happened: Sequence[EventView], now: datetime, trouble: str = "") -> RenderableType:
    """The whole view. `trouble` is why the last look at the cluster failed, if it did."""
    head = Text.assemble(
        ("DistillRun ", "dim"), (run.name, "bold"), (f"  {run.namespace}  ", "dim"), (run.phase, _colour(run))
    )
    table = Table(box=None, padding=(0, 1), pad_edge=False, show_header=False)
    for column in ({"no_wrap": True}, {"no_wrap": True}, {"width": 24}, {"no_wrap": True, "justify": "right"}):
        table.add_column(**column)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    for stage in run.stages:
        mark, colour = MARKS.get(stage.state, ("?", ""))
        table.add_row(
            Text(f"{mark} {stage.name}", colour),
            Text(_state(stage), colour),
            _bar(stage),
            f"{count(stage.done)}/{count(stage.total)} {stage.unit}" if stage.total else "",
            duration(stage.seconds(now) if stage.name != "serve" else None),
            escape(headline(stage)),
        )
    parts: list[RenderableType] = [head, Text(), table, Text(), Text(_footer(run))]
    parts += [Text(line, "bold") for line in score_words(run)]
    parts += [Text(run.message, "red" if run.outcome == "failed" else "")] if run.message else []
    parts += [
        Text(f"{_clock(event.time)} {event.reason}: {event.message}", "yellow" if event.warning else "dim")
        for event in happened[-EVENTS_SHOWN:]
    ]
    parts += [Text(trouble, "yellow")] if trouble else []
    return Group(*parts)


def lines(before: RunView | None, run: RunView) -> list[str]:
    """What is new since `before`, a line each: for logs, pipes and screen readers. The first call tells all."""
    old = {stage.name: _line(stage) for stage in before.stages} if before else {}
    new = [_line(stage) for stage in run.stages if stage.attempt or stage.state not in ("Pending", "Skipped")]
    said = [line for line in new if line not in old.values()]
    if before is None or before.phase != run.phase:
        said.append(f"{run.phase}: {run.message}" if run.message else run.phase)
    if run.scores and (before is None or before.scores != run.scores):
        said += score_words(run)
    if run.stages and (before is None or before.spent != run.spent):
        said.append(_footer(run))
    return said


def event_line(event: EventView) -> str:
    """An event as a line."""
    return f"{'warning' if event.warning else 'event'} {event.reason}: {event.message}"


def _line(stage: StageView) -> str:
    progress = f"{count(stage.done)}/{count(stage.total)} {stage.unit}".strip() if stage.total else ""
    return "  ".join(filter(None, (stage.name, _state(stage), progress, headline(stage))))


def _state(stage: StageView) -> str:
    return f"{stage.state}, attempt {stage.attempt}" if stage.attempt > 1 and stage.name != "serve" else stage.state


def _bar(stage: StageView) -> RenderableType:
    if stage.state in ("Succeeded", "Reused"):
        return ProgressBar(total=1, completed=1, width=24)
    if stage.name == "serve" or stage.state not in ("Running", "Failed"):
        return ""
    if not stage.total:
        return ProgressBar(total=1, completed=0, width=24)
    return ProgressBar(total=stage.total, completed=min(stage.done, stage.total), width=24)


def _footer(run: RunView) -> str:
    return f"cost so far {money(run.spent, run.currency)} for {duration(run.gpu_seconds)} of GPU time"


def _colour(run: RunView) -> str:
    return {"failed": "bold red", "done": "bold green", "running": "bold cyan"}[run.outcome]


def _clock(time: datetime | None) -> str:
    return f"{time.astimezone():%H:%M:%S}" if time else "        "
