"""Which letter a response gives, and which it does not."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.common.letters import LETTERS, chosen, find, of_reference
from distillstages.common.verify import Verdict, Verifier

GIVEN = [
    # boxes
    (r"So it is \boxed{C}.", "C"),
    (r"\boxed{\text{(c)}}", "C"),
    (r"$\boxed{\textbf{(C) } 42}$", "C"),
    (r"\boxed{C. Paris}", "C"),
    (r"\boxed{C: 7, and that is all}", "C"),
    (r"\boxed{(C)\ \text{a cat}}", "C"),
    (r"\boxed{Option C}", "C"),
    (r"\boxed{A} is wrong, it must be \boxed{C}; of 42 cities", "C"),
    (r"The answer is A. No: \boxed{C}", "C"),
    (r"The answer is (C), which is $\boxed{42}$.", "C"),
    (r"\boxed{A}", "A"),
    (r"\boxed{A) 5}", "A"),
    (r"\boxed{\text{(C)}}", "C"),
    # statements
    ("The answer is C.", "C"),
    ("The correct answer is C.", "C"),
    ("The answer is (c), since 3 > 2.", "C"),
    ("Answer: C", "C"),
    ("ANSWER: C", "C"),
    ("answer: c", "C"),
    ("**Answer:** C", "C"),
    ("**Final Answer: C**", "C"),
    ("Answer:\n\n**C**", "C"),
    ("Answer: **C**\nbecause of the 17 others", "C"),
    ("Answer: C) 42 apples", "C"),
    ("Answer (C)", "C"),
    ("The correct answer is option C", "C"),
    ("The correct choice is $\\text{(C)}$", "C"),
    ("The best answer to the question is therefore C.", "C"),
    ("The right option would be C", "C"),
    ("I would choose C.", "C"),
    ("I'll go with option C, though A is tempting.", "C"),
    ("The answer is A because it is small.", "A"),
    ("The answer is A.", "A"),
    ("Answer: A", "A"),
    ("First I thought the answer is B. But the answer is C.", "C"),
    ("The answer is not A. The answer is C.", "C"),
    # that a letter is right
    ("Comparing them, (C) is correct.", "C"),
    ("Option A is wrong. Hence C is the correct answer", "C"),
    ("If A is correct, then water is dry. So C is right.", "C"),
    # lines and conclusions
    ("C", "C"),
    ("(C)", "C"),
    ("C.", "C"),
    ("We compare all four.\n\n**C**", "C"),
    ("It cannot be A.\n(C)\n", "C"),
    ("C\n\nA cell without one dies.", "C"),
    ("C) Paris", "C"),
    ("A. A bird in the hand", "A"),
    ("We rule out A and B. So it must be C.", "C"),
    ("Only one is left.\nHence (C).", "C"),
]
NOTHING = [
    "the answer is a triangle",
    "The answer is A triangle with equal sides",
    "The answer is 42.",
    "A bird in the hand",
    "A good answer is hard to find.",
    "I think that I need more time.",
    "The answer is not C",
    "The answer is Carbon",
    "The answer is C = 5",
    "The vitamin in question helps. Vitamin C is found in fruit",
    "Is C correct? I do not know whether C is correct.",
    "f(C) grows",
    "We first rule out (C).",
    r"\boxed{42}",
    r"\boxed{b + c}",
    r"\boxed{A = 5}",
    r"\boxed{\text{A triangle}}",
    r"\boxed{E}",
    "Answer: E",
    "Answer:",
    "",
]
SEVERAL = [
    r"\boxed{A} and \boxed{C}",
    r"\boxed{A, C}",
    r"\boxed{(A) and (C)}",
    r"\boxed{(A) 5 \text{ or } (C) 6}",
    "The answer is A or C.",
    "Answer: B/C",
    "Answer: (A), (B) and (C)",
    "The answer is either B or C",
    "B is correct. C is correct.",
    "B\n\nC",
    "A) one\nB) two\nC) three\nD) four",
    "So it is B or C.",
]


@pytest.mark.parametrize(("response", "letter"), GIVEN)
def test_the_letter_is_what_the_response_says_it_chose(response: str, letter: str) -> None:
    assert find(response, 4).letter == letter


@pytest.mark.parametrize("response", NOTHING)
def test_words_and_formulas_are_no_choice(response: str) -> None:
    found = find(response, 4)
    assert (found.letter, found.several) == (None, False)


@pytest.mark.parametrize("response", SEVERAL)
def test_more_than_one_letter_is_ambiguous_and_none(response: str) -> None:
    found = find(response, 4)
    assert (found.letter, found.several) == (None, True)


@pytest.mark.parametrize(
    ("reference", "letter"),
    [
        ("C", "C"), ("(C)", "C"), ("C.", "C"), ("C)", "C"), (r"\text{(C)}", "C"), ("(c)", "C"), (r"\textbf{C}", "C"),
        ("x", None), ("c", None), ("42", None), ("AB", None), ("C. Paris", None), ("", None),
    ],
)  # fmt: skip
def test_a_reference_that_is_a_letter(reference: str, letter: str | None) -> None:
    assert of_reference(reference) == letter


@given(st.text(), st.integers(2, 26))
def test_any_text_gives_one_of_the_letters_or_none(response: str, count: int) -> None:
    assert chosen(response, count) in (*LETTERS[:count], None)


@given(st.sampled_from("ABCDEFGHIJ"), st.sampled_from("ABCDEFGHIJ"))
def test_another_letter_is_never_taken_for_the_one_given(letter: str, other: str) -> None:
    said = f"Let us see. ({other}) looks good at first, but no.\nThe correct answer is {letter}."
    assert chosen(said, 10) == letter
    assert chosen(f"({other}) looks good at first.\n\\boxed{{{letter}}}", 10) == letter


@pytest.mark.parametrize(
    "piece",
    ["\\boxed{", "answer is ", "(A", "*", "\\text{", "A, ", "A or ", "answer to ", "so ", "A\n", "I choose ", "(A) "],
)
def test_a_hostile_text_costs_little(piece: str) -> None:
    find(piece * (60_000 // len(piece)), 4)


def judged(*pairs: tuple[str, str], choices: int = 0) -> list[Verdict]:
    async def judge() -> list[Verdict]:
        async with Verifier(workers=1) as verifier:
            return [await verifier.verdict(reference, response, choices) for reference, response in pairs]

    return asyncio.run(judge())


def test_a_multiple_choice_answer_is_judged_by_its_letter_alone() -> None:
    said = ("\\boxed{B}", "\\boxed{C}", "It is 42.", "The answer is B or C.")
    found = judged(*(("B", text) for text in said), choices=4)
    assert [(v.accepted, v.reason, v.extracted) for v in found] == [
        (True, None, "B"),
        (False, "WrongAnswer", "C"),
        (False, "NoAnswer", None),
        (False, "AmbiguousAnswer", None),
    ]
    assert found[2].detail == "the response names none of the letters A to D as its answer"


def test_a_reference_that_is_no_letter_is_unverifiable_where_a_letter_is_asked_for() -> None:
    (verdict,) = judged(("42", "\\boxed{42}"), choices=4)
    assert verdict.reason == "UnverifiableReference"


def test_a_reference_that_happens_to_be_a_letter_is_judged_by_letter_where_the_response_names_one() -> None:
    found = judged(
        ("C", "\\boxed{\\text{(C) } 42}"),
        ("\\text{(C)}", "Option A is wrong. Hence C is the correct answer"),
        ("C", "The answer is A or C."),
        ("C", "\\boxed{D. 7}"),
        ("C", "\\boxed{42}"),
        ("x", "\\boxed{x}"),
        ("S", "\\boxed{S}"),
    )
    assert [v.reason for v in found] == [None, None, "AmbiguousAnswer", "WrongAnswer", "WrongAnswer", None, None]
