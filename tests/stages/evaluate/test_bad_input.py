"""What is wrong with the input ends in a sentence, before any model is loaded."""

from __future__ import annotations

import shutil

from tests.stages.engines.stages import FakeModel, make_model
from tests.stages.evaluate.conftest import MakeEvaluation


def test_a_model_that_is_not_there(evaluation: MakeEvaluation, student: FakeModel, base: FakeModel) -> None:
    shutil.rmtree(base.folder)
    end = evaluation(student, base).run()
    assert (end.code, end.reason) == (65, "ModelNotFound")
    assert end.message["message"] == f"model 'base': there is no folder {base.folder}"
    assert not student.events("started"), "found before the first model was loaded"


def test_a_model_folder_without_a_tokenizer(evaluation: MakeEvaluation, student: FakeModel) -> None:
    (student.folder / "tokenizer.json").unlink()
    end = evaluation(student).run()
    assert (end.code, end.reason) == (65, "StudentNoTokenizer")
    assert "Traceback" not in end.message["message"]


def test_a_benchmark_without_rows(evaluation: MakeEvaluation, student: FakeModel) -> None:
    end = evaluation(student, questions=[]).run()
    assert (end.code, end.reason) == (65, "SourceEmpty")
    assert "has no rows" in end.message["message"]
    assert not student.events("started")


def test_a_benchmark_without_answers(evaluation: MakeEvaluation, student: FakeModel) -> None:
    end = evaluation(student, questions=[{"question": "1+1=?"}]).run()
    assert (end.code, end.reason) == (65, "FieldMissing")
    assert "no field 'answer'" in end.message["message"]


def test_an_argument_for_vllm_that_is_ours(evaluation: MakeEvaluation, student: FakeModel) -> None:
    end = evaluation(student, engine={"vllmArgs": ["--port=1"]}).run()
    assert (end.code, end.reason) == (78, "ConfigInvalid")
    assert "engine.vllmArgs holds '--port=1'" in end.message["message"]


def test_a_request_that_the_server_refuses(evaluation: MakeEvaluation, student: FakeModel) -> None:
    student.does(status=400)
    end = evaluation(student, questions=1).run()
    assert (end.code, end.reason) == (78, "ConfigInvalid")
    assert "HTTP 400: told to refuse" in end.message["message"]


def test_a_command_that_is_not_there(evaluation: MakeEvaluation, student: FakeModel) -> None:
    stage = evaluation(student)
    stage.command = "/no/such/vllm"
    end = stage.run()
    assert (end.code, end.reason) == (70, "EngineFailed")
    assert "/no/such/vllm: No such file or directory" in end.message["message"]


def test_two_pairs_of_names_that_would_share_a_file(evaluation: MakeEvaluation, student: FakeModel) -> None:
    stage = evaluation(student, make_model(student.folder.parent / "b-c"), make_model(student.folder.parent / "c"))
    first = stage.block["benchmarks"][0]
    stage.block["benchmarks"] = [{**first, "name": "a"}, {**first, "name": "a-b"}]
    end = stage.run()
    assert (end.code, end.reason) == (78, "ConfigInvalid")
    assert "records/a-b-c.jsonl" in end.message["message"]


def test_a_benchmark_of_letters_whose_answers_are_none(evaluation: MakeEvaluation, student: FakeModel) -> None:
    questions = [{"question": "1+1=?", "answer": "B"}, {"question": "1+2=?", "answer": "3"}]
    end = evaluation(student, questions=questions, benchmark={"grader": "MultipleChoice"}).run()
    assert (end.code, end.reason) == (65, "RowBroken")
    assert "is '3', expected a letter from A to J" in end.message["message"]
    assert "map the right column with fields.answer, or set grader: Math" in end.message["message"]
    assert not student.events("started")
