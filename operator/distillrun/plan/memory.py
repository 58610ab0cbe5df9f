"""Memory of one GPU at the peak of a training step, as a sum of named parts.

A pure model of what images/distillstages/train does: Hugging Face's decoder layers under DeepSpeed (ZeRO: Rajbhandari
et al., arXiv 1910.02054; ZeRO-Offload: arXiv 2101.06840), torch's fused attention, and TRL's head, which computes
logits in tiles and never holds all of them. Activations are counted tensor by tensor as autograd saves them (the
method of Korthikanti et al., arXiv 2205.05198), since none of the usual per-layer constants fits a gated MLP with
RMSNorm. Compared with measured peaks in hack/bench/measure_memory.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distillrun.plan.dimensions import Dimensions
from distillrun.plan.trainsetup import Setup

RUNTIME = 2_500_000_000
"""Bytes that CUDA's context, the kernels it loads and NCCL's buffers take on each GPU, beside torch's allocator."""

FRAGMENTATION = 0.04
"""Share of what is allocated that torch's caching allocator holds beside it in blocks of the wrong size."""

TILE = (4096, 32768)
"""Tokens and vocabulary entries of TRL's tiles of logits."""


@dataclass(frozen=True)
class Parts:
    """Bytes by what they hold."""

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class States:
    """Bytes a GPU holds from the first step to the last."""

    parameters: int
    gradients: int
    optimizer: int
    buckets: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.parameters + self.gradients + self.optimizer + self.buckets


