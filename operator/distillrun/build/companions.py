"""Deployment and Service of a stage's companions (plan/companions.py): servers that exist only for a stage."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from distillrun.api.v1alpha1 import Model, Spec
from distillrun.build import servers
from distillrun.build.meta import labels, metadata, selector
from distillrun.build.pod import CONTAINER_SECURITY, POD_SECURITY, Program, template
from distillrun.plan import companions, names
from distillrun.plan.model import Run, Settings, Want

GRACE_SECONDS = 10
"""A judge has nothing to save: whoever asks it asks again."""
TMP_SIZE = "64Mi"
"""Of /tmp, the only place that the judge can write to; a submission can write nowhere."""


def service(want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """The Service through which the stage's pods reach a companion."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(want, run),
        "spec": {
            "selector": selector(want, run),
            "ports": [{"name": "http", "port": companions.PORT, "targetPort": "http"}],
        },
    }


def deployment(want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """The companion's pods."""
    companion = companions.named(run.name, spec, want.companion)
    if companion.model is not None:
        pods = _model_server(companion.model, want, run, spec, settings)
    else:
        pods = _judge(want, run, spec, settings)
    return servers.deployment(want, run, spec, replicas=companion.replicas, template=pods)


def _model_server(model: Model, want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """The pod that serves a model: the serve stage's program, for a model that was not trained here."""
    server = model.server
    assert server is not None
    program = Program(
        module="serve",
        image=server.pod.image or want.image,
        pod=server.pod,
        resources=server.pod.resources,
        gpus=server.engine.tensor_parallel,
        serves=True,
        # A claim of one node would keep curation from any other than that of the GPUs.
        storage=server.model.uri.startswith("file://"),
        pull_secrets=spec.curate.pod.image_pull_secrets,
        secrets=[server.model.secret_name] if server.model.secret_name else [],
    )
    return template(program, want, run, spec, settings, config_map=want.name)


def _judge(want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """The sandbox's pod: no token, no Secret, no volume but an empty one, for what it runs is hostile."""
    pull = spec.curate.pod.image_pull_secrets
    limits = {"cpu": spec.sandbox.cpu, "memory": spec.sandbox.memory}
    container: dict[str, Any] = {
        "name": names.CONTAINER,
        "image": spec.curate.pod.image or want.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", "distillstages.sandbox", "--port", str(companions.PORT)],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "ports": [{"name": "http", "containerPort": companions.PORT}],
        "resources": {"requests": limits, "limits": dict(limits)},
        # It listens once it has tried itself. A request would be told to come again while submissions wait (503), and
        # a judge that is busy must not lose its place behind the Service.
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5},
        # Why it does not start is its last line.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": deepcopy(CONTAINER_SECURITY),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    optional = {
        "priorityClassName": "" if want.queue else spec.priority_class_name,
        "imagePullSecrets": [{"name": secret.name} for secret in pull],
        "runtimeClassName": spec.sandbox.runtime_class_name,
    }
    return {
        "metadata": {"labels": labels(want, run)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": deepcopy(POD_SECURITY),
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}}],
            **{key: value for key, value in optional.items() if value},
        },
    }
