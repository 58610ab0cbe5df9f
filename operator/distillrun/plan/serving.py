"""Serving: a Deployment and a Service, kept as the spec says for as long as the gates pass."""

from __future__ import annotations

from distillrun.api.status import Stage
from distillrun.plan import names, reasons, waiting
from distillrun.plan.attempts import Context, blocked_by
from distillrun.plan.clock import rfc3339
from distillrun.plan.model import Event, Want
from distillrun.plan.stageconfig import server_config_name, stage_config
from distillrun.plan.step import Step


def advance(context: Context, before: Stage, fingerprint: str) -> Step:
    """The next step of serving: objects as wanted, and Running once every replica has answered its warm-up request."""
    assert context.spec.serve is not None
    name = names.server(context.run.name)
    config = stage_config(context.run, context.spec, "serve", fingerprint, 1, dict(context.upstream))
    config_name = server_config_name(context.run, config)
    wants = [
        Want("ConfigMap", "config", config_name, stage="serve", attempt=1, fingerprint=fingerprint, config=config),
        Want("Service", "endpoint", name, stage="serve"),
        Want("Deployment", "server", name, stage="serve", attempt=1, fingerprint=fingerprint, config=config),
    ]
    deployment = context.observed.children.get(("Deployment", name))
    stage = before.model_copy(
        update={"fingerprint": fingerprint, "attempt": 1, "job_name": name, "artifact": context.upstream["train"]}
    )
    step = Step(stage, ensure=wants)
    if deployment is not None and deployment.available >= context.spec.serve.replicas:
        update = {"state": "Running", "reason": "", "message": ""}
        if before.state != "Running":
            update["start_time"] = rfc3339(context.now)
            step.events.append(Event("Normal", "Serving", f"the student is served by Service {name}"))
        step.stage = stage.model_copy(update=update)
        return step
    pods = [pod for pod in context.observed.pods.values() if pod.stage == "serve"]
    wait = blocked_by(context, {want.name for want in wants}) or waiting.diagnose(pods)
    if wait is None:
        wait = waiting.Wait(reasons.PENDING, "the model server is starting: it is ready once a request has succeeded")
    elif wait.reason != before.reason:
        step.events.append(Event("Warning", wait.reason, wait.message))
    step.stage = stage.model_copy(update={"state": "Pending", "reason": wait.reason, "message": wait.message})
    step.requeue.append(30.0)
    return step
