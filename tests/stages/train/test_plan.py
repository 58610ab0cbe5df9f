from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from distillstages.common.blocks import Train
from distillstages.common.exit import ConfigFault
from distillstages.train import plan


def settings(**changes: Any) -> Train:
    return Train.model_validate({"student": {"uri": "file:///s"}, "dataset": "file:///d/", "maxSteps": 1, **changes})


def on(nodes: int, processes: int) -> dict[str, int]:
    return {"nodes": nodes, "processesPerNode": processes}


@pytest.mark.parametrize(
    ("total", "micro", "nodes", "processes", "accumulation"),
    [(16, 1, 2, 8, 1), (96, 1, 1, 8, 12), (64, 32, 2, 1, 1), (64, 8, 2, 1, 4), (1, 1, 1, 1, 1)],
)
def test_a_global_batch_is_split_over_ranks_and_accumulation(
    total: int, micro: int, nodes: int, processes: int, accumulation: int
) -> None:
    train = settings(globalBatchSize=total, microBatchSize=micro, distributed=on(nodes, processes))

    batches = plan.split_batch(train)

    assert batches.accumulation == accumulation
    assert batches.examples == total


@pytest.mark.parametrize(
    ("total", "way_out"), [(10, "set globalBatchSize to 8 or 16"), (3, "set globalBatchSize to 8")]
)
def test_a_batch_that_does_not_divide_is_refused_with_sizes_that_do(total: int, way_out: str) -> None:
    train = settings(globalBatchSize=total, microBatchSize=2, distributed=on(2, 2))

    with pytest.raises(ConfigFault) as caught:
        plan.split_batch(train)

    assert caught.value.reason == "BatchNotDivisible"
    assert f"globalBatchSize {total} is not a multiple of microBatchSize 2 × 4 processes = 8" in str(caught.value)
    assert way_out in str(caught.value)


def test_the_node_rank_is_the_job_completion_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert plan.node_rank(settings(distributed=on(2, 1))) == 1
    with pytest.raises(ConfigFault, match="'1', expected 0 to 0"):
        plan.node_rank(settings())
    monkeypatch.delenv("JOB_COMPLETION_INDEX")
    assert plan.node_rank(settings()) == 0


def cgroup(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "processes", "threads"),
    [
        ({"cpu_dot_max": "400000 100000"}, 2, 2),
        ({"cpu_dot_max": "50000 100000"}, 1, 1),
        ({"cpu_dot_max": "max 100000", "cpu_dot_weight": "79"}, 1, 2),  # a request of 2 cores: 2048 shares
        ({"cpu__cpu_dot_cfs_quota_us": "300000", "cpu__cpu_dot_cfs_period_us": "100000"}, 1, 3),
        ({"cpu__cpu_dot_cfs_quota_us": "-1", "cpu__cpu_dot_shares": "1024"}, 1, 1),
        ({"cpu__cpu_dot_cfs_quota_us": "-1", "cpu__cpu_dot_shares": "4096"}, 2, 2),
        ({}, 4, 2),
    ],
)
def test_a_rank_takes_its_share_of_limit_request_or_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], processes: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")

    assert plan.threads_per_process(processes, cgroup(tmp_path, **files)) == threads


def test_outside_kubernetes_shares_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    assert plan.threads_per_process(1, cgroup(tmp_path, cpu_dot_weight="100")) == 8
