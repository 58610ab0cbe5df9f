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

from distillrun.api.status import Score, Stage, StageCost
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import cost, names, outcome, reasons, size, waiting
from distillrun.plan.clock import rfc3339, since
from distillrun.plan.model import Event, Job, Observed, Pod, Ref, Run, StageName, Want
from distillrun.plan.outcome import Outcome
from distillrun.plan.progress import flatten, last_checkpoint, progress
from distillrun.plan.stageconfig import stage_config
from distillrun.plan.step import Step

GIVE_UP_ON_PODS = 45.0
"""Seconds after a Job's failure for which its other pods' endings are waited for."""
FIRST_BACKOFF = 5.0
LONGEST_BACKOFF = 300.0
VANISHED_AFTER = 15.0
"""Seconds for which a Job that status knows may be missing from the cache before it counts as deleted."""


@dataclass(frozen=True)
class Context:
    """Everything about the run that a stage's planning reads."""

    run: Run
    spec: Spec
    observed: Observed
    now: datetime
    price: str
    upstream: Mapping[StageName, str]
    """Artifacts' URIs of the stages that are done."""


def advance(context: Context, before: Stage, fingerprint: str) -> Step:
    """The next step of a stage whose upstream stages have all succeeded."""
    if before.state in ("Succeeded", "Failed"):
        return Step(before)
    stage = _begin(context, before, fingerprint)
    job = context.observed.jobs.get(stage.job_name)
    if job is None:
        return _absent(context, stage)
    pods = _pods_of(context.observed, job.name)
    if job.complete:
        return _complete(context, stage, job, pods)
    if job.failure:
        return _failed(context, stage, job, pods)
    return _active(context, stage, job, pods)


def _begin(context: Context, before: Stage, fingerprint: str) -> Stage:
    """The stage at its first attempt, or at the one that status tells; a spec edited before it ran starts it afresh."""
    if before.attempt and before.fingerprint == fingerprint:
        return before
    settled = before.cost
    if before.job_name and before.job_name in context.observed.jobs:
        settled = _settle(context, before, context.observed.jobs[before.job_name])
    job_name = names.job(context.run.name, before.name, fingerprint, 1)
    return Stage(name=before.name, fingerprint=fingerprint, attempt=1, job_name=job_name, cost=settled)


def _absent(context: Context, stage: Stage) -> Step:
    """The attempt's Job is not there: create it, unless it ran before and was deleted, or its time has not come."""
    if stage.state == "Running":
        ran_at = stage.progress.time if stage.progress and stage.progress.time else stage.start_time
        if ran_at is not None and since(ran_at, context.now) < VANISHED_AFTER:
            return Step(stage, requeue=[VANISHED_AFTER])
        gone = Outcome("Fault", reasons.JOB_DELETED, f"Job {stage.job_name} was deleted while it ran")
        return _next_attempt(context, stage, None, gone)
    if stage.retry_time is not None:
        wait = -since(stage.retry_time, context.now)
        if wait > 0:
            return Step(stage, requeue=[wait])
    config = stage_config(
        context.run, context.spec, stage.name, stage.fingerprint, stage.attempt, dict(context.upstream)
    )
    shared: dict[str, Any] = {
        "stage": stage.name,
        "attempt": stage.attempt,
        "fingerprint": stage.fingerprint,
        "config": config,
    }
    wants = [Want("ConfigMap", "config", stage.job_name, **shared)]
    if stage.name == "train" and context.spec.train.nodes > 1:
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
        return stage if stage.failures or stage.preemptions else stage.model_copy(update={"reason": "", "message": ""})
    return stage.model_copy(update={"reason": wait.reason, "message": wait.message})


def _active(context: Context, stage: Stage, job: Job, pods: list[Pod]) -> Step:
    """The Job is at work: note when its first pod began, what keeps others from running, and how far it is."""
    started = min((pod.started for pod in pods if pod.started is not None), default=None)
    # Pods that are refused (quota, Pod Security) never exist: the reader of the Job's events says so.
    wait = waiting.diagnose(pods) if pods else blocked_by(context, {job.name})
    step = Step(stage)
    if started is None:
        step.stage = _waiting(stage, wait)
        if wait is not None and wait.reason != stage.reason:
            step.events.append(Event("Warning", wait.reason, wait.message))
        return step
    update: dict[str, Any] = {"state": "Running", "cost": _running_cost(context, stage, pods)}
    update["reason"], update["message"] = (wait.reason, wait.message) if wait else ("", "")
    if stage.state != "Running":
        update["start_time"] = stage.start_time or rfc3339(started)
        step.events.append(Event("Normal", "StageStarted", f"{stage.name} attempt {stage.attempt} runs"))
    scrape = next(
        (context.observed.scrapes[pod.name] for pod in pods if pod.index == 0 and pod.name in context.observed.scrapes),
        None,
    )
    if scrape is not None:
        update["progress"] = progress(scrape, stage, context.now) or stage.progress
        update["last_checkpoint"] = last_checkpoint(scrape) or stage.last_checkpoint
    step.stage = stage.model_copy(update=update)
    step.requeue.append(30.0)
    return step


