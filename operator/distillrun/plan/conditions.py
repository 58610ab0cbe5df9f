"""Conditions of a run, in the sense of kstatus: Ready always; Reconciling and Stalled only while true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from distillrun.api.status import Condition, Stage
from distillrun.plan import reasons
from distillrun.plan.feasibility import Feasibility
from distillrun.plan.gates import Verdict
from distillrun.plan.model import StageName

_WORDS: dict[StageName, str] = {
    "resolve": "what the run names was found and is pinned",
    "curate": "the dataset is made",
    "train": "the student is trained",
    "evaluate": "the student is evaluated",
    "serve": "the student answers requests",
}


class Conditions:
    """Collects conditions, keeping the transition time of those whose status did not change."""

    def __init__(self, before: Sequence[Condition], generation: int, now: str) -> None:
        self._before = {condition.type: condition for condition in before}
        self._generation = generation
        self._now = now
        self.items: list[Condition] = []

    def add(self, kind: str, holds: bool, reason: str, message: str = "") -> None:
        """Set one condition."""
        self._put(kind, "True" if holds else "False", reason, message)

    def _put(self, kind: str, status: Literal["True", "False", "Unknown"], reason: str, message: str) -> None:
        before = self._before.get(kind)
        since = before.last_transition_time if before is not None and before.status == status else self._now
        self.items.append(
            Condition(
                type=kind,
                status=status,
                reason=reason,
                message=message[:2048],
                last_transition_time=since,
                observed_generation=self._generation,
            )
        )

    def add_stage(self, stage: Stage) -> None:
        """The condition of a stage that has begun."""
        kind = reasons.STAGE_CONDITION[stage.name]
        if stage.state == "Reused":
            self.add(kind, True, reasons.REUSED, f"taken over from run {stage.reused_from}")
        elif stage.state == "Succeeded" or (stage.name == "serve" and stage.state == "Running"):
            self.add(kind, True, stage.reason or reasons.SUCCEEDED, stage.message or _WORDS[stage.name])
        elif stage.state == "Failed":
            self.add(kind, False, stage.reason or reasons.FAULT, stage.message)
        elif stage.reason:
            self.add(kind, False, stage.reason, stage.message)
        else:
            running = stage.state == "Running"
            self.add(kind, False, reasons.RUNNING if running else reasons.PENDING, f"attempt {stage.attempt}")

    def add_feasible(self, feasible: Feasibility) -> None:
        """Whether the run's plan fits what it asks for, as preflight sees it."""
        self._put(reasons.FEASIBLE, feasible.status, feasible.reason, feasible.message)

    def add_unknown(self, kind: str, reason: str, message: str) -> None:
        """Set one condition of which nobody can tell whether it holds."""
        self._put(kind, "Unknown", reason, message)

    def had(self, kind: str) -> bool:
        """Whether the run has had the condition, true or not."""
        return kind in self._before

    def keep(self, kind: str) -> None:
        """A condition that was not looked at stays as it is."""
        if kind in self._before:
            self.items.append(self._before[kind])

    def add_gates(self, verdict: Verdict) -> None:
        """Whether the student cleared the bars."""
        reason = reasons.GATES_PASSED if verdict.passed else reasons.GATES_NOT_PASSED
        self.add(reasons.GATES_PASSED, verdict.passed, reason, verdict.message)
