"""Benchmarks of code, graded by the real sandbox."""

from __future__ import annotations

import json
from typing import Any

from tests.stages.engines.stages import FakeModel
from tests.stages.evaluate.conftest import MakeEvaluation
from tests.stages.sandboxes import sandbox

CODE = {"grader": "Code", "fields": {"layout": "CodeTests"}}
ROWS: list[dict[str, Any]] = [
    {"question": f"{name} the number.", "input_output": json.dumps({"inputs": ["3"], "outputs": [output]})}
    for name, output in (("Double", "6"), ("Halve", "1.5"), ("Negate", "-3"))
]
RESPONSES = {
    "1+1": "2",  # the engine's warm-up
    "Double": "```python\nprint(2 * int(input()))\n```",
    "Halve": "```python\nprint(int(input()) // 2)\n```",
    "Negate": "I would print the number with a minus sign.",
}


def test_code_that_passes_its_tests_is_right_and_the_rest_has_a_reason(
    evaluation: MakeEvaluation, student: FakeModel
) -> None:
    student.does(answers="code", responses=RESPONSES)
    with sandbox() as url:
        stage = evaluation(student, questions=ROWS, benchmark=CODE, sandbox={"url": url})
        end = stage.run()
    assert end.code == 0, end.log
    assert end.scores["additions", "student"]["correct"] == 1
    lines = (stage.output / "records/additions-student.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(r["correct"], r["reason"]) for r in records] == [(True, None), (False, "TestsFailed"), (False, "NoCode")]
    assert records[0]["extracted"] == "print(2 * int(input()))\n"
    assert "1.5" not in json.dumps(student.events("asked"))


def test_a_benchmark_with_tests_that_cannot_be_used_is_refused_before_a_model_is_loaded(
    evaluation: MakeEvaluation, student: FakeModel
) -> None:
    broken = [ROWS[0], {**ROWS[1], "input_output": "{"}]
    end = evaluation(student, questions=broken, benchmark=CODE, sandbox={"url": "http://127.0.0.1:1"}).run()
    assert (end.code, end.reason) == (65, "TestsUnreadable"), end.log
    assert "cannot be graded: the tests cannot be read: not JSON" in end.message["message"]
    assert not student.events("started")
