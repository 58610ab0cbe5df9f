"""The answer check: mathematics, hostile input, and agreement with published verdicts."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from distillstages.common.exit import Fault
from distillstages.common.verify import Verdict, Verifier, compare_quickly
from hack.bench.verify_forms import rewritings
from hack.bench.verify_misses import near_misses

T = TypeVar("T")
REPOSITORY = Path(__file__).parents[3]


def with_verifier(body: Callable[[Verifier], Awaitable[T]], **options: Any) -> T:
    async def run() -> T:
        async with Verifier(**options) as verifier:
            return await body(verifier)

    return asyncio.run(run())


def verdicts(pairs: list[tuple[str, str]], **options: Any) -> list[Verdict]:
    async def body(verifier: Verifier) -> list[Verdict]:
        return await asyncio.gather(*(verifier.verdict(*pair) for pair in pairs))

    return with_verifier(body, **options)


def shared(name: str) -> Path:
    """A file of the shared data: beside the repository, or where DISTILLRUN_SHARED says."""
    folder = Path(os.environ.get("DISTILLRUN_SHARED") or REPOSITORY.parent / "shared")
    path = folder / "data" / name
    if not path.exists():
        pytest.skip(f"{name} is not on this machine: set DISTILLRUN_SHARED to the folder that holds data/{name}")
    return path


def test_equal_mathematics_is_accepted_and_other_mathematics_rejected() -> None:
    equal = [
        ("\\frac{1}{2}", "\\boxed{0.5}"),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "\\boxed{(3,\\pi/2)}"),
        ("3\\sqrt{13}", "\\boxed{\\sqrt{117}}"),
        ("1,-2", "\\boxed{-2} and \\boxed{1}"),
        ("\\text{(C)}", "The answer is C."),
        ("\\text{Evelyn}", "The answer is Evelyn."),
        ("x=5", "\\boxed{5}"),
        ("90^\\circ", "\\boxed{90}"),
        ("1,234", "that makes 1234.00"),
        ("Paris", "Paris"),
    ]
    different = [
        ("\\frac{1}{2}", "\\boxed{2}"),
        ("7", "\\boxed{8}"),
        ("x^2", "\\boxed{x^3}"),
        ("(1,2)", "\\boxed{(2,1)}"),
    ]
    found = verdicts(equal + different)
    assert [v.accepted for v in found] == [True] * len(equal) + [False] * len(different)
    assert {v.reason for v in found[len(equal) :]} == {"WrongAnswer"}
    assert found[len(equal)].detail == "answered 2, expected \\frac{1}{2}"


def test_a_box_beats_a_right_number_elsewhere() -> None:
    (verdict,) = verdicts([("42", "I get 42, hence \\boxed{41}. Or 42?")])
    assert (verdict.reason, verdict.extracted) == ("WrongAnswer", "41")


def test_a_response_without_an_answer_is_rejected_as_such() -> None:
    (verdict,) = verdicts([("42", "I do not know.")])
    assert (verdict.accepted, verdict.reason, verdict.extracted) == (False, "NoAnswer", None)


def test_hostile_answers_cost_only_their_own_time_and_the_next_are_judged() -> None:
    hostile = ["9^{9^{9^{9^9}}}", "\\sum_{i=1}^{10^{10}} \\sin(i)^{i}", "{" * 500 + "}" * 500, "\\frac" * 300]
    pairs = [("\\sqrt{2}", f"\\boxed{{{text}}}") for text in hostile]
    found = verdicts([*pairs, ("\\sqrt{2}", "\\boxed{2^{1/2}}")], timeout_seconds=1, workers=1)
    assert not any(v.accepted for v in found[:-1])
    assert {v.reason for v in found[:-1]} <= {"VerifyTimeout", "WrongAnswer", "VerifyFailed", "NoAnswer"}
    assert found[0].reason == "VerifyTimeout"
    assert found[-1].accepted


def test_a_checking_process_that_is_killed_is_replaced() -> None:
    async def body(verifier: Verifier) -> list[bool]:
        first = await verifier.verdict("\\sqrt{4}", "\\boxed{2}")
        for checker in verifier._all:
            assert checker.process is not None
            checker.process.kill()
            await checker.process.wait()
        return [first.accepted, (await verifier.verdict("\\sqrt{9}", "\\boxed{3}")).accepted]

    assert with_verifier(body, workers=1) == [True, True]


def test_checking_processes_know_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILLRUN_TEACHER_API_KEY", "sk-abc-123456")

    async def body(verifier: Verifier) -> bytes:
        await verifier.verdict("\\sqrt{4}", "\\boxed{2}")
        process = verifier._all[0].process
        assert process is not None
        return await asyncio.to_thread(Path(f"/proc/{process.pid}/environ").read_bytes)

    assert b"sk-abc-123456" not in with_verifier(body, workers=1)


def test_a_checking_process_that_cannot_start_is_a_fault_and_no_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/nothing/here"])
    with pytest.raises(Fault, match=r"cannot be started: .*distillstages"):
        verdicts([("\\sqrt{4}", "\\boxed{2}")])


@pytest.mark.parametrize(
    ("reference", "answer", "equal"),
    [
        ("7", "7.0", True),
        ("7", "8", False),
        ("1/3", "0.3333", False),
        ("1/3", "0.333333", True),
        ("x", "x", True),
        ("x", "y", None),
        ("0.5", "1/2", True),
    ],
)
def test_plain_numbers_need_no_mathematics(reference: str, answer: str, equal: bool | None) -> None:
    assert compare_quickly(reference, answer) is equal


def test_verdicts_agree_with_the_published_flags_of_gsm8k_solutions() -> None:
    rows = [json.loads(line) for line in shared("gsm8k-model-solutions.jsonl").read_text().splitlines()]
    solutions = [
        (row["ground_truth"].rpartition("A:")[2].strip(), value["solution"], value["is_correct"])
        for row in rows
        for value in row.values()
        if isinstance(value, dict)
    ]
    sample = random.Random(3).sample(solutions, 300)
    found = verdicts([(reference, solution) for reference, solution, _ in sample])
    assert [v.accepted for v in found] == [flag for _, _, flag in sample]
    assert {flag for _, _, flag in sample} == {True, False}


def math500() -> list[dict[str, Any]]:
    return [json.loads(line) for line in shared("math500.jsonl").read_text().splitlines()]


@pytest.mark.full
def test_every_reference_solution_of_math500_is_accepted_and_its_neighbours_are_not() -> None:
    rows = math500()
    assert all(v.accepted for v in verdicts([(r["answer"], r["solution"]) for r in rows]))
    shifted = [(r["answer"], n["solution"]) for r, n in itertools.pairwise(rows) if r["answer"] != n["answer"]]
    wrong = [(pair, v.extracted) for pair, v in zip(shifted, verdicts(shifted), strict=True) if v.accepted]
    assert [extracted for _, extracted in wrong] in ([], ["x=5"])


def test_other_ways_to_write_an_answer_are_accepted_and_near_misses_rejected() -> None:
    answers = sorted({row["answer"] for row in math500()})
    # Some of each kind: the bench (make bench-verify) takes every one.
    chosen = [a for a in answers if not a.isdigit()][::3] + [a for a in answers if a.isdigit()][::20]
    same = [(a, f"\\boxed{{{text}}}") for a in chosen for _, text in rewritings(a)]
    other = [(a, f"\\boxed{{{text}}}") for a in chosen for _, text in near_misses(a)]
    assert len(same) > 10 * len(chosen)
    found = verdicts(same + other)
    assert [pair for pair, v in zip(same, found, strict=False) if not v.accepted] == []
    assert [pair for pair, v in zip(other, found[len(same) :], strict=True) if v.accepted] == []


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("3d", "3t"),  # math-verify alone takes a last letter for a unit,
        ("5c", "5"),
        ("52_8", "52_9"),  # leaves out the subscript of a number,
        (r"6:00 \text{ PM}", r"6:00 \text{ AM}"),  # divides by zero and finds both sides infinite,
        (r"\frac{1}{0}", r"\frac{2}{0}"),
        (r"\frac{\pi}{10000000}", "0.0000004"),  # rounds to six places after the point,
        (r"5\text{ km}", r"5\text{ m}"),  # and takes every unit away.
        ("7", r"\text{foo}( 7"),
    ],
)
def test_what_math_verify_alone_would_take_for_equal_is_rejected(reference: str, answer: str) -> None:
    (verdict,) = verdicts([(reference, f"\\boxed{{{answer}}}")])
    assert verdict.reason == "WrongAnswer"


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("x^2+2x+1", "(x+1)^2"),
        ("y = 2x + 3", "2x - y + 3 = 0"),
        ("1,-2", r"\{-2, 1\}"),
        (r"1 \pm \sqrt{2}", r"1-\sqrt2, 1+\sqrt2"),
        (r"(-\infty, 2) \cup (3, \infty)", r"(3,∞)∪(−∞,2)"),
        (r"\frac{20000}{\pi}", "6366.197724"),
        (r"3\sqrt{13}\text{ cm}", r"\sqrt{117}"),
        (r"\begin{pmatrix} 1/2 \\ 3 \end{pmatrix}", r"\begin{bmatrix} 0.5 \\[1ex] 3 \end{bmatrix}"),
        ("5", "2+3=5"),
        (r"x \in [1,2]", "[1, 2]"),
        (r"(2,\infty)", "x > 2"),
        (r"x \in [-2,7]", r"-2 \le x \le 7"),
        (r"(-\infty, 3]", r"x \le 3"),
    ],
)
def test_mathematics_decides_what_notation_does_not(reference: str, answer: str) -> None:
    assert compare_quickly(reference, answer) is None
    (verdict,) = verdicts([(reference, f"\\boxed{{{answer}}}")])
    assert verdict.accepted


def test_a_reference_that_is_no_mathematics_is_named_as_such() -> None:
    found = verdicts([(r"\frac{1}{", r"\boxed{\frac{1}{2}}"), (r"\text{east of it}", r"\boxed{\text{west of it}}")])
    assert [v.reason for v in found] == ["UnverifiableReference", "WrongAnswer"]
