"""Units of measure behind (or, for money, before) a value.

A unit that the table knows has a dimension and a size in it, so that 100 cm is 1 m and 5 cents are not 5 dollars. Words
that it does not know ("apples", "square units") only say what is counted and are not compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final


@dataclass(frozen=True)
class Unit:
    """`dimension` such as "length"; `size` in the dimension's first unit; `power` 2 for square, 3 for cubic."""

    dimension: str
    size: Fraction
    power: int = 1


_MEASURES: Final = {
    "length": "1:m,meter,metre 1/100:cm,centimeter,centimetre 1/1000:mm,millimeter,millimetre "
    "1000:km,kilometer,kilometre 127/5000:in,inch,inches 381/1250:ft,foot,feet 1143/1250:yd,yard 201168/125:mi,mile",
    "mass": "1:g,gram 1000:kg,kilogram 1/1000:mg,milligram 45359237/100000:lb,pound 45359237/1600000:oz,ounce",
    "time": "1:s,sec,second 60:min,minute 3600:h,hr,hour 86400:day 604800:week",
    "calendar": "1:month 12:year,yr",
    "volume": "1:L,liter,litre 1/1000:mL,ml,milliliter,millilitre",
    "money": "1:$,dollar 1/100:cent",
    "euro": "1:€,euro",
    "sterling": "1:£",
    "angle": "1:°,degree,deg",
    "arc": "1:radian,rad",
    "miles an hour": "1:mph",
    "kilometres an hour": "1:km/h,kmh,kph",
    "metres a second": "1:m/s",
}
"""dimension: sizes in its first unit, and the names of the units of that size."""


def _table() -> dict[str, Unit]:
    known: dict[str, Unit] = {}
    for dimension, entries in _MEASURES.items():
        for entry in entries.split():
            size, _, names = entry.partition(":")
            for name in names.split(","):
                known[name] = Unit(dimension, Fraction(size))
                if len(name) > 1 and name.isalpha():
                    known.setdefault(f"{name}s", known[name])
    return known


KNOWN: Final = _table()
_PHRASES: Final = {
    "miles per hour": "mph",
    "mile per hour": "mph",
    "miles/hour": "mph",
    "kilometers per hour": "km/h",
    "kilometres per hour": "km/h",
    "meters per second": "m/s",
    "metres per second": "m/s",
}
_POWERS: Final = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "cu": 3, "cu.": 3}

_DEGREES: Final = re.compile(r"(?P<value>.*\S)\s*\^\{\\circ\}\s*(?:\\text\{\s*[CF]\s*\}|[CF])?", re.DOTALL)
_IN_TEXT: Final = re.compile(
    r"(?P<value>.*[\w})\]!])\s*\\text\{(?P<unit>[^{}]*)\}\s*(?:\^\s*\{?(?P<power>[23])\}?)?\s*", re.DOTALL
)
_BARE: Final = re.compile(
    r"(?P<value>[-+]?[\d\s.,/]*\d|[-+]?\d*\s?\\frac\{\d+\}\{\d+\})\s*"
    r"(?P<unit>[A-Za-z][A-Za-z ./]*)(?:\^\s*\{?(?P<power>[23])\}?)?"
)
_MONEY: Final = re.compile(r"(?P<sign>[-+]?)\s*(?:\\?(?P<unit>[$€£]))\s*(?P<value>[-+]?\s?[\d.].*)", re.DOTALL)
_JOINERS: Final = re.compile(r"\b(?:and|or|if|for|where|when|to|is)\b|\d|[,;:=<>]")


def known(text: str, power: int = 1) -> Unit | None:
    """The unit of measure that words name ("cm", "square inches", "miles per hour"), or None."""
    words = " ".join(text.strip().rstrip(".").split())
    words = _PHRASES.get(words.lower(), words)
    first, _, rest = words.partition(" ")
    if first.lower() in _POWERS and rest:
        power, words = _POWERS[first.lower()] * power, rest
    if words.lower().endswith((" squared", " cubed")):
        power, words = (2 if words.lower().endswith(" squared") else 3) * power, words.rpartition(" ")[0]
    unit = KNOWN.get(words) or KNOWN.get(words.lower())
    return Unit(unit.dimension, unit.size**power, power) if unit else None


def split(text: str) -> tuple[str, Unit | None]:
    """(value, unit) of a tidied answer. Words that are no unit of measure are taken off as well, when they stand in
    \\text behind a value; a bare word only when it is a unit of measure and stands behind a plain number, for "2k" is a
    product."""
    if match := _MONEY.fullmatch(text):
        value, _ = split(match["sign"] + match["value"])
        return value, KNOWN.get(match["unit"], KNOWN["$"])
    if match := _DEGREES.fullmatch(text):
        return match["value"], KNOWN["degree"]
    if (match := _IN_TEXT.fullmatch(text)) and not _JOINERS.search(match["unit"]):
        return match["value"], known(match["unit"], int(match["power"] or 1))
    if (match := _BARE.fullmatch(text)) and len(match["unit"].strip()) > 1:
        unit = known(match["unit"], int(match["power"] or 1))
        if unit:
            return match["value"].strip(), unit
    return text, None


def ratio(expected: Unit | None, found: Unit | None) -> Fraction | None:
    """How many of the expected unit one of the other is; 1 where a side names none; None where they measure different
    things."""
    if expected is None or found is None:
        return Fraction(1)
    if (expected.dimension, expected.power) != (found.dimension, found.power):
        return None
    return found.size / expected.size
