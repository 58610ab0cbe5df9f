"""The contract between operator and stages (docs/stages.md), driven from both sides with the same fixtures."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from distillrun.api.v1alpha1 import Spec
from distillrun.build import pod as pods
from distillrun.build.objects import build
from distillrun.plan import outcome, stageconfig
from distillrun.plan.model import STAGES, StageName, Want
from distillstages.common import config as stage_side
from distillstages.common import exit as stage_exit
from distillstages.common import termination
from tests.unit.builders import SETTINGS, run, spec

FULL = spec(
    curate={
        "sources": [{"name": "pool", "uri": "hf://datasets/a/b", "take": 9, "fields": {"id": "n"}, "secretName": "hf"}],
        "generate": {"samples": 4, "temperature": "0.7", "topP": "0.95", "maxTokens": 99, "systemPrompt": "Work."},
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
UPSTREAM: dict[StageName, str] = {
    "curate": "file:///mnt/distillrun/t/curate/x/",
    "train": "file:///mnt/distillrun/t/train/y/",
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("given", [spec(), FULL], ids=["small", "full"])
def test_every_stage_reads_what_the_operator_writes(stage: StageName, given: dict[str, Any]) -> None:
    a_run = run(spec=given)
    config = stageconfig.stage_config(a_run, Spec.model_validate(given), stage, "f" * 64, 3, UPSTREAM)
    want = Want("ConfigMap", "config", "c", stage=stage, attempt=3, fingerprint="f" * 64, config=config)
    text = build(want, a_run, SETTINGS)["data"]["stage.yaml"]
    read = stage_side.parse(text)
    assert read.stage == stage
    assert read.attempt == 3
    written = yaml.safe_load(text)[stage]
    block = getattr(read, stage)
    known = block.model_dump(by_alias=True)
    assert set(written) <= set(known)
    for key, value in written.items():
        if not isinstance(value, dict | list):
            assert known[key] == value, key


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
        Want("Job", "job", "j", stage="curate"), run(), Spec.model_validate(spec()), SETTINGS, "c"
    )["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", "distillstages.curate", "--config", "/etc/distillrun/stage.yaml"]
    assert container["ports"][0]["containerPort"] == 9400
