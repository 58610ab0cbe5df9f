"""The operator's own metrics, and the runs' progress as gauges. No label value is a pod's text."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from distillrun.cluster.cache import Cache
from distillrun.cluster.progress import first_pods

RUN_LIMIT = 2000
"""Runs whose progress is exported at most."""
PROGRESS = {
    "progress_done": "Units of work done (questions, steps or answers).",
    "progress_total": "Units of work in all.",
    "traces_accepted": "Traces accepted by curation.",
    "loss": "Training loss of the last step.",
    "gradient_norm": "Norm of the gradient of the last step.",
    "learning_rate": "Learning rate of the last step.",
    "tokens_per_second": "Tokens a second, all ranks together.",
    "step_seconds": "Seconds of the last training step.",
    "checkpoint_step": "Step of the last checkpoint.",
    "checkpoint_timestamp_seconds": "Unix time of the last checkpoint.",
}
"""What is exported of a stage's numbers, all without labels of the stage's own."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class Metrics:
    """All metrics of one operator, in a registry of its own."""

    def __init__(self, cache: Cache) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.reconcile_seconds = Histogram(
            "distillrun_reconcile_seconds", "Time of one pass over a run.", buckets=BUCKETS, registry=registry
        )
        self.reconcile_failures = Counter("distillrun_reconcile_failures", "Passes that failed.", registry=registry)
        self.queue_wait = Histogram(
            "distillrun_queue_wait_seconds", "Time a run waited for a free worker.", buckets=BUCKETS, registry=registry
        )
        self.queue_depth = Gauge("distillrun_queue_depth", "Runs that wait for a worker.", registry=registry)
        self.requests = Counter(
            "distillrun_api_requests",
            "Requests to the API server; code 0: no answer.",
            ["verb", "kind", "code"],
            registry=registry,
        )
        self.watch_events = Counter("distillrun_watch_events", "Watch events.", ["kind"], registry=registry)
        self.watch_last = Gauge(
            "distillrun_watch_last_event_timestamp_seconds",
            "Unix time of the last watch event.",
            ["kind"],
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
        self.leader = Gauge("distillrun_leader", "1 while this process may write.", registry=registry)
        registry.register(_CacheCollector(cache))
        ProcessCollector(registry=registry)

    def passed(self, seconds: float, waited: float, failed: bool) -> None:
        """One pass of the queue (seconds worked, seconds waited)."""
        self.reconcile_seconds.observe(seconds)
        self.queue_wait.observe(waited)
        if failed:
            self.reconcile_failures.inc()

    def requested(self, verb: str, kind: str, code: int) -> None:
        """One answer of the API server."""
        self.requests.labels(verb, kind, str(code)).inc()

    def watched(self, kind: str) -> None:
        """One watch event."""
        self.watch_events.labels(kind).inc()
        self.watch_last.labels(kind).set(time.time())

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _CacheCollector(Collector):
    """Reads the cache when somebody scrapes, so that what is gone is not exported."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def collect(self) -> Iterator[Metric]:
        phases = GaugeMetricFamily("distillrun_runs", "Runs by phase.", labels=["phase"])
        for phase, count in sorted(self.cache.phases().items()):
            phases.add_metric([phase], count)
        objects = GaugeMetricFamily("distillrun_cache_objects", "Objects remembered.", labels=["kind"])
        for kind, count in sorted(self.cache.counts().items()):
            objects.add_metric([kind], count)
        yield from (phases, objects)
        families = {
            name: GaugeMetricFamily(f"distillrun_run_{name}", text, labels=["namespace", "run", "stage"])
            for name, text in PROGRESS.items()
        }
        for number, (run, pod) in enumerate(first_pods(self.cache)):
            scrape = self.cache.scrape(pod)
            if number >= RUN_LIMIT:
                break
            if scrape is None:
                continue
            for name, family in families.items():
                if name in scrape.numbers:
                    family.add_metric([run.namespace, run.name, pod.stage], scrape.numbers[name])
        yield from families.values()
