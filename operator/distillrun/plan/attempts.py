"""Stages that run as Jobs (curate, train, evaluate): one Job per attempt, from its creation to what follows its end.

The order of writes is the whole safety argument: the outcome and the cost of an attempt go to status; only then is that
attempt's Job deleted; only a pass that knows the next attempt from status creates it. Cut anywhere, the next pass finds
the same words in status and does what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from distillrun.api.status import ENDED, Resolved, Stage, StageCost
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import asking, companions, lifecycle, names, outcome, reasons, settle, size, trouble, waiting
from distillrun.plan.clock import rfc3339, since
from distillrun.plan.model import Event, Job, Observed, Pod, Ref, Run, Settings, StageName, Want
from distillrun.plan.outcome import Outcome
from distillrun.plan.progress import flatten, last_checkpoint, progress
from distillrun.plan.stageconfig import Inputs, stage_config
from distillrun.plan.step import Step

GIVE_UP_ON_PODS = trouble.LOST_AFTER
"""Seconds after a Job's failure for which its other pods' endings are waited for."""
FIRST_BACKOFF = 5.0
LONGEST_BACKOFF = 300.0
FIRST_RELEASE_WAIT = 60.0
LONGEST_RELEASE_WAIT = 900.0
VANISHED_AFTER = 15.0
"""Seconds for which a Job that status knows may be missing from the cache before it counts as deleted."""
PROBE = 0
"""The attempt that only looks whether another run has left the result already: one pod, no GPU."""

_EVENTS = {"Disrupted": "AttemptDisrupted", "Released": "AttemptReleased", "Temporary": "AttemptPostponed"}


@dataclass(frozen=True)
class Context:
    """Everything about the run that a stage's planning reads."""

    run: Run
    spec: Spec
    observed: Observed
    now: datetime
    price: str
    settings: Settings
    upstream: Mapping[StageName, str]
    """Artifacts' URIs of the stages that are done."""
    resolved: Resolved
    """What the run was resolved to; empty while it is not."""
    reuse: bool = False
    """Whether the stage before was taken over from another run: then this one may be, too."""

    def image(self, stage: StageName) -> str:
        """The operator's image of a stage, as it was when the run was resolved."""
        return self.resolved.images.get(stage) or self.settings.images[stage]

    def size(self, stage: Stage) -> tuple[int, int]:
        """(pods, GPUs of each) of the attempt at hand."""
        return (
            (1, 0) if stage.attempt == PROBE else (size.pods(self.spec, stage.name), size.gpus(self.spec, stage.name))
        )


def advance(context: Context, before: Stage, fingerprint: str) -> Step:
    """The next step of a stage whose upstream stages have all succeeded."""
    if before.state in ENDED:
        return Step(before)
    stage = _begin(context, before, fingerprint)
    job = context.observed.jobs.get(stage.job_name)
    if job is None:
        return _absent(context, stage)
    stage = stage.model_copy(update={"job_time": stage.job_time or rfc3339(job.created)})
    pods = pods_of(context.observed, job.name)
    if job.complete:
        return _complete(context, stage, job, pods)
    if job.suspended or job.preempted:
        return _queued(context, stage, job, pods)
    if job.failure:
        return _failed(context, stage, job, pods)
    return _active(context, stage, job, pods)


def halt(context: Context, before: Stage, reason: str, message: str) -> Step:
    """A stage of a run that is suspended or over its budget: its attempt is settled and its Job goes.

    An attempt that has ended meanwhile is counted as what it was.
    """
    job = context.observed.jobs.get(before.job_name) if before.job_name else None
    if job is not None and (job.complete or job.failure):
        return advance(context, before, before.fingerprint)
    if job is None and not _had_job(before):
        return Step(before.model_copy(update={"state": "Pending", "reason": reason, "message": message}))
    ended = Outcome("Stopped", reason, message)
    return _next_attempt(context, before, job, ended)


def fail(context: Context, before: Stage, reason: str, message: str) -> Step:
    """A stage that is ended for good by a limit of the run: settled, its Job removed with the pods that still run."""
    job = context.observed.jobs.get(before.job_name) if before.job_name else None
    step = _next_attempt(context, before, job, Outcome("Permanent", reason, message))
    if job is not None and not (job.complete or job.failure):
        step.delete.append(Ref("Job", job.name, job.uid))
    return step


