"""DeepSpeed's configuration as a pure function of ours.

Sources: DeepSpeed's configuration reference (zero_optimization, data_types, optimizer). Where its default differs from
what is here, the reason stands beside the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distillstages.common.blocks import Train
from distillstages.common.exit import ConfigFault
from distillstages.train.plan import Batches

OWNED: Mapping[str, str] = {
    "train_batch_size": "globalBatchSize",
    "train_micro_batch_size_per_gpu": "microBatchSize",
    "gradient_accumulation_steps": "globalBatchSize and microBatchSize",
    "gradient_clipping": "maxGradNorm",
    "bf16": "precision",
    "fp16": "precision",
    "optimizer": "learningRate, betas, weightDecay",
    "scheduler": "schedule, warmupRatio",
    "zero_optimization.stage": "deepspeed.zeroStage",
    "zero_optimization.offload_optimizer.device": "deepspeed.offloadOptimizer",
    "zero_optimization.offload_param.device": "deepspeed.offloadParameters",
    "zero_optimization.stage3_gather_16bit_weights_on_model_save": "nothing: without it no model could be saved",
}
"""Keys of DeepSpeed that our own fields set, and those fields."""


def build(train: Train, batches: Batches, *, on_gpu: bool) -> dict[str, Any]:
    """The dictionary for deepspeed.initialize. Raises ConfigFault for a raw key that we own or a stage that cannot
    offload what is asked for."""
    settings = train.deepspeed
    if settings.offload_parameters and settings.zero_stage != 3:
        raise ConfigFault(
            f"deepspeed.offloadParameters needs zeroStage 3, it is {settings.zero_stage}; set the one or the other"
        )
    if settings.offload_optimizer and settings.zero_stage == 0:
        raise ConfigFault("deepspeed.offloadOptimizer needs zeroStage 1 or more, it is 0; set it to false")
    _refuse_owned(settings.config)
    return _merge(_ours(train, batches, on_gpu), settings.config)


def _ours(train: Train, batches: Batches, on_gpu: bool) -> dict[str, Any]:
    return {
        "train_batch_size": batches.examples,
        "train_micro_batch_size_per_gpu": batches.micro,
        "gradient_accumulation_steps": batches.accumulation,
        "gradient_clipping": train.max_grad_norm,
        "bf16": {"enabled": train.precision == "BF16"},
        # The default accumulates in the parameters' type: bf16 loses small gradients over many micro batches.
        "data_types": {"grad_accum_dtype": "fp32"},
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": train.learning_rate,
                "betas": list(train.betas),
                "eps": 1e-8,
                "weight_decay": train.weight_decay,
                # On the device torch's own AdamW: DeepSpeed's would be compiled at the first start.
                "torch_adam": not train.deepspeed.offload_optimizer,
            },
        },
        "zero_optimization": _zero(train, on_gpu),
        "steps_per_print": 1 << 40,  # we report ourselves
    }


def _zero(train: Train, on_gpu: bool) -> dict[str, Any]:
    settings = train.deepspeed
    zero: dict[str, Any] = {"stage": settings.zero_stage}
    if settings.zero_stage == 0:
        return zero
    zero["contiguous_gradients"] = True
    # Without an accelerator there is no stream to overlap on, only one more copy of each bucket.
    zero["overlap_comm"] = on_gpu
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": on_gpu}
    if settings.zero_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        if settings.offload_parameters:
            zero["offload_param"] = {"device": "cpu", "pin_memory": on_gpu}
    return zero


def _refuse_owned(raw: Mapping[str, Any]) -> None:
    for path, field in OWNED.items():
        node: Any = raw
        for key in path.split("."):
            if not isinstance(node, Mapping) or key not in node:
                break
            node = node[key]
        else:
            raise ConfigFault(f"deepspeed.config must not set {path}: it follows from {field}")


def _merge(ours: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(ours)
    for key, value in raw.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
