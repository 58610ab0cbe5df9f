"""Duplicates go, the first of them stays, and nothing else goes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillstages.curate.deduplicate import RUN, exact, near


def test_case_and_white_space_do_not_make_another_question() -> None:
    texts = ["What is 2 + 2?", "what is\n2 + 2?", "What is 2 + 3?", "WHAT IS 2 + 3?", ""]
    assert exact(texts) == [None, 0, None, 2, None]


def words(rng: random.Random, number: int) -> list[str]:
    return [f"w{rng.randrange(5000)}" for _ in range(number)]


def test_a_long_question_with_one_word_changed_is_nearly_the_same() -> None:
    rng = random.Random(1)
    one = words(rng, 80)
    other = [*one[:40], "changed", *one[41:]]
    unlike = words(rng, 80)
    assert near([" ".join(one), " ".join(unlike), " ".join(other)], 0.8) == [None, None, 0]


def test_short_questions_with_another_number_are_not() -> None:
    assert near(["What is 123 + 456?", "What is 123 + 457?", "Add 1", "Add 2"], 0.8) == [None] * 4


def test_what_was_removed_removes_nothing_else() -> None:
    """a ~ b ~ c, a unlike c: c stays, for b is gone."""
    rng = random.Random(2)
    a = words(rng, 60)
    b = [*a[:-8], *words(rng, 8)]
    c = [*words(rng, 8), *b[8:]]
    assert near([" ".join(each) for each in (a, b, c)], 0.7) == [None, 0, None]


TEXT = st.lists(st.sampled_from("abcd"), max_size=10).map(" ".join)


@settings(deadline=None)
@given(st.lists(TEXT, max_size=12), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_what_goes_is_as_like_an_earlier_one_as_was_asked(texts: list[str], threshold: float) -> None:
    found = near(texts, threshold)
    for index, earlier in enumerate(found):
        if earlier is not None:
            assert earlier < index
            assert found[earlier] is None
            assert jaccard(texts[index], texts[earlier]) >= threshold


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_pairs_at_the_threshold_are_found(threshold: float) -> None:
    rng = random.Random(3)
    found = expected = 0
    for _ in range(60):
        one = words(rng, 120)
        changed = one[: 120 - int(30 * (1 - threshold) + 1)]
        other = changed + words(rng, 120 - len(changed))
        if jaccard(" ".join(one), " ".join(other)) >= threshold:
            expected += 1
            found += near([" ".join(one), " ".join(other)], threshold)[1] == 0
    assert expected == 60
    assert found == expected


def test_the_same_rows_give_the_same_result() -> None:
    rng = random.Random(4)
    texts = [" ".join(words(rng, 5) + ["same"] * 20) for _ in range(50)]
    assert near(texts, 0.6) == near(list(texts), 0.6)


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def shingles(text: str) -> set[tuple[str, ...]]:
    parts = text.lower().split()
    return {tuple(parts[i : i + RUN]) for i in range(max(1, len(parts) - RUN + 1))}
