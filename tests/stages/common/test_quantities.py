"""Quantities are exact: numbers, units, bases, times of day."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from distillstages.common import units
from distillstages.common.notation import tidy
from distillstages.common.quantities import compare, mathematics, number, read
from distillstages.common.verify import compare_quickly


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", Fraction(42)),
        ("-0.50", Fraction(-1, 2)),
        ("1,234,567", Fraction(1234567)),
        ("10 080", Fraction(10080)),
        ("3/4", Fraction(3, 4)),
        ("7.", Fraction(7)),
        (".5", Fraction(1, 2)),
        ("10,\\!080", Fraction(10080)),
        ("1/0", None),
        ("12,34", None),
        ("x", None),
        ("1-2", None),
        ("", None),
        (".", None),
        ("9" * 500, None),
        (r"\dfrac{-3}{4}", Fraction(-3, 4)),
        (r"-\frac{3}{-4}", Fraction(3, 4)),
        (r"\frac{1.5}{2}", Fraction(3, 4)),
        (r"1\frac{4}{5}", Fraction(9, 5)),
        ("-1 4/5", Fraction(-9, 5)),
        (r"2\frac{5}{4}", None),
        (r"2.5 \times 10^{3}", Fraction(2500)),
        (r"3\cdot10^{-2}", Fraction(3, 100)),
        ("2.5e3", Fraction(2500)),
        (r"0.\overline{27}", Fraction(3, 11)),
        (r"1.2\overline{3}", Fraction(37, 30)),
        (r".\overline{3}", Fraction(1, 3)),
        ("1,000,00", None),
        ("1 00", None),
    ],
)
def test_numbers_are_read_exactly(text: str, value: Fraction | None) -> None:
    found = number(tidy(text))
    assert (found and found.value) == value


@pytest.mark.parametrize(
    ("reference", "answer", "equal"),
    [
        # numbers
        ("7", "7.0", True),
        ("7", "7.000001", False),
        ("0.5", "1/2", True),
        (".0000672", ".0000673", False),
        (r"\frac{1}{3}", "0.333333", True),
        (r"\frac{2}{3}", "0.666667", True),
        (r"\frac{2}{3}", "0.666666", False),
        (r"\frac{1}{3}", "0.3333", False),
        ("0.333333", r"\frac{1}{3}", True),
        ("0.3333333", "0.333333", False),
        (r"\frac{1}{3000000}", "0.000000", False),
        (r"\frac{1}{64}", "0.015625", True),
        (r"\frac{1}{128}", "0.007812", False),
        # units
        (r"5.4 \text{ cents}", "5.4", True),
        (r"5.4 \text{ cents}", r"5.4 \text{ dollars}", False),
        (r"\$18.90", "18.9 dollars", True),
        (r"\$18.90", r"1890\text{ cents}", True),
        ("5 km", r"5000\text{ m}", True),
        (r"864 \mbox{ inches}^2", r"864 \text{ square inches}", True),
        (r"864 \mbox{ inches}^2", r"6\text{ square feet}", True),
        (r"864 \mbox{ inches}^2", r"864 \text{ in}^3", False),
        (r"15\mbox{ cm}^2", r"15\text{ cm}", False),
        ("90^\\circ", "90", True),
        ("90^\\circ", r"90\text{ degrees}", True),
        ("90^\\circ", r"90\text{ radians}", False),
        (r"12\text{ apples}", r"12\text{ pieces of fruit}", True),
        (r"12\text{ apples}", "13", False),
        ("60 mph", r"60 \text{ miles per hour}", True),
        (r"3\text{ hours}", r"180 \text{ minutes}", True),
        (r"5.4 \text{ cents}", "5.4¢", True),
        ("12", "1 2", None),
        # percent
        (r"50\%", "50", True),
        (r"50\%", "0.5", True),
        ("0.5", r"50\text{ percent}", True),
        (r"50\%", "5", False),
        (r"50\%", r"50.1\%", False),
        # bases
        ("52_8", "52_{8}", True),
        ("52_8", "52_9", False),
        ("52_8", "52_87", False),
        ("52_8", "53_8", False),
        ("52_8", "52", True),
        ("52_8", "53", False),
        ("1A_{16}", "1A_{16}", True),
        ("101_2 + 1_2", "101_2 + 1_3", False),
        # times of day
        (r"6:00 \text{ PM}", "6:00 p.m.", True),
        (r"6:00 \text{ PM}", r"6:00 \text{ AM}", False),
        (r"6:00 \text{ PM}", "6:00", True),
        (r"6:00 \text{ PM}", "6:01", False),
        (r"6:00 \text{ PM}", "6", False),
        # names
        ("x=5", "5", True),
        ("5", "n = 5", True),
        ("x=5", "x=6", False),
        ("x=5", "y=5", None),
        # not for us
        ("x^2", "x^3", None),
        ("3d", "3t", None),
        ("2k", "2", None),
        ("(1,2)", "(1,3)", None),
        ("3, 500", "3500", None),
    ],
)
def test_what_one_side_leaves_out_is_forgiven_and_what_both_write_agrees(
    reference: str, answer: str, equal: bool | None
) -> None:
    assert compare_quickly(reference, answer) is equal


def written(value: Fraction, form: int) -> str:
    """A number in one of several notations that can all say it."""
    sign, size = ("-" if value < 0 else ""), abs(value)
    whole, rest = divmod(size.numerator, size.denominator)
    if form == 0:
        return f"{sign}\\frac{{{size.numerator}}}{{{size.denominator}}}"
    if form == 1:
        return f"${sign}{size.numerator} / {size.denominator}$."
    if form == 2 and rest and whole:
        return f"{sign}{whole} \\tfrac{{{rest}}}{{{size.denominator}}}"
    if form == 3 and size.denominator == 1:
        return f"{sign}{whole:,}".replace(",", "{,}") + r" \text{ units}"
    if form == 4 and 10**6 % size.denominator == 0:
        return f"x = {sign}{whole}.{int(size % 1 * 10**6):06d}00"
    return f"\\dfrac{{{sign}{2 * size.numerator}}}{{{2 * size.denominator}}}"


NUMBERS = st.builds(
    Fraction, st.integers(-(10**6), 10**6), st.sampled_from([1, 1, 1, 2, 3, 7, 8, 10, 64, 100, 999, 1000])
)


@given(NUMBERS, NUMBERS, st.integers(0, 5), st.integers(0, 5))
def test_numbers_are_equal_exactly_when_they_are(one: Fraction, other: Fraction, first: int, second: int) -> None:
    assert compare_quickly(written(one, first), written(other, second)) is (one == other)
    assert compare_quickly(written(one, first), written(one, second)) is True


@given(NUMBERS, st.integers(0, 5), st.integers(1, 9), st.integers(1, 8))
def test_a_number_with_one_more_or_another_digit_is_another(
    value: Fraction, form: int, digit: int, places: int
) -> None:
    assume(value.denominator in (1, 2, 8, 10, 64, 100, 1000))
    moved = value + Fraction(digit, 10**places)
    assert compare_quickly(written(value, form), f"{moved.numerator}/{moved.denominator}") is False


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_makes_comparing_fail(one: str, other: str) -> None:
    compare(read(one), read(other))
    mathematics(read(one), read(other))


def test_units_of_a_dimension_convert_exactly() -> None:
    inch, foot = units.known("inch"), units.known("feet")
    assert units.ratio(foot, inch) == Fraction(1, 12)
    assert units.ratio(units.known("square feet"), units.known("in", 2)) == Fraction(1, 144)
    assert units.ratio(units.known("cubic meters"), units.known("square meters")) is None
    assert units.known("apples") is None


def test_math_verify_gets_both_sides_without_what_was_recognised() -> None:
    assert mathematics(read(r"12\pi \text{ cm}^2"), read(r"A = 12 \pi")) == (r"12\pi", r"12 \pi")
    assert mathematics(read("x=y"), read("z = y")) == ("x=y", "z = y")
    assert mathematics(read(r"\sqrt{2}\%"), read("2")) == (r"\sqrt{2}\%", "2")
