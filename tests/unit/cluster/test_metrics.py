"""What is exported is what docs/operations.md says, and nothing of it grows with what pods say."""

from __future__ import annotations

import re
from pathlib import Path

from distillrun.cluster.cache import Cache
from distillrun.cluster.metrics import Metrics
from distillrun.plan.model import Scrape
from tests.unit.builders import T0
from tests.unit.cluster import bodies

DOCS = Path(__file__).resolve().parents[3] / "docs/operations.md"


def exported() -> str:
    cache = Cache()
    cache.upsert("DistillRun", bodies.run())
    cache.upsert("Pod", bodies.pod())
    every = dict.fromkeys(("progress_done", 'loss{forged="label"}', "invented"), 1.0)
    cache.put_scrape("s1-train-0", "team", Scrape("uid-s1-train-0", T0, every))
    metrics = Metrics(cache)
    metrics.requested("get", "Job", 200)
    metrics.watched("Job")
    metrics.relist_found.labels("Job", "vanished").inc()
    return metrics.text().decode()


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    there = set(re.findall(r"^# TYPE (distillrun_\w+) ", exported(), re.MULTILINE))
    told = set(re.findall(r"`(distillrun_\w+)`", DOCS.read_text()))
    assert there == told


def test_a_pods_own_names_and_labels_are_not_exported() -> None:
    text = exported()
    assert 'distillrun_run_progress_done{namespace="team",run="s1",stage="train"} 1.0' in text
    assert "forged" not in text
    assert "invented" not in text


def test_runs_are_counted_by_phase() -> None:
    assert 'distillrun_runs{phase="Training"} 1.0' in exported()
