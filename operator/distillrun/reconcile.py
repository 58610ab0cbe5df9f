"""One pass over one run: observe → plan → build → apply → status.

The same pass serves a new run, a change, a retry, a timer and a restarted operator: it looks at what there is and does
what is missing. What it knows beyond the cluster is only which names were refused to it by the pass before.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from distillrun.cluster.apply import Applier, RunGone, StaleRun
from distillrun.cluster.cache import Cache, Key
from distillrun.cluster.events import Recorder
from distillrun.cluster.evidence import Evidence
from distillrun.cluster.logs import about
from distillrun.plan.model import Conflict, Decision, Observed, Refusal, Run, Settings, Want

logger = logging.getLogger(__name__)

Planner = Callable[[Run, Observed, datetime, Settings], Decision]
Builder = Callable[[Want, Run, Settings], dict[str, Any]]
Met = Conflict | Refusal
Troubles = dict[tuple[str, str], tuple[Met, datetime]]
"""By (kind, name): what was met, and until when it counts if nobody asks for that name again."""
MEMORY = timedelta(seconds=60)

PLANS_PER_PASS = 4
"""How often a pass plans anew (a stale run, a name that is taken) before it leaves the rest to the next one."""


class Reconciler:
    """The passes over all runs. `await reconciler(key)` is one of them."""

    def __init__(
        self,
        cache: Cache,
        applier: Applier,
        evidence: Evidence,
        recorder: Recorder,
        settings: Settings,
        *,
        plan: Planner,
        build: Builder,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.cache = cache
        self.applier = applier
        self.evidence = evidence
        self.recorder = recorder
        self.settings = settings
        self.plan = plan
        self.build = build
        self.clock = clock
        self.left: datetime | None = None
        """When the operator before this one was last known to lead; None when there was none."""
        self._troubles: dict[Key, tuple[str, Troubles]] = {}
        self._first: dict[Key, datetime | None] = {}
        """When this process first looked at a run; None once what happened before that is in the status."""

    async def __call__(self, key: Key) -> float | None:
        """Do what is to be done for a run. The number of seconds after which to look again, or None."""
        run = self.cache.run(key)
        if run is None:
            self._forget(key)
            return None
        with about(run):
            try:
                return await self._pass(key, run)
            except RunGone as gone:
                logger.info("Stopped: %s", gone)
                return None

    async def _pass(self, key: Key, run: Run) -> float | None:
        attempted: set[tuple[str, str]] = set()
        for _ in range(PLANS_PER_PASS):
            observed, again = await self._observe(key, run)
            decision = self.plan(run, observed, self.clock(), self.settings)
            if await self._ensure(key, run, decision, attempted):
                continue  # a name is taken, or free again: plan with that before the status is written
            try:
                run = await self._status(run, decision)
                self._first[key] = None
            except StaleRun:
                fresh = await self.applier.reread(run)
                if fresh is None:
                    raise RunGone(f"DistillRun {run.namespace}/{run.name} is gone") from None
                run = fresh
                continue
            for ref in decision.delete:
                await self.applier.delete(run, ref)
            for event in decision.events:
                await self.recorder.post(run, event)
            return min((wait for wait in (decision.requeue_after, again) if wait is not None), default=None)
        return 0.2  # somebody else keeps writing: let them finish

    async def _observe(self, key: Key, run: Run) -> tuple[Observed, float | None]:
        """What the cache knows, with what it may not have been told yet, and which names the last pass did not get.

        And the number of seconds after which to look again for what no watch will tell.
        """
        now = self.clock()
        observed = self.cache.observe(run)
        if await self.evidence.endings(run, observed):
            observed = self.cache.observe(run)
        refused, again = await self.evidence.refusals(run, observed, now)
        troubles = self._remembered(key, run)
        for name in [name for name, (_, until) in troubles.items() if until < now]:
            del troubles[name]
        met = [met for met, _ in troubles.values()]
        observed = dataclasses.replace(
            observed,
            conflicts=tuple(each for each in met if isinstance(each, Conflict)),
            refusals=(*(each for each in met if isinstance(each, Refusal)), *refused),
            unwatched=self._unwatched(key, now),
        )
        return observed, again

    def _unwatched(self, key: Key, now: datetime) -> tuple[datetime, datetime] | None:
        """The time before this process's first look at a run, as long as no pass has got to its end."""
        first = self._first.setdefault(key, now)
        return (self.left, first) if self.left is not None and first is not None else None

    async def _ensure(self, key: Key, run: Run, decision: Decision, attempted: set[tuple[str, str]]) -> bool:
        """Create and apply what must exist. Whether that changed what is known of names that are taken or refused.

        They come in the order in which they need each other: what follows a name that was not got is not made, or a
        Job would run with somebody else's configuration. Such a name is not asked for twice in one pass.
        """
        troubles = self._remembered(key, run)
        changed = False
        for want in decision.ensure:
            name = (want.kind, want.name)
            if name in attempted:
                break
            if self.applier.has(run, want):
                met = None
            else:
                met = await self.applier.ensure(run, self.build(want, run, self.settings), immutable=want.immutable)
            if met is None:
                changed |= troubles.pop(name, None) is not None
                continue
            attempted.add(name)
            known = troubles.get(name)
            if known is None or known[0] != met:
                changed = True
                logger.warning("%s", _words(met))
            troubles[name] = (met, self.clock() + MEMORY)
            break
        return changed

    async def _status(self, run: Run, decision: Decision) -> Run:
        return run if decision.status is None else await self.applier.status(run, decision.status)

    def _remembered(self, key: Key, run: Run) -> Troubles:
        uid, troubles = self._troubles.get(key, ("", {}))
        if uid != run.uid:
            troubles = {}
            self._troubles[key] = (run.uid, troubles)
        return troubles

    def _forget(self, key: Key) -> None:
        uid, _ = self._troubles.pop(key, ("", {}))
        self._first.pop(key, None)
        self.applier.forget(uid)
        self.evidence.forget(uid)


def _words(met: Met) -> str:
    if isinstance(met, Conflict):
        return f"{met.kind} {met.name} exists and belongs to {met.owner}; it is left alone."
    return f"{met.kind} {met.name} was refused: {met.message}"
