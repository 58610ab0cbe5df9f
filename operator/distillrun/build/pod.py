"""The pod of a stage: restricted Pod Security, read-only root, no Kubernetes credentials, scratch emptyDirs."""

from __future__ import annotations

from typing import Any

from distillrun.api.pod import PodSettings
from distillrun.api.v1alpha1 import Spec
from distillrun.build.meta import labels
from distillrun.plan import names, size, stageconfig
from distillrun.plan.attempts import PROBE
from distillrun.plan.model import Run, Settings, StageName, Want
from distillrun.plan.settle import GRACE_SECONDS

USER = 65532
METRICS_PORT = 9400
GPU_PRODUCT = "nvidia.com/gpu.product"
"""Node label of NVIDIA's GPU feature discovery."""
CONFIG_FOLDER = "/etc/distillrun"
HOME = "/home/distill"


def pod_template(want: Want, run: Run, spec: Spec, settings: Settings, config_map: str) -> dict[str, Any]:
    """The pod template of a stage's Job or Deployment."""
    stage = want.stage
    assert stage is not None
    pod = _settings(spec, stage)
    product = {GPU_PRODUCT: spec.train.gpu_product} if stage == "train" and want.attempt != PROBE else {}
    product = {label: value for label, value in product.items() if value}
    template: dict[str, Any] = {
        "metadata": {
            "labels": labels(want, run),
            **({"annotations": dict(pod.annotations)} if pod.annotations else {}),
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                # Walking a volume of checkpoints to change its owner at every start takes minutes.
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(want, stage, spec, pod, settings)],
            "volumes": [
                {"name": "config", "configMap": {"name": config_map}},
                {"name": "artifacts", "persistentVolumeClaim": {"claimName": claim_name(run, spec)}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "home", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": pod.shm_size}},
            ],
        },
    }
    optional = {
        "priorityClassName": "" if want.queue else spec.priority_class_name,
        "nodeSelector": {**product, **pod.node_selector},
        "tolerations": [_toleration(toleration.model_dump(by_alias=True)) for toleration in pod.tolerations],
        "imagePullSecrets": [{"name": secret.name} for secret in pod.image_pull_secrets],
        "runtimeClassName": pod.runtime_class_name,
    }
    template["spec"].update({key: value for key, value in optional.items() if value})
    return template


def claim_name(run: Run, spec: Spec) -> str:
    """The claim that the run's artifacts are kept on."""
    return spec.storage.claim_name or names.claim(run.name)


def _settings(spec: Spec, stage: StageName) -> PodSettings:
    """The user's settings for the stage's pods. Inputs are looked at where curation will read them."""
    block = getattr(spec, "curate" if stage == "resolve" else stage)
    assert block is not None
    pod: PodSettings = block.pod
    return pod


def _container(want: Want, stage: StageName, spec: Spec, pod: PodSettings, settings: Settings) -> dict[str, Any]:
    probe = want.attempt == PROBE
    # A probe runs the image that reads inputs, whatever image the user has for the stage itself.
    image = spec.curate.pod.image if probe else pod.image
    program = "probe" if probe else stage
    gpus = 0 if probe else size.gpus(spec, stage)
    ports = [{"name": "metrics", "containerPort": METRICS_PORT}]
    if stage == "serve":
        ports.append({"name": "http", "containerPort": stageconfig.SERVE_PORT})
    container: dict[str, Any] = {
        "name": names.CONTAINER,
        "image": image or want.image or settings.images[stage],
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", f"distillstages.{program}", "--config", f"{CONFIG_FOLDER}/stage.yaml"],
        "env": [
            {"name": "HOME", "value": HOME},
            *({"name": variable.name, "value": variable.value} for variable in pod.env),
            *_secret_env(stage, spec),
        ],
        "ports": ports,
        "resources": _resources(spec.curate.pod if probe else pod, gpus, settings.gpu_resource),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": "artifacts", "mountPath": stageconfig.MOUNT, **({"readOnly": True} if stage == "serve" else {})},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "home", "mountPath": HOME},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    secrets = _secret_names(stage, spec)
    if secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in secrets]
    if stage == "serve":
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


def _resources(pod: PodSettings, gpu_count: int, gpu_resource: str) -> dict[str, Any]:
    gpu = {gpu_resource: str(gpu_count)} if gpu_count else {}
    requests = {**pod.resources.requests, **gpu}
    limits = {**pod.resources.limits, **gpu}
    return {**({"requests": requests} if requests else {}), **({"limits": limits} if limits else {})}


def _secret_env(stage: StageName, spec: Spec) -> list[dict[str, Any]]:
    """The keys of the models that are asked, for the stage that asks them and for no other."""
    if stage != "curate":
        return []
    keys = [(stageconfig.key_variable(spec, each), each.endpoint.api_key_secret_ref) for each in spec.asked_models]
    return [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}}}
        for variable, key in keys
        if key is not None
    ]


def _secret_names(stage: StageName, spec: Spec) -> list[str]:
    """Secrets whose keys a stage needs in its environment to read its inputs, in order, each once."""
    if stage == "curate":
        found = [each.secret_name for each in [*spec.curate.inputs, *spec.decontaminated_against]]
    elif stage == "resolve":
        found = [each.secret_name for each in spec.curate.inputs]
        found += [spec.student.model.secret_name]
        found += [b.secret_name for b in spec.evaluate.benchmarks] if spec.evaluate else []
    elif stage == "train":
        found = [spec.student.model.secret_name]
    elif stage == "evaluate" and spec.evaluate is not None:
        found = [spec.student.model.secret_name, *(b.secret_name for b in spec.evaluate.benchmarks)]
    else:
        found = []
    return list(dict.fromkeys(name for name in found if name))


def _toleration(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if value}
