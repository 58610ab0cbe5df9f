"""Reading questions: formats, places, field mapping, and what is said about rows that are wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distillstages.common.blocks import Source
from distillstages.common.exit import DataFault
from distillstages.common.sources import Question, key_of, read_questions, unique

ROWS = [{"question": "1+1=?", "answer": "2"}, {"question": "2+2=?", "answer": "4"}]


def read(path: Path | str, **options: Any) -> list[Question]:
    uri = path if isinstance(path, str) else path.as_uri()
    return list(read_questions(Source(**{"name": "pool", "uri": uri, **options})))


def fault(path: Path | str, **options: Any) -> DataFault:
    with pytest.raises(DataFault) as caught:
        read(path, **options)
    return caught.value


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(questions: list[Question]) -> list[tuple[str, str]]:
    return [(q.question, q.reference) for q in questions]


WANTED = [("1+1=?", "2"), ("2+2=?", "4")]


def test_the_three_formats_give_the_same_questions(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "a.csv").write_text('question,answer,note\n"1+1=?",2,x\n2+2=?,4,"y, z"\n')
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    with gzip.open(tmp_path / "b.jsonl.gz", "wb") as file:
        file.write((tmp_path / "a.jsonl").read_bytes())
    for name in ("a.jsonl", "a.csv", "a.parquet", "b.jsonl.gz"):
        assert texts(read(tmp_path / name)) == WANTED, name


def test_a_directory_is_all_of_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    jsonl(tmp_path / "d/part-2.jsonl", ROWS[1:])
    jsonl(tmp_path / "d/part-1.jsonl", ROWS[:1])
    jsonl(tmp_path / "d/.partial/part-0.jsonl", [{"half": 1}])
    (tmp_path / "d/README.md").write_text("not data")
    assert texts(read(tmp_path / "d")) == WANTED


def test_a_glob_is_the_files_that_match(tmp_path: Path) -> None:
    jsonl(tmp_path / "train-1.jsonl", ROWS[:1])
    jsonl(tmp_path / "train-2.jsonl", ROWS[1:])
    jsonl(tmp_path / "test-1.jsonl", [{"question": "9+9=?", "answer": "18"}])
    assert texts(read(tmp_path.as_uri() + "/train-*.jsonl")) == WANTED


def test_take_reads_the_first_rows_only(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    path.write_text(path.read_text() + "broken, and never reached")
    assert texts(read(path, take=2)) == WANTED
    assert texts(read(path, take=1)) == WANTED[:1]


def test_columns_are_mapped_and_numbers_are_taken_as_text(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"problem": " 1+1=? ", "solution": 2, "uid": 17}])
    (found,) = read(path, fields={"question": "problem", "answer": "solution", "id": "uid"})
    assert (found.id, found.question, found.reference) == ("17", "1+1=?", "2")


def test_a_questions_name_depends_on_source_and_text_alone(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    first, second = read(path)
    assert first.key == first.id == key_of("pool", "1+1=?")
    assert len({first.key, second.key, key_of("other", "1+1=?")}) == 3


def test_the_reference_of_a_worked_answer_is_what_follows_the_hashes_or_stands_in_the_box(tmp_path: Path) -> None:
    rows = [
        {"question": "a", "answer": "She has 3 + 4 = <<3+4=7>>7.\n#### 7"},
        {"question": "b", "answer": "So $x = \\boxed{\\frac{1}{2}}$ as wanted."},
    ]
    assert [q.reference for q in read(jsonl(tmp_path / "a.jsonl", rows))] == ["7", "\\frac{1}{2}"]


def test_repeated_questions_are_kept_once_and_counted(tmp_path: Path) -> None:
    found, duplicates = unique(
        read_questions(Source(name="pool", uri=jsonl(tmp_path / "a.jsonl", ROWS + ROWS[:1]).as_uri()))
    )
    assert (texts(found), duplicates) == (WANTED, 1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "x", "answer"', "row 3: not JSON ("),
        ("[1, 2]", "row 3: found list [1, 2], expected a JSON object"),
        ('{"question": "x", "answer": ["2"]}', "row 3: field 'answer' holds list ['2'], expected text or a number"),
        ('{"question": "x", "answer": true}', "row 3: field 'answer' holds bool True"),
        ("\x80", "row 3: not JSON"),
    ],
)
def test_a_broken_row_is_named_with_what_was_found(tmp_path: Path, line: str, said: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    path.write_bytes(path.read_bytes() + line.encode("latin-1") + b"\n")
    error = fault(path)
    assert error.reason == "RowBroken"
    assert path.as_uri() + " " + said in error.message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"question": "x", "solution": "2"},
            "no field 'answer' for a reference answer; fields found: question, solution",
        ),
        ({"question": None, "answer": "2"}, "field 'question' holds nothing (null), expected text"),
        ({"question": "x", "answer": "  "}, "field 'answer' is empty, expected a reference answer"),
        ({"question": "x", "answer": "it is ####"}, "field 'answer' holds no answer after ####"),
    ],
)
def test_a_source_without_an_answer_is_named_with_the_fields_it_has(
    tmp_path: Path, row: dict[str, Any], said: str
) -> None:
    error = fault(jsonl(tmp_path / "a.jsonl", [*ROWS, row]))
    assert error.reason == "FieldMissing"
    assert "a.jsonl row 3: " + said in error.message


def test_no_rows_are_an_error_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n\n")
    (tmp_path / "a.csv").write_text("question,answer\n")
    (tmp_path / "b.csv").write_text("")
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), tmp_path / "a.parquet")
    (tmp_path / "d").mkdir()
    for name in ("a.jsonl", "a.csv", "b.csv", "a.parquet", "d"):
        assert fault(tmp_path / name).reason == "SourceEmpty", name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"question,answer\n1+1=?,2\n1,2,3\n", "row 3: 3 cells, expected 2 (question, answer)"),
        (b'question,answer\n"never closed,2\n', "not CSV"),
        (b"question,answer\n\xff\xfe,2\n", "not UTF-8"),
    ],
)
def test_a_broken_csv_is_named_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    error = fault(tmp_path / "a.csv")
    assert error.reason == "RowBroken"
    assert said in error.message


def test_a_file_that_is_not_what_its_name_says_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but not really")
    (tmp_path / "a.jsonl.gz").write_bytes(b"not gzip")
    for name in ("a.parquet", "a.jsonl.gz"):
        error = fault(tmp_path / name)
        assert error.reason == "SourceUnreadable"
        assert name in error.message


def test_what_is_not_there_and_what_has_no_known_format_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"x")
    assert fault(tmp_path / "nothing.jsonl").reason == "SourceNotFound"
    assert fault(tmp_path.as_uri() + "/*.jsonl").reason == "SourceNotFound"
    error = fault(tmp_path / "a.xlsx")
    assert error.reason == "SourceUnreadable"
    assert ".jsonl, .parquet, .csv" in error.message
