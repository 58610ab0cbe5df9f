"""Every few minutes compares the cache with a LIST of metadata, because watches fail in silence.

kopf lists anew after a 410 without telling what vanished meanwhile, and a watch can go quiet while the process lives.
What the list shows and the cache does not have, or has in an older version even after a grace period, is fetched. If
the watch told nothing at all meanwhile, it is dead, and liveness says so; a slow one is only repaired, for a restart
would make it slower. What the cache has and the list does not show any more is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from distillrun.cluster.cache import Cache, Id, Key, version
from distillrun.cluster.client import Client
from distillrun.cluster.errors import ApiError
from distillrun.cluster.metrics import Metrics
from distillrun.cluster.resources import CHILDREN, JOB, POD, RUN, Resource
from distillrun.plan.names import LABEL_RUN

logger = logging.getLogger(__name__)

ORDER = (RUN, JOB, POD, *(each for each in CHILDREN if each not in (JOB, POD)))
"""A run's status names Jobs and a Job's end follows its pods': what is listed later must not be older."""
INTERVAL = 300.0
FIRST_AFTER = 5.0
"""Seconds between checks, and from the start of the watches to the first check: what vanished between our first list
and the watches' own is found by it."""
GRACE = 30.0
"""Seconds that the watch is given to tell what a list already shows."""


@dataclass(frozen=True)
class Seen:
    """One object in a list of metadata."""

    uid: str
    version: int


class Relist:
    """Fills the cache at the start and keeps it honest afterwards."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        metrics: Metrics,
        changed: Callable[[Key], None],
        namespaces: Iterable[str] = (),
        *,
        interval: float = INTERVAL,
        grace: float = GRACE,
    ) -> None:
        """`changed` is called with the key of a run of which something was found. No namespaces: the whole cluster."""
        self.client = client
        self.cache = cache
        self.metrics = metrics
        self.changed = changed
        self.scopes: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self.interval = interval
        self.grace = grace
        self.synced = False
        self.silent: dict[str, int] = {}
        """By kind: objects that the last check found while the watch of that kind told nothing at all."""
        self._heard: Counter[str] = Counter()

    def heard(self, kind: str) -> None:
        """The watch of that kind told something."""
        self._heard[kind] += 1

    async def fill(self) -> None:
        """List everything whole and remember it. Raises ApiError when a list fails for good."""
        for resource in ORDER:
            for scope in self.scopes:
                async for page in self.client.list(resource, scope, labels=_selector(resource)):
                    for body in page.items:
                        self.cache.upsert(resource.kind, body)
        self.synced = True

    async def catch_up(self) -> None:
        """Make the cache as new as the API server now, for a process that begins to lead. Raises ApiError.

        The watches of a standby may lag, each by its own time: without this, a Job that status names but that the cache
        does not have yet would pass for one that was deleted.
        """
        for resource in ORDER:
            listed, as_of = await self._list(resource)
            self._drop_vanished(resource, listed, as_of)
            for ident in self._behind(listed):
                await self._fetch(resource, ident, level=logging.DEBUG)

    async def run(self) -> None:
        """Check until cancelled. A check that fails says so in the log and is done again at its next time."""
        await asyncio.sleep(min(FIRST_AFTER, self.interval))
        while True:
            for resource in ORDER:
                try:
                    await self.check(resource)
                except ApiError as error:
                    logger.warning("The relist check of %s failed: %s", resource.plural, error)
            self.metrics.watch_silent.set(sum(self.silent.values()))
            await asyncio.sleep(self.interval)

    async def check(self, resource: Resource) -> None:
        """Compare one kind. Raises ApiError when it cannot be listed."""
        listed, as_of = await self._list(resource)
        self._drop_vanished(resource, listed, as_of)
        behind = self._behind(listed)
        heard = self._heard[resource.kind]
        if behind:
            await asyncio.sleep(self.grace)
            behind = {ident: seen for ident, seen in self._behind(listed).items() if ident in behind}
        found = 0
        for ident in behind:
            found += await self._fetch(resource, ident)
        self.silent[resource.kind] = found if heard == self._heard[resource.kind] else 0

    def _drop_vanished(self, resource: Resource, listed: dict[Id, Seen], as_of: dict[str | None, int]) -> None:
        for ident, entry in self.cache.of_kind(resource.kind).items():
            # An object younger than the list may well be missing from it.
            limit = as_of[None] if None in as_of else as_of.get(ident[1], 0)
            seen = listed.get(ident)
            if entry.version > limit or (seen is not None and seen.uid == entry.uid):
                continue
            key = self.cache.drop(ident, entry.uid, limit)
            self._found(ident, "vanished", key)

    def _behind(self, listed: dict[Id, Seen]) -> dict[Id, Seen]:
        return {ident: seen for ident, seen in listed.items() if not self.cache.knows(ident, seen.uid, seen.version)}

    async def _fetch(self, resource: Resource, ident: Id, level: int = logging.WARNING) -> bool:
        """Read one object. Whether the cache needed it."""
        try:
            body = await self.client.get(resource, ident[1], ident[2])
        except ApiError as error:
            if error.not_found:
                return False
            raise
        if self.cache.knows(ident, str(body["metadata"].get("uid")), version(body)):
            return False
        what = "stale" if self.cache.get(ident) is not None else "unseen"
        self._found(ident, what, self.cache.upsert(resource.kind, body), level)
        return True

    def _found(self, ident: Id, what: str, key: Key | None, level: int = logging.WARNING) -> None:
        kind, namespace, name = ident
        about = {"namespace": namespace, "kind": kind, "object": name}
        about |= {"run": key[1]} if key is not None else {}
        logger.log(level, "The watch had missed %s %s/%s: %s.", kind, namespace, name, what, extra=about)
        if level == logging.WARNING:
            self.metrics.relist_found.labels(kind, what).inc()
        changed = (namespace, name) if kind == RUN.kind else key
        if changed is not None:
            self.changed(changed)

    async def _list(self, resource: Resource) -> tuple[dict[Id, Seen], dict[str | None, int]]:
        listed: dict[Id, Seen] = {}
        as_of: dict[str | None, int] = {}
        for scope in self.scopes:
            pages = self.client.list(resource, scope, labels=_selector(resource), metadata_only=True)
            async for page in pages:
                # The first page's version is that of the whole list.
                as_of.setdefault(scope, _int(page.resource_version))
                for item in page.items:
                    meta: dict[str, Any] = item.get("metadata") or {}
                    ident = (resource.kind, str(meta.get("namespace")), str(meta.get("name")))
                    listed[ident] = Seen(str(meta.get("uid")), version(item))
        return listed, as_of


def _selector(resource: Resource) -> str | None:
    return None if resource is RUN else LABEL_RUN


def _int(value: str) -> int:
    return int(value) if value.isdigit() else 0
