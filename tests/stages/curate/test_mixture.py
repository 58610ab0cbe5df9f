"""Mixtures by count and by share: which questions are asked, and that it depends on the seed alone."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.common.blocks import Curate, Source
from distillstages.common.sources import Question, key_of
from distillstages.curate.mixture import draw, quotas, to_be_read


def source(name: str, **options: Any) -> Source:
    return Source(**{"name": name, "uri": f"file:///{name}.jsonl", **options})


def pool(name: str, size: int) -> list[Question]:
    return [Question(key_of(name, str(n)), str(n), name, str(n), "1") for n in range(size)]


def test_without_shares_all_questions_are_asked_in_their_order() -> None:
    pools = [pool("a", 3), pool("b", 2)]
    assert draw([source("a"), source("b", take=2)], pools, 1) == pools


def test_a_random_take_is_seeded_spread_and_holds_every_smaller_one() -> None:
    given_pool = pool("a", 1000)

    def ids(take: int, seed: int) -> list[int]:
        (drawn,) = draw([source("a", take=take, pick="Random")], [given_pool], seed)
        return [int(question.id) for question in drawn]

    first = ids(100, 7)
    assert first == ids(100, 7) == sorted(first)
    assert len(first) == len(set(first)) == 100
    assert set(first) <= set(ids(300, 7))
    assert set(first) != set(ids(100, 8))
    assert 10 <= sum(n < 200 for n in first) <= 35, "a fifth of the rows gives about a fifth of the draw"


def test_a_draw_does_not_depend_on_the_order_of_the_rows() -> None:
    rows = pool("a", 50)
    options = [source("a", take=9, pick="Random")]
    assert set(draw(options, [rows], 3)[0]) == set(draw(options, [rows[::-1]], 3)[0])


@pytest.mark.parametrize(
    ("shares", "available", "wanted"),
    [
        (["0.5", "0.3", "0.2"], [500, 900, 900], [500, 300, 200]),
        (["5", "3", "2"], [500, 900, 900], [500, 300, 200]),
        (["0.1", "0.2"], [1, 100], [1, 2]),
        (["0.999", "0.001"], [10, 10], [10, 1]),
        (["1"], [7], [7]),
    ],
)
def test_shares_give_the_largest_mixture_that_repeats_nothing(
    shares: list[str], available: list[int], wanted: list[int]
) -> None:
    assert quotas([Fraction(share) for share in shares], available) == wanted


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 5000)), min_size=1, max_size=8),
)
def test_no_quota_exceeds_what_there_is_and_some_source_is_used_up(given_sources: list[tuple[int, int]]) -> None:
    shares, available = [Fraction(share, 100) for share, _ in given_sources], [count for _, count in given_sources]
    counts = quotas(shares, available)
    assert all(1 <= count <= most for count, most in zip(counts, available, strict=True))
    assert any(count == most for count, most in zip(counts, available, strict=True))
    whole = sum(counts)
    for share, count in zip(shares, counts, strict=True):
        assert count == 1 or abs(count - whole * share / sum(shares)) <= len(shares)


def test_shares_are_drawn_after_take_and_the_order_of_sources_stays() -> None:
    sources = [source("a", share=0.5, take=10, pick="Random"), source("b", share=0.5)]
    drawn = draw(sources, [pool("a", 100), pool("b", 40)], 1)
    assert [len(some) for some in drawn] == [10, 10]
    assert [{question.source for question in some} for some in drawn] == [{"a"}, {"b"}]


def test_only_a_draw_at_random_needs_all_rows() -> None:
    assert to_be_read(source("a", take=5)).take == 5
    assert to_be_read(source("a", take=5, pick="Random")).take is None


def test_a_share_of_some_sources_alone_means_nothing() -> None:
    teacher = {"name": "t", "url": "http://t/v1", "model": "m"}
    with pytest.raises(ValueError, match="either all sources have a share or none"):
        Curate(teacher=teacher, sources=[source("a", share=0.5), source("b")])
