"""stage.yaml: what is accepted, and what is said about what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distillstages.common import config
from distillstages.common.exit import ConfigFault, UsageFault

CURATE: dict[str, Any] = {
    "teacher": {"name": "t", "url": "http://teacher:8080/v1", "model": "m"},
    "sources": [{"name": "pool", "uri": "file:///q.jsonl"}],
}


def document(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "apiVersion": "distillrun.dev/stage/v1",
        "stage": "curate",
        "run": {"namespace": "team", "name": "s1", "uid": "3f"},
        "fingerprint": "9c" * 32,
        "attempt": 1,
        "output": "file:///mnt/distillrun/team/curate/x/",
        "seed": 42,
        "curate": CURATE,
    }
    return {**base, **changes}


def refusal(text: dict[str, Any] | str) -> str:
    with pytest.raises(ConfigFault) as caught:
        config.parse(text if isinstance(text, str) else yaml.safe_dump(text))
    return caught.value.message


def test_a_minimal_curation_gets_the_defaults_of_the_contract() -> None:
    curate = config.parse(yaml.safe_dump(document())).curate
    assert curate is not None
    assert curate.generate.max_tokens == 16384
    assert curate.teacher.max_concurrency == 64
    assert curate.verify.timeout_seconds == 5
    assert curate.sources[0].fields.layout == "Columns"


@pytest.mark.parametrize(
    ("stage", "block"),
    [
        ("train", {"student": {"uri": "file:///m"}, "dataset": "file:///d/", "maxSteps": 10, "learningRate": "1e-5"}),
        (
            "evaluate",
            {"models": [{"name": "base", "uri": "file:///m"}], "benchmarks": [{"name": "b", "uri": "file:///b.jsonl"}]},
        ),
        ("serve", {"model": "file:///m", "servedModelName": "s1"}),
    ],
)
def test_every_stage_has_its_block(stage: str, block: dict[str, Any]) -> None:
    given = {k: v for k, v in document(stage=stage).items() if k != "curate"}
    parsed = config.parse(yaml.safe_dump({**given, stage: block}))
    assert parsed.stage == stage
    assert getattr(parsed, stage) is not None


def test_an_unknown_field_is_named() -> None:
    block = {**CURATE, "generate": {"temprature": 0.5}}
    assert "curate.generate.temprature is not a known field" in refusal(document(curate=block))


def test_a_wrong_value_is_shown_with_what_was_expected() -> None:
    message = refusal(document(attempt="soon"))
    assert "attempt is 'soon', expected: input should be a valid integer" in message


def test_a_missing_field_is_named() -> None:
    teacher = {name: value for name, value in CURATE["teacher"].items() if name != "model"}
    assert "curate.teacher.model is missing" in refusal(document(curate={**CURATE, "teacher": teacher}))


def test_sources_without_a_teacher_are_refused() -> None:
    assert "sources need a teacher" in refusal(document(curate={"sources": CURATE["sources"]}))


def test_a_location_of_an_unknown_kind_is_refused() -> None:
    assert "output is 'ftp://x/y'" in refusal(document(output="ftp://x/y"))


def test_exactly_the_block_of_the_stage_is_expected() -> None:
    assert "stage is 'train', the blocks given are ['curate'], expected ['train'] alone" in refusal(
        document(stage="train")
    )


def test_two_sources_of_one_name_are_refused() -> None:
    block = {**CURATE, "sources": CURATE["sources"] * 2}
    assert "source name 'pool' is given twice" in refusal(document(curate=block))


def test_training_wants_epochs_or_steps_and_not_both() -> None:
    block = {"student": {"uri": "file:///m"}, "dataset": "file:///d/", "maxSteps": 10, "epochs": 1.0}
    given = {k: v for k, v in document(stage="train").items() if k != "curate"}
    assert "set exactly one of epochs (1.0) and maxSteps (10)" in refusal({**given, "train": block})


@pytest.mark.parametrize(
    ("benchmark", "words"),
    [
        ({"grader": "Code"}, "benchmark 'b' has grader Code and layout Columns, but grader Code goes with"),
        ({"fields": {"layout": "HumanEval"}}, "benchmark 'b' has grader Math and layout HumanEval"),
        ({"grader": "Code", "fields": {"layout": "CodeTests"}}, "'b' has grader Code, which needs sandbox.url"),
    ],
)
def test_a_benchmark_of_code_has_tests_a_grader_and_a_sandbox(benchmark: dict[str, Any], words: str) -> None:
    given = {k: v for k, v in document(stage="evaluate").items() if k != "curate"}
    benchmarks = [{"name": "b", "uri": "file:///b.jsonl", **benchmark}]
    block = {"models": [{"name": "base", "uri": "file:///m"}], "benchmarks": benchmarks}
    assert words in refusal({**given, "evaluate": block})


def test_text_that_is_no_yaml_is_refused_with_its_place() -> None:
    assert "line 2, column" in refusal("a: [1,\nb: }")
    assert "found str at the top" in refusal("hello")


def test_a_file_that_is_not_there_is_a_mistake_in_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match=r"nothing\.yaml: No such file"):
        config.load(tmp_path / "nothing.yaml")


def test_a_file_for_another_stage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stage.yaml"
    path.write_text(yaml.safe_dump(document()))
    with pytest.raises(ConfigFault, match="stage is 'curate', this program is 'train'"):
        config.load(path, stage="train")
