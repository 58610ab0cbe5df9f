"""Decontamination: which questions share words with the benchmarks that the student will be measured by.

The rule is s1's (arXiv 2501.19393, section 2.1; GPT-3's before it): lower-case, split on white space, and one shared
run of `size` words is enough. A question shorter than that is compared as a whole, and only with benchmark questions
that are short as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

WORDS: Final = 8
"""Words of a run, as in s1."""


class Overlap(NamedTuple):
    """Why a question is removed: the first benchmark that shares words with it, and those words."""

    benchmark: str
    words: str


class Benchmarks:
    """The runs of words of all benchmarks' questions; 100,000 of them take about 20 MB."""

    def __init__(self, size: int = WORDS) -> None:
        """`size`: words of a run, at least 1."""
        self.size = size
        self._runs: dict[str, str] = {}
        self._short: dict[str, str] = {}

    def add(self, name: str, questions: Iterable[str]) -> int:
        """Take in a benchmark's questions; returns how many there were."""
        number = 0
        for question in questions:
            number += 1
            words = _words(question)
            if len(words) < self.size:
                self._short.setdefault(" ".join(words), name)
            else:
                for run in _runs(words, self.size):
                    self._runs.setdefault(run, name)
        return number

    def overlap(self, question: str) -> Overlap | None:
        """The first run of words that a benchmark has, too, or None."""
        words = _words(question)
        if len(words) < self.size:
            whole = " ".join(words)
            return Overlap(self._short[whole], whole) if words and whole in self._short else None
        known = self._runs
        for run in _runs(words, self.size):
            if run in known:
                return Overlap(known[run], run)
        return None


def _words(text: str) -> list[str]:
    return text.lower().split()


def _runs(words: list[str], size: int) -> Iterator[str]:
    # Joined text instead of tuples: half the memory, and its hash is kept.
    return (" ".join(words[start : start + size]) for start in range(len(words) - size + 1))
