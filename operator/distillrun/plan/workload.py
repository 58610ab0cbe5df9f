"""How much there is to train on, from what the curate stage reported. Untrusted: what is no number is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping

from distillrun.api.stages import Train

_DEFAULT_EPOCHS = "3"


def known(curated: Mapping[str, str] | None) -> tuple[int | None, int | None]:
    """(tokens of the dataset, tokens of its longest example), each None where it is not known."""
    if not curated:
        return None, None
    longest = whole(curated, "longestTokens")
    return tokens(curated), longest


def steps(train: Train, rows: int) -> int:
    """Optimizer steps: maxSteps, or the epochs' with the last, smaller batch of each counted."""
    if train.max_steps is not None:
        return train.max_steps
    epochs = float(train.epochs or _DEFAULT_EPOCHS)
    return max(math.ceil(epochs * math.ceil(rows / train.global_batch_size)), 1)


def examples(curated: Mapping[str, str]) -> int | None:
    """Rows of the dataset."""
    return whole(curated, "accepted")


def tokens(curated: Mapping[str, str]) -> int | None:
    """Tokens of the dataset: the stage's count if it made one, else the accepted share of what the teacher was asked
    and answered, in the teacher's tokens (another vocabulary, usually within a few percent)."""
    counted = whole(curated, "datasetTokens")
    if counted is not None:
        return counted
    accepted, rejected = whole(curated, "accepted"), whole(curated, "rejected") or 0
    asked, answered = whole(curated, "promptTokens") or 0, whole(curated, "completionTokens")
    if not accepted or answered is None:
        return None
    return (asked + answered) * accepted // (accepted + rejected)


def whole(curated: Mapping[str, str], name: str) -> int | None:
    """A non-negative whole number, bounded, or None."""
    text = curated.get(name)
    try:
        value = float(text) if isinstance(text, (str, int, float)) else -1.0
    except ValueError:
        return None
    return int(value) if 0 <= value < 1e15 else None
