"""Which letter a response to a multiple choice question gives: exactly one, or none.

What says most decides, and what is weaker is then not looked at:

1. the last box: \\boxed{C}, \\boxed{(C) Paris}, \\boxed{\\text{C}};
2. the last statement about the answer: "Answer: C", "the correct option is (C)", "I choose C";
3. the statements that a letter is right: "(C) is correct";
4. lines that are nothing but a letter, else lines that begin with one as options do;
5. the last sentence, where it is a short conclusion: "So it must be C.", "Hence (C)."

Where the one that decides names several letters, the response is ambiguous and gives none. "A" and "I" are words as
well: without brackets they count only where no other word can be meant.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from distillstages.common import answers

LETTERS: Final = string.ascii_uppercase
USUAL: Final = 10
"""Choices of a question that does not say how many it has: A to J, as many as the data sets in use have."""
_SEARCHED_CHARS: Final = 4_000
_SEARCHED_CHARS_BOXED: Final = 20_000

_FONTS: Final = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathsf|mbox|bf|rm)\s?\{([^{}]*)\}")
_MARKS: Final = re.compile(r"\*+|__|[$`\"“”]|\\[()\[\]]|\\boxed")
_SPACES: Final = re.compile(r"\\[,;:! ]|~")

_WORDS: Final = r"because|since|as|and|or|is|for|which|where|by|from|due|\("
# In brackets in either case; a capital without brackets; a small letter only where a sentence or the text ends.
_LETTER: Final = (
    r"(?:[(\[{]\s?[A-Za-z]\s?[)\]}]"
    r"|[B-HJ-Z](?![\w'’-])(?!\s*[=+^<>])"
    rf"|[AI](?![\w'’-])(?!\s*[=+^<>])(?=\s*(?:[^\w\s]|\Z)|\s*\n|\s+(?:{_WORDS})\b)"
    r"|[b-hj-z](?=[.,;:!)]*(?:\s*\Z|\s*\n)))"
)
_SEVERAL: Final = (
    rf"(?P<letters>(?:either\s+|both\s+)?{_LETTER}"
    rf"(?:\s{{0,3}}(?:,\s?(?:and|or)|,|and|or|&|/)\s{{0,3}}(?:option\s|choice\s)?{_LETTER}){{0,25}})"
)
_NOUN: Final = r"(?:answer|option|choice|letter|response)"
_ADVERB: Final = r"(?:(?:clearly|definitely|likely|most\slikely|probably|therefore|thus|indeed|actually|simply)\s+)?"
_STATED: Final = re.compile(
    rf"\b(?:(?:[Cc]orrect|[Rr]ight|[Bb]est|[Ff]inal|[Cc]hosen|[Mm]y)\s+{_NOUN}|[Aa]nswers?|ANSWER)(?:\s+{_NOUN})?"
    rf"(?:\s(?:to|of|for|here|I|would)\b[^\n.:=]{{0,60}}?)?\s{{0,3}}(?:\bis\b|\bare\b|\bbe\b|:|=)\s{{0,3}}:?\s{{0,3}}"
    rf"{_ADVERB}(?:the\s)?(?:(?:[Oo]ption|[Cc]hoice|[Ll]etter|[Aa]nswer)\s?:?\s)?{_SEVERAL}"
    rf"|\b[Aa]nswer\s(?=\(){_SEVERAL.replace('?P<letters>', '?P<bracketed>')}"
    rf"|\bI(?:'ll|’ll|\swill|\swould|\stherefore)?\s(?:choose|select|pick|go\swith|chose)\s"
    rf"(?:[Oo]ption\s|[Cc]hoice\s|[Aa]nswer\s)?{_SEVERAL.replace('?P<letters>', '?P<picked>')}"
)
_RIGHT: Final = re.compile(
    rf"(?<![\w(\[]){_SEVERAL}\s+(?:is|are|must\sbe|would\sbe)\s+(?:therefore\s|thus\s|clearly\s|indeed\s)?"
    rf"(?:the\s+)?(?:only\s|single\s|best\s)?(?:correct|right|answer|true)\b"
)
_SUPPOSED: Final = re.compile(r"\b(?:if|whether|suppose|assume|assuming|unless|why|not)\b[^.\n]{0,20}\Z", re.IGNORECASE)
_ONLY: Final = re.compile(r"[(\[]?(?P<letters>[A-Z])[)\]]?[.:]?")
_OPTION: Final = re.compile(r"(?:[(\[](?P<a>[A-Z])[)\]]|(?P<b>[A-Z])[.):])\s*\S.*")
_SENTENCE: Final = re.compile(r"[^.!?\n]*[.!?]?\s*\Z")
_CONCLUDED: Final = re.compile(
    r"(?i:so|hence|thus|therefore|then|it|it's|it’s|this|that|we|i)[,:]?\s+"
    r"(?:(?:must|be|is|it|it's|leaves|gives|have|only|choose|conclude|with|means|the|option|choice)[,:]?\s+){0,8}"
    rf"{_SEVERAL}(?:,?\s+(?:because|since|as)\b.*)?[.!]?",
    re.DOTALL,
)
_IN_BOX: Final = re.compile(
    rf"(?:[Oo]ption\s|[Cc]hoice\s|[Aa]nswer\s?:?\s)?"
    rf"(?:{_SEVERAL}(?:[\s.):,].*)?|(?P<small>[a-z])(?:[.):].*)?|(?P<named>[A-Z])[.):].*)",
    re.DOTALL,
)
_SINGLE: Final = re.compile(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_BRACKETED: Final = re.compile(r"(?<![\w)])[(\[]([A-Z])[)\]]")
_CONJUNCTION: Final = re.compile(r"(?:either|both|and|or|option|choice)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """`letter`, upper case, or None; `several` where that is because more than one is named."""

    letter: str | None
    several: bool = False


def find(response: str, count: int) -> Found:
    """The letter of the first `count` that a response gives. Never raises."""
    allowed = LETTERS[:count]
    box = answers.boxed(response[-_SEARCHED_CHARS_BOXED:])
    for named in (_in_box(box) if box else [], *_in_text(_plain(response[-_SEARCHED_CHARS:]))):
        if named:
            one = set(named)
            if len(one) > 1:
                return Found(None, several=True)
            letter = one.pop()
            return Found(letter if letter in allowed else None)
    return Found(None)


def chosen(response: str, count: int) -> str | None:
    """`find`'s letter."""
    return find(response, count).letter


