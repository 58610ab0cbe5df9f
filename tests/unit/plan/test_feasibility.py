"""Feasibility: the cases that are known from life, what is not known, and the advice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillrun.api.v1alpha1 import Spec
from distillrun.plan import feasibility
from distillrun.plan.feasibility import Feasibility
from tests.unit.plan.students import H100, resolved, run_spec

CURATED = {"accepted": "17000", "datasetTokens": "76500000", "longestTokens": "16384"}
NOTHING_OFFLOADED = {"offloadOptimizer": False, "offloadParameters": False}


def judge(host: str | None = None, disk: str | None = None, **train: Any) -> Feasibility:
    return feasibility.judge(run_spec(host, disk, **train), resolved(), None)


def test_32b_on_8_gpus_of_80_gb_without_offload_does_not_fit_and_offloading_is_the_advice() -> None:
    verdict = judge(deepspeed=NOTHING_OFFLOADED)
    assert (verdict.status, verdict.reason) == ("False", feasibility.GPU_MEMORY)
    assert "has 84.9 GB" in verdict.message
    assert "Cheapest change that fits: train.deepspeed.offloadOptimizer: true" in verdict.message


def test_32b_on_8_gpus_of_80_gb_with_offload_fits_a_host_of_1730_gb() -> None:
    verdict = judge(host="1730G")
    assert (verdict.status, verdict.reason) == ("True", feasibility.FITS), verdict.message


@pytest.mark.parametrize("host", ["744G", "744Gi", "800G", "800Gi"])
def test_hosts_of_744_to_800_gb_are_refused_as_they_were_killed(host: str) -> None:
    verdict = judge(host=host)
    assert (verdict.status, verdict.reason) == ("False", feasibility.HOST_MEMORY)
    assert "or bigger hosts: train.pod.resources.limits.memory:" in verdict.message


@pytest.mark.parametrize("host", ["744G", "800G"])
def test_they_are_refused_too_when_only_the_optimizer_is_offloaded(host: str) -> None:
    assert judge(host=host, deepspeed={"offloadParameters": False}).reason == feasibility.HOST_MEMORY


def test_s1_on_16_gpus_of_80_gb_fits_without_offload_at_the_lengths_it_had() -> None:
    curated = {"accepted": "1000", "datasetTokens": "4700000", "longestTokens": "20000"}
    spec = run_spec("500Gi", nodes=2, globalBatchSize=16, maxSequenceLength=32768, deepspeed=NOTHING_OFFLOADED)
    assert feasibility.judge(spec, resolved(), curated).status == "True"


@pytest.mark.parametrize(
    ("train", "advice"),
    [
        ({"microBatchSize": 8, "globalBatchSize": 128, "maxSequenceLength": 8192}, "train.microBatchSize: 1"),
        ({"gradientCheckpointing": False}, "train.gradientCheckpointing: true"),
        ({"deepspeed": {"zeroStage": 2, "offloadParameters": False}}, "train.deepspeed.zeroStage: 3"),
        ({"gpusPerNode": 4, "deepspeed": NOTHING_OFFLOADED}, "train.deepspeed.offloadOptimizer: true"),
        ({"product": "NVIDIA-L4", "maxSequenceLength": 1024, "deepspeed": NOTHING_OFFLOADED}, "train.deepspeed.off"),
    ],
)
def test_the_advice_is_the_cheapest_change_that_is_tried(train: dict[str, Any], advice: str) -> None:
    verdict = judge(host="3000Gi", **train)
    assert verdict.status == "False"
    assert f"Cheapest change that fits: {advice}" in verdict.message


def test_where_the_host_is_too_small_to_offload_more_nodes_are_the_advice() -> None:
    verdict = judge(host="200Gi", deepspeed=NOTHING_OFFLOADED)
    assert "Cheapest change that fits: train.nodes: 2 (" in verdict.message


def test_more_nodes_on_storage_for_one_node_come_with_the_access_mode_that_they_need() -> None:
    verdict = judge(host="200Gi", disk="4Ti", deepspeed=NOTHING_OFFLOADED)
    assert "train.nodes: 2, with ReadWriteMany in storage.claimTemplate.accessModes" in verdict.message


def test_what_is_advised_fits_when_it_is_done() -> None:
    assert judge(host="1000Gi", deepspeed={"offloadParameters": False}).status == "True"
    assert judge(host="200Gi", nodes=2, deepspeed=NOTHING_OFFLOADED).status == "True"


def test_an_advised_batch_can_be_split() -> None:
    verdict = judge(host="200Gi", globalBatchSize=8, deepspeed=NOTHING_OFFLOADED)
    assert "train.nodes" not in verdict.message  # 8 examples cannot go to 16 GPUs
    assert "Nothing that was tried fits" in verdict.message


def test_checkpoints_that_do_not_fit_the_claim_are_told_before() -> None:
    verdict = judge(host="1730G", disk="1Ti")
    assert (verdict.status, verdict.reason) == ("False", feasibility.DISK)
    assert "Training needs 1.18 TB (checkpoints 1.18 TB) of storage" in verdict.message
    assert "Cheapest change that fits: train.checkpoint.keep: 1 (" in verdict.message
    assert judge(host="1730G", disk="1Ti", checkpoint={"keep": 1}).status == "True"


def test_a_training_too_short_for_a_checkpoint_needs_room_for_the_model_only() -> None:
    assert judge(host="1730G", disk="100Gi", maxSteps=50).status == "True"


def test_several_limits_that_are_broken_are_all_told() -> None:
    verdict = judge(host="200Gi", disk="100Gi", deepspeed={"offloadParameters": False}, gradientCheckpointing=False)
    assert verdict.reason == feasibility.GPU_MEMORY
    for words in ("on each GPU;", "of host memory in each training pod;", "of storage;"):
        assert words in verdict.message


def test_an_unknown_gpu_is_told_with_the_field_to_set() -> None:
    verdict = judge(host="1730G", product="")
    assert (verdict.status, verdict.reason) == ("Unknown", feasibility.GPU_UNKNOWN)
    assert "train.gpuProduct is not set" in verdict.message
    assert H100 in judge(host="1730G", product="Voodoo-2").message


def test_a_slice_of_a_gpu_is_not_taken_for_a_whole_one() -> None:
    assert judge(host="1730G", product="NVIDIA-H100-80GB-HBM3-MIG-3g.40gb").reason == feasibility.GPU_UNKNOWN


def test_a_host_too_small_is_refused_even_where_the_gpu_is_unknown() -> None:
    assert judge(host="744G", product="").reason == feasibility.HOST_MEMORY


def test_without_a_memory_limit_the_need_is_told() -> None:
    verdict = judge()
    assert (verdict.status, verdict.reason) == ("Unknown", feasibility.HOST_MEMORY_UNKNOWN)
    assert "set train.pod.resources.limits.memory" in verdict.message


def test_bf16_without_zero_is_not_supported_by_the_trainer() -> None:
    verdict = judge(deepspeed={"zeroStage": 0, **NOTHING_OFFLOADED})
    assert (verdict.status, verdict.reason) == ("False", feasibility.NOT_SUPPORTED)


@pytest.mark.parametrize("stage", ["evaluate", "serve"])
@pytest.mark.parametrize("model", ["qwen2", "mixtral"])
def test_gpus_that_cannot_share_the_heads_are_refused_before_anything_is_trained(stage: str, model: str) -> None:
    whole = run_spec("1730G").model_dump(by_alias=True, exclude_none=True)
    whole[stage]["engine"] = {**whole[stage]["engine"], "tensorParallel": 6}
    verdict = feasibility.judge(Spec.model_validate(whole), resolved(modelType=model), None)
    assert (verdict.status, verdict.reason) == ("False", feasibility.NOT_SUPPORTED)
    assert "40 attention heads over 6 GPUs" in verdict.message
    assert verdict.message.endswith(f"Cheapest change: {stage}.engine.tensorParallel: 5.")


def test_gpus_that_share_the_heads_evenly_are_not_refused() -> None:
    whole = run_spec("1730G").model_dump(by_alias=True, exclude_none=True)
    whole["serve"]["engine"] = {**whole["serve"]["engine"], "tensorParallel": 8}
    assert feasibility.judge(Spec.model_validate(whole), resolved(), None).status == "True"


def test_the_dataset_counts_in_every_rank() -> None:
    spec = run_spec("1020G")
    assert feasibility.judge(spec, resolved(), None).status == "True"
    assert feasibility.judge(spec, resolved(), CURATED).status == "False"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "has not been read yet"),
        ({}, "could not read the student's dimensions"),
        ({"student": {"dimensions": {}}}, "could not read the student's dimensions"),
        ({"student": ["dimensions"]}, "could not read the student's dimensions"),
        (resolved(modelType="mixtral"), "architecture 'mixtral' is not modelled"),
        (resolved(modelType=""), "could not read the student's dimensions"),
        (resolved(modelType=["qwen2"]), "architecture \"['qwen2']\" is not modelled"),
        (resolved(layers=None), "the student's layers is 'None', expected a whole number"),
        (resolved(hiddenSize=1e99), "the student's hiddenSize is '1e+99'"),
        (resolved(vocabSize=-5), "the student's vocabSize is '-5'"),
        (resolved(heads=True), "the student's heads is 'True'"),
        (resolved(parameters=10**40), "number of parameters"),
    ],
)
def test_a_student_that_is_not_understood_is_unknown_with_a_sentence(answer: Any, words: str) -> None:
    verdict = feasibility.judge(run_spec("744G"), answer, None)
    assert (verdict.status, verdict.reason) == ("Unknown", feasibility.STUDENT_UNKNOWN)
    assert words in verdict.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
DIMENSIONS = st.fixed_dictionaries(
    {key: JSON | st.just(value) for key, value in resolved()["student"]["dimensions"].items()}
)


@given(JSON | st.fixed_dictionaries({"student": st.fixed_dictionaries({"dimensions": DIMENSIONS})}), JSON)
@settings(max_examples=80, deadline=None)
def test_no_answer_of_a_stage_makes_it_fail(answer: Any, curated: Any) -> None:
    curated = curated if isinstance(curated, dict) else {"accepted": curated, "longestTokens": curated}
    assert feasibility.judge(run_spec("744G", "1Ti"), answer, curated).status in ("True", "False", "Unknown")


@given(st.dictionaries(st.sampled_from(["zero_optimization", "data_types"]), JSON, max_size=2))
@settings(max_examples=100, deadline=None)
def test_no_raw_configuration_makes_it_fail(config: dict[str, Any]) -> None:
    assert judge(host="744G", deepspeed={"config": config}).status == "False"


def test_an_equal_question_is_answered_from_memory() -> None:
    feasibility._judge.cache_clear()
    for _ in range(3):
        judge(host="744G")
    assert feasibility._judge.cache_info().hits == 2
