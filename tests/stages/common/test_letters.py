"""Which letter a response gives, and which it does not."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.common.letters import LETTERS, chosen
from distillstages.common.verify import Verifier


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("So it is \\boxed{B}.", "B"),
        ("\\boxed{\\text{(b)}}", "B"),
        ("$\\boxed{\\textbf{(B) } 42}$", "B"),
        ("\\boxed{B. Paris}", "B"),
        ("\\boxed{B: 7, and that is all}", "B"),
        ("\\boxed{A} is wrong, it must be \\boxed{B}; of 42 cities", "B"),
        ("The answer is B.", "B"),
        ("The answer is (b), since 3 > 2.", "B"),
        ("**Answer:** B", "B"),
        ("Answer: **B**\nbecause of the 17 others", "B"),
        ("The correct answer is option B", "B"),
        ("The correct choice is $\\text{(B)}$", "B"),
        ("We compare all four.\n\n**B**", "B"),
        ("It cannot be A.\n(B)\n", "B"),
        ("\\boxed{A} and \\boxed{B}", None),
        ("\\boxed{A, B}", None),
        ("\\boxed{(A) and (B)}", None),
        ("\\boxed{E}", None),
        ("\\boxed{42}", None),
        ("\\boxed{b + c}", None),
        ("the answer is a triangle", None),
        ("The answer is 42.", None),
        ("A bird in the hand", None),
        ("", None),
    ],
)
def test_the_letter_is_what_the_response_says_it_chose(response: str, letter: str | None) -> None:
    assert chosen(response, 4) == letter


@given(st.text(), st.integers(2, 26))
def test_any_text_gives_one_of_the_letters_or_none(response: str, count: int) -> None:
    assert chosen(response, count) in (*LETTERS[:count], None)


@pytest.mark.parametrize(
    "hostile", ["\\boxed{" * 9000, "answer is " * 9000, "(A" * 20000, "*" * 60000, "\\text{" * 9000]
)
def test_a_hostile_text_costs_little(hostile: str) -> None:
    assert chosen(hostile, 4) is None


def test_a_multiple_choice_answer_is_judged_by_its_letter_alone() -> None:
    async def judge() -> list[tuple[bool, str | None, str | None]]:
        async with Verifier(workers=1) as verifier:
            said = [await verifier.verdict("B", text, 4) for text in ("\\boxed{B}", "\\boxed{C}", "It is 42.")]
            return [(v.accepted, v.reason, v.extracted) for v in said]

    assert asyncio.run(judge()) == [(True, None, "B"), (False, "WrongAnswer", "C"), (False, "NoAnswer", None)]
