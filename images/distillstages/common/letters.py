"""Which letter a response to a multiple choice question gives: the last box, else "the answer is …", else a line that
is nothing but a letter.

Stricter than the search for a number: "the answer is a triangle" names no choice, nor does a box with two letters.
"""

from __future__ import annotations

import re
import string
from typing import Final

from distillstages.common import answers

LETTERS: Final = string.ascii_uppercase
_SEARCHED_CHARS: Final = 4_000
_WRAPPING: Final = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathsf|mbox)\s?\{([^{}]*)\}")
# A letter in brackets or before a mark, or alone: "B", "(B)", "B.", "(B) 42", "B: because", "[B]".
_NAMED: Final = re.compile(
    r"(?:[(\[]\s?(?P<a>[A-Za-z])\s?[)\]]|(?P<b>[A-Za-z])(?=[).:,;]|\s*\Z))(?P<rest>.*)", re.DOTALL
)
_MORE: Final = re.compile(r"[).:,;\s]*(?:and|or|&|/|,)?\s*[(\[]?[A-Z](?![A-Za-z0-9'’])")
_PHRASE: Final = re.compile(
    r"\b(?:answer|choice|option)\**\s{0,3}(?:is|:|=)?\**\s{0,3}:?[\s*$_\"“']{0,6}(?:option|choice)?[\s*$_\"“']{0,6}"
    r"(?:\((?P<a>[A-Za-z])\)|\[(?P<b>[A-Za-z])\]|(?P<c>[A-Z])(?=[).:,;*$_\"”'\s]|\Z))",
    re.IGNORECASE,
)
_ALONE: Final = re.compile(r"^[\s*$_]{0,6}(?:\((?P<a>[A-Za-z])\)|(?P<b>[A-Z])[).]?)[\s*$_.]{0,6}$", re.MULTILINE)


def chosen(response: str, count: int) -> str | None:
    """The letter, upper case, one of the first `count`, or None where none or more than one is named."""
    box = answers.boxed(response[-20_000:])
    if box is not None:
        return _one_of(_named(box), count)
    tail = _WRAPPING.sub(r"\1", response[-_SEARCHED_CHARS:])
    for pattern in (_PHRASE, _ALONE):
        found = [m for m in pattern.finditer(tail) if _is_meant(m)]
        if found:
            return _one_of(next(g for g in found[-1].groups() if g), count)
    return None


def _named(box: str) -> str | None:
    plain = _WRAPPING.sub(r"\1", box).strip("$ \t\n*")
    match = _NAMED.match(plain)
    if not match or _MORE.match(match["rest"]):
        return None
    return match["a"] or match["b"]


def _is_meant(match: re.Match[str]) -> bool:
    """ "the answer is a number": a small letter without brackets is a word."""
    alone = match.groupdict().get("c") or ""
    return not alone or alone.isupper()


def _one_of(letter: str | None, count: int) -> str | None:
    return letter.upper() if letter and letter.upper() in LETTERS[:count] else None
