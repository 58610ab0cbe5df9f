"""The harness of a worker process: everything around a stage's own work, so that a stage is one function.

def body(context: Context) -> Mapping[str, Any]: ...      # publishes, returns the headline numbers
if __name__ == "__main__":
    run("curate", body)
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import IO, Any, NoReturn

from distillstages.common import alive, logs, stacks, state
from distillstages.common import config as configuration
from distillstages.common.artifacts import Output
from distillstages.common.config import StageConfig
from distillstages.common.exit import ConfigFault, Exit, Fault, StageError, Terminated, UsageFault
from distillstages.common.files import storage_fault
from distillstages.common.metrics import Metrics
from distillstages.common.termination import Termination

_log = logging.getLogger("distillstages.worker")


@dataclass
class Context:
    """What a stage's body gets: the checked configuration, the output folder, the gauges, and `stopping`, an event that
    SIGTERM sets (only with `graceful=True`; otherwise SIGTERM raises Terminated in the main thread). `spent` are the
    numbers that a stage tells even when it fails."""

    config: StageConfig
    output: Output
    metrics: Metrics
    stopping: threading.Event
    spent: dict[str, Any] = field(default_factory=dict)


Body = Callable[[Context], Mapping[str, Any]]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageFault(f"{self.prog}: {message}; usage: {self.prog} --config stage.yaml")


def parse_arguments(stage: str, argv: Sequence[str] | None = None) -> str:
    """The path given with --config. Raises UsageFault."""
    parser = _Parser(prog=f"python -m distillstages.{stage}", description=f"The {stage} stage.")
    parser.add_argument("--config", required=True, help="path of stage.yaml")
    path: str = parser.parse_args(argv).config
    return path


def open_output(config: StageConfig) -> Output:
    """The output folder that a configuration names."""
    return Output(
        config.output,
        stage=config.stage,
        fingerprint=config.fingerprint,
        attempt=config.attempt,
        run=config.run.uid,
        origin=f"{config.run.namespace}/{config.run.name}",
    )


def complete(output: Output) -> Termination | None:
    """The message of a stage whose result is there already; None when it is not."""
    done = output.completed() or output.finish()
    if done is None:
        return None
    _log.info("the result is there already, nothing to do", extra={"fields": {"artifact": output.uri}})
    return Termination.succeeded(output.uri, done.numbers, reused_from=output.reused_from(done))


def prepare(stage: str) -> Metrics:
    """Logs, stack dumps on SIGUSR1 and on crashes, our process id for the supervisor; the gauges. Call it first.

    The dumps go to a file in the state folder, from where the supervisor takes them; without one, to the log."""
    os.umask(0o002)
    logs.setup(stage)
    faulthandler.enable()
    where = state.folder()
    dumps: IO[bytes] | None = None
    if where is not None:
        with suppress(OSError):
            dumps = stacks.path_of(state.rank(), where).open("wb")
    faulthandler.register(signal.SIGUSR1, file=dumps or sys.stderr, all_threads=True, chain=False)
    if where is not None:
        with suppress(OSError):
            # Last: who finds the process id may send SIGUSR1, which kills a process that is not ready for it.
            (where / f"pid-{state.rank()}").write_text(str(os.getpid()))
    return Metrics(where, state.rank())


def run(
    stage: str,
    body: Body,
    argv: Sequence[str] | None = None,
    *,
    claim: bool = True,
    graceful: bool = False,
    reuse: bool = True,
) -> NoReturn:
    """Load the configuration, end at once if the result is there (`reuse`), claim the output (`claim`; only one process
    a stage may), run the body, leave the termination message, exit with the contract's code. Never returns."""
    artifact: str | None = None
    spent: dict[str, Any] = {}
    try:
        metrics = prepare(stage)
        config = configuration.load(parse_arguments(stage, argv), stage=stage)
        output = open_output(config)
        artifact = output.uri
        stopping = _handle_sigterm(graceful)
        if config.attempt == 0:
            raise ConfigFault("attempt is 0, which is the probe's; a stage's attempts count from 1")
        end = complete(output) if reuse else None
        if end is None:
            if claim:
                alive.leave_to_others(output)
                output.claim()
                alive.give_signs(output)
            end = Termination.succeeded(artifact, body(Context(config, output, metrics, stopping, spent)))
        metrics.flush()
        leave(Exit.OK, end)
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        fault = as_stage_error(error)
        level = logging.ERROR if not isinstance(fault, Terminated) else logging.WARNING
        # A traceback helps with our own faults only; the user's mistakes get a sentence.
        _log.log(level, fault.message, exc_info=error if type(fault) is Fault and error is not fault else None)
        leave(fault.code, replace(Termination.failed(fault, artifact=artifact), numbers=spent))


def as_stage_error(error: BaseException) -> StageError:
    """Any exception as one with an exit code: OSErrors of storage by their errno, the rest as Fault."""
    if isinstance(error, StageError):
        return error
    if isinstance(error, BaseExceptionGroup):
        # Of several tasks' errors the one that says most; a group may hold groups.
        return min(map(as_stage_error, error.exceptions), key=lambda e: (type(e) is Fault, e.code))
    if isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
        return Terminated("interrupted; what was recorded is kept and the next attempt continues from it")
    if isinstance(error, OSError) and error.errno is not None:
        return storage_fault(error, str(error.filename or "a file operation"))
    if isinstance(error, MemoryError):
        return Fault("out of memory inside Python (MemoryError); raise the memory limit of the stage's pod")
    return Fault(logs.redact(f"{type(error).__name__}: {error}"))


def leave(code: int, termination: Termination) -> NoReturn:
    """Tell the supervisor and exit."""
    state.leave_end(code, termination)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a thread or a pool that hangs must not hold back a stage that is complete.
    os._exit(code)


def _handle_sigterm(graceful: bool) -> threading.Event:
    stopping = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        stopping.set()
        if not graceful:
            raise Terminated(
                f"asked to stop ({signal.Signals(number).name}); what was recorded is kept and the next attempt "
                "continues from it"
            )

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
    return stopping
