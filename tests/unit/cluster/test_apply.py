"""The parts of writing that need no server: which change a status is, and whose an object is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillrun.cluster.apply import merge_diff, without_none
from distillrun.cluster.events import NOTE_LIMIT, Recorder, event_name
from distillrun.plan.model import Event
from tests.unit.builders import run

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"])
OBJECTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)
STATUSES = st.dictionaries(st.sampled_from("abcd"), OBJECTS, max_size=4).map(without_none)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, as the RFC writes it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@given(old=STATUSES, new=STATUSES)
def test_the_change_of_a_status_turns_the_old_one_into_the_new_one(old: Any, new: Any) -> None:
    assert merged(old, merge_diff(old, new)) == new


@given(status=STATUSES)
def test_a_status_that_stands_is_no_change(status: Any) -> None:
    assert merge_diff(status, status) == {}


def test_a_condition_that_goes_is_written_as_the_whole_list() -> None:
    old = {"conditions": [{"type": "Ready"}, {"type": "Stalled"}], "phase": "Failed"}
    assert merge_diff(old, {"conditions": [{"type": "Ready"}]}) == {"conditions": [{"type": "Ready"}], "phase": None}


def test_the_same_event_has_the_same_name_and_another_one_another() -> None:
    event = Event("Warning", "StageFailed", "curate failed")
    assert event_name(run(), event) == event_name(run(), event)
    assert event_name(run(), event) != event_name(run(), Event("Warning", "StageFailed", "train failed"))
    assert event_name(run(), event) != event_name(run(uid="another"), event)


@pytest.mark.parametrize("length", [NOTE_LIMIT, NOTE_LIMIT + 1, 100_000])
def test_a_long_event_is_cut_to_what_the_api_server_takes(length: int) -> None:
    body = Recorder(None, "me").body(run(), Event("Normal", "R", "x" * length))  # type: ignore[arg-type]
    assert len(body["note"]) == NOTE_LIMIT
