"""A pretended kubelet for many namespaces at once: it plays every run's pods by a script and runs nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from distillrun.cluster.client import Client
from distillrun.cluster.errors import ApiError
from distillrun.cluster.project import INDEX
from distillrun.cluster.resources import POD
from distillrun.plan.names import LABEL_ATTEMPT, LABEL_RUN, LABEL_STAGE
from tests.cluster.operator_io import pods

_SCORE = {"benchmark": "additions", "metric": "accuracy", "low": 0.95, "high": 1.0, "n": 200}
_SCORES = {"scores": [{**_SCORE, "model": "student", "value": 0.98}, {**_SCORE, "model": "base", "value": 0.0}]}
_NUMBERS: dict[str, dict[str, Any]] = {
    "resolve": {"resolved": pods.RESOLVED},
    "curate": {"accepted": 9, "rejected": 1},
    "train": {"steps": 100, "loss": 0.01},
    "evaluate": _SCORES,
}


@dataclass(frozen=True)
class End:
    """How a pod ends: exit code, what it says, and whether its node took it away."""

    code: int
    message: dict[str, Any]
    disrupted: bool = False


Fate = Callable[[str, int, int], End | None]
"""How the pod of (stage, attempt, index) ends; None when it runs on and is ready."""


def success(stage: str) -> End:
    """What a stage says when it has done its work."""
    said = {"outcome": "Succeeded", "artifact": f"file:///mnt/distillrun/{stage}/", "numbers": _NUMBERS.get(stage, {})}
    return End(0, said)


def failure(code: int = 70, **said: Any) -> End:
    """A failure of the stage's own."""
    return End(code, {"outcome": "Failed", "reason": "Fault", "message": "boom", **said})


def smooth(stage: str, attempt: int, index: int) -> End | None:
    """Every stage succeeds at once and the model server runs."""
    return None if stage == "serve" else success(stage)


def one_failure(stage: str, attempt: int, index: int) -> End | None:
    """As `smooth`, but rank 1 of the first training attempt fails."""
    if (stage, attempt, index) == ("train", 1, 1):
        return failure()
    return smooth(stage, attempt, index)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Kubelet:
    """Moves pods through their lives until it is cancelled: one step a look."""

    def __init__(self, client: Client, every: float = 0.2) -> None:
        self.client = client
        self.every = every
        self.fates: dict[str, Fate] = {}
        """By namespace; pods of other namespaces, and those that no controller made, are left alone."""
        self._steps: dict[str, int] = {}

    async def run(self) -> None:
        """Look and move, for ever. An API server that does not answer is asked again."""
        while True:
            try:
                async for page in self.client.list(POD, labels=LABEL_RUN):
                    for pod in page.items:
                        await self._move(pod)
            except ApiError:
                pass
            await asyncio.sleep(self.every)

    async def _move(self, pod: dict[str, Any]) -> None:
        meta = pod["metadata"]
        fate = self.fates.get(meta["namespace"])
        if fate is None or meta.get("deletionTimestamp") or not meta.get("ownerReferences"):
            return
        step = self._steps.get(meta["uid"], 0)
        if step == 0:
            await self._write(pod, "Running", {"running": {"startedAt": _now()}}, ready=True)
        elif step == 1:
            labels = {**meta.get("annotations", {}), **meta["labels"]}
            end = fate(labels[LABEL_STAGE], int(labels[LABEL_ATTEMPT]), int(labels.get(INDEX, 0)))
            if end is None:
                return
            terminated = {
                "exitCode": end.code,
                "reason": "Error" if end.code else "Completed",
                "message": json.dumps(end.message),
                "startedAt": _now(),
                "finishedAt": _now(),
            }
            phase = "Failed" if end.code else "Succeeded"
            await self._write(pod, phase, {"terminated": terminated}, disrupted=end.disrupted)
        else:
            return
        self._steps[meta["uid"]] = step + 1

    async def _write(
        self, pod: dict[str, Any], phase: str, state: dict[str, Any], ready: bool = False, disrupted: bool = False
    ) -> None:
        since = {"lastTransitionTime": _now()}
        conditions = [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": pod["metadata"]["creationTimestamp"]},
            {"type": "Ready", "status": str(ready), **since},
        ]
        if disrupted:
            conditions.append(
                {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", **since}
            )
        status = {
            "phase": phase,
            "startTime": _now(),
            "conditions": conditions,
            "containerStatuses": pods.container(pod, state, ready),
        }
        try:
            await self.client.patch(
                POD, pod["metadata"]["namespace"], pod["metadata"]["name"], {"status": status}, subresource="status"
            )
        except ApiError as error:
            if not error.not_found:
                raise
