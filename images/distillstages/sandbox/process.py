"""One confined child as the judge sees it: started, fed, read within bounds, measured, ended.

Time is the child's CPU time, which does not depend on what else the machine does. A child that only sleeps uses none:
it is ended after so much time in which none of its threads could run, which does not depend on the load either, for a
thread that waits for a CPU counts as one that can run.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import distillstages
from distillstages.common.exit import Fault
from distillstages.sandbox.child import MEMORY_STATUS, NO_JAIL_STATUS, READY

_ROOT: Final = str(Path(distillstages.__file__).parent.parent)
_BOOT: Final = "import sys; sys.path.insert(0, sys.argv[2]); from distillstages.sandbox.child import main; main()"
_TICK_SECONDS: Final = 0.02
_CHUNK: Final = 1 << 16
_ERRORS_KEPT: Final = 4096
_MAX_THREADS: Final = 64
_START_SECONDS: Final = 300.0  # of the clock: a child that cannot even start
_WALL_SECONDS: Final = 900.0  # of the clock: whatever else was overlooked


class Verdict(StrEnum):
    """What became of a case or of a submission. Only Passed is a pass."""

    PASSED = "Passed"
    WRONG_OUTPUT = "WrongOutput"
    RUNTIME_ERROR = "RuntimeError"
    TIME_LIMIT = "TimeLimit"
    MEMORY_LIMIT = "MemoryLimit"
    OUTPUT_LIMIT = "OutputLimit"
    FORBIDDEN = "Forbidden"


@dataclass(frozen=True)
class Limits:
    """CPU seconds for a case and for all cases of a submission, bytes of address space of a process, bytes of output
    of a case, and seconds a case may only sleep."""

    cpu_seconds: float = 5.0
    total_cpu_seconds: float = 60.0
    memory_bytes: int = 512 << 20
    output_bytes: int = 1 << 20
    idle_seconds: float = 10.0


@dataclass(frozen=True)
class End:
    """Why a child ended, where it was not by itself with status 0: a verdict and a sentence."""

    verdict: Verdict
    detail: str


class Child:
    """A context manager; on leaving it the process is gone. `setup` is what child.py reads first."""

    def __init__(self, setup: dict[str, Any], limits: Limits, cpu_seconds: float) -> None:
        self.limits = limits
        self.allowed = cpu_seconds
        self.setup = {**setup, "cpuSeconds": cpu_seconds, "memoryBytes": limits.memory_bytes}
        self.output = bytearray()
        self.errors = bytearray()
        self.end: End | None = None
        self.exited = False
        self.ready = False
        self.busy = True  # False: it waits for us, and may sleep
        self.cpu = 0.0  # seconds since it was ready
        self._base = 0.0
        self._idle = 0.0
        self._said = 0  # bytes on standard error
        self._pending = bytearray()
        self._close_input = False

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="distillrun-sandbox-")
        Path(self._folder.name).chmod(0o555)
        try:
            self._process = subprocess.Popen(
                # No site-packages, no user folder, nothing written. The environment is ours alone: no variable of the
                # judge, and sets in the same order every time.
                [sys.executable, "-sSPB", "-c", _BOOT, str(os.getpid()), _ROOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"},
                cwd=self._folder.name,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._folder.cleanup()
            raise Fault(f"the sandbox cannot start a process: {error.strerror}") from None
        assert self._process.stdin and self._process.stdout and self._process.stderr  # noqa: PT018
        self._input, self._reading = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._complaints = self._process.stderr.fileno()
        self._open = {self._input, self._reading, self._complaints}
        for file in self._open:
            os.set_blocking(file, False)
        self._started = self._looked = time.monotonic()
        body = json.dumps(self.setup).encode()
        self.send(len(body).to_bytes(8, "big") + body)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.exited:
            self.end = self.end or End(Verdict.RUNTIME_ERROR, "ended by the judge, who needs it no more")
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._reap(block=True)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        self._folder.cleanup()

    def send(self, data: bytes, *, last: bool = False) -> None:
        """Queue bytes for its standard input; `last` closes that after them."""
        self._pending += data
        self._close_input = self._close_input or last

    def new_case(self, cpu_seconds: float) -> None:
        """From now on so many CPU seconds more, and the idle time counts from nothing."""
        self.allowed, self._idle = self.cpu + cpu_seconds, 0.0

    def line(self) -> bytes | None:
        """Take the next line of output, None while there is none."""
        position = self.output.find(b"\n")
        if position < 0:
            return None
        taken = bytes(self.output[: position + 1])
        del self.output[: position + 1]
        return taken

    @property
    def done(self) -> bool:
        """Nothing more will come of it."""
        return self.end is not None or self.exited

    # What pump() calls.

    def files(self) -> dict[int, int]:
        """File descriptors to poll, and for what."""
        wanted = dict.fromkeys(self._open - {self._input}, int(select.POLLIN))
        if self._input in self._open and (self._pending or self._close_input):
            wanted[self._input] = select.POLLOUT
        return wanted

    def move(self, file: int) -> None:
        """Read or write what goes without waiting."""
        try:
            if file == self._input:
                del self._pending[: os.write(file, self._pending[:_CHUNK]) if self._pending else 0]
                if not self._pending and self._close_input:
                    self._shut(file)
                return
            data = os.read(file, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # it closed its end
            self._shut(file)
            return
        if not data:
            self._shut(file)
        elif file == self._complaints:
            self.errors = (self.errors + data)[-_ERRORS_KEPT:]
            self._said += len(data)
            if self._said > self.limits.output_bytes:
                self._stop(Verdict.OUTPUT_LIMIT, f"more than {self.limits.output_bytes} bytes of errors")
        else:
            self.output += data
            if not self.ready:
                self._begin()
            elif len(self.output) > self.limits.output_bytes:
                self._stop(Verdict.OUTPUT_LIMIT, f"more than {self.limits.output_bytes} bytes of output")

    def look(self) -> None:
        """Is it still there, and within its limits?"""
        if self.exited or self.end:
            return
        now = time.monotonic()
        since, self._looked = min(now - self._looked, 2 * _TICK_SECONDS), now
        before = self.cpu
        self._measure()
        if self._reap(block=False):
            return
        if self.cpu > self.allowed:
            self._stop(Verdict.TIME_LIMIT, f"more than {self._spoken()} s of CPU time")
        elif self.ready and self.busy and self.cpu == before and not _can_run(self._process.pid):
            self._idle += since
        if self._idle > self.limits.idle_seconds:
            self._stop(Verdict.TIME_LIMIT, f"slept for more than {self.limits.idle_seconds:g} s")
        elif now - self._started > (_WALL_SECONDS if self.ready else _START_SECONDS):
            if not self.ready:
                raise Fault("a process of the sandbox did not start within five minutes; is the machine overloaded?")
            self._stop(Verdict.TIME_LIMIT, f"more than {_WALL_SECONDS:g} s of the clock")
        elif self.ready and _threads(self._process.pid) > _MAX_THREADS:
            self._stop(Verdict.FORBIDDEN, f"more than {_MAX_THREADS} threads")

    def _spoken(self) -> str:
        return f"{min(self.allowed, self.limits.cpu_seconds):g}"

    def _shut(self, file: int) -> None:
        self._open.discard(file)
        if file == self._input and self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _begin(self) -> None:
        line = self.line()
        if line is None:
            return
        if not line.startswith(READY):
            raise Fault(f"a process of the sandbox began with {line[:80]!r}")
        self._base, self.ready = float(line[len(READY) :]), True

    def _measure(self) -> None:
        if not self.ready:
            return
        with contextlib.suppress(OSError):  # it has ended: wait4 tells
            clock = (~self._process.pid << 3) | 2  # CPUCLOCK_SCHED of that process: clock_getcpuclockid(3)
            self.cpu = max(self.cpu, time.clock_gettime(clock) - self._base)

    def _stop(self, verdict: Verdict, detail: str) -> None:
        if self.end is None:
            self.end = End(verdict, detail)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        self._reap(block=True)

    def _reap(self, *, block: bool) -> bool:
        """True when the process is gone."""
        if self.exited:
            return True
        try:
            pid, status, used = os.wait4(self._process.pid, 0 if block else os.WNOHANG)
        except ChildProcessError:  # reaped by somebody else, a supervisor that adopts: what it was, nobody knows
            self.exited, self._process.returncode = True, -1
            self.end = self.end or End(Verdict.RUNTIME_ERROR, "ended")
            return True
        if pid == 0:
            return False
        self.exited, self._process.returncode = True, os.waitstatus_to_exitcode(status)
        # What it wrote at last is still in the pipes; nobody else holds their other ends.
        for file in (self._complaints, self._reading):
            while file in self._open and not self.end:
                self.move(file)
        self.cpu = max(self.cpu, used.ru_utime + used.ru_stime - self._base)
        self.end = self.end or self._explain(self._process.returncode)
        return True

    def _explain(self, code: int) -> End | None:
        said = self.errors.decode("utf-8", "replace").strip().splitlines()
        if code == NO_JAIL_STATUS or not self.ready:
            raise Fault(f"this machine cannot confine a submission: {said[-1] if said else f'status {code}'}")
        if self.cpu > self.allowed or code == -signal.SIGXCPU:
            return End(Verdict.TIME_LIMIT, f"more than {self._spoken()} s of CPU time")
        if code == 0:
            return None
        if code in (MEMORY_STATUS, -signal.SIGKILL):
            return End(Verdict.MEMORY_LIMIT, f"more than {self.limits.memory_bytes >> 20} MiB of memory")
        if code == -signal.SIGSYS:
            return End(Verdict.FORBIDDEN, "a new process, a socket, a signal to another or the like")
        if code < 0:
            return End(Verdict.RUNTIME_ERROR, f"ended by {signal.Signals(-code).name}")
        return End(Verdict.RUNTIME_ERROR, f"ended with status {code}")


def pump(children: Sequence[Child]) -> None:
    """Let bytes flow for at most one tick and look at every child once."""
    poll, owners = select.poll(), {}
    for child in children:
        for file, events in child.files().items():
            poll.register(file, events)
            owners[file] = child
    for file, _ in poll.poll(1000 * _TICK_SECONDS if owners else 5):
        owners[file].move(file)
    for child in children:
        child.look()


def _threads(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return 0


def _can_run(pid: int) -> bool:
    """Whether a thread of it runs or waits for a CPU (state R) or for a disk (D)."""
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
            if state in "RD":
                return True
    except (OSError, IndexError):
        return True
    return False
