"""Plays the kubelet: pods run and end because a test says so. There is no node on these clusters."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tests.kube import Kube, wait_for

RESOLVED = {"student": {"revision": "sha256:00"}, "sources": [], "benchmarks": []}


def now() -> str:
    """The time as Kubernetes writes it. Times of long ago would be waits that have been too long."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pods(kube: Kube, namespace: str, stage: str, attempt: int | None = 1) -> list[dict[str, Any]]:
    """The pods of a stage's attempt, or of all its attempts."""
    chosen = "" if attempt is None else f",distillrun.dev/attempt={attempt}"
    return kube.list("pods", namespace, f"distillrun.dev/stage={stage}{chosen}")


def wait_for_pods(kube: Kube, namespace: str, stage: str, count: int = 1, attempt: int = 1) -> list[dict[str, Any]]:
    """The pods, once they are all there. What has to be resolved before is, with the inputs as they are named."""

    def found() -> list[dict[str, Any]]:
        for pod in pods(kube, namespace, "resolve", None) if stage != "resolve" else []:
            if pod["status"].get("phase") == "Pending":
                end(
                    kube, namespace, pod, outcome="Succeeded", artifact="file:///mnt/r/", numbers={"resolved": RESOLVED}
                )
        there = pods(kube, namespace, stage, attempt)
        return there if len(there) == count else []

    there: list[dict[str, Any]] = wait_for(f"{count} pods of {stage}", found)
    return there


def set_status(kube: Kube, namespace: str, pod: str, status: dict[str, Any]) -> None:
    """Write a pod's status as a kubelet would."""
    patch = json.dumps({"status": status})
    kube.must("patch", "pod", pod, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


def container(pod: dict[str, Any], state: dict[str, Any], ready: bool = False) -> list[dict[str, Any]]:
    """The status of the container `stage`."""
    image = pod["spec"]["containers"][0]["image"]
    return [{"name": "stage", "image": image, "imageID": "x", "ready": ready, "restartCount": 0, "state": state}]


def start(kube: Kube, namespace: str, pod: dict[str, Any], ip: str = "10.0.0.9") -> None:
    """The pod runs."""
    set_status(
        kube,
        namespace,
        pod["metadata"]["name"],
        {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()},
                {"type": "Ready", "status": "True", "lastTransitionTime": now()},
            ],
            "containerStatuses": container(pod, {"running": {"startedAt": now()}}, ready=True),
        },
    )


def end(kube: Kube, namespace: str, pod: dict[str, Any], code: int = 0, **message: Any) -> None:
    """The pod's container ends with a code and a termination message."""
    terminated = {
        "exitCode": code,
        "reason": "Error" if code else "Completed",
        "message": json.dumps(message),
        "startedAt": now(),
        "finishedAt": now(),
    }
    set_status(
        kube,
        namespace,
        pod["metadata"]["name"],
        {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": container(pod, {"terminated": terminated}),
        },
    )


def succeed(kube: Kube, namespace: str, stage: str, count: int = 1, attempt: int = 1, **numbers: Any) -> None:
    """All pods of a stage run and succeed with these numbers."""
    for pod in wait_for_pods(kube, namespace, stage, count, attempt):
        start(kube, namespace, pod)
        end(kube, namespace, pod, outcome="Succeeded", artifact=f"file:///mnt/{stage}/", numbers=numbers)
