"""The operator's own metrics: passes, requests, watches, leadership, and what it has written into statuses.

What *is* (runs, stages, cost) is read off the cache at every scrape (runmetrics.py) and is right in every replica and
after a restart. What *happened* is counted here, once: by the process whose status write said it, when the API server
took that write. A restart begins at zero and counts nothing again; an end that was written in the last seconds before
a crash may go uncounted. No label value is a pod's text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric

from distillrun import __version__
from distillrun.cluster.cache import Cache
from distillrun.cluster.knownreasons import named
from distillrun.cluster.runmetrics import OTHER, RunCollector
from distillrun.cluster.transitions import Transition
from distillrun.cluster.watchlag import WatchLag
from distillrun.plan.model import Run

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
LAG_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300)
STAGE_BUCKETS = (10, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 57600, 86400, 172800, 345600)
"""Seconds: a cached stage takes ten, the longest recipe (Sky-T1) nineteen hours."""
LIMITS = {"namespace": 1000, "currency": 50}
"""Values of a label that counters tell apart; later ones are counted together, as OTHER."""


class Metrics:
    """All metrics of one operator, in a registry of its own."""

    def __init__(self, cache: Cache) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        build = Gauge("distillrun_build_info", "1; the operator's version.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self.leader = Gauge("distillrun_leader", "1 while this process may write.", registry=registry)
        self._passes(registry)
        self._writes(registry)
        self._watches(registry)
        self.lag = WatchLag(cache, lambda kind, seconds: self.watch_lag.labels(kind).observe(seconds))
        registry.register(RunCollector(cache, self.lag))
        ProcessCollector(registry=registry)
        self._seen: dict[str, set[str]] = {"namespace": set(), "currency": set()}

    def _passes(self, registry: CollectorRegistry) -> None:
        self.reconcile_seconds = Histogram(
            "distillrun_reconcile_seconds", "Time of one pass over a run.", buckets=BUCKETS, registry=registry
        )
        self.reconcile_failures = Counter("distillrun_reconcile_failures", "Passes that failed.", registry=registry)
        self.queue_wait = Histogram(
            "distillrun_queue_wait_seconds", "Time a run waited for a free worker.", buckets=BUCKETS, registry=registry
        )
        self.queue_depth = Gauge("distillrun_queue_depth", "Runs that wait for a worker.", registry=registry)
        self.queue_busy = Gauge("distillrun_queue_busy_workers", "Passes under way.", registry=registry)
        self.queue_longest = Gauge(
            "distillrun_queue_longest_pass_seconds", "How long the oldest pass under way has lasted.", registry=registry
        )

    def _writes(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "distillrun_api_requests",
            "Requests to the API server; code 0: no answer.",
            ["verb", "kind", "code"],
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "distillrun_stage_duration_seconds",
            "From a stage's first pod to its end; 0 where no pod ran.",
            ["stage", "outcome"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.attempt_failures = Counter(
            "distillrun_attempt_failures", "Attempts that ended by a fault.", ["stage", "reason"], registry=registry
        )
        self.preemptions = Counter(
            "distillrun_preemptions",
            "Attempts that ended by a disruption.",
            ["namespace", "stage"],
            registry=registry,
        )
        self.releases = Counter(
            "distillrun_releases",
            "Attempts let go because some of their pods could not start.",
            ["namespace", "stage"],
            registry=registry,
        )
        self.runs_failed = Counter(
            "distillrun_runs_failed", "Runs that have failed.", ["namespace", "reason"], registry=registry
        )
        self.gpu_seconds = Counter(
            "distillrun_gpu_seconds_used", "GPU-seconds of runs' pods.", ["namespace", "stage"], registry=registry
        )
        self.cost = Counter("distillrun_cost_spent", "Cost of runs.", ["namespace", "currency"], registry=registry)

    def _watches(self, registry: CollectorRegistry) -> None:
        self.watch_events = Counter("distillrun_watch_events", "Watch events.", ["kind"], registry=registry)
        self.watch_last = Gauge(
            "distillrun_watch_last_event_timestamp_seconds",
            "Unix time of the last watch event.",
            ["kind"],
            registry=registry,
        )
        self.watch_lag = Histogram(
            "distillrun_watch_lag_seconds",
            "Time from the answer to a write of ours until the watch told it.",
            ["kind"],
            buckets=LAG_BUCKETS,
            registry=registry,
        )
        self.relist_found = Counter(
            "distillrun_relist_found",
            "Objects that the watch had missed (vanished, unseen, stale).",
            ["kind", "what"],
            registry=registry,
        )
        self.watch_silent = Gauge(
            "distillrun_watch_silent_objects",
            "Objects that the last relist found while their watch told nothing.",
            registry=registry,
        )

    def passed(self, seconds: float, waited: float, failed: bool) -> None:
        """One pass of the queue (seconds worked, seconds waited)."""
        self.reconcile_seconds.observe(seconds)
        self.queue_wait.observe(waited)
        if failed:
            self.reconcile_failures.inc()

    def requested(self, verb: str, kind: str, code: int) -> None:
        """One answer of the API server."""
        self.requests.labels(verb, kind, str(code)).inc()

    def watched(self, kind: str, body: Mapping[str, Any]) -> None:
        """One watch event about this object."""
        self.watch_events.labels(kind).inc()
        self.watch_last.labels(kind).set(time.time())
        self.lag.told(kind, body)

    def wrote(self, kind: str, body: Mapping[str, Any]) -> None:
        """The API server took a write of ours and answered with this object."""
        self.lag.wrote(kind, body)

    def changed(self, run: Run, told: Transition) -> None:
        """A status was written that says this."""
        namespace = self._bounded("namespace", run.namespace)
        for end in told.ends:
            self.stage_seconds.labels(end.stage, end.outcome).observe(end.seconds)
        for each in told.counted:
            if each.what == "failures":
                self.attempt_failures.labels(each.stage, named(each.reason)).inc(each.count)
            elif each.what == "preemptions":
                self.preemptions.labels(namespace, each.stage).inc(each.count)
            else:
                self.releases.labels(namespace, each.stage).inc(each.count)
        if told.failed:
            self.runs_failed.labels(namespace, named(told.failed)).inc()
        for stage, seconds in told.gpu_seconds.items():
            self.gpu_seconds.labels(namespace, stage).inc(seconds)
        if told.spent:
            self.cost.labels(namespace, self._bounded("currency", told.currency)).inc(float(told.spent))

    def snapshot(self) -> Callable[[], bytes]:
        """All metrics as they are now; the function that is returned writes them as Prometheus' text, in any thread.

        With thousands of running stages that takes longer than the event loop should stand still.
        """
        taken = _Taken(list(self.registry.collect()))
        return lambda: generate_latest(taken)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return self.snapshot()()

    def _bounded(self, label: str, value: str) -> str:
        """The value, or OTHER when there have been too many."""
        seen = self._seen[label]
        if value not in seen:
            if len(seen) >= LIMITS[label]:
                return OTHER
            seen.add(value)
        return value


class _Taken(CollectorRegistry):
    """Families that were collected before."""

    def __init__(self, families: list[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families
