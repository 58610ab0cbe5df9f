"""The funnel: each step of curation with what went in, what was removed and why, in order.

It is the artifact funnel.json, a table in the log, and a part of the stage's numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from distillstages.common.metrics import Metrics

FORM: Final = "distillrun.dev/funnel/v1"


def by_frequency(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by reason, the most frequent first, equals by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def gauge(metrics: Metrics, tally: Mapping[str | None, int]) -> tuple[int, int]:
    """Set the gauges of accepted traces (None) and of those rejected by reason; returns (accepted, rejected)."""
    rejected = {reason: number for reason, number in tally.items() if reason is not None}
    accepted = tally.get(None, 0)
    metrics.set("traces_accepted", accepted)
    for reason, number in rejected.items():
        metrics.set("traces_rejected", number, reason=reason)
    return accepted, sum(rejected.values())


@dataclass(frozen=True)
class Step:
    """One step. `unit`: questions, traces or rows; `removed`: by reason, the most frequent first."""

    name: str
    unit: str
    entered: int
    removed: Mapping[str, int]

    @property
    def left(self) -> int:
        """What goes on to the next step."""
        return self.entered - sum(self.removed.values())


@dataclass
class Funnel:
    """The steps so far."""

    steps: list[Step] = field(default_factory=list)

    def add(self, name: str, unit: str, entered: int, removed: Mapping[str, int]) -> Step:
        """Append a step; reasons with nothing removed are left out."""
        step = Step(name, unit, entered, by_frequency({reason: number for reason, number in removed.items() if number}))
        assert step.left >= 0
        self.steps.append(step)
        return step

    def removed(self, reason: str) -> int:
        """How many all steps together removed for a reason."""
        return sum(step.removed.get(reason, 0) for step in self.steps)

    def why(self) -> str:
        """What was removed so far, as a part of a sentence: "read 10, Contaminated 7, Duplicate 3"."""
        total: Counter[str] = Counter()
        for step in self.steps:
            total.update(step.removed)
        read = self.steps[0].entered if self.steps else 0
        return ", ".join([f"read {read}", *(f"{reason} {number}" for reason, number in total.most_common())])

    def document(self) -> str:
        """funnel.json."""
        steps = [
            {"step": s.name, "unit": s.unit, "in": s.entered, "out": s.left, "removed": dict(s.removed)}
            for s in self.steps
        ]
        return json.dumps({"apiVersion": FORM, "steps": steps}, indent=1) + "\n"

    def numbers(self) -> dict[str, int]:
        """What each step left: small enough for a status."""
        return {s.name: s.left for s in self.steps}

    def table(self) -> list[str]:
        """Lines for a log or for Markdown."""
        lines = ["| step | | in | out | removed |", "| --- | --- | ---: | ---: | --- |"]
        for s in self.steps:
            why = ", ".join(f"{reason} {number:,}" for reason, number in s.removed.items())
            lines.append(f"| {s.name} | {s.unit} | {s.entered:,} | {s.left:,} | {why} |")
        return lines

    def fields(self) -> list[dict[str, Any]]:
        """As structured log fields."""
        return [{"step": s.name, "in": s.entered, "out": s.left, **s.removed} for s in self.steps]
