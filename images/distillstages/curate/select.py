"""Selection: which of the accepted traces become the dataset.

Every strategy gives the same choice for the same candidates and seed on any machine and version of Python: the draws
are made of the bits of the Mersenne Twister alone, without floating point, and ties are broken by the candidates' keys.

S1 (arXiv 2501.19393, section 2.2): what is preselected comes first; the rest is filled up by drawing a domain and then
one of its traces, the one of rank r with probability proportional to 2^-r, rank 0 being the longest that is left.
Variant `Paper` draws domains uniformly throughout; `Notebook` does so up to 70 % of the size (700 of 1,000) and then by
the domains' frequencies among the preselected, as the authors' notebook does with those of GPQA and AIME.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Strategy = Literal["All", "Random", "Longest", "S1"]
Variant = Literal["Paper", "Notebook"]
_UNIFORM_TENTHS: Final = 7


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trace that may be chosen. `key`: unique among the candidates; `length`: of its trace, in any unit that is the
    same for all; `domain`: "" is a domain like any other; `preselected`: counts for S1 only."""

    key: str
    length: int
    domain: str = ""
    preselected: bool = False


def select(
    candidates: Sequence[Candidate], strategy: Strategy, size: int | None, seed: int, variant: Variant = "Paper"
) -> list[int]:
    """Indices of the chosen candidates, ascending; all of them where `size` is None or not below their number."""
    if strategy == "All" or size is None or size >= len(candidates):
        return list(range(len(candidates)))
    # By key: the choice must not depend on the order in which candidates happen to come.
    order = sorted(range(len(candidates)), key=lambda i: candidates[i].key)
    draws = _Draws(seed)
    if strategy == "Longest":
        chosen = sorted(order, key=lambda i: -candidates[i].length)[:size]
    elif strategy == "Random":
        chosen = draws.sample(order, size)
    else:
        chosen = _s1(candidates, order, size, draws, variant)
    return sorted(chosen)


def _s1(candidates: Sequence[Candidate], order: list[int], size: int, draws: _Draws, variant: Variant) -> list[int]:
    preselected = [i for i in order if candidates[i].preselected]
    if len(preselected) >= size:
        return draws.sample(preselected, size)
    chosen = list(preselected)
    left = _by_domain(candidates, [i for i in order if not candidates[i].preselected])
    weights = Counter(candidates[i].domain for i in preselected)
    while len(chosen) < size:
        # Each domain once, however large: that is what spreads the choice over them.
        domains = sorted(left)
        if variant == "Notebook" and 10 * len(chosen) >= _UNIFORM_TENTHS * size:
            domains = [d for d in domains if weights[d] for _ in range(weights[d])] or domains
        domain = domains[draws.below(len(domains))]
        ranked = left[domain]
        chosen.append(ranked.pop(-1 - draws.rank(len(ranked))))
        if not ranked:
            del left[domain]
    return chosen


def _by_domain(candidates: Sequence[Candidate], order: list[int]) -> dict[str, list[int]]:
    """The candidates of each domain, the longest last, where it is taken away without moving the others."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for i in order:
        found[candidates[i].domain].append(i)
    return {d: sorted(members, key=lambda i: candidates[i].length) for d, members in found.items()}


class _Draws:
    """Draws out of the bits of a seeded Mersenne Twister; Python may change the rest of `random`, its bits it keeps."""

    def __init__(self, seed: int) -> None:
        self._bits = random.Random(seed).getrandbits

    def below(self, number: int) -> int:
        """A number from 0 to below `number`, each as likely."""
        width = number.bit_length()
        while (drawn := self._bits(width)) >= number:
            pass
        return drawn

    def rank(self, number: int) -> int:
        """A rank r from 0 to below `number`, with probability proportional to 2^-r."""
        while True:
            rank = 0
            while rank < number and self._bits(1):
                rank += 1
            if rank < number:
                return rank

    def sample(self, items: Sequence[int], number: int) -> list[int]:
        """`number` of the items, each set of them as likely (Fisher and Yates)."""
        pool = list(items)
        for place in range(number):
            other = place + self.below(len(pool) - place)
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:number]
