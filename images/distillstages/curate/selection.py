"""What becomes of each answer: rejected for a reason, accepted, or accepted and not selected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from distillstages.common import reasons
from distillstages.common.blocks import Select
from distillstages.common.sources import Question
from distillstages.curate.funnel import Funnel
from distillstages.curate.select import Candidate, select

_MAY_BE_KEPT: Final = frozenset(
    {
        reasons.WRONG_ANSWER,
        reasons.NO_ANSWER,
        reasons.UNVERIFIABLE_REFERENCE,
        reasons.VERIFY_TIMEOUT,
        reasons.VERIFY_FAILED,
        reasons.NO_CODE,
        reasons.TESTS_FAILED,
        reasons.RUNTIME_ERROR,
        reasons.TIME_LIMIT,
        reasons.MEMORY_LIMIT,
        reasons.OUTPUT_LIMIT,
        reasons.FORBIDDEN,
    }
)


class Judged:
    """An answer with its verdict. `fate`: the reason for which it is not in the data set, None where it is."""

    __slots__ = ("detail", "fate", "question", "right", "sample")

    def __init__(self, question: Question, sample: int, reason: str | None, detail: str, *, keep_wrong: bool) -> None:
        self.question = question
        self.sample = sample
        self.right = reason is None
        self.fate = None if keep_wrong and reason in _MAY_BE_KEPT else reason
        self.detail = detail

    @property
    def key(self) -> tuple[str, int]:
        """The answer's key in the teacher's journal."""
        return self.question.key, self.sample


def narrow(
    config: Select,
    judged: list[Judged],
    length: Callable[[Judged], int],
    domain: Callable[[Question], str],
    seed: int,
    funnel: Funnel,
) -> None:
    """Mark what is not selected. `length` gives a trace's tokens, `domain` a question's domain."""
    if config.strategy == "All":
        return
    accepted = [each for each in judged if each.fate is None]
    least = {each.source: each.min_tokens for each in config.preselect}

    def candidate(each: Judged) -> Candidate:
        tokens, source = length(each), each.question.source
        first = each.right and source in least and tokens >= least[source]
        return Candidate(f"{each.question.key}-{each.sample:03}", tokens, domain(each.question), first)

    candidates = [candidate(each) for each in accepted]
    chosen = set(select(candidates, config.strategy, config.size, seed, config.variant))
    for index, each in enumerate(accepted):
        if index not in chosen:
            each.fate = reasons.NOT_SELECTED
            each.detail = f"not among the {config.size} of strategy {config.strategy}"
    funnel.add("select", "traces", len(accepted), {reasons.NOT_SELECTED: len(accepted) - len(chosen)})
