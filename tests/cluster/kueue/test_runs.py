"""Runs with `queueName` under the real Kueue: quota lets them go, preemption is counted as such, nobody fights."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.kueue.conftest import GPUS, QUEUE, URGENT
from tests.cluster.operator_io.conftest import Starter
from tests.cluster.operator_io.processes import Audit, said
from tests.cluster.pretend_kubelet import PretendKubelet
from tests.cluster.test_operator_path import SCORES
from tests.kube import Kube, stage, wait_for
from tests.unit.builders import spec

pytestmark = pytest.mark.controlplane

EVERYWHERE = {"pod": {"tolerations": [{"operator": "Exists"}]}}
"""The node has nobody who keeps it Ready: its taints must not matter."""


def a_run(namespace: str, claim: str, **changes: Any) -> dict[str, Any]:
    whole = spec(queueName=QUEUE, storage={"claimName": claim}, **changes)
    for name in ("curate", "train", "evaluate", "serve"):
        if name in whole:
            whole[name] = {**whole[name], **EVERYWHERE}
    return {
        "apiVersion": "distillrun.dev/v1alpha1",
        "kind": "DistillRun",
        "metadata": {"name": "s1", "namespace": namespace},
        "spec": whole,
    }


def a_squatter(namespace: str, name: str, priority: str = "") -> dict[str, Any]:
    """A Job of somebody else that takes all of the queue's GPUs."""
    labels = {"kueue.x-k8s.io/queue-name": QUEUE, **({"kueue.x-k8s.io/priority-class": priority} if priority else {})}
    limits = {"nvidia.com/gpu": str(GPUS)}
    container = {"name": "squat", "image": "registry.test/x:1", "resources": {"limits": limits}}
    pod = {"restartPolicy": "Never", "tolerations": [{"operator": "Exists"}], "containers": [container]}
    meta = {"name": name, "namespace": namespace, "labels": labels}
    job = {"suspend": True, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": job}


def stage_of(kube: Kube, namespace: str, name: str) -> dict[str, Any]:
    return stage(kube.status("s1", namespace), name)


def admitted(kube: Kube, namespace: str, job: str) -> bool:
    found = kube.get("job", job, namespace)
    return found is not None and not found["spec"].get("suspend")


def a_queue_with_gpus_taken(kube: Kube, namespace: str) -> None:
    kube.apply(a_squatter(namespace, "squatter"))
    wait_for("the squatter's turn", lambda: admitted(kube, namespace, "squatter"))


def free(kube: Kube, namespace: str, name: str) -> None:
    kube.must("delete", "job", name, "-n", namespace, "--wait=true")
    kube.kubectl("delete", "pods", "-n", namespace, "-l", f"job-name={name}", "--force", "--grace-period=0")


def stop(kube: Kube, namespace: str, pods: list[dict[str, Any]], code: int) -> None:
    """What a kubelet does with pods that were told to go."""
    for pod in pods:
        name, image = pod["metadata"]["name"], pod["spec"]["containers"][0]["image"]
        state = {"terminated": {"exitCode": code, "reason": "Error"}}
        ended = {"name": "stage", "image": image, "imageID": "x", "ready": False, "restartCount": 0, "state": state}
        patch = json.dumps({"status": {"phase": "Failed", "containerStatuses": [ended]}})
        kube.must("patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    for pod in pods:
        kube.must("delete", "pod", pod["metadata"]["name"], "-n", namespace, "--force", "--grace-period=0")


def told_to_go(kube: Kube, namespace: str) -> list[dict[str, Any]]:
    pods = kube.list("pods", namespace, "distillrun.dev/stage=train")
    return pods if pods and all(pod["metadata"].get("deletionTimestamp") for pod in pods) else []


def test_a_stage_waits_for_quota_and_its_preemption_is_no_failure(
    kueue_server: Kube, namespace: str, queue: str, claim: str, start_operator: Starter, audit: Audit
) -> None:
    kube, kubelet = kueue_server, PretendKubelet(kueue_server, namespace)
    a_queue_with_gpus_taken(kube, namespace)
    start_operator()
    kube.apply(a_run(namespace, claim, evaluate=None, gates=None, serve=None))
    kubelet.succeed("curate")
    wait_for("train to queue", lambda: stage_of(kube, namespace, "train").get("reason") == "Queued")
    assert f"LocalQueue {QUEUE}" in stage_of(kube, namespace, "train")["message"]
    assert kube.list("pods", namespace, "distillrun.dev/stage=train") == []
    free(kube, namespace, "squatter")
    kubelet.start("train", count=GPUS)
    wait_for("train to run", lambda: stage_of(kube, namespace, "train")["state"] == "Running")

    kube.apply(a_squatter(namespace, "hasty", URGENT))
    stop(kube, namespace, wait_for("the preemption", lambda: told_to_go(kube, namespace)), 143)
    wait_for("it to be counted", lambda: stage_of(kube, namespace, "train").get("preemptions") == 1)
    again = wait_for("attempt 2 to queue", lambda: kube.list("jobs", namespace, "distillrun.dev/attempt=2"))
    assert again[0]["spec"]["suspend"] is True
    assert again[0]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == QUEUE
    free(kube, namespace, "hasty")
    kubelet.start("train", attempt=2, count=GPUS)
    kubelet.end("train", attempt=2, count=GPUS, outcome="Succeeded", artifact="file:///mnt/x/", numbers={})
    wait_for("the run to succeed", lambda: kube.status("s1", namespace)["phase"] == "Succeeded")
    trained = stage_of(kube, namespace, "train")
    assert (trained["attempt"], trained["preemptions"], trained.get("failures", 0)) == (2, 1, 0)
    written = {said(request).split()[0] for request in audit.writes() if request["objectRef"]["resource"] == "jobs"}
    assert written == {"create", "delete"}, "nobody but Kueue writes spec.suspend"


def test_a_model_server_waits_for_quota_too(
    kueue_server: Kube, namespace: str, queue: str, claim: str, start_operator: Starter
) -> None:
    kube, kubelet = kueue_server, PretendKubelet(kueue_server, namespace)
    start_operator()
    kube.apply(a_run(namespace, claim, gates=None))
    kubelet.succeed("curate")
    kubelet.succeed("train", count=2)
    kubelet.start("evaluate")
    kube.apply(a_squatter(namespace, "next"))  # older in the queue than the server will be
    kubelet.end("evaluate", outcome="Succeeded", artifact="file:///mnt/e/", numbers=SCORES)
    [server] = kubelet.pods("serve")
    assert admitted(kube, namespace, "next")
    assert server["spec"]["schedulingGates"], "held by Kueue"
    free(kube, namespace, "next")
    wait_for("the server's turn", lambda: not kubelet.pods("serve")[0]["spec"].get("schedulingGates"))
    kubelet.start("serve")
    wait_for("the model to be served", lambda: kube.status("s1", namespace)["phase"] == "Serving")
