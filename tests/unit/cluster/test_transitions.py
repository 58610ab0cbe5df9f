"""What one status says that the one before did not: counted once, and never a reason to stop."""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillrun.cluster.transitions import Counted, StageEnd, between

Json = dict[str, Any]


def stage(name: str = "train", **changes: Any) -> Json:
    return {"name": name, "state": "Running", "attempt": 1, "failures": 0, "preemptions": 0, **changes}


def status(*stages: Json, **changes: Any) -> Json:
    return {"phase": "Training", "stages": list(stages), "conditions": [], **changes}


RUNNING = status(stage(startTime="2026-01-31T12:00:00Z"))


def test_the_end_of_a_stage_is_told_once_with_its_duration() -> None:
    ended = {**stage(state="Succeeded"), "startTime": "2026-01-31T12:00:00Z", "completionTime": "2026-01-31T13:00:30Z"}
    after = status(ended)
    assert between(RUNNING, after).ends == (StageEnd("train", "Succeeded", 3630.0),)
    assert between(after, after).ends == ()


@pytest.mark.parametrize("outcome", ["Failed", "Reused"])
def test_a_stage_of_which_no_pod_ran_ends_after_no_time(outcome: str) -> None:
    assert between({}, status(stage(state=outcome))).ends == (StageEnd("train", outcome, 0.0),)


def test_attempts_that_ended_are_counted_by_what_ended_them() -> None:
    after = status(stage(attempt=4, state="Pending", failures=1, preemptions=2, reason="Disrupted", message="drained"))
    assert set(between(RUNNING, after).counted) == {
        Counted("train", "failures", "Disrupted", 1),
        Counted("train", "preemptions", "Disrupted", 2),
    }


def test_a_run_that_is_opened_again_begins_at_zero_and_counts_nothing() -> None:
    failed = status(stage(state="Failed", failures=3))
    assert between(failed, status(stage(failures=0))).counted == ()


def test_a_run_fails_once() -> None:
    stalled = {"type": "Stalled", "status": "True", "reason": "OutOfMemory", "message": "…"}
    failed = status(stage(state="Failed"), conditions=[stalled])
    assert between(RUNNING, failed).failed == "OutOfMemory"
    assert between(failed, failed).failed == ""
    assert between(failed, RUNNING).failed == ""


def test_gpu_seconds_and_cost_are_the_difference_and_never_negative() -> None:
    def used(seconds: str, spent: str) -> Json:
        return status(stage(cost={"gpuSeconds": seconds}), cost={"spent": spent, "currency": "EUR"})

    told = between(used("10.5", "1.00"), used("30.5", "1.25"))
    assert (told.gpu_seconds, told.spent, told.currency) == ({"train": 20.0}, Decimal("0.25"), "EUR")
    back = between(used("30.5", "1.25"), used("10.5", "1.00"))
    assert (back.gpu_seconds, back.spent) == ({}, Decimal(0))


def test_every_change_but_progress_has_a_line_with_stage_attempt_and_reason() -> None:
    after = status(
        stage(state="Pending", attempt=2, failures=1, reason="Fault", message="attempt 1: boom"),
        phase="Curating",
        message="again",
        conditions=[{"type": "Suspended", "status": "True", "reason": "Asked"}],
    )
    words = between(RUNNING, after).words
    assert [(word.text, word.stage, word.attempt, word.reason) for word in words] == [
        ("train attempt 2: Pending (Fault: attempt 1: boom)", "train", 2, "Fault"),
        ("The run is Curating: again", "", 0, ""),
        ("Condition Suspended is True (Asked)", "", 0, "Asked"),
    ]
    assert [word.text for word in between(after, {**after, "conditions": []}).words] == ["Condition Suspended is gone"]
    moved = deepcopy(after)
    moved["stages"][0]["progress"] = {"done": 7}
    moved["cost"] = {"spent": "3"}
    assert between(after, moved).words == ()


KEYS = ["stages", "name", "state", "failures", "cost", "gpuSeconds", "conditions", "type", "status", "startTime"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "NaN", "1e999", "Running", "train", "2026"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)
STATUSES = st.dictionaries(st.sampled_from(["stages", "conditions", "cost", "phase"]), ANYTHING, max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=STATUSES, after=STATUSES)
def test_whatever_a_stranger_wrote_into_a_status_stops_nothing(before: Any, after: Any) -> None:
    between(before, after)
