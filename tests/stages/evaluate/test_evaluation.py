"""An evaluation from its start to result.json, against the fake model server of tests/stages/engines."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from distillstages.common.artifacts import Output
from distillstages.common.traceformat import default_system_prompt
from tests.stages.engines.stages import FakeModel, additions, is_running, until
from tests.stages.evaluate.conftest import MakeEvaluation


def records(output: Path, model: str) -> list[dict[str, Any]]:
    """The records artifact of a model."""
    return [json.loads(line) for line in (output / f"records/additions-{model}.jsonl").read_text().splitlines()]


def test_two_models_are_scored_one_after_the_other(
    evaluation: MakeEvaluation, student: FakeModel, base: FakeModel
) -> None:
    stage = evaluation(student, base)
    end = stage.run()
    assert (end.code, end.message["outcome"]) == (0, "Succeeded"), end.log
    assert end.message["numbers"] == {
        "scores": [
            {
                "benchmark": "additions",
                "model": "student",
                "metric": "accuracy",
                "value": 1.0,
                "low": 0.838875,
                "high": 1.0,
                "n": 20,
                "correct": 20,
            },
            {
                "benchmark": "additions",
                "model": "base",
                "metric": "accuracy",
                "value": 0.0,
                "low": 0.0,
                "high": 0.161125,
                "n": 20,
                "correct": 0,
            },
        ]
    }
    result = json.loads((stage.output / "result.json").read_text())
    assert result["numbers"] == end.message["numbers"]
    assert result["outputs"] == {"scores": "scores.json", "records": "records/"}
    # The first server is gone before the second starts: on a GPU both would not fit.
    assert student.events("ended")[0]["at"] <= base.events("started")[0]["at"]
    assert not any(is_running(m.events("started")[0]["pid"]) for m in (student, base))
    assert not (stage.output / ".partial").exists()


def test_every_answer_has_a_record_in_the_order_of_the_questions(
    evaluation: MakeEvaluation, student: FakeModel, base: FakeModel
) -> None:
    stage = evaluation(student, base, questions=12)
    assert stage.run().code == 0
    rows = records(stage.output, "base")
    assert [r["question"] for r in rows] == [q["question"] for q in additions(12)]
    assert rows[3] == {
        "key": rows[3]["key"],
        "id": rows[3]["id"],
        "sample": 0,
        "question": "3+4=?",
        "reference": "7",
        "thinking": "adding",
        "response": r"\boxed{8}",
        "extracted": "8",
        "correct": False,
        "reason": "WrongAnswer",
        "tokens": 7,
        "finishReason": "stop",
    }
    assert all(r["correct"] and r["reason"] is None for r in records(stage.output, "student"))


def test_the_request_says_all_that_the_specification_says(evaluation: MakeEvaluation, student: FakeModel) -> None:
    stage = evaluation(
        student,
        questions=3,
        benchmark={"samples": 2, "temperature": 0.6, "topP": 0.9, "maxTokens": 100_000},
        engine={"tensorParallel": 2, "maxModelLength": 256, "vllmArgs": ["--enforce-eager", "--dtype=float32"]},
        traceFormat="SkyT1",
    )
    assert stage.run().code == 0
    requests = [e["request"] for e in student.events("asked")]
    assert len(requests) == 6
    system = default_system_prompt("SkyT1")
    assert {json.dumps(r["messages"][0]) for r in requests} == {json.dumps({"role": "system", "content": system})}
    first = requests[0]
    assert (first["temperature"], first["top_p"], first["model"]) == (0.6, 0.9, "student")
    assert first["max_tokens"] == 512, "the model's context, since vLLM refuses more"
    assert first["skip_special_tokens"] is False
    assert (first["top_k"], first["repetition_penalty"]) == (0, 1.0)
    assert len({r["seed"] for r in requests}) == 6
    started = student.events("started")[0]
    assert started["offline"] == "1"
    assert started["more"] == [
        *("--tensor-parallel-size", "2", "--max-model-len", "256"),
        *("--disable-uvicorn-access-log", "--enforce-eager", "--dtype=float32"),
    ]


def test_a_system_prompt_of_the_specification_comes_before_the_format_s_own(
    evaluation: MakeEvaluation, student: FakeModel
) -> None:
    assert evaluation(student, questions=1, traceFormat="SkyT1", systemPrompt="Add.").run().code == 0
    request = student.events("asked")[0]["request"]
    assert request["messages"] == [{"role": "system", "content": "Add."}, {"role": "user", "content": "0+1=?"}]


def test_thinking_that_the_server_has_separated_is_not_graded(evaluation: MakeEvaluation, student: FakeModel) -> None:
    student.does(answers="separate")
    stage = evaluation(student, questions=2)
    assert stage.run().scores["additions", "student"]["correct"] == 2
    assert records(stage.output, "student")[0]["thinking"] == "adding"


def test_answers_without_sense_are_wrong_answers_and_not_an_error(
    evaluation: MakeEvaluation, student: FakeModel, base: FakeModel
) -> None:
    student.does(answers="words")
    base.does(answers="truncated")
    stage = evaluation(student, base, questions=5)
    end = stage.run()
    assert end.code == 0, end.log
    assert {s["correct"] for s in end.scores.values()} == {0}
    assert {r["reason"] for r in records(stage.output, "student")} == {"NoAnswer"}
    assert {(r["reason"], r["finishReason"]) for r in records(stage.output, "base")} == {("Truncated", "length")}
    scores = json.loads((stage.output / "scores.json").read_text())["scores"]
    assert [s["truncated"] for s in scores] == [0, 5]


def test_a_question_longer_than_the_context_is_a_wrong_answer(evaluation: MakeEvaluation, student: FakeModel) -> None:
    rows = [*additions(3), {"question": "1+" * 600, "answer": "600"}]
    stage = evaluation(student, questions=rows)
    end = stage.run()
    assert end.scores["additions", "student"]["correct"] == 3, end.log
    assert records(stage.output, "student")[3]["finishReason"] == "promptTooLong"


def test_a_repeated_question_is_asked_once(evaluation: MakeEvaluation, student: FakeModel) -> None:
    end = evaluation(student, questions=[*additions(4), *additions(2)]).run()
    assert end.scores["additions", "student"]["n"] == 4
    assert len(student.asked()) == 4


def test_a_finished_evaluation_starts_no_server_again(evaluation: MakeEvaluation, student: FakeModel) -> None:
    stage = evaluation(student, questions=3)
    first = stage.run()
    again = stage.run()
    assert again.code == 0
    assert again.message["numbers"] == first.message["numbers"]
    assert len(student.events("started")) == 1


def test_accuracy_and_progress_are_seen_while_it_runs(
    evaluation: MakeEvaluation, student: FakeModel, base: FakeModel
) -> None:
    student.does(holdAfter=6)
    stage = evaluation(student, base, questions=10)
    stage.port = free_port()
    stage.start()
    until(lambda: "distillrun_stage_progress_done 6\n" in stage.get("/metrics")[1], "six answers")
    text = stage.get("/metrics")[1]
    assert 'distillrun_stage_accuracy{benchmark="additions",model="student"} 1\n' in text
    assert "distillrun_stage_progress_total 20\n" in text
    assert 'distillrun_stage_progress_unit_info{unit="answers"} 1\n' in text
    assert 'distillrun_stage_engine_state{state="answering"} 1\n' in text
    assert stage.get("/readyz")[0] == 200
    student.release()
    assert stage.wait().code == 0
    assert '"state": "loading"' in stage.log


def test_an_older_attempt_publishes_nothing(evaluation: MakeEvaluation, student: FakeModel) -> None:
    student.does(holdAfter=2)
    stage = evaluation(student, questions=5)
    stage.start()
    until(lambda: len(student.asked()) > 2, "questions asked")
    Output(stage.output.as_uri(), stage="evaluate", fingerprint="0" * 64, attempt=2, who="pod-2").claim()
    student.release()
    end = stage.wait()
    assert (end.code, end.reason) == (75, "SupersededAttempt")
    assert not (stage.output / "result.json").exists()


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_multiple_choice_is_graded_by_the_one_letter_that_is_given(
    evaluation: MakeEvaluation, student: FakeModel, base: FakeModel
) -> None:
    student.does(answers="letters")
    base.does(answers="two letters")
    questions = [
        {"question": f"{n}+0=? (A) 0, 4 (B) 1, 5 (C) 2, 6 (D) 3, 7", "answer": "(A)" if n == 7 else "ABCD"[n % 4]}
        for n in range(8)
    ]
    stage = evaluation(student, base, questions=questions, benchmark={"grader": "MultipleChoice"})
    end = stage.run()
    assert end.code == 0, end.log
    assert [score["correct"] for score in end.message["numbers"]["scores"]] == [7, 0]
    found = records(stage.output, "student")
    assert [r["extracted"] for r in found] == [*"ABCDABCD"]
    assert {r["reason"] for r in found[:7]} == {None}
    assert (found[7]["reference"], found[7]["reason"]) == ("(A)", "WrongAnswer")
    assert {(r["extracted"], r["reason"]) for r in records(stage.output, "base")} == {(None, "AmbiguousAnswer")}
