"""The cheapest change of a spec that would fit, found by trying changes in the order of what they cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from distillrun.plan import disk as disks
from distillrun.plan import gpus, hostmemory, memory, quantity
from distillrun.plan.dimensions import Dimensions
from distillrun.plan.trainsetup import Setup

# What a change costs, for the order alone: smaller micro batches and more partitioning cost little time, recomputing a
# third, offloading a multiple, GPUs and nodes money and a place in the queue. To offload less is faster.
_SMALLER_MICRO, _ZERO3, _RECOMPUTE = 1, 2, 3
_OFFLOAD = {(False, False): 0, (True, False): 6, (True, True): 9}
_GPUS, _NODES = 20, 40
_MOST_GPUS, _MOST_NODES = 8, 16
"""GPUs of a host and nodes that are proposed at most (or what the spec has, if more)."""


@dataclass(frozen=True)
class Limits:
    """What the spec says that there is. None: not known."""

    product: str
    host: int | None
    """Bytes of host memory of each training pod."""
    disk: int | None
    """Bytes of the run's storage."""
    shared: bool
    """Whether several nodes can mount the storage."""
    keep: int
    every: int
    steps: int | None


def advice(student: Dimensions, setup: Setup, limits: Limits, tokens: int | None) -> str:
    """A sentence: the cheapest change with what it needs then, and bigger hosts or storage where they would do."""
    sentences = []
    if not _memory_fits(student, setup, limits, tokens):
        sentences.append(_memory_advice(student, setup, limits, tokens))
    need = disks.disk(student, setup, limits.keep, limits.every, limits.steps).total
    if limits.disk is not None and need > limits.disk:
        sentences.append(_disk_advice(student, setup, limits, need))
    return " ".join(sentences)


def _memory_advice(student: Dimensions, setup: Setup, limits: Limits, tokens: int | None) -> str:
    for candidate in sorted(_candidates(setup), key=lambda each: _cost(setup, each)):
        if _memory_fits(student, candidate, limits, tokens):
            on_gpu = quantity.words(memory.gpu(student, candidate).total)
            on_host = quantity.words(hostmemory.host(student, candidate, tokens).total)
            words = f"Cheapest change that fits: {', '.join(_words(setup, candidate, limits))}"
            words += f" ({on_gpu} on each GPU, {on_host} of host memory in each pod)"
            return f"{words}{_bigger_hosts(student, setup, limits, tokens)}."
    tried = f"{max(_MOST_NODES, setup.nodes)} nodes of {max(_MOST_GPUS, setup.gpus_per_node)} GPUs"
    hosts = _bigger_hosts(student, setup, limits, tokens)
    return (
        f"Nothing that was tried fits, up to {tried}{hosts}: a smaller student, or shorter examples "
        f"(train.maxSequenceLength is {setup.sequence}) would."
    )


def _memory_fits(student: Dimensions, setup: Setup, limits: Limits, tokens: int | None) -> bool:
    gpu = gpus.find(limits.product)
    if gpu is not None and memory.gpu(student, setup).total > gpu.memory:
        return False
    return limits.host is None or hostmemory.host(student, setup, tokens).total <= limits.host


def _bigger_hosts(student: Dimensions, setup: Setup, limits: Limits, tokens: int | None) -> str:
    """Bigger hosts instead, where host memory is what is missing."""
    need = hostmemory.host(student, setup, tokens).total
    if (
        limits.host is None
        or need <= limits.host
        or not _memory_fits(student, setup, replace(limits, host=None), tokens)
    ):
        return ""
    return f"; or bigger hosts: train.pod.resources.limits.memory: {quantity.gibibytes(need)}"


def _candidates(setup: Setup) -> Iterator[Setup]:
    """Setups that differ in some of: micro batch, ZeRO stage, recomputing, offloading, GPUs a node, nodes."""
    choices = itertools.product(
        sorted({setup.micro_batch, 1}),
        sorted({setup.zero_stage, 3}),
        sorted({setup.checkpointing, True}),
        _OFFLOAD,
        [setup.gpus_per_node, *(n for n in (2, 4, 8) if setup.gpus_per_node < n <= _MOST_GPUS)],
        [setup.nodes, *(n for n in (2, 4, 8, 16) if setup.nodes < n <= _MOST_NODES)],
    )
    for micro, stage, checkpointing, (optimizer, parameters), per_node, nodes in choices:
        candidate = replace(
            setup,
            micro_batch=micro,
            zero_stage=stage,
            checkpointing=checkpointing,
            offload_optimizer=optimizer,
            offload_parameters=parameters,
            gpus_per_node=per_node,
            nodes=nodes,
        )
        if candidate != setup and candidate.fits_batch and not (parameters and stage < 3):
            yield candidate


def _cost(setup: Setup, candidate: Setup) -> float:
    offloading = _OFFLOAD[candidate.offload_optimizer, candidate.offload_parameters]
    offloaded = _OFFLOAD.get((setup.offload_optimizer, setup.offload_parameters), 0)
    return (
        _SMALLER_MICRO * (candidate.micro_batch < setup.micro_batch)
        + _ZERO3 * (candidate.zero_stage > setup.zero_stage)
        + _RECOMPUTE * (candidate.checkpointing and not setup.checkpointing)
        # A change back costs no time, but it is a change: fewer of them are preferred.
        + (offloading - offloaded if offloading > offloaded else 0.5 * (offloading != offloaded))
        + _GPUS * (candidate.gpus_per_node / setup.gpus_per_node - 1)
        + _NODES * (candidate.nodes / setup.nodes - 1)
    )


def _words(setup: Setup, candidate: Setup, limits: Limits) -> list[str]:
    words = []
    if candidate.micro_batch != setup.micro_batch:
        words.append(f"train.microBatchSize: {candidate.micro_batch}")
    if candidate.zero_stage != setup.zero_stage:
        words.append(f"train.deepspeed.zeroStage: {candidate.zero_stage}")
    if candidate.checkpointing != setup.checkpointing:
        words.append("train.gradientCheckpointing: true")
    if candidate.offload_optimizer != setup.offload_optimizer:
        words.append(f"train.deepspeed.offloadOptimizer: {str(candidate.offload_optimizer).lower()}")
    if candidate.offload_parameters != setup.offload_parameters:
        words.append(f"train.deepspeed.offloadParameters: {str(candidate.offload_parameters).lower()}")
    if candidate.gpus_per_node != setup.gpus_per_node:
        words.append(f"train.gpusPerNode: {candidate.gpus_per_node}")
    if candidate.nodes != setup.nodes:
        words.append(f"train.nodes: {candidate.nodes}")
        if not limits.shared:
            words.append("with ReadWriteMany in storage.claimTemplate.accessModes")
    return words


def _disk_advice(student: Dimensions, setup: Setup, limits: Limits, need: int) -> str:
    larger = f"storage.claimTemplate.size: {quantity.gibibytes(need)}"
    if limits.keep > 1:
        fewer = disks.disk(student, setup, 1, limits.every, limits.steps).total
        if limits.disk is not None and fewer <= limits.disk:
            return f"Cheapest change that fits: train.checkpoint.keep: 1 ({quantity.words(fewer)}); or {larger}."
    return f"Cheapest change that fits: {larger}."
