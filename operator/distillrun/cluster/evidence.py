"""What a plan needs to know and the watches may not have told yet: how pods ended, and why there are none.

Each kind has a watch of its own, and they do not keep step. A Job may be seen complete while its pods, which ended
before it, are still seen running; planned on that, a result would count as lost. So before such a pass the pods are
read. And a Job whose pods are refused (Pod Security, quota, admission) says so nowhere but in an Event.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from distillrun.api.status import ENDED
from distillrun.cluster.cache import Cache
from distillrun.cluster.client import Client
from distillrun.cluster.errors import ApiError
from distillrun.cluster.resources import EVENT, POD
from distillrun.plan.model import Job, Observed, Pod, Refusal, Run
from distillrun.plan.names import LABEL_RUN

logger = logging.getLogger(__name__)

JOB_NAME = "batch.kubernetes.io/job-name"
PATIENCE = 3.0
"""Seconds that a Job may be without pods before it is asked why."""
ASK_AGAIN = 15.0
"""Seconds between two such questions."""


@dataclass
class _Memory:
    """What was read about one run's Jobs, by UID."""

    pods: dict[str, Job] = field(default_factory=dict)
    """The Job as it was when its pods were read."""
    events: dict[str, tuple[datetime, Refusal | None]] = field(default_factory=dict)


class Evidence:
    """Reads on demand, each thing once, and leaves pods in the cache."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self.client = client
        self.cache = cache
        self._memories: dict[str, _Memory] = {}

    async def endings(self, run: Run, observed: Observed) -> bool:
        """Read the pods of Jobs that have ended, unless their endings are known. Whether anything was read.

        Raises ApiError when the pods cannot be read: a pass without them would plan on what is not so.
        """
        memory = self._memory(run, observed)
        settled = _settled(run.status)
        read = False
        for job in observed.jobs.values():
            ended = job.complete or job.failure
            if not ended or job.name in settled or _known(job, observed.pods.values()):
                continue
            if memory.pods.get(job.uid) == job:
                continue
            labels = f"{LABEL_RUN},{JOB_NAME}={job.name}"
            async for page in self.client.list(POD, run.namespace, labels=labels):
                for body in page.items:
                    self.cache.upsert(POD.kind, body)
            memory.pods[job.uid] = job
            read = True
        return read

    async def refusals(self, run: Run, observed: Observed, now: datetime) -> tuple[tuple[Refusal, ...], float | None]:
        """Why Jobs have no pods, in the words of the one who refused them, and in how many seconds to ask again."""
        memory = self._memory(run, observed)
        found: list[Refusal] = []
        again: float | None = None
        owned = {pod.job for pod in observed.pods.values()}
        for job in observed.jobs.values():
            if job.name in owned or job.active or job.complete or job.failure or job.suspended or job.deleting:
                memory.events.pop(job.uid, None)
                continue
            age = (now - job.created).total_seconds()
            if age < PATIENCE:
                again = PATIENCE
                continue
            again = ASK_AGAIN
            asked = memory.events.get(job.uid)
            if asked is None or (now - asked[0]).total_seconds() >= ASK_AGAIN:
                asked = memory.events[job.uid] = (now, await self._refusal(run, job))
            if asked[1] is not None:
                found.append(asked[1])
        return tuple(found), again

    def forget(self, run_uid: str) -> None:
        """The run is gone."""
        self._memories.pop(run_uid, None)

    def _memory(self, run: Run, observed: Observed) -> _Memory:
        """What was read about this run, less the Jobs that are gone."""
        memory = self._memories.setdefault(run.uid, _Memory())
        there = {job.uid for job in observed.jobs.values()}
        for gone in [uid for uid in (*memory.pods, *memory.events) if uid not in there]:
            memory.pods.pop(gone, None)
            memory.events.pop(gone, None)
        return memory

    async def _refusal(self, run: Run, job: Job) -> Refusal | None:
        """The last event that says that a pod of the Job could not be created."""
        fields = f"regarding.uid={job.uid},reason=FailedCreate"
        notes: list[tuple[str, str]] = []
        try:
            async for page in self.client.list(EVENT, run.namespace, fields=fields):
                notes += [(_last_seen(event), str(event.get("note") or "")) for event in page.items]
        except ApiError as error:
            logger.warning("The events of Job %s cannot be read: %s", job.name, error)
        return Refusal("Pod", job.name, max(notes)[1]) if notes else None


def _settled(status: Mapping[str, Any]) -> set[str]:
    """Names of Jobs whose outcome is in the status already."""
    stages: Iterable[Mapping[str, Any]] = status.get("stages") or ()
    return {str(stage.get("jobName")) for stage in stages if stage.get("state") in ENDED}


def _known(job: Job, pods: Iterable[Pod]) -> bool:
    """Whether the cache has pods of the Job and each of them has ended."""
    own = [pod for pod in pods if pod.job == job.name]
    return bool(own) and all(pod.end is not None for pod in own)


def _last_seen(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("deprecatedLastTimestamp") or event.get("eventTime") or "")
