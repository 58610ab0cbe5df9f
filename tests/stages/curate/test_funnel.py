"""The funnel from end to end: what is not asked, what is not taught, and what is said about both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from distillstages.curate.funnel import Funnel
from distillstages.curate.htmlpage import page
from tests.stages.curate.conftest import Finished, Stage, additions, write_jsonl
from tests.stages.curate.fake_teacher import FakeTeacher, Raw, add, completion, solve

LONG = "Somebody has two numbers and asks you for their sum :"


def rows(*terms: tuple[int, int], before: str = "") -> list[dict[str, str]]:
    return [{"question": f"{before}{a}+{b}=?", "answer": str(a + b)} for a, b in terms]


def funnel_of(stage: Stage) -> list[tuple[str, int, int]]:
    document = json.loads((stage.output / "funnel.json").read_text())
    return [(step["step"], step["in"], step["out"]) for step in document["steps"]]


def test_what_benchmarks_ask_and_what_is_asked_twice_costs_no_request(make_stage: Any, tmp_path: Path) -> None:
    benchmark = write_jsonl(
        tmp_path / "exam.jsonl", [*rows((1, 1)), *rows((9, 9), before=f"{LONG} here they are, are they not ? ")]
    )
    pool = rows((1, 1), (2, 2), (3, 3), (2, 2))
    pool += rows((5, 5), before=f"So: {LONG} ")
    other = write_jsonl(tmp_path / "other.jsonl", rows((3, 3), (4, 4)))
    with FakeTeacher() as teacher:
        stage = make_stage(
            teacher.url,
            pool,
            decontaminate={"against": [{"name": "exam", "uri": benchmark.as_uri()}]},
        )
        stage.block["sources"].append({"name": "other", "uri": other.as_uri()})
        finished = stage.run()
        asked = teacher.total
    assert finished.code == 0, finished.log
    assert asked == 3
    assert [row["question"] for row in stage.rows()] == ["2+2=?", "3+3=?", "4+4=?"]
    assert funnel_of(stage) == [("read", 7, 6), ("deduplicate", 6, 5), ("decontaminate", 5, 3), ("verify", 3, 3)]
    assert (finished.numbers["duplicates"], finished.numbers["contaminated"]) == (2, 2)
    left_out = pq.read_table(stage.output / "filtered/part-00000.parquet").to_pylist()
    assert [(r["question"], r["step"], r["reason"]) for r in left_out] == [
        ("3+3=?", "deduplicate", "Duplicate"),
        ("1+1=?", "decontaminate", "Contaminated"),
        (f"So: {LONG} 5+5=?", "decontaminate", "Contaminated"),
    ]
    assert left_out[1]["detail"] == "exam: 1+1=?"
    assert left_out[2]["detail"] == "exam: somebody has two numbers and asks you for"
    card = (stage.output / "README.md").read_text()
    assert "exam (file://" in card
    assert "| decontaminate | questions | 5 | 3 | Contaminated 2 |" in card


def test_questions_with_choices_are_not_taken_for_each_other_by_the_sentence_that_all_of_them_end_with(
    make_stage: Any, tmp_path: Path
) -> None:
    def choosing(*terms: tuple[int, int]) -> list[dict[str, Any]]:
        return [{"question": f"{a}+{b}=?", "choices": ["no", "yes"], "answer": "yes"} for a, b in terms]

    layout = {"layout": "MultipleChoice"}
    exam = write_jsonl(tmp_path / "exam.jsonl", choosing((1, 1), (9, 9)))
    pool = write_jsonl(tmp_path / "pool.jsonl", choosing((1, 1), (2, 2), (3, 3)))
    with FakeTeacher(lambda question, nth: completion("<think>\nhm\n</think>\n\n\\boxed{B}")) as teacher:
        stage = make_stage(
            teacher.url,
            sources=[{"name": "pool", "uri": pool.as_uri(), "fields": layout}],
            decontaminate={"against": [{"name": "exam", "uri": exam.as_uri(), "fields": layout}]},
            deduplicate={"near": 0.8},
        )
        assert stage.run().code == 0
    assert [row["question"].splitlines()[0] for row in stage.rows()] == ["2+2=?", "3+3=?"]
    assert ("decontaminate", 3, 2) in funnel_of(stage)


def test_a_benchmark_that_cannot_be_read_ends_the_stage_before_anybody_is_asked(make_stage: Any) -> None:
    with FakeTeacher() as teacher:
        stage = make_stage(
            teacher.url, decontaminate={"against": [{"name": "exam", "uri": "file:///nowhere/exam.jsonl"}]}
        )
        finished: Finished = stage.run()
        assert teacher.total == 0
    assert (finished.code, finished.message["reason"]) == (65, "SourceNotFound"), finished.log
    assert "'exam'" in finished.message["message"]


def test_a_pool_that_is_all_benchmark_is_said_to_be(make_stage: Any, tmp_path: Path) -> None:
    benchmark = write_jsonl(tmp_path / "exam.jsonl", additions(5))
    with FakeTeacher() as teacher:
        stage = make_stage(teacher.url, decontaminate={"against": [{"name": "exam", "uri": benchmark.as_uri()}]})
        finished = stage.run()
        assert teacher.total == 0
    assert (finished.code, finished.message["reason"]) == (65, "NothingAccepted"), finished.log
    assert "no question is left to ask: read 5, Contaminated 5" in finished.message["message"]


def thinker(question: str, nth: int) -> Raw:
    """Thinks the longer the larger the first term, and is wrong about every third."""
    first = int(question.partition("+")[0])
    result = int(add(question)) + (first % 3 == 0)
    return completion(f"<think>\n{'hm ' * (10 * first + 1)}\n</think>\n\n\\boxed{{{result}}}", tokens=10 * first + 1)


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ({"strategy": "Longest", "size": 3}, [7, 8, 10]),
        ({"strategy": "S1", "size": 2, "preselect": [{"source": "pool", "minTokens": 80}]}, [8, 10]),
    ],
)
def test_a_selection_of_the_accepted_is_taught_and_the_rest_is_kept(
    make_stage: Any, select: dict[str, Any], expected: list[int]
) -> None:
    with FakeTeacher(thinker) as teacher:
        stage = make_stage(teacher.url, additions(12)[:11], select=select)
        finished = stage.run()
    assert finished.code == 0, finished.log
    assert [int(row["question"].partition("+")[0]) for row in stage.rows()] == expected
    assert funnel_of(stage)[-2:] == [("verify", 11, 7), ("select", 7, len(expected))]
    assert finished.numbers["accepted"] == len(expected)
    assert finished.numbers["rejectedByReason"] == {"NotSelected": 7 - len(expected), "WrongAnswer": 4}
    assert finished.numbers["funnel"] == {"read": 11, "deduplicate": 11, "verify": 7, "select": len(expected)}
    assert len(stage.rows("rejected")) == 11 - len(expected)


def test_wrong_answers_are_kept_where_that_is_asked_for(make_stage: Any) -> None:
    with FakeTeacher(thinker) as teacher:
        stage = make_stage(teacher.url, additions(6), verify={"wrong": "Keep"})
        finished = stage.run()
    assert finished.code == 0, finished.log
    assert (finished.numbers["accepted"], finished.numbers["rejected"]) == (6, 0)


def test_samples_are_a_page_that_hostile_text_does_not_break(make_stage: Any) -> None:
    def hostile(question: str, nth: int) -> Raw:
        solved = int(add(question))
        return completion(f"<think>\n</pre><script>alert(1)</script>\n</think>\n\n\\boxed{{{solved}}} <img src=x>")

    with FakeTeacher(hostile) as teacher:
        stage = make_stage(teacher.url, additions(2))
        assert stage.run().code == 0
    html = (stage.output / "sample.html").read_text()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_a_page_cuts_what_nobody_reads_and_says_so() -> None:
    row = {
        "id": "1",
        "source": "a",
        "sample": 0,
        "question": "q",
        "reference": "r",
        "response": "",
        "thinking": "x" * 30_000,
    }
    assert "10,000 more characters" in page("t", [], Funnel(), [row])


def test_a_funnel_names_reasons_by_their_number() -> None:
    funnel = Funnel()
    funnel.add("read", "questions", 10, {"Duplicate": 0})
    step = funnel.add("verify", "traces", 10, {"NoAnswer": 1, "WrongAnswer": 2})
    assert (step.left, list(step.removed)) == (7, ["WrongAnswer", "NoAnswer"])
    assert funnel.table()[2:] == [
        "| read | questions | 10 | 10 |  |",
        "| verify | traces | 10 | 7 | WrongAnswer 2, NoAnswer 1 |",
    ]
    assert funnel.why() == "read 10, WrongAnswer 2, NoAnswer 1"


def test_the_same_answers_give_the_same_files(make_stage: Any) -> None:
    files = []
    for _ in range(2):
        with FakeTeacher(solve) as teacher:
            stage = make_stage(teacher.url, additions(30), select={"strategy": "S1", "size": 10})
            assert stage.run().code == 0
        files.append([(stage.output / name).read_bytes() for name in ("dataset/part-00000.parquet", "funnel.json")])
    assert files[0] == files[1]
