"""The objects of a run: restricted pods, owners, names, and secrets that stay references."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distillrun.api.v1alpha1 import Spec
from distillrun.build.objects import build
from distillrun.plan import names, stageconfig
from distillrun.plan.model import Run, StageName, Want
from tests.unit.builders import SETTINGS, run, spec

UPSTREAM: dict[StageName, str] = {
    "curate": "file:///mnt/distillrun/t/curate/x/",
    "train": "file:///mnt/distillrun/t/train/y/",
}


def built(stage: StageName, role: str = "job", a_run: Run | None = None) -> dict[str, Any]:
    a_run = a_run or run()
    config = stageconfig.stage_config(a_run, Spec.model_validate(dict(a_run.spec)), stage, "f" * 64, 1, UPSTREAM)
    kinds = {"job": "Job", "server": "Deployment", "config": "ConfigMap"}
    want = Want(kinds[role], role, "x", stage=stage, attempt=1, fingerprint="f" * 64, config=config)  # type: ignore[arg-type]
    return build(want, a_run, SETTINGS)


@pytest.mark.parametrize(
    ("stage", "role"), [("curate", "job"), ("train", "job"), ("evaluate", "job"), ("serve", "server")]
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
