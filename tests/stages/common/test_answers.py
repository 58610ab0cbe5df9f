"""Which answer a response gives, and how plain numbers are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.common import quantities
from distillstages.common.answers import boxed, extract, reference_of


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("so \\boxed{42}.", "42"),
        ("\\boxed{1} was wrong, it is \\boxed{\\frac{1}{2}} and not 3", "\\frac{1}{2}"),
        ("\\boxed{\\text{the set } \\{1, 2\\}}", "\\text{the set } \\{1, 2\\}"),
        ("$x = \\boxed{3}$ or $\\boxed{-3}$", "3, -3"),
        ("\\boxed {7}", "7"),
        ("12 + 30 = 42\n#### 42", "42"),
        ("The answer is 18 dollars. She keeps 2.", "18"),
        ("**Answer:** $\\frac{3}{4}$", "\\frac{3}{4}"),
        ("Final answer: (C)", "(C)"),
        ("A: 1,234", "1,234"),
        ("The sum of 3 and 4 is 7.", "7"),
        ("It costs $1,234.50 in total.", "1,234.50"),
        ("That is 3/4 of it", "3/4"),
        ("so $x = \\sqrt{2}$.", "x = \\sqrt{2}"),
        ("-5", "-5"),
        ("no idea", None),
        ("", None),
        ("\\boxed{", None),
        ("\\boxed{}", None),
    ],
)
def test_the_answer_of_a_response(response: str, answer: str | None) -> None:
    assert extract(response) == answer


@given(st.integers(-(10**12), 10**12))
def test_a_boxed_number_is_found_whatever_stands_around_it(number: int) -> None:
    found = extract(f"We tried 17 and 23.\n\nThe answer is \\boxed{{{number:,}}}. Check: 99.")
    assert found is not None
    value = quantities.number(found)
    assert value is not None
    assert value.value == number


@given(st.text())
def test_no_text_makes_extraction_fail(text: str) -> None:
    extract(text)
    reference_of(text)


@pytest.mark.parametrize("piece", ["\\boxed{", "$", "\\(", "answer is", "A: ", "9,", "1/", "{", "\\", " ", "#### "])
def test_a_long_hostile_text_is_searched_in_bounded_time(piece: str) -> None:
    # Bounded by the patterns, not by a clock: this would take hours were a search quadratic in the whole text.
    extract(piece * (3_000_000 // len(piece)))
    assert boxed("\\boxed{1}" + piece * 100) in ("1", None)
