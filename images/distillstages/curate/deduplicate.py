"""Duplicates among questions: the same words, or nearly the same (MinHash, Broder 1997, with LSH).

The first of equals is kept, in the order of the data. Nearly the same means that the sets of runs of `RUN` words have a
Jaccard index of at least the threshold; MinHash only finds the pairs to look at, the index itself is computed, so that
nothing is removed by an accident of hashing. Everything is seeded by constants: the same rows give the same result.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RUN: Final = 3
"""Words of a run; short questions that differ in one number share few of them, and are not taken for the same."""
HASHES: Final = 128
_SEED: Final = 20250131
_PRIME: Final = (1 << 31) - 1
_MOST_MISSED: Final = 1e-3
"""The bands are chosen so that at most this share of pairs at the threshold is never looked at."""

Signature = NDArray[np.uint32]


def normal(text: str) -> str:
    """What counts when texts are compared: the words, whatever their case and what lies between them."""
    return " ".join(text.lower().split())


def exact(texts: Sequence[str]) -> list[int | None]:
    """For each text the index of the first one with the same words, None where it is the first itself."""
    first: dict[str, int] = {}
    found: list[int | None] = []
    for index, text in enumerate(texts):
        earlier = first.setdefault(normal(text), index)
        found.append(None if earlier == index else earlier)
    return found


def near(texts: Sequence[str], threshold: float) -> list[int | None]:
    """For each text the index of an earlier one that was kept and that it nearly repeats, None where it is kept.

    `threshold`: Jaccard index above 0 up to 1. Of several the first one counts. Pairs well above the threshold are all
    found, of those at it all but one in a thousand."""
    rows = _rows_per_band(threshold)
    numbers = np.random.default_rng(_SEED).integers(1, _PRIME, size=(2, HASHES), dtype=np.uint64)
    buckets: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(HASHES // rows)]
    shingled: dict[int, frozenset[int]] = {}
    found: list[int | None] = []
    for index, text in enumerate(texts):
        shingles = _shingles(text)
        signature = _signature(shingles, numbers)
        bands = [signature[start : start + rows].tobytes() for start in range(0, HASHES, rows)]
        candidates = sorted({c for bucket, band in zip(buckets, bands, strict=True) for c in bucket.get(band, ())})
        match = next((c for c in candidates if _jaccard(shingles, shingled[c]) >= threshold), None)
        found.append(match)
        if match is None:
            shingled[index] = shingles
            for bucket, band in zip(buckets, bands, strict=True):
                bucket[band].append(index)
    return found


def _rows_per_band(threshold: float) -> int:
    """Most hashes a band with which pairs at the threshold are still found: 1 - (1 - t^r)^b (Leskovec et al., 3.4)."""
    for rows in (64, 32, 16, 8, 4, 2):
        if float((1 - threshold**rows) ** (HASHES // rows)) <= _MOST_MISSED:
            return rows
    return 1


def _shingles(text: str) -> frozenset[int]:
    words = text.lower().split()
    if len(words) <= RUN:
        return frozenset((zlib.crc32(" ".join(words).encode("utf-8", "surrogatepass")),))
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    return frozenset(zlib.crc32(b" ".join(encoded[i : i + RUN])) for i in range(len(encoded) - RUN + 1))


def _signature(shingles: frozenset[int], numbers: NDArray[np.uint64]) -> Signature:
    """Shape (HASHES,): the least value of each hash (a·x + b) mod 2³¹-1 over the shingles."""
    values: Any = np.fromiter(shingles, dtype=np.uint64, count=len(shingles)) % np.uint64(_PRIME)
    hashed = (values[:, None] * numbers[0] + numbers[1]) % np.uint64(_PRIME)
    least: Signature = hashed.min(axis=0).astype(np.uint32)
    return least


def _jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
