"""Rows with unit tests: what is asked, what judges it, and that no row is more than a question or a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillstages.common import codetests
from distillstages.common.blocks import Fields
from distillstages.common.coderows import COMPLETE, HEADER, PROGRAM
from distillstages.common.codetests import MOST_CASES, UnitTests, Unusable
from distillstages.common.exit import DataFault
from distillstages.common.layouts import Parts, columns, parts_of

SUMS = {"inputs": ["1 2\n", "4 5\n"], "outputs": ["3\n", ["9"]]}


def row(tests: Any, **more: Any) -> dict[str, Any]:
    """A row as APPS and TACO publish it."""
    text = tests if isinstance(tests, str) or tests is None else json.dumps(tests)
    return {"question": "Add them.", "input_output": text, "starter_code": "", "solutions": "[]", **more}


def read(given: dict[str, Any], layout: str = "CodeTests", **fields: Any) -> Parts:
    return parts_of(Fields(layout=layout, **fields), given, "apps.jsonl row 7")


def packed(given: dict[str, Any], **fields: Any) -> UnitTests:
    found = read(given, **fields).tests
    assert isinstance(found, UnitTests), found
    return found


def cases_of(tests: UnitTests) -> list[Any]:
    return [case for part in tests.cases() for case in json.loads(part)]


def test_a_row_of_programs_asks_for_one_and_its_tests_are_inputs_and_outputs() -> None:
    parts = read(row(SUMS))
    assert parts.question == f"Add them.\n\n{PROGRAM}"
    assert parts.question.removesuffix(parts.instruction) == "Add them."
    assert isinstance(parts.tests, UnitTests)
    assert cases_of(parts.tests) == [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "4 5\n", "stdout": "9"}]
    assert (parts.tests.entry_point, parts.tests.header) == ("", "")
    assert parts.reference.startswith("2 tests of standard input and output (sha256 ")
    assert set(columns(Fields(layout="CodeTests"))) == {"question", "input_output"}


def test_a_row_of_functions_asks_for_its_function_below_the_starter_code() -> None:
    given = {"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}
    parts = read(row(given, starter_code="\nclass Solution:\n    def add(self, a, b):\n        "))
    assert parts.question.startswith("Add them.\n\n```python\nclass Solution:\n    def add(self, a, b):\n```\n\nWrite")
    assert "as the function `add`" in parts.question
    assert isinstance(parts.tests, UnitTests)
    assert cases_of(parts.tests) == [{"arguments": [1, 2], "expected": 3}]
    assert (parts.tests.entry_point, parts.tests.header) == ("add", HEADER)


def test_where_all_outputs_are_lists_of_one_the_list_and_its_value_are_right() -> None:
    wrapped = packed(row({"fn_name": "f", "inputs": [[1], [2]], "outputs": [[3], [[4]]]}))
    assert [case["alternatives"] for case in cases_of(wrapped)] == [[3], [[4]]]
    plain = packed(row({"fn_name": "f", "inputs": [[1], [2]], "outputs": [[3], [4, 5]]}))
    assert not any("alternatives" in case for case in cases_of(plain))


def test_a_row_of_human_eval_asks_for_the_whole_function_and_keeps_what_stands_before_it() -> None:
    prompt = 'import math\n\ndef help(x):\n    return x\n\n\ndef up(x):\n    """Next."""\n'
    given = {"prompt": prompt, "test": "def check(candidate):\n    assert candidate(1) == 2", "entry_point": "up"}
    parts = read(given, "HumanEval")
    assert parts.question == f"```python\n{prompt.strip()}\n```\n\n{COMPLETE}"
    assert isinstance(parts.tests, UnitTests)
    assert parts.tests.header == "import math\n\ndef help(x):\n    return x\n\n\n"
    assert cases_of(parts.tests) == [{"tests": given["test"], "prelude": prompt.strip()}]
    assert set(columns(Fields(layout="HumanEval"))) == set(given)


def test_columns_may_have_other_names() -> None:
    given = {"task": "Add.", "io": json.dumps({**SUMS, "fn_name": None}), "stub": "x = 1"}
    names = {"question": "task", "tests": "io", "starter_code": "stub"}
    assert read(given, **names).question == f"Add.\n\n```python\nx = 1\n```\n\n{PROGRAM}"
    assert set(columns(Fields(layout="CodeTests", **names))) == set(given)


def test_nothing_that_a_test_expects_is_in_question_or_reference() -> None:
    parts = read(row({"inputs": ["in-put"], "outputs": ["out-put"]}))
    assert "put" not in (parts.question + parts.reference).replace("input", "").replace("output", "")
    other = read(row({"inputs": ["in-put"], "outputs": ["another"]}))
    assert other.reference != parts.reference, "what was graded by other tests is graded anew"


_DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("tests", "reason", "said"),
    [
        (None, "NoTests", "there are no tests"),
        ("", "NoTests", "there are no tests"),
        ({}, "NoTests", "inputs and outputs are empty"),
        ({"inputs": [], "outputs": []}, "NoTests", "inputs and outputs are empty"),
        ('{"inputs": ["1"', "TestsUnreadable", "not JSON (Expecting ',' delimiter at character 15)"),
        (_DEEP, "TestsUnreadable", "nested too deep"),
        ('{"inputs": ' + _DEEP, "TestsUnreadable", "nested too deep"),
        ("[1]", "TestsUnreadable", "found [1], expected an object of inputs and outputs"),
        ({"inputs": ["1"], "outputs": ["1", "2"]}, "TestsUnreadable", "inputs are 1 and outputs 2, expected two lists"),
        ({"inputs": "1", "outputs": ["1"]}, "TestsUnreadable", "inputs are '1' and outputs 1"),
        ({"inputs": [{}], "outputs": ["1"]}, "TestsUnreadable", "a test is {}, expected text or a list of lines"),
        ({"inputs": [[[1]]], "outputs": ["1"]}, "TestsUnreadable", "a test is [[1]]"),
        ({"fn_name": "a b", "inputs": [[1]], "outputs": [1]}, "TestsUnreadable", "fn_name is 'a b', expected"),
        ({"fn_name": "f", "inputs": ["1"], "outputs": [1]}, "TestsUnreadable", "an input is '1', expected the list"),
        ({"fn_name": "f", "inputs": [[{"1": 2}]], "outputs": [1]}, "TestsUnreadable", "keys that were numbers"),
        ('{"fn_name": "f", "inputs": [[1]], "outputs": [NaN]}', "TestsUnreadable", "not JSON compliant"),
        ('{"fn_name": "f", "inputs": [[1]], "outputs": [1e999]}', "TestsUnreadable", "not JSON compliant"),
        (
            '{"fn_name": "f", "inputs": [[1]], "outputs": [1%s]}' % ("0" * 5000),
            "TestsUnreadable",
            "limit (4300 digits)",
        ),
        ('{"inputs": ["\\ud800"], "outputs": ["1"]}', "TestsUnreadable", "half a surrogate pair is no text"),
    ],
)
def test_tests_that_cannot_be_used_are_a_reason_and_a_sentence(tests: Any, reason: str, said: str) -> None:
    found = read(row(tests)).tests
    assert isinstance(found, Unusable)
    assert found.reason == reason
    assert said in found.detail


def test_tests_that_are_too_large_are_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codetests, "MOST_BYTES", 1000)
    for text in ("[" * 1001, json.dumps({"inputs": ["ä" * 400], "outputs": ["ä" * 400]}, ensure_ascii=False)):
        found = read(row(text)).tests
        assert isinstance(found, Unusable)
        assert (found.reason, "at most 1,000 are taken" in found.detail) == ("TestsTooLarge", True)


def test_more_cases_than_a_request_takes_go_in_several() -> None:
    numbers = [str(n) for n in range(2 * MOST_CASES + 1)]
    tests = packed(row({"inputs": numbers, "outputs": numbers}))
    assert [len(json.loads(part)) for part in tests.cases()] == [MOST_CASES, MOST_CASES, 1]


def test_what_may_be_written_grows_with_what_is_expected() -> None:
    assert packed(row(SUMS)).output_bytes == 1 << 20
    assert packed(row({"inputs": ["1"], "outputs": ["x" * (1 << 20)]})).output_bytes == 2 << 20


def test_a_column_that_is_not_there_is_an_error_of_the_mapping() -> None:
    with pytest.raises(DataFault, match=r"no field 'input_output' for tests; .* Map it with fields.tests"):
        read({"question": "q"})
    with pytest.raises(DataFault, match=r"no field 'stub' for starter code; .* Map it with fields.starterCode"):
        read(row(SUMS), starter_code="stub")
    with pytest.raises(DataFault, match=r"no field 'entry_point' .* Map it with fields.entryPoint"):
        read({"prompt": "def f(): ...", "test": "t"}, "HumanEval")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just("1"), inner, max_size=3),
    max_leaves=8,
)
_OBJECT = st.fixed_dictionaries(
    {"inputs": st.lists(_JSON, max_size=3) | _JSON, "outputs": st.lists(_JSON, max_size=3) | _JSON},
    optional={"fn_name": st.sampled_from(["f", "", None, "a b", 3])},
)


@settings(max_examples=300, deadline=None)
@given(tests=_OBJECT | _JSON | st.text(max_size=9) | st.binary(max_size=3), as_text=st.booleans())
def test_whatever_a_row_holds_for_tests_is_tests_or_a_reason(tests: Any, as_text: bool) -> None:
    found = codetests.of_input_output(json.dumps(tests) if as_text and not isinstance(tests, bytes) else tests)
    if isinstance(found, Unusable):
        assert found.detail.encode()
        assert found.reason in ("NoTests", "TestsUnreadable", "TestsTooLarge")
    else:
        assert len(cases_of(found)) == int(found.summary.split(" ", 1)[0])
