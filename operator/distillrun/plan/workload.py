"""How much there is to train on, from what the curate stage reported. Untrusted: what is no number is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from distillrun.api.stages import Train
from distillrun.api.v1alpha1 import Spec

_DEFAULT_EPOCHS = "3"


def known(curated: Mapping[str, str] | None) -> tuple[int | None, int | None]:
    """(tokens of the dataset, tokens of its longest example), each None where it is not known."""
    if not curated:
        return None, None
    longest = whole(curated, "longestTokens")
    return tokens(curated), longest


def bound(spec: Spec, resolved: Mapping[str, Any] | None) -> dict[str, str]:
    """What curation can report at most, from what the sources were found to hold: every answer accepted, and each as
    long as `curate.generate.maxTokens` and `train.maxSequenceLength` allow. Empty where a source's rows are not known.
    """
    found = (resolved or {}).get("sources")
    items = [each for each in found if isinstance(each, Mapping)] if isinstance(found, list | tuple) else []
    rows = {str(each.get("name")): whole({"rows": each.get("rows", "")}, "rows") for each in items}
    total = 0
    for source in spec.curate.sources:
        known = [count for count in (rows.get(source.name), source.take) if count is not None]
        if not known:
            return {}
        total += min(known)
    examples = total * spec.curate.generate.samples
    rewritten = spec.curate.rewrite.max_tokens if spec.curate.rewrite else 0
    length = min(max(spec.curate.generate.max_tokens, rewritten), spec.train.max_sequence_length)
    numbers = {
        "accepted": examples,
        "datasetTokens": examples * length,
        "longestTokens": length,
        "datasetSquaredTokens": examples * length**2,
    }
    return {name: str(number) for name, number in numbers.items()}


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
