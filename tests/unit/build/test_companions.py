"""The objects of a stage's companions: a judge that can do nothing but judge."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from distillrun.build.objects import build
from distillrun.plan.model import Network, Run, Want
from tests.unit.builders import SETTINGS, run, spec
from tests.unit.plan.test_companions import CODE, GRADED
from tests.unit.plan.test_served_models import NAME, served

POD = {"distillrun.dev/run-uid": "run-uid", "distillrun.dev/stage": "sandbox"}
ISOLATED = replace(SETTINGS, network=Network("distillrun-system", metrics_from=("monitoring",)))


def built(kind: str, role: str, a_run: Run | None = None, queue: str = "") -> dict[str, Any]:
    want = Want(
        kind,  # type: ignore[arg-type]
        role,  # type: ignore[arg-type]
        "s1-sandbox",
        companion="sandbox",
        image=SETTINGS.images["curate"],
        queue=queue,
    )
    return build(want, a_run or run(spec=spec(curate=CODE)), ISOLATED)


def pod_of(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = built("Deployment", "companion", run(spec=spec(curate=CODE, **changes)))["spec"]["template"]
    return found


def policy(stage: str) -> dict[str, Any]:
    want = Want("NetworkPolicy", "isolation", f"s1-{stage}", stage=stage)  # type: ignore[arg-type]
    found: dict[str, Any] = build(want, run(spec=spec(curate=CODE, evaluate=GRADED)), ISOLATED)["spec"]
    return found


def test_the_sandboxs_pod_has_no_token_no_secret_no_artifacts_and_one_small_empty_folder() -> None:
    pod = pod_of()["spec"]
    [container] = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    assert not {"envFrom"} & set(container)
    assert all("valueFrom" not in variable for variable in container["env"])
    assert "teacher" not in json.dumps(pod)


def test_the_sandboxs_pod_meets_the_restricted_standard_and_has_limits() -> None:
    pod = pod_of(sandbox={"cpu": "8", "memory": "16Gi"})["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    same = {"cpu": "8", "memory": "16Gi"}
    assert container["resources"] == {"requests": same, "limits": same}


def test_the_sandbox_runs_in_curations_image_and_in_the_runtime_class_that_is_named() -> None:
    [container] = pod_of()["spec"]["containers"]
    assert container["image"] == "registry.test/curate:1"
    assert container["command"] == ["python", "-m", "distillstages.sandbox", "--port", "8000"]
    assert "runtimeClassName" not in pod_of()["spec"]
    own = {**CODE, "pod": {"image": "x/curate:2", "imagePullSecrets": [{"name": "pull"}]}}
    a_run = run(spec=spec(curate=own, sandbox={"runtimeClassName": "gvisor", "replicas": 3}))
    made = built("Deployment", "companion", a_run)["spec"]
    pod = made["template"]["spec"]
    assert (made["replicas"], pod["runtimeClassName"]) == (3, "gvisor")
    assert pod["containers"][0]["image"] == "x/curate:2"
    assert pod["imagePullSecrets"] == [{"name": "pull"}]


def test_deployment_and_service_are_the_runs_own_and_meet_in_the_pods_labels() -> None:
    deployment, service = built("Deployment", "companion"), built("Service", "companion-service")
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == POD
    assert POD.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert service["spec"]["ports"] == [{"name": "http", "port": 8000, "targetPort": "http"}]
    for made in (deployment, service):
        [owner] = made["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == ("run-uid", True)


def test_under_kueue_the_deployment_carries_the_queues_name() -> None:
    a_run = run(spec=spec(curate=CODE, queueName="team", priorityClassName="urgent"))
    made = built("Deployment", "companion", a_run, queue="team")
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert "priorityClassName" not in made["spec"]["template"]["spec"]


def test_nothing_leaves_the_sandbox_and_only_stages_of_its_run_that_have_code_judged_come_in() -> None:
    made = built("NetworkPolicy", "isolation")["spec"]
    assert made["podSelector"]["matchLabels"] == POD
    assert made["policyTypes"] == ["Ingress", "Egress"]
    assert made["egress"] == []
    asking = {
        "matchLabels": {"distillrun.dev/run-uid": "run-uid"},
        "matchExpressions": [{"key": "distillrun.dev/stage", "operator": "In", "values": ["curate", "evaluate"]}],
    }
    assert made["ingress"] == [{"from": [{"podSelector": asking}], "ports": [{"protocol": "TCP", "port": 8000}]}]


def test_a_stage_reaches_the_sandbox_where_it_has_code_judged() -> None:
    rule = {"to": [{"podSelector": {"matchLabels": POD}}], "ports": [{"protocol": "TCP", "port": 8000}]}
    for stage, reaches in (("curate", True), ("evaluate", True), ("train", False), ("serve", False)):
        assert (rule in policy(stage)["egress"]) is reaches
    plain = build(Want("NetworkPolicy", "isolation", "s1-curate", stage="curate"), run(), ISOLATED)["spec"]
    assert rule not in plain["egress"]


# -- a model that the run serves itself ------------------------------------------------------------

SERVED = run(spec=spec(**served(pod={"resources": {"limits": {"memory": "200Gi"}}, "nodeSelector": {"a": "b"}})))


def of_model(kind: str, role: str, a_run: Run = SERVED) -> dict[str, Any]:
    want = Want(kind, role, NAME, companion="model-big", image="registry.test/serve:1")  # type: ignore[arg-type]
    return build(want, a_run, ISOLATED)


def test_a_model_is_served_by_the_serve_image_with_its_gpus_its_secret_and_no_other() -> None:
    made = of_model("Deployment", "companion")["spec"]
    pod = made["template"]["spec"]
    [container] = pod["containers"]
    assert made["replicas"] == 2
    assert container["image"] == "registry.test/serve:1"
    assert container["command"][2] == "distillstages.serve"
    assert container["resources"]["limits"] == {"memory": "200Gi", "nvidia.com/gpu": "4"}
    assert container["envFrom"] == [{"secretRef": {"name": "hub"}}]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {"name": "config", "configMap": {"name": NAME}} in pod["volumes"]
    assert pod["nodeSelector"] == {"a": "b"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_only_a_server_whose_model_is_on_the_claim_mounts_it_and_cannot_write_to_it() -> None:
    assert "persistentVolumeClaim" not in json.dumps(of_model("Deployment", "companion"))
    local = run(spec=spec(**served(model={"uri": "file:///mnt/distillrun/models/big"})))
    pod = of_model("Deployment", "companion", local)["spec"]["template"]["spec"]
    assert "persistentVolumeClaim" in json.dumps(pod["volumes"])
    [mount] = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "artifacts"]
    assert mount["readOnly"] is True


def test_a_model_server_is_called_by_its_runs_curation_alone_and_leaves_to_where_its_model_is() -> None:
    made = of_model("NetworkPolicy", "isolation")["spec"]
    [metrics, calls] = made["ingress"]
    assert metrics["ports"] == [{"protocol": "TCP", "port": 9400}]
    assert calls["from"][0]["podSelector"]["matchExpressions"][0]["values"] == ["curate"]
    assert calls["ports"] == [{"protocol": "TCP", "port": 8000}]
    assert [rule["ports"][0]["port"] for rule in made["egress"]] == [53, 443]
    local = run(spec=spec(**served(model={"uri": "file:///mnt/distillrun/models/big"})))
    assert len(of_model("NetworkPolicy", "isolation", local)["spec"]["egress"]) == 1


def test_curation_reaches_the_server_of_its_teacher() -> None:
    made = build(Want("NetworkPolicy", "isolation", "s1-curate", stage="curate"), SERVED, ISOLATED)["spec"]
    labels = {"distillrun.dev/run-uid": "run-uid", "distillrun.dev/stage": "model-big"}
    rule = {"to": [{"podSelector": {"matchLabels": labels}}], "ports": [{"protocol": "TCP", "port": 8000}]}
    assert made["egress"][1:] == [rule]
