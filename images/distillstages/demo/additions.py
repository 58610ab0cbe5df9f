"""The demo's subject: additions, worked column by column, and the questions of them.

The demo asks for sums of three-digit numbers, the small recipes (pools.py) for sums of four digits, too, in a story or
with choices as well.

Standard library only, since the teacher's server, the pupil maker and the tests share it. A worked answer has the two
parts that every reasoning teacher gives: a thinking part, one line a column starting with the ones
(``7+9+0=16`` is digit + digit + carry = sum), and a response with the sum in a box. 347 + 589 is worked as::

    7+9+0=16
    4+8+1=13
    3+5+1=09

    \\boxed{936}

Every line has two digits after the equals sign, so that each character stands at the same place in each trace: a
model of a million parameters learns that from a few thousand traces within minutes on a CPU.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

LOWEST, HIGHEST = 100, 999
"""Both numbers of the demo's additions lie in this closed interval."""

_QUESTION = re.compile(r"(?:.*\s)?(\d{3,4})\s*\+\s*(\d{3,4})\s*=\s*\?\s*", re.DOTALL)
_CHOICE = re.compile(r"^([A-Z])\. (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Addition:
    """One addition of two numbers of three digits, or of two of four."""

    left: int
    right: int

    @property
    def columns(self) -> int:
        """Columns of the worked addition; column 0 is the ones."""
        return len(str(self.left))

    @property
    def question(self) -> str:
        """The text a user sends: ``347+589=?``."""
        return f"{self.left}+{self.right}=?"

    @property
    def answer(self) -> str:
        """The reference answer, as decimal digits."""
        return str(self.left + self.right)


@dataclass(frozen=True)
class Worked:
    """A worked answer: the reasoning and what the user sees."""

    thinking: str
    response: str

    @property
    def completion(self) -> str:
        """Both parts as one text with the think tags, for a teacher that answers without a reasoning field."""
        return f"<think>\n{self.thinking}\n</think>\n\n{self.response}"


def work(addition: Addition, slip: int | None = None, letters: Mapping[str, str] | None = None) -> Worked:
    """Works the addition column by column.

    ``slip`` (from 0) is the column whose sum is written one too small, and carried on wrongly: the result is then
    always wrong, by 10 to the power of ``slip``. None: no mistake. Raises ValueError for another column.
    ``letters``: of numbers that are choices; the box then holds the result's letter.
    """
    if slip is not None and not 0 <= slip < addition.columns:
        raise ValueError(f"slip is a column from 0 to {addition.columns - 1}, got {slip}")
    lines = []
    total = carry = 0
    for column in range(addition.columns):
        upper, lower = (number // 10**column % 10 for number in (addition.left, addition.right))
        column_sum = upper + lower + carry
        if column == slip:
            column_sum = column_sum - 1 if column_sum else 1
        lines.append(f"{upper}+{lower}+{carry}={column_sum:02d}")
        total += column_sum % 10 * 10**column
        carry = column_sum // 10
    total += carry * 10**addition.columns
    result = str(total)
    return Worked(thinking="\n".join(lines), response=rf"\boxed{{{(letters or {}).get(result, result)}}}")


def parse(question: str) -> Addition | None:
    """The addition that a question asks, or None if it asks something else. Blanks do not matter, nor does what stands
    before the sum, or choices below it."""
    choice = _CHOICE.search(question)
    match = _QUESTION.fullmatch(question, 0, choice.start() if choice else len(question))
    return Addition(int(match[1]), int(match[2])) if match and len(match[1]) == len(match[2]) else None


def letters_of(question: str) -> dict[str, str]:
    """The letter of each number that a question offers as a choice (``B. 936`` on a line); empty without choices."""
    return {match[2]: match[1] for match in _CHOICE.finditer(question)}


def question_sets(train: int = 4000, test: int = 200, seed: int = 42) -> tuple[list[Addition], list[Addition]]:
    """Two disjoint sets of additions, the same for the same seed.

    No addition occurs twice, and none occurs in one set with its numbers swapped in the other, so the test
    questions are unseen in either order. Raises ValueError if more are asked for than there are.
    """
    numbers = HIGHEST - LOWEST + 1
    available = numbers * (numbers + 1) // 2
    if train + test > available:
        raise ValueError(f"there are {available} different additions, {train} + {test} were asked for")
    drawn = _different(random.Random(f"additions-{seed}"))
    return [next(drawn) for _ in range(train)], [next(drawn) for _ in range(test)]


def _different(dice: random.Random) -> Iterator[Addition]:
    seen: set[tuple[int, int]] = set()
    while True:
        left, right = dice.randint(LOWEST, HIGHEST), dice.randint(LOWEST, HIGHEST)
        unordered = (min(left, right), max(left, right))
        if unordered not in seen:
            seen.add(unordered)
            yield Addition(left, right)
