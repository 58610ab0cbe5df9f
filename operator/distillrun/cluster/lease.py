"""Leadership: one operator writes, the others wait with warm caches.

The kubernetes package ships an elector, but it trusts the wall clock and stops nothing by itself. Here every write
first calls `check()`, which compares a deadline with CLOCK_BOOTTIME: it goes on while a machine sleeps or a process is
stopped, and nobody sets it. Clocks of two machines are never compared; a candidate measures on its own clock for how
long it has seen a lease unchanged.

The API offers no fencing: a write that has already left when the deadline passes still arrives. Such a write is
harmless by resourceVersion, UID precondition and POST-once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from distillrun.cluster.client import Client
from distillrun.cluster.errors import ApiError
from distillrun.cluster.resources import LEASE

logger = logging.getLogger(__name__)

DURATION = 10.0
"""Seconds after which a lease that nobody renews may be taken."""
DEADLINE = 8.0
"""Seconds after the start of the last successful renewal until which we may write. The rest of DURATION is slack."""
RENEW = 3.0
RETRY = 0.5
POLL = 1.0
REQUEST = 3.0
"""Seconds between renewals, after one that failed, between looks of a candidate, and allowed to one request."""


class NotLeader(Exception):
    """This process may not write: it never led, or its lease ran out."""


def boottime() -> float:
    """Seconds on a clock that nobody sets and that goes on during sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """A coordination.k8s.io Lease held, or waited for, by this process.

    The client must have no guard: renewing a lease is what makes the guard pass.
    """

    def __init__(
        self, client: Client, namespace: str, name: str, identity: str, *, clock: Callable[[], float] = boottime
    ) -> None:
        self.client = client
        self.namespace = namespace
        self.name = name
        self.identity = identity
        self.clock = clock
        self.left: datetime | None = None
        """When the leader before this process last said so, by its clock; None when there was none."""
        self._deadline = float("-inf")
        self._held = False
        self._version = ""
        self._seen: tuple[str, str, str] | None = None
        self._seen_at = float("-inf")

    @property
    def leading(self) -> bool:
        """Whether a write is allowed now."""
        return self.clock() < self._deadline

    def check(self) -> None:
        """Raise NotLeader unless a write is allowed now. Called right before every write."""
        if not self.leading:
            raise NotLeader(f"{self.identity} does not hold the lease {self.namespace}/{self.name} (any more)")

    async def acquire(self) -> None:
        """Wait until this process leads."""
        told = ""
        while True:
            holder = await self._try()
            if holder is None:
                logger.info("Leading: %s holds the lease %s/%s.", self.identity, self.namespace, self.name)
                return
            if holder != told:
                logger.info("Standing by: %s holds the lease %s/%s.", holder, self.namespace, self.name)
                told = holder
            await asyncio.sleep(POLL * random.uniform(0.8, 1.0))

    async def keep(self, regained: Callable[[], None]) -> None:
        """Renew for ever. Raises NotLeader as soon as another process is seen to hold the lease.

        A renewal that comes too late (no answer for a while, a starved machine) is not yet a loss: nothing was written
        after the deadline, and a renewal that succeeds afterwards proves, by its resourceVersion, that nobody led in
        between. `regained` is called then, because passes in that time have failed.
        """
        while True:
            await asyncio.sleep(RENEW)
            late = False
            while not await self._renew():
                if not self.leading and not late:
                    late = True
                    logger.warning("The lease %s/%s is not renewed in time: writing stops.", self.namespace, self.name)
                await asyncio.sleep(RETRY)
            if late:
                logger.warning("The lease %s/%s is renewed: writing goes on.", self.namespace, self.name)
                regained()

    async def release(self) -> None:
        """Give the lease back, so that a successor starts at once. A failure is only logged.

        Also after the deadline: the resourceVersion keeps it from touching a lease that another has taken.
        """
        if not self._held:
            return
        self._lose()
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            async with asyncio.timeout(REQUEST):
                await self._patch(spec)
            logger.info("Released the lease %s/%s.", self.namespace, self.name)
        except (ApiError, TimeoutError) as error:
            logger.warning("The lease %s/%s was not released: %s", self.namespace, self.name, error)

    async def _try(self) -> str | None:
        """One attempt to lead. None when we do; otherwise who does, or why not."""
        try:
            async with asyncio.timeout(REQUEST):
                lease = await self.client.get(LEASE, self.namespace, self.name, retry=False)
        except ApiError as error:
            if error.not_found:
                return await self._create()
            return f"nobody known ({error})"
        except TimeoutError:
            return "nobody known (no answer)"
        spec = lease.get("spec") or {}
        version = str(lease["metadata"].get("resourceVersion"))
        holder = str(spec.get("holderIdentity") or "")
        state = (version, holder, str(spec.get("renewTime")))
        now = self.clock()
        if state != self._seen:
            self._seen, self._seen_at = state, now
        duration = float(spec.get("leaseDurationSeconds") or DURATION)
        if holder and holder != self.identity and now < self._seen_at + duration:
            return holder
        transitions = int(spec.get("leaseTransitions") or 0) + (holder != self.identity)
        self._version = version
        self.left = _time(spec.get("renewTime"))
        taken = self._spec() | {"acquireTime": _now(), "leaseTransitions": transitions}
        try:
            await self._hold(self._patch(taken))
        except (ApiError, TimeoutError) as error:
            return f"another candidate ({error})"
        return None

    async def _create(self) -> str | None:
        body = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": self._spec() | {"acquireTime": _now(), "leaseTransitions": 0},
        }
        try:
            await self._hold(self.client.create(LEASE, self.namespace, body, retry=False))
        except (ApiError, TimeoutError) as error:
            return f"another candidate ({error})"
        return None

    async def _renew(self) -> bool:
        """Renew once. Raises NotLeader when another process has taken the lease."""
        try:
            await self._hold(self._patch(self._spec()))
        except TimeoutError:
            return False
        except ApiError as error:
            if not error.conflict and not error.not_found:
                logger.warning("The lease %s/%s was not renewed: %s", self.namespace, self.name, error)
                return False
            return await self._reclaim()
        return True

    async def _reclaim(self) -> bool:
        """The lease changed under us: somebody edited it, our own write arrived unanswered, or it was taken."""
        try:
            async with asyncio.timeout(REQUEST):
                lease = await self.client.get(LEASE, self.namespace, self.name, retry=False)
        except (ApiError, TimeoutError) as error:
            gone = isinstance(error, ApiError) and error.not_found
            return gone and await self._create() is None
        holder = (lease.get("spec") or {}).get("holderIdentity")
        if holder != self.identity:
            self._lose()
            raise NotLeader(f"{holder or 'nobody'} holds the lease {self.namespace}/{self.name} now.")
        self._version = str(lease["metadata"].get("resourceVersion"))
        return False

    async def _hold(self, request: Any) -> None:
        """Await a request that makes us the holder; the right to write counts from its start."""
        start = self.clock()
        async with asyncio.timeout(REQUEST):
            lease = await request
        self._version = str(lease["metadata"].get("resourceVersion"))
        self._deadline = start + DEADLINE
        self._held = True

    def _lose(self) -> None:
        self._deadline = float("-inf")
        self._held = False

    async def _patch(self, spec: dict[str, Any]) -> dict[str, Any]:
        body = {"metadata": {"resourceVersion": self._version}, "spec": spec}
        return await self.client.patch(LEASE, self.namespace, self.name, body, retry=False)

    def _spec(self) -> dict[str, Any]:
        return {"holderIdentity": self.identity, "leaseDurationSeconds": int(DURATION), "renewTime": _now()}


def _now() -> str:
    """MicroTime of the API. Who leads is not decided by it, only how much of a server's cost nobody watched."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
