"""What holds a whole run: suspension, budget, deadline, retry, and the end of its children's time to live."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from distillrun.api.status import ENDED, MOST, ServingCost, Stage, Status
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import asking, cost, meter, names, reasons
from distillrun.plan.clock import rfc3339, since
from distillrun.plan.meter import Standing
from distillrun.plan.model import Observed, Run

BEFORE_SERVING = ("resolve", "curate", "train", "evaluate")


@dataclass(frozen=True)
class Hold:
    """Why nothing of a run may cost money now."""

    reason: str
    message: str


@dataclass(frozen=True)
class Spending:
    """What a run has used before it serves, as the pods show it at this moment."""

    spent: float
    """In the run's currency."""
    rate: float
    """Currency units a second."""


def spending(
    before: Status, spec: Spec, observed: Observed, price: str, now: datetime, servers: ServingCost | None = None
) -> Spending:
    """Cost up to now and its rate, of the stages that the budget covers and of the model `servers` beside them."""
    names = {stage.job_name for stage in before.stages if stage.name in BEFORE_SERVING and stage.job_name}
    settled = sum(
        float(stage.cost.settled_gpu_seconds)
        for stage in before.stages
        if stage.name in BEFORE_SERVING and stage.cost is not None
    )
    done = {stage.job_name for stage in before.stages if stage.state in ENDED}
    pods = [pod for pod in observed.pods.values() if pod.job in names - done]
    running = sum(cost.pod_gpu_seconds(pod, now) for pod in pods)
    busy = sum(pod.gpus for pod in pods if pod.scheduled is not None and pod.end is None) + meter.holding(servers)
    running += float(servers.gpu_seconds) if servers is not None else 0.0
    hourly = float(price)
    asked = [
        asking.advance(stage, spec, observed) if stage.state not in ENDED else stage.cost
        for stage in before.stages
        if stage.name in BEFORE_SERVING
    ]
    questions = sum(float(each.asking) for each in asked if each is not None)
    return Spending((settled + running) * hourly / 3600 + questions, busy * hourly / 3600)


def over_budget(spec: Spec, spending: Spending) -> str:
    """The sentence that says by how much the limit is exceeded; "" while it is not, or when there is none."""
    limit = spec.budget.limit
    if limit is None or spending.spent < float(limit):
        return ""
    return (
        f"the run has used {spending.spent:.2f} of its budget.limit of {limit}: raise the limit to let it go on"
        " from its last checkpoint"
    )


def hold(spec: Spec, spending: Spending, served: bool, serving: Standing | None) -> Hold | None:
    """Whether the run must not use anything now. A run that has come to serving is past its budget's reach: what it
    costs from then on has a limit of its own, `serving`."""
    if spec.suspend:
        return Hold(reasons.SUSPENDED, "the run is suspended: set spec.suspend to false to let it go on")
    words = over_budget(spec, spending)
    if words and spec.budget.on_exceeded == "Stop" and not served:
        return Hold(reasons.BUDGET_EXCEEDED, words)
    if served and serving is not None and serving.reason == reasons.MAX_COST:
        return Hold(reasons.MAX_COST, serving.message)
    return None


def until_limit(spec: Spec, spending: Spending) -> float | None:
    """Seconds until the budget's limit is reached at the present rate."""
    if spec.budget.limit is None or spending.rate <= 0 or spending.spent >= float(spec.budget.limit):
        return None
    return (float(spec.budget.limit) - spending.spent) / spending.rate + 0.1


@dataclass(frozen=True)
class Clock:
    """Time that counts against the deadline: less what the run was suspended, up to and including evaluation."""

    since: str | None
    seconds: int

    def used(self, now: datetime) -> float:
        """Seconds used up to now; a wall clock that was set back takes none away."""
        return self.seconds + (max(since(self.since, now), 0.0) if self.since else 0.0)

    def after(self, active: bool, now: datetime) -> Clock:
        """The clock as it runs on, or stopped."""
        if active:
            return self if self.since else Clock(rfc3339(now), self.seconds)
        # Times that a stranger wrote into status may add up to more than the CRD lets a count be.
        return Clock(None, min(round(self.used(now)), MOST)) if self.since else self


def deadline_left(spec: Spec, clock: Clock, now: datetime) -> float | None:
    """Seconds until the run's deadline, negative once it has passed; None without one."""
    if spec.active_deadline_seconds is None:
        return None
    return spec.active_deadline_seconds - clock.used(now)


def reopened(spec: Spec, before: Status) -> bool:
    """Whether `spec.retry` was raised over the value that was acted on last."""
    return before.observed_retry is not None and spec.retry > before.observed_retry


def reopen(run: Run, stage: Stage) -> Stage:
    """A failed stage as its next attempt finds it: failures forgotten, cost and checkpoints kept."""
    if stage.state != "Failed":
        return stage
    forgotten = {"failures": 0, "releases": 0, "completion_time": None, "reason": "", "message": ""}
    return attempt(run, stage, stage.attempt + 1).model_copy(update=forgotten)


def attempt(run: Run, stage: Stage, number: int) -> Stage:
    """The stage before its attempt of that number."""
    job_name = names.job(run.name, stage.name, stage.fingerprint, number)
    blank = {"state": "Pending", "job_time": None, "retry_time": None}
    return stage.model_copy(update={**blank, "attempt": number, "job_name": job_name})


def again(stage: Stage) -> Stage:
    """A finished stage that has to be done anew: only its cost and the count of its attempts stay."""
    return Stage(name=stage.name, attempt=stage.attempt, job_name=stage.job_name, cost=stage.cost)


def expiry(spec: Spec, finished: str | None, now: datetime) -> float | None:
    """Seconds until children are removed, zero or less once it is time; None when that never comes."""
    if spec.ttl_seconds_after_finished is None or finished is None:
        return None
    return spec.ttl_seconds_after_finished - since(finished, now)
