"""Which of the sources' questions are asked: all, a number of them, or shares of a mixture.

A question's place in the draw is a hash of the seed and the question. So a draw depends on nothing else, not on the
order of rows nor on Python's generator, and a larger draw holds the smaller one: what was asked is not asked again.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Sequence
from fractions import Fraction

from distillstages.common.blocks import Source
from distillstages.common.sources import Question


def to_be_read(source: Source) -> Source:
    """The source as it must be read: a draw at random needs all rows."""
    return source if source.pick == "First" else source.model_copy(update={"take": None})


def draw(sources: Sequence[Source], pools: Sequence[Sequence[Question]], seed: int) -> list[list[Question]]:
    """The questions of each source that are asked, in the pool's order. `pools` are the questions of each source, one
    or more; either all sources have a share or none."""
    taken = [
        sample(pool, source.take, seed) if source.pick == "Random" and source.take else list(pool)
        for source, pool in zip(sources, pools, strict=True)
    ]
    shares = [Fraction(repr(source.share)) for source in sources if source.share is not None]
    if not shares:
        return taken
    counts = quotas(shares, [len(pool) for pool in taken])
    return [sample(pool, count, seed) for pool, count in zip(taken, counts, strict=True)]


def quotas(shares: Sequence[Fraction], available: Sequence[int]) -> list[int]:
    """How many of each: the largest mixture that keeps the shares and repeats nothing. Rounded down, but one at least
    where there is one, so that no source vanishes."""
    unit = min(Fraction(count) / share for share, count in zip(shares, available, strict=True))
    return [min(count, max(1, math.floor(unit * share))) for share, count in zip(shares, available, strict=True)]


def sample(pool: Sequence[Question], count: int, seed: int) -> list[Question]:
    """`count` questions of the pool (all if it has no more), the same for the same seed, in the pool's order."""
    if count >= len(pool):
        return list(pool)
    chosen = set(heapq.nsmallest(count, (_place(question, seed) for question in pool)))
    return [question for question in pool if _place(question, seed) in chosen]


def _place(question: Question, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{question.key}".encode()).digest()
