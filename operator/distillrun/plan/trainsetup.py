"""How training spreads a model over GPUs and hosts, as numbers: the input of the memory and time models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distillrun.api.stages import Train

# DeepSpeed's defaults (its configuration reference, zero_optimization), in elements.
_BUCKET = 500_000_000
_SUB_GROUP = 1_000_000_000
_LIVE = 1_000_000_000
_LARGEST = 10**15


@dataclass(frozen=True)
class Setup:
    """One way to train. Sizes of buffers are elements, as in DeepSpeed's configuration."""

    nodes: int
    gpus_per_node: int
    zero_stage: int
    offload_optimizer: bool
    offload_parameters: bool
    global_batch: int
    micro_batch: int
    sequence: int
    """Tokens of the longest example."""
    checkpointing: bool
    """Whether activations are recomputed."""
    element: int
    """Bytes of a parameter in compute: 2 (bf16) or 4 (fp32)."""
    accumulator: int
    """Bytes of an element of the accumulated gradient."""
    bucket: int = _BUCKET
    sub_group: int = _SUB_GROUP
    live: int = _LIVE
    overlap: bool = True
    """Whether communication runs beside computation, which takes copies of buffers."""
    pinned: bool = True
    """Whether offloaded memory is page-locked."""

    @property
    def ranks(self) -> int:
        """Processes, one a GPU."""
        return self.nodes * self.gpus_per_node

    @property
    def fits_batch(self) -> bool:
        """Whether the global batch can be split evenly."""
        return self.global_batch % (self.micro_batch * self.ranks) == 0

    @property
    def accumulation(self) -> int:
        """Micro batches of an optimizer step on each rank."""
        return max(self.global_batch // (self.micro_batch * self.ranks), 1)


def of(train: Train, longest: int | None = None) -> Setup:
    """The setup that `spec.train` asks for. `longest` is the longest example's tokens where it is known.

    What `deepspeed.config` says of buffers and of the accumulator is followed where it is a sensible number.
    """
    raw = train.deepspeed.config
    element = 2 if train.precision == "BF16" else 4
    types = {"bf16": 2, "fp16": 2, "bfp16": 2}
    return Setup(
        nodes=train.nodes,
        gpus_per_node=train.gpus_per_node,
        zero_stage=train.deepspeed.zero_stage,
        offload_optimizer=train.deepspeed.offload_optimizer,
        offload_parameters=train.deepspeed.offload_parameters,
        global_batch=train.global_batch_size,
        micro_batch=train.micro_batch_size,
        sequence=min(train.max_sequence_length, longest or train.max_sequence_length),
        checkpointing=train.gradient_checkpointing,
        element=element,
        accumulator=types.get(str(_at(raw, "data_types", "grad_accum_dtype")), 4),
        bucket=_elements(raw, _BUCKET, "reduce_bucket_size"),
        sub_group=_elements(raw, _SUB_GROUP, "sub_group_size"),
        live=_elements(raw, _LIVE, "stage3_max_live_parameters", "max_live_parameters"),
        overlap=_at(raw, "zero_optimization", "overlap_comm") is not False,
        pinned=_at(raw, "zero_optimization", "offload_optimizer", "pin_memory") is not False,
    )


def _elements(raw: Mapping[str, Any], default: int, *names: str) -> int:
    for name in names:
        value = _at(raw, "zero_optimization", name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= _LARGEST:
            return int(value)
    return default


def _at(raw: Any, *path: str) -> Any:
    for name in path:
        raw = raw.get(name) if isinstance(raw, Mapping) else None
    return raw
