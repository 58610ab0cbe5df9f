"""TRL's SFTConfig out of our configuration."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillstages.common.blocks import Train
from distillstages.common.exit import ConfigFault
from distillstages.train.messages import first_line
from distillstages.train.plan import Batches

if TYPE_CHECKING:
    from trl import SFTConfig

_SCHEDULES = {"Cosine": "cosine", "Linear": "linear", "Constant": "constant_with_warmup"}

# Fields of SFTConfig that would undo what this stage guarantees, beside those that `build` sets.
_REFUSED = frozenset(
    {
        "packing",
        "padding_free",
        "eval_packing",
        "completion_only_loss",
        "assistant_only_loss",
        "chat_template_path",
        "eos_token",
        "pad_token",
        "optim",
        "optim_args",
        "fp16",
        "ignore_data_skip",
        "resume_from_checkpoint",
        "save_only_model",
        "auto_find_batch_size",
        "push_to_hub",
        "fsdp",
        "label_names",
        "loss_type",
        "label_smoothing_factor",
        "use_liger_kernel",
        "torch_compile",
        "load_best_model_at_end",
    }
)


def build(
    train: Train, batches: Batches, deepspeed: dict[str, Any], *, folder: Path, seed: int, on_gpu: bool
) -> SFTConfig:
    """The trainer's arguments. `folder` takes half-written checkpoints. Creating them makes from_pretrained load a
    model in ZeRO-3 shards from then on. Raises ConfigFault for a trainerArgs key that we own or that does not exist."""
    from trl import SFTConfig

    ours = _ours(train, batches, deepspeed, folder, seed, on_gpu)
    known = {each.name for each in dataclasses.fields(SFTConfig) if each.init}
    for name in train.trainer_args:
        if name in ours or name in _REFUSED:
            raise ConfigFault(f"trainerArgs must not set {name}: this stage sets it from its own fields")
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known - _REFUSED - ours.keys()), 1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise ConfigFault(f"trainerArgs: SFTConfig has no field {name}{hint}")
    try:
        return SFTConfig(**ours, **train.trainer_args)
    except (TypeError, ValueError) as error:
        if not train.trainer_args:
            raise
        raise ConfigFault(f"trainerArgs {train.trainer_args}: {first_line(error)}") from error


def _ours(
    train: Train, batches: Batches, deepspeed: dict[str, Any], folder: Path, seed: int, on_gpu: bool
) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "deepspeed": deepspeed,
        "max_length": None,  # TRL's default cuts at 1,024 tokens in silence; we have decided about lengths already
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,  # our collator reads our own columns
        "per_device_train_batch_size": batches.micro,
        "gradient_accumulation_steps": batches.accumulation,
        "average_tokens_across_devices": True,
        "num_train_epochs": train.epochs if train.epochs is not None else 1.0,
        "max_steps": train.max_steps if train.max_steps is not None else -1,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": _SCHEDULES[train.schedule],
        "warmup_steps": train.warmup_ratio,  # below 1 it is a share of all steps
        "weight_decay": train.weight_decay,
        "adam_beta1": train.betas[0],
        "adam_beta2": train.betas[1],
        "max_grad_norm": train.max_grad_norm,
        "bf16": train.precision == "BF16",
        "gradient_checkpointing": train.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if train.gradient_checkpointing else None,
        "save_strategy": "steps",
        "save_steps": train.checkpoint.every_steps,
        "save_total_limit": None,  # we publish and prune ourselves
        "eval_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is not a number has to be seen
        "include_num_input_tokens_seen": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "ddp_backend": "nccl" if on_gpu else "gloo",
    }
