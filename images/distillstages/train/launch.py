"""Starts the ranks of this node with torchrun, in this process, and says afterwards what torchrun does not.

torchrun exits 1 whatever its workers said, sends them SIGTERM and kills them 30 s later, and explains a master that
is not there with a stack trace. So: the workers leave their own words (common.state), SIGTERM goes straight to
them and they may take as long to save a checkpoint as the pod has, and the wait for the master is bounded here.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

from distillstages.common import config as configuration
from distillstages.common import state, worker
from distillstages.common.blocks import Train
from distillstages.common.config import StageConfig
from distillstages.common.exit import Exit, Fault, PeerLost, StageError, Terminated
from distillstages.common.termination import Termination
from distillstages.train import plan
from distillstages.train.messages import first_line

WAIT_SECONDS = 900.0
"""How long to wait for the other nodes: their pods may still be pulling an image."""

_SHUTDOWN_SECONDS = 60  # once one rank has ended, the others have nothing left to do but to say why
_NAME = "launcher"  # instead of a rank, in the state folder
_log = logging.getLogger("distillstages.train.launch")


def main() -> int:
    """Run the ranks of this node to their end. What they left in the state folder tells the supervisor the cause."""
    os.environ["RANK"] = _NAME
    worker.prepare("train")
    del os.environ["RANK"]
    artifact: str | None = None
    try:
        path = worker.parse_arguments("train")
        config = configuration.load(path, stage="train")
        assert config.train is not None
        output = worker.open_output(config)
        artifact = output.uri
        done = worker.complete(output)
        if done is not None:
            return _end(Exit.OK, done)
        plan.split_batch(config.train)
        node = plan.node_rank(config.train)
        stop = _Stop()
        if config.train.distributed.nodes > 1 and node > 0:
            wait_for_name(config.train.distributed.master_address, stop=stop.check)
        stop.check()
        return _run(config, path, node, stop)
    except StageError as error:
        _log.error(error.message)
        return _end(error.code, Termination.failed(error, artifact=artifact))


class _Stop:
    """SIGTERM: before the ranks run it ends the launcher, afterwards it is passed on to them and only to them."""

    def __init__(self) -> None:
        self.asked = False
        self.running = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def check(self) -> None:
        """Raises Terminated if asked to stop."""
        if self.asked:
            raise Terminated("asked to stop before training began; the next attempt continues")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if not self.running:
            self.check()
        if not _signal_ranks(signal.SIGTERM):
            raise Terminated("asked to stop while the ranks were starting; the next attempt continues")


def _signal_ranks(number: signal.Signals) -> bool:
    """Passes a signal on to this node's ranks; False if none has started yet."""
    where = state.folder()
    told = False
    for path in where.glob("pid-*") if where else ():
        try:
            process = int(path.read_text())
            if process != os.getpid():
                os.kill(process, number)
                told = True
        except (OSError, ValueError):
            continue
    return told


def wait_for_name(
    host: str,
    *,
    stop: Callable[[], None] = lambda: None,
    seconds: float = WAIT_SECONDS,
    pause: float = 0.5,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Waits until the name resolves. Raises PeerLost, naming host and time, when it does not within `seconds`."""
    started = said = clock()
    while True:
        stop()
        try:
            socket.getaddrinfo(host, None)
            return
        except OSError as error:
            now = clock()
            if now - started > seconds:
                raise PeerLost(
                    f"the first training pod has no address after {seconds:g} s: the name {host} does not resolve "
                    f"({error.strerror or error}). Is that pod pending, and does the headless Service publish "
                    "addresses of pods that are not ready?"
                ) from None
            if now - said > 10:
                said = now
                _log.info("waiting for the first training pod's name", extra={"fields": {"name": host}})
        time.sleep(pause)


def _run(config: StageConfig, path: str, node: int, stop: _Stop) -> int:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    assert config.train is not None
    _set_environment(config.train)
    stop.running = True
    where = config.train.distributed
    try:
        torchrun(
            [
                f"--nnodes={where.nodes}",
                f"--nproc-per-node={where.processes_per_node}",
                f"--node-rank={node}",
                # A node that dials itself by its Service's name can be told that there is nobody (no endpoint yet).
                f"--master-addr={where.master_address if node else own_address(where.master_address)}",
                f"--master-port={where.master_port}",
                f"--rdzv-conf=timeout={WAIT_SECONDS:.0f}",
                "--max-restarts=0",
                "--monitor-interval=0.2",
                "--signals-to-handle=SIGQUIT",
                f"--shutdown-timeout={_SHUTDOWN_SECONDS}",
                "-m",
                "distillstages.train.worker",
                "--config",
                path,
            ]
        )
    except ChildFailedError as error:
        for rank, failure in error.failures.items():
            _explain_silence(int(rank), failure.exitcode, stop)
        return 1
    except RuntimeError as error:  # torch's store: DistStoreError, DistNetworkError
        if stop.asked:
            raise Terminated("asked to stop while waiting for the other training pods") from None
        raise PeerLost(
            f"the {where.nodes} training pods did not find each other at {where.master_address}:{where.master_port}: "
            f"{first_line(error)}. Are all of them running, and may they reach each other?"
        ) from None
    return 0


def own_address(name: str) -> str:
    """What the first node should listen and dial: its own name while the given one does not resolve here yet."""
    try:
        socket.getaddrinfo(name, None)
        return name
    except OSError:
        return socket.gethostbyname(socket.gethostname())


def _set_environment(train: Train) -> None:
    import torch

    processes = train.distributed.processes_per_node
    os.environ.setdefault("OMP_NUM_THREADS", str(plan.threads_per_process(processes)))
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if not train.student.uri.startswith("hf://"):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing to ask the hub about
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _explain_silence(rank: int, code: int, stop: _Stop) -> None:
    """A rank that was killed could leave no word; say what torchrun saw, so that its peers' 76 is not the cause."""
    where = state.folder()
    if where is None or code >= 0 or (where / f"end-{rank}.json").exists():
        return
    fault: StageError = Fault(f"rank {rank} was killed by {signal.Signals(-code).name} ({-code}) and left no message")
    if stop.asked and code == -signal.SIGTERM:
        fault = Terminated("asked to stop while the ranks were starting; the next attempt continues")
    _leave(str(rank), fault.code, Termination.failed(fault))


def _end(code: int, termination: Termination) -> int:
    _leave(_NAME, code, termination)
    return int(code)


def _leave(rank: str, code: int, termination: Termination) -> None:
    """Writes end-<rank>.json. The ranks write theirs, the launcher must not overwrite them."""
    os.environ["RANK"] = rank
    state.leave_end(code, termination)


if __name__ == "__main__":
    sys.exit(main())
