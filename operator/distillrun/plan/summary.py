"""The whole status out of what a pass over the stages has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from distillrun.api.status import (
    DONE,
    Artifacts,
    Condition,
    Cost,
    Phase,
    Resolved,
    Score,
    ServedEndpoint,
    ServingCost,
    Stage,
    Status,
)
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import asking, cost, names, reasons, stageconfig
from distillrun.plan.clock import rfc3339
from distillrun.plan.conditions import Conditions
from distillrun.plan.estimate import Estimate
from distillrun.plan.feasibility import Feasibility
from distillrun.plan.gates import Verdict
from distillrun.plan.lifecycle import BEFORE_SERVING, Clock, Hold
from distillrun.plan.meter import Standing
from distillrun.plan.model import Event, Run, StageName

_PHASES: dict[StageName, Phase] = {
    "resolve": "Resolving",
    "curate": "Curating",
    "train": "Training",
    "evaluate": "Evaluating",
    "serve": "Serving",
}


PriceFrom = Literal["Run", "PriceBook", "General", "Unknown"]


@dataclass(frozen=True)
class Facts:
    """What a pass over the stages has found."""

    run: Run
    spec: Spec
    before: Status
    stages: list[Stage]
    scores: list[Score]
    verdict: Verdict | None
    """Of the gates; None while their turn has not come."""
    feasible: Feasibility | None
    """None when it was not looked at in this pass: what is known stands."""
    estimate: Estimate | None
    hold: Hold | None
    over_budget: str
    """A sentence, "" within the budget."""
    serving: ServingCost | None
    standing: Standing | None
    """Of `serving` against `serve.maxCost`; None without such a limit."""
    resolved: Resolved | None
    clock: Clock
    price: str
    price_from: PriceFrom
    currency: str
    now: datetime

    @property
    def current(self) -> Stage:
        """The stage at hand: the first that is not done, less a second look at inputs beside a stage that runs."""
        ahead = [stage for stage in self.stages if stage.state not in (*DONE, "Skipped")]
        if not ahead:
            return self.stages[-1]
        if ahead[0].name == "resolve":
            return next((stage for stage in ahead if stage.name in ("curate", "train") and stage.job_name), ahead[0])
        return ahead[0]

    @property
    def barred(self) -> str:
        """Why the run does not go on although nothing failed: gates or preflight. "" when neither bars it."""
        if self.verdict is not None and not self.verdict.passed:
            return self.verdict.message
        current = self.current
        refused = self.feasible is not None and self.feasible.status == "False" and self.spec.preflight == "Enforce"
        if refused and self.feasible is not None and current.name in ("curate", "train") and not current.job_name:
            return self.feasible.message
        return ""

    @property
    def failed(self) -> bool:
        """Whether a stage has failed for good."""
        return self.current.state == "Failed"

    @property
    def served(self) -> bool:
        """Whether the student answers."""
        return self.current.name == "serve" and self.current.state == "Running"

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.current.state in (*DONE, "Skipped") and not self.barred

    @property
    def held(self) -> bool:
        """Whether the run is kept from going on by its user or its budget."""
        return self.hold is not None and not (self.failed or self.barred or self.complete)

    @property
    def finished(self) -> bool:
        """Whether everything before serving has ended for good."""
        before = [stage for stage in self.stages if stage.name in BEFORE_SERVING]
        return self.failed or bool(self.barred) or all(stage.state in (*DONE, "Skipped") for stage in before)


def status(facts: Facts) -> Status:
    """The status of a run."""
    before, current = facts.before, facts.current
    used = sum(float(stage.cost.gpu_seconds) for stage in facts.stages if stage.cost is not None)
    asked = asking.of(facts.stages)
    clock = facts.clock.after(not (facts.finished or facts.held), facts.now)
    expected = facts.estimate
    return Status(
        observed_generation=facts.run.generation,
        phase=_phase(facts),
        stage="" if facts.complete else current.name,
        message=_message(facts),
        conditions=_conditions(facts),
        stages=facts.stages,
        progress=_percent(current),
        score=next((f"{float(s.value):.1%} {s.benchmark}"[:32] for s in facts.scores if s.model == "student"), ""),
        cost=Cost(
            estimated=_expected_cost(facts),
            estimated_seconds=round(expected.seconds)
            if expected
            else before.cost.estimated_seconds
            if before.cost
            else None,
            method=expected.method[:1024] if expected else before.cost.method if before.cost else "",
            spent=cost.amount(used, facts.price, asked),
            asking=asking.text(asked),
            currency=facts.currency,
            price_from=facts.price_from,
            gpu_seconds=cost.seconds(used),
            serving=facts.serving,
        ),
        scores=facts.scores,
        artifacts=_artifacts(facts.stages),
        endpoint=_endpoint(facts),
        resolved=facts.resolved,
        observed_retry=facts.spec.retry,
        active_since=clock.since,
        active_seconds=clock.seconds,
        finished_time=(before.finished_time or rfc3339(facts.now)) if facts.finished else None,
    )


def _endpoint(facts: Facts) -> ServedEndpoint | None:
    if not facts.served or facts.spec.serve is None:
        return None
    shared = facts.spec.serve.endpoint_name if facts.current.reason != reasons.SUPERSEDED else None
    host = f"{shared or names.server(facts.run.name)}.{facts.run.namespace}.svc"
    return ServedEndpoint(url=f"http://{host}:{stageconfig.SERVE_PORT}/v1", model=facts.run.name)


def _phase(facts: Facts) -> Phase:
    if facts.failed or facts.barred:
        return "Failed"
    if facts.complete:
        return "Succeeded"
    if facts.held:
        return "Suspended"
    early = facts.current.name in ("resolve", "curate")
    if early and facts.current.state == "Pending" and facts.current.attempt <= 1:
        return "Pending"
    return _PHASES[facts.current.name]


def _message(facts: Facts) -> str:
    current = facts.current
    if facts.failed:
        return f"{current.name} failed ({current.reason}): {current.message}"[:2048]
    if facts.verdict is not None and facts.barred:
        return f"gates {facts.barred}"[:2048]
    if facts.barred:
        return facts.barred[:2048]
    if facts.served:
        return current.message or "the student is served"
    if facts.complete:
        return "all stages have succeeded"
    if facts.hold is not None:
        return facts.hold.message
    if current.message:
        return f"{current.name}: {current.message}"[:2048]
    return f"{current.name} attempt {max(current.attempt, 1)}"


def _percent(current: Stage) -> str:
    progress = current.progress
    if progress is None or not progress.total or current.state != "Running":
        return ""
    return f"{min(100 * progress.done // progress.total, 100)}%"


def _conditions(facts: Facts) -> list[Condition]:
    current = facts.current
    conditions = Conditions(facts.before.conditions, facts.run.generation, rfc3339(facts.now))
    if facts.served or facts.complete:
        reason = reasons.SERVED if facts.served else reasons.COMPLETE
        conditions.add(reasons.READY, True, reason, _message(facts))
    elif facts.failed or facts.barred:
        reason = current.reason or reasons.FAULT
        if facts.barred and not facts.failed:
            reason = reasons.GATES_NOT_PASSED if facts.verdict is not None else reasons.INFEASIBLE
        conditions.add(reasons.READY, False, reason, facts.barred or current.message)
        conditions.add(reasons.STALLED, True, reason, facts.barred or current.message)
    elif facts.hold is not None:
        conditions.add(reasons.READY, False, facts.hold.reason, facts.hold.message)
        if facts.hold.reason in (reasons.BUDGET_EXCEEDED, reasons.MAX_COST):  # nothing happens until someone acts
            conditions.add(reasons.STALLED, True, facts.hold.reason, facts.hold.message)
    else:
        reason = current.reason or (reasons.RUNNING if current.state == "Running" else reasons.PENDING)
        conditions.add(reasons.READY, False, reason, current.message or f"{current.name} is not done")
        conditions.add(reasons.RECONCILING, True, reason, f"{current.name} attempt {max(current.attempt, 1)}")
    if facts.held and facts.hold is not None:
        conditions.add(reasons.SUSPENDED, True, facts.hold.reason, facts.hold.message)
    elif conditions.had(reasons.SUSPENDED):
        conditions.add(reasons.SUSPENDED, False, "Resumed", "the run is not suspended")
    # What asking models costs may have used the budget up all the same.
    if facts.price_from == "Unknown" and facts.spec.budget.limit is not None and not facts.over_budget:
        conditions.add_unknown(reasons.BUDGET_EXCEEDED, reasons.PRICE_UNKNOWN, _no_price(facts, "budget.limit"))
    elif facts.spec.budget.limit is not None:
        words = facts.over_budget or f"within the budget.limit of {facts.spec.budget.limit}"
        reason = reasons.BUDGET_EXCEEDED if facts.over_budget else reasons.WITHIN_BUDGET
        conditions.add(reasons.BUDGET_EXCEEDED, bool(facts.over_budget), reason, words)
    if facts.price_from == "Unknown" and facts.standing is not None:
        conditions.add_unknown(reasons.MAX_COST, reasons.PRICE_UNKNOWN, _no_price(facts, "serve.maxCost"))
    elif facts.standing is not None:
        reached = facts.standing.reason == reasons.MAX_COST
        conditions.add(reasons.MAX_COST, reached, facts.standing.reason, facts.standing.message)
    if facts.feasible is not None:
        conditions.add_feasible(facts.feasible)
    else:
        conditions.keep(reasons.FEASIBLE)
    for stage in facts.stages:
        if stage.job_name and stage.state != "Skipped":
            conditions.add_stage(stage)
    if facts.verdict is not None and facts.run.spec.get("gates"):
        conditions.add_gates(facts.verdict)
    return conditions.items


def _expected_cost(facts: Facts) -> str:
    """Of training, "" where it or the price is not known; what was estimated once stays."""
    if facts.estimate is None:
        return facts.before.cost.estimated if facts.before.cost else ""
    return "" if facts.price_from == "Unknown" else facts.estimate.amount


def _no_price(facts: Facts, limit: str) -> str:
    product = facts.spec.train.gpu_product
    what = f"GPU product {product}" if product else "any GPU"
    return (
        f"GPU time does not count against {limit}: no price of a GPU hour is known for {what}; set"
        " budget.gpuHourPrice, or the operator's gpu.priceBook or gpu.hourPrice"
    )


def _artifacts(stages: Sequence[Stage]) -> Artifacts | None:
    made = {stage.name: stage.artifact for stage in stages if stage.state in DONE}
    if not made.get("curate"):
        return None
    return Artifacts(
        dataset=made.get("curate", ""),
        model=stageconfig.trained_model(made["train"]) if "train" in made else "",
        report=made.get("evaluate", ""),
    )


def events(before: Status, after: Status) -> list[Event]:
    """Events about the run as a whole: how it ended, what holds it, what its budget says."""
    found: list[Event] = []
    if after.phase != before.phase:
        if after.phase == "Failed":
            found.append(Event("Warning", "RunFailed", after.message))
        elif after.phase == "Succeeded":
            found.append(Event("Normal", "RunSucceeded", after.message))
        elif after.phase == "Suspended":
            found.append(Event("Normal", "RunSuspended", after.message))
        elif before.phase == "Suspended":
            found.append(Event("Normal", "RunResumed", after.message))
    told = {condition.type: condition.reason for condition in before.conditions}
    warned = (reasons.BUDGET_EXCEEDED, reasons.MAX_COST, reasons.NEAR_MAX_COST)
    for condition in after.conditions:
        money = condition.type in (reasons.BUDGET_EXCEEDED, reasons.MAX_COST)
        if money and condition.reason in warned and told.get(condition.type) != condition.reason:
            found.append(Event("Warning", condition.reason, condition.message))
    return found
