"""How far the watches lag: the time until a write of ours, which the API server answered, comes back through a watch.

A quiet cluster lags by nothing, since there is nothing to tell; a watch that is silent shows at the next write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distillrun.cluster.cache import Cache, Id, version

PENDING = 4096
"""Writes that are waited for at most; of more, the oldest is forgotten."""


@dataclass(frozen=True)
class _Write:
    uid: str
    version: int
    at: float


class WatchLag:
    """Remembers our own writes until their watch tells them; then `observe(kind, seconds)` is called."""

    def __init__(
        self,
        cache: Cache,
        observe: Callable[[str, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._observe = observe
        self._clock = clock
        self._pending: dict[Id, _Write] = {}

    def wrote(self, kind: str, body: Mapping[str, Any]) -> None:
        """The API server answered a write with this object. To be called before the answer goes into the cache."""
        meta = body.get("metadata") or {}
        ident = (kind, str(meta.get("namespace") or ""), str(meta.get("name") or ""))
        written = _Write(str(meta.get("uid") or ""), version(body), self._clock())
        if self._cache.knows(ident, written.uid, written.version):
            self._observe(kind, 0.0)  # the watch was faster than the answer
            return
        # A second write of an object before the first one was told: the older one is the one that is late.
        known = self._pending.get(ident)
        if known is None or known.uid != written.uid:
            self._pending.pop(ident, None)
            self._pending[ident] = written
            if len(self._pending) > PENDING:
                del self._pending[next(iter(self._pending))]

    def told(self, kind: str, body: Mapping[str, Any]) -> None:
        """A watch told of this object."""
        meta = body.get("metadata") or {}
        ident = (kind, str(meta.get("namespace") or ""), str(meta.get("name") or ""))
        written = self._pending.get(ident)
        if written is not None and (written.uid != meta.get("uid") or version(body) >= written.version):
            del self._pending[ident]
            self._observe(kind, self._clock() - written.at)

    def oldest(self) -> dict[str, float]:
        """By kind: seconds for which the oldest write has not been told. Objects that are gone are not waited for."""
        ages: dict[str, float] = {}
        now = self._clock()
        for ident, written in list(self._pending.items()):
            known = self._cache.get(ident)
            if known is None or known.uid != written.uid:
                del self._pending[ident]
                continue
            ages[ident[0]] = max(ages.get(ident[0], 0.0), now - written.at)
        return ages
