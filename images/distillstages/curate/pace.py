"""How fast an endpoint may be asked: requests and tokens a minute and requests a day, kept exactly and in turn.

What counts is when a request is sent. In no 60 seconds (24 hours), wherever one lays them, are more requests sent than
the limit says. A request's tokens count at their upper bound (its bytes and maxTokens) until the answer says how many
they were. Requests a minute are spread over the minute too, since servers often count by the second.

Minutes are read off the monotonic clock, and a process that continues another's work takes the minute as used up. Days
outlive processes: requests of a day are reserved in the journal, a few at a time, before they are sent. A reservation
holds for a minute and counts from that minute's end; what it left over is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from distillstages.common import reasons
from distillstages.common.blocks import Teacher
from distillstages.common.exit import StageError, Temporary

MINUTE: Final = 60.0
DAY: Final = 86_400.0
IN_PLACE: Final = 300.0
"""Seconds that a process waits for the day's limit itself; for more than that it ends, and no pod waits."""
_SHORTEST: Final = 0.001
_BLOCK: Final = 64


class Ledger(Protocol):
    """What outlives a process. See `Journal`."""

    async def reserve(self, until: float, requests: int) -> None:
        """Record, before any is sent, requests that are sent until then (seconds since 1970); negative: given back."""


class Paused(Exception):
    """No request may be sent now, and it is not worth waiting: the day's limit is reached, or the stage is to stop."""


@dataclass(slots=True)
class Entry:
    """So much was sent at that time."""

    at: float
    amount: int
    forgotten: bool = False


