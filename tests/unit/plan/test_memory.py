"""Memory of GPUs and hosts: against DeepSpeed's own estimators, and by how it must change."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillrun.plan import hostmemory, memory
from distillrun.plan.trainsetup import Setup
from tests.unit.plan.students import setup, student

SETUPS = st.builds(
    setup,
    nodes=st.integers(1, 64),
    gpus_per_node=st.integers(1, 16),
    zero_stage=st.integers(1, 3),
    offload_optimizer=st.booleans(),
    offload_parameters=st.just(False),
    micro_batch=st.integers(1, 16),
    sequence=st.integers(16, 65536),
    checkpointing=st.booleans(),
    element=st.sampled_from([2, 4]),
)


@pytest.fixture(scope="module")
def estimators() -> tuple[Callable[..., tuple[float, ...]], Callable[..., tuple[float, ...]]]:
    """DeepSpeed's for ZeRO-2 and ZeRO-3. It greets on standard output and chooses an accelerator when imported."""
    pytest.importorskip("deepspeed")
    with contextlib.redirect_stdout(io.StringIO()):
        from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
        from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs
    return estimate_zero2_model_states_mem_needs, estimate_zero3_model_states_mem_needs


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-32B", "Qwen/Qwen3-32B"])
@pytest.mark.parametrize("nodes", [1, 2, 4])
@pytest.mark.parametrize("offload", [(True, True), (True, False), (False, False)])
def test_zero_3_states_are_deepspeeds_own_estimate_at_factor_1(
    estimators: tuple[Callable[..., tuple[float, ...]], ...], name: str, nodes: int, offload: tuple[bool, bool]
) -> None:
    d = student(name)
    s = setup(nodes=nodes, offload_optimizer=offload[0], offload_parameters=offload[1])
    on_host, on_gpu, largest = estimators[1](
        d.parameters, d.head, 8, nodes, *offload, zero_init=True, additional_buffer_factor=1
    )
    states = memory.states(d, s)
    # Theirs has the largest layer's weights and gradients in it, which come and go here.
    assert states.parameters + states.gradients + states.optimizer == pytest.approx(on_gpu - largest, rel=1e-4)
    ours = hostmemory.states(d, s)
    ours.pop("accumulated gradients", None)  # DeepSpeed allocates it, and its estimators leave it out
    if offload[0]:
        assert 8 * sum(ours.values()) == pytest.approx(on_host, rel=1e-4)
    else:
        assert not ours


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-32B"])
@pytest.mark.parametrize("offload", [True, False])
def test_zero_2_states_are_deepspeeds_own_estimate_at_factor_1(
    estimators: tuple[Callable[..., tuple[float, ...]], ...], name: str, offload: bool
) -> None:
    d = student(name)
    s = setup(zero_stage=2, gpus_per_node=4, offload_optimizer=offload, offload_parameters=False)
    on_host, on_gpu = estimators[0](d.parameters, 4, 1, offload, additional_buffer_factor=1)
    states = memory.states(d, s)
    if offload:
        assert states.parameters + states.gradients == pytest.approx(on_gpu, rel=1e-4)
        ours = hostmemory.states(d, s)
        assert 4 * (ours["optimizer"] + ours["gradients"]) == pytest.approx(on_host, rel=1e-4)
    else:
        assert states.parameters + states.gradients + states.optimizer == pytest.approx(on_gpu, rel=1e-4)


def test_a_32b_student_takes_16_bytes_a_parameter_and_2_more_for_the_fp32_accumulator() -> None:
    states = memory.states(student(), setup(offload_optimizer=False, offload_parameters=False, accumulator=2))
    assert states.parameters + states.gradients + states.optimizer == pytest.approx(65.5e9, rel=1e-3)
    states = memory.states(student(), setup(offload_optimizer=False, offload_parameters=False))
    assert states.parameters + states.gradients + states.optimizer == pytest.approx(18 * 32.76e9 / 8, rel=1e-3)


def test_a_host_that_takes_the_optimizer_keeps_about_590_gb_of_it_before_rounding() -> None:
    d, s = student(), setup(offload_parameters=False, accumulator=2)
    assert 8 * sum(hostmemory.states(d, s).values()) == pytest.approx(590e9, rel=0.01)
    assert 8 * sum(hostmemory.states(d, replace(s, accumulator=4)).values()) == pytest.approx(20 * 32.76e9, rel=1e-3)
    assert memory.states(d, s).parameters == pytest.approx(8.2e9, rel=0.01)


def test_page_locked_blocks_round_up_to_powers_of_two() -> None:
    d = student("Qwen/Qwen2.5-0.5B")
    locked = hostmemory.host(d, setup(gpus_per_node=1, offload_parameters=False)).parts
    free = hostmemory.host(d, setup(gpus_per_node=1, offload_parameters=False, pinned=False)).parts
    # Two fp32 buffers of 494 M elements: 1.976 GB each, of which torch locks 2 GiB.
    assert locked["rounding of page-locked blocks"] == 2 * ((1 << 31) - 4 * d.parameters)
    assert "rounding of page-locked blocks" not in free


def test_offloaded_parameters_are_locked_a_second_time_while_they_load() -> None:
    parts = hostmemory.host(student(), setup()).parts
    assert parts["page-locked while loading"] > parts["parameters"]
    assert "page-locked while loading" not in hostmemory.host(student(), setup(offload_parameters=False)).parts


@given(SETUPS)
@settings(max_examples=100, deadline=None)
def test_more_of_anything_never_takes_less(s: Setup) -> None:
    d = student("Qwen/Qwen2.5-7B")
    need = memory.gpu(d, s).total
    assert memory.gpu(d, replace(s, sequence=2 * s.sequence)).total >= need
    assert memory.gpu(d, replace(s, micro_batch=2 * s.micro_batch)).total >= need
    assert memory.gpu(d, replace(s, checkpointing=False)).total >= memory.gpu(d, replace(s, checkpointing=True)).total
    assert memory.gpu(student("Qwen/Qwen2.5-32B"), s).total >= need
    if s.ranks > 1:
        assert memory.gpu(d, replace(s, nodes=2 * s.nodes)).total <= need


@given(SETUPS.filter(lambda s: s.zero_stage == 3))
@settings(max_examples=50, deadline=None)
def test_offloading_moves_memory_from_the_gpu_to_the_host(s: Setup) -> None:
    d = student("Qwen/Qwen2.5-7B")
    at_home, away = replace(s, offload_optimizer=False), replace(s, offload_optimizer=True)
    assert memory.gpu(d, away).total <= memory.gpu(d, at_home).total
    assert hostmemory.host(d, away).total > hostmemory.host(d, at_home).total
    assert min(memory.gpu(d, away).parts.values()) > 0


def test_logits_are_held_in_tiles_so_that_twice_the_sequence_is_not_twice_the_logits() -> None:
    d, s = student("Qwen/Qwen2.5-0.5B"), setup(sequence=8192, checkpointing=True)
    whole = 4 * d.vocabulary * s.sequence
    assert memory.head(d, s)["logits"] < whole / 2


def test_padding_makes_attention_keep_a_mask_that_grows_with_the_square_of_the_sequence() -> None:
    d = student("Qwen/Qwen2.5-7B")
    alone, padded = setup(sequence=16384), setup(sequence=16384, micro_batch=2)
    assert memory.saved_by_layer(d, padded) - 2 * memory.saved_by_layer(d, alone) > 2 * 2 * 16384**2
