"""Verdicts, and that no submission gets another one than it deserves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.sandbox import values
from distillstages.sandbox.judge import Call, Case, Check, Io, Submission, judge
from distillstages.sandbox.process import Limits, Verdict
from tests.stages.sandbox.attacks import ATTACKS, FORGERIES, PROGRAMS, SECRET

# Little of everything, so that each attack ends soon. CPU seconds: an idle and a busy machine give the same verdicts.
LIMITS = Limits(cpu_seconds=0.5, total_cpu_seconds=2, memory_bytes=256 << 20, output_bytes=1 << 20, idle_seconds=1)
CHECK = Check("def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-3) == -6\n")
GOOD = "def double(x): return 2 * x"


def program(code: str, *cases: Io, limits: Limits = LIMITS) -> Submission:
    return Submission(code, cases or (Io("2\n", "4\n"),), limits=limits)


def function(code: str, *cases: Case, limits: Limits = LIMITS) -> Submission:
    return Submission(code, cases or (CHECK,), "double", limits)


@pytest.fixture(scope="module", autouse=True)
def secret_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secret") / "expected.txt"
    path.write_text(SECRET)
    path.chmod(0o644)
    return path


def aimed(code: str, file: Path) -> str:
    return code.replace("PARENT", str(os.getpid())).replace("FILE", str(file))


@pytest.mark.parametrize("name", [*ATTACKS, *PROGRAMS])
def test_no_program_breaks_out_or_passes(name: str, secret_file: Path) -> None:
    code, verdicts = (ATTACKS | PROGRAMS)[name]
    report = judge(program(aimed(code, secret_file)))
    # A program that only ends has written nothing.
    assert report.verdict in verdicts | ({"WrongOutput"} if "exit" in name else set()), report
    assert SECRET not in str(report)


def sampled(names: Iterable[str | int], every: int) -> list[Any]:
    """One in so many in `make test`, the others in `make test-full`."""
    full = pytest.mark.full
    return [pytest.param(name, marks=[full] if number % every else []) for number, name in enumerate(names)]


@pytest.mark.parametrize("name", [*sampled(ATTACKS, 4), *FORGERIES])
def test_no_function_breaks_out_or_passes(name: str, secret_file: Path) -> None:
    code, verdicts = (ATTACKS | FORGERIES)[name]
    report = judge(function(aimed(code, secret_file)))
    assert report.verdict in verdicts, report
    assert SECRET not in str(report)


@pytest.mark.parametrize("name", sampled(FORGERIES, 2))
def test_no_forgery_passes_for_the_value_of_a_call(name: str) -> None:
    code, verdicts = FORGERIES[name]
    assert judge(function(code, Call([2], 4))).verdict in verdicts


def test_neighbours_of_every_attack_keep_their_verdicts(secret_file: Path) -> None:
    """Attacks beside good and wrong submissions, four at a time."""
    good, wrong = function(GOOD), function("def double(x): return x")
    attacks = [function(aimed(code, secret_file)) for code, _ in (ATTACKS | FORGERIES).values()]
    queue = [submission for attack in attacks[::3] for submission in (attack, good, wrong)]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(judge, queue))
    assert {r.verdict for r in reports[1::3]} == {Verdict.PASSED}
    assert {r.verdict for r in reports[2::3]} == {Verdict.WRONG_OUTPUT}
    assert Verdict.PASSED not in {r.verdict for r in reports[::3]}


_AS_NOBODY = """
import os, sys
from distillstages.sandbox.judge import Check, Submission, judge
from distillstages.sandbox.process import Limits
sys.path.insert(0, sys.argv[2])
from attacks import ATTACKS, FORGERIES
limits = Limits(1, 3, 256 << 20, 1 << 20, 1)
check = Check("def check(candidate):\\n    assert candidate(2) == 4\\n")
assert judge(Submission("def double(x): return 2 * x", [check], "double", limits)).passed
for name, (code, verdicts) in [*ATTACKS.items(), *FORGERIES.items()][int(sys.argv[3])::4]:
    code = code.replace("PARENT", str(os.getpid())).replace("FILE", sys.argv[1])
    report = judge(Submission(code, [check], "double", limits))
    assert report.verdict in verdicts, (name, report)
