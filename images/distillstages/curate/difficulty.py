"""Which questions are hard enough to teach: weaker models answer them first (s1, arXiv 2501.19393, section 2.2).

A question's pass rate is the share of right ones among the answers that say something about it. An answer that never
came, cannot be read as one, or cannot be checked says nothing; a wrong one, none at all, or one that was cut off at
`maxTokens` is a failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, NamedTuple

import pyarrow as pa

from distillstages.common import reasons
from distillstages.common.blocks import Difficulty, Generate
from distillstages.common.sources import Question
from distillstages.curate.journal import Journal, Key
from distillstages.curate.records import trace_of
from distillstages.curate.screening import Why

STEP: Final = "difficulty"
_SAYS_NOTHING: Final = frozenset(
    {
        reasons.REQUEST_FAILED,
        reasons.REQUEST_REFUSED,
        reasons.CONTENT_FILTERED,
        reasons.MALFORMED,
        reasons.UNVERIFIABLE_REFERENCE,
        reasons.VERIFY_TIMEOUT,
        reasons.VERIFY_FAILED,
    }
)
COLUMNS: Final = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("id", "source", "question", "reference", "model")),
        pa.field("sample", pa.int32(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("thinking", "response", "reason", "detail")),
    ]
)
"""Of the artifact: each weaker model's answers with their verdicts; `reason` is "" for a right one."""


class Passed(NamedTuple):
    """Right answers, out of those that say something."""

    right: int
    answers: int


def generate(config: Difficulty) -> Generate:
    """How the weaker models are asked: the question by itself."""
    return Generate(samples=config.samples, temperature=config.temperature, max_tokens=config.max_tokens)


def keys(config: Difficulty, questions: Sequence[Question]) -> list[Key]:
    """What one model is asked."""
    return [(f"{STEP}/{question.key}", sample) for question in questions for sample in range(config.samples)]


def undecided(
    config: Difficulty, questions: Sequence[Question], journals: Mapping[str, Journal], model: str
) -> list[Question]:
    """The questions that the model has still to answer: where only failures are kept, a question that a model before it
    has solved is out already, and asking more would cost and change nothing. Of ratings, those whose source has a
    window."""
    if config.keep == "Score":
        rated = {window.source for window in config.scores}
        return [question for question in questions if question.source in rated]
    if config.keep == "PassRate":
        return list(questions)
    before = config.models[: config.models.index(model)]
    return [q for q in questions if not any(_passed(config, q, journals[name]).right for name in before)]


def why(config: Difficulty, question: Question, journals: Mapping[str, Journal]) -> Why | None:
    """Why a question is left out, None where it is kept."""
    if config.keep == "Score":
        return _rated(config, question, journals[config.models[0]])
    found = [_passed(config, question, journals[name]) for name in config.models]
    right, answers = sum(each.right for each in found), sum(each.answers for each in found)
    detail = f"{right} of {answers} answers of {', '.join(config.models)} are right"
    if not answers:
        return reasons.DIFFICULTY_UNKNOWN, f"no answer of {', '.join(config.models)} could be judged"
    if config.keep == "Failed":
        return (reasons.TOO_EASY, detail) if right else None
    rate = Fraction(right, answers)
    if rate > Fraction(repr(config.max_pass_rate)):
        return reasons.TOO_EASY, detail
    return (reasons.TOO_HARD, detail) if rate < Fraction(repr(config.min_pass_rate)) else None


def _rated(config: Difficulty, question: Question, journal: Journal) -> Why | None:
    window = next((window for window in config.scores if window.source == question.source), None)
    if window is None:
        return None
    verdict = journal.entries[f"{STEP}/{question.key}", 0].verdict
    assert verdict is not None
    reason, said = verdict
    if reason is not None:
        return reasons.DIFFICULTY_UNKNOWN, said
    detail = f"rated {said} by {config.models[0]}, and source {window.source} takes {window.min:g} to {window.max:g}"
    if float(said) < window.min:
        return reasons.TOO_EASY, detail
    return (reasons.TOO_HARD, detail) if float(said) > window.max else None


def _passed(config: Difficulty, question: Question, journal: Journal) -> Passed:
    verdicts = [
        entry.verdict[0]
        for sample in range(config.samples)
        if (entry := journal.entries.get((f"{STEP}/{question.key}", sample))) and entry.verdict
    ]
    return Passed(sum(reason is None for reason in verdicts), sum(reason not in _SAYS_NOTHING for reason in verdicts))


def rows(
    config: Difficulty, questions: Sequence[Question], journals: Mapping[str, Journal]
) -> Iterator[dict[str, Any]]:
    """Rows of the artifact, in the order of the questions, models and samples."""
    for question in questions:
        for model in config.models:
            for sample in range(config.samples):
                key = (f"{STEP}/{question.key}", sample)
                entry = journals[model].entries.get(key)
                if entry is None or entry.verdict is None:
                    continue
                trace = trace_of(journals[model].read(key))
                yield {
                    "id": question.id,
                    "source": question.source,
                    "question": question.question,
                    "reference": question.reference,
                    "model": model,
                    "sample": sample,
                    "thinking": trace.thinking,
                    "response": trace.response,
                    "reason": entry.verdict[0] or "",
                    "detail": entry.verdict[1],
                }