def of_reference(reference: str) -> str | None:
    """The letter that a reference is: "C", "(C)", "C.", \\text{(C)}; None where it is anything else. A small letter is
    a variable, unless it stands in brackets."""
    match = re.fullmatch(r"[(\[]\s?([A-Za-z])\s?[)\]]\.?|([A-Z])[.):]?", _plain(reference).strip())
    return (match[1] or match[2]).upper() if match else None


def _plain(text: str) -> str:
    for _ in range(2):
        text = _FONTS.sub(r"\1", text)
    return _MARKS.sub("", _SPACES.sub(" ", text))


def _letters(text: str | None) -> list[str]:
    return [letter.upper() for letter in _SINGLE.findall(_CONJUNCTION.sub(" ", text or ""))]


def _in_box(box: str) -> list[str]:
    plain = _plain(box).strip()
    match = _IN_BOX.fullmatch(plain)
    if not match:
        return []
    named = _letters(match["letters"] or match["small"] or match["named"])
    return named + _BRACKETED.findall(plain)


def _in_text(text: str) -> Iterator[list[str]]:
    """What each of the places 2 to 5 names."""
    stated = list(_STATED.finditer(text))
    last = stated[-1] if stated else None
    yield _letters(next(filter(None, last.groups()), None)) if last else []
    yield [
        letter
        for match in _RIGHT.finditer(text)
        if not _SUPPOSED.search(text[max(0, match.start() - 40) : match.start()])
        for letter in _letters(match["letters"])
    ]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    yield [match["letters"] for line in lines if (match := _ONLY.fullmatch(line))]
    options = [match["a"] or match["b"] for line in lines if (match := _OPTION.fullmatch(line))]
    yield options if len(set(options)) == 1 else []
    sentence = _SENTENCE.search(lines[-1]) if lines else None
    concluded = _CONCLUDED.fullmatch(sentence.group().strip()) if sentence else None
    yield _letters(concluded["letters"]) if concluded else []
    yield options
