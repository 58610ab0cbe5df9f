"""The contract between operator and stages (docs/stages.md), driven from both sides with the same fixtures."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from distillrun.api.status import Resolved
from distillrun.api.v1alpha1 import Spec
from distillrun.build import pod as pods
from distillrun.build.objects import build
from distillrun.plan import companions, outcome, stageconfig
from distillrun.plan.model import STAGES, StageName, Want
from distillstages.common import config as stage_side
from distillstages.common import exit as stage_exit
from distillstages.common import termination
from tests.unit.builders import SETTINGS, run, spec

MIRROR = "https://hub.corp.example/hf"
EXAM_FIELDS = {"layout": "MultipleChoice", "question": "q", "choices": ["a", "b"], "answerIs": "Index"}
ASKED = [
    {**spec()["models"][0], "name": name, "endpoint": {"url": f"http://{name}:8080/v1", "model": name, **key}}
    for name, key in (("small", {}), ("writer", {"apiKeySecretRef": {"name": "writer", "key": "token"}}))
]
FULL = spec(
    mirror={"uri": MIRROR, "secretName": "hf"},
    models=[*spec()["models"], *ASKED],
    curate={
        "sources": [
            {
                "name": "pool",
                "uri": "hf://datasets/a/b",
                "take": 9,
                "fields": {"id": "n"},
                "secretName": "hf",
                "share": "0.4",
            },
            {"name": "exam", "uri": "file:///mnt/distillrun/exam.csv", "fields": EXAM_FIELDS, "share": "6e-1"},
        ],
        "decontaminate": {
            "against": [
                {
                    "name": "held-out",
                    "uri": "hf://datasets/a/held-out",
                    "fields": {"layout": "ShareGPT", "question": "turns"},
                    "secretName": "hf",
                }
            ]
        },
        "generate": {
            "samples": 4,
            "temperature": "0.7",
            "topP": "0.95",
            "maxTokens": 99,
            "systemPrompt": "Work.",
            "reasoningDelimiters": {"open": "[THINK]", "close": "[/THINK]"},
        },
        "difficulty": {"models": ["small"], "samples": 2, "keep": "PassRate", "maxPassRate": "0.9"},
        "domains": {"model": "small", "labels": ["odd", "even"]},
        "rewrite": {"model": "writer", "temperature": "0.5"},
        "traceFormat": "SkyT1",
        "systemPrompt": "Think.",
    },
    train={
        "nodes": 2,
        "gpusPerNode": 4,
        "epochs": "2.5",
        "globalBatchSize": 8,
        "learningRate": "1e-5",
        "deepspeed": {"config": {"zero_optimization": {"reduce_bucket_size": 1000}}},
        "trainerArgs": {"neftune_noise_alpha": 5},
    },
    serve={"engine": {"tensorParallel": 2, "maxModelLength": 4096, "vllmArgs": ["--enforce-eager"]}},
)
PUBLISHED = spec(
    models=None,
    teacher=None,
    curate={"dataset": {"uri": "hf://datasets/a/traces", "take": 9, "fields": {"thinking": "t"}, "secretName": "hf"}},
)
UPSTREAM: dict[StageName, str] = {
    "curate": "file:///mnt/distillrun/t/curate/x/",
    "train": "file:///mnt/distillrun/t/train/y/",
}
INPUTS = stageconfig.Inputs(UPSTREAM, Resolved())


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("given", [spec(), FULL, PUBLISHED], ids=["small", "full", "published"])
def test_every_stage_reads_what_the_operator_writes(stage: StageName, given: dict[str, Any]) -> None:
    a_run = run(spec=given)
    config = stageconfig.stage_config(a_run, Spec.model_validate(given), stage, "f" * 64, 3, INPUTS)
    want = Want("ConfigMap", "config", "c", stage=stage, attempt=3, fingerprint="f" * 64, config=config)
    text = build(want, a_run, SETTINGS)["data"]["stage.yaml"]
    read = stage_side.parse(text)
    assert read.stage == stage
    assert read.attempt == 3
    assert read.mirror == (MIRROR if given is FULL and stage in ("resolve", "curate") else None)
    written = yaml.safe_load(text)[stage]
    block = getattr(read, stage)
    known = block.model_dump(by_alias=True)
    assert set(written) <= set(known)
    for key, value in written.items():
        if not isinstance(value, dict | list):
            assert known[key] == value, key


def test_the_serve_program_reads_what_the_operator_writes_for_a_model_that_the_run_serves_itself() -> None:
    given = spec(
        models=[{"name": "big", "server": {"model": {"uri": "hf://a/b", "revision": "c" * 40}}}], teacher="big"
    )
    whole = Spec.model_validate(given)
    [server] = companions.needed("s1", whole, "curate")
    config = stageconfig.model_server_config(run(spec=given), whole, server)
    read = stage_side.parse(yaml.safe_dump(config)).serve
    assert read is not None
    assert (read.model, read.revision, read.served_model_name, read.port) == ("hf://a/b", "c" * 40, "big", 8000)
    asked = stageconfig.stage_config(run(spec=given), whole, "curate", "f" * 64, 1, INPUTS)
    curate = stage_side.parse(yaml.safe_dump(asked)).curate
    assert curate is not None
    assert curate.teacher is not None
    assert (curate.teacher.url, curate.teacher.model) == (f"{server.url('team')}/v1", "big")


def test_each_step_that_asks_a_model_finds_its_endpoint_and_the_variable_of_its_key() -> None:
    a_run, given = run(spec=FULL), Spec.model_validate(FULL)
    config = stageconfig.stage_config(a_run, given, "curate", "f" * 64, 1, INPUTS)
    read = stage_side.parse(yaml.safe_dump(config)).curate
    assert read is not None
    assert read.difficulty is not None
    assert (read.difficulty.min_pass_rate, read.difficulty.max_pass_rate) == (0.0, 0.9)
    assert list(read.endpoints) == ["teacher", "small", "writer"]
    template = pods.pod_template(Want("Job", "job", "j", stage="curate", attempt=1), a_run, given, SETTINGS, "c")
    variables = [each["name"] for each in template["spec"]["containers"][0]["env"] if "valueFrom" in each]
    assert variables == [each.api_key.env for each in read.endpoints.values() if each.api_key]


def test_a_layout_reaches_every_stage_that_reads_rows_of_it() -> None:
    given = spec(
        curate={"sources": [{"name": "exam", "uri": "file:///mnt/distillrun/exam.csv", "fields": EXAM_FIELDS}]},
        evaluate={"benchmarks": [{"name": "exam", "uri": "file:///mnt/distillrun/exam.csv", "fields": EXAM_FIELDS}]},
        gates=None,
    )
    places: list[tuple[StageName, str]] = [
        ("resolve", "sources"),
        ("resolve", "benchmarks"),
        ("curate", "sources"),
        ("evaluate", "benchmarks"),
    ]
    for stage, part in places:
        config = stageconfig.stage_config(run(spec=given), Spec.model_validate(given), stage, "f" * 64, 1, INPUTS)
        read = getattr(getattr(stage_side.parse(yaml.safe_dump(config)), stage), part)
        assert read[0].fields.model_dump(by_alias=True, exclude_none=True, mode="json") == {
            **EXAM_FIELDS,
            "answered": True,
        }


def test_filters_reach_the_stages_that_read_sources() -> None:
    filters = [{"column": "source", "oneOf": ["math"]}, {"column": "answer", "lacks": ["[asy]"]}]
    given = spec(curate={"sources": [{"name": "pool", "uri": "s3://b/pool.jsonl", "filters": filters}]})
    stages: list[StageName] = ["resolve", "curate"]
    for stage in stages:
        config = stageconfig.stage_config(run(spec=given), Spec.model_validate(given), stage, "f" * 64, 1, INPUTS)
        read = getattr(stage_side.parse(yaml.safe_dump(config)), stage).sources[0].filters
        assert [each.model_dump(by_alias=True, exclude_none=True, mode="json") for each in read] == filters


def test_a_layout_of_code_reaches_the_stages_that_read_sources() -> None:
    fields = {"layout": "CodeTests", "question": "task", "tests": "io", "starterCode": "stub", "id": "n"}
    given = spec(curate={"sources": [{"name": "apps", "uri": "s3://b/apps.jsonl", "fields": fields}]})
    stages: list[StageName] = ["resolve", "curate"]
    for stage in stages:
        config = stageconfig.stage_config(run(spec=given), Spec.model_validate(given), stage, "f" * 64, 1, INPUTS)
        read = getattr(stage_side.parse(yaml.safe_dump(config)), stage).sources[0].fields
        assert read.model_dump(by_alias=True, exclude_none=True, mode="json") == {
            **fields,
            "answerIs": "Auto",
            "answered": True,
        }


def test_what_else_questions_are_compared_with_reaches_resolve_and_curation_as_rows_without_answers() -> None:
    a_run, given = run(spec=FULL), Spec.model_validate(FULL)
    commit = "ab" * 20
    inputs = stageconfig.Inputs(
        UPSTREAM, Resolved.model_validate({"against": [{"name": "held-out", "revision": commit}]})
    )
    resolve = stage_side.parse(
        yaml.safe_dump(stageconfig.stage_config(a_run, given, "resolve", "f" * 64, 2, inputs))
    ).resolve
    curate = stage_side.parse(
        yaml.safe_dump(stageconfig.stage_config(a_run, given, "curate", "f" * 64, 1, inputs))
    ).curate
    assert resolve is not None
    assert curate is not None
    assert [each.name for each in curate.decontaminate.against] == ["additions", "held-out"]
    wanted, compared = resolve.against[0], curate.decontaminate.against[1]
    assert (wanted.pinned, compared.revision) == (commit, commit)
    for each in (wanted, compared):
        assert (each.split, each.fields.layout, each.fields.question) == ("test", "ShareGPT", "turns")
        assert not each.fields.answered


def test_both_sides_agree_on_exit_codes() -> None:
    assert {stage_exit.Exit.USAGE, stage_exit.Exit.DATA, stage_exit.Exit.CONFIG} == outcome.PERMANENT
    assert stage_exit.Exit.TEMPORARY == outcome.TEMPORARY
    assert stage_exit.Exit.PEER_LOST == outcome.PEER_LOST


def test_the_operator_reads_the_termination_message_that_a_stage_writes() -> None:
    said = termination.Termination(
        outcome="Failed", reason="TeacherRateLimited", message="the teacher is busy", retry_after_seconds=17
    )
    message = outcome.parse(said.encode().decode())
    assert (message.reason, message.message, message.retry_after) == ("TeacherRateLimited", "the teacher is busy", 17)


def test_both_sides_agree_on_the_metrics_port_and_the_place_of_the_configuration() -> None:
    container = pods.pod_template(
        Want("Job", "job", "j", stage="curate", attempt=1), run(), Spec.model_validate(spec()), SETTINGS, "c"
    )["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", "distillstages.curate", "--config", "/etc/distillrun/stage.yaml"]
    assert container["ports"][0]["containerPort"] == 9400


def test_what_was_resolved_reaches_the_stages_that_read_the_input() -> None:
    a_run, given = run(spec=FULL), Spec.model_validate(FULL)
    identity = "sha256:" + "5e" * 16
    names = {
        "sources": [source.name for source in given.curate.sources],
        "benchmarks": [each.name for each in given.evaluate.benchmarks] if given.evaluate else [],
    }
    found = {part: [{"name": name, "revision": identity} for name in named] for part, named in names.items()}
    resolved = Resolved.model_validate({"student": {"revision": identity}, **found})
    stages: tuple[tuple[StageName, str], ...] = (
        ("curate", "sources"),
        ("train", "student"),
        ("evaluate", "benchmarks"),
    )
    for stage, path in stages:
        inputs = stageconfig.Inputs(UPSTREAM, resolved)
        config = stageconfig.stage_config(a_run, given, stage, "f" * 64, 1, inputs)
        read = getattr(getattr(stage_side.parse(yaml.safe_dump(config)), stage), path)
        assert (read[0] if isinstance(read, list) else read).revision == identity
    again = stageconfig.stage_config(a_run, given, "resolve", "f" * 64, 2, stageconfig.Inputs({}, resolved))
    block = stage_side.parse(yaml.safe_dump(again)).resolve
    assert block is not None
    assert (block.student.pinned, block.sources[0].pinned) == (identity, identity)


def test_a_benchmark_s_grader_reaches_the_stage() -> None:
    given = spec(evaluate={"benchmarks": [{"name": "letters", "uri": "s3://b/q.jsonl", "grader": "MultipleChoice"}]})
    inputs = stageconfig.Inputs(UPSTREAM, Resolved())
    config = stageconfig.stage_config(run(spec=given), Spec.model_validate(given), "evaluate", "f" * 64, 1, inputs)
    block = stage_side.parse(yaml.safe_dump(config)).evaluate
    assert block is not None
    assert block.benchmarks[0].grader == "MultipleChoice"
