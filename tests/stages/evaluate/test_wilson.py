"""Wilson's interval against published values and against the equation that defines it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.evaluate.wilson import Z95, interval


# R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I.
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_values_of_newcombe(successes: int, trials: int, low: float, high: float) -> None:
    assert interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


trials_and_successes = st.integers(1, 100_000).flatmap(
    lambda n: st.tuples(st.just(n), st.floats(0, n, allow_nan=False, allow_subnormal=False))
)


@given(trials_and_successes)
def test_the_ends_are_where_the_score_test_just_rejects(case: tuple[int, float]) -> None:
    trials, successes = case
    share = successes / trials
    for end in interval(successes, trials):
        # (share - end)² = z² · end · (1 - end) / n defines both ends.
        assert math.isclose((share - end) ** 2, Z95**2 * end * (1 - end) / trials, rel_tol=1e-6, abs_tol=1e-12)


@given(trials_and_successes)
def test_the_share_lies_within_and_the_interval_within_0_and_1(case: tuple[int, float]) -> None:
    trials, successes = case
    low, high = interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1


@given(trials_and_successes)
def test_failures_mirror_successes(case: tuple[int, float]) -> None:
    trials, successes = case
    low, high = interval(successes, trials)
    assert interval(trials - successes, trials) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_numbers_that_make_no_share_are_refused(successes: float, trials: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= successes <= trials"):
        interval(successes, trials)