print("all as they should be")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("part", sampled(range(4), 4))
def test_without_root_nothing_breaks_out_either(part: int, secret_file: Path) -> None:
    """As in a pod: one user for judge and submission, no capability."""
    python = Path("/usr/bin/python3")
    if not python.exists() or sys.version_info[:2] < (3, 11):
        pytest.skip("no Python that everybody may read")
    images = Path(values.__file__).parents[2]
    done = subprocess.run(
        [python, "-c", _AS_NOBODY, secret_file, Path(__file__).parent, str(part)],
        env={"PYTHONPATH": str(images), "PYTHONDONTWRITEBYTECODE": "1", "SECRET": SECRET},
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "all as they should be", done.stderr[-2000:]


def test_programs_are_judged_by_their_words() -> None:
    code = "print(sum(map(int, input().split())))\nexit()"
    report = judge(program(code, Io("1 2\n", "3"), Io("4 5", " 9 \n\n")))
    assert report.passed
    assert [case.verdict for case in report.cases] == [Verdict.PASSED] * 2
    assert judge(program("print(1)", Io("", "1 1"))).detail == "wrote '1\\n'"


def test_only_where_a_decimal_is_expected_a_number_may_be_a_little_off() -> None:
    same = {
        ("0.33333333", "0.333333333333"): True,
        ("x 1e-7 2", "x 0.0 2"): True,
        ("1000000.5", "1000000.0"): True,
        ("1000002", "1000000.0"): False,
        ("0.3333", "0.3334"): False,
        ("5.0", "5"): False,
        ("1000001", "1000000"): False,
        ("nan", "0.0"): False,
        ("1e999", "1.5"): False,
        ("٣", "3.0"): False,
        ("0.5 0.5", "0.5"): False,
    }
    cases = [Io(written, expected) for written, expected in same]
    report = judge(Submission("print(input())", cases, limits=LIMITS, stop_at_failure=False))
    assert [case.verdict == "Passed" for case in report.cases] == list(same.values())


def test_each_case_has_a_verdict_where_failures_do_not_end_the_rest() -> None:
    code = "n = int(input())\nif n == 2: 1 / 0\nwhile n == 3: pass\nprint(n)"
    cases = [Io(str(n), "9" if n == 4 else str(n)) for n in range(1, 6)]
    report = judge(Submission(code, cases, limits=LIMITS, stop_at_failure=False))
    assert [c.verdict for c in report.cases] == ["Passed", "RuntimeError", "TimeLimit", "WrongOutput", "Passed"]
    assert report.verdict is Verdict.RUNTIME_ERROR
    assert "ZeroDivisionError" in report.detail
    assert len(judge(Submission(code, cases, limits=LIMITS)).cases) == 2


def test_calls_compare_values_and_take_tuples_for_lists() -> None:
    code = "class Solution:\n    def double(self, x):\n        print('noise')\n        return tuple(2 * i for i in x)"
    assert judge(function(code, Call([[1, 2]], [2, 4]), Call([[]], []))).passed
    assert judge(function(code, Call([[1]], [1]))).verdict is Verdict.WRONG_OUTPUT
    assert "no double" in judge(function("x = 1", Call([1], 1))).detail


def test_tests_see_exceptions_helpers_and_every_plain_value() -> None:
    tests = """
def check(candidate):
    for value in (
        None, True, 1 << 200, -5, 1.5, float("inf"), "\\ud800é", b"\\0", (1, (2,)), {1: {"a"}}, frozenset([1]), 2j
    ):
        assert candidate(value) == value and type(candidate(value)) is type(value)
    try:
        candidate("raise")
    except KeyError as error:
        assert "raised" in str(error)
    else:
        assert False
    assert helper(candidate(1)) == 2
"""
    code = "def double(x):\n    if x == 'raise': raise KeyError('raised')\n    return x"
    report = judge(function(code, Check(tests, "def helper(x): return x + 1")))
    assert report.passed, report


def test_the_total_of_all_cases_is_limited() -> None:
    code = "import time\ndef double(x):\n    while time.process_time() < x: pass\n    return x"
    limits = Limits(cpu_seconds=1, total_cpu_seconds=1.2)
    report = judge(Submission(code, [Call([x], x) for x in (0.7, 1.4, 2.1)], "double", limits))
    assert [case.verdict for case in report.cases] == ["Passed", "TimeLimit"]


def test_threads_and_asyncio_are_allowed() -> None:
    code = """
import asyncio, sys, threading
sys.setrecursionlimit(10**6)
threading.stack_size(1 << 25)
async def main(): await asyncio.sleep(0)
asyncio.run(main())
t = threading.Thread(target=lambda: print(2 * int(input())))
t.start()
t.join()
"""
    report = judge(program(code))
    assert report.passed, report


def test_nothing_is_left_of_a_submission() -> None:
    before = {file.name for file in Path("/proc/self/fd").iterdir()}
    others = children()  # of tests before this one in the same process
    for code, _ in list(ATTACKS.values())[:6]:
        judge(function(code))
    assert {file.name for file in Path("/proc/self/fd").iterdir()} <= before
    assert children() <= others


def children() -> set[str]:
    """Ids of this process' children, zombies too."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner) | st.frozensets(st.integers()),
    max_leaves=20,
))  # fmt: skip
def test_values_come_back_as_they_were(value: object) -> None:
    assert values.loads(values.dumps(value)) == value


@given(
    st.binary(max_size=60)
    | st.sampled_from([b'{"t":1}', b'{"d":[[[],1]]}', b'{"c":["x"]}', b"[" * 9999, b'{"s":[[]]}'])
)
def test_whatever_else_a_line_holds_is_a_value_error(line: bytes) -> None:
    try:
        values.loads(line)
    except ValueError:
        pass
