"""Selection draws by its definition, and draws the same everywhere."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.curate.select import Candidate, Strategy, Variant, select


def pool(sizes: dict[str, int], preselected: int = 0) -> list[Candidate]:
    """Candidates by domain; lengths count up within a domain, and the first of all are preselected."""
    found = [Candidate(f"{d}-{n:05}", n, d) for d, size in sizes.items() for n in range(size)]
    return [Candidate(c.key, c.length, c.domain, i < preselected) for i, c in enumerate(found)]


def test_all_of_them_stay_in_their_order() -> None:
    assert select(pool({"a": 3}), "All", None, 0) == [0, 1, 2]
    assert select(pool({"a": 3}), "S1", 3, 0) == [0, 1, 2]
    assert select(pool({"a": 3}), "Random", 10, 0) == [0, 1, 2]
    assert select([], "S1", 5, 0) == []


def test_the_longest_are_taken_and_of_equals_the_first_by_key() -> None:
    candidates = [Candidate("c", 5), Candidate("b", 9), Candidate("a", 5), Candidate("d", 1)]
    assert select(candidates, "Longest", 2, 0) == [1, 2]


CANDIDATES = st.lists(
    st.builds(
        Candidate, st.text("abc", min_size=1, max_size=6), st.integers(0, 5), st.sampled_from("xyz"), st.booleans()
    ),
    unique_by=lambda c: c.key,
    max_size=20,
)


@given(CANDIDATES, st.sampled_from(["Random", "Longest", "S1"]), st.integers(1, 20), st.integers(0, 99), st.randoms())
def test_as_many_as_asked_are_chosen_whatever_their_order(
    candidates: list[Candidate], strategy: Strategy, size: int, seed: int, shuffle: object
) -> None:
    chosen = select(candidates, strategy, size, seed)
    assert len(set(chosen)) == len(chosen) == min(size, len(candidates))
    assert chosen == sorted(chosen)
    other = candidates.copy()
    shuffle.shuffle(other)  # type: ignore[attr-defined]
    again = select(other, strategy, size, seed)
    assert {candidates[i].key for i in chosen} == {other[i].key for i in again}


@given(CANDIDATES, st.integers(1, 20), st.integers(0, 99), st.sampled_from(["Paper", "Notebook"]))
def test_s1_keeps_what_was_preselected(candidates: list[Candidate], size: int, seed: int, variant: Variant) -> None:
    preselected = {i for i, c in enumerate(candidates) if c.preselected}
    chosen = set(select(candidates, "S1", size, seed, variant))
    assert preselected <= chosen or chosen <= preselected


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("Random", [4, 5, 6, 10, 14]), ("S1", [7, 16, 17, 18, 21])],
)
def test_the_choice_is_the_same_on_every_machine(strategy: Strategy, expected: list[int]) -> None:
    """Written down once; a change means that no run from before can be reproduced."""
    assert select(pool({"a": 10, "b": 10, "c": 2}), strategy, 5, 7) == expected


def test_another_seed_chooses_otherwise() -> None:
    candidates = pool({"a": 200})
    assert len({tuple(select(candidates, "Random", 20, seed)) for seed in range(5)}) == 5


def test_domains_are_drawn_alike_however_large_they_are() -> None:
    drawn: Counter[str] = Counter()
    candidates = pool({"small": 40, "middle": 400, "large": 4000})
    for seed in range(100):
        drawn.update(candidates[i].domain for i in select(candidates, "S1", 30, seed))
    assert drawn.total() == 3000
    assert all(abs(number - 1000) < 130 for number in drawn.values()), drawn  # 5 standard deviations


def test_ranks_are_drawn_by_halves() -> None:
    """One draw from 1,000 of one domain: the longest half of the time, the next a quarter of it, and so on."""
    candidates = pool({"a": 1000})
    drawn = Counter(999 - select(candidates, "S1", 1, seed)[0] for seed in range(4000))
    for rank in range(5):
        expected = 4000 / 2 ** (rank + 1)
        assert abs(drawn[rank] - expected) < 5 * expected**0.5, drawn


def test_a_small_domain_s_ranks_share_what_lies_beyond_them() -> None:
    candidates = pool({"a": 2})
    drawn = Counter(1 - select(candidates, "S1", 1, seed)[0] for seed in range(3000))
    assert abs(drawn[0] - 2000) < 130


def test_the_notebook_fills_the_last_part_by_the_domains_of_what_was_preselected() -> None:
    """Of 1,000: 40 preselected of one domain, uniformly up to 700, then that domain only."""
    candidates = pool({"liked": 1000, "other": 1000, "third": 1000}, preselected=40)
    drawn: Counter[str] = Counter(candidates[i].domain for i in select(candidates, "S1", 1000, 3, "Notebook"))
    assert drawn["other"] + drawn["third"] == pytest.approx(440, abs=60)
    uniform: Counter[str] = Counter(candidates[i].domain for i in select(candidates, "S1", 1000, 3, "Paper"))
    assert uniform["other"] + uniform["third"] == pytest.approx(640, abs=75)
