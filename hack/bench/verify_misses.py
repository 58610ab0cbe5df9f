"""Answers that are nearly right, for measuring that the answer check accepts none of them."""

from __future__ import annotations

import re

from hack.bench.verify_forms import INTEGER, Form, whole_fraction

_OTHER = {r"\sqrt": "", r"\pi": "e", r"\cup": r"\cap", "cents": "dollars", "inches": "feet", "cm": "km"}


def near_misses(answer: str) -> list[Form]:
    """Texts that mean something else: a digit changed, added or taken away, a sign turned."""
    found: dict[str, str] = {}
    digits = [m.start() for m in re.finditer(r"\d", answer)]
    for place in {digits[0], digits[-1], digits[len(digits) // 2]} if digits else ():
        other = str(int(answer[place]) % 9 + 1)
        found.setdefault(answer[:place] + other + answer[place + 1 :], "digit changed")
    if digits:
        end = digits[-1] + 1
        found.setdefault(answer[:end] + "7" + answer[end:], "digit added")
        found.setdefault(answer[: digits[0]] + "3" + answer[digits[0] :], "digit before")
    if INTEGER.fullmatch(answer) and answer not in ("0", "-0"):
        found.setdefault(answer[1:] if answer[0] == "-" else f"-{answer}", "sign turned")
        found.setdefault(f"{answer}.01", "a little more")
        found.setdefault(f"{answer}.000001", "hardly more")
    elif whole := whole_fraction(answer):
        sign, above, below = whole
        found.setdefault(f"{'' if sign else '-'}\\frac{{{above}}}{{{below}}}", "sign turned")
        found.setdefault(f"{sign}\\frac{{{below}}}{{{above}}}", "upside down")
        found.setdefault(f"{sign}{above / below:.3f}1", "a decimal near it")
    for sign, turned in (("+", "-"), ("-", "+")):
        place = answer.find(f" {sign} ")
        if place > 0:
            found.setdefault(answer[:place] + f" {turned} " + answer[place + 3 :], "sign turned")
    for old, new in _OTHER.items():
        if old in answer:
            found.setdefault(answer.replace(old, new, 1), f"{old} replaced")
    if re.match(r"\((?!-\\infty)", answer) and answer[-1] in ")]":
        found.setdefault("[" + answer[1:], "end of an interval")
    if r"\in" not in answer.replace(r"\infty", "") and "text" not in answer and "box" not in answer:
        found.setdefault(re.sub(r"(?<![A-Za-z\\{])[a-z](?![A-Za-z])", "w", answer, count=1), "letter changed")
    return [(name, text) for text, name in found.items() if text != answer]
