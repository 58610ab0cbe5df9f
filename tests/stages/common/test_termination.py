"""The termination message: at most 4,096 bytes, always JSON, the important parts last to go."""

from __future__ import annotations

import json
import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from distillstages.common import termination
from distillstages.common.exit import DataFault
from distillstages.common.termination import MAX_BYTES, Termination, decode

TEXTS = st.none() | st.text(max_size=6000) | st.text(st.characters(categories=["Cs", "So", "Cc"]), max_size=3000)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=500),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=100), inner, max_size=30),
    max_leaves=60,
)


@given(
    st.builds(
        Termination,
        outcome=st.sampled_from(["Succeeded", "Failed"]),
        reason=TEXTS,
        message=TEXTS,
        retry_after_seconds=st.none() | st.floats(),
        artifact=TEXTS,
        numbers=st.dictionaries(st.text(max_size=100), VALUES, max_size=60),
        log=TEXTS,
    )
)
def test_any_message_is_valid_json_of_at_most_4096_bytes(message: Termination) -> None:
    data = message.encode()
    assert len(data) <= MAX_BYTES
    document = json.loads(data.decode("utf-8"))
    assert list(document) == ["outcome", "reason", "message", "retryAfterSeconds", "artifact", "numbers", "log"]
    assert document["outcome"] == message.outcome
    decode(data)


def test_a_short_message_is_kept_whole() -> None:
    message = Termination("Succeeded", artifact="file:///x/", numbers={"questions": 4, "scores": [{"value": 0.5}]})
    assert decode(message.encode()) == message


def test_the_end_of_a_long_log_stays_and_the_message_with_it() -> None:
    log = "\n".join(f"line {n}" for n in range(5000))
    document = json.loads(Termination("Failed", "Fault", "it broke", log=log).encode())
    assert document["message"] == "it broke"
    assert document["log"].endswith("line 4999")
    assert len(document["log"]) > 2000


def test_long_tables_of_numbers_are_cut_before_the_headline_and_say_so() -> None:
    table = {f"Reason{n}": n for n in range(1000)}
    document = json.loads(Termination("Succeeded", numbers={"rejectedByReason": table, "questions": 7}).encode())
    assert document["numbers"]["questions"] == 7
    assert document["numbers"]["truncated"] is True
    assert 100 < len(document["numbers"]["rejectedByReason"]) < 1000


def test_numbers_that_json_cannot_say_become_null() -> None:
    document = json.loads(Termination("Succeeded", numbers={"loss": math.nan, "rate": math.inf}).encode())
    assert document["numbers"] == {"loss": None, "rate": None}


def test_a_failure_carries_its_reason_sentence_and_wait(tmp_path: Path) -> None:
    error = DataFault("row 3 is broken", reason="RowBroken")
    path = tmp_path / "termination-log"
    path.write_text("x" * 9000)  # a bind mount: overwritten in place, and nothing of the old text stays
    assert termination.write(Termination.failed(error, artifact="file:///x/"), path)
    assert decode(path.read_bytes()) == Termination("Failed", "RowBroken", "row 3 is broken", artifact="file:///x/")


def test_a_place_that_cannot_be_written_does_not_hide_the_cause(tmp_path: Path) -> None:
    assert termination.write(Termination("Failed"), tmp_path / "no" / "such" / "folder") is False
