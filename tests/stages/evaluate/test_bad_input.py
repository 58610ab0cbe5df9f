"""What is wrong with the input ends in a sentence, before any model is loaded."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.stages.engines.stages import FakeModel, make_model
from tests.stages.evaluate.conftest import MakeEvaluation


def test_a_model_that_is_not_there(evaluation: MakeEvaluation, student: FakeModel, base: FakeModel) -> None:
    shutil.rmtree(base.folder)
    end = evaluation(student, base).run()
    assert (end.code, end.reason) == (65, "ModelNotFound")
    assert end.message["message"] == f"model 'base': there is no folder {base.folder}"
    assert not student.events("started"), "found before the first model was loaded"


@pytest.mark.parametrize(
    ("file", "reason", "words"),
    [
        ("config.json", "ModelNotFound", "holds no config.json"),
        ("model.safetensors", "ModelNotFound", "holds no weights"),
        ("tokenizer.json", "StudentNoTokenizer", "holds no tokenizer, expected one of tokenizer.json"),
        ("chat_template.jinja", "NoChatTemplate", "has no chat template"),
    ],
)
def test_a_model_folder_that_lacks_a_part(
    evaluation: MakeEvaluation, student: FakeModel, file: str, reason: str, words: str
) -> None:
    (student.folder / file).unlink()
    end = evaluation(student).run()
    assert (end.code, end.reason) == (65, reason)
    assert words in end.message["message"]
    assert "Traceback" not in end.message["message"]


@pytest.mark.parametrize(
    ("questions", "reason", "words"),
    [
        ([], "SourceEmpty", "has no rows"),
        ([{"question": "1+1=?"}], "FieldMissing", "no field 'answer'"),
        ([{"question": "1+1=?", "answer": ["2"]}], "RowBroken", "row 1"),
    ],
)
def test_a_benchmark_that_cannot_be_read(
    evaluation: MakeEvaluation, student: FakeModel, questions: list[dict[str, Any]], reason: str, words: str
) -> None:
    end = evaluation(student, questions=questions).run()
    assert (end.code, end.reason) == (65, reason)
    assert words in end.message["message"]
    assert not student.events("started")


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
