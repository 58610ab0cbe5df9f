"""What pods cost: GPU-seconds from node assignment to end, times the price of a GPU hour.

A stage's GPU-seconds are the settled ones (attempts that ended, in status) plus those of the attempt at hand, read off
its pods. An attempt is settled exactly once: in the same status write that ends it. Where a pod that must have existed
is gone, the attempt's whole time is billed for it, and the figure is marked `estimated`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from distillrun.plan.model import Job, Pod


def pod_gpu_seconds(pod: Pod, now: datetime) -> float:
    """GPU-seconds of one pod up to its end, or up to now."""
    if pod.scheduled is None or not pod.gpus:
        return 0.0
    end = pod.end.finished if pod.end is not None and pod.end.finished is not None else now
    return pod.gpus * max((end - pod.scheduled).total_seconds(), 0.0)


def attempt_gpu_seconds(
    job: Job | None, pods: Iterable[Pod], expected: int, gpus: int, now: datetime
) -> tuple[float, bool]:
    """GPU-seconds of an attempt of `expected` pods of `gpus` GPUs, and whether some had to be estimated."""
    pods = list(pods)
    used = sum(pod_gpu_seconds(pod, now) for pod in pods)
    missing = expected - len({pod.index for pod in pods})
    if job is None or missing <= 0 or gpus == 0:
        return used, False
    end = job.finished or now
    return used + missing * gpus * max((end - job.created).total_seconds(), 0.0), True


def amount(gpu_seconds: float, price: str) -> str:
    """Cost of GPU-seconds at a price per GPU hour, rounded to cents (four digits below one unit)."""
    value = Decimal(repr(gpu_seconds)) * Decimal(price) / Decimal(3600)
    digits = Decimal("0.01") if value >= 1 else Decimal("0.0001")
    return format(value.quantize(digits, rounding=ROUND_HALF_UP), "f")


def seconds(value: float) -> str:
    """GPU-seconds as status holds them."""
    return format(Decimal(repr(value)).quantize(Decimal("0.1"), rounding=ROUND_HALF_UP), "f")
