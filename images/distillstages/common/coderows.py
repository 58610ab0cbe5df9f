"""Rows with unit tests: a task for a program or a function, and what judges it instead of a reference answer.

| layout    | question                                                            | tests                         |
| --------- | ------------------------------------------------------------------- | ----------------------------- |
| CodeTests | column `question`, under it `starter_code` where there is some, and | column `input_output`, JSON   |
|           | whether a program or a function is wanted (APPS, TACO)              | (codetests.py)                |
| HumanEval | column `prompt`, the beginning of a function                        | columns `test`, `entry_point` |

Nothing of the tests is in the question. The reference of such a question only says how many tests there are and of
what, with a hash of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from distillstages.common import codetests
from distillstages.common.blocks import Fields
from distillstages.common.codetests import UnitTests, Unusable
from distillstages.common.rowtext import as_text, is_nothing, text_of, value_of

LAYOUTS: Final = ("CodeTests", "HumanEval")
PROGRAM: Final = (
    "Write a Python program that reads its input from standard input and writes its output to standard output. Give the"
    " whole program in one ```python block at the end."
)
FUNCTION: Final = (
    "Write it in Python as the function `{name}`, which is called with arguments and returns the result. Give the whole"
    " code in one ```python block at the end."
)
COMPLETE: Final = (
    "Complete this Python function. Give the whole function, with everything that it needs, in one ```python block at"
    " the end."
)
# Starter code of coding sites uses List, Optional and deque without importing them, and so do answers to it.
HEADER: Final = (
    "import bisect, collections, functools, heapq, itertools, math, operator, re, string, sys\n"
    "from bisect import *\nfrom collections import *\nfrom functools import *\nfrom heapq import *\n"
    "from itertools import *\nfrom typing import *\n"
)


class CodeRow(NamedTuple):
    """What a row gives. `instruction`: the end of `question` that is ours."""

    question: str
    reference: str
    tests: UnitTests | Unusable
    instruction: str


def columns(fields: Fields) -> list[str]:
    """The columns of the tests, and others that are named."""
    if fields.layout == "HumanEval":
        return [_tests_column(fields), fields.entry_point or "entry_point"]
    return [_tests_column(fields), *([fields.starter_code] if fields.starter_code else [])]


def read(fields: Fields, question: str, row: Mapping[str, Any], where: str) -> CodeRow:
    """A row of either layout; tests that cannot be used are an `Unusable`, not an error.

    Raises DataFault: FieldMissing (a column is not there at all), RowBroken."""
    column = _tests_column(fields)
    if fields.layout == "HumanEval":
        name = text_of(row, fields.entry_point or "entry_point", where, "entryPoint", "a function's name")
        tests = text_of(row, column, where, "tests", "tests as Python code")
        return _row(
            f"```python\n{question}\n```", COMPLETE, codetests.of_check(tests, question, name, _before(name, question))
        )
    found = codetests.of_input_output(value_of(row, column, where, "tests", "tests"), HEADER)
    starter = _starter(fields, row, where)
    task = f"{question}\n\n```python\n{starter}\n```" if starter else question
    name = "" if isinstance(found, Unusable) else found.entry_point
    return _row(task, FUNCTION.format(name=name) if name else PROGRAM, found)


def _row(task: str, instruction: str, tests: UnitTests | Unusable) -> CodeRow:
    instruction = f"\n\n{instruction}"
    reference = tests.detail if isinstance(tests, Unusable) else tests.summary
    return CodeRow(task + instruction, reference, tests, instruction)


def _tests_column(fields: Fields) -> str:
    return fields.tests or ("test" if fields.layout == "HumanEval" else "input_output")


def _starter(fields: Fields, row: Mapping[str, Any], where: str) -> str:
    """The starter code, "" where a row has none."""
    column = fields.starter_code or "starter_code"
    if column not in row and fields.starter_code is None:
        return ""
    value = value_of(row, column, where, "starterCode", "starter code")
    if is_nothing(value) or (isinstance(value, str) and not value.strip()):
        return ""
    return as_text(value, f"{where}: field {column!r}", "starter code")


def _before(name: str, prompt: str) -> str:
    """What a prompt has before the function that is asked for: imports and helpers, which answers leave out."""
    starts = [m.start() for m in re.finditer(rf"^(?:async )?def {re.escape(name)}\b", prompt, re.MULTILINE)]
    return prompt[: starts[-1]] if starts else ""
