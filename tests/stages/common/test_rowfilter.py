"""Rows are kept by the text of a column, before anything else is done with them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from distillstages.common import reasons, rowfilter
from distillstages.common.blocks import Curate, InputToResolve, RowFilter, Source
from distillstages.common.exit import DataFault
from distillstages.common.sources import read_questions
from distillstages.curate import pool
from distillstages.resolve import data
from tests.stages.engines.stages import write_jsonl

ROWS = [
    {"source": "math", "question": "1+1", "answer": r"\boxed{2}"},
    {"source": "forum", "question": "2+2", "answer": r"\boxed{4}"},
    {"source": "math", "question": "3+3 [asy]", "answer": r"\boxed{6}"},
    {"source": "math", "question": "4+4", "answer": "eight"},
    {"source": "math", "question": "5+5", "answer": r"\boxed{10}"},
]


def filters(*given: dict[str, Any]) -> list[RowFilter]:
    return [RowFilter.model_validate(each) for each in given]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], [0, 1, 2, 3, 4]),
        ([{"column": "source", "oneOf": ["math", "amc"]}], [0, 2, 3, 4]),
        ([{"column": "answer", "contains": ["\\boxed"]}], [0, 1, 2, 4]),
        ([{"column": "answer", "contains": ["\\boxed", "1"]}], [4]),
        ([{"column": "question", "lacks": ["[asy]", "5"]}], [0, 1, 3]),
        ([{"column": "source", "oneOf": ["math"]}, {"column": "answer", "contains": ["\\boxed"]}], [0, 2, 4]),
    ],
)
def test_a_row_is_kept_when_it_passes_every_filter(given: list[dict[str, Any]], kept: list[int]) -> None:
    left_out: Counter[str] = Counter()
    rows = [("file", number, row) for number, row in enumerate(ROWS)]
    assert [number for _, number, _ in rowfilter.wanted(filters(*given), rows, left_out)] == kept
    assert left_out.total() == len(ROWS) - len(kept)


def test_numbers_are_compared_as_text_and_nothing_is_no_text() -> None:
    rows = [("file", 1, {"level": 5}), ("file", 2, {"level": None}), ("file", 3, {})]
    assert [n for _, n, _ in rowfilter.wanted(filters({"column": "level", "oneOf": ["5"]}), rows)] == [1]
    assert [n for _, n, _ in rowfilter.wanted(filters({"column": "level", "lacks": ["5"]}), rows)] == [2, 3]


def test_a_column_that_is_misspelt_is_an_error_and_not_an_empty_source() -> None:
    with pytest.raises(DataFault, match="file row 1: no field 'sauce', which a filter") as error:
        list(rowfilter.wanted(filters({"column": "sauce", "oneOf": ["math"]}), [("file", 1, ROWS[0])]))
    assert error.value.reason == reasons.FIELD_MISSING


def source(folder: Path, **given: Any) -> Source:
    path = write_jsonl(folder / "pool.jsonl", ROWS)
    return Source.model_validate({"name": "pool", "uri": path.as_uri(), **given})


def test_take_counts_the_rows_that_pass(tmp_path: Path) -> None:
    some = source(tmp_path, take=2, filters=[{"column": "answer", "contains": ["\\boxed"]}])
    assert [question.question for question in read_questions(some)] == ["1+1", "2+2"]


def test_a_source_of_which_no_row_passes_says_so(tmp_path: Path) -> None:
    none = source(tmp_path, filters=[{"column": "source", "oneOf": ["physics"]}])
    with pytest.raises(DataFault, match="has no rows that pass its filters"):
        list(read_questions(none))


@pytest.mark.parametrize("given", [{}, {"oneOf": ["a"], "lacks": ["b"]}])
def test_a_filter_says_one_thing(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="set exactly one of oneOf, contains and lacks"):
        RowFilter.model_validate({"column": "source", **given})


BOXED = {"column": "answer", "contains": ["\\boxed"]}


def test_the_funnel_begins_with_the_rows_that_filters_leave_out(tmp_path: Path) -> None:
    config = Curate.model_validate({"sources": [source(tmp_path, filters=[BOXED])], "teacher": TEACHER})
    found = pool.read(config, seed=0)
    assert [question.question for question in found.questions] == ["1+1", "2+2", "3+3 [asy]", "5+5"]
    steps = [(each["step"], each["in"], each["out"]) for each in found.funnel.fields()]
    assert steps[:2] == [("filter", 5, 4), ("read", 4, 4)]


TEACHER = {"name": "t", "url": "http://t/v1", "model": "m"}


def test_resolve_counts_and_checks_the_rows_that_pass(tmp_path: Path) -> None:
    given = InputToResolve.model_validate(source(tmp_path, filters=[BOXED]).model_dump(by_alias=True))
    assert data.resolve(given)["rows"] == 4


def test_resolve_does_not_look_for_rows_that_pass_to_the_end_of_a_large_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(data, "_LOOKED_AT", 3)
    rare = [{"column": "source", "oneOf": ["physics"]}]
    given = InputToResolve.model_validate(source(tmp_path, filters=rare).model_dump(by_alias=True))
    assert data.resolve(given)["rows"] is None
