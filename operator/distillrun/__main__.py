"""`python -m distillrun operator` runs the operator, `python -m distillrun crd` prints the resource's definition,
`python -m distillrun estimate run.yaml` the feasibility, time and cost of a training.

Outside a cluster:  KUBECONFIG=… python -m distillrun operator --text-logs

Arguments, leader election, kopf start-up and an orderly end; everything else lies below.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import kopf

from distillrun import __version__, handlers
from distillrun.cluster import logs
from distillrun.cluster.apply import Applier
from distillrun.cluster.cache import Cache, Key
from distillrun.cluster.client import Client
from distillrun.cluster.connection import connect
from distillrun.cluster.errors import ApiError
from distillrun.cluster.events import Recorder
from distillrun.cluster.evidence import Evidence
from distillrun.cluster.http import Server
from distillrun.cluster.lease import Lease, NotLeader
from distillrun.cluster.metrics import Metrics
from distillrun.cluster.progress import Puller
from distillrun.cluster.queue import PASS_SECONDS, KeyedQueue
from distillrun.cluster.relist import Relist
from distillrun.cluster.resources import RUN
from distillrun.options import Options, arguments, options
from distillrun.reconcile import Builder, Planner, Reconciler

logger = logging.getLogger("distillrun")

SHUTDOWN_SECONDS = 15.0
WHILE_LATE = 1.0
"""Seconds after which a pass is tried again that a late lease did not allow."""
AFTER_WRITES = 1.0
"""Seconds from a pass that wrote something to the next one, unless an event is faster."""


class Operator:
    """One operator process: warm caches always, passes over runs while it leads."""

    def __init__(self, options: Options, *, plan: Planner, build: Builder) -> None:
        self.options = options
        self.identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self.connection = connect(options.context)
        agent = f"distillrun-operator/{__version__} ({self.identity})"
        self.cache = Cache(options.settings.gpu_resource)
        self.metrics = Metrics(self.cache)
        # Two clients: what renews the lease must not itself be stopped by the guard.
        observe = self.metrics.requested
        self.unguarded = Client(self.connection, user_agent=agent, observe=observe)
        self.lease = Lease(self.unguarded, options.lease_namespace, options.lease_name, self.identity)
        self.client = Client(self.connection, user_agent=agent, guard=self.lease.check, observe=observe)
        recorder = Recorder(self.client, self.identity)
        applier = Applier(self.client, self.cache, self.metrics)
        evidence = Evidence(self.client, self.cache)
        self.reconciler = Reconciler(self.cache, applier, evidence, recorder, options.settings, plan=plan, build=build)
        self.applier = applier
        self.queue: KeyedQueue[Key] = KeyedQueue(
            self._pass,
            workers=options.workers,
            watcher=self.metrics,
            expected=(NotLeader, ApiError),
            describe=self._describe,
        )
        self.relist = Relist(
            self.unguarded,
            self.cache,
            self.metrics,
            self.queue.add,
            options.namespaces,
            interval=options.relist_seconds,
            grace=options.relist_grace,
        )
        self.puller = Puller(self.cache)
        self.server = Server(self.metrics, healthy=self.ill, ready=self.unready)
        self.metrics.leader.set_function(lambda: float(self.lease.leading))
        self.metrics.queue_depth.set_function(lambda: float(self.queue.depth))
        self.metrics.queue_busy.set_function(lambda: float(self.queue.in_flight))
        self.metrics.queue_longest.set_function(self.queue.longest)
        self.stopping = asyncio.Event()

    def ill(self) -> str:
        """What only a restart cures. A blocked event loop shows by itself: nothing answers."""
        stuck = self.queue.longest()
        if stuck > 1.5 * PASS_SECONDS:
            return f"a pass has been stuck for {stuck:.0f} s"
        silent = [kind for kind, count in self.relist.silent.items() if count]
        return f"the watch of {', '.join(silent)} is silent while a list shows changes" if silent else ""

    def unready(self) -> str:
        """Why this process could not yet take over."""
        return "" if self.relist.synced else "the cache is being filled"

    async def run(self) -> int:
        """Run until told to stop, or until leadership is lost. The exit code: 0 when told to stop."""
        await self.server.start(self.options.host, self.options.port)
        logger.info("Operator %s %s listens on port %d.", self.identity, __version__, self.server.port)
        self._catch_signals()
        filled = asyncio.Event()
        # These tasks exist before kopf starts: when kopf stops it cancels what was started after it, and only that.
        tasks = {
            asyncio.create_task(self.stopping.wait(), name="stop"),
            asyncio.create_task(self._lead(filled), name="leadership"),
            asyncio.create_task(self.puller.run(), name="progress"),
            asyncio.create_task(self._keep_cache(filled), name="cache"),
        }
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # Nothing may keep a process that no longer leads, or is told to go, from going.
        asyncio.get_running_loop().call_later(SHUTDOWN_SECONDS, os._exit, 1)
        await self.queue.stop()
        await self.lease.release()
        await _cancel(tasks)
        await self.server.stop()
        await self.client.close()
        await self.unguarded.close()
        return max(_exit_code(task) for task in done)

    async def _lead(self, filled: asyncio.Event) -> None:
        """Wait for the cache and for the lease, then do passes for as long as the lease can be renewed."""
        await filled.wait()
        await self.lease.acquire()
        self.reconciler.left = self.lease.left
        async with asyncio.TaskGroup() as group:
            group.create_task(self.lease.keep(self._queue_all))
            await self.relist.catch_up()
            self._queue_all()
            group.create_task(self.queue.run())

    async def _keep_cache(self, filled: asyncio.Event) -> None:
        """Fill the cache, then have kopf and the relist check keep it true."""
        await self._wait_for_definition()
        await self.relist.fill()
        _spare_the_collector()
        filled.set()
        relist = asyncio.create_task(self.relist.run(), name="relist")
        ready, stop = asyncio.Event(), asyncio.Event()
        watches = asyncio.create_task(
            kopf.operator(
                registry=handlers.registry(
                    self.connection, self.cache, self.queue.add, self.queue.add_soon, self._told
                ),
                settings=handlers.settings(),
                memories=handlers.NoMemories(),
                standalone=True,
                clusterwide=not self.options.namespaces,
                namespaces=self.options.namespaces,
                stop_flag=stop,
                ready_flag=ready,
            ),
            name="watches",
        )
        started = asyncio.create_task(ready.wait(), name="start of the watches")
        try:
            await asyncio.wait({started, watches}, return_when=asyncio.FIRST_COMPLETED)
            self._catch_signals()  # kopf has put its own handlers there
            await asyncio.wait({relist, watches}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            await _cancel({relist, started})
            await asyncio.wait({watches}, timeout=SHUTDOWN_SECONDS / 2)
        for task in (watches, relist):
            if not task.cancelled():
                task.result()  # raises what ended it

    async def _wait_for_definition(self) -> None:
        """Wait until the API server answers and knows DistillRuns; the definition may come after the operator."""
        told = ""
        namespace = next(iter(self.options.namespaces), None)
        while True:
            try:
                async for _ in self.unguarded.list(RUN, namespace, page=1):
                    return
            except ApiError as error:
                if not error.not_found and not error.retryable:
                    raise
                words = f"the definition of {RUN.plural}.{RUN.group} to be installed"
                if not error.not_found:
                    words = f"the API server to answer ({error})"
            if words != told:
                logger.warning("Waiting for %s.", words)
                told = words
            await asyncio.sleep(1.0)

    async def _pass(self, key: Key) -> float | None:
        """One pass over a run. What it wrote is looked at again: no event is heard of what the cache knows already.

        While the lease is late there is none: thousands of passes that are all refused their first write would take the
        very time that its renewal waits for.
        """
        if not self.lease.leading:
            return WHILE_LATE
        again = await self.reconciler(key)
        if self.applier.wrote(key):
            return AFTER_WRITES if again is None else min(again, AFTER_WRITES)
        return again

    def _queue_all(self) -> None:
        for key in self.cache.run_keys():
            self.queue.add(key)

    def _describe(self, key: Key) -> dict[str, object]:
        """The fields of a log line about a run that need not exist any more."""
        run = self.cache.run(key)
        return logs.fields(run) if run is not None else {"namespace": key[0], "run": key[1]}

    def _told(self, kind: str, body: Mapping[str, Any]) -> None:
        self.metrics.watched(kind, body)
        self.relist.heard(kind)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)

    def _stop(self, number: int) -> None:
        logger.info("Stopping: %s.", signal.Signals(number).name)
        self.stopping.set()


def _spare_the_collector() -> None:
    """Leave out of garbage collections what lives as long as the process, and collect less often: few cycles arise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _exit_code(task: asyncio.Task[Any]) -> int:
    if task.cancelled():
        return 1
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is None:
        return 0 if task.get_name() == "stop" else 1
    if isinstance(error, NotLeader):
        logger.error("Leadership is lost, this process ends: %s", error)
    else:
        logger.error("The operator ends: its %s failed: %s", task.get_name(), error, exc_info=error)
    return 1


async def operate(chosen: Options, *, plan: Planner, build: Builder) -> int:
    """Run one operator to its end. The exit code."""
    return await Operator(chosen, plan=plan, build=build).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says. The exit code."""
    parsed = arguments(sys.argv[1:] if argv is None else argv)
    if parsed.command == "crd":
        from distillrun.api import schema

        print(schema.to_yaml(schema.crd()), end="")
        return 0
    if parsed.command == "estimate":
        from distillrun.cli import estimate

        return estimate.main(parsed)

    from distillrun.build.objects import build
    from distillrun.plan.planner import plan

    try:
        chosen = options(parsed, os.environ)
        logs.configure(chosen.log_level, json_lines=not chosen.text_logs)
        return asyncio.run(operate(chosen, plan=plan, build=build))
    except (ValueError, OSError) as error:
        print(f"distillrun operator: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
