"""Whether an answer equals the reference: exact numbers here, everything else by math-verify in processes of its own.

math-verify uses signals (so it needs a main thread) and sympy, which hostile LaTeX can keep busy for ever or feed with
huge numbers. So each check runs in a small process without environment, with a limit on CPU time and memory that the
kernel enforces; a check that exceeds it costs its own time and its process, nothing else. CPU seconds, not seconds
of the clock: the verdict does not depend on what else the machine does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from distillstages.common import answers, letters, notation, quantities, reasons
from distillstages.common.exit import Fault
from distillstages.common.verify_process import READY

_CHECKS_PER_PROCESS: Final = 5000  # sympy's caches grow
_MAX_LINE: Final = 1 << 20


@dataclass(frozen=True)
class Verdict:
    """`reason` is None when accepted, else a CamelCase constant; `detail` is a sentence for people; `extracted` is the
    answer that was compared (None: there was none)."""

    accepted: bool
    reason: str | None
    detail: str
    extracted: str | None


def compare_quickly(reference: str, extracted: str) -> bool | None:
    """True or False where equal texts, numbers, units, bases or times of day decide, None where mathematics must."""
    if notation.words(notation.tidy(reference)) == notation.words(notation.tidy(extracted)):
        return True
    return quantities.compare(quantities.read(reference), quantities.read(extracted))


def _by_letter(reference: str, response: str, choices: int) -> Verdict | None:
    """The verdict on a letter. None where the reference may be a letter by chance and the response names none."""
    expected = letters.of_reference(reference)
    found = letters.find(response, choices or letters.USUAL)
    if choices and expected is None:
        detail = f"the reference {reference[:200]!r} is no letter, as a multiple choice question's has to be"
        return Verdict(False, reasons.UNVERIFIABLE_REFERENCE, detail, found.letter)
    if found.several:
        return Verdict(False, reasons.AMBIGUOUS_ANSWER, "the response names more than one letter as its answer", None)
    if found.letter:
        return _plain(found.letter == expected, reference, found.letter)
    if not choices:
        return None
    last = letters.LETTERS[choices - 1]
    return Verdict(False, reasons.NO_ANSWER, f"the response names none of the letters A to {last} as its answer", None)


def _plain(equal: bool, reference: str, extracted: str) -> Verdict:
    if equal:
        return Verdict(True, None, "equal", extracted)
    return Verdict(False, reasons.WRONG_ANSWER, f"answered {extracted[:200]}, expected {reference[:200]}", extracted)


def usable_cpus() -> int:
    """CPUs this process may use: affinity and, in a container, the cgroup's quota (v1 and v2). At least 1."""
    count = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, round(int(quota) / int(period))))
    with contextlib.suppress(OSError, ValueError):
        quota_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text())
        period_us = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text())
        if quota_us > 0:
            return max(1, min(count, round(quota_us / period_us)))
    return count


class Verifier:
    """A pool of checking processes; use as an async context manager. `timeout_seconds` is CPU time a check."""

    def __init__(self, *, timeout_seconds: float = 5.0, workers: int | None = None) -> None:
        self.timeout_seconds = timeout_seconds
        self.workers = workers or min(usable_cpus(), 8)
        self._idle: asyncio.Queue[_Checker] = asyncio.Queue()
        self._all: list[_Checker] = []

    async def __aenter__(self) -> Self:
        for _ in range(self.workers):
            checker = _Checker(self.timeout_seconds)
            self._all.append(checker)
            self._idle.put_nowait(checker)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(checker.end() for checker in self._all))

    async def verdict(self, reference: str, response: str, choices: int = 0) -> Verdict:
        """Judge a visible response against a reference answer; with `choices` the reference is one of so many letters,
        and nothing but the letter counts. Never raises for what the texts hold; Fault when no checking process can be
        started."""
        reference = reference[: answers.MAX_ANSWER_CHARS]
        if choices or letters.of_reference(reference):
            by_letter = _by_letter(reference, response, choices)
            if by_letter:
                return by_letter
        extracted = answers.extract(response)
        if extracted is None:
            # A reference in words may be the whole response.
            if response.strip() and len(response) < 200 and compare_quickly(reference, response):
                return Verdict(True, None, "equal", response.strip())
            return Verdict(False, reasons.NO_ANSWER, "the response has no box, no #### and no number", None)
        equal = compare_quickly(reference, extracted)
        if equal is None:
            return await self._check(reference, extracted)
        return _plain(equal, reference, extracted)

    async def _check(self, reference: str, extracted: str) -> Verdict:
        texts = quantities.mathematics(quantities.read(reference), quantities.read(extracted))
        checker = await self._idle.get()
        try:
            outcome, detail = await checker.check(*texts)
        finally:
            self._idle.put_nowait(checker)
        if outcome in ("equal", "different"):
            return _plain(outcome == "equal", reference, extracted)
        reason = {"timeout": reasons.VERIFY_TIMEOUT, "reference": reasons.UNVERIFIABLE_REFERENCE}
        return Verdict(False, reason.get(outcome, reasons.VERIFY_FAILED), detail, extracted)


class _Checker:
    """One checking process, started when first needed and again after it was killed."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self.process: asyncio.subprocess.Process | None = None
        self.checks = 0

    async def check(self, reference: str, answer: str) -> tuple[str, str]:
        """(outcome, detail) for two tidied texts; outcome: equal, different, timeout, reference, failed."""
        if self.process is None or self.process.returncode is not None or self.checks >= _CHECKS_PER_PROCESS:
            await self.end()
            await self._start()
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        self.checks += 1
        request = {"reference": reference, "answer": answer}
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            # The kernel ends a check by its CPU time; the clock is for a process that only sleeps.
            async with asyncio.timeout(60 + 20 * self.timeout_seconds):
                await process.stdin.drain()
                line = await process.stdout.readline()
            said = json.loads(line)
            return str(said["outcome"]), str(said["detail"])
        except (TimeoutError, OSError, ValueError, KeyError, TypeError):
            await self.end()
            return "timeout", f"the check took more than {self.timeout_seconds:g} s or too much memory and was killed"
        except BaseException:  # cancelled in mid-check: the answer on its way belongs to nobody
            await self.end()
            raise

    async def _start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k in ("PATH", "LD_LIBRARY_PATH", "LANG")}
        # However this process came by our package, the new one finds it in the same place.
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "distillstages.common.verify_process",
            str(self.timeout_seconds),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_MAX_LINE,
            env=environment,
        )
        self.checks = 0
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        # Were a process that cannot even start taken for a check that failed, every trace would be rejected.
        if await self.process.stdout.readline() != READY:
            said = (await self.process.stderr.read()).decode("utf-8", "replace").strip()[-500:]
            await self.end()
            raise Fault(f"the process that checks answers with math-verify cannot be started: {said or 'no output'}")

    async def end(self) -> None:
        """Kill the process if there is one."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
