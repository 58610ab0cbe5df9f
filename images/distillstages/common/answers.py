"""Which answer a text gives: the last \\boxed{…}, else what follows ####, else "the answer is …", else the last number.

Only the visible response is looked at, never the thinking. A box beats everything: a model that boxes 7 and then
mentions 42 has answered 7.
"""

from __future__ import annotations

import re
from typing import Final

MAX_ANSWER_CHARS: Final = 2000
# An answer stands at the end; what comes before the last so many characters is not searched, and the patterns are
# bounded, so that a hostile text costs milliseconds.
_SEARCHED_CHARS: Final = 20_000
_SEARCHED_CHARS_UNBOXED: Final = 4_000
_SEARCHED_BOXES: Final = 50

_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_NUMBER: Final = re.compile(
    r"(?<![\w.])[-+−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s?/\s?\d+)?(?:[eE][-+]?\d+)?(?!\w)"
    r"|(?<![\w.])[-+−]?\$?\.\d+"
)
_PHRASE: Final = re.compile(
    r"\banswer\**\s{0,5}(?:is|are|=|:)\**\s{0,5}:?\s{0,5}(?P<answer>[^\n]{1,500})"
    r"|^[ \t]{0,10}A[ \t]{0,5}:[ \t]{0,5}(?P<letter>[^\n]{1,500})",
    re.IGNORECASE | re.MULTILINE,
)
_MATHS: Final = re.compile(r"\$\$(.{1,500}?)\$\$|\$(.{1,500}?)\$|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]", re.DOTALL)
_BETWEEN_BOXES: Final = re.compile(
    r"[\s$]{0,10}(?:,|and|or|\\text\{\s?(?:and|or)\s?\})[\s$]{0,10}(?:and|or)?[\s$]{0,10}"
)


def reference_of(answer: str) -> str:
    """The reference answer in a source's answer column: what follows the last "####" (GSM8K), else the last box of a
    worked solution, else the text itself. Stripped; may be ""."""
    if "####" in answer:
        return answer.rpartition("####")[2].strip()
    return boxed(answer) or answer.strip()


def extract(response: str) -> str | None:
    """The answer that a visible response gives, or None. At most MAX_ANSWER_CHARS characters."""
    tail = response[-_SEARCHED_CHARS_UNBOXED:]
    found = boxed(response[-_SEARCHED_CHARS:]) or _after_hashes(tail) or _phrased(tail) or _last_number(tail)
    return found[:MAX_ANSWER_CHARS] if found else None


def boxed(text: str) -> str | None:
    """The content of the last \\boxed{…} with balanced braces; boxes joined by a comma or "and" are one answer."""
    spans: list[tuple[int, int, str]] = []
    for match in list(_BOX.finditer(text))[-_SEARCHED_BOXES:]:
        end = _closing_brace(text, match.end())
        if end is not None:
            spans.append((match.start(), end, text[match.end() + 1 : end - 1].strip()))
    spans = [s for i, s in enumerate(spans) if i == 0 or s[0] >= spans[i - 1][1]]  # a box inside a box is not another
    if not spans or not spans[-1][2]:
        return None
    answers = [spans[-1][2]]
    for earlier, later in zip(reversed(spans[:-1]), reversed(spans), strict=False):
        if not _BETWEEN_BOXES.fullmatch(text[earlier[1] : later[0]][:100]):
            break
        answers.insert(0, earlier[2])
    return ", ".join(answers)


def _closing_brace(text: str, start: int) -> int | None:
    """The index after the brace that closes the one at `start`, or None."""
    depth = 0
    for i in range(start, len(text)):
        if text[i] == "{" and (i == 0 or text[i - 1] != "\\"):
            depth += 1
        elif text[i] == "}" and text[i - 1] != "\\":
            depth -= 1
            if depth == 0:
                return i + 1
    return None


def _after_hashes(text: str) -> str | None:
    _, mark, rest = text.rpartition("####")
    return rest.strip().partition("\n")[0].strip() or None if mark else None


def _phrased(text: str) -> str | None:
    """What a sentence like "the answer is 42 dollars." gives: its maths, else its number, else its words."""
    phrases = list(_PHRASE.finditer(text))
    if not phrases:
        return None
    last = phrases[-1]
    said = (last["answer"] or last["letter"] or "").strip().strip("*").strip()
    maths = _MATHS.search(said)
    if maths:
        return next(g for g in maths.groups() if g is not None).strip() or None
    number = _NUMBER.search(said)
    if number:
        return _tidy(number.group())
    return said.rstrip(".").strip() or None


def _last_number(text: str) -> str | None:
    """The last number, or the last maths if the last number stands inside it."""
    numbers = list(_NUMBER.finditer(text))
    number = numbers[-1] if numbers else None
    for maths in reversed(list(_MATHS.finditer(text))):
        if number is None or maths.start() <= number.start() < maths.end():
            content = next(g for g in maths.groups() if g is not None).strip()
            if "\\" in content or number is None:
                return content or None
        if number is not None and maths.end() <= number.start():
            break
    return _tidy(number.group()) if number else None


def _tidy(number: str) -> str:
    return re.sub(r"\s", "", number).replace("$", "").replace("−", "-").removeprefix("+")
