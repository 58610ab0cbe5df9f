"""A stage's cost in status: what its ended attempts used, and what the attempt at hand has used up to now."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from distillrun.api.status import ServingCost, Stage, StageCost
from distillrun.plan import asking, cost, reasons
from distillrun.plan.clock import rfc3339
from distillrun.plan.model import Job, Pod

GRACE_SECONDS = 60
"""terminationGracePeriodSeconds of every stage's pods: what a pod that is told to stop may still use."""


def running(stage: Stage, pods: Iterable[Pod], price: str, now: datetime) -> StageCost:
    """Cost up to now: what is settled, and the pods at work."""
    pods = list(pods)
    settled = float(stage.cost.settled_gpu_seconds) if stage.cost else 0.0
    used = settled + sum(cost.pod_gpu_seconds(pod, now) for pod in pods)
    assigned = min((pod.scheduled for pod in pods if pod.gpus and pod.scheduled is not None), default=None)
    return StageCost(
        amount=cost.amount(used, price, asking.of([stage])),
        **_asked(stage),
        gpu_seconds=cost.seconds(used),
        settled_gpu_seconds=cost.seconds(settled),
        estimated=stage.cost.estimated if stage.cost else False,
        since=(stage.cost.since if stage.cost else None) or (rfc3339(assigned) if assigned else None),
    )


def _asked(stage: Stage) -> dict[str, Any]:
    """What asking has cost: nothing of it ends with an attempt."""
    return {"asking": stage.cost.asking, "asked": stage.cost.asked} if stage.cost else {}


def settled(
    stage: Stage, job: Job | None, pods: Iterable[Pod], size: tuple[int, int], price: str, now: datetime
) -> StageCost:
    """Cost with the attempt at hand settled; the attempt must end in the same status write.

    `size` is (pods, GPUs of each). Pods that have not ended are about to be told to: their grace period is billed.
    What nobody can tell any more is billed at its upper bound and marked as estimated.
    """
    expected, gpus = size
    before = float(stage.cost.settled_gpu_seconds) if stage.cost else 0.0
    since = (stage.cost.since if stage.cost else None) or (None if stage.reason == reasons.QUEUED else stage.job_time)
    began = datetime.fromisoformat(since) if since and (job is None or (stage.cost and stage.cost.since)) else None
    used, estimated = cost.attempt_gpu_seconds(job, pods, expected, gpus, began, now, GRACE_SECONDS)
    # Shown up to a moment after the end, which the kubelet gives in whole seconds: what was shown stays billed.
    total = max(before + used, float(stage.cost.gpu_seconds) if stage.cost else 0.0)
    return StageCost(
        amount=cost.amount(total, price, asking.of([stage])),
        **_asked(stage),
        gpu_seconds=cost.seconds(total),
        settled_gpu_seconds=cost.seconds(total),
        estimated=estimated or bool(stage.cost and stage.cost.estimated),
    )


def without_servers(stage: Stage) -> Stage:
    """The stage with what its Jobs have used alone: the model servers beside them have a meter of their own."""
    known = stage.cost
    if known is None or known.servers is None:
        return stage
    used = max(float(known.gpu_seconds) - float(known.servers.gpu_seconds), 0.0)
    return stage.model_copy(
        update={"cost": known.model_copy(update={"gpu_seconds": cost.seconds(used), "servers": None})}
    )


def with_servers(stage: Stage, servers: ServingCost | None, price: str, gone: bool) -> Stage:
    """The stage with what model servers have used for it; once they are gone, that is settled."""
    if servers is None:
        return stage
    known = stage.cost or StageCost()
    used = float(known.gpu_seconds) + float(servers.gpu_seconds)
    update = {
        "amount": cost.amount(used, price, asking.of([stage])),
        "gpu_seconds": cost.seconds(used),
        "servers": servers,
    }
    if gone:
        settled = float(known.settled_gpu_seconds) + float(servers.gpu_seconds)
        estimated = known.estimated or servers.estimated
        update |= {"servers": None, "settled_gpu_seconds": cost.seconds(settled), "estimated": estimated}
    return stage.model_copy(update={"cost": known.model_copy(update=update)})
