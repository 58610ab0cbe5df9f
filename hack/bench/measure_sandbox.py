"""The sandbox on human-eval: canonical solutions, mutants, and the same again beside busy loops.

PYTHONPATH=operator:images python hack/bench/measure_sandbox.py [--mutants 2] [--busy 8]

What a mutant's verdict should be is found without the sandbox: its tests run in a plain forked process. The last line
is a JSON object. Without the data (data/ of the folder that DISTILLRUN_SHARED names, or of ../shared) it says so.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "images")]

from distillstages.sandbox.judge import Check, Report, Submission, judge  # noqa: E402
from distillstages.sandbox.process import Limits  # noqa: E402
from hack.bench.mutations import mutants  # noqa: E402

LIMITS = Limits(cpu_seconds=3)
FILE = Path(os.environ.get("DISTILLRUN_SHARED") or ROOT.parent / "shared") / "data" / "humaneval.jsonl.gz"


@dataclass(frozen=True)
class Problem:
    """A row of human-eval."""

    name: str
    prompt: str
    solution: str
    tests: str
    entry_point: str

    def submission(self, code: str) -> Submission:
        """Code for it, as the sandbox takes it."""
        return Submission(code, [Check(self.tests, self.prompt)], self.entry_point, LIMITS)


def problems() -> list[Problem]:
    """All 164. FileNotFoundError without the data."""
    with gzip.open(FILE, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Problem(r["task_id"], r["prompt"], r["prompt"] + r["canonical_solution"], r["test"], r["entry_point"])
        for r in rows
    ]


def passes_plainly(problem: Problem, code: str) -> bool:
    """Whether the tests pass in a process without a sandbox."""
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (4, 4))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        try:
            scope: dict[str, Any] = {"__name__": "plain"}
            exec(compile(code, "plain.py", "exec"), scope)
            # The tests use the prompt's helpers, not a mutant's.
            trial: dict[str, Any] = {"__name__": "tests"}
            exec(compile(problem.prompt, "prompt.py", "exec"), trial)
            trial[problem.entry_point] = scope[problem.entry_point]
            exec(compile(problem.tests, "tests.py", "exec"), trial)
            trial["check"](scope[problem.entry_point])
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def _spin() -> None:
    while True:
        pass


def busy(loops: int) -> Callable[[], None]:
    """Start so many busy loops; call what is returned to end them."""
    processes = [multiprocessing.get_context("fork").Process(target=_spin, daemon=True) for _ in range(loops)]
    for process in processes:
        process.start()

    def end() -> None:
        for process in processes:
            if process.pid:
                os.kill(process.pid, signal.SIGKILL)
            process.join()

    return end


def judge_all(submissions: Sequence[Submission], workers: int = 2) -> list[Report]:
    """Reports in the same order."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(judge, submissions))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=2, help="of each solution")
    parser.add_argument("--busy", type=int, default=8, help="loops beside the second round")
    options = parser.parse_args()
    if not FILE.exists():
        print(f"no {FILE}: nothing to measure")
        return
    rows = problems()
    pairs = [(row, code) for row in rows for code in mutants(row.solution, options.mutants, row.name)]
    expected = [passes_plainly(row, code) for row, code in pairs]
    wrong = [pair for pair, passes in zip(pairs, expected, strict=True) if not passes]
    submissions = [row.submission(row.solution) for row in rows] + [row.submission(code) for row, code in pairs]

    start = time.monotonic()
    reports = judge_all(submissions)
    seconds = time.monotonic() - start
    accepted = sum(report.passed for report in reports[: len(rows)])
    verdicts = reports[len(rows) :]
    rejected = sum(not passes and not report.passed for passes, report in zip(expected, verdicts, strict=True))
    for (row, _), passes, report in zip(pairs, expected, verdicts, strict=True):
        if passes != report.passed:
            plainly = "passes" if passes else "fails"
            print(f"{row.name}: a mutant that plainly {plainly} is {report.verdict}: {report.detail}")
    print(f"accepted {accepted} of {len(rows)}; of {len(wrong)} mutants that fail their tests {rejected} rejected")

    end = busy(options.busy)
    try:
        again = judge_all(submissions)
    finally:
        end()
    differ = [i for i, (a, b) in enumerate(zip(reports, again, strict=True)) if a.verdict != b.verdict]
    for i in differ:
        print(f"submission {i}: {reports[i].verdict}, beside busy loops {again[i].verdict}")
    figures = {
        "canonical": len(rows),
        "canonicalAccepted": accepted,
        "mutants": len(pairs),
        "mutantsFailing": len(wrong),
        "mutantsRejected": rejected,
        "rejectedShare": round(rejected / max(1, len(wrong)), 4),
        "mutantsPassingAccepted": sum(p and r.passed for p, r in zip(expected, verdicts, strict=True)),
        "busyLoops": options.busy,
        "verdictsThatDiffer": len(differ),
        "submissionsPerSecond": round(len(submissions) / seconds, 2),
    }
    print(json.dumps({"sandbox": figures}))


if __name__ == "__main__":
    main()
