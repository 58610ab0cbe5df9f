"""What the ranks tell each other and the world after each optimizer step."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from distillstages.common.artifacts import Output
from distillstages.common.exit import Fault
from distillstages.common.files import storage_errors
from distillstages.common.metrics import Metrics
from distillstages.common.progress import Progress

_CLAIM_SECONDS = 30.0


class Report(TrainerCallback):
    """Counts tokens over all ranks, agrees on stopping, and on rank 0 (`log` not None) writes the numbers.

    A SIGTERM may reach one rank only, and a checkpoint needs all of them: so each step the ranks add up who was asked
    to stop, and if anyone was, all save a checkpoint after the same step and end (`stopped` is then True).
    `tokens()` is this rank's count of tokens so far. Every rank shows its own steps (`metrics`): they tell its
    supervisor that it is alive, and from the first one on, standing still counts."""

    def __init__(
        self,
        stopping: threading.Event,
        tokens: Callable[[], int],
        *,
        log: StepLog | None,
        metrics: Metrics,
        device: torch.device,
    ) -> None:
        self.metrics = metrics
        self.stopping = stopping
        self.tokens = tokens
        self.log = log
        self.device = device
        self.stopped = False
        self._tokens_before = 0
        self._step_tokens = 0
        self._since = time.monotonic()
        self._step_seconds = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Shows where training starts from."""
        self._since = time.monotonic()
        if self.log:
            self.log.begin(state.global_step, state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """One small all-reduce: tokens of this step, and whether any rank was asked to stop."""
        now = self.tokens()
        sums = torch.tensor([now - self._tokens_before, int(self.stopping.is_set())], dtype=torch.int64)
        sums = sums.to(self.device)
        if dist.is_initialized():
            dist.all_reduce(sums)
        self._tokens_before = now
        self._step_tokens, asked = (int(value) for value in sums.tolist())
        self._step_seconds, self._since = time.monotonic() - self._since, time.monotonic()
        self.metrics.set("step", state.global_step)
        self.metrics.set_patience(1.0)
        if state.global_step >= state.max_steps:
            control.should_save = False  # the model itself follows at once
        elif asked:
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Writes the step's numbers. Raises Fault for a loss that is not a number: it never becomes one again."""
        if not logs or "loss" not in logs:
            return
        loss, gradient_norm = float(logs["loss"]), float(logs.get("grad_norm", math.nan))
        if self.log:
            self.log.step(
                state.global_step,
                loss=loss,
                gradient_norm=gradient_norm,
                learning_rate=float(logs.get("learning_rate", math.nan)),
                tokens=self._step_tokens,
                seconds=self._step_seconds,
            )
        if not math.isfinite(loss):
            raise Fault(
                f"the loss is {loss} at step {state.global_step} (gradient norm {gradient_norm}): training has "
                "diverged. Lower learningRate, raise warmupRatio, or look for broken rows in the dataset"
            )


class StepLog:
    """metrics.jsonl (one line a step, appended by every attempt), the progress port and the progress bar.

    An attempt that was overtaken learns it here within half a minute, and frees its GPUs."""

    def __init__(
        self, output: Output, metrics: Metrics, progress: Progress, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.output = output
        self.path = output.path("metrics.jsonl")
        self.metrics = metrics
        self.progress = progress
        self._clock = clock
        self._asked = clock()

    def begin(self, done: int, total: int) -> None:
        """Training starts after `done` of `total` steps."""
        self.progress.update(done, total=total)

    def step(
        self, step: int, *, loss: float, gradient_norm: float, learning_rate: float, tokens: int, seconds: float
    ) -> None:
        """One optimizer step over `tokens` tokens (all ranks, padding left out) that took `seconds`. Raises Temporary
        SupersededAttempt."""
        if self._clock() - self._asked >= _CLAIM_SECONDS:
            self.output.check_claim()
            self._asked = self._clock()
        rate = tokens / seconds if seconds > 0 else 0.0
        line = {
            "step": step,
            "loss": _number(loss),
            "gradNorm": _number(gradient_norm),
            "learningRate": _number(learning_rate),
            "tokens": tokens,
            "time": round(time.time(), 3),
            "attempt": self.output.attempt,
            "claim": self.output.token,
        }
        with storage_errors(str(self.path)), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in (
            ("loss", loss),
            ("gradient_norm", gradient_norm),
            ("learning_rate", learning_rate),
            ("tokens_per_second", rate),
            ("step_seconds", seconds),
        ):
            self.metrics.set(name, value)
        self.progress.update(step, loss=loss, tokensPerSecond=round(rate, 1), learningRate=learning_rate)

    def checkpoint(self, step: int, at: float) -> None:
        """The newest whole checkpoint is one after `step` steps, made `at` (Unix time, s)."""
        self.metrics.set("checkpoint_step", step)
        self.metrics.set("checkpoint_timestamp_seconds", at)

    def tokens(self) -> int:
        """Tokens trained on in all attempts, each step counted once."""
        return sum(int(line["tokens"]) for line in read_steps(self.path).values())


def read_steps(path: Path) -> dict[int, dict[str, Any]]:
    """metrics.jsonl by step, of each the last line of the newest claim: a resumed run repeats steps, and an attempt
    that was overtaken may still write some. Broken lines are skipped."""
    steps: dict[int, dict[str, Any]] = {}
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return steps
    for line in text.splitlines():
        try:
            row = json.loads(line)
            step, claim = int(row["step"]), int(row.get("claim", 0))
            if step not in steps or claim >= steps[step].get("claim", 0):
                steps[step] = row
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a line that was being written when its process was killed
    return steps


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
