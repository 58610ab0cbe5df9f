"""What is exported is what docs/monitoring.md says; its size is bounded, and a restart counts nothing twice."""

from __future__ import annotations

import re
from typing import Any

import pytest

from distillrun.cluster import knownreasons, metrics, runmetrics
from distillrun.cluster.cache import Cache
from distillrun.cluster.metrics import Metrics
from distillrun.cluster.transitions import between
from distillrun.plan.model import Run, Scrape
from distillstages.common import reasons as staged
from tests.metrics import documented, sampled, typed
from tests.unit.builders import T0
from tests.unit.cluster import bodies

STALLED = {"type": "Stalled", "status": "True", "reason": "DiskFull"}
BEFORE: dict[str, Any] = {"phase": "Training", "stages": [{"name": "train", "state": "Running"}]}
AFTER: dict[str, Any] = {
    "phase": "Failed",
    "stages": [
        {
            "name": "train",
            "state": "Failed",
            "failures": 1,
            "preemptions": 2,
            "releases": 1,
            "reason": "DiskFull",
            "cost": {"gpuSeconds": "7200.0"},
        }
    ],
    "conditions": [STALLED, {"type": "BudgetExceeded", "status": "True"}],
    "cost": {
        "spent": "6.00",
        "currency": "USD",
        "gpuSeconds": "7200.0",
        "serving": {"spent": "2.00", "gpuSeconds": "2400.0"},
    },
}


def run(cache: Cache, name: str = "s1", **changes: Any) -> Run:
    cache.upsert("DistillRun", bodies.run(name, **changes))
    found = cache.run(("team", name))
    assert found is not None
    return found


def world() -> tuple[Cache, Metrics]:
    """A cache with one run whose training pod said much, and metrics that have counted one of everything."""
    cache = Cache()
    waits = [{"name": "curate", "state": "Pending", "reason": "Unschedulable"}]
    status = {**AFTER, "phase": "Curating", "stages": waits}
    one = run(cache, status=status, spec={"budget": {"limit": "8"}, "serve": {"maxCost": "4"}})
    cache.upsert("Pod", bodies.pod())
    every = {**dict.fromkeys(runmetrics.PROGRESS, 1.0), 'loss{forged="label"}': 1.0, "invented": 1.0}
    cache.put_scrape("s1-train-0", "team", Scrape("uid-s1-train-0", T0, every))
    made = Metrics(cache)
    made.requested("get", "Job", 200)
    made.passed(0.1, 0.0, True)
    made.wrote("Job", bodies.job())
    made.watched("Job", bodies.job())
    made.wrote("DistillRun", bodies.run(version=9))
    made.relist_found.labels("Job", "vanished").inc()
    made.changed(one, between(BEFORE, AFTER))
    return cache, made


def exported() -> str:
    return world()[1].text().decode()


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    assert typed(exported()) == documented().keys()


def test_every_metric_has_the_labels_that_the_docs_say() -> None:
    assert sampled(exported()) == documented()


