"""Serving: a Deployment and a Service, kept as the spec says for as long as the gates pass.

With `serve.endpointName` there is a second Service, shared by runs: it has no owner, so that it outlives whoever made
it, and the newest run whose model has answered holds it (docs/decisions/0012-endpoint-takeover.md).
"""

from __future__ import annotations

from distillrun.api.status import Stage
from distillrun.plan import names, reasons, waiting
from distillrun.plan.attempts import Context, blocked_by
from distillrun.plan.clock import rfc3339
from distillrun.plan.model import Event, Want
from distillrun.plan.stageconfig import Inputs, server_config_name, stage_config
from distillrun.plan.step import Step


def advance(context: Context, before: Stage, fingerprint: str) -> Step:
    """The next step of serving: objects as wanted, and Running once every replica has answered its warm-up request."""
    assert context.spec.serve is not None
    name = names.server(context.run.name)
    config = stage_config(
        context.run, context.spec, "serve", fingerprint, 1, Inputs(context.upstream, context.resolved)
    )
    config_name = server_config_name(context.run, config)
    wants = [
        Want("ConfigMap", "config", config_name, stage="serve", attempt=1, fingerprint=fingerprint, config=config),
        Want("Service", "endpoint", name, stage="serve"),
        Want(
            "Deployment",
            "server",
            name,
            stage="serve",
            attempt=1,
            fingerprint=fingerprint,
            config=config,
            image=context.image("serve"),
            queue=context.spec.queue_name,
        ),
    ]
    deployment = context.observed.children.get(("Deployment", name))
    pods = [pod for pod in context.observed.pods.values() if pod.stage == "serve"]
    stage = before.model_copy(
        update={"fingerprint": fingerprint, "attempt": 1, "job_name": name, "artifact": context.upstream["train"]}
    )
    step = Step(stage, ensure=wants)
    ready = deployment is not None and deployment.available >= context.spec.serve.replicas
    if ready and (context.spec.serve.endpoint_name is None or _endpoint(context, step)):
        update = {"state": "Running", "reason": "", "message": _superseded(context)}
        if update["message"]:
            update["reason"] = reasons.SUPERSEDED
            step.requeue.append(60.0)  # no watch tells of the newer run's end
        if before.state != "Running":
            update["start_time"] = rfc3339(context.now)
            step.events.append(Event("Normal", "Serving", f"the student is served by Service {name}"))
        step.stage = stage.model_copy(update=update)
        return step
    wait = blocked_by(context, {want.name for want in step.ensure}) or waiting.diagnose(pods)
    if wait is None:
        wait = waiting.Wait(reasons.PENDING, "the model server is starting: it is ready once a request has succeeded")
    elif wait.reason != before.reason:
        step.events.append(Event("Warning", wait.reason, wait.message))
    step.stage = stage.model_copy(update={"state": "Pending", "reason": wait.reason, "message": wait.message})
    step.requeue.append(30.0)
    return step


def _endpoint(context: Context, step: Step) -> bool:
    """Take or keep the shared Service, now that the model answers. Whether the run is through with it.

    A run that was created before the present holder leaves the Service to it: the newest one that is ready holds it.
    """
    assert context.spec.serve is not None
    assert context.spec.serve.endpoint_name is not None
    name = context.spec.serve.endpoint_name
    if _superseded(context):
        return True
    step.ensure.append(Want("Service", "shared-endpoint", name, stage="serve"))
    holder = context.observed.endpoint
    held = holder is not None and holder.run_uid == context.run.uid
    if not held and blocked_by(context, {name}) is None:
        words = f"Service {name} is taken over from run {holder.run_name}" if holder else f"Service {name} is made"
        step.events.append(Event("Normal", "EndpointTaken", words))
        step.requeue.append(1.0)
    if held:
        step.requeue.append(300.0)  # our own write of a newer run's takeover is told to nobody
    return held


def _superseded(context: Context) -> str:
    """The sentence that says which newer run holds the shared Service; "" when none does."""
    holder = context.observed.endpoint
    if context.spec.serve is None or context.spec.serve.endpoint_name is None or holder is None:
        return ""
    if holder.run_uid == context.run.uid or holder.holder_since is None or context.observed.endpoint_orphaned:
        return ""
    mine = (context.run.created, context.run.uid)
    if (holder.holder_since, holder.run_uid) <= mine:
        return ""
    return (
        f"run {holder.run_name} has taken over Service {holder.name}; this model is still served by Service"
        f" {names.server(context.run.name)}: delete or suspend this run to free its GPUs"
    )


def halt(context: Context, before: Stage, reason: str, message: str) -> Step:
    """Serving of a run that is suspended: its objects are not wanted, and so go; a shared Service stays."""
    return Step(before.model_copy(update={"state": "Pending", "reason": reason, "message": message}))
