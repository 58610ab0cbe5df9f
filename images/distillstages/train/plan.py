"""Arithmetic that needs no torch: ranks, batches, threads. Checked before anything slow or costly starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from distillstages.common import reasons
from distillstages.common.blocks import Train
from distillstages.common.exit import ConfigFault

_UNSET_QUOTA = -1


@dataclass(frozen=True)
class Batches:
    """How a global batch of examples is split: `accumulation` micro batches on each of `ranks` processes."""

    micro: int
    accumulation: int
    ranks: int

    @property
    def examples(self) -> int:
        """Examples in one optimizer step."""
        return self.micro * self.accumulation * self.ranks


def split_batch(train: Train) -> Batches:
    """Splits globalBatchSize (examples) over the ranks. Raises ConfigFault BatchNotDivisible with sizes that work."""
    ranks = train.distributed.ranks
    at_once = train.micro_batch_size * ranks
    accumulation, rest = divmod(train.global_batch_size, at_once)
    if rest or not accumulation:
        below, above = accumulation * at_once, (accumulation + 1) * at_once
        near = f"{below} or {above}" if below else f"{above}"
        raise ConfigFault(
            f"globalBatchSize {train.global_batch_size} is not a multiple of microBatchSize {train.micro_batch_size} × "
            f"{ranks} processes = {at_once}; set globalBatchSize to {near}, or change microBatchSize or the number "
            "of processes",
            reason=reasons.BATCH_NOT_DIVISIBLE,
        )
    return Batches(train.micro_batch_size, accumulation, ranks)


def node_rank(train: Train) -> int:
    """This pod's rank among the nodes, from JOB_COMPLETION_INDEX (0 when unset). Raises ConfigFault."""
    text = os.environ.get("JOB_COMPLETION_INDEX") or "0"
    nodes = train.distributed.nodes
    if not text.isdigit() or int(text) >= nodes:
        raise ConfigFault(f"JOB_COMPLETION_INDEX is {text!r}, expected 0 to {nodes - 1} for {nodes} nodes")
    return int(text)


def threads_per_process(processes: int, root: Path = Path("/sys/fs/cgroup")) -> int:
    """CPU threads for each process: its share of what this container may use, at least 1.

    The CPU limit counts if there is one; in a Kubernetes pod without one, the CPU request (a fair share, where taking
    all cores of the node would starve the other pods, or the other rank); else all cores of the machine.
    """
    cores = float(len(os.sched_getaffinity(0)))
    allowed = _quota(root)
    if allowed is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        allowed = _request(root)
    if allowed is not None:
        cores = min(cores, allowed)
    return max(1, int(cores / processes + 0.5))


def _quota(root: Path) -> float | None:
    """Cores of the CPU limit (cgroup v2 cpu.max, v1 cfs quota), None without one."""
    v2 = _words(root / "cpu.max")
    if len(v2) == 2 and v2[0] != "max":
        return int(v2[0]) / int(v2[1])
    for folder in (root / "cpu", root / "cpu,cpuacct"):
        quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
        if quota and period and int(quota[0]) != _UNSET_QUOTA:
            return int(quota[0]) / int(period[0])
    return None


def _request(root: Path) -> float | None:
    """Cores of the CPU request: the kubelet writes 1024 shares a core (v1), which runc maps to a weight (v2)."""
    weight = _words(root / "cpu.weight")
    if weight:
        return (2 + (int(weight[0]) - 1) * 262142 / 9999) / 1024
    for folder in (root / "cpu", root / "cpu,cpuacct"):
        shares = _words(folder / "cpu.shares")
        if shares:
            return int(shares[0]) / 1024
    return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
