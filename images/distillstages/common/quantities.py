"""Quantities: exact numbers, their units, the base they are written in, times of day; and when two of them are equal.

What is read here is decided exactly, without rounding. What one side leaves out (a unit, a base, a percent sign, the
name of the unknown) is forgiven, since the question names it; what both sides write has to agree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

from distillstages.common import notation, units
from distillstages.common.units import Unit

_MAX_DIGITS: Final = 400
_ROUNDED_PLACES: Final = 6
"""1/3 may be given as 0.333333: so many places at least, the last of them rounded."""
_SIGNIFICANT: Final = 4

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_SIGN = r"[-+]?\s?"
_NUMBER: Final = re.compile(
    rf"(?P<sign>{_SIGN})(?:"
    rf"(?P<whole>\d+)\s?(?:\\frac\{{(?P<mixed_above>\d+)\}}\s?\{{(?P<mixed_below>\d+)\}}|\s(?P<mixed_a>\d+)/(?P<mixed_b>\d+))"
    rf"|\\frac\s?\{{\s?(?P<above>{_SIGN}{_DECIMAL})\s?\}}\s?\{{\s?(?P<below>{_SIGN}{_DECIMAL})\s?\}}"
    rf"|(?P<left>{_DECIMAL})\s?/\s?(?P<right>{_DECIMAL})"
    rf"|(?P<before>\d*\.\d*)\\(?:overline|bar)\s?\{{(?P<repeated>\d+)\}}"
    rf"|(?P<decimal>{_DECIMAL})(?:\s?(?:\\times|\\cdot|\*)\s?10\s?\^\s?(?:\{{(?P<power>{_SIGN}\d{{1,2}})\}}|(?P<short>\d))"
    rf"|[eE](?P<exponent>[-+]?\d{{1,2}}))?"
    rf")"
)  # fmt: skip
_NAMED: Final = re.compile(r"(?P<name>[A-Za-z](?:_(?:\w|\{\w+\}))?)\s*=\s*(?P<rest>[^=<>]+)")
_RELATION: Final = re.compile(r"[=<>]|\\(?:le|ge|leq|geq|lt|gt|ne|neq|in|approx|to)(?![A-Za-z])")
_BASED: Final = re.compile(r"(?P<digits>-?\d[\dA-F]*)_\{(?P<base>\d{1,2})\}")
_SUBSCRIPT: Final = re.compile(r"[\d)}]\s*_")
_TIME: Final = re.compile(
    r"(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)\s*(?:\\text\{)?\s*(?P<half>[ap])\.?\s?m\.?\s*\}?", re.IGNORECASE
)
_CLOCK: Final = re.compile(r"(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)")


@dataclass(frozen=True)
class Number:
    """An exact value. `places` after the point where it is written as a decimal, else None."""

    value: Fraction
    places: int | None = None


@dataclass(frozen=True)
class Quantity:
    """An answer taken apart: `text` is what math-verify is given, without name, unit and percent sign where those were
    recognised. `number` is its exact value, where it is one; `based` (digits, base); `time` (hour, minute, a or p)."""

    text: str
    number: Number | None = None
    unit: Unit | None = None
    percent: bool = False
    name: str | None = None
    named_text: str = ""
    based: tuple[str, int] | None = None
    time: tuple[int, int, str] | None = None


def number(text: str) -> Number | None:
    """The exact number that a tidied text writes down (1,234; 10 080; -3/4; \\frac{1}{2}; 1\\frac{4}{5}; 1 4/5;
    2.5 \\times 10^{3}; 0.\\overline{27}), or None where it is anything else."""
    if len(text) > _MAX_DIGITS or not (match := _NUMBER.fullmatch(text)):
        return None
    part = match.groupdict()
    sign = -1 if "-" in part["sign"] else 1
    try:
        if part["whole"] is not None:
            above = int(part["mixed_above"] or part["mixed_a"])
            below = int(part["mixed_below"] or part["mixed_b"])
            # 1\frac{5}{4} would be a product as well as a mixed number.
            return Number(sign * (int(part["whole"]) + Fraction(above, below))) if above < below else None
        if part["above"] is not None:
            return Number(sign * _decimal(part["above"]) / _decimal(part["below"]))
        if part["left"] is not None:
            return Number(sign * _decimal(part["left"]) / _decimal(part["right"]))
        if part["repeated"] is not None:
            return Number(sign * _repeating(part["before"], part["repeated"]))
        value = sign * _decimal(part["decimal"])
        exponent = part["power"] or part["short"] or part["exponent"]
        if exponent:
            power = int(re.sub(r"\s", "", exponent))
            return Number(value * Fraction(10 ** max(power, 0), 10 ** max(-power, 0)))
        return Number(value, len(part["decimal"].partition(".")[2]))
    except (ValueError, ZeroDivisionError):
        return None


def _decimal(text: str) -> Fraction:
    return Fraction(re.sub(r"[,\s+]", "", text).rstrip(".") or "x")


def _repeating(before: str, repeated: str) -> Fraction:
    places = len(before.partition(".")[2])
    period = Fraction(int(repeated), 10 ** len(repeated) - 1)
    start = Fraction(0) if before == "." else Fraction(before.rstrip(".") or 0)
    return start + period * Fraction(1, 10**places)


@lru_cache(maxsize=4096)
def read(text: str) -> Quantity:
    """Take an answer apart. Never raises."""
    text = notation.tidy(text)
    if time := _TIME.fullmatch(text):
        return Quantity(text, time=(int(time["hour"]), int(time["minute"]), time["half"].lower()))
    if based := _BASED.fullmatch(text):
        digits = based["digits"].lstrip("0") or "0"
        return Quantity(text, based=(digits, int(based["base"])))
    named = _NAMED.fullmatch(text)
    name, whole = (named["name"], text) if named and not _RELATION.search(named["rest"]) else (None, text)
    if named and name:
        text = named["rest"].strip()
    percent = bool(re.search(r"\d\s*(?:\\%|\\text\{\s*(?:percent|per cent)\s*\}|percent)\Z", text))
    if percent:
        text = re.sub(r"\s*(?:\\%|\\text\{\s*(?:percent|per cent)\s*\}|percent)\Z", "", text)
        return Quantity(text, number(text), percent=True, name=name, named_text=whole)
    text, unit = units.split(text)
    return Quantity(text, number(text), unit, name=name, named_text=whole)


def compare(expected: Quantity, found: Quantity) -> bool | None:
    """True or False where notation and exact numbers decide, None where mathematics must (on `text` of both)."""
    if expected.time or found.time:
        return _same_time(expected, found)
    if expected.based or found.based:
        return _same_based(expected, found)
    if _SUBSCRIPT.search(expected.text) or _SUBSCRIPT.search(found.text):
        return False
    if expected.name and found.name and expected.name != found.name:
        return None
    scale = units.ratio(expected.unit, found.unit)
    if scale is None:
        return False
    if expected.number is None or found.number is None:
        return None if scale == 1 else False
    if expected.percent != found.percent:
        share = Fraction(1, 100)
        one = Number(expected.number.value * share) if expected.percent else expected.number
        two = Number(found.number.value * share) if found.percent else found.number
        return _equal(one, two) or expected.number.value == found.number.value
    if scale != 1:
        return expected.number.value == found.number.value * scale
    return _equal(expected.number, found.number)


def mathematics(expected: Quantity, found: Quantity) -> tuple[str, str]:
    """The texts that math-verify compares where `compare` gave None: without units, and without the name of the unknown
    where only one side gives it or both give the same."""
    both = expected.name and found.name
    if (both and expected.name != found.name) or (not both and _is_relation(expected, found)):
        return expected.named_text or expected.text, found.named_text or found.text
    one, other = (q.text + (r"\%" if q.percent else "") for q in (expected, found))
    return one, other


def _is_relation(expected: Quantity, found: Quantity) -> bool:
    """y = 2x + 3 beside 2x - y + 3 = 0 is no value with a name."""
    return any(q.name is None and _RELATION.search(q.text) for q in (expected, found))


def _equal(one: Number, two: Number) -> bool:
    return one.value == two.value or _rounds_to(one.value, two) or _rounds_to(two.value, one)


def _rounds_to(value: Fraction, rounded: Number) -> bool:
    """Whether a fraction without a finite decimal, and no other number, is given by enough of its places."""
    places = rounded.places or 0
    if places < _ROUNDED_PLACES or abs(rounded.value) * 10**places < 10 ** (_SIGNIFICANT - 1):
        return False
    return not _terminates(value) and abs(value - rounded.value) * 2 <= Fraction(1, 10**places)


def _terminates(value: Fraction) -> bool:
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1


def _same_time(expected: Quantity, found: Quantity) -> bool:
    if expected.time and found.time:
        return expected.time == found.time
    full, other = (expected.time, found.text) if expected.time else (found.time, expected.text)
    clock = _CLOCK.fullmatch(other)
    return bool(full and clock) and (int(clock["hour"]), int(clock["minute"])) == full[:2]  # type: ignore[index]


def _same_based(expected: Quantity, found: Quantity) -> bool | None:
    if expected.based and found.based:
        return expected.based == found.based
    based, other = (expected.based, found) if expected.based else (found.based, expected)
    assert based is not None
    if other.number is None:
        # math-verify would ignore the subscript of a number.
        return False if _SUBSCRIPT.search(other.text) else None
    return based[0].lstrip("-").isdigit() and other.number == Number(Fraction(based[0]), 0)