@pytest.mark.parametrize(
    "sample",
    [
        'distillrun_runs{namespace="team",phase="Curating"} 1.0',
        'distillrun_stages{stage="curate",state="Pending"} 1.0',
        'distillrun_stages_waiting{namespace="team",reason="Unschedulable",stage="curate"} 1.0',
        'distillrun_runs_over_budget{namespace="team"} 1.0',
        'distillrun_gpus_assigned{namespace="team"} 2.0',
        'distillrun_runs_gpu_seconds{namespace="team"} 7200.0',
        'distillrun_runs_cost{currency="USD",namespace="team"} 6.0',
        'distillrun_run_budget_used_ratio{namespace="team",run="s1"} 0.75',
        'distillrun_runs_serving_gpu_seconds{namespace="team"} 2400.0',
        'distillrun_runs_serving_cost{currency="USD",namespace="team"} 2.0',
        'distillrun_run_max_cost_used_ratio{namespace="team",run="s1"} 0.5',
        'distillrun_gpu_seconds_used_total{namespace="team",stage="serve"} 2400.0',
        'distillrun_run_progress_done{namespace="team",run="s1",stage="train"} 1.0',
        f'distillrun_run_scrape_timestamp_seconds{{namespace="team",run="s1",stage="train"}} {T0.timestamp()!r}',
        'distillrun_stage_duration_seconds_count{outcome="Failed",stage="train"} 1.0',
        'distillrun_attempt_failures_total{reason="DiskFull",stage="train"} 1.0',
        'distillrun_preemptions_total{namespace="team",stage="train"} 2.0',
        'distillrun_releases_total{namespace="team",stage="train"} 1.0',
        'distillrun_runs_failed_total{namespace="team",reason="DiskFull"} 1.0',
        'distillrun_gpu_seconds_used_total{namespace="team",stage="train"} 7200.0',
        'distillrun_cost_spent_total{currency="USD",namespace="team"} 8.0',
        'distillrun_watch_lag_seconds_count{kind="Job"} 1.0',
    ],
)
def test_what_is_and_what_happened_is_exported(sample: str) -> None:
    def parts(line: str) -> tuple[str, frozenset[str], float]:
        name, _, rest = line.partition("{")
        labels, _, value = rest.rpartition("} ")
        return name, frozenset(labels.split(",")), float(value)

    lines = [line for line in exported().splitlines() if "{" in line and not line.startswith("#")]
    assert parts(sample) in [parts(line) for line in lines]


def test_a_pods_own_names_labels_and_reasons_are_not_exported() -> None:
    cache, made = world()
    hostile = {"stages": [{"name": "train", "state": "Pending", "failures": 1, "reason": "Evil123"}]}
    made.changed(run(cache, "s2", status=hostile), between({}, hostile))
    text = made.text().decode()
    assert "forged" not in text
    assert "invented" not in text
    assert "Evil123" not in text
    assert 'distillrun_stages_waiting{namespace="team",reason="Other",stage="train"} 1.0' in text


def test_an_operator_that_starts_again_exports_the_same_state_and_has_counted_nothing() -> None:
    cache, before = world()
    after = Metrics(cache)
    lines = {name: set(each.text().decode().splitlines()) for name, each in (("before", before), ("after", after))}

    def of(which: str, prefix: str) -> set[str]:
        return {line for line in lines[which] if line.startswith(prefix)}

    for gauge in ("distillrun_runs", "distillrun_stages", "distillrun_run_", "distillrun_gpus_assigned"):
        state = {line for line in of("before", gauge) if "_total" not in line}
        assert state
        assert state == {line for line in of("after", gauge) if "_total" not in line}
    for counter in ("preemptions", "attempt_failures", "runs_failed", "gpu_seconds_used", "cost_spent"):
        assert of("before", f"distillrun_{counter}_total")
        assert not of("after", f"distillrun_{counter}_total")


def test_the_same_status_written_twice_counts_nothing_more() -> None:
    cache, made = world()
    before = made.text()
    made.changed(run(cache, "s1", version=2), between(AFTER, AFTER))
    counters = [line for line in before.decode().splitlines() if "_total{" in line]
    assert counters
    assert set(counters) <= set(made.text().decode().splitlines())


def test_namespaces_beyond_the_limit_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.LIMITS, "namespace", 3)
    monkeypatch.setattr(runmetrics, "NAMESPACE_LIMIT", 3)
    cache = Cache()
    made = Metrics(cache)
    for number in range(10):
        body = bodies.run(status={"phase": "Training"}, metadata={**bodies.meta("s1"), "namespace": f"n{number}"})
        cache.upsert("DistillRun", {**body, "metadata": {**body["metadata"], "uid": f"u{number}"}})
        found = cache.run((f"n{number}", "s1"))
        assert found is not None
        made.changed(found, between(BEFORE, AFTER))
    text = made.text().decode()
    assert 'distillrun_runs{namespace="_other",phase="Training"} 7.0' in text
    assert 'distillrun_runs_failed_total{namespace="_other",reason="DiskFull"} 7.0' in text
    assert len(re.findall("^distillrun_runs{", text, re.MULTILINE)) == 4


