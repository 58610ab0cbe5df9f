"""Whether a training fits: GPU memory, host memory and disk, and if not, the cheapest change that would.

The planner asks in every pass, so the answer is pure and quick, and remembered for equal questions. What nodes the
cluster has is not asked (it may scale from zero, and a namespaced operator cannot list nodes): the spec says what it
wants, in `train.gpuProduct`, `train.pod.resources.limits.memory` and `storage.claimTemplate.size`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from distillrun.api.v1alpha1 import Spec
from distillrun.plan import changes, dimensions, gpus, hostmemory, memory, quantity, trainsetup, workload
from distillrun.plan import disk as disks
from distillrun.plan.changes import Limits
from distillrun.plan.dimensions import Dimensions, Missing
from distillrun.plan.memory import Parts
from distillrun.plan.trainsetup import Setup

# Reasons, constants for programs.
FITS = "Fits"
GPU_MEMORY = "GpuMemory"
HOST_MEMORY = "HostMemory"
DISK = "Disk"
NOT_SUPPORTED = "NotSupported"
STUDENT_UNKNOWN = "StudentUnknown"
GPU_UNKNOWN = "GpuUnknown"
HOST_MEMORY_UNKNOWN = "HostMemoryUnknown"


@dataclass(frozen=True)
class Feasibility:
    """The answer. `reason` is one of this module's constants, `message` a sentence or two for people."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


@dataclass(frozen=True)
class Needs:
    """What a training takes at its peak, in parts: of each GPU, of each host, of the run's storage."""

    gpu: Parts
    host: Parts
    disk: Parts


def judge(spec: Spec, resolved: Mapping[str, Any] | None, curated: Mapping[str, str] | None) -> Feasibility:
    """Whether `spec.train` fits what it says about its GPUs, hosts and storage.

    `resolved` is `status.resolved` (untrusted), `curated` the headline numbers of the finished curate stage. Unknown
    where a figure is missing, with a sentence that names the field to set; False as soon as one limit is broken, even
    where others are unknown.
    """
    uneven = _uneven(spec, dimensions.heads(resolved))
    if uneven:
        return Feasibility("False", NOT_SUPPORTED, uneven)
    student = dimensions.read(resolved)
    if isinstance(student, Missing):
        return Feasibility("Unknown", STUDENT_UNKNOWN, f"Memory and disk are not checked: {student.why}.")
    tokens, longest = workload.known(curated)
    setup = trainsetup.of(spec.train, longest)
    return _judge(student, setup, limits(spec, curated), tokens)


def _uneven(spec: Spec, heads: int | None) -> str:
    """What vLLM would refuse once the student is trained: attention heads that its GPUs cannot share evenly. "" if
    nothing. Source: vLLM 0.32, config/model.py, verify_with_parallel_config."""
    for name, part in (("evaluate", spec.evaluate), ("serve", spec.serve)):
        if part is not None and heads and heads % part.engine.tensor_parallel:
            field, asked = f"{name}.engine.tensorParallel", part.engine.tensor_parallel
            fitting = next(count for count in range(min(asked, heads), 0, -1) if heads % count == 0)
            return (
                f"vLLM cannot share the student's {heads} attention heads over {asked} GPUs, {field}: it must divide"
                f" them. Cheapest change: {field}: {fitting}."
            )
    return ""


def needs(student: Dimensions, setup: Setup, limits: Limits, tokens: int | None = None) -> Needs:
    """The parts of each peak."""
    return Needs(
        memory.gpu(student, setup),
        hostmemory.host(student, setup, tokens),
        disks.disk(student, setup, limits.keep, limits.every, limits.steps),
    )


def limits(spec: Spec, curated: Mapping[str, str] | None = None) -> Limits:
    """What the spec says that there is, and how many checkpoints training writes."""
    rows = workload.examples(curated or {})
    memory_limit = spec.train.pod.resources.limits.get("memory")
    template = spec.storage.claim_template
    return Limits(
        product=spec.train.gpu_product,
        host=quantity.to_bytes(memory_limit) if memory_limit else None,
        disk=quantity.to_bytes(template.size) if template else None,
        shared=template is None or "ReadWriteMany" in template.access_modes,
        keep=spec.train.checkpoint.keep,
        every=spec.train.checkpoint.every_steps,
        steps=workload.steps(spec.train, rows) if rows else spec.train.max_steps,
    )


@lru_cache(maxsize=4096)
def _judge(student: Dimensions, setup: Setup, limits: Limits, tokens: int | None) -> Feasibility:
    if setup.zero_stage == 0 and setup.accumulator != setup.element:
        return Feasibility(
            "False",
            NOT_SUPPORTED,
            "DeepSpeed without ZeRO cannot add the gradients of a bf16 model up in fp32. Cheapest change: "
            "train.deepspeed.zeroStage: 1.",
        )
    need = needs(student, setup, limits, tokens)
    gpu = gpus.find(limits.product)
    broken: list[tuple[str, str]] = []
    if gpu is not None and need.gpu.total > gpu.memory:
        broken.append((GPU_MEMORY, f"{_needs(need.gpu)} on each GPU; {gpu.product} has {quantity.words(gpu.memory)}"))
    if limits.host is not None and need.host.total > limits.host:
        has = f"train.pod.resources.limits.memory is {quantity.words(limits.host)}"
        broken.append((HOST_MEMORY, f"{_needs(need.host)} of host memory in each training pod; {has}"))
    if limits.disk is not None and need.disk.total > limits.disk:
        has = f"storage.claimTemplate.size is {quantity.words(limits.disk)}"
        broken.append((DISK, f"{_needs(need.disk)} of storage; {has}"))
    if broken:
        problems = " ".join(f"Training needs {words}." for _, words in broken)
        return Feasibility("False", broken[0][0], f"{problems} {changes.advice(student, setup, limits, tokens)}")
    return _fits(need, limits, gpu)


def _fits(need: Needs, limits: Limits, gpu: gpus.Gpu | None) -> Feasibility:
    on_gpu, on_host, on_disk = (quantity.words(part.total) for part in (need.gpu, need.host, need.disk))
    if gpu is None:
        why = "train.gpuProduct is not set"
        if limits.product:
            why = f"train.gpuProduct {limits.product!r} is not known (known: {', '.join(g.product for g in gpus.GPUS)})"
        return Feasibility(
            "Unknown",
            GPU_UNKNOWN,
            f"GPU memory is not checked: {why}; set it to the GPU nodes' label nvidia.com/gpu.product. Training needs "
            f"{on_gpu} on each GPU, {on_host} of host memory in each pod and {on_disk} of storage.",
        )
    fits = f"{on_gpu} of {quantity.words(gpu.memory)} on each {gpu.product}"
    if limits.host is None:
        return Feasibility(
            "Unknown",
            HOST_MEMORY_UNKNOWN,
            f"GPU memory fits ({fits}); host memory is not checked. Training needs {on_host} in each pod: set "
            "train.pod.resources.limits.memory to what a node can give.",
        )
    storage = (
        f"{on_disk} of {quantity.words(limits.disk)} storage" if limits.disk else f"{on_disk} of storage, unchecked"
    )
    message = f"Training takes {fits}, {on_host} of {quantity.words(limits.host)} host memory in each pod, {storage}."
    return Feasibility("True", FITS, message)


def _needs(parts: Parts) -> str:
    largest = sorted(parts.parts.items(), key=lambda part: -part[1])[:3]
    return f"{quantity.words(parts.total)} ({', '.join(f'{name} {quantity.words(size)}' for name, size in largest)})"
