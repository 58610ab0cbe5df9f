"""Runs as gauges, read off the cache when somebody scrapes: right after a restart, and what is gone is not exported.

Every replica exports them alike, so queries take `max by (…)` over replicas before they add anything up. Labels: the
namespace (1,000 of them; the others together as `_other`), and the run's name only for series of which there are at
most RUN_LIMIT.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from distillrun.cluster.cache import Cache
from distillrun.cluster.progress import first_pods
from distillrun.cluster.runsummary import Summaries
from distillrun.cluster.watchlag import WatchLag

RUN_LIMIT = 2000
"""Runs with series of their own, at most, for each family."""
NAMESPACE_LIMIT = 1000
"""Namespaces that are told apart."""
OTHER = "_other"
"""Stands for the other namespaces; no namespace can be called so."""
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
RUN = ["namespace", "run", "stage"]
Sums = defaultdict[tuple[str, ...], float]


class RunCollector(Collector):
    """The gauges of one cache."""

    def __init__(self, cache: Cache, lag: WatchLag) -> None:
        self.cache = cache
        self.lag = lag
        self.summaries = Summaries(cache)

    def collect(self) -> Iterator[Metric]:
        """All families, each time anew."""
        yield from self._totals()
        yield from self._progress()
        objects: Mapping[tuple[str, ...], float] = {(kind,): count for kind, count in self.cache.counts().items()}
        yield _family("distillrun_cache_objects", "Objects remembered.", ["kind"], objects)
        late: Mapping[tuple[str, ...], float] = {(kind,): seconds for kind, seconds in self.lag.oldest().items()}
        yield _family("distillrun_watch_behind_seconds", "Age of our oldest write that no watch told.", ["kind"], late)

    def _totals(self) -> Iterator[Metric]:
        kept = set(sorted({namespace for namespace, _ in self.cache.run_keys()})[:NAMESPACE_LIMIT])
        phases, stages, waits, over = _sums(), _sums(), _sums(), _sums()
        gpus, seconds, cost, shares = _sums(), _sums(), _sums(), _sums()
        serving_seconds, serving_cost, serving_shares = _sums(), _sums(), _sums()
        for key, run in self.summaries.now():
            namespace = key[0] if key[0] in kept else OTHER
            phases[namespace, run.phase] += 1
            over[namespace,] += run.over_budget
            for name_and_state in run.stages:
                stages[name_and_state] += 1
            for stage, reason in run.waits:
                waits[namespace, stage, reason] += 1
            seconds[namespace,] += run.gpu_seconds
            cost[namespace, run.currency] += run.spent
            if run.budget_share is not None and len(shares) < RUN_LIMIT:
                shares[key] = run.budget_share
            serving_seconds[namespace,] += run.serving_gpu_seconds
            serving_cost[namespace, run.currency] += run.serving_spent
            if run.serving_share is not None and len(serving_shares) < RUN_LIMIT:
                serving_shares[key] = run.serving_share
        for active in self.cache.active_runs():
            for pod in self.cache.pods(active):
                if pod.gpus and pod.scheduled is not None and pod.end is None:
                    gpus[active.namespace if active.namespace in kept else OTHER,] += pod.gpus
        yield _family("distillrun_runs", "Runs by phase.", ["namespace", "phase"], phases)
        yield _family("distillrun_stages", "Stages of runs by state.", ["stage", "state"], stages)
        yield _family(
            "distillrun_stages_waiting",
            "Stages that are not over and say why they wait, or why their last attempt ended.",
            ["namespace", "stage", "reason"],
            waits,
        )
        yield _family("distillrun_runs_over_budget", "Runs that have used up their budget.", ["namespace"], over)
        yield _family("distillrun_gpus_assigned", "GPUs of pods that have a node and run on.", ["namespace"], gpus)
        yield _family("distillrun_runs_gpu_seconds", "GPU-seconds before serving of the runs.", ["namespace"], seconds)
        yield _family("distillrun_runs_cost", "Cost before serving of the runs.", ["namespace", "currency"], cost)
        yield _family(
            "distillrun_run_budget_used_ratio",
            "Share of its budget that an unfinished run has spent.",
            ["namespace", "run"],
            shares,
        )
        words = "GPU-seconds of the model servers of the runs that exist."
        yield _family("distillrun_runs_serving_gpu_seconds", words, ["namespace"], serving_seconds)
        words = "Cost of the model servers of the runs that exist."
        yield _family("distillrun_runs_serving_cost", words, ["namespace", "currency"], serving_cost)
        words = "Share of serve.maxCost that a run's model servers have used."
        yield _family("distillrun_run_max_cost_used_ratio", words, ["namespace", "run"], serving_shares)

    def _progress(self) -> Iterator[Metric]:
        families = {
            name: GaugeMetricFamily(f"distillrun_run_{name}", text, labels=RUN) for name, text in PROGRESS.items()
        }
        told = GaugeMetricFamily(
            "distillrun_run_scrape_timestamp_seconds",
            "Unix time at which the stage's first pod gave numbers last, or at which it began.",
            labels=RUN,
        )
        for number, (run, pod) in enumerate(first_pods(self.cache)):
            if number >= RUN_LIMIT:
                break
            scrape = self.cache.scrape(pod)
            labels = [run.namespace, run.name, pod.stage]
            at = scrape.at if scrape is not None else pod.started or pod.created
            told.add_metric(labels, at.timestamp())
            for name, family in families.items():
                if scrape is not None and name in scrape.numbers:
                    family.add_metric(labels, scrape.numbers[name])
        yield from (*families.values(), told)


def _sums() -> Sums:
    return defaultdict(float)


def _family(name: str, text: str, labels: list[str], sums: Mapping[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in sorted(sums.items()):
        family.add_metric(values, value)
    return family
