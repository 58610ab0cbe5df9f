"""Submissions and reports as JSON, the way the service speaks them.

    {"code": "…", "cases": [{"stdin": "1 2", "stdout": "3"}], "entryPoint": "f", "stopAtFailure": true,
     "limits": {"cpuSeconds": 5, "totalCpuSeconds": 60, "memoryMiB": 512, "outputBytes": 1048576}}
    ->  {"verdict": "Passed", "detail": "", "cases": [{"verdict": "Passed", "detail": "", "cpuSeconds": 0.01}]}

A case is one of `stdin` with `stdout`, `arguments` with `expected` and perhaps `alternatives` (other values that are
right), `tests` with or without `prelude`.
"""

from __future__ import annotations

import json
from typing import Any, Final

from distillstages.sandbox.judge import Call, Case, Check, Io, Report, Submission
from distillstages.sandbox.process import Limits

MAX_CASES: Final = 1000
# What a request may ask for at most: (name, least, most, what it is when nothing is said).
_LIMITS: Final = {
    "cpuSeconds": (0.1, 60.0, 5.0),
    "totalCpuSeconds": (0.1, 600.0, 60.0),
    "memoryMiB": (64, 4096, 512),
    "outputBytes": (1, 16 << 20, 1 << 20),
}


class BadRequest(Exception):
    """A request that is none; the message names the field, what was found and what is expected."""


def read(body: bytes) -> Submission:
    """A request's submission. Raises BadRequest."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(request, dict):
        raise BadRequest("the body is not a JSON object")
    _known(request, {"code", "cases", "entryPoint", "stopAtFailure", "limits"}, "the request")
    found = request.get("cases")
    if not isinstance(found, list) or not 1 <= len(found) <= MAX_CASES:
        raise BadRequest(f"cases: expected a list of 1 to {MAX_CASES}")
    cases = [_case(case, f"cases[{number}]") for number, case in enumerate(found)]
    if len({type(case) for case in cases}) != 1:
        raise BadRequest("cases: all must be of one kind")
    entry_point = _text(request, "entryPoint", "", default="")
    if not isinstance(cases[0], Io) and not entry_point.isidentifier():
        raise BadRequest(f"entryPoint: expected a function's name, found {entry_point[:80]!r}")
    stop = request.get("stopAtFailure", True)
    if not isinstance(stop, bool):
        raise BadRequest("stopAtFailure: expected true or false")
    return Submission(_text(request, "code", ""), cases, entry_point, _limits(request.get("limits", {})), stop)


def write(report: Report) -> bytes:
    """A report's JSON."""
    cases = [{"verdict": c.verdict, "detail": c.detail, "cpuSeconds": round(c.cpu_seconds, 4)} for c in report.cases]
    return json.dumps({"verdict": report.verdict, "detail": report.detail, "cases": cases}).encode()


def _known(found: dict[str, Any], names: set[str], where: str) -> None:
    if unknown := sorted(set(found) - names):
        raise BadRequest(f"{where} has no field {unknown[0][:80]!r}; it has {', '.join(sorted(names))}")


def _text(found: dict[str, Any], name: str, where: str, default: str | None = None) -> str:
    value = found.get(name, default)
    if not isinstance(value, str):
        raise BadRequest(f"{where}{name}: expected a string, found {str(value)[:80]!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{where}{name}: half a surrogate pair is no text") from None
    return value


def _case(found: Any, where: str) -> Case:
    if not isinstance(found, dict):
        raise BadRequest(f"{where}: expected an object")
    names = set(found)
    if names == {"stdin", "stdout"}:
        return Io(_text(found, "stdin", f"{where}."), _text(found, "stdout", f"{where}."))
    if {"arguments", "expected"} <= names <= {"arguments", "expected", "alternatives"}:
        alternatives = found.get("alternatives", [])
        for name, value in (("arguments", found["arguments"]), ("alternatives", alternatives)):
            if not isinstance(value, list):
                raise BadRequest(f"{where}.{name}: expected a list")
        return Call(found["arguments"], found["expected"], alternatives)
    if "tests" in names and names <= {"tests", "prelude"}:
        return Check(_text(found, "tests", f"{where}."), _text(found, "prelude", f"{where}.", default=""))
    raise BadRequest(f"{where}: expected stdin and stdout, arguments and expected, or tests and prelude")


def _limits(found: Any) -> Limits:
    if not isinstance(found, dict):
        raise BadRequest("limits: expected an object")
    _known(found, set(_LIMITS), "limits")
    values: dict[str, float] = {}
    for name, (least, most, default) in _LIMITS.items():
        value = found.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise BadRequest(f"limits.{name}: expected a number from {least:g} to {most:g}, found {str(value)[:80]!r}")
        values[name] = value
    return Limits(
        cpu_seconds=values["cpuSeconds"],
        total_cpu_seconds=values["totalCpuSeconds"],
        memory_bytes=int(values["memoryMiB"]) << 20,
        output_bytes=int(values["outputBytes"]),
    )
