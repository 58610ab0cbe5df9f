"""The first process of a stage container (PID 1), and of a stage on a laptop.

It starts the worker, forwards SIGTERM and SIGINT (a PID 1 without handlers ignores them), reaps orphans, serves the
progress port, and at the end maps what happened to the contract's exit code and writes the termination message,
whatever happened: a worker's own words if it left any, the kernel's memory killer if its counter rose, else the tail of
the log. SIGUSR1 makes the workers dump every thread's stack into the log; so does a stall, before it ends the stage
(stall.py).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Final

from distillstages.common import cgroup, logs, metrics, mirror, reasons, stacks, stall, state, termination, worker
from distillstages.common import config as configuration
from distillstages.common.artifacts import Output
from distillstages.common.config import StageConfig
from distillstages.common.exit import Exit, StageError, UsageFault
from distillstages.common.outcome import Facts, judge
from distillstages.common.stall import Watched
from distillstages.common.termination import Termination
from distillstages.common.wakeup import signal_wakeups

_PR_SET_CHILD_SUBREAPER: Final = 36
_TAIL_LINES: Final = 200
_TAIL_CHARS: Final = 2500
_LEFTOVER_GRACE_SECONDS: Final = 5.0
# What a worker that stands still has to save itself after SIGTERM. One that hangs does not hear it.
_STALLED_GRACE_SECONDS: Final = 10.0
_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Options:
    """How to supervise. `stall_timeout_seconds`: the progress numbers may stand still for so long; None: for ever.
    `output` opens the folder that stacks are kept in, `ranks` is how many workers all pods have together. `port` None:
    no progress port. `cgroup_root` and `membership` are where the counters lie (tests have their own)."""

    stage: str
    port: int | None = metrics.PORT
    ready_by_default: bool = True
    stall_timeout_seconds: float | None = None
    termination_path: Path | None = None
    artifact: str | None = None
    output: Callable[[], Output] | None = None
    ranks: int = 1
    cgroup_root: Path = Path("/sys/fs/cgroup")
    membership: Path = Path("/proc/self/cgroup")


def main(
    stage: str,
    command: Callable[[StageConfig, str], Sequence[str]] | None = None,
    argv: Sequence[str] | None = None,
    *,
    environment: Callable[[StageConfig], Mapping[str, str]] | None = None,
    stall_timeout_seconds: float | None = None,
    ready_by_default: bool = True,
) -> int:
    """A stage's main: check the command line and the configuration, supervise the worker, return the exit code.

    `command(config, path)` is the worker's argv; default `python -m distillstages.<stage>.worker --config path`.
    `environment(config)` adds variables to the worker's environment. `stall_timeout_seconds` counts where the
    configuration says nothing."""
    logs.register_environment_secrets()
    try:
        path = worker.parse_arguments(stage, argv)
        config = configuration.load(path, stage=stage)
        child = list(command(config, path)) if command else default_command(stage, path)
        extra = {**mirror.environment(config.mirror), **(environment(config) if environment else {})}
        port = port_from_environment()
    except StageError as error:
        print(logs.redact(f"{stage}: {error.message}"), file=sys.stderr)
        termination.write(_redacted(Termination.failed(error)))
        return int(error.code)
    if config.curate and config.curate.teacher and config.curate.teacher.api_key:
        logs.register_secret(os.environ.get(config.curate.teacher.api_key.env))
    options = Options(
        stage,
        port=port,
        ready_by_default=ready_by_default,
        stall_timeout_seconds=config.stall_timeout_seconds or stall_timeout_seconds,
        artifact=config.output,
        output=partial(worker.open_output, config),
        ranks=config.train.distributed.ranks if config.train else 1,
    )
    return supervise(child, options, environment=extra)


def default_command(stage: str, path: str) -> list[str]:
    """The worker of a stage as a module of its package."""
    return [sys.executable, "-m", f"distillstages.{stage}.worker", "--config", path]


def port_from_environment() -> int:
    """$DISTILLRUN_METRICS_PORT, or 9400; 0 picks a free one. Raises UsageFault."""
    value = os.environ.get(metrics.PORT_VARIABLE, "") or str(metrics.PORT)
    if not value.isdigit() or int(value) > 65535:
        raise UsageFault(f"{metrics.PORT_VARIABLE} is {value!r}, expected a port number 0 to 65535")
    return int(value)


def supervise(argv: Sequence[str], options: Options, *, environment: Mapping[str, str] | None = None) -> int:
    """Run a worker to its end and return the stage's exit code. Call it in the main thread. Never raises for what the
    worker does."""
    logs.register_environment_secrets()
    return _Supervisor(list(argv), options, dict(environment or {})).run()


class _Supervisor:
    def __init__(self, argv: list[str], options: Options, environment: dict[str, str]) -> None:
        self.argv = argv
        self.options = options
        self.environment = environment
        self.folder = Path(tempfile.mkdtemp(prefix="distillrun-"))
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.child: subprocess.Popen[bytes] | None = None
        self.asked_to_stop: signal.Signals | None = None
        self.stalled: str | None = None
        self.ended = threading.Event()
        self.pumps: list[threading.Thread] = []
        self.dumps: list[threading.Thread] = []

    def run(self) -> int:
        before = self._memory()
        server = self._serve()
        try:
            return self._run(before)
        finally:
            self.ended.set()
            if server:
                server.stop()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, before: cgroup.Memory) -> int:
        _become_subreaper()
        previous = {s: signal.signal(s, self._on_signal) for s in (*_FORWARDED, signal.SIGUSR1)}
        try:
            self._start()
        except OSError as error:
            message = f"the worker {self.argv[0]!r} cannot be started: {error.strerror}"
            return self._finish(Exit.FAULT, Termination("Failed", reasons.FAULT, message))
        try:
            if self.asked_to_stop:  # the signal came before there was a child
                self._forward(self.asked_to_stop)
            if self.options.stall_timeout_seconds:
                threading.Thread(
                    target=self._watch_stall, args=(self.options.stall_timeout_seconds,), name="stall", daemon=True
                ).start()
            status = self._wait()
            self._end_leftovers()
            for dump in self.dumps:  # what was asked for is said, also of a worker that ends meanwhile
                dump.join(timeout=4)
            for pump in self.pumps:
                pump.join(timeout=2)
            code, end = judge(self._facts(status, before))
            return self._finish(code, end)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _serve(self) -> metrics.Server | None:
        if self.options.port is None:
            return None
        try:
            server = metrics.Server(
                self.folder, port=self.options.port, ready_by_default=self.options.ready_by_default
            ).start()
        except OSError as error:
            # On a laptop two stages may run at once; the work matters more than its progress port.
            print(f"progress port {self.options.port}: {error.strerror}; going on without", file=sys.stderr)
            return None
        (self.folder / "port").write_text(str(server.port))
        return server

    def _start(self) -> None:
        # A terminal stays the worker's (progress bar); elsewhere its output passes through us, to keep its tail.
        pipe = None if sys.stderr.isatty() else subprocess.PIPE
        env = {**os.environ, **self.environment, state.VARIABLE: str(self.folder), "PYTHONUNBUFFERED": "1"}
        self.child = subprocess.Popen(self.argv, stdout=pipe, stderr=pipe, env=env, process_group=0)
        for source, sink in ((self.child.stdout, sys.stdout), (self.child.stderr, sys.stderr)):
            if source is not None:
                pump = threading.Thread(target=self._pump, args=(source, sink), daemon=True)
                pump.start()
                self.pumps.append(pump)

    def _pump(self, source: IO[bytes], sink: IO[str]) -> None:
        """Copy line by line, without secrets. A line is cut at 64 KiB so that a worker cannot make us grow."""
        for line in iter(lambda: source.readline(1 << 16), b""):
            text = logs.redact(line.decode("utf-8", "replace"))
            self.tail.append(text.rstrip("\n")[:1000])
            try:
                sink.write(text)
                sink.flush()
            except (OSError, ValueError):
                pass  # whoever read our output is gone; the worker must not notice

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        received = signal.Signals(number)
        if received is signal.SIGUSR1:
            self._dump_stacks()
            return
        self.asked_to_stop = received
        # Should the kubelet's SIGKILL come before the worker is through, this much is known already.
        message = f"asked to stop ({received.name}) and did not end in time"
        self._write(Termination("Failed", reasons.TERMINATED, message))
        self._forward(received)

    def _forward(self, number: signal.Signals) -> None:
        if self.child is not None and self.child.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.child.pid, number)

    def _wait(self) -> int:
        """Wait for the worker, reaping whatever else ends meanwhile. Returns Popen's returncode (-n: signal n)."""
        assert self.child is not None
        with signal_wakeups() as wait_for_signal:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == self.child.pid:
                    self.child.returncode = os.waitstatus_to_exitcode(status)
                    return self.child.returncode
                if pid == 0:
                    wait_for_signal()

    def _end_leftovers(self) -> None:
        """Processes the worker left behind, in its group or adopted by us: asked, then killed, and reaped."""
        assert self.child is not None
        for sent, seconds in ((signal.SIGTERM, _LEFTOVER_GRACE_SECONDS), (signal.SIGKILL, 1.0)):
            deadline = time.monotonic() + seconds
            told: set[int] = set()
            while _reap() and time.monotonic() < deadline:
                # Whose parent ends now becomes our child now, so look again.
                for pid in _children() - told:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, sent)
                    told.add(pid)
                time.sleep(0.02)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, sent)

    def _facts(self, status: int, before: cgroup.Memory) -> Facts:
        return Facts(
            stage=self.options.stage,
            status=status,
            ends=state.ends(self.folder),
            before=before,
            after=self._memory(),
            artifact=self.options.artifact,
            asked_to_stop=self.asked_to_stop,
            stalled=self.stalled,
            tail=logs.redact("\n".join(self.tail))[-_TAIL_CHARS:] or None,
        )

    def _finish(self, code: int, end: Termination) -> int:
        self._write(end)
        if code != 0:
            print(logs.redact(f"{self.options.stage}: {end.reason}: {end.message}"), file=sys.stderr, flush=True)
        return int(code)

    def _write(self, end: Termination) -> None:
        if end.artifact is None and self.options.artifact:
            end = replace(end, artifact=self.options.artifact)
        termination.write(_redacted(end), self.options.termination_path)

    def _memory(self) -> cgroup.Memory:
        return cgroup.read(self.options.cgroup_root, self.options.membership)

    def _watch_stall(self, seconds: float) -> None:
        watched = Watched(self.folder, seconds, self.options.ranks, self.options.output)
        limit = stall.wait(watched, self.ended)
        if limit is None or self.asked_to_stop:
            return
        self.stalled = f"no progress for {limit:g} s"  # should the worker end while its stacks are read
        self.stalled = stall.explain(watched, limit, self._say)
        self._forward(signal.SIGTERM)
        if not self.ended.wait(_STALLED_GRACE_SECONDS):
            self._forward(signal.SIGKILL)

    def _dump_stacks(self) -> None:
        """In a thread: a signal handler must not wait for the workers."""

        def dump() -> None:
            for rank, text in sorted(stacks.dump(self.folder).items()):
                for line in (f"every thread of rank {rank}:", *text.splitlines()):
                    self._say(line)

        self.dumps.append(threading.Thread(target=dump, name="stacks", daemon=True))
        self.dumps[-1].start()

    def _say(self, line: str) -> None:
        """A line of our own in the log and in its tail."""
        text = logs.redact(line)
        self.tail.append(text[:1000])
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def _redacted(end: Termination) -> Termination:
    return replace(
        end,
        message=logs.redact(end.message) if end.message else end.message,
        log=logs.redact(end.log) if end.log else end.log,
    )


def _become_subreaper() -> None:
    """Orphans of the worker become our children also when we are not PID 1 (Linux only)."""
    if os.getpid() == 1:
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> set[int]:
    """Process ids of our children, those adopted included."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found |= {int(pid) for pid in path.read_text().split()}
    return found


def _reap() -> bool:
    """Reap what has ended. True while children remain."""
    try:
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
    except ChildProcessError:
        return False