class Window:
    """At most `limit` in any half-open span of `seconds`; what alone is more than the limit counts as the limit."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self.used = 0
        self._entries: deque[Entry] = deque()

    def wait(self, amount: int, now: float) -> float:
        """Seconds until `amount` more fit, if nothing else is sent meanwhile."""
        while self._entries and self._entries[0].at + self.seconds <= now:
            old = self._entries.popleft()
            old.forgotten = True
            self.used -= old.amount
        excess = self.used + min(amount, self.limit) - self.limit
        for entry in self._entries:
            if excess <= 0:
                break
            excess -= entry.amount
            if excess <= 0:
                return entry.at + self.seconds - now
        return 0.0

    def add(self, amount: int, at: float) -> Entry:
        """Count `amount`. Times never decrease."""
        entry = Entry(at, min(amount, self.limit))
        self._entries.append(entry)
        self.used += entry.amount
        return entry

    def correct(self, entry: Entry, amount: int) -> None:
        """It was not as much as was counted."""
        change = min(amount, entry.amount) - entry.amount
        entry.amount += change
        if not entry.forgotten:
            self.used += change


class Bucket:
    """Spreads requests over the minute: a second's worth at once, the rest at the limit's rate."""

    def __init__(self, a_minute: int) -> None:
        self._rate = a_minute / MINUTE
        self._most = max(1.0, self._rate)
        self._level = self._most
        self._at = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until a request may be sent."""
        self._level = min(self._most, self._level + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._level >= 1 - 1e-9 else (1 - self._level) / self._rate

    def take(self) -> None:
        """A request is sent; `wait` has just said 0."""
        self._level -= 1


class Days:
    """Requests in any 24 hours, over all processes: times are seconds since 1970."""

    def __init__(self, limit: int, ledger: Ledger, reserved: Iterable[tuple[float, int]]) -> None:
        self.limit = limit
        self._ledger = ledger
        blocks: dict[float, int] = {}
        for until, requests in reserved:
            blocks[until] = blocks.get(until, 0) + requests
        self._blocks = blocks
        self._until = -math.inf
        self._left = 0

    def free(self, now: float) -> int:
        """Requests that may be reserved."""
        for until in [until for until in self._blocks if until + DAY <= now]:
            del self._blocks[until]
        return self.limit - sum(self._blocks.values())

    def wait(self, wanted: int, now: float) -> float:
        """Seconds until so many are free (at most the limit)."""
        missing = min(wanted, self.limit) - self.free(now)
        for until in sorted(self._blocks):
            if missing <= 0:
                break
            missing -= self._blocks[until]
            if missing <= 0:
                return until + DAY - now
        return 0.0

    async def take(self, now: Callable[[], float]) -> bool:
        """Whether a request may be sent; when it may, it is recorded. Raises StageError when that cannot be written."""
        while not self._left or now() >= self._until:
            await self.give_back()
            at = now()
            number = min(_BLOCK, max(1, self.limit // 100), self.free(at))
            if number <= 0:
                return False
            until = at + MINUTE
            await self._ledger.reserve(until, number)
            self._blocks[until] = self._blocks.get(until, 0) + number
            self._until, self._left = until, number
        self._left -= 1
        return True

    async def give_back(self) -> None:
        """Nothing more is sent out of the reservation at hand. Raises StageError."""
        left, self._left = self._left, 0
        if left:
            await self._ledger.reserve(self._until, -left)
            self._blocks[self._until] -= left


class Pacer:
    """Lets requests through one after the other, in the order in which they come.

    `reserved` is what earlier processes have reserved of the day, `continued` says that there were some; `clock` is
    monotonic and `wall` counts from 1970, both in seconds; `sleep` is for tests."""

    def __init__(
        self,
        config: Teacher,
        ledger: Ledger,
        reserved: Iterable[tuple[float, int]] = (),
        *,
        continued: bool = False,
        stopping: asyncio.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._config = config
        self._requests = Window(config.requests_per_minute, MINUTE) if config.requests_per_minute else None
        self._bucket = Bucket(config.requests_per_minute) if config.requests_per_minute else None
        self._tokens = Window(config.tokens_per_minute, MINUTE) if config.tokens_per_minute else None
        self._days = Days(config.requests_per_day, ledger, reserved) if config.requests_per_day else None
        self._stopping = stopping or asyncio.Event()
        self._clock = clock
        self._sleep = sleep or self._sleep_or_stop
        # A wall clock that is set while we run must not shorten a day.
        self._epoch = wall() - clock()
        self._turn = asyncio.Lock()
        self.exhausted = False
        """Whether the day's limit has stopped us."""
        if continued:
            for window in (self._requests, self._tokens):
                if window is not None:
                    window.add(window.limit, clock())

    async def admit(self, tokens: int) -> Entry | None:
        """Wait for this request's turn; it must be sent at once. `tokens`: most that it may come to. What is returned
        is for `used`. Raises Paused, and StageError when the journal cannot be written."""
        if self._requests is None and self._tokens is None and self._days is None:
            return None
        async with self._turn:
            while (wait := self._minute(tokens)) > 0:
                await self._pause(wait)
            if self._days is not None:
                await self._day(self._days)
            now = self._clock()
            if self._requests is not None and self._bucket is not None:
                self._requests.add(1, now)
                self._bucket.take()
            return self._tokens.add(tokens, now) if self._tokens is not None else None

    def used(self, entry: Entry | None, tokens: int) -> None:
        """An admitted request came to so many tokens."""
        if entry is not None and self._tokens is not None:
            self._tokens.correct(entry, tokens)

    async def close(self) -> None:
        """No more requests: what was reserved and not sent is given back, if the journal still can be written."""
        if self._days is not None:
            with contextlib.suppress(StageError):
                await self._days.give_back()

    def postponed(self, who: str, remaining: int) -> Temporary:
        """How the stage ends at the day's limit: it goes on once a tenth of it (or all that is wanted) is free."""
        assert self._days is not None
        now = self._wall()
        wait = self._days.wait(min(max(1, self._days.limit // 10), max(1, remaining)), now)
        until = datetime.fromtimestamp(now + wait, UTC)
        return Temporary(
            f"{who} has been asked its requestsPerDay of {self._days.limit} times in 24 hours; {remaining} answers are"
            f" missing, and asking goes on at {until:%Y-%m-%d %H:%M} UTC",
            reason=reasons.TEACHER_DAILY_LIMIT,
            retry_after_seconds=math.ceil(wait),
        )

    def _wall(self) -> float:
        return self._epoch + self._clock()

    def _minute(self, tokens: int) -> float:
        now = self._clock()
        return max(
            self._requests.wait(1, now) if self._requests is not None else 0.0,
            self._bucket.wait(now) if self._bucket is not None else 0.0,
            self._tokens.wait(tokens, now) if self._tokens is not None else 0.0,
        )

    async def _day(self, days: Days) -> None:
        while not self.exhausted and not await days.take(self._wall):
            wait = days.wait(1, self._wall())
            if wait > IN_PLACE:
                self.exhausted = True
            else:
                await self._pause(wait)
        if self.exhausted:
            raise Paused

    async def _pause(self, seconds: float) -> None:
        await self._sleep(max(seconds, _SHORTEST))
        if self._stopping.is_set():
            raise Paused

    async def _sleep_or_stop(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
