"""Layouts of rows: what each is read to, and that whatever a row holds ends in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillstages.common.blocks import Fields, Source
from distillstages.common.choicerows import INSTRUCTION
from distillstages.common.exit import DataFault
from distillstages.common.layouts import Parts, columns, parts_of
from distillstages.common.sources import read_questions

LAYOUTS = ("Columns", "ShareGPT", "Messages", "Alpaca", "MultipleChoice", "CodeTests", "HumanEval")
CITIES = ["Rome", "Paris", "Oslo"]


def read(row: dict[str, Any], layout: str, **fields: Any) -> Parts:
    return parts_of(Fields(layout=layout, **fields), row, "pool.jsonl row 7")


def refusal(row: dict[str, Any], layout: str, **fields: Any) -> DataFault:
    with pytest.raises(DataFault) as caught:
        read(row, layout, **fields)
    return caught.value


def sharegpt(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in turns]}


def messages(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


@pytest.mark.parametrize(
    ("row", "layout", "fields", "wanted"),
    [
        ({"question": " 1+1=? ", "answer": 2}, "Columns", {}, ("1+1=?", "2")),
        ({"problem": "x", "solution": "so \\boxed{3}"}, "Columns", {"question": "problem", "answer": "solution"}, "x3"),
        (sharegpt(("human", "1+1=?"), ("gpt", "It is \\boxed{2}.")), "ShareGPT", {}, ("1+1=?", "2")),
        (sharegpt(("system", "s"), ("user", "q"), ("assistant", "#### 2"), ("user", "r")), "ShareGPT", {}, "q2"),
        (
            sharegpt(
                ("user", "q"),
                (
                    "assistant",
                    "<|begin_of_thought|>\n\nis it \\boxed{1}?\n\n<|end_of_thought|>\n\n<|begin_of_solution|>"
                    "\n\n2\n\n<|end_of_solution|>",
                ),
            ),
            "ShareGPT",
            {},
            "q2",
        ),
        (messages(("user", "q"), ("assistant", "<think>\\boxed{1}</think>2")), "Messages", {}, "q2"),
        ({**messages(("user", "q")), "key": "B"}, "Messages", {"answer": "key"}, "qB"),
        (
            messages(("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), ("assistant", "2")),
            "Messages",
            {},
            ("ab", "2"),
        ),
        ({"chat": messages(("user", "q"), ("assistant", "2"))["messages"]}, "Messages", {"question": "chat"}, "q2"),
        ({"conversations": json.dumps(sharegpt(("human", "q"), ("gpt", "2"))["conversations"])}, "ShareGPT", {}, "q2"),
        ({"instruction": "Add.", "input": "1+1", "output": "2"}, "Alpaca", {}, ("Add.\n\n1+1", "2")),
        ({"instruction": "i", "input": "", "output": "2"}, "Alpaca", {}, "i2"),
        ({"instruction": "i", "input": None, "output": "2"}, "Alpaca", {}, "i2"),
        ({"instruction": "i", "output": "2"}, "Alpaca", {}, "i2"),
        (
            {"prompt": "i", "context": 5, "output": "2"},
            "Alpaca",
            {"question": "prompt", "input": "context"},
            ("i\n\n5", "2"),
        ),
    ],
)
def test_each_layout_gives_question_and_reference(
    row: dict[str, Any], layout: str, fields: dict[str, Any], wanted: Any
) -> None:
    assert read(row, layout, **fields) == Parts(*wanted)
    assert set(columns(Fields(layout=layout, **fields))) <= set(row)


@pytest.mark.parametrize(
    ("row", "fields", "letter"),
    [
        ({"choices": CITIES, "answer": "B"}, {}, "B"),
        ({"choices": CITIES, "answer": "(b)"}, {}, "B"),
        ({"choices": CITIES, "answer": 1}, {}, "B"),
        ({"choices": CITIES, "answer": [1]}, {}, "B"),
        ({"choices": CITIES, "answer": "1"}, {}, "B"),
        ({"choices": CITIES, "answer": 1.0}, {}, "B"),
        ({"choices": CITIES, "answer": "Paris"}, {}, "B"),
        ({"choices": CITIES, "answer": "B) Paris"}, {}, "B"),
        ({"choices": CITIES, "answer": 2}, {"answer_is": "IndexFromOne"}, "B"),
        ({"choices": [4, 2, 1], "answer": 2}, {"answer_is": "Text"}, "B"),
        ({"choices": [4, 1, 2], "answer": 1}, {"answer_is": "Index"}, "B"),
        ({"choices": json.dumps(CITIES), "answer": "1"}, {}, "B"),
        ({"choices": dict(zip("ABC", CITIES, strict=True)), "answer": "B"}, {}, "B"),
        ({"choices": {"1": "Rome", "2": "Paris", "3": "Oslo", "4": None}, "answer": "2"}, {}, "B"),
        ({"choices": {"text": CITIES, "label": ["1", "2", "3"]}, "answer": "2"}, {}, "B"),
        ({"choices": [{"label": x, "text": t} for x, t in zip("ABC", CITIES, strict=True)], "answer": "B"}, {}, "B"),
        ({"choices": ["A)Rome", "B)Paris", "C)Oslo"], "answer": "B"}, {}, "B"),
        (
            {"a": "Rome", "b": "Paris", "c": "Oslo", "d": None, "cop": 1},
            {"choices": list("abcd"), "answer": "cop"},
            "B",
        ),
    ],
)
def test_choices_and_answers_of_every_form_become_lettered_options_and_a_letter(
    row: dict[str, Any], fields: dict[str, Any], letter: str
) -> None:
    question, reference, choices, _, instruction = read({"question": "Which?", **row}, "MultipleChoice", **fields)
    assert instruction.strip() == INSTRUCTION
    assert (reference, choices) == (letter, 3)
    if "answer_is" not in fields or fields["answer_is"] == "IndexFromOne":
        assert question == f"Which?\n\nA. Rome\nB. Paris\nC. Oslo\n\n{INSTRUCTION}"


def test_the_right_choice_of_a_column_of_its_own_is_not_always_the_same_letter() -> None:
    wrong = ["No 1", "No 2", "No 3"]
    letters = []
    for number in range(40):
        row = {"Question": f"q {number}", "Correct": "Yes", **dict(zip(wrong, wrong, strict=True))}
        found = read(row, "MultipleChoice", question="Question", answer="Correct", choices=("Correct", *wrong))
        assert f"\n{found.reference}. Yes\n" in found.question
        assert found == read(row, "MultipleChoice", question="Question", answer="Correct", choices=(*wrong, "Correct"))
        letters.append(found.reference)
    assert set(letters) == set("ABCD")


@pytest.mark.parametrize(
    ("row", "layout", "fields", "reason", "said"),
    [
        ({"prompt": "x"}, "ShareGPT", {}, "FieldMissing", "no field 'conversations' for a conversation; fields found:"),
        ({"conversations": "x"}, "ShareGPT", {}, "RowBroken", "holds 'x', expected a list of {from, value}"),
        (
            {"conversations": messages(("user", "q"))["messages"]},
            "ShareGPT",
            {},
            "RowBroken",
            "turn 1: found the keys content, role, expected a list of {from, value} (layout ShareGPT)",
        ),
        (messages(("tool", "q")), "Messages", {}, "RowBroken", "turn 1: role is 'tool', expected system, human"),
        (messages(("user", 5)), "Messages", {}, "RowBroken", "turn 1: content holds 5, expected text"),
        (messages(("assistant", "q")), "Messages", {}, "FieldMissing", "has no turn of the user"),
        (messages(("user", "q")), "Messages", {}, "FieldMissing", "no reply follows the first question"),
        (messages(("user", "q")), "Messages", {"answer": "a"}, "FieldMissing", "no field 'a' for a reference answer"),
        (messages(("user", "q"), ("assistant", "<think>for ever")), "Messages", {}, "FieldMissing", "is empty"),
        ({"instruction": "i", "output": "2"}, "Alpaca", {"input": "in"}, "FieldMissing", "no field 'in' for an input"),
        ({"question": "q", "choices": ["a"], "answer": 0}, "MultipleChoice", {}, "RowBroken", "1 choices in 'choices'"),
        ({"question": "q", "choices": 3, "answer": 0}, "MultipleChoice", {}, "RowBroken", "holds 3, expected a list"),
        ({"question": "q", "choices": CITIES, "answer": 3}, "MultipleChoice", {}, "RowBroken", "counted from 1 with"),
        ({"question": "q", "choices": CITIES, "answer": "D"}, "MultipleChoice", {}, "RowBroken", "(A to C)"),
        (
            {"question": "q", "choices": [2, 1, 0], "answer": 2},
            "MultipleChoice",
            {},
            "RowBroken",
            "which may mean A or C of A to C; say with fields.answerIs",
        ),
        (
            {"question": "q", "choices": {"text": CITIES, "label": ["a"]}, "answer": 2},
            "MultipleChoice",
            {},
            "RowBroken",
            "holds 3 choices and other labels ['a']",
        ),
        (
            {"question": "q", "a": "x", "b": "x"},
            "MultipleChoice",
            {"choices": ("a", "b"), "answer": "a"},
            "RowBroken",
            "the choice 'x' stands there twice",
        ),
    ],
)
def test_a_row_that_does_not_fit_its_layout_is_named_with_what_was_found_and_expected(
    row: dict[str, Any], layout: str, fields: dict[str, Any], reason: str, said: str
) -> None:
    error = refusal(row, layout, **fields)
    assert error.reason == reason
    assert error.message.startswith("pool.jsonl row 7: ")
    assert said in error.message


def test_questions_of_a_table_with_structs_are_read_as_they_are_from_json(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "Which?", "choices": {"text": CITIES, "label": ["A", "B", "C"]}, "answerKey": "C"},
        {"question": "Who?", "choices": {"text": CITIES[:2], "label": ["1", "2"]}, "answerKey": "1"},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "arc.parquet")
    (tmp_path / "arc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = {"layout": "MultipleChoice", "answer": "answerKey"}
    table, lines = (
        list(read_questions(Source(name="arc", uri=(tmp_path / name).as_uri(), fields=fields)))
        for name in ("arc.parquet", "arc.jsonl")
    )
    assert table == lines
    assert [(q.reference, q.choices) for q in table] == [("C", 3), ("A", 2)]


_KNOWN = (
    "question answer conversations messages instruction input output choices text label from value role content user"
    " gpt assistant A B)x 1 [1] { \ud800 prompt test entry_point input_output starter_code"
)
_WORDS = st.sampled_from(_KNOWN.split(" "))
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=3) | _WORDS
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=4), max_leaves=12
)
_TURN = st.fixed_dictionaries(
    {"from": _WORDS | _VALUES, "value": _WORDS | _VALUES, "role": _WORDS, "content": _WORDS | _VALUES}
)
_ROWS = st.dictionaries(_WORDS, _VALUES | st.lists(_TURN, max_size=3), max_size=8)


@settings(max_examples=400, deadline=None)
@given(
    row=_ROWS,
    layout=st.sampled_from(LAYOUTS),
    answer_is=st.sampled_from(["Auto", "Letter", "Index", "IndexFromOne", "Text"]),
    names=st.none() | st.lists(_WORDS, min_size=1, max_size=3),
)
def test_no_row_ends_in_anything_but_a_question_or_a_sentence(
    row: dict[str, Any], layout: str, answer_is: str, names: list[str] | None
) -> None:
    try:
        found = read(row, layout, answer_is=answer_is, choices=names)
    except DataFault as error:
        said = error.message
    else:
        said = "pool.jsonl row 7: " + found.question
        assert found.question.strip()
        assert found.reference.strip()
        assert found.choices in range(27)
    assert said.startswith("pool.jsonl row 7: ")
    assert said.encode()
