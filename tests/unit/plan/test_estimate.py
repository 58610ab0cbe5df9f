"""Estimates: each published run predicted from the others, and how figures follow from the spec."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillrun.api.v1alpha1 import Spec
from distillrun.plan import estimate, steptime
from distillrun.plan.estimate import Estimate
from tests.unit.plan.students import resolved, run_spec

SKY_T1 = {"accepted": "17000", "datasetTokens": "76500000"}
S1 = {"accepted": "1000", "datasetTokens": "4700000"}


def estimated(curated: dict[str, str], **train: Any) -> Estimate:
    made = estimate.of(run_spec(**train), resolved(), curated, Decimal("2.96"))
    assert made is not None
    return made


def test_each_published_run_is_predicted_from_the_others_with_the_errors_that_the_docs_give() -> None:
    errors = steptime.leave_one_out()
    assert errors["s1"] == pytest.approx(0.07, abs=0.01)
    assert errors["torchtitan"] == pytest.approx(-0.06, abs=0.01)
    assert errors["Sky-T1"] == pytest.approx(-0.51, abs=0.01)  # nothing published says how slow offloading is


def test_a_run_is_predicted_without_itself() -> None:
    s1, sky, titan = steptime.PUBLISHED
    assert steptime.fit([sky, titan]).efficiency != steptime.fit([s1, sky]).efficiency
    assert steptime.fit([s1, titan]).offloading == 1.0
    with pytest.raises(ValueError, match="no run"):
        steptime.fit([sky])


def test_s1_takes_about_half_an_hour_and_the_method_and_its_errors_are_printed_with_it() -> None:
    made = estimated(
        S1,
        nodes=2,
        globalBatchSize=16,
        epochs="5",
        maxSequenceLength=32768,
        deepspeed={"offloadOptimizer": False, "offloadParameters": False},
    )
    assert made.steps == 315
    assert made.tokens == pytest.approx(5 * 4.7e6, rel=0.01)
    assert made.seconds == pytest.approx(26 * 60, rel=0.1)
    assert made.gpu_seconds == pytest.approx(16 * made.seconds, rel=1e-3)
    assert Decimal(made.amount) == pytest.approx(
        Decimal(made.gpu_seconds) / 3600 * Decimal("2.96"), rel=Decimal("0.01")
    )
    for words in ("s1 +7%", "Sky-T1 -51%", "torchtitan -6%", "evaluation are left out"):
        assert words in made.method


def test_sky_t1_as_its_authors_ran_it_takes_about_19_hours() -> None:
    made = estimated(SKY_T1, deepspeed={"config": {"data_types": {"grad_accum_dtype": "bf16"}}})
    assert made.seconds == pytest.approx(19 * 3600, rel=0.05)  # by construction: offloading is fitted to it
    assert "offloading at" in made.method


def bounded(rows: int | None = 1000, take: int | None = None, **curate: Any) -> Estimate | None:
    """The estimate before there is a dataset, of a source of so many rows."""
    found = resolved() | {"sources": [{"name": "pool", **({"rows": rows} if rows is not None else {})}]}
    source = {"name": "pool", "uri": "file:///mnt/distillrun/a.jsonl", **({"take": take} if take else {})}
    whole = run_spec(epochs="1")
    changed = {**whole.model_dump(by_alias=True, exclude_none=True), "curate": {"sources": [source], **curate}}
    return estimate.of(Spec.model_validate(changed), found, {}, Decimal("2.96"))


def test_before_there_is_a_dataset_the_most_that_it_can_come_to_is_given_and_said_to_be_that() -> None:
    made = bounded(generate={"maxTokens": 4096, "samples": 2})
    assert made is not None
    assert made.steps == 21  # 2,000 answers, 96 a step
    assert made.tokens == 21 * 96 * 4096
    assert made.method.startswith("At most, before there is a dataset: all 2000 answers accepted, each of 4096 tokens")
    real = estimate.of(run_spec(epochs="1"), resolved(), {"accepted": "1500", "datasetTokens": "4000000"}, Decimal(3))
    assert real is not None
    assert real.seconds < made.seconds
    assert not real.method.startswith("At most")


def test_the_bound_counts_no_more_rows_than_are_taken_and_no_more_tokens_than_are_trained_on() -> None:
    fewer = bounded(rows=None, take=96, generate={"maxTokens": 100_000})
    assert fewer is not None
    assert (fewer.steps, fewer.tokens) == (1, 96 * 16384)
    least = bounded(rows=96, take=5000)
    assert least is not None
    assert least.steps == 1


def test_a_source_of_unknown_size_has_no_bound() -> None:
    assert bounded(rows=None) is None


@pytest.mark.parametrize("missing", ["accepted", "datasetTokens"])
def test_without_examples_or_tokens_nothing_is_estimated(missing: str) -> None:
    curated = {name: value for name, value in SKY_T1.items() if name != missing}
    assert estimate.of(run_spec(), resolved(), curated, Decimal(1)) is None


def test_without_the_gpu_or_the_student_nothing_is_estimated() -> None:
    assert estimate.of(run_spec(product=""), resolved(), SKY_T1, Decimal(1)) is None
    assert estimate.of(run_spec(), None, SKY_T1, Decimal(1)) is None


def test_tokens_that_only_the_teacher_counted_are_shared_out_over_the_accepted_answers() -> None:
    counted = {"accepted": "100", "rejected": "300", "promptTokens": "40000", "completionTokens": "400000"}
    assert estimated(counted, epochs="1").tokens == 2 * 96 * 1100


def test_max_steps_count_instead_of_epochs() -> None:
    assert estimated(SKY_T1, maxSteps=10).steps == 10
    assert estimated(SKY_T1, epochs="3").steps == 3 * 178


def test_unequal_lengths_take_longer_than_equal_ones() -> None:
    equal = estimated(SKY_T1 | {"datasetSquaredTokens": str(17000 * 4500**2)})
    unequal = estimated(SKY_T1 | {"datasetSquaredTokens": str(3 * 17000 * 4500**2)})
    assert equal.seconds < estimated(SKY_T1).seconds < unequal.seconds


@given(st.dictionaries(st.sampled_from([*SKY_T1, "longestTokens", "datasetSquaredTokens"]), st.text(max_size=20)))
@settings(max_examples=100, deadline=None)
def test_no_numbers_of_a_stage_make_it_fail(curated: dict[str, str]) -> None:
    made = estimate.of(run_spec(), resolved(), SKY_T1 | curated, Decimal("2.96"))
    assert made is None or made.seconds >= 0


@given(st.integers(1, 10**14), st.integers(1, 10**14), st.integers(0, 10**14), st.integers(1, 10**14))
@settings(max_examples=100, deadline=None)
def test_absurd_numbers_give_figures_and_no_errors(rows: int, tokens: int, squared: int, longest: int) -> None:
    curated = {
        "accepted": str(rows),
        "datasetTokens": str(tokens),
        "datasetSquaredTokens": str(squared),
        "longestTokens": str(longest),
    }
    assert estimate.of(run_spec(), resolved(), curated, Decimal("2.96")) is not None
