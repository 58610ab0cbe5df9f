"""What Kueue does with the Jobs and Deployments that the operator makes: the facts that the planner builds on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distillrun.build.objects import build
from distillrun.plan.model import Run, Want
from tests.cluster.kueue.conftest import GPUS, URGENT
from tests.cluster.pretend_kubelet import PretendKubelet
from tests.kube import Kube, condition, wait_for
from tests.unit import builders

pytestmark = pytest.mark.controlplane


def a_job(namespace: str, name: str, queue: str, priority: str = "") -> dict[str, Any]:
    """A training Job of two pods with a GPU each, as the operator builds it, held until the queue lets it go."""
    spec = builders.spec(train={"nodes": GPUS, "gpusPerNode": 1, "maxSteps": 1, "globalBatchSize": 2})
    spec["train"]["pod"] = {"tolerations": [{"operator": "Exists"}]}
    run: Run = builders.run(namespace=namespace, name=name, spec=spec)
    job = build(Want("Job", "job", name, stage="train", attempt=1), run, builders.SETTINGS)
    labels = {"kueue.x-k8s.io/queue-name": queue, **({"kueue.x-k8s.io/priority-class": priority} if priority else {})}
    job["metadata"] |= {"labels": job["metadata"]["labels"] | labels, "ownerReferences": []}
    job["spec"]["suspend"] = True
    pod = job["spec"]["template"]["spec"]
    pod["volumes"] = [each for each in pod["volumes"] if "persistentVolumeClaim" not in each]
    mounts = pod["containers"][0]["volumeMounts"]
    pod["containers"][0]["volumeMounts"] = [each for each in mounts if each["name"] != "artifacts"]
    return job


def job_of(kube: Kube, namespace: str, name: str) -> dict[str, Any]:
    """The Job as it is now."""
    found = kube.get("job", name, namespace)
    assert found is not None
    return found


def pods_of(kube: Kube, namespace: str, job: str) -> list[dict[str, Any]]:
    """The Job's pods."""
    return kube.list("pods", namespace, f"job-name={job}")


def test_a_job_waits_suspended_until_quota_admits_it(kueue_server: Kube, namespace: str, queue: str) -> None:
    for name in ("first", "second"):
        kueue_server.apply(a_job(namespace, name, queue))
        wait_for(f"a workload of {name}", lambda one=name: kueue_server.list("workloads", namespace) and one)
    admitted = wait_for("pods of one Job", lambda: pods_of(kueue_server, namespace, "first"))
    assert len(admitted) == GPUS
    assert job_of(kueue_server, namespace, "second")["spec"]["suspend"] is True
    assert pods_of(kueue_server, namespace, "second") == []
    kueue_server.must("delete", "job", "first", "-n", namespace)
    wait_for("the second Job's turn", lambda: len(pods_of(kueue_server, namespace, "second")) == GPUS)


def test_a_job_that_is_preempted_is_suspended_and_its_stopped_pods_spoil_it(
    kueue_server: Kube, namespace: str, queue: str
) -> None:
    kueue_server.apply(a_job(namespace, "patient", queue))
    kubelet = PretendKubelet(kueue_server, namespace)
    kubelet.start("train", count=GPUS)
    pods = lambda: pods_of(kueue_server, namespace, "patient")  # noqa: E731
    wait_for("scheduled pods", lambda: all(pod["spec"].get("nodeName") for pod in pods()))
    kueue_server.apply(a_job(namespace, "hasty", queue, URGENT))
    wait_for("the preemption", lambda: job_of(kueue_server, namespace, "patient")["spec"]["suspend"])
    stopped = wait_for("pods told to stop", lambda: _deleting(pods()))
    assert all(condition(pod["status"], "DisruptionTarget") == {} for pod in stopped), "nothing at the pods says why"
    for pod in stopped:
        failed = {"phase": "Failed", "containerStatuses": [_terminated(pod, 143)]}
        patch = ["patch", "pod", pod["metadata"]["name"], "-n", namespace, "--subresource=status", "--type=merge"]
        kueue_server.must(*patch, "-p", json.dumps({"status": failed}))
    status = wait_for(
        "the failure policy's verdict",
        lambda: (s := job_of(kueue_server, namespace, "patient")["status"]) and condition(s, "FailureTarget") and s,
    )
    assert condition(status, "Suspended")["status"] == "True"
    assert "startTime" not in status


def test_a_deployment_of_a_queue_counts_against_the_same_quota(kueue_server: Kube, namespace: str, queue: str) -> None:
    limits = {"nvidia.com/gpu": "1"}
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "server",
        "image": "registry.test/serve:1",
        "resources": {"limits": limits},
        "securityContext": {**security, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    kueue_server.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "server", "namespace": namespace, "labels": {"kueue.x-k8s.io/queue-name": queue}},
            "spec": {
                "replicas": GPUS + 1,
                "selector": {"matchLabels": {"app": "server"}},
                "template": {"metadata": {"labels": {"app": "server"}}, "spec": {"containers": [container]}},
            },
        }
    )

    def gated() -> list[bool]:
        pods = kueue_server.list("pods", namespace, "app=server")
        return [bool(pod["spec"].get("schedulingGates")) for pod in pods]

    wait_for("as many pods let go as there is quota for", lambda: sorted(gated()) == [False] * GPUS + [True])


def _deleting(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return pods if pods and all(pod["metadata"].get("deletionTimestamp") for pod in pods) else []


def _terminated(pod: dict[str, Any], code: int) -> dict[str, Any]:
    image = pod["spec"]["containers"][0]["image"]
    state = {"terminated": {"exitCode": code, "reason": "Error"}}
    return {"name": "stage", "image": image, "imageID": "x", "ready": False, "restartCount": 0, "state": state}
