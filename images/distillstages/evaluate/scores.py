"""From records to scores.

The score is pass@1: the mean over all answers of all questions. Its interval is Wilson's at 95 %, over questions: with
several samples a question, the answers to one question hang together, so the questions are the trials and the mean
share of right answers to each adds up to the successes. More samples make the score steadier and do not make the
interval narrower than the number of questions allows (a benchmark of 30 questions stays one of 30 questions).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from distillstages.common import reasons
from distillstages.evaluate import wilson
from distillstages.evaluate.records import Record

METRIC: Final = "accuracy"
API_VERSION: Final = "distillrun.dev/scores/v1"
_DIGITS: Final = 6


@dataclass(frozen=True)
class Score:
    """How one model did in one benchmark. `questions` and `samples` a question; `right` of `answers` are correct;
    `truncated` answers were cut at the token limit, `unverifiable` ones stand against a reference that math-verify
    cannot read (they count as wrong)."""

    benchmark: str
    model: str
    questions: int
    samples: int
    right: int
    truncated: int
    unverifiable: int
    too_long: int
    tokens: int

    @property
    def answers(self) -> int:
        """Questions times samples."""
        return self.questions * self.samples

    @property
    def value(self) -> float:
        """Accuracy, 0 to 1."""
        return self.right / self.answers

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson, 95 %, over questions."""
        return wilson.interval(self.right / self.samples, self.questions)

    def numbers(self) -> dict[str, Any]:
        """The entry in the termination message. `n` counts questions; `correct` too, and is fractional when several
        samples were drawn (value × n)."""
        low, high = self.interval
        correct = self.right / self.samples
        return {
            "benchmark": self.benchmark,
            "model": self.model,
            "metric": METRIC,
            "value": round(self.value, _DIGITS),
            "low": round(low, _DIGITS),
            "high": round(high, _DIGITS),
            "n": self.questions,
            "correct": int(correct) if correct.is_integer() else round(correct, _DIGITS),
        }

    def details(self) -> dict[str, Any]:
        """The entry in scores.json: the same and what explains it."""
        return self.numbers() | {
            "samples": self.samples,
            "answers": self.answers,
            "right": self.right,
            "truncated": self.truncated,
            "unverifiable": self.unverifiable,
            "promptTooLong": self.too_long,
            "tokens": self.tokens,
        }


def score(benchmark: str, model: str, questions: int, samples: int, records: Sequence[Record]) -> Score:
    """Count. Raises ValueError unless there is one record for each question and sample."""
    if questions < 1 or len(records) != questions * samples:
        raise ValueError(
            f"benchmark {benchmark!r}, model {model!r}: {len(records)} records, expected {questions} × {samples}"
        )
    return Score(
        benchmark,
        model,
        questions,
        samples,
        right=sum(r.correct for r in records),
        truncated=sum(r.finish_reason == "length" for r in records),
        unverifiable=sum(r.reason == reasons.UNVERIFIABLE_REFERENCE for r in records),
        too_long=sum(r.finish_reason == PROMPT_TOO_LONG for r in records),
        tokens=sum(r.tokens for r in records),
    )


PROMPT_TOO_LONG: Final = "promptTooLong"


def document(scores: Sequence[Score], settings: Mapping[str, Any]) -> bytes:
    """scores.json: every score with its details, how the interval was made, and the settings it holds for."""
    content = {
        "apiVersion": API_VERSION,
        "interval": {"method": "Wilson", "confidence": 0.95, "over": "questions"},
        "scores": [s.details() for s in scores],
        "settings": dict(settings),
    }
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()