def test_runs_with_series_of_their_own_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runmetrics, "RUN_LIMIT", 2)
    cache = Cache()
    for number in range(5):
        run(cache, f"r{number}", spec={"budget": {"limit": "8"}})
        cache.upsert("Pod", bodies.pod(f"r{number}-train-0", run_uid=f"uid-r{number}"))
    text = Metrics(cache).text().decode()
    assert len(re.findall("^distillrun_run_budget_used_ratio{", text, re.MULTILINE)) == 2
    assert len(re.findall("^distillrun_run_scrape_timestamp_seconds{", text, re.MULTILINE)) == 2


def test_a_pod_that_never_gave_numbers_is_as_old_as_its_start() -> None:
    cache = Cache()
    run(cache)
    cache.upsert("Pod", bodies.pod())
    text = Metrics(cache).text().decode()
    sample = re.search(r"^distillrun_run_scrape_timestamp_seconds{.*} (\S+)$", text, re.MULTILINE)
    assert sample
    assert float(sample[1]) == T0.timestamp() + 5


def test_every_reason_of_a_stage_is_counted_by_its_name() -> None:
    given = {value for name, value in vars(staged).items() if name.isupper() and isinstance(value, str)}
    rejections = {staged.WRONG_ANSWER, staged.NO_ANSWER, staged.MALFORMED, staged.TRUNCATED, staged.VERIFY_TIMEOUT}
    rejections |= {staged.UNVERIFIABLE_REFERENCE, staged.VERIFY_FAILED, staged.CONTENT_FILTERED}
    rejections |= {staged.REQUEST_REFUSED, staged.REQUEST_FAILED, staged.AMBIGUOUS_ANSWER}
    rejections |= {
        staged.NEAR_DUPLICATE,
        staged.CONTAMINATED,
        staged.NOT_DRAWN,
        staged.FILTERED_OUT,
        staged.NOT_SELECTED,
    }
    rejections |= {staged.TOO_EASY, staged.TOO_HARD, staged.DIFFICULTY_UNKNOWN, staged.UNREADABLE_LABEL}
    rejections |= {staged.REWRITE_CHANGED_ANSWER, staged.REWRITE_UNUSABLE}
    rejections |= {staged.DUPLICATE, staged.MULTIPLE_TURNS, staged.NO_THINKING}
    rejections |= {staged.NO_CODE, staged.TESTS_FAILED, staged.RUNTIME_ERROR, staged.TIME_LIMIT, staged.MEMORY_LIMIT}
    rejections |= {staged.OUTPUT_LIMIT, staged.FORBIDDEN}
    missing = given - rejections - knownreasons.KNOWN
    assert not missing, f"add to cluster/knownreasons.py: {sorted(missing)}"


@pytest.mark.parametrize("phase", ["Suspended", "Failed", "Succeeded"])
def test_a_run_at_rest_does_not_wait(phase: str) -> None:
    cache = Cache()
    waits = [{"name": "curate", "state": "Pending", "reason": "Unschedulable"}]
    run(cache, status={"phase": phase, "stages": waits})
    assert "distillrun_stages_waiting{" not in Metrics(cache).text().decode()


def test_a_run_that_changed_is_counted_as_it_is_now_and_one_that_went_not_at_all() -> None:
    cache = Cache()
    made = Metrics(cache)
    run(cache, "s1", version=1, status={"phase": "Training"})
    run(cache, "s2", version=2, status={"phase": "Training"})
    assert 'distillrun_runs{namespace="team",phase="Training"} 2.0' in made.text().decode()
    run(cache, "s1", version=3, status={"phase": "Evaluating"})
    cache.remove("DistillRun", bodies.run("s2", version=4))
    text = made.text().decode()
    assert 'distillrun_runs{namespace="team",phase="Evaluating"} 1.0' in text
    assert 'phase="Training"' not in text
