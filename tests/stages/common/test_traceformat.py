"""Rendering a trace and splitting it again, for every format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.common.traceformat import (
    DELIMITERS,
    TRACE_FORMATS,
    Trace,
    default_system_prompt,
    render,
    split,
)

FORMATS = st.sampled_from(TRACE_FORMATS)
# Texts made of what is likely to confuse: pieces of white space, of words, of markers cut in two.
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(["\n", " ", "<", "think", ">", "a", "|", "\\boxed{1}", "\n\n", "<|", "answer"]), max_size=12
    ).map("".join),
)
MARKERS = ("<think>", "</think>", "<|begin_of", "<|end_of", "<|im_start|>")


@given(FORMATS, TEXTS, TEXTS)
def test_splitting_is_the_inverse_of_rendering(trace_format: str, thinking: str, response: str) -> None:
    if any(marker in thinking + response for marker in MARKERS):
        return
    assert split(trace_format, render(trace_format, thinking, response)) == Trace(thinking, response)


@given(FORMATS, st.text())
def test_splitting_never_fails_whatever_a_model_writes(trace_format: str, text: str) -> None:
    split(trace_format, text)


@pytest.mark.parametrize(
    ("trace_format", "expected"),
    [
        ("Think", "<think>\nwhy\n</think>\n\n42"),
        (
            "SkyT1",
            "<|begin_of_thought|>\n\nwhy\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n42\n\n<|end_of_solution|>",
        ),
        ("S1", "<|im_start|>think\nwhy\n<|im_start|>answer\n42"),
    ],
)
def test_each_format_renders_to_its_published_text(trace_format: str, expected: str) -> None:
    assert render(trace_format, "why", "42") == expected


@pytest.mark.parametrize("trace_format", TRACE_FORMATS)
def test_an_empty_thinking_keeps_its_delimiters(trace_format: str) -> None:
    around = DELIMITERS[trace_format]
    assert render(trace_format, "", "42") == f"{around.open}{around.middle}42{around.close}"


@pytest.mark.parametrize(
    ("trace_format", "text", "expected"),
    [
        ("Think", "<think> why </think>42", Trace("why", "42")),
        ("Think", "why\n</think>\n\n42", Trace("why", "42")),
        ("Think", "  \n<think>\nwhy\n</think>\n42\n", Trace("why", "42")),
        ("Think", "just 42", Trace("", "just 42")),
        ("Think", "<think>\nfor ever", Trace("for ever", "")),
        ("SkyT1", "<|begin_of_thought|>why<|end_of_thought|><|begin_of_solution|>42", Trace("why", "42")),
        ("SkyT1", "<|begin_of_solution|>42<|end_of_solution|>", Trace("", "42")),
        ("S1", "<|im_start|>think\nwhy<|im_start|>answer 42", Trace("why", "42")),
    ],
)
def test_what_models_really_write_is_split_with_lenience(trace_format: str, text: str, expected: Trace) -> None:
    assert split(trace_format, text) == expected


def test_only_sky_t1_brings_a_system_prompt_which_names_its_markers() -> None:
    prompt = default_system_prompt("SkyT1")
    assert prompt is not None
    assert "<|begin_of_thought|>" in prompt
    assert "<|end_of_solution|>" in prompt
    assert default_system_prompt("Think") is None
    assert default_system_prompt("S1") is None


def test_an_unknown_format_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="'Alpaca' is unknown, choose one of Think, SkyT1, S1"):
        render("Alpaca", "", "")
