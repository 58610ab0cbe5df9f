"""The objects of a run: restricted pods, owners, names, and secrets that stay references."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distillrun.api.status import Resolved
from distillrun.api.v1alpha1 import Spec
from distillrun.build.objects import build
from distillrun.plan import names, stageconfig
from distillrun.plan.model import Run, StageName, Want
from tests.unit.builders import SETTINGS, run, spec

UPSTREAM: dict[StageName, str] = {
    "curate": "file:///mnt/distillrun/t/curate/x/",
    "train": "file:///mnt/distillrun/t/train/y/",
}


def built(
    stage: StageName, role: str = "job", a_run: Run | None = None, attempt: int = 1, queue: str = ""
) -> dict[str, Any]:
    a_run = a_run or run()
    inputs = stageconfig.Inputs(UPSTREAM, Resolved())
    config = stageconfig.stage_config(a_run, Spec.model_validate(dict(a_run.spec)), stage, "f" * 64, attempt, inputs)
    kinds = {"job": "Job", "server": "Deployment", "config": "ConfigMap"}
    want = Want(
        kinds[role],  # type: ignore[arg-type]
        role,  # type: ignore[arg-type]
        "x",
        stage=stage,
        attempt=attempt,
        fingerprint="f" * 64,
        config=config,
        image=SETTINGS.images[stage],
        queue=queue,
    )
    return build(want, a_run, SETTINGS)


@pytest.mark.parametrize(
    ("stage", "role"),
    [("resolve", "job"), ("curate", "job"), ("train", "job"), ("evaluate", "job"), ("serve", "server")],
)
def test_every_pod_meets_the_restricted_pod_security_standard(stage: StageName, role: str) -> None:
    pod = built(stage, role)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} <= {
        "configMap",
        "emptyDir",
        "persistentVolumeClaim",
    }


def test_every_child_is_owned_by_its_run_and_blocks_no_deletion() -> None:
    [owner] = built("train")["metadata"]["ownerReferences"]
    assert owner["uid"] == "run-uid"
    assert owner["controller"] is True
    assert "blockOwnerDeletion" not in owner


def test_a_training_job_is_indexed_fails_as_a_whole_and_leaves_its_cause_in_its_condition() -> None:
    job = built("train")["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"], job["backoffLimit"]) == ("Indexed", 2, 2, 0)
    assert {rule["action"] for rule in job["podFailurePolicy"]["rules"]} == {"FailJob"}
    assert job["template"]["spec"]["subdomain"] == names.rendezvous("s1")


def test_the_teachers_key_is_a_reference_and_only_curation_has_it() -> None:
    for stage, role in (("curate", "job"), ("train", "job"), ("evaluate", "job"), ("serve", "server")):
        text = json.dumps(built(stage, role))  # type: ignore[arg-type]
        assert ("secretKeyRef" in text) is (stage == "curate")


def test_a_secret_for_what_questions_are_compared_with_reaches_the_stages_that_read_it() -> None:
    against = [{"name": "a", "uri": "s3://pool/a.jsonl", "secretName": "pool"}]
    a_run = run(spec=spec(curate={**spec()["curate"], "decontaminate": {"against": against}}))
    for stage in ("resolve", "curate", "train", "evaluate"):
        container = built(stage, a_run=a_run)["spec"]["template"]["spec"]["containers"][0]  # type: ignore[arg-type]
        given = [each["secretRef"]["name"] for each in container.get("envFrom", [])]
        assert given == (["pool"] if stage in ("resolve", "curate") else [])


def test_a_mirrors_secret_reaches_the_stages_that_read_something_of_the_hub_and_no_other() -> None:
    mirror = {"uri": "s3://mirror/hub", "secretName": "mirror"}
    a_run = run(spec=spec(mirror=mirror, student={"model": {"uri": "hf://owner/model"}}))
    for stage in ("resolve", "curate", "train", "evaluate"):
        container = built(stage, a_run=a_run)["spec"]["template"]["spec"]["containers"][0]  # type: ignore[arg-type]
        given = [each["secretRef"]["name"] for each in container.get("envFrom", [])]
        assert given == ([] if stage == "curate" else ["mirror"])


def test_each_model_that_is_asked_has_a_variable_of_its_own_for_its_key() -> None:
    [teacher] = spec()["models"]
    small, idle = ({**teacher, "name": name} for name in ("small-7b", "idle"))
    small["endpoint"] = {**teacher["endpoint"], "apiKeySecretRef": {"name": "small", "key": "token"}}
    curate = {**spec()["curate"], "difficulty": {"models": ["small-7b"]}}
    a_run = run(spec=spec(models=[teacher, small, idle], curate=curate))
    container = built("curate", a_run=a_run)["spec"]["template"]["spec"]["containers"][0]
    keys = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each}
    assert keys == {
        "DISTILLRUN_TEACHER_API_KEY": {"name": "teacher", "key": "apiKey"},
        "DISTILLRUN_API_KEY_SMALL_7B": {"name": "small", "key": "token"},
    }


def test_gpus_are_asked_for_by_the_stages_that_compute_on_them() -> None:
    def gpus(stage: StageName, role: str = "job") -> str:
        resources = built(stage, role)["spec"]["template"]["spec"]["containers"][0]["resources"]
        found: str = resources.get("limits", {}).get("nvidia.com/gpu", "0")
        return found

    assert [gpus("curate"), gpus("train"), gpus("evaluate"), gpus("serve", "server")] == ["0", "1", "1", "1"]


def test_a_users_image_resources_and_tolerations_reach_the_pod() -> None:
    pod = {
        "image": "x/train:2",
        "resources": {"requests": {"cpu": "8"}, "limits": {"memory": "900Gi"}},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "nodeSelector": {"zone": "a"},
        "shmSize": "64Gi",
        "imagePullSecrets": [{"name": "pull"}],
        "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
        "annotations": {"a": "b"},
    }
    a_run = run(spec=spec(train={"nodes": 2, "gpusPerNode": 1, "globalBatchSize": 8, "pod": pod}))
    template = built("train", a_run=a_run)["spec"]["template"]
    container = template["spec"]["containers"][0]
    assert container["image"] == "x/train:2"
    assert container["resources"]["requests"] == {"cpu": "8", "nvidia.com/gpu": "1"}
    assert container["resources"]["limits"] == {"memory": "900Gi", "nvidia.com/gpu": "1"}
    assert {"name": "NCCL_DEBUG", "value": "INFO"} in container["env"]
    assert template["spec"]["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert template["metadata"]["annotations"] == {"a": "b"}
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}} in template["spec"]["volumes"]


def test_a_servers_deployment_changes_its_hash_when_its_content_changes_and_only_then() -> None:
    def digest(**changes: Any) -> str:
        found: str = built("serve", "server", run(spec=spec(**changes)))["metadata"]["annotations"][
            names.ANNOTATION_APPLIED
        ]
        return found

    assert digest() == digest()
    assert digest() != digest(serve={"replicas": 3})


@pytest.mark.parametrize(("retention", "owned"), [("Retain", False), ("Delete", True)])
def test_a_retained_claim_has_no_owner_and_outlives_the_run(retention: str, owned: bool) -> None:
    storage = {"claimTemplate": {"size": "1Gi", "accessModes": ["ReadWriteMany"], "retention": retention}}
    claim = build(Want("PersistentVolumeClaim", "storage", "s1-artifacts"), run(spec=spec(storage=storage)), SETTINGS)
    assert ("ownerReferences" in claim["metadata"]) is owned
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"


def test_artifacts_of_two_namespaces_lie_apart() -> None:
    one, other = (stageconfig.output(run(namespace=name), "train", "f" * 64) for name in ("a", "b"))
    assert one != other


def test_a_queued_job_and_server_carry_kueues_labels_start_suspended_and_their_pods_do_not() -> None:
    a_run = run(spec=spec(queueName="team", priorityClassName="urgent"))
    for stage, role in (("train", "job"), ("serve", "server")):
        thing = built(stage, role, a_run, queue="team")  # type: ignore[arg-type]
        assert thing["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
        assert thing["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "urgent"
        assert thing["spec"].get("suspend", False) is (role == "job")
        template = thing["spec"]["template"]
        assert not [label for label in template["metadata"]["labels"] if "kueue" in label]
        assert "priorityClassName" not in template["spec"]
    alone = built("train", "job", run(spec=spec(priorityClassName="urgent")))
    assert "suspend" not in alone["spec"]
    assert alone["spec"]["template"]["spec"]["priorityClassName"] == "urgent"


def test_a_probe_is_one_pod_without_gpus_in_the_image_that_reads_inputs() -> None:
    probe = built("train", attempt=0)["spec"]
    [container] = probe["template"]["spec"]["containers"]
    assert (probe["completions"], probe["parallelism"]) == (1, 1)
    assert container["command"][2] == "distillstages.probe"
    assert "nvidia.com/gpu" not in str(container["resources"])


def test_training_pods_ask_for_the_gpu_product_that_the_run_names() -> None:
    whole = spec()
    whole["train"]["gpuProduct"] = "NVIDIA-H100-80GB-HBM3"
    named = built("train", a_run=run(spec=whole))["spec"]["template"]["spec"]
    assert named["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert "nodeSelector" not in built("curate", a_run=run(spec=whole))["spec"]["template"]["spec"]


def test_a_shared_service_has_no_owner_and_says_whose_servers_answer() -> None:
    want = Want("Service", "shared-endpoint", "chat", stage="serve")
    service = build(want, run(spec=spec(serve={"endpointName": "chat"})), SETTINGS)
    assert "ownerReferences" not in service["metadata"]
    assert service["metadata"]["labels"]["distillrun.dev/endpoint"] == "chat"
    assert service["metadata"]["annotations"]["distillrun.dev/holder-created"] == "2026-01-31T12:00:00Z"
    assert service["spec"]["selector"]["distillrun.dev/run-uid"] == "run-uid"
