"""The journal and what becomes of its records."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.evaluate import scores
from distillstages.evaluate.records import Journal, Record, encode

RIGHT = Record("k0", "row 1", 0, "1+1=?", "2", "adding", "2", "2", True, None, "stop", 7)
WRONG = dataclasses.replace(RIGHT, key="k1", response="3", extracted="3", correct=False, reason="WrongAnswer")

texts = st.text(max_size=30)
records = st.builds(
    Record,
    key=texts,
    id=texts,
    sample=st.integers(0, 63),
    question=texts,
    reference=texts,
    thinking=texts,
    response=texts,
    extracted=st.none() | texts,
    correct=st.booleans(),
    reason=st.none() | texts,
    finish_reason=texts,
    tokens=st.integers(0, 1 << 20),
)


@given(records)
def test_a_record_is_one_line_and_comes_back_as_it_was(record: Record) -> None:
    line = encode(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert Record.from_dict(json.loads(line)) == record


def test_a_journal_holds_what_was_appended_when_it_is_opened_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "student/additions.jsonl")
    journal.append(RIGHT)
    journal.append(WRONG)
    journal.close()
    again = Journal(journal.path)
    assert list(again.records.values()) == [RIGHT, WRONG]


@pytest.mark.parametrize("cut", [1, 5, len(encode(WRONG)) - 1])
def test_a_cut_line_is_dropped_and_the_next_one_starts_on_a_line_of_its_own(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(encode(RIGHT) + encode(WRONG)[:-cut])
    journal = Journal(path)
    assert list(journal.records.values()) == [RIGHT]
    journal.append(WRONG)
    journal.close()
    assert list(Journal(path).records.values()) == [RIGHT, WRONG]


@pytest.mark.parametrize("line", [b"[]\n", b"{}\n", b"not JSON\n", b'{"key": 1, "sample": "x"}\n'])
def test_a_line_that_is_no_record_is_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(line + encode(RIGHT))
    assert list(Journal(path).records.values()) == [RIGHT]


def test_several_samples_make_the_score_a_mean_and_leave_the_interval_to_the_questions() -> None:
    answers = [dataclasses.replace(RIGHT if i < 5 else WRONG, key=f"k{i // 4}", sample=i % 4) for i in range(8)]
    found = scores.score("b", "m", 2, 4, answers)
    numbers = found.numbers()
    assert (numbers["value"], numbers["n"], numbers["correct"]) == (0.625, 2, 1.25)
    one_sample = scores.score("b", "m", 8, 1, answers).numbers()
    assert numbers["high"] - numbers["low"] > one_sample["high"] - one_sample["low"]


def test_one_sample_counts_whole_questions() -> None:
    numbers = scores.score("b", "m", 2, 1, [RIGHT, WRONG]).numbers()
    assert (numbers["correct"], numbers["value"]) == (1, 0.5)
    assert isinstance(numbers["correct"], int)


def test_a_missing_record_is_no_score() -> None:
    with pytest.raises(ValueError, match="1 records, expected 2 × 1"):
        scores.score("b", "m", 2, 1, [RIGHT])


def test_what_explains_a_score_is_counted() -> None:
    odd = [
        dataclasses.replace(WRONG, finish_reason="length"),
        dataclasses.replace(WRONG, reason="UnverifiableReference"),
        dataclasses.replace(WRONG, finish_reason="promptTooLong", tokens=0),
    ]
    details = scores.score("b", "m", 3, 1, odd).details()
    assert {k: details[k] for k in ("truncated", "unverifiable", "promptTooLong", "tokens")} == {
        "truncated": 1,
        "unverifiable": 1,
        "promptTooLong": 1,
        "tokens": 14,
    }
