"""Kubernetes objects for what the plan wants: one function for each role, and `build` that finds the right one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from distillrun.api.v1alpha1 import Spec
from distillrun.build import companions, servers
from distillrun.build.isolation import isolation
from distillrun.build.meta import metadata, queued, selector, with_hash
from distillrun.build.pod import METRICS_PORT, pod_template
from distillrun.plan import names, size, stageconfig
from distillrun.plan.attempts import PROBE
from distillrun.plan.clock import rfc3339
from distillrun.plan.inputs import mirrored
from distillrun.plan.model import Run, Settings, Want

# The C emitter takes a fifth of the time of the Python one, for the same text: most of what a new run costs us.
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def build(want: Want, run: Run, settings: Settings) -> dict[str, Any]:
    """The complete object, ready to be sent. Mutable kinds carry the hash of their content."""
    spec = mirrored(Spec.model_validate(dict(run.spec)), settings)
    manifest = _BUILDERS[want.role](want, run, spec, settings)
    return manifest if want.immutable else with_hash(manifest)


def _config(want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """The stage's configuration file."""
    text = yaml.dump(dict(want.config), Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=120)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(want, run),
        "immutable": True,
        "data": {"stage.yaml": text},
    }


def _job(want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """One attempt. The first failure of any pod fails it, so that no rank waits for a dead one."""
    assert want.stage is not None
    pods = 1 if want.attempt == PROBE else size.pods(spec, want.stage)
    template = pod_template(want, run, spec, settings, config_map=want.name)
    template["spec"]["restartPolicy"] = "Never"
    if want.stage == "train" and pods > 1:
        template["spec"]["subdomain"] = names.rendezvous(run.name)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": queued(metadata(want, run), want, spec),
        "spec": {
            # Kueue lets it run when there is quota; what it then sets is never touched (docs/decisions).
            **({"suspend": True} if want.queue else {}),
            "completionMode": "Indexed",
            "completions": pods,
            "parallelism": pods,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            # Each rule fails the Job and so leaves the cause in its condition, where it outlives the pods.
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": names.CONTAINER, "operator": "NotIn", "values": [0]},
                    },
                ]
            },
            "template": template,
        },
    }


def _rendezvous(want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """A headless Service that gives training pods names before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(want, run),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector(want, run),
            "ports": [{"name": "rendezvous", "port": stageconfig.MASTER_PORT, "targetPort": stageconfig.MASTER_PORT}],
        },
    }


def _endpoint(want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """The Service through which the student is asked."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(want, run),
        "spec": {
            "selector": selector(want, run),
            "ports": [
                {"name": "http", "port": stageconfig.SERVE_PORT, "targetPort": "http"},
                {"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics"},
            ],
        },
    }


def _shared_endpoint(want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """The Service that outlives runs, sending requests to this one's servers."""
    meta = metadata(want, run, owned=False)
    return {
        **_endpoint(want, run, spec, settings),
        "metadata": {
            **meta,
            "labels": {**meta["labels"], names.LABEL_ENDPOINT: want.name},
            "annotations": {**meta.get("annotations", {}), names.ANNOTATION_HOLDER_CREATED: rfc3339(run.created)},
        },
    }


def _server(want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """The model servers."""
    assert spec.serve is not None
    config_map = stageconfig.server_config_name(run, dict(want.config))
    template = pod_template(want, run, spec, settings, config_map=config_map)
    return servers.deployment(want, run, spec, replicas=spec.serve.replicas, template=template)


def _storage(want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """The claim made from the template; without an owner unless it shall go with the run."""
    template = spec.storage.claim_template
    assert template is not None
    storage_class = {"storageClassName": template.storage_class_name} if template.storage_class_name else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(want, run, owned=template.retention == "Delete"),
        "spec": {
            "accessModes": list(template.access_modes),
            "resources": {"requests": {"storage": template.size}},
            **storage_class,
        },
    }


_BUILDERS: dict[str, Callable[[Want, Run, Spec, Settings], dict[str, Any]]] = {
    "config": _config,
    "job": _job,
    "rendezvous": _rendezvous,
    "endpoint": _endpoint,
    "shared-endpoint": _shared_endpoint,
    "server": _server,
    "storage": _storage,
    "isolation": isolation,
    "companion": companions.deployment,
    "companion-service": companions.service,
}
