from __future__ import annotations

from typing import Any

import pytest

from distillstages.common.exit import ConfigFault
from distillstages.train import deepspeed_config, plan
from tests.stages.train.test_plan import settings


def build(on_gpu: bool = True, **changes: Any) -> dict[str, Any]:
    train = settings(globalBatchSize=16, distributed={"nodes": 2, "processesPerNode": 4}, **changes)
    return deepspeed_config.build(train, plan.split_batch(train), on_gpu=on_gpu)


def test_the_batch_sizes_are_consistent() -> None:
    built = build()

    assert built["train_batch_size"] == 16
    assert built["train_micro_batch_size_per_gpu"] * built["gradient_accumulation_steps"] * 8 == 16


@pytest.mark.parametrize(
    ("settings_", "zero"),
    [
        (
            {},
            {
                "stage": 3,
                "contiguous_gradients": True,
                "overlap_comm": True,
                "offload_optimizer": {"device": "cpu", "pin_memory": True},
                "offload_param": {"device": "cpu", "pin_memory": True},
                "stage3_gather_16bit_weights_on_model_save": True,
            },
        ),
        (
            {"zeroStage": 3, "offloadOptimizer": False, "offloadParameters": False},
            {
                "stage": 3,
                "contiguous_gradients": True,
                "overlap_comm": True,
                "stage3_gather_16bit_weights_on_model_save": True,
            },
        ),
        (
            {"zeroStage": 2, "offloadParameters": False},
            {
                "stage": 2,
                "contiguous_gradients": True,
                "overlap_comm": True,
                "offload_optimizer": {"device": "cpu", "pin_memory": True},
            },
        ),
        ({"zeroStage": 0, "offloadOptimizer": False, "offloadParameters": False}, {"stage": 0}),
    ],
)
def test_stage_and_offload_become_zero_optimization(settings_: dict[str, Any], zero: dict[str, Any]) -> None:
    assert build(deepspeed=settings_)["zero_optimization"] == zero


def test_without_a_gpu_nothing_is_pinned_and_nothing_overlaps() -> None:
    zero = build(on_gpu=False)["zero_optimization"]

    assert zero["overlap_comm"] is False
    assert zero["offload_optimizer"]["pin_memory"] is False
    assert zero["offload_param"]["pin_memory"] is False


@pytest.mark.parametrize(("precision", "enabled"), [("BF16", True), ("FP32", False)])
def test_gradients_are_accumulated_in_float32_whatever_the_precision(precision: str, enabled: bool) -> None:
    built = build(precision=precision)

    assert built["bf16"] == {"enabled": enabled}
    assert built["data_types"] == {"grad_accum_dtype": "fp32"}


@pytest.mark.parametrize(("offload", "torch_adam"), [(True, False), (False, True)])
def test_adam_is_deepspeeds_on_the_host_and_torchs_on_the_device(offload: bool, torch_adam: bool) -> None:
    built = build(
        deepspeed={"offloadOptimizer": offload}, learningRate=3e-4, betas=(0.9, 0.95), weightDecay=1e-4, maxGradNorm=0.5
    )

    assert built["optimizer"]["params"] == {
        "lr": 3e-4,
        "betas": [0.9, 0.95],
        "eps": 1e-8,
        "weight_decay": 1e-4,
        "torch_adam": torch_adam,
    }
    assert built["gradient_clipping"] == 0.5


def test_a_raw_configuration_is_merged_over_ours() -> None:
    raw = {"zero_optimization": {"sub_group_size": 1e8, "offload_param": {"buffer_count": 9}}, "comms_logger": {"x": 1}}

    built = build(deepspeed={"config": raw})

    assert built["comms_logger"] == {"x": 1}
    assert built["zero_optimization"]["sub_group_size"] == 1e8
    assert built["zero_optimization"]["offload_param"] == {"device": "cpu", "pin_memory": True, "buffer_count": 9}


@pytest.mark.parametrize("path", deepspeed_config.OWNED)
def test_a_raw_key_that_a_field_sets_is_refused_with_that_field(path: str) -> None:
    raw: Any = 1
    for key in reversed(path.split(".")):
        raw = {key: raw}

    with pytest.raises(ConfigFault) as caught:
        build(deepspeed={"config": raw})

    assert f"must not set {path}: it follows from {deepspeed_config.OWNED[path]}" in str(caught.value)


@pytest.mark.parametrize(
    ("settings_", "sentence"),
    [
        ({"zeroStage": 2}, "offloadParameters needs zeroStage 3, it is 2"),
        ({"zeroStage": 0, "offloadParameters": False}, "offloadOptimizer needs zeroStage 1 or more"),
    ],
)
def test_an_offload_that_a_stage_cannot_do_is_refused(settings_: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigFault, match=sentence):
        build(deepspeed=settings_)
