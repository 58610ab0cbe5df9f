"""All runs, a line each. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import ConsoleRenderable
from rich.table import Table
from rich.text import Text

from distillrun.cli.view import RunView, StageView
from distillrun.cli.words import age, duration, money

COLOURS = {"failed": "red", "done": "green", "running": ""}


def listing(runs: Sequence[RunView], now: datetime, *, namespaces: bool) -> Table:
    """A table of runs, by namespace and name; with a column for the namespace if asked."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    titles = ["NAME", "PHASE", "STAGE", "PROGRESS", "ETA", "PREEMPTED", "COST", "EXPECTED", "SCORE", "AGE", "MESSAGE"]
    for title in ["NAMESPACE", *titles] if namespaces else titles:
        right = title in ("PROGRESS", "ETA", "PREEMPTED", "COST", "EXPECTED", "AGE")
        # The message is what gives way on a narrow terminal.
        table.add_column(title, no_wrap=title != "MESSAGE", justify="right" if right else "left")
    for run in sorted(runs, key=lambda run: (run.namespace, run.name)):
        message = Text(run.message, no_wrap=True, overflow="ellipsis")
        cells: list[ConsoleRenderable | str] = [
            run.name,
            Text(run.phase, COLOURS[run.outcome]),
            *_cells(run, now),
            message,
        ]
        table.add_row(*([run.namespace, *cells] if namespaces else cells))
    return table


def _cells(run: RunView, now: datetime) -> list[str]:
    stage = next((each for each in run.stages if each.name == run.stage), None)
    score = next((each for each in run.scores if each.model == "student"), None)
    return [
        f"{run.stage} {stage.attempt}" if stage is not None and stage.attempt > 1 else run.stage,
        _progress(stage),
        duration(stage.eta) if stage is not None and stage.state == "Running" else "",
        str(sum(each.preemptions for each in run.stages) or ""),
        money(run.spent, run.currency) if run.stages else "",
        money(run.expected, run.currency) if run.expected else "",
        f"{score.value:.1%} {score.benchmark}" if score is not None else "",
        age((now - run.created).total_seconds()) if run.created is not None else "",
    ]


def _progress(stage: StageView | None) -> str:
    if stage is None or not stage.total or stage.state != "Running":
        return ""
    return f"{min(100 * stage.done // stage.total, 100)}%"
