"""Rows of published datasets: what each layout is read to, and for what a row is left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillstages.common import reasons
from distillstages.common.blocks import TraceFields
from distillstages.common.exit import DataFault
from distillstages.common.traceformat import TRACE_FORMATS, Trace, render
from distillstages.common.tracerows import TraceRow, columns, read

THOUGHT = "First we add.\n\nThen we check."
SAID = "It is \\boxed{2}."
S1K = {"question": "question", "thinking": "thinking_trajectories", "response": "attempt", "answer": "solution"}


def row_of(row: dict[str, Any], layout: str = "Columns", **fields: Any) -> TraceRow:
    return read(TraceFields(layout=layout, **fields), row, "data.parquet row 7")


def sharegpt(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in turns]}


def sky(thought: str = THOUGHT, said: str = SAID) -> str:
    return (
        f"<|begin_of_thought|>\n\n{thought}\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n{said}\n\n"
        "<|end_of_solution|>"
    )


@pytest.mark.parametrize(
    ("row", "layout", "fields", "reference", "has_system"),
    [
        ({"question": "q", "thinking": THOUGHT, "response": SAID}, "Columns", {}, "", False),
        (
            {"question": "q", "thinking_trajectories": [THOUGHT], "attempt": SAID, "solution": 2},
            "Columns",
            S1K,
            "2",
            False,
        ),
        (
            {"question": "q", "deepseek_thinking_trajectory": THOUGHT, "deepseek_attempt": f"\n{SAID}\n"},
            "Columns",
            {"thinking": "deepseek_thinking_trajectory", "response": "deepseek_attempt"},
            "",
            False,
        ),
        ({"system": "s", **sharegpt(("user", "q"), ("assistant", sky()))}, "ShareGPT", {}, "", False),
        (sharegpt(("system", "s"), ("human", " q "), ("gpt", sky() + "\n")), "ShareGPT", {}, "", True),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": f"<think>{THOUGHT}</think>\n{SAID}"},
                ]
            },
            "Messages",
            {},
            "",
            False,
        ),
    ],
)
def test_the_published_layouts_give_question_thinking_and_response(
    row: dict[str, Any], layout: str, fields: dict[str, Any], reference: str, has_system: bool
) -> None:
    assert row_of(row, layout, **fields) == TraceRow("q", Trace(THOUGHT, SAID), reference, "", has_system)
    assert set(columns(TraceFields(layout=layout, **fields))) <= set(row)


@pytest.mark.parametrize("trace_format", TRACE_FORMATS)
def test_a_reply_in_any_of_our_formats_is_read(trace_format: str) -> None:
    reply = render(trace_format, THOUGHT, SAID)
    assert row_of(sharegpt(("human", "q"), ("gpt", reply)), "ShareGPT").trace == (THOUGHT, SAID)


@pytest.mark.parametrize(
    ("row", "layout", "reason", "said"),
    [
        ({"question": "q", "thinking": "t", "response": None}, "Columns", "FieldMissing", "'response' holds nothing"),
        ({"question": "q", "thinking": "", "response": "r"}, "Columns", "NoThinking", "a response without thinking"),
        ({"question": "q", "thinking": None, "response": "r"}, "Columns", "NoThinking", "without thinking"),
        ({"question": "q", "thinking": ["a", "b"], "response": "r"}, "Columns", "RowBroken", "2 trajectories"),
        ({"question": "q", "thinking": "a<|im_end|>", "response": "r"}, "Columns", "Malformed", "marker <|im_end|>"),
        ({"question": "q", "thinking": "a", "response": "</think>r"}, "Columns", "Malformed", "marker </think>"),
        (sharegpt(("human", "q"), ("gpt", "just so")), "ShareGPT", "NoThinking", "without thinking"),
        (sharegpt(("human", "q"), ("gpt", sky()[:-20])), "ShareGPT", "Truncated", "the text is cut off"),
        (sharegpt(("human", "q"), ("gpt", "<|begin_of_thought|>\n\nhm")), "ShareGPT", "Malformed", "no response after"),
        (sharegpt(("human", "q"), ("gpt", sky(thought="<think>"))), "ShareGPT", "Malformed", "marker <think>"),
        (
            sharegpt(("human", "q"), ("gpt", sky()), ("human", "why?"), ("gpt", sky())),
            "ShareGPT",
            "MultipleTurns",
            "the turns are user, assistant, user, assistant; expected one question and one reply",
        ),
        (sharegpt(("gpt", sky())), "ShareGPT", "RowBroken", "the turns are assistant"),
        (sharegpt(("human", " "), ("gpt", sky())), "ShareGPT", "FieldMissing", "the question is empty"),
        ({"messages": "x"}, "Messages", "RowBroken", "expected a list of {role, content}"),
        ({"chat": []}, "Messages", "FieldMissing", "no field 'messages' for a conversation; fields found: chat"),
    ],
)
def test_a_row_that_would_teach_something_else_is_left_out_with_a_reason(
    row: dict[str, Any], layout: str, reason: str, said: str
) -> None:
    with pytest.raises(DataFault) as caught:
        row_of(row, layout)
    assert caught.value.reason == reason
    assert caught.value.message.startswith("data.parquet row 7: ")
    assert said in caught.value.message


_KNOWN = "question thinking response answer conversations messages from value role content user gpt assistant system"
_WORDS = st.sampled_from([*_KNOWN.split(" "), "<think>a</think>b", "<|begin_of_solution|>", "\ud800"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=10,
)
_TURN = st.fixed_dictionaries({"from": _WORDS, "value": _WORDS, "role": _WORDS, "content": _WORDS | _VALUES})
_ROWS = st.dictionaries(_WORDS, _WORDS | _VALUES | st.lists(_TURN, max_size=4), max_size=8)
_REASONS = {
    reasons.FIELD_MISSING,
    reasons.ROW_BROKEN,
    reasons.MULTIPLE_TURNS,
    reasons.NO_THINKING,
    reasons.TRUNCATED,
    reasons.MALFORMED,
}


@settings(max_examples=400, deadline=None)
@given(_ROWS, st.sampled_from(["Columns", "ShareGPT", "Messages"]), st.none() | _WORDS)
def test_no_row_ends_in_anything_but_a_trace_or_one_of_the_reasons(
    row: dict[str, Any], layout: str, answer: str | None
) -> None:
    try:
        found = row_of(row, layout, answer=answer)
    except DataFault as error:
        outcome = error.reason
    else:
        outcome = reasons.MALFORMED
        assert all(found[:1])
        assert all(found.trace)
        assert "".join((found.question, *found.trace, found.reference)).encode()
    assert outcome in _REASONS
