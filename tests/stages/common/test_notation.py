"""Rules of notation: each has its table, and none makes two different numbers equal."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.common import notation
from distillstages.common.notation import RULES, tidy, words
from distillstages.common.quantities import number

TABLE: dict[str, list[tuple[str, str]]] = {
    "_unicode": [
        ("−3", "-3"),
        ("5¢", r"5\text{ cents}"),
        ("2π", r"2\pi "),
        ("x²³", "x^{23}"),
        ("52₈", "52_{8}"),
        ("1½", r"1\frac{1}{2}"),
        ("50%", r"50\%"),
        (r"50\%", r"50\%"),
        ("(−∞, 3]", r"(-\infty , 3]"),
    ],
    "_unwrap": [
        ("$5$.", "5"),
        ("5;", "5"),
        (r"\( 5 \)", "5"),
        (r"\[x+1\]", "x+1"),
        ("**12**", "12"),
        ("{5}", "5"),
        (r"\{5\}", r"\{5\}"),
        ("{5}{6}", "{5}{6}"),
        ("1, 2, ...", "1, 2, ..."),
        (r"\$5", r"\$5"),
        ("$x$ and $y$", "$x$ and $y$"),
    ],
    "_groups": [
        ("10{,}080", "10080"),
        (r"11,\! 111,\! 111", "11111111"),
        ("10, \\!080", "10080"),
        ("(3,500)", "(3,500)"),
        ("3{,}5", "3{,}5"),
        ("1{,}2345", "1{,}2345"),
    ],
    "_spaces": [(r"1\,+~2\quad x", "1 + 2 x"), (r"a\\ b", r"a\\ b"), (r"1\!2", "12"), (r"\quadratic", r"\quadratic")],
    "_sizes": [
        (r"\left( 1, 2 \right]", "( 1, 2 ]"),
        (r"\bigl[1\bigr]", "[1]"),
        (r"\displaystyle x", "x"),
        (r"A \leftarrow B \bigcup C", r"A \leftarrow B \bigcup C"),
    ],
    "_brackets": [
        (r"\lbrace 3, 5 \rbrace", r"\{3, 5 \}"),
        (r"\langle 1, 2\rangle", "(1, 2)"),
        (r"\lbrackx", r"\lbrackx"),
    ],
    "_fonts": [
        (r"\underline{42}", "{42}"),
        (r"\textbf{\text{C}}", r"\text{C}"),
        (r"5\mathrm{ cm}", r"5\text{ cm}"),
        (r"\mathbf{5}", "{5}"),
        (r"\text{12}", "12"),
        (r"\text{5 apples}", r"5 \text{apples}"),
        (r"\mathrm{e}^{\mathrm{i}}", "e^{i}"),
        (r"\mathbb{R}", r"\mathbb{R}"),
        (r"5\text{ m}", r"5\text{ m}"),
    ],
    "_degrees": [
        ("120^o", r"120^{\circ}"),
        ("90^\\circ", r"90^{\circ}"), ("90^{\\circ}", r"90^{\circ}"), (r"90\degree", r"90^{\circ}")],
    "_fractions": [
        (r"\dfrac43", r"\frac{4}{3}"),
        (r"\frac 59", r"\frac{5}{9}"),
        (r"\frac9{19}", r"\frac{9}{19}"),
        (r"\frac{1}2", r"\frac{1}{2}"),
        (r"\frac123", r"\frac{1}{2}3"),
        (r"\frac{x+1}{2}", r"\frac{x+1}{2}"),
    ],
    "_roots": [
        ("√20", r"\sqrt{20}"),
        ("√{20}", r"\sqrt{20}"),
        ("√(x+1)", r"\sqrt{x+1}"),
        (r"\sqrt2", r"\sqrt{2}"),
        (r"\sqrt[2]{5}", r"\sqrt{5}"),
        (r"\sqrt[3]{5}", r"\sqrt[3]{5}"),
        ("3*sqrt(13)", r"3*\sqrt{13}"),
    ],
    "_infinity": [
        (r"(2,+\infty)", r"(2,\infty)"),
        (r"(-\infty, + \infty)", r"(-\infty,\infty)"),
        (r"1+\infty", r"1+\infty"),
    ],
    "_rows": [(r"1 \\[1ex] 2", r"1 \\  2"), (r"1 \\ [1,2]", r"1 \\ [1,2]")],
    "_bases": [
        ("52_8", "52_{8}"),
        ("(52)_{8}", "52_{8}"),
        (r"52_{\text{eight}}", "52_{8}"),
        (r"52_{(8)}", "52_{8}"),
        (r"52 \text{ (base 8)}", "52_{8}"),
        ("52_87", "52_87"),
        ("x_1", "x_1"),
        ("log_2 8", "log_2 8"),
    ],
}  # fmt: skip


def test_every_rule_has_a_table() -> None:
    assert {rule.__name__ for rule in RULES} == set(TABLE)


@pytest.mark.parametrize(
    ("rule", "before", "after"), [(rule, *row) for rule, rows in TABLE.items() for row in rows], ids=str
)
def test_a_rule_writes_notation_in_one_way(rule: str, before: str, after: str) -> None:
    assert getattr(notation, rule)(before) == after


PLAIN = st.builds(
    lambda sign, whole, places: sign + (f"{whole:,}" if places is None else f"{whole}.{places}"),
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**9),
    st.none() | st.text("0123456789", min_size=1, max_size=7),
)
WRITTEN = st.one_of(
    PLAIN,
    st.builds(lambda a, b: f"\\frac{{{a}}}{{{b}}}", st.integers(-99, 99), st.integers(1, 99)),
    st.builds(lambda a, b: f"{a}/{b}", st.integers(-999, 999), st.integers(1, 99)),
    st.builds(lambda w, a, b: f"{w}\\frac{{{min(a, b)}}}{{{max(a, b) + 1}}}", *[st.integers(1, 9)] * 3),
    st.builds(lambda a, n: f"{a} \\times 10^{{{n}}}", st.integers(1, 99), st.integers(-4, 9)),
    st.builds(lambda a, b: f"{a}.\\overline{{{b}}}", st.integers(0, 9), st.integers(1, 98)),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@given(text=WRITTEN)
def test_no_rule_changes_a_number(rule: Callable[[str], str], text: str) -> None:
    value = number(text)
    assert value is not None
    assert number(rule(text)) == value
    assert number(tidy(text)) == value


@given(WRITTEN, WRITTEN)
def test_two_different_numbers_are_never_one_text(one: str, other: str) -> None:
    first, second = number(one), number(other)
    assert first is not None
    assert second is not None
    if first.value != second.value:
        assert tidy(one) != tidy(other)
        assert words(tidy(one)) != words(tidy(other))


PIECES = st.sampled_from(
    [*r"0123456789.,+-*/^_()[]{}$\% xyi", r"\frac", r"\left(", r"\text{", r"\!", r"\,", "√", "²", "∞", r"\\[1ex]", "**"]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_text_makes_tidying_fail_and_tidying_twice_says_the_same_number(text: str) -> None:
    once = tidy(text)
    assert number(once) in (None, number(tidy(once)))


@pytest.mark.parametrize("piece", ["{", "}", "$", "**", r"\text{", r"\frac", "√(", "1,", "1 ", "²", "\\\\[", "_{", "("])
def test_two_thousand_hostile_characters_are_tidied_in_bounded_steps(piece: str) -> None:
    tidy((piece * 2000)[:2000])
    tidy("5" + (piece * 2000)[:1990])


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        (r"\text{(C)}", "c"),
        ("C", "c"),
        ("$C$.", "c"),
        (r"\textbf{ Evelyn }", "evelyn"),
        ("(1)", "(1)"),
        ("an ellipse", "ellipse"),
        ("a b", "ab"),
        ("1 2", "1 2"),
        ("(a, b)", "(a,b)"),
    ],
)
def test_words_are_compared_bare(text: str, bare: str) -> None:
    assert words(tidy(text)) == bare


def test_fractions_of_one_sign_are_their_value() -> None:
    assert number(tidy("¾")) is not None
    assert number(tidy("1½")).value == Fraction(3, 2)  # type: ignore[union-attr]
