"""Which code a response gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.common.codeblock import last_block


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("First:\n```python\na = 1\n```\nBetter:\n```python\na = 2\n```\nThat is it.", "a = 2\n"),
        ("```py\na\n```", "a\n"),
        ("```Python3 title='x'\na\n```", "a\n"),
        ("```{python}\na\n```", "a\n"),
        ("~~~python\na\n~~~", "a\n"),
        ("``` python\r\na\r\n```\r\n", "a\n"),
        ("````python\ns = '''\n```\nx\n```\n'''\n````", "s = '''\n```\nx\n```\n'''\n"),
        ("```python\na\n```\nIt prints\n```text\n3\n```", "a\n"),
        ("```python\na\n```\nIt prints\n```\n3\n```", "a\n"),
        ("```\na\n```\nor\n```\nb\n```", "b\n"),
        ("1. So\n   ```python\n   def f():\n       return 1\n   ```", "def f():\n    return 1\n"),
        ("```python\na\n```\n```python\n\n```", "a\n"),
        ("```python\na\n```\n```python\nnever closed", "a\n"),
        ("```python\nx = '\x0c\u2028'\n```", "x = '\x0c\u2028'\n"),
        ("```python\nnever closed", None),
        ("```javascript\na\n```", None),
        ("print(1)", None),
        ("`print(1)`", None),
        ("Inline ```python\na\n```", None),
        ("", None),
    ],
)
def test_the_last_fenced_block_of_python_is_the_answer(response: str, code: str | None) -> None:
    assert last_block(response) == code


@given(st.lists(st.sampled_from(["```", "```python", "~~~", "x", " ", "   ```", "\r\n", "\n", "\t"])).map("\n".join))
def test_whatever_is_written_code_or_none_comes_back(response: str) -> None:
    code = last_block(response)
    assert code is None or code.strip()
