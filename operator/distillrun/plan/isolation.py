"""Which stages' pods need their NetworkPolicy now: made before the pods, and made again if somebody deletes it."""

from __future__ import annotations

from distillrun.plan import names
from distillrun.plan.attempts import Context, blocked_by
from distillrun.plan.model import Settings, Want
from distillrun.plan.step import Step


def isolate(context: Context, step: Step, settings: Settings) -> Step:
    """The step with the stage's NetworkPolicy before everything else that it asks for.

    While a Job is at work nothing else is asked for; its policy then is wanted only if it is not there, so that a pass
    over a run that trains builds no object.
    """
    stage = step.stage
    policy = Want("NetworkPolicy", "isolation", names.child(context.run.name, stage.name), stage=stage.name)
    known = (policy.kind, policy.name) in context.observed.children
    at_work = stage.state in ("Pending", "Running") and stage.job_name in context.observed.jobs
    if settings.network is None or not (step.ensure or (at_work and not known)):
        return step
    step.ensure.insert(0, policy)
    wait = blocked_by(context, {policy.name})
    if wait is not None:
        step.stage = stage.model_copy(update={"reason": wait.reason, "message": wait.message})
        step.requeue.append(30.0)
    return step
