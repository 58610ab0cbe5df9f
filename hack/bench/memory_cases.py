"""Small students and trainings whose peak memory is measured, and what the memory model says of them on a CPU.

On a CPU, GPU and host memory are one and nothing is page-locked, so a process's growth is the sum of both models less
what only a GPU has: CUDA's and NCCL's own memory, fragmentation of its allocator, page-locked rounding. Two things
the CPU has instead are added here: torch's AdamW makes one more temporary there (no `foreach`), and TRL's head without
Triton works on six fp32 copies of a tile.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from distillrun.api.stages import Train
from distillrun.plan import dimensions, disk, hostmemory, memory, trainsetup
from distillrun.plan.dimensions import Dimensions
from distillrun.plan.trainsetup import Setup

_TILE_COPIES = 6


@dataclass(frozen=True)
class Case:
    """One training: the student's config and `spec.train`, as differences from the first case's."""

    name: str
    model: dict[str, int | bool] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    full: bool = True
    """Whether only `make test-full` and `make bench-memory` measure it."""

    @property
    def config(self) -> dict[str, Any]:
        """config.json of the student."""
        return {
            "model_type": "qwen2",
            "vocab_size": 512,
            "hidden_size": 512,
            "intermediate_size": 1536,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": False,
            **self.model,
        }

    @property
    def spec(self) -> Train:
        """`spec.train`. A GPU is a process on the CPU here; what is measured is the larger of them."""
        block = {
            "gpusPerNode": 1,
            "maxSteps": 2,
            "globalBatchSize": 1,
            "maxSequenceLength": 512,
            "precision": "FP32",
            "gradientCheckpointing": True,
            **self.train,
        }
        offload = block.pop("offload", (False, False))
        raw = {"reduce_bucket_size": 1_000_000, "sub_group_size": block.pop("subGroup", 1_000_000_000)}
        block["deepspeed"] = {
            "zeroStage": block.pop("zeroStage", 3),
            "offloadOptimizer": offload[0],
            "offloadParameters": offload[1],
            "config": {"zero_optimization": raw},
        }
        return Train.model_validate(block)


_DEEP = {"num_hidden_layers": 18}
_KEPT = {"maxSequenceLength": 2048, "gradientCheckpointing": False, "subGroup": 4_000_000}

CASES = (
    Case(
        "tiny", {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64}, {"maxSequenceLength": 64}, False
    ),
    Case("18 layers", _DEEP, full=False),
    Case("6 layers"),
    Case("2,048 tokens, all activations kept", train=_KEPT),
    Case("bf16, everything offloaded", _DEEP, {"precision": "BF16", "offload": (True, True)}),
    Case("4,096 tokens", train={"maxSequenceLength": 4096, "subGroup": 4_000_000}),
    Case("32,768 words", {"vocab_size": 32768}),
    Case(
        "4 examples of 512 tokens", train=_KEPT | {"maxSequenceLength": 512, "microBatchSize": 4, "globalBatchSize": 4}
    ),
    Case("bf16", _DEEP, {"precision": "BF16"}),
    Case("bf16, 2,048 tokens, all activations kept", {"num_hidden_layers": 12}, {"precision": "BF16", **_KEPT}),
    Case("bf16, optimizer offloaded", _DEEP, {"precision": "BF16", "offload": (True, False)}),
    Case("keys of 2 heads for 8", {"num_key_value_heads": 2}, _KEPT),
    Case("2 ranks, parameters gathered", _DEEP, {"gpusPerNode": 2, "globalBatchSize": 2, "subGroup": 4_000_000}),
    Case("bf16, ZeRO-2", _DEEP, {"precision": "BF16", "zeroStage": 2}),
    Case("bf16, ZeRO-1", _DEEP, {"precision": "BF16", "zeroStage": 1}),
    Case("bf16, ZeRO-2, offloaded", _DEEP, {"precision": "BF16", "zeroStage": 2, "offload": (True, False)}),
)
"""The first is what the others are compared with: next to nothing beside Python, torch and DeepSpeed."""


def predicted(case: Case) -> tuple[int, int]:
    """Bytes by which the case's process grows above what one without a model takes, and bytes of a checkpoint."""
    d = dimensions.read({"student": {"dimensions": dimensions.of_config(case.config)}})
    assert isinstance(d, Dimensions)
    s = replace(trainsetup.of(case.spec), overlap=False, pinned=False)
    held = replace(memory.states(d, s), buckets=0).total  # a CPU's bucket is touched as far as gradients fill it
    held += sum(hostmemory.states(d, s).values())
    return held + max(sum(each.values()) for each in _moments(d, s)), disk.checkpoint(d, s)


def _moments(d: Dimensions, s: Setup) -> list[dict[str, int]]:
    tile = min(s.micro_batch * s.sequence, memory.TILE[0]) * min(d.vocabulary, memory.TILE[1])
    head = memory.head(d, s) | {"tile": 4 * _TILE_COPIES * tile}
    step = memory.step(d, s)
    if step:
        share = min(d.parameters, s.sub_group) if s.zero_stage == 3 else d.parameters
        step = step | {"second temporary": 4 * share}
    return [memory.layer(d, s), head, step]
