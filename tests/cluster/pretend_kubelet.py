"""A pretended kubelet for API servers without nodes: it writes pods' statuses as a kubelet would, and runs nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tests.cluster.operator_io import pods
from tests.kube import Kube, wait_for


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


RESOLVED = {
    "outcome": "Succeeded",
    "artifact": "file:///mnt/distillrun/resolve/x/",
    "numbers": {"resolved": pods.RESOLVED},
}


def _terminated(code: int, message: str) -> dict[str, Any]:
    ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": message}
    return {"terminated": {**ended, "startedAt": _now(), "finishedAt": _now()}}


class PretendKubelet:
    """Moves the pods of one namespace through their lives."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    def pods(self, stage: str, attempt: int | None = 1, count: int = 1) -> list[dict[str, Any]]:
        """The stage's pods of an attempt (None: of any, and of a companion), once there are `count` of them."""

        def enough() -> list[dict[str, Any]] | None:
            if stage != "resolve":
                self.resolve()
            found = pods.pods(self.kube, self.namespace, stage, attempt)
            return found if len(found) >= count else None

        found: list[dict[str, Any]] = wait_for(f"{count} pods of {stage} attempt {attempt}", enough)
        return found

    def resolve(self) -> None:
        """Whatever run is there to be resolved is: its inputs were found as they are named."""
        for pod in pods.pods(self.kube, self.namespace, "resolve", attempt=None):
            if pod["status"].get("phase") == "Pending":
                self._write(pod, "Succeeded", _terminated(0, json.dumps(RESOLVED)))

    def start(self, stage: str, attempt: int | None = 1, count: int = 1) -> None:
        """The stage's pods run."""
        for pod in self.pods(stage, attempt, count):
            self._write(pod, "Running", {"running": {"startedAt": _now()}}, ready=True)

    def wait(self, stage: str, reason: str, message: str) -> None:
        """The stage's container cannot start for a reason."""
        for pod in self.pods(stage):
            self._write(pod, "Pending", {"waiting": {"reason": reason, "message": message}})

    def end(
        self, stage: str, code: int = 0, attempt: int = 1, count: int = 1, only: int | None = None, **message: Any
    ) -> None:
        """The stage's pods, or the one at index `only`, end with a code and a termination message."""
        text = json.dumps(message)
        for pod in self.pods(stage, attempt, count):
            if only not in (None, int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"])):
                continue
            self._write(pod, "Succeeded" if code == 0 else "Failed", _terminated(code, text))

    def succeed(self, stage: str, count: int = 1, **numbers: Any) -> None:
        """The stage's pods start and succeed with the numbers."""
        self.start(stage, count=count)
        artifact = f"file:///mnt/distillrun/{self.namespace}/{stage}/x/"
        self.end(stage, count=count, outcome="Succeeded", artifact=artifact, numbers=numbers)

    def _write(self, pod: dict[str, Any], phase: str, state: dict[str, Any], ready: bool = False) -> None:
        status = {
            "phase": phase,
            "startTime": _now(),
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": pod["metadata"]["creationTimestamp"]},
                {"type": "Ready", "status": str(ready), "lastTransitionTime": _now()},
            ],
            "containerStatuses": pods.container(pod, state, ready),
        }
        pods.set_status(self.kube, self.namespace, pod["metadata"]["name"], status)
