"""How long an optimizer step takes, from what it has to compute and to move.

Two numbers are fitted to published trainings of 32 B models (`PUBLISHED`): the share of the GPU's peak that compute
reaches (`efficiency`, from the runs that offload nothing), and how much slower offloading is than its transfers' data
sheets (`offloading`, from those that do). The rest is data sheets, and assumptions that are named here. Each run is
predicted from the others in `leave_one_out`, and the errors are printed with every estimate: a number taken from the
very run that it then explains would prove nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from distillrun.plan import gpus
from distillrun.plan.gpus import Gpu

LINKS = 0.75
"""Share of a link's data-sheet rate that collectives and copies of large buffers reach."""

NETWORK = 50e9
"""Bytes a second each GPU has between nodes in one direction: 400 Gb/s, as hosts of eight H100 have."""

HOST_MEMORY = 200e9
"""Bytes a second of host memory that DeepSpeed's CPU Adam moves on one node, all its ranks together."""

ADAM_BYTES = 30
"""Bytes of host memory that a step moves for each parameter: 16 read (weight, gradient, moments), 12 + 2 written."""

SPREAD = 0.5
"""Coefficient of variation of examples' lengths where it is not known."""


@dataclass(frozen=True)
class Work:
    """One optimizer step of one training."""

    parameters: float
    layers: int
    width: int
    """Of attention: heads times their dimension."""
    gpu: Gpu
    nodes: int
    gpus_per_node: int
    micro_batch: int
    accumulation: int
    mean_tokens: float
    """Of an example."""
    spread: float
    """Coefficient of variation of examples' lengths."""
    longest: float
    """Tokens of the longest example that there can be."""
    element: int
    recompute: bool
    sharded: bool
    """Whether parameters are gathered for every micro batch (ZeRO-3, FSDP)."""
    offload_optimizer: bool
    offload_parameters: bool
    accumulator: int

    @property
    def ranks(self) -> int:
        """GPUs in all."""
        return self.nodes * self.gpus_per_node

    @property
    def tokens(self) -> float:
        """Tokens of a step on all ranks, padding left out."""
        return self.ranks * self.accumulation * self.micro_batch * self.mean_tokens


@dataclass(frozen=True)
class Fit:
    """The fitted numbers."""

    efficiency: float
    """Share of the GPU's dense bf16 peak that compute reaches, recomputation counted."""
    offloading: float
    """Seconds that offloading takes over those that its bytes would at data-sheet rates."""


def seconds(work: Work, fit: Fit) -> float:
    """Seconds of one optimizer step."""
    waited_for = min(work.mean_tokens * _longest_of(work.ranks * work.micro_batch, work.spread), work.longest)
    # 6 operations a parameter and token (Kaplan et al., arXiv 2001.08361), causal attention 6 × layers × width ×
    # sequence; a third more where activations are recomputed. Ranks wait for each other in every micro batch, and an
    # example is padded to the longest beside it, so the longest of all counts.
    passes = 8 if work.recompute else 6
    operations = passes * (work.parameters + work.layers * work.width * waited_for)
    compute = work.micro_batch * waited_for * operations / (work.gpu.flops * fit.efficiency)
    # Parameters are gathered forward and backward and gradients scattered, beside the computation; or once a step.
    if work.sharded:
        step = work.accumulation * max(compute, 3 * _collective(work))
    else:
        step = work.accumulation * compute + 2 * _collective(work)
    return step + fit.offloading * _offloading(work)


def _offloading(work: Work) -> float:
    """Seconds of a step in which bytes move to, from and in host memory, at data-sheet rates."""
    share, link = work.parameters / work.ranks, work.gpu.host_link * LINKS
    seconds = 0.0
    if work.offload_parameters:
        seconds += 2 * work.accumulation * work.element * share / link
    if work.offload_optimizer:
        # The first micro batch writes its gradients to the host; each later one fetches and writes the sum.
        seconds += (2 * work.accumulation - 1) * work.accumulator * share / link + work.element * share / link
        seconds += ADAM_BYTES * work.parameters / work.nodes / HOST_MEMORY
    return seconds