def _complete(context: Context, stage: Stage, job: Job, pods: list[Pod]) -> Step:
    """The Job succeeded: keep what its first pod said. The Job stays, so that its logs can be read."""
    end = outcome.success(pods)
    if end is None:
        lost = Outcome("Fault", reasons.RESULT_LOST, f"Job {job.name} is complete but its pods' messages are gone")
        return _next_attempt(context, stage, job, lost)
    numbers = dict(end.numbers or {})
    numbers.pop("scores", None)
    finished = max((pod.end.finished for pod in pods if pod.end and pod.end.finished), default=context.now)
    started = min((pod.started for pod in pods if pod.started), default=None)
    whole = (
        stage.progress.model_copy(update={"done": stage.progress.total, "eta_seconds": 0}) if stage.progress else None
    )
    stage = stage.model_copy(
        update={
            "state": "Succeeded",
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
    return Step(stage, events=[Event("Normal", "StageSucceeded", f"{stage.name} has succeeded: {end.artifact}")])


def scores(pods: list[Pod]) -> list[Score]:
    """The scores that an evaluation's first pod left. Raises nothing: what is malformed is left out."""
    end = outcome.success(pods)
    raw = (end.numbers or {}).get("scores") if end else None
    found: list[Score] = []
    for item in raw if isinstance(raw, list) else []:
        try:
            found.append(
                Score(
                    benchmark=item["benchmark"],
                    model=item["model"],
                    metric=item["metric"],
                    value=f"{float(item['value']):.4f}",
                    low=f"{float(item['low']):.4f}",
                    high=f"{float(item['high']):.4f}",
                    samples=int(item["n"]),
                )
            )
        except (KeyError, TypeError, ValueError):
            continue
    return found[:128]


def _failed(context: Context, stage: Stage, job: Job, pods: list[Pod]) -> Step:
    """The Job failed: once its pods' endings are known, or were waited for long enough, decide what follows."""
    unknown = [pod for pod in pods if pod.end is None and pod.phase not in ("Failed", "Succeeded")]
    waited = (context.now - (job.finished or job.created)).total_seconds()
    if unknown and waited < GIVE_UP_ON_PODS:
        return Step(stage, requeue=[max(GIVE_UP_ON_PODS - waited, 1.0)])
    return _next_attempt(context, stage, job, outcome.failure(job, pods))


def _next_attempt(context: Context, stage: Stage, job: Job | None, end: Outcome) -> Step:
    """Settle the attempt and either prepare the next one or fail the stage."""
    failures = stage.failures + (1 if end.kind in ("Fault", "Permanent") else 0)
    update: dict[str, Any] = {
        "cost": _settle(context, stage, job),
        "failures": failures,
        "preemptions": stage.preemptions + (1 if end.kind == "Disrupted" else 0),
        "reason": end.reason,
        "message": f"attempt {stage.attempt}: {end.message}"[:2000],
    }
    if end.kind == "Permanent" or failures > context.spec.max_retries:
        if end.kind != "Permanent" and context.spec.max_retries:
            update["message"] = f"{failures} attempts failed, the last one: {end.message}"[:2000]
        failed = stage.model_copy(update={**update, "state": "Failed", "completion_time": rfc3339(context.now)})
        return Step(failed, events=[Event("Warning", "StageFailed", f"{stage.name}: {failed.message}")])
    wait = _wait(end, failures)
    attempt = stage.attempt + 1
    following = stage.model_copy(
        update={
            **update,
            "state": "Pending",
            "attempt": attempt,
            "job_name": names.job(context.run.name, stage.name, stage.fingerprint, attempt),
            "retry_time": rfc3339(context.now + timedelta(seconds=wait)) if wait else None,
        }
    )
    reason = "AttemptDisrupted" if end.kind == "Disrupted" else "AttemptFailed"
    words = f"{stage.name} attempt {stage.attempt} ended ({end.reason}): {end.message}; attempt {attempt} follows"
    refs = [Ref("Job", job.name, job.uid)] if job is not None else []
    return Step(following, delete=refs, events=[Event("Warning", reason, words)], requeue=[wait or 0.5])


def _wait(end: Outcome, failures: int) -> float:
    """Seconds before the next attempt."""
    if end.kind == "Temporary":
        return end.retry_after
    if end.kind == "Disrupted":
        return 0.0
    return min(FIRST_BACKOFF * 2.0 ** max(failures - 1, 0), LONGEST_BACKOFF)


def _pods_of(observed: Observed, job: str) -> list[Pod]:
    return sorted((pod for pod in observed.pods.values() if pod.job == job), key=lambda pod: (pod.index, pod.name))


def _running_cost(context: Context, stage: Stage, pods: list[Pod]) -> StageCost:
    """Cost up to now: what is settled, and the pods at work."""
    settled = float(stage.cost.settled_gpu_seconds) if stage.cost else 0.0
    used = settled + sum(cost.pod_gpu_seconds(pod, context.now) for pod in pods)
    return StageCost(
        amount=cost.amount(used, context.price),
        gpu_seconds=cost.seconds(used),
        settled_gpu_seconds=cost.seconds(settled),
        estimated=stage.cost.estimated if stage.cost else False,
    )


def _settle(context: Context, stage: Stage, job: Job | None) -> StageCost:
    """Cost with the attempt at hand settled; the attempt must end in the same status write."""
    pods = _pods_of(context.observed, stage.job_name)
    expected, gpus = size.pods(context.spec, stage.name), size.gpus(context.spec, stage.name)
    used, estimated = cost.attempt_gpu_seconds(job, pods, expected, gpus, context.now)
    settled = (float(stage.cost.settled_gpu_seconds) if stage.cost else 0.0) + used
    shown = float(stage.cost.gpu_seconds) if stage.cost else 0.0
    if shown > settled:  # the Job and its pods vanished together: what was shown already stays billed
        settled, estimated = shown, True
    return StageCost(
        amount=cost.amount(settled, context.price),
        gpu_seconds=cost.seconds(settled),
        settled_gpu_seconds=cost.seconds(settled),
        estimated=estimated or bool(stage.cost and stage.cost.estimated),
    )
