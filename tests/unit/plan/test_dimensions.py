"""Dimensions, GPUs, quantities."""

from __future__ import annotations

import pytest

from distillrun.cli import knownmodels
from distillrun.plan import dimensions, gpus, quantity
from tests.unit.plan.students import student


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-8B-Base", 8_190_735_360),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("mistralai/Mistral-7B-v0.3", 7_248_023_552),
    ],
)
def test_parameters_counted_from_dimensions_are_those_that_the_authors_publish(name: str, parameters: int) -> None:
    assert student(name).parameters == parameters


def test_every_built_in_student_is_modelled() -> None:
    for name in knownmodels.NAMES:
        assert student(name).parameters > 0
    assert knownmodels.config("someone/else") is None


def test_a_config_without_a_key_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match="hidden_size is None, expected a whole number"):
        dimensions.of_config({"model_type": "qwen2", "num_attention_heads": 2})
    with pytest.raises(ValueError, match="model_type is None"):
        dimensions.of_config({})


@pytest.mark.parametrize(
    ("label", "product"),
    [
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-80GB-HBM3"),
        ("NVIDIA-H200", "NVIDIA-H200"),
        ("NVIDIA-H200-NVL", "NVIDIA-H200-NVL"),
        ("NVIDIA-A10G", "NVIDIA-A10G"),
        ("NVIDIA-H100-80GB-HBM3-SHARED", None),
        ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", None),
        ("", None),
        ("Tesla-T4", None),
    ],
)
def test_gpus_are_found_by_the_label_of_their_nodes(label: str, product: str | None) -> None:
    found = gpus.find(label)
    assert (found.product if found else None) == product


@pytest.mark.parametrize(
    ("text", "size"), [("64Gi", 64 << 30), ("1500M", 1_500_000_000), ("8", 8), ("1.5Ti", 3 << 39), ("2k", 2000)]
)
def test_quantities_are_bytes(text: str, size: int) -> None:
    assert quantity.to_bytes(text) == size


def test_bytes_are_words_in_the_units_hardware_is_sold_in() -> None:
    assert [quantity.words(size) for size in (12, 84_900_000_000, 590_000_000_000, 1_730_000_000_000)] == [
        "12 bytes",
        "84.9 GB",
        "590 GB",
        "1.73 TB",
    ]
