"""A run as the command line sees it, read leniently: operator and command line may differ in age."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Json = Mapping[str, Any]
Outcome = Literal["running", "done", "failed"]


@dataclass(frozen=True)
class ConditionView:
    """One condition of a run; `status` is True, False or Unknown."""

    status: str
    reason: str
    message: str


@dataclass(frozen=True)
class StageView:
    """One stage: where it stands, how far it is, what it cost. Times are aware; `rate` is in units a second."""

    name: str
    state: str
    attempt: int
    failures: int
    preemptions: int
    releases: int
    start: datetime | None
    end: datetime | None
    done: int
    total: int
    unit: str
    rate: float
    eta: int | None
    numbers: Mapping[str, str]
    results: Mapping[str, str]
    checkpoint: int | None
    cost: str
    gpu_seconds: float
    estimated: bool
    reused_from: str
    reason: str
    message: str

    def seconds(self, now: datetime) -> float | None:
        """How long it has taken; None before it has begun."""
        return None if self.start is None else max(0.0, ((self.end or now) - self.start).total_seconds())


@dataclass(frozen=True)
class ScoreView:
    """One measured share, from 0 to 1, with its 95 % interval."""

    benchmark: str
    model: str
    metric: str
    value: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True)
class GateView:
    """One bar of the spec."""

    benchmark: str
    metric: str
    at_least: float


@dataclass(frozen=True)
class RunView:
    """A DistillRun."""

    namespace: str
    name: str
    uid: str
    created: datetime | None
    phase: str
    stage: str
    message: str
    seen: bool
    """Whether the operator has acted on the latest spec."""
    conditions: Mapping[str, ConditionView]
    stages: tuple[StageView, ...]
    spent: str
    currency: str
    gpu_seconds: float
    expected: str
    """Cost of training that was estimated beforehand; "" when it is not known."""
    expected_seconds: int | None
    method: str
    budget: str
    """The limit in the spec, "" when there is none."""
    serving_spent: str
    """What its model servers have cost beside `spent`; "" when there were none with GPUs."""
    serving_gpu_seconds: float
    max_cost: str
    """The limit of that in the spec, "" when there is none."""
    scores: tuple[ScoreView, ...]
    gates: tuple[GateView, ...]
    artifacts: Mapping[str, str] = field(default_factory=dict)
    endpoint: str = ""
    model: str = ""
    unchecked: tuple[str, ...] = ()
    """Names of the models and data of the hub whose revision nobody has chosen."""

    def holds(self, condition: str) -> bool:
        """Whether the condition is there and True."""
        found = self.conditions.get(condition)
        return found is not None and found.status == "True"

    @property
    def outcome(self) -> Outcome:
        """Whether the run has come to its end, and to which."""
        if not self.seen:
            return "running"
        if self.holds("Stalled"):
            return "failed"
        return "done" if self.holds("Ready") else "running"

    @property
    def passed(self) -> bool:
        """Whether the gates are passed; without gates, whether the run is done."""
        return self.holds("GatesPassed") if self.gates else self.outcome == "done"


def read(run: Json) -> RunView:
    """The view of a DistillRun object as the API server returns it. Missing parts are empty, unknown ones ignored."""
    metadata, spec, status = run.get("metadata") or {}, run.get("spec") or {}, run.get("status") or {}
    cost = status.get("cost") or {}
    endpoint = status.get("endpoint") or {}
    return RunView(
        namespace=metadata.get("namespace", ""),
        name=metadata.get("name", ""),
        uid=metadata.get("uid", ""),
        created=_time(metadata.get("creationTimestamp")),
        phase=status.get("phase") or "Pending",
        stage=status.get("stage", ""),
        message=status.get("message", ""),
        seen=status.get("observedGeneration", -1) == metadata.get("generation", 0),
        conditions={
            each.get("type", ""): ConditionView(each.get("status", ""), each.get("reason", ""), each.get("message", ""))
            for each in status.get("conditions") or []
        },
        stages=tuple(_stage(each) for each in status.get("stages") or []),
        spent=cost.get("spent", "0"),
        currency=cost.get("currency", ""),
        gpu_seconds=number(cost.get("gpuSeconds")) or 0.0,
        expected=cost.get("estimated", ""),
        expected_seconds=cost.get("estimatedSeconds"),
        method=cost.get("method", ""),
        budget=str((spec.get("budget") or {}).get("limit") or ""),
        serving_spent=(cost.get("serving") or {}).get("spent", ""),
        serving_gpu_seconds=number((cost.get("serving") or {}).get("gpuSeconds")) or 0.0,
        max_cost=str((spec.get("serve") or {}).get("maxCost") or ""),
        scores=tuple(_score(each) for each in status.get("scores") or []),
        gates=tuple(
            GateView(each.get("benchmark", ""), each.get("metric", "Accuracy"), number(each.get("atLeast")) or 0.0)
            for each in spec.get("gates") or []
        ),
        artifacts={key: value for key, value in (status.get("artifacts") or {}).items() if value},
        endpoint=endpoint.get("url", ""),
        model=endpoint.get("model", ""),
        unchecked=_unchecked(status.get("resolved") or {}),
    )


def _unchecked(resolved: Json) -> tuple[str, ...]:
    student = {**(resolved.get("student") or {}), "name": "student"}
    inputs = [each for part in ("sources", "benchmarks", "against") for each in resolved.get(part) or []]
    return tuple(str(each.get("name", "")) for each in (student, *inputs) if each.get("unchecked"))


def number(text: Any) -> float | None:
    """A decimal string or number as a float; None for anything else."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _stage(stage: Json) -> StageView:
    progress, cost = stage.get("progress") or {}, stage.get("cost") or {}
    checkpoint = (stage.get("lastCheckpoint") or {}).get("step")
    return StageView(
        name=stage.get("name", ""),
        state=stage.get("state") or "Pending",
        attempt=int(stage.get("attempt") or 0),
        failures=int(stage.get("failures") or 0),
        preemptions=int(stage.get("preemptions") or 0),
        releases=int(stage.get("releases") or 0),
        start=_time(stage.get("startTime")),
        end=_time(stage.get("completionTime")),
        done=int(progress.get("done") or 0),
        total=int(progress.get("total") or 0),
        unit=progress.get("unit", ""),
        rate=number(progress.get("rate")) or 0.0,
        eta=progress.get("etaSeconds"),
        numbers=progress.get("numbers") or {},
        results={key: str(value) for key, value in (stage.get("results") or {}).items()},
        checkpoint=checkpoint,
        cost=cost.get("amount", "0"),
        gpu_seconds=number(cost.get("gpuSeconds")) or 0.0,
        estimated=bool(cost.get("estimated")),
        reused_from=stage.get("reusedFrom", ""),
        reason=stage.get("reason", ""),
        message=stage.get("message", ""),
    )


def _score(score: Json) -> ScoreView:
    return ScoreView(
        benchmark=score.get("benchmark", ""),
        model=score.get("model", ""),
        metric=score.get("metric", ""),
        value=number(score.get("value")) or 0.0,
        low=number(score.get("low")) or 0.0,
        high=number(score.get("high")) or 0.0,
        samples=int(score.get("samples") or 0),
    )


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