def _collective(work: Work) -> float:
    """Seconds in which every GPU receives (or reduces) all parameters once; nodes' links run beside those inside."""
    size = work.element * work.parameters
    inside = size * (1 - 1 / work.gpus_per_node) / (work.gpu.link * LINKS)
    between = size * (1 - 1 / work.nodes) / (work.gpus_per_node * NETWORK * LINKS)
    return max(inside, between)


def _longest_of(count: int, spread: float) -> float:
    """Expected longest of `count` examples over the mean, for log-normal lengths (Blom's approximation)."""
    if count <= 1 or spread <= 0:
        return 1.0
    sigma = math.sqrt(math.log1p(spread**2))
    return max(math.exp(sigma * NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) - sigma**2 / 2), 1.0)


@dataclass(frozen=True)
class Published:
    """A training whose speed is public."""

    name: str
    source: str
    work: Work
    tokens_a_second: float
    """Of one GPU."""

    @property
    def took(self) -> float:
        """Seconds of an optimizer step."""
        return self.work.tokens / (self.work.ranks * self.tokens_a_second)


def _qwen32(
    *, nodes: int, accumulation: int, mean: float, spread: float, width: int = 5120, offload: bool = False
) -> Work:
    h100 = gpus.find("NVIDIA-H100-80GB-HBM3")
    assert h100 is not None
    return Work(
        parameters=32.8e9,
        layers=64,
        width=width,
        gpu=h100,
        nodes=nodes,
        gpus_per_node=8,
        micro_batch=1,
        accumulation=accumulation,
        mean_tokens=mean,
        spread=spread,
        longest=32768,
        element=2,
        recompute=True,
        sharded=True,
        offload_optimizer=offload,
        offload_parameters=offload,
        accumulator=2,
    )


PUBLISHED = (
    Published(
        "s1",
        "arXiv 2501.19393: 26 minutes on 16 H100 with FSDP for 4.7 M tokens × 5",
        _qwen32(nodes=2, accumulation=1, mean=4700, spread=SPREAD),
        942,
    ),
    Published(
        "Sky-T1",
        "NovaSky, January 2025: 19 hours on 8 H100, ZeRO-3 with everything offloaded; its token count is an estimate",
        _qwen32(nodes=1, accumulation=12, mean=4500, spread=SPREAD, offload=True),
        420,
    ),
    Published(
        "torchtitan",
        "torchtitan's own benchmark: Qwen3-32B on 8 H100, compiled, whole sequences",
        _qwen32(nodes=1, accumulation=1, mean=4096, spread=0, width=8192),
        1874,
    ),
)


def fit(runs: Sequence[Published]) -> Fit:
    """Efficiency from the runs that offload nothing (geometric mean), then offloading from the others; 1, what the
    data sheets say, where there is no such run. Raises ValueError without a run that offloads nothing."""
    plain = [run for run in runs if not run.work.offload_optimizer]
    if not plain:
        raise ValueError("no run to fit the efficiency of compute to")
    efficiency = _mean([_efficiency(run) for run in plain])
    slow = [_slowness(run, efficiency) for run in runs if run.work.offload_optimizer]
    return Fit(efficiency, _mean(slow) if slow else 1.0)


@lru_cache(maxsize=1)
def published() -> Fit:
    """What estimates use: the fit to all published runs."""
    return fit(PUBLISHED)


@lru_cache(maxsize=1)
def leave_one_out() -> dict[str, float]:
    """By run: the time predicted from the other runs over the time it took, less one."""
    return {
        run.name: seconds(run.work, fit([other for other in PUBLISHED if other is not run])) / run.took - 1
        for run in PUBLISHED
    }


def _efficiency(run: Published) -> float:
    """The efficiency at which the model takes as long as the run did; at most 1."""
    low, high = 0.01, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if seconds(run.work, Fit(middle, 1.0)) > run.took else (low, middle)
    return (low + high) / 2


def _slowness(run: Published, efficiency: float) -> float:
    computing = seconds(run.work, Fit(efficiency, 0.0))
    return max((run.took - computing) / _offloading(run.work), 1.0)


def _mean(values: Sequence[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))
