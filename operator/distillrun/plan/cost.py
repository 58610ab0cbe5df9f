"""What pods cost: GPU-seconds from node assignment to end, times the price of a GPU hour.

A stage's GPU-seconds are the settled ones (attempts that ended, in status) plus those of the attempt at hand, read off
its pods. An attempt is settled exactly once: in the same status write that ends it. Where a pod that must have existed
is gone, the attempt's whole time is billed for it, and the figure is marked `estimated`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from distillrun.api.status import LARGEST
from distillrun.plan.model import Job, Pod


def pod_gpu_seconds(pod: Pod, now: datetime) -> float:
    """GPU-seconds of one pod up to its end, or up to now."""
    if pod.scheduled is None or not pod.gpus:
        return 0.0
    end = pod.end.finished if pod.end is not None and pod.end.finished is not None else now
    return pod.gpus * max((end - pod.scheduled).total_seconds(), 0.0)


def _stopping(pod: Pod, now: datetime, grace: float) -> float:
    """GPU-seconds of a pod, with the grace period that one which has not ended may still use."""
    if pod.end is not None or pod.scheduled is None:
        return pod_gpu_seconds(pod, now)
    return pod_gpu_seconds(pod, now) + pod.gpus * grace


def attempt_gpu_seconds(
    job: Job | None,
    pods: Iterable[Pod],
    expected: int,
    gpus: int,
    began: datetime | None,
    now: datetime,
    grace: float,
) -> tuple[float, bool]:
    """GPU-seconds of an attempt of `expected` pods of `gpus` GPUs, and whether some had to be estimated.

    The attempt is over or about to be stopped: pods that have not ended are billed `grace` seconds more. A pod that
    is gone is billed from `began`, when the first pod was known to have a node, or from the Job's creation when its
    counts say that there were pods; of an attempt that neither knows of there were none.
    """
    pods = list(pods)
    used = sum(_stopping(pod, now, grace) for pod in pods)
    estimated = any(pod.end is None and pod.scheduled is not None and pod.gpus for pod in pods)
    missing = expected - len({pod.index for pod in pods})
    start = began
    if start is None and job is not None and (job.active or job.failed or job.succeeded):
        start = job.created
    if missing <= 0 or gpus == 0 or start is None:
        return used, estimated
    end = (job.finished if job is not None else None) or now
    return used + missing * gpus * max((end - start).total_seconds(), 0.0), True


def amount(gpu_seconds: float, price: str, asking: Decimal = Decimal(0)) -> str:
    """Cost of GPU-seconds at a price per GPU hour, and of asking, rounded to cents (four digits below one unit)."""
    value = min(Decimal(repr(gpu_seconds)) * Decimal(price) / 3600 + asking, Decimal(LARGEST))
    digits = Decimal("0.01") if value >= 1 else Decimal("0.0001")
    return format(value.quantize(digits, rounding=ROUND_HALF_UP), "f")


def tally(value: Decimal) -> str:
    """An amount to four digits, however large."""
    return format(value.quantize(Decimal("0.0001"), rounding=ROUND_HALF_UP), "f")


def seconds(value: float) -> str:
    """GPU-seconds as status holds them."""
    return format(min(Decimal(repr(value)), Decimal(LARGEST)).quantize(Decimal("0.1"), rounding=ROUND_HALF_UP), "f")
