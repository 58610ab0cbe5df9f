"""What is left out before the teacher is asked: questions that repeat others, and those that benchmarks ask too."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from distillstages.common import reasons
from distillstages.common.blocks import Decontaminate, Deduplicate
from distillstages.common.sources import Question, read_questions
from distillstages.curate import deduplicate
from distillstages.curate.decontaminate import Benchmarks
from distillstages.curate.funnel import Funnel

_log = logging.getLogger("distillstages.curate")

Why = tuple[str, str]
"""(reason, detail)."""


class Filtered(NamedTuple):
    """A question that was left out."""

    question: Question
    step: str
    reason: str
    detail: str


def benchmarks_of(config: Decontaminate) -> Benchmarks:
    """All questions of the benchmarks. One that cannot be read ends the stage: skipped, it would go unnoticed until
    somebody trusts its score. Raises DataFault, Temporary."""
    benchmarks = Benchmarks(config.words)
    for source in config.against:
        number = benchmarks.add(source.name, (q.own_words for q in read_questions(source)))
        _log.info("benchmark read", extra={"fields": {"benchmark": source.name, "questions": number}})
    return benchmarks


def screen(
    questions: list[Question], once: Deduplicate, clean: Decontaminate, funnel: Funnel
) -> tuple[list[Question], list[Filtered]]:
    """(what is left, what is not), both in the order of the questions. Raises DataFault, Temporary."""
    filtered: list[Filtered] = []

    def step(name: str, judge: Callable[[list[Question]], list[Why | None]]) -> None:
        nonlocal questions
        verdicts = judge(questions)
        out = [Filtered(q, name, *why) for q, why in zip(questions, verdicts, strict=True) if why]
        funnel.add(name, "questions", len(questions), Counter(f.reason for f in out))
        questions = [q for q, why in zip(questions, verdicts, strict=True) if not why]
        filtered.extend(out)

    if once.exact:
        step("deduplicate", _repeated)
    if clean.against:
        benchmarks = benchmarks_of(clean)
        step("decontaminate", lambda asked: [_overlap(benchmarks, q) for q in asked])
    if once.near is not None:
        threshold = once.near
        step("deduplicate-near", lambda asked: _nearly_repeated(asked, threshold))
    return questions, filtered


def _repeated(questions: list[Question]) -> list[Why | None]:
    earlier = deduplicate.exact([q.question for q in questions])
    return [None if i is None else (reasons.DUPLICATE, _same_as(questions[i])) for i in earlier]


def _nearly_repeated(questions: list[Question], threshold: float) -> list[Why | None]:
    earlier = deduplicate.near([q.own_words for q in questions], threshold)
    return [None if i is None else (reasons.NEAR_DUPLICATE, _same_as(questions[i])) for i in earlier]


def _same_as(earlier: Question) -> str:
    return f"as {earlier.id} of {earlier.source}"


def _overlap(benchmarks: Benchmarks, question: Question) -> Why | None:
    found = benchmarks.overlap(question.own_words)
    return (reasons.CONTAMINATED, f"{found.benchmark}: {found.words}") if found else None