def give_up(context: Context, before: Stage, end: Outcome) -> Step:
    """An attempt whose Job cannot be made, or cannot begin: it ends as what `end` says."""
    return _next_attempt(context, before, context.observed.jobs.get(before.job_name), end)


def _had_job(stage: Stage) -> bool:
    """Whether the Job of the attempt at hand is known to have been there: then it is never made a second time."""
    return stage.job_time is not None


def _begin(context: Context, before: Stage, fingerprint: str) -> Stage:
    """The stage at its first attempt, or at the one that status tells; a spec edited before it ran starts it afresh."""
    if before.job_name and before.fingerprint == fingerprint:
        return before
    settled = before.cost
    if before.job_name and (before.job_name in context.observed.jobs or _had_job(before)):
        settled = _settle(context, before, context.observed.jobs.get(before.job_name))
    attempt = before.attempt + 1  # a number is never used twice, not even for another fingerprint
    served = any(each.gpus for each in companions.needed(context.run.name, context.spec, before.name))
    if not before.job_name and (served or (context.reuse and size.gpus(context.spec, before.name))):
        attempt = PROBE
    job_name = names.job(context.run.name, before.name, fingerprint, attempt)
    return Stage(name=before.name, fingerprint=fingerprint, attempt=attempt, job_name=job_name, cost=settled)


def _absent(context: Context, stage: Stage) -> Step:
    """The attempt's Job is not there: create it, unless it ran before and was deleted, or its time has not come."""
    if _had_job(stage):
        seen_at = stage.progress.time if stage.progress and stage.progress.time else stage.job_time
        if seen_at is not None and since(seen_at, context.now) < VANISHED_AFTER:
            return Step(stage, requeue=[VANISHED_AFTER])
        gone = Outcome("Fault", reasons.JOB_DELETED, f"Job {stage.job_name} was deleted by somebody")
        return _next_attempt(context, stage, None, gone)
    if stage.retry_time is not None:
        wait = -since(stage.retry_time, context.now)
        if wait > 0:
            return Step(stage, requeue=[wait])
    inputs = Inputs(context.upstream, context.resolved)
    config = stage_config(context.run, context.spec, stage.name, stage.fingerprint, stage.attempt, inputs)
    shared: dict[str, Any] = {
        "stage": stage.name,
        "attempt": stage.attempt,
        "fingerprint": stage.fingerprint,
        "config": config,
        "image": context.image("resolve" if stage.attempt == PROBE else stage.name),
        "queue": context.spec.queue_name,
    }
    wants = [Want("ConfigMap", "config", stage.job_name, **shared)]
    if stage.name == "train" and context.size(stage)[0] > 1:
        wants.append(Want("Service", "rendezvous", names.rendezvous(context.run.name), stage="train"))
    wants.append(Want("Job", "job", stage.job_name, **shared))
    blocked = blocked_by(context, {want.name for want in wants})
    return Step(_waiting(stage, blocked), ensure=wants, requeue=[30.0] if blocked else [])


def blocked_by(context: Context, wanted: set[str]) -> waiting.Wait | None:
    """What the last pass met when it wanted to create these objects."""
    for conflict in context.observed.conflicts:
        if conflict.name in wanted:
            return waiting.Wait(
                reasons.NAME_CONFLICT,
                f"{conflict.kind} {conflict.name} exists and belongs to {conflict.owner}:"
                " delete or rename it, and the run goes on by itself",
            )
    for refusal in context.observed.refusals:
        if refusal.name in wanted:
            what = f"pods for Job {refusal.name}" if refusal.kind == "Pod" else f"{refusal.kind} {refusal.name}"
            return waiting.Wait(reasons.REFUSED, f"the API server refuses {what}: {refusal.message}")
    return None


def _waiting(stage: Stage, wait: waiting.Wait | None) -> Stage:
    if wait is None:
        told = stage.failures or stage.preemptions or stage.releases
        held = stage.reason in (reasons.SUSPENDED, reasons.BUDGET_EXCEEDED, reasons.QUEUED)
        return stage if told and not held else stage.model_copy(update={"reason": "", "message": ""})
    return stage.model_copy(update={"reason": wait.reason, "message": wait.message})


