"""What weaker models' answers say about a question."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from distillstages.common import reasons
from distillstages.common.blocks import Difficulty, ScoreWindow
from distillstages.common.sources import Question
from distillstages.curate import difficulty, scores
from distillstages.curate.journal import Entry
from distillstages.curate.records import Answer

QUESTION = Question("k", "k", "pool", "1+1=?", "2")
WRONG, RIGHT, CUT, LOST = reasons.WRONG_ANSWER, None, reasons.TRUNCATED, reasons.REQUEST_FAILED


def journals(**verdicts: list[str | None]) -> Any:
    """Journals of models with these verdicts on their samples."""
    return {
        name: SimpleNamespace(
            entries={("difficulty/k", sample): Entry(0, 0, 0, (reason, "")) for sample, reason in enumerate(found)}
        )
        for name, found in verdicts.items()
    }


@pytest.mark.parametrize(
    ("one", "two", "window", "reason"),
    [
        ([WRONG], [WRONG], None, None),
        ([CUT], [WRONG], None, None),
        ([RIGHT], [WRONG], None, "TooEasy"),
        ([WRONG], [RIGHT], None, "TooEasy"),
        ([WRONG], [LOST], None, None),
        ([LOST], [LOST], None, "DifficultyUnknown"),
        ([reasons.UNVERIFIABLE_REFERENCE], [reasons.MALFORMED], None, "DifficultyUnknown"),
        ([WRONG, RIGHT], [WRONG, WRONG], (0.25, 0.75), None),
        ([RIGHT, RIGHT], [RIGHT, RIGHT], (0.25, 0.75), "TooEasy"),
        ([WRONG, WRONG], [WRONG, WRONG], (0.25, 0.75), "TooHard"),
        ([WRONG, LOST], [RIGHT, LOST], (0.5, 0.5), None),
    ],
)
def test_a_question_is_left_out_by_the_share_of_right_ones_among_answers_that_say_something(
    one: list[str | None], two: list[str | None], window: tuple[float, float] | None, reason: str | None
) -> None:
    keep = {"keep": "PassRate", "min_pass_rate": window[0], "max_pass_rate": window[1]} if window else {}
    config = Difficulty(models=["one", "two"], samples=len(one), **keep)
    found = difficulty.why(config, QUESTION, journals(one=one, two=two))
    assert (found[0] if found else None) == reason


def test_a_pass_rate_is_compared_exactly() -> None:
    config = Difficulty(models=["one"], samples=10, keep="PassRate", min_pass_rate=0.1, max_pass_rate=0.3)
    for right in range(11):
        found = difficulty.why(config, QUESTION, journals(one=[RIGHT] * right + [WRONG] * (10 - right)))
        assert (found is None) is (1 <= right <= 3)


def test_what_one_model_has_solved_the_next_is_asked_only_where_rates_count() -> None:
    solved = journals(one=[RIGHT], two=[])
    assert difficulty.undecided(Difficulty(models=["one", "two"]), [QUESTION], solved, "two") == []
    rates = Difficulty(models=["one", "two"], keep="PassRate", max_pass_rate=0.5)
    assert difficulty.undecided(rates, [QUESTION], solved, "two") == [QUESTION]


@pytest.mark.parametrize(
    ("response", "rating"),
    [
        ("4", 4.0),
        ("4.5", 4.5),
        ("10", 10.0),
        ("**7**", 7.0),
        ("Difficulty: 3.", 3.0),
        ("6/10", 6.0),
        ("9.0", 9.0),
        ("Like problem 12 of an AIME.\n\n5.5", 5.5),
        ("between 4 and 5", None),
        ("4-5", None),
        ("11", None),
        ("0", None),
        ("3.7", None),
        ("hard", None),
        ("", None),
    ],
)
def test_a_rating_is_one_number_of_the_scale_on_the_last_line(response: str, rating: float | None) -> None:
    assert scores.find(response) == rating


def test_a_rating_that_never_came_or_cannot_be_read_says_why() -> None:
    assert scores.verdict(Answer("k", 0, "<think>3 or 4</think>4.5")) == (None, "4.5")
    assert scores.verdict(Answer("k", 0, "no idea"))[0] == reasons.UNREADABLE_LABEL
    assert scores.verdict(Answer("k", 0, error=(LOST, "HTTP 500"))) == (reasons.UNREADABLE_LABEL, f"{LOST}: HTTP 500")


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        ((None, "4"), None),
        ((None, "9"), None),
        ((None, "3.5"), "TooEasy"),
        ((None, "9.5"), "TooHard"),
        ((reasons.UNREADABLE_LABEL, "found 'x'"), "DifficultyUnknown"),
    ],
)
def test_a_rated_question_stays_within_its_sources_window(verdict: tuple[str | None, str], reason: str | None) -> None:
    config = Difficulty(models=["m"], keep="Score", scores=[ScoreWindow(source="pool", min=4, max=9)])
    known: Any = {"m": SimpleNamespace(entries={("difficulty/k", 0): Entry(0, 0, 0, verdict)})}
    found = difficulty.why(config, QUESTION, known)
    assert (found[0] if found else None) == reason


def test_questions_of_sources_without_a_window_are_not_rated_and_stay() -> None:
    config = Difficulty(models=["m"], keep="Score", scores=[ScoreWindow(source="other", min=4)])
    assert difficulty.undecided(config, [QUESTION], journals(m=[]), "m") == []
    assert difficulty.why(config, QUESTION, journals(m=[])) is None
