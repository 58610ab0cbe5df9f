"""The keyed work queue: repeats merge, one pass per key at a time, several keys at once.

Its size is bounded by the number of distinct keys. Whoever adds a key that is being worked on gets one more pass after
it. A pass says when to look again; a pass that fails is tried again with exponential backoff and jitter.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF, LONGEST_BACKOFF = 0.2, 60.0
"""Seconds."""
PAUSE = 0.25
"""Seconds between two passes over one key that nothing hurries (add_soon)."""
PASS_SECONDS = 120.0
"""A pass that takes longer is given up and counted as a failure."""


class Watcher(Protocol):
    """What the queue tells to whoever measures it (seconds)."""

    def passed(self, seconds: float, waited: float, failed: bool) -> None: ...


@dataclass
class _Timer:
    at: float
    handle: asyncio.TimerHandle


class KeyedQueue(Generic[K]):
    """Keys in the order in which they were first added. One event loop adds and works."""

    def __init__(
        self,
        work: Callable[[K], Awaitable[float | None]],
        *,
        workers: int = 8,
        watcher: Watcher | None = None,
        expected: tuple[type[Exception], ...] = (),
        pass_seconds: float = PASS_SECONDS,
        describe: Callable[[K], Mapping[str, object]] = lambda key: {},
    ) -> None:
        """`work(key)` is one pass; it returns the seconds after which to add the key again, or None.

        Failures of the `expected` kinds are logged as a sentence, others with a traceback the first time;
        `describe(key)` gives the fields of such a log line.
        """
        self._work = work
        self._workers = workers
        self._watcher = watcher
        self._expected = expected
        self._pass_seconds = pass_seconds
        self._describe = describe
        self._waiting: dict[K, float] = {}
        self._working: dict[K, float] = {}
        self._again: set[K] = set()
        self._timers: dict[K, _Timer] = {}
        self._failures: dict[K, int] = {}
        self._passed: dict[K, float] = {}
        """When keys were last worked on, oldest first, as far as that is less than PAUSE ago."""
        self._wakeup = asyncio.Event()
        self._stopping = False

    def add(self, key: K) -> None:
        """Have the key worked on as soon as a worker is free; a timer for it is no longer needed."""
        if self._stopping:
            return
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.handle.cancel()
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().time()
            self._wakeup.set()

    def add_soon(self, key: K) -> None:
        """Have the key worked on at once, or PAUSE after its last pass: what is told meanwhile is one pass more."""
        wait = self._passed.get(key, float("-inf")) + PAUSE - asyncio.get_running_loop().time()
        if wait <= 0:
            self.add(key)
        elif key not in self._waiting:
            self.add_after(key, wait)

    def add_after(self, key: K, seconds: float) -> None:
        """Add the key in a while, or earlier if an earlier timer runs."""
        loop = asyncio.get_running_loop()
        at = loop.time() + max(0.0, seconds)
        timer = self._timers.get(key)
        if self._stopping or (timer is not None and timer.at <= at):
            return
        if timer is not None:
            timer.handle.cancel()
        self._timers[key] = _Timer(at, loop.call_at(at, self.add, key))

    def forget(self, key: K) -> None:
        """Stop its timer and its count of failures: the thing is gone."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.handle.cancel()
        self._failures.pop(key, None)

    async def run(self) -> None:
        """Work until stop() is called or the task is cancelled. Keys added before wait for it."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._worker(), name=f"queue worker {number}")

    async def stop(self, seconds: float = 5.0) -> None:
        """Accept nothing more, cancel the timers and wait for passes that are under way, but not for long."""
        self._stopping = True
        self._waiting.clear()
        for key in list(self._timers):
            self.forget(key)
        self._wakeup.set()
        deadline = asyncio.get_running_loop().time() + seconds
        while self._working and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Keys being worked on."""
        return len(self._working)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way (timers aside)."""
        return not self._waiting and not self._working

    def longest(self) -> float:
        """Seconds for which the oldest pass under way has lasted, 0 when there is none."""
        now = asyncio.get_running_loop().time()
        return max((now - since for since in self._working.values()), default=0.0)

    async def _worker(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            if not self._waiting:
                self._wakeup.clear()
                await self._wakeup.wait()
                continue
            key = next(iter(self._waiting))
            added = self._waiting.pop(key)
            started = loop.time()
            self._working[key] = started
            failed = False
            try:
                async with asyncio.timeout(self._pass_seconds):
                    requeue_after = await self._work(key)
            except Exception as error:
                failed = True
                self._retry(key, error)
            else:
                self._failures.pop(key, None)
                if requeue_after is not None:
                    self.add_after(key, requeue_after)
            finally:
                del self._working[key]
                self._note(key)
                if self._watcher is not None:
                    self._watcher.passed(loop.time() - started, started - added, failed)
            if key in self._again:
                self._again.discard(key)
                if not failed:  # a failure waits its backoff, however many events it causes itself
                    self.add(key)

    def _note(self, key: K) -> None:
        now = asyncio.get_running_loop().time()
        self._passed.pop(key, None)
        self._passed[key] = now
        while self._passed[oldest := next(iter(self._passed))] < now - PAUSE:
            del self._passed[oldest]

    def _retry(self, key: K, error: Exception) -> None:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        wait = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(count - 1, 16)) * random.uniform(0.8, 1.2)
        known = isinstance(error, self._expected)
        logger.log(
            logging.WARNING if known else logging.ERROR,
            "The pass over %s failed (time %d), trying again in %.1f s: %s",
            key,
            count,
            wait,
            error or type(error).__name__,
            exc_info=None if known or count > 1 else error,
            extra=self._describe(key),
        )
        self.add_after(key, wait)
