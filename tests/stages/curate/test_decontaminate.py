"""Decontamination removes what a word-by-word comparison removes, and says why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.curate.decontaminate import Benchmarks, Overlap

LONG = "Find the number of ordered pairs of integers whose product is twelve"


def against(*questions: str, size: int = 8) -> Benchmarks:
    benchmarks = Benchmarks(size)
    benchmarks.add("aime24", questions)
    return benchmarks


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (LONG, "find the number of ordered pairs of integers"),
        (f"Please  {LONG.upper()}\n\n?", "find the number of ordered pairs of integers"),
        ("of ordered pairs of integers whose product is one", "of ordered pairs of integers whose product is"),
        ("of ordered pairs of integers whose product was", None),
        ("number of ordered pairs", None),
        ("", None),
        (" \n ", None),
    ],
)
def test_eight_words_in_a_row_are_an_overlap_and_seven_are_none(question: str, words: str | None) -> None:
    assert against(LONG).overlap(question) == (Overlap("aime24", words) if words else None)


def test_short_questions_are_compared_as_a_whole() -> None:
    benchmarks = against("What is 2+2?")
    assert benchmarks.overlap("what  is 2+2?") == Overlap("aime24", "what is 2+2?")
    assert benchmarks.overlap("What is 2+2? Explain.") is None
    assert benchmarks.overlap("Somebody asks you this very long question now: What is 2+2?") is None


def test_the_benchmark_that_was_given_first_is_named() -> None:
    benchmarks = against(LONG)
    assert benchmarks.add("math500", [LONG, LONG + " and more"]) == 2
    found = benchmarks.overlap(LONG)
    assert found is not None
    assert found.benchmark == "aime24"


TEXT = st.lists(st.sampled_from(["a", "b", "C", "d\n", " "]), max_size=14).map(" ".join)


@given(st.lists(TEXT, max_size=6), st.lists(TEXT, max_size=12), st.integers(1, 8))
def test_the_same_questions_go_as_with_the_naive_comparison(known: list[str], asked: list[str], size: int) -> None:
    benchmarks = Benchmarks(size)
    benchmarks.add("b", known)

    def naive(question: str) -> bool:
        one = question.lower().split()
        for each in known:
            other = each.lower().split()
            if len(one) < size:
                if one and one == other:
                    return True
            elif any(
                one[i : i + size] == other[j : j + size]
                for i in range(len(one) - size + 1)
                for j in range(len(other) - size + 1)
            ):
                return True
        return False

    assert [benchmarks.overlap(q) is not None for q in asked] == [naive(q) for q in asked]
