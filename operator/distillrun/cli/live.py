"""The live view of a run: one renderable for a terminal, and lines for everything else. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distillrun.cli.view import RunView, StageView
from distillrun.cli.words import count, duration, headline, interruptions, notices, score_words, spending

MARKS = {
    "Succeeded": ("✔", "green"),
    "Reused": ("✔", "green"),
    "Running": ("●", "cyan"),
    "Failed": ("✘", "red"),
    "Skipped": ("–", "dim"),
    "Pending": ("○", "dim"),
}
EVENTS_SHOWN = 5
WIDTHS = (10, 9, 23, 7)
"""Columns of a stage's name, state, count and time; the bar stands after the state."""
BAR = 24
"""The bar's width where there is room."""


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
    parts: list[RenderableType] = [head, Text(), _Stages(run, now), Text(), Text(spending(run))]
    parts += [Text(line, "bold") for line in score_words(run)]
    parts += [Text(run.message, "red" if run.outcome == "failed" else "")] if run.message else []
    parts += [Text(line, "yellow") for line in notices(run)]
    parts += [
        Text(f"{_clock(event.time)} {event.reason}: {event.message}", "yellow" if event.warning else "dim")
        for event in happened[-EVENTS_SHOWN:]
    ]
    parts += [Text(trouble, "yellow")] if trouble else []
    return Group(*parts)


class _Stages:
    """A row and a line of numbers for each stage, in columns; the bar takes the room that is left."""

    def __init__(self, run: RunView, now: datetime) -> None:
        self._run, self._now = run, now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bar = max(4, min(BAR, options.max_width - sum(WIDTHS) - len(WIDTHS)))
        for stage in self._run.stages:
            mark, colour = MARKS.get(stage.state, ("?", ""))
            row = Table.grid(padding=(0, 1, 0, 0))
            for width in (*WIDTHS[:2], bar, *WIDTHS[2:]):
                row.add_column(width=width, no_wrap=True)
            counted = f"{count(stage.done)}/{count(stage.total)} {stage.unit}" if stage.total else ""
            took = duration(stage.seconds(self._now)) if stage.name != "serve" else ""
            row.add_row(Text(f"{mark} {stage.name}", colour), Text(stage.state, colour), _bar(stage), counted, took)
            yield row
            if words := _words(stage):
                yield Padding(Text(words), (0, 0, 0, WIDTHS[0] + 1))


def lines(before: RunView | None, run: RunView) -> list[str]:
    """What is new since `before`, a line each: for logs, pipes and screen readers. The first call tells all."""
    old = {stage.name: _line(stage) for stage in before.stages} if before else {}
    new = [_line(stage) for stage in run.stages if stage.attempt or stage.state not in ("Pending", "Skipped")]
    said = [line for line in new if line not in old.values()]
    if before is None or before.phase != run.phase:
        told = any(stage.message and stage.message in run.message for stage in run.stages)  # in its stage's line
        said.append(f"{run.phase}: {run.message}" if run.message and not told else run.phase)
    if run.scores and (before is None or before.scores != run.scores):
        said += score_words(run)
    said += [line for line in notices(run) if before is None or line not in notices(before)]
    if run.stages and (before is None or before.spent != run.spent):
        said.append(spending(run))
    return said


def event_line(event: EventView) -> str:
    """An event as a line."""
    return f"{'warning' if event.warning else 'event'} {event.reason}: {event.message}"


def _line(stage: StageView) -> str:
    progress = f"{count(stage.done)}/{count(stage.total)} {stage.unit}".strip() if stage.total else ""
    return "  ".join(filter(None, (stage.name, stage.state, progress, _words(stage))))


def _words(stage: StageView) -> str:
    attempt = f"attempt {stage.attempt}" if stage.attempt > 1 and stage.name != "serve" else ""
    reused = f"taken over from {stage.reused_from}" if stage.reused_from else ""
    return " · ".join(filter(None, (attempt, interruptions(stage), reused, headline(stage))))


def _bar(stage: StageView) -> RenderableType:
    if stage.state in ("Succeeded", "Reused"):
        return ProgressBar(total=1, completed=1, width=None)
    if stage.name == "serve" or stage.state not in ("Running", "Failed"):
        return ""
    if not stage.total:
        return ProgressBar(total=1, completed=0, width=None)
    return ProgressBar(total=stage.total, completed=min(stage.done, stage.total), width=None)


def _colour(run: RunView) -> str:
    if run.outcome == "running" and run.phase == "Suspended":
        return "bold yellow"
    return {"failed": "bold red", "done": "bold green", "running": "bold cyan"}[run.outcome]


def _clock(time: datetime | None) -> str:
    return f"{time.astimezone():%H:%M:%S}" if time else "        "
