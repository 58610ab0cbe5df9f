"""A stage's Job is made once the stage's companions answer; they go when the stage needs them no more.

Every pass over a stage that works, is about to, or is tried again soon asks for them. What no pass asks for is stale
and is removed by the planner: after the stage's end, and while the run is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from distillrun.api.status import ENDED, Stage
from distillrun.plan import attempts, companions, outcome, reasons, trouble, waiting
from distillrun.plan.attempts import Context
from distillrun.plan.clock import since
from distillrun.plan.companions import Companion
from distillrun.plan.model import Event, Pod, Want
from distillrun.plan.outcome import Outcome
from distillrun.plan.stageconfig import model_server_config
from distillrun.plan.step import Step

KEPT_SECONDS = 300.0
"""Companions stay while an attempt is waited for that begins within this time: starting a large model takes longer."""


def attend(context: Context, before: Stage, step: Step) -> Step:
    """The step with the companions of its stage; without its Job as long as one of them does not answer.

    `before` is the stage as status tells it.
    """
    found = companions.needed(context.run.name, context.spec, step.stage.name)
    if not found or not _due(context, step.stage):
        return step
    wants = [want for each in found for want in _wants(context, each)]
    late = [each for each in found if not _answers(context, each)]
    if not late or not any(want.role == "job" for want in step.ensure):
        step.ensure[:0] = wants
        return _unused(context, step, found) or step
    step.ensure = wants
    step.requeue.append(30.0)
    waits = []
    for each in late:
        pods = _pods(context, each)
        wait = _wait(context, each, pods)
        end = _given_up(context, step.stage, each, pods)
        if isinstance(end, Outcome):
            return attempts.give_up(context, step.stage, end)
        step.requeue += [end] if end is not None else []
        waits.append(wait)
    first = next((wait for wait in waits if wait.reason != reasons.SERVER_NOT_READY), waits[0])
    everybody = [pod for each in found for pod in _pods(context, each)]
    expected = sum(each.replicas for each in found)
    blocked = trouble.blocked(everybody, expected, first, context.spec.start_timeout_seconds, context.now)
    if isinstance(blocked, Outcome):
        return attempts.give_up(context, step.stage, blocked)
    step.requeue += [blocked] if blocked is not None else []
    if first.reason not in (before.reason, reasons.SERVER_NOT_READY):
        step.events.append(Event("Warning", first.reason, first.message))
    step.stage = step.stage.model_copy(update={"reason": first.reason, "message": first.message})
    return step


def _unused(context: Context, step: Step, found: Sequence[Companion]) -> Step | None:
    """Servers' GPUs are let go when the Job that they wait for does not begin for `startTimeoutSeconds`; else None."""
    stage = step.stage
    gpus = sum(each.gpus * each.replicas for each in found)
    job = context.observed.jobs.get(stage.job_name)
    if not gpus or job is None or stage.state != "Pending" or stage.job_time is None:
        return None
    left = context.spec.start_timeout_seconds - since(stage.job_time, context.now)
    if left > 0:
        step.requeue.append(left)
        return None
    cause = stage.message or f"Job {job.name} has no pod that runs"
    words = f"{gpus} GPUs of model servers were let go after startTimeoutSeconds: {cause}"
    return attempts.give_up(context, stage, Outcome("Released", reasons.RELEASED, words))


def _due(context: Context, stage: Stage) -> bool:
    """Whether the stage works or will soon. A probe asks nobody, and what was let go stays away until its time."""
    if stage.state in ENDED or stage.attempt == attempts.PROBE:
        return False
    left = -since(stage.retry_time, context.now) if stage.retry_time is not None else 0.0
    let_go = stage.reason in (reasons.RELEASED, reasons.SERVER_NOT_READY)
    return left <= 0 or (left <= KEPT_SECONDS and not let_go)


def _wants(context: Context, companion: Companion) -> list[Want]:
    """The companion's objects, its policy before its pods."""
    name, label = companion.name, companion.label
    wants = [Want("NetworkPolicy", "isolation", name, companion=label)] if context.settings.network is not None else []
    wants.append(Want("Service", "companion-service", name, companion=label))
    if companion.model is not None:
        config = model_server_config(context.run, context.spec, companion)
        wants.append(Want("ConfigMap", "config", name, companion=label, config=config))
    image = context.image("serve" if companion.model is not None else "curate")
    queue = context.spec.queue_name
    wants.append(Want("Deployment", "companion", name, companion=label, image=image, queue=queue))
    return wants


def _answers(context: Context, companion: Companion) -> bool:
    deployment = context.observed.children.get(("Deployment", companion.name))
    return deployment is not None and not deployment.deleting and deployment.available >= companion.replicas


def _pods(context: Context, companion: Companion) -> list[Pod]:
    """Pods that are to answer: not those of a Deployment that goes, nor evicted ones, which are replaced."""
    pods = attempts.pods_of(context.observed, companion.name)
    return [pod for pod in pods if not pod.deleting and pod.phase not in ("Failed", "Succeeded")]


def _wait(context: Context, companion: Companion, pods: Sequence[Pod]) -> waiting.Wait:
    """Why the companion does not answer yet."""
    wait = attempts.blocked_by(context, {companion.name})
    if wait is not None:
        return wait
    failing = next((pod for pod in pods if pod.end is not None), None)
    if failing is not None:
        return waiting.Wait(
            reasons.SERVER_NOT_READY, f"{companion.what} does not start: {_end(companion, failing).message}"
        )
    wait = waiting.diagnose(pods)
    if wait is not None:
        return wait
    deployment = context.observed.children.get(("Deployment", companion.name))
    if not pods and deployment is not None and deployment.phase and "minimum availability" not in deployment.phase:
        words = f"pods for Deployment {companion.name} cannot be made: {deployment.phase}"
        return waiting.Wait(reasons.REFUSED, words)
    words = f"{companion.what} is starting (Deployment {companion.name}): the stage begins once it answers"
    return waiting.Wait(reasons.SERVER_NOT_READY, words)


def _end(companion: Companion, pod: Pod) -> Outcome:
    """How a container of the companion has ended, with a sentence that says why."""
    assert pod.end is not None
    end = outcome.ending(replace(pod, disrupted=""))
    words = end.message or f"pod {pod.name} ended by itself (exit code {pod.end.exit_code})"
    if end.reason == reasons.OUT_OF_MEMORY:
        words = f"pod {pod.name} was killed for want of memory: raise {companion.memory_field}"
    return replace(end, message=words)


def _given_up(context: Context, stage: Stage, companion: Companion, pods: Sequence[Pod]) -> Outcome | float | None:
    """What the attempt ends as when its companion is given up; the seconds until then, None when it is waited for.

    A mistake that every start would make again ends the run at once. What fails to start for `startTimeoutSeconds`
    is a fault like a stage's own.
    """
    ends = [_end(companion, pod) for pod in pods if pod.end is not None]
    if not ends:
        return None
    for end in ends:
        if end.kind == "Permanent":
            return replace(end, message=f"{companion.what} cannot start: {end.message}")
    begun = [pod.scheduled or pod.created for pod in pods]
    if stage.retry_time is not None:  # each attempt has that time, also where pods of the one before are still there
        begun.append(datetime.fromisoformat(stage.retry_time))
    left = context.spec.start_timeout_seconds - (context.now - max(begun)).total_seconds()
    words = f"{companion.what} did not start within startTimeoutSeconds: {ends[0].message}"
    return left if left > 0 else Outcome("Fault", reasons.SERVER_NOT_READY, words)
