"""TRL's SFTTrainer with our loss normalisation and our way to keep checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from trl import SFTTrainer

from distillstages.common.metrics import Metrics
from distillstages.common.stall import START_FACTOR
from distillstages.train.examples import IGNORED, labels

Normalization = Literal["Token", "Sequence"]


class Collator:
    """Pads examples ({"input_ids", "completion_start"}) to the longest of a micro batch, on the right.

    Returns int64 tensors of shape (examples, tokens): input_ids, attention_mask (0 on padding), labels (IGNORED on
    padding and on the first `completion_start` tokens; loss on everything with `on_all`)."""

    def __init__(self, padding: int, *, on_all: bool = False) -> None:
        self.padding = padding
        self.on_all = on_all

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(example["input_ids"]) for example in examples)
        shape = (len(examples), longest)
        batch = {
            "input_ids": torch.full(shape, self.padding, dtype=torch.int64),
            "attention_mask": torch.zeros(shape, dtype=torch.int64),
            "labels": torch.full(shape, IGNORED, dtype=torch.int64),
        }
        for row, example in enumerate(examples):
            ids, start = example["input_ids"], 0 if self.on_all else example["completion_start"]
            batch["input_ids"][row, : len(ids)] = torch.as_tensor(ids)
            batch["attention_mask"][row, : len(ids)] = 1
            batch["labels"][row, : len(ids)] = torch.as_tensor(labels(ids, start))
        return batch


class Trainer(SFTTrainer):
    """SFTTrainer whose loss is averaged over the whole global batch, over all micro batches and ranks:

    Token: every token with a label weighs the same. Sequence: every example weighs the same, its loss being the mean
    over its tokens (what micro batch 1 without accumulation does, s1's setting).

    `publish(step)` is called on every rank after all of its checkpoint files are written. `tokens` counts this rank's
    tokens (padding left out) since the trainer was made. While it saves, `metrics` ask for patience."""

    def __init__(
        self,
        *args: Any,
        normalization: Normalization,
        publish: Callable[[int], None],
        metrics: Metrics,
        **kwargs: Any,
    ) -> None:
        self._gauges = metrics  # `_metrics` is SFTTrainer's own
        self._normalization = normalization
        self._publish = publish
        self.tokens = 0
        super().__init__(*args, **kwargs)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        """The global batch's weight: its labelled tokens, or its examples, over all micro batches and ranks."""
        counts = [
            (each["labels"][:, 1:] != IGNORED).sum() if self._normalization == "Token" else len(each["labels"])
            for each in batch_samples
        ]
        total = torch.as_tensor(sum(int(count) for count in counts), dtype=torch.int64, device=device)
        return self.accelerator.reduce(total, "sum")

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The micro batch's part of the loss, times the number of ranks, since ZeRO averages gradients over them."""
        self.tokens += int(inputs["attention_mask"].sum())
        outputs = model(**inputs, fused_lm_head=True, use_cache=False)  # log_probs: (examples, tokens - 1), 0 if masked
        losses = -outputs.log_probs
        if self._normalization == "Sequence":
            losses = losses.sum(dim=1) / outputs.label_mask.sum(dim=1).clamp(min=1)
        loss = losses.sum() / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The gathered model; not for checkpoints, which hold DeepSpeed's own shards."""
        if not _internal_call:
            super().save_model(output_dir)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: it would ask the hub about the base model."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with self._gauges.patience(START_FACTOR):
            super()._save_checkpoint(model, trial)
            self._publish(self.state.global_step)
