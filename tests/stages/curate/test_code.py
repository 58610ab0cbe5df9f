"""Questions with unit tests, from their pool to the data set: a fake teacher, the real sandbox."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.stages.curate.conftest import additions, write_jsonl
from tests.stages.curate.fake_teacher import FakeTeacher, Raw, completion, solve
from tests.stages.sandboxes import sandbox

CODE = {"layout": "CodeTests", "id": "problem_id"}


def apps(number: int, task: str, tests: Any) -> dict[str, Any]:
    """A row of APPS."""
    return {
        "problem_id": number,
        "question": task,
        "input_output": tests if isinstance(tests, str) else json.dumps(tests),
        "starter_code": "",
        "difficulty": "introductory",
        "solutions": json.dumps(["import sys\nprint('SOLUTION')"]),
    }


POOL = [
    apps(0, "Print twice the number.", {"inputs": ["2", "123456"], "outputs": ["4", "246912"]}),
    apps(1, "Print three times the number.", {"inputs": ["2", "123456"], "outputs": ["6", "370368"]}),
    apps(2, "Return the larger number.", {"fn_name": "larger", "inputs": [[1, 5], [5, 1]], "outputs": [[5], [5]]}),
    apps(3, "Never mind.", {"inputs": ["1"], "outputs": ["MISSED"]}),
    apps(4, "Has no tests.", ""),
    apps(5, "Has broken tests.", '{"inputs": ["1"'),
    apps(6, "A question with eight words that a benchmark has.", {"inputs": ["1"], "outputs": ["1"]}),
]
ANSWERS = {
    "Print twice": "n = int(input())\nprint(2 * n)",
    "Print three": "print(6)",
    "Return the larger": "def larger(a, b):\n    return max(a, b)",
    "Never mind": "while True: pass",
}


def programmer(question: str, nth: int) -> Raw:
    """Right, wrong, right, endless; sums as ever."""
    code = next((code for task, code in ANSWERS.items() if question.startswith(task)), None)
    if code is None:
        return solve(question, nth)
    return completion(f"<think>\nhm\n</think>\n\nSo:\n\n```python\n{code}\n```\n")


def test_code_is_judged_by_its_tests_and_the_rest_as_before(make_stage: Any, tmp_path: Path) -> None:
    pool = write_jsonl(tmp_path / "apps.jsonl", POOL)
    exam = write_jsonl(tmp_path / "exam.jsonl", [apps(9, f"Is it {POOL[6]['question']}", POOL[0]["input_output"])])
    with FakeTeacher(programmer) as teacher, sandbox() as url:
        stage = make_stage(
            teacher.url,
            additions(2),
            sandbox={"url": url},
            verify={"timeoutSeconds": 0.5},
            decontaminate={"against": [{"name": "exam", "uri": exam.as_uri(), "fields": CODE}]},
        )
        stage.block["sources"].append({"name": "apps", "uri": pool.as_uri(), "fields": CODE})
        finished = stage.run()
    assert finished.code == 0, finished.log
    # Instructions of a layout are no words that questions share.
    assert teacher.total == 6
    assert finished.numbers["funnel"] == {"read": 9, "tests": 7, "deduplicate": 7, "decontaminate": 6, "verify": 4}
    assert finished.numbers["rejectedByReason"] == {"TestsFailed": 1, "TimeLimit": 1}
    left_out = pq.read_table(stage.output / "filtered/part-00000.parquet").to_pylist()
    assert [(r["id"], r["step"], r["reason"]) for r in left_out] == [
        ("4", "tests", "NoTests"),
        ("5", "tests", "TestsUnreadable"),
        ("6", "decontaminate", "Contaminated"),
    ]
    assert [r["id"] for r in stage.rows() if r["source"] == "apps"] == ["0", "2"]
    assert {r["id"]: r["reason"] for r in stage.rows("rejected")} == {"1": "TestsFailed", "3": "TimeLimit"}
    asked = json.dumps(teacher.requests) + json.dumps(stage.rows()) + json.dumps(stage.rows("rejected"))
    assert not [secret for secret in ("MISSED", "SOLUTION", "246912", "370368") if secret in asked]


def test_a_sandbox_that_is_away_rejects_nothing_and_judging_goes_on_when_it_is_back(make_stage: Any) -> None:
    with socket.socket() as nobody, FakeTeacher(programmer) as teacher:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        away = {"url": f"http://127.0.0.1:{port}", "patienceSeconds": 0.1}
        stage = make_stage(teacher.url, POOL[:2], sandbox=away)
        stage.block["sources"][0]["fields"] = CODE
        first = stage.run()
        assert (first.code, first.message["reason"]) == (75, "SandboxUnavailable"), first.log
        assert not [line for line in stage.journal() if line["kind"] == "verdict"]
        stage.attempt += 1
        with sandbox() as url:
            stage.block["sandbox"] = {"url": url}
            finished = stage.run()
        assert teacher.total == 2, "what was answered is not asked again"
    assert finished.code == 0, finished.log
    assert (finished.numbers["accepted"], finished.numbers["rejectedByReason"]) == (1, {"TestsFailed": 1})


def test_tests_without_a_sandbox_end_the_stage_before_anybody_is_asked(make_stage: Any) -> None:
    with FakeTeacher(programmer) as teacher:
        stage = make_stage(teacher.url, POOL)
        stage.block["sources"][0]["fields"] = CODE
        finished = stage.run()
        assert teacher.total == 0
    assert (finished.code, finished.message["reason"]) == (78, "SandboxMissing"), finished.log