def partition(parameters: int, ranks: int) -> int:
    """Parameters of one rank's share."""
    return -(-parameters // ranks)


def states(d: Dimensions, s: Setup) -> States:
    """What model states and DeepSpeed's buffers take on one GPU."""
    everything, share = d.parameters, partition(d.parameters, s.ranks)
    bucket = min(s.bucket, everything) if s.zero_stage == 0 else s.bucket
    if s.zero_stage == 0:  # every rank holds all; fp32 only, so there is no second copy of the weights
        return States(s.element * everything, s.element * everything, 8 * everything, 0)
    if s.zero_stage == 1:
        # Gradients stay in the parameters' type until the step, and are added up in the accumulator's.
        accumulated = s.element + (s.accumulator if s.accumulator != s.element else 0)
        # With bf16 and an fp32 accumulator DeepSpeed takes its BF16_Optimizer, which has no buckets.
        buckets = 0 if not s.offload_optimizer and s.accumulator != s.element else _buckets(s, bucket)
        optimizer = s.element * _largest(d) if s.offload_optimizer else 12 * share
        return States(s.element * everything, accumulated * everything, optimizer, buckets)
    if s.zero_stage == 2:
        if s.offload_optimizer:  # one gradient at a time goes to the host
            return States(s.element * everything, 0, s.element * _largest(d), _buckets(s, bucket))
        accumulated = s.element + (s.accumulator if s.accumulator != s.element else 0)
        return States(s.element * everything, accumulated * share, 12 * share, _buckets(s, bucket))
    return States(
        parameters=0 if s.offload_parameters else s.element * share,
        gradients=0 if s.offload_optimizer else s.accumulator * share,
        # In fp32, too, there is a copy of the weights: DeepSpeed compares a device with a name and finds them unequal.
        optimizer=0 if s.offload_optimizer else 12 * share,
        buckets=s.element * bucket,
    )


def _buckets(s: Setup, bucket: int) -> int:
    return s.element * bucket * (2 if s.overlap else 1)


def _largest(d: Dimensions) -> int:
    return max(d.head, *d.layer_matrices)


def saved_by_layer(d: Dimensions, s: Setup) -> int:
    """Bytes that autograd keeps of one layer's forward pass for its backward pass."""
    e, tokens = s.element, s.micro_batch * s.sequence
    # A norm keeps its input and its scaled input, both fp32 or the latter once more in bf16; its output is kept by
    # the matrices that read it.
    norm = (4 + e + e if e < 4 else 4 + 4 + 4) * d.hidden
    queries_keys = (4 + e if e < 4 else 8) * (d.queries + d.keys) if d.qk_norm else 0
    # Attention keeps q, k, v, its output and a logarithm a head and token. With padding (more than one example) torch
    # takes a mask, for which keys and values are repeated for every head.
    keys = d.queries if s.micro_batch > 1 else d.keys
    attention = e * (2 * d.queries + 2 * keys) + 4 * d.heads + queries_keys
    mlp = 4 * e * d.intermediate  # gate, its activation, up, their product
    return tokens * (2 * norm + attention + mlp) + _mask(s)


def _mask(s: Setup) -> int:
    """The attention mask in the type of the scores, (examples, 1, tokens, tokens), kept by each layer."""
    return s.element * s.micro_batch * s.sequence**2 if s.micro_batch > 1 else 0


def gpu(d: Dimensions, s: Setup) -> Parts:
    """The parts of the peak on one GPU: of the moment of a step (below) at which most is held."""
    held = states(d, s)
    moment = max((layer(d, s), head(d, s), step(d, s)), key=lambda each: sum(each.values()))
    parts = {
        "parameters": held.parameters,
        "gradients": held.gradients,
        "optimizer": held.optimizer,
        "communication buckets": held.buckets,
        **moment,
    }
    parts["fragmentation"] = int(FRAGMENTATION * sum(parts.values()))
    parts["CUDA and NCCL"] = RUNTIME
    return Parts({name: size for name, size in parts.items() if size})


def _activations(d: Dimensions, s: Setup) -> int:
    """What is kept of all layers when the backward pass begins: their inputs, or everything."""
    tokens = s.micro_batch * s.sequence
    layers = d.layers * (tokens * s.element * d.hidden if s.checkpointing else saved_by_layer(d, s))
    rotary = 2 * tokens * s.element * d.head_dim
    mask = s.micro_batch * s.sequence**2 if s.micro_batch > 1 else 0  # as bools, once
    return layers + rotary + mask


def _gathered(d: Dimensions, s: Setup, module: int) -> int:
    """Parameters that ZeRO-3 has put together from all ranks (or fetched from the host): prefetched, in use or soon
    used again, and those of the module at work."""
    if s.zero_stage < 3 or (s.ranks == 1 and not s.offload_parameters):
        return 0
    return s.element * min(d.parameters, s.live + module)


def layer(d: Dimensions, s: Setup) -> dict[str, int]:
    """In the backward pass of the last layer: its activations beside what is kept of the others."""
    tokens, matrices = s.micro_batch * s.sequence, sum(d.layer_matrices)
    recomputed = saved_by_layer(d, s) if s.checkpointing else 0
    flowing = tokens * s.element * (2 * d.intermediate + 2 * d.hidden)  # gradients of activations
    fresh = s.element * matrices if s.zero_stage >= 2 else 0  # in stage 0 and 1 `states` has all gradients
    if d.tied and s.zero_stage >= 2:
        fresh += s.element * d.head  # the head's gradient waits for the embedding's
    reduced = s.element * min(s.bucket, d.parameters) if s.ranks > 1 and s.zero_stage >= 2 else 0
    return {
        "activations": _activations(d, s) + recomputed + flowing,
        "gathered parameters": _gathered(d, s, matrices),
        "gradients in flight": fresh + reduced,
    }


def head(d: Dimensions, s: Setup) -> dict[str, int]:
    """In the backward pass of the head: its gradient is summed in fp32, logits exist one tile at a time."""
    tokens = s.micro_batch * s.sequence
    tile = s.element * min(tokens, TILE[0]) * min(d.vocabulary, TILE[1])
    # The last norm's input (fp32), scaled input, output, and the rows that have a label; their gradient in fp32.
    last = tokens * d.hidden * (4 + 3 * s.element) + tokens * d.hidden * (4 + s.element)
    weight = d.head * (4 + (s.element if s.element < 4 else 0))
    return {
        "activations": _activations(d, s),
        "logits": tile + last + weight,
        "gathered parameters": _gathered(d, s, d.head),
    }


def step(d: Dimensions, s: Setup) -> dict[str, int]:
    """In the optimizer step: a sub-group's gradient in fp32, and the square root of its second moment."""
    if s.offload_optimizer:
        return {}
    share = partition(d.parameters, s.ranks) if s.zero_stage else d.parameters
    group = min(share, s.sub_group) if s.zero_stage == 3 else share
    return {"optimizer step": (8 if s.zero_stage == 3 else 4) * group}
