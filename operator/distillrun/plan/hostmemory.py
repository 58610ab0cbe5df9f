"""Memory of one host (of each training pod), as a sum of named parts.

What is offloaded lies there, most of it page-locked; torch rounds page-locked blocks up to powers of two and
keeps those that are freed (its CachingHostAllocator), which DeepSpeed's own estimators do not count. Neither do they
count the buffer in which ZeRO-3 adds gradients up (`grad_partitions_flat_buffer`), nor the whole model, which the first
rank gathers to save it.
"""

from __future__ import annotations

from distillrun.plan.dimensions import Dimensions
from distillrun.plan.memory import Parts, partition
from distillrun.plan.trainsetup import Setup

PROCESS = 4_000_000_000
"""Bytes of a rank's own: 0.9 GB measured for Python, torch, DeepSpeed and TRL, the rest for CUDA and NCCL."""

TOKEN = 44
"""Bytes a token of the dataset takes in every rank: a Python integer and its pointer, and Arrow's eight."""

MARGIN = 0.05
"""Share kept for the allocator's waste, page tables, and what a checkpoint being written has not yet flushed."""


def host(d: Dimensions, s: Setup, tokens: int | None = None) -> Parts:
    """The parts of the peak on one host. `tokens` are the dataset's, where they are known."""
    parts: dict[str, int] = {}
    rounding = 0
    for name, size, blocks in _rank(d, s):
        parts[name] = size * s.gpus_per_node
        rounding += sum(_power_of_two(block) - block for block in blocks) * s.gpus_per_node
    if s.pinned:
        parts["rounding of page-locked blocks"] = rounding
        parts["page-locked while loading"] = _loading_blocks(d, s) * s.gpus_per_node
    loading = s.gpus_per_node * s.element * d.parameters if s.zero_stage < 3 else 0
    saving = s.element * d.parameters
    parts["the model, loaded or gathered to be saved"] = max(saving, loading - sum(parts.values()))
    parts["processes"] = s.gpus_per_node * PROCESS
    parts["dataset"] = s.gpus_per_node * TOKEN * (tokens or 0)
    parts["margin"] = int(MARGIN * sum(parts.values()))
    return Parts({name: size for name, size in parts.items() if size})


def states(d: Dimensions, s: Setup) -> dict[str, int]:
    """Bytes by part that one rank's offloaded states take, before rounding."""
    return {name: size for name, size, _ in _rank(d, s)}


def _rank(d: Dimensions, s: Setup) -> list[tuple[str, int, list[int]]]:
    """(name, bytes, page-locked blocks among them) of what one rank keeps on its host."""
    share = partition(d.parameters, s.ranks)
    parts: list[tuple[str, int, list[int]]] = []
    if s.offload_parameters:
        parts.append(("parameters", s.element * share, [s.element * share]))
    if not s.offload_optimizer:
        return parts
    groups = _groups(share, s.sub_group) if s.zero_stage == 3 else [share]
    gradients = [4 * group for group in groups]
    if s.zero_stage == 3:
        parts.append(("optimizer", 12 * share, []))
        parts.append(("accumulated gradients", s.accumulator * share, [s.accumulator * share]))
    else:  # stages 1 and 2 also lock the master weights and a copy of them in the parameters' type
        parts.append(("optimizer", 12 * share, [4 * share]))
        parts.append(("copy of the parameters", s.element * share, [s.element * share]))
        if s.accumulation > 1:
            parts.append(("accumulated gradients", s.element * share, []))
    parts.append(("gradients", 4 * share, gradients))
    return parts


def _loading_blocks(d: Dimensions, s: Setup) -> int:
    """Bytes that zero.Init locks for each parameter's share as it is loaded. They are freed when DeepSpeed moves the
    shares into one buffer, but torch keeps freed page-locked blocks for requests of the same size, and none come."""
    if not s.offload_parameters:
        return 0
    embeddings = [d.head] * (1 if d.tied else 2)
    matrices = [*embeddings, *d.layer_matrices * d.layers]
    return sum(_power_of_two(s.element * partition(matrix, s.ranks)) for matrix in matrices)


def _groups(share: int, size: int) -> list[int]:
    """DeepSpeed's sub-groups of a rank's share: full ones and the rest. At most 4,096, beyond which it is one sum."""
    if share // size > 4096:
        return [share]
    return [size] * (share // size) + ([share % size] if share % size else [])


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length() if size > 0 else 0