def _queued(context: Context, stage: Stage, job: Job, pods: list[Pod]) -> Step:
    """The Job is suspended, by Kueue or by whoever else holds it: not ours to change. One whose pods ran is over."""
    ran = stage.state == "Running" or (stage.cost is not None and stage.cost.since is not None)
    if ran or job.failure or any(pod.started for pod in pods):
        # The next attempt queues anew: pods that were told to go leave this Job failed once it is admitted again.
        words = f"Job {job.name} was suspended while its pods ran"
        return _next_attempt(context, stage, job, Outcome("Disrupted", reasons.PREEMPTED, words))
    words = f"Job {job.name} is held: somebody has set spec.suspend on it"
    if context.spec.queue_name:
        words = f"Job {job.name} waits for quota in LocalQueue {context.spec.queue_name}"
    return Step(stage.model_copy(update={"state": "Pending", "reason": reasons.QUEUED, "message": words}))


def _active(context: Context, stage: Stage, job: Job, pods: list[Pod]) -> Step:
    """The Job is at work: note when its first pod began, what keeps others from running, and how far it is."""
    # Pods that are refused (quota, Pod Security) never exist: the reader of the Job's events says so.
    expected, _ = context.size(stage)
    wait = waiting.diagnose(pods) or (blocked_by(context, {job.name}) if len(pods) < expected else None)
    scrape = next(
        (context.observed.scrapes[pod.name] for pod in pods if pod.index == 0 and pod.name in context.observed.scrapes),
        None,
    )
    step = Step(stage, requeue=[_look(context, stage)] if any(pod.scheduled for pod in pods) else [])
    lost = trouble.lost_node(pods, context.now)
    for verdict in (
        lost,
        trouble.blocked(pods, expected, wait, context.spec.start_timeout_seconds, context.now),
        trouble.stalled(stage, pods, scrape, context.spec.train.stall_timeout_seconds, context.now)
        if stage.name == "train" and lost is None  # the others stand still since they wait for its pod
        else None,
    ):
        if isinstance(verdict, Outcome):
            return _next_attempt(context, stage, job, verdict)
        if verdict is not None:
            step.requeue.append(verdict)
    stage = _heard(context, stage)
    cost = settle.running(stage, pods, context.price, context.now)
    started = min((pod.started for pod in pods if pod.started is not None), default=None)
    if started is None:
        step.stage = _waiting(stage.model_copy(update={"cost": cost} if cost.since or cost.asked else {}), wait)
        if wait is not None and wait.reason != stage.reason:
            step.events.append(Event("Warning", wait.reason, wait.message))
        return step
    update: dict[str, Any] = {"state": "Running", "cost": cost}
    update["reason"], update["message"] = (wait.reason, wait.message) if wait else ("", "")
    if stage.state != "Running":
        update["start_time"] = stage.start_time or rfc3339(started)
        step.events.append(Event("Normal", "StageStarted", f"{stage.name} attempt {stage.attempt} runs"))
    if scrape is not None:
        update["progress"] = progress(scrape, stage, context.now) or stage.progress
        update["last_checkpoint"] = last_checkpoint(scrape) or stage.last_checkpoint
    step.stage = stage.model_copy(update=update)
    return step


def _complete(context: Context, stage: Stage, job: Job, pods: list[Pod]) -> Step:
    """The Job succeeded: keep what its first pod said. The Job stays, so that its logs can be read."""
    end = outcome.success(pods)
    if stage.attempt == PROBE and (end is None or end.kind == "Absent"):
        return Step(lifecycle.attempt(context.run, stage, 1), requeue=[0.5])
    if end is None:
        lost = Outcome("Fault", reasons.RESULT_LOST, f"Job {job.name} is complete but its pods' messages are gone")
        return _next_attempt(context, stage, job, lost)
    numbers = {name: value for name, value in (end.numbers or {}).items() if name not in ("scores", "resolved")}
    finished = max((pod.end.finished for pod in pods if pod.end and pod.end.finished), default=context.now)
    started = min((pod.started for pod in pods if pod.started), default=None)
    whole = (
        stage.progress.model_copy(update={"done": stage.progress.total, "eta_seconds": 0}) if stage.progress else None
    )
    stage = stage.model_copy(
        update={
            "state": "Reused" if end.reused_from else "Succeeded",
            "reused_from": end.reused_from,
            "start_time": stage.start_time or (rfc3339(started) if started else rfc3339(job.created)),
            "completion_time": rfc3339(finished),
            "artifact": end.artifact,
            "results": flatten(numbers),
            "progress": whole,
            "cost": _settle(context, stage, job),
            "reason": "",
            "message": "",
            "retry_time": None,
        }
    )
    if end.reused_from:
        event = Event("Normal", "StageReused", f"{stage.name} was made by run {end.reused_from}: {end.artifact}")
    else:
        event = Event("Normal", "StageSucceeded", f"{stage.name} has succeeded: {end.artifact}")
    return Step(stage, events=[event])


