"""The pod of a stage: restricted Pod Security, read-only root, no Kubernetes credentials, scratch emptyDirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from distillrun.api.pod import PodSettings, PullSecret, Resources, ServerPodSettings
from distillrun.api.v1alpha1 import Spec
from distillrun.build.meta import labels
from distillrun.plan import inputs, names, size, stageconfig
from distillrun.plan.attempts import PROBE
from distillrun.plan.model import Run, Settings, StageName, Want
from distillrun.plan.settle import GRACE_SECONDS

USER = 65532
METRICS_PORT = 9400
GPU_PRODUCT = "nvidia.com/gpu.product"
"""Node label of NVIDIA's GPU feature discovery."""
CONFIG_FOLDER = "/etc/distillrun"
HOME = "/home/distill"
POD_SECURITY: Mapping[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    # Walking a volume of checkpoints to change its owner at every start takes minutes.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Program:
    """What the container of a pod runs, and what it gets for that."""

    module: str
    """Of the package distillstages."""
    image: str
    pod: ServerPodSettings
    resources: Resources
    gpus: int = 0
    serves: bool = False
    """Whether it answers requests for as long as it is there, and writes no artifacts."""
    storage: bool = True
    """Whether it reads artifacts, or what else is on the run's claim."""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    env: Sequence[Mapping[str, Any]] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    pull_secrets: Sequence[PullSecret] = ()
    secrets: Sequence[str] = ()
    """Secrets whose keys become environment variables."""


def pod_template(want: Want, run: Run, spec: Spec, settings: Settings, config_map: str) -> dict[str, Any]:
    """The pod template of a stage's Job or Deployment."""
    return template(_program(want, spec, settings), want, run, spec, settings, config_map)


def template(program: Program, want: Want, run: Run, spec: Spec, settings: Settings, config_map: str) -> dict[str, Any]:
    """The template of a pod that runs a program of ours with a configuration file."""
    pod = program.pod
    claim = {"name": "artifacts", "persistentVolumeClaim": {"claimName": claim_name(run, spec)}}
    made: dict[str, Any] = {
        "metadata": {
            "labels": labels(want, run),
            **({"annotations": dict(program.annotations)} if program.annotations else {}),
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": deepcopy(POD_SECURITY),
            "containers": [_container(program, settings)],
            "volumes": [
                {"name": "config", "configMap": {"name": config_map}},
                *([claim] if program.storage else []),
                {"name": "tmp", "emptyDir": {}},
                {"name": "home", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": pod.shm_size}},
            ],
        },
    }
    optional = {
        "priorityClassName": "" if want.queue else spec.priority_class_name,
        "nodeSelector": {**program.node_labels, **pod.node_selector},
        "tolerations": [_toleration(toleration.model_dump(by_alias=True)) for toleration in pod.tolerations],
        "imagePullSecrets": [{"name": secret.name} for secret in program.pull_secrets],
        "runtimeClassName": pod.runtime_class_name,
    }
    made["spec"].update({key: value for key, value in optional.items() if value})
    return made


def claim_name(run: Run, spec: Spec) -> str:
    """The claim that the run's artifacts are kept on."""
    return spec.storage.claim_name or names.claim(run.name)


def _program(want: Want, spec: Spec, settings: Settings) -> Program:
    """A stage's program, or the probe of one. Inputs are looked at where curation will read them."""
    stage = want.stage
    assert stage is not None
    probe = want.attempt == PROBE
    block = getattr(spec, "curate" if stage == "resolve" else stage)
    assert block is not None
    pod: PodSettings = block.pod
    product = spec.train.gpu_product if stage == "train" and not probe else ""
    # A probe runs the image that reads inputs, whatever image the user has for the stage itself.
    image = spec.curate.pod.image if probe else pod.image
    return Program(
        module="probe" if probe else stage,
        image=image or want.image or settings.images[stage],
        pod=pod,
        gpus=0 if probe else size.gpus(spec, stage),
        resources=spec.curate.pod.resources if probe else pod.resources,
        serves=stage == "serve",
        node_labels={GPU_PRODUCT: product} if product else {},
        annotations=pod.annotations,
        pull_secrets=pod.image_pull_secrets,
        env=_secret_env(stage, spec),
        secrets=_secret_names(stage, spec),
    )


def _container(program: Program, settings: Settings) -> dict[str, Any]:
    ports = [{"name": "metrics", "containerPort": METRICS_PORT}]
    if program.serves:
        ports.append({"name": "http", "containerPort": stageconfig.SERVE_PORT})
    artifacts = {"name": "artifacts", "mountPath": stageconfig.MOUNT, **({"readOnly": True} if program.serves else {})}
    container: dict[str, Any] = {
        "name": names.CONTAINER,
        "image": program.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", f"distillstages.{program.module}", "--config", f"{CONFIG_FOLDER}/stage.yaml"],
        "env": [
            {"name": "HOME", "value": HOME},
            *({"name": variable.name, "value": variable.value} for variable in program.pod.env),
            *program.env,
        ],
        "ports": ports,
        "resources": _resources(program.resources, program.gpus, settings.gpu_resource),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "securityContext": deepcopy(CONTAINER_SECURITY),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            *([artifacts] if program.storage else []),
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "home", "mountPath": HOME},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    if program.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in program.secrets]
    if program.serves:
        # Ready means that the server has answered a request of its own; a large model takes its time to load.
        container["readinessProbe"] = {
            "httpGet": {"path": "/readyz", "port": "metrics"},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
        }
        container["livenessProbe"] = {
            "httpGet": {"path": "/healthz", "port": "metrics"},
            "periodSeconds": 20,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        }
    return container


def _resources(resources: Resources, gpu_count: int, gpu_resource: str) -> dict[str, Any]:
    gpu = {gpu_resource: str(gpu_count)} if gpu_count else {}
    requests = {**resources.requests, **gpu}
    limits = {**resources.limits, **gpu}
    return {**({"requests": requests} if requests else {}), **({"limits": limits} if limits else {})}


def _secret_env(stage: StageName, spec: Spec) -> list[dict[str, Any]]:
    """The keys of the models that are asked, for the stage that asks them and for no other."""
    if stage != "curate":
        return []
    reached = [(each, each.endpoint) for each in spec.asked_models if each.endpoint is not None]
    keys = [(stageconfig.key_variable(spec, model), endpoint.api_key_secret_ref) for model, endpoint in reached]
    return [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}}}
        for variable, key in keys
        if key is not None
    ]


def _secret_names(stage: StageName, spec: Spec) -> list[str]:
    """Secrets whose keys a stage needs in its environment to read its inputs, in order, each once."""
    found = [each.secret_name for each in inputs.read_by(stage, spec)]
    mirror = inputs.mirror_of(stage, spec)
    found += [mirror.secret_name] if mirror else []
    return list(dict.fromkeys(name for name in found if name))


def _toleration(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if value}