def _failed(context: Context, stage: Stage, job: Job, pods: list[Pod]) -> Step:
    """The Job failed: once its pods' endings are known, or were waited for long enough, decide what follows."""
    unknown = [pod for pod in pods if pod.end is None and pod.phase not in ("Failed", "Succeeded")]
    waited = (context.now - (job.finished or job.created)).total_seconds()
    if unknown and waited < GIVE_UP_ON_PODS:
        return Step(stage, requeue=[max(GIVE_UP_ON_PODS - waited, 1.0)])
    if stage.attempt == PROBE:  # it only would have saved work: do the work
        return Step(lifecycle.attempt(context.run, stage, 1), requeue=[0.5])
    return _next_attempt(context, stage, job, outcome.failure(job, pods))


def _next_attempt(context: Context, stage: Stage, job: Job | None, end: Outcome) -> Step:
    """Settle the attempt and either prepare the next one or fail the stage."""
    failures = stage.failures + (1 if end.kind in ("Fault", "Permanent") else 0)
    releases = stage.releases + (1 if end.kind == "Released" else 0)
    update: dict[str, Any] = {
        "cost": _settle(context, stage, job),
        "failures": failures,
        "preemptions": stage.preemptions + (1 if end.kind == "Disrupted" else 0),
        "releases": releases,
        "reason": end.reason,
        "message": end.message if end.kind == "Stopped" else f"attempt {stage.attempt}: {end.message}"[:2000],
    }
    if end.kind == "Permanent" or failures > context.spec.max_retries:
        if end.kind != "Permanent" and context.spec.max_retries:
            update["message"] = f"{failures} attempts failed, the last one: {end.message}"[:2000]
        failed = stage.model_copy(update={**update, "state": "Failed", "completion_time": rfc3339(context.now)})
        return Step(failed, events=[Event("Warning", "StageFailed", f"{stage.name}: {failed.message}")])
    wait = _wait(end, failures, releases)
    following = lifecycle.attempt(context.run, stage, stage.attempt + 1).model_copy(
        update={**update, "retry_time": rfc3339(context.now + timedelta(seconds=wait)) if wait else None}
    )
    refs = [Ref("Job", job.name, job.uid)] if job is not None else []
    step = Step(following, delete=refs)
    if end.kind != "Stopped":
        reason = _EVENTS.get(end.kind, "AttemptFailed")
        words = f"{stage.name} attempt {stage.attempt} ended ({end.reason}): {end.message}"
        words = f"{words}; attempt {following.attempt} follows"
        step.events.append(Event("Normal" if end.kind == "Temporary" else "Warning", reason, words))
        step.requeue.append(wait or 0.5)
    return step


def _wait(end: Outcome, failures: int, releases: int) -> float:
    """Seconds before the next attempt."""
    if end.kind == "Temporary":
        return end.retry_after
    if end.kind in ("Disrupted", "Stopped"):
        return 0.0
    if end.kind == "Released":
        return min(FIRST_RELEASE_WAIT * 2.0 ** max(releases - 1, 0), LONGEST_RELEASE_WAIT)
    return min(FIRST_BACKOFF * 2.0 ** max(failures - 1, 0), LONGEST_BACKOFF)


def pods_of(observed: Observed, job: str) -> list[Pod]:
    """A Job's pods in the order of their indexes."""
    return sorted((pod for pod in observed.pods.values() if pod.job == job), key=lambda pod: (pod.index, pod.name))


def _heard(context: Context, stage: Stage) -> Stage:
    """The stage with what its pods say that asking has cost."""
    return stage.model_copy(update={"cost": asking.advance(stage, context.spec, context.observed)})


def _look(context: Context, stage: Stage) -> float:
    """Seconds until a stage at work is looked at again: as often as it is pulled where what it says costs money."""
    priced = stage.name == "curate" and bool(context.spec.asking_prices)
    return 10.0 if priced and context.spec.budget.limit is not None else 30.0


def _settle(context: Context, stage: Stage, job: Job | None) -> StageCost:
    pods = pods_of(context.observed, stage.job_name)
    stage = _heard(context, stage)
    return settle.settled(stage, job, pods, context.size(stage), context.price, context.now)
