"""Thousands of runs at once, side by side with JobSet and Kubeflow Trainer; prints a table and ends with a JSON line.

python hack/bench/scale.py [--runs 100,500,2000] [--only distillrun,jobset,trainer] [--no-path]

For each number of runs: a fresh cluster of 50 fake nodes; then one contender after the other gets that many objects at
once, and its objects are cleared away before the next one starts (contenders.py says what the objects are). Then all
runs are let go through all their stages, and the operator is started anew on what is left. Rates are objects over the
time from the first object's creation to the last first pod's. Everything shares the machine's cores, the API server
too, so figures compare only with those of the same call; the load average is printed with them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

from distillrun.cluster.resources import JOB, POD  # noqa: E402
from hack.bench.contenders import Contender, DistillRuns, JobSets, TrainJobs  # noqa: E402
from hack.bench.world import NAMESPACE, World, cpu, memory, quantile  # noqa: E402
from tests.kube import wait_for  # noqa: E402

Figures = dict[str, Any]
FIRST_PODS = 1
"""Pods of a DistillRun's first Job."""
PATIENCE = 1800.0
"""Seconds for the slowest contender at the largest number."""


def burst(world: World, contender: Contender, runs: int) -> Figures:
    """Create objects at once and wait for the first pod of each."""
    contender.start()
    time.sleep(3)
    used = {pid: cpu(pid) for pid in contender.pids()}
    world.mark()
    world.create(contender.resource, [contender.body(f"r{number:05d}", number) for number in range(runs)])
    pods = runs * contender.pods
    wait_for(f"{pods} pods", lambda: world.count(POD) >= pods, PATIENCE, every=1)
    seconds = sum(cpu(pid) - before for pid, before in used.items())
    seen = world.burst(contender.resource, contender.mine)
    return {
        "first_job_p50_s": round(quantile(seen.delays, 0.5), 2),
        "first_job_p99_s": round(quantile(seen.delays, 0.99), 2),
        "all_first_pods_s": round(seen.seconds, 2),
        "first_pods_per_s": round(runs / seen.seconds, 2),
        "created_per_s": round(runs / (max(seen.began.values()) - min(seen.began.values())), 1),
        "api_calls_per_run": round(sum(seen.calls.values()) / runs, 2),
        "writes_per_run": round(seen.writes / runs, 2),
        "cpu_s": round(seconds, 1),
        "memory_mb": round(sum(memory(pid) for pid in contender.pids()), 1),
    }


def path(world: World, runs: DistillRuns, count: int) -> Figures:
    """Let every run go through its stages (`burst` has begun them), then start the operator anew on what is left."""
    assert runs.operator is not None
    world.play_kubelet(completing=True)
    operator = runs.operator
    succeeded = f'distillrun_runs{{namespace="{NAMESPACE}",phase="Succeeded"}}'
    wait_for("all runs to succeed", lambda: operator.metric(succeeded) >= count, PATIENCE, 2)
    time.sleep(10)  # what may still be written
    seen = world.burst(runs.resource, runs.mine)
    stages = world.count(JOB)
    figures = {
        "stages": stages,
        "path_s": round(time.time() - min(seen.began.values()) - 10, 1),
        "writes_per_stage": round(seen.writes / stages, 2),
        "calls_per_stage": {words: round(number / stages, 3) for words, number in seen.calls.most_common()},
        "memory_settled_mb": round(memory(operator.process.pid), 1),
    }
    return figures | restart(world, runs, count)


def restart(world: World, runs: DistillRuns, count: int) -> Figures:
    """End the operator, start another one, and wait until it has looked at every settled run."""
    runs.stop()
    world.kube.must("delete", "lease", "operator", "-n", NAMESPACE)  # its time to run out is no part of the restart
    world.mark()
    began = time.monotonic()
    runs.start()
    operator = runs.operator
    assert operator is not None
    passes = "distillrun_reconcile_seconds_count"
    wait_for("a pass over every run", lambda: operator.metric(passes) >= count, PATIENCE, 0.5)
    seconds = time.monotonic() - began
    time.sleep(15)  # what it may still want to write
    seen = world.burst(runs.resource, runs.mine)
    return {
        "restart_s": round(seconds, 1),
        "restart_writes": seen.writes,
        "restart_calls": dict(seen.calls.most_common()),
        "restart_memory_mb": round(memory(operator.process.pid), 1),
    }


def measure(runs: int, only: list[str], whole: bool) -> Figures:
    """All figures for one number of runs, on a cluster of its own."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        world = World()
        try:
            ours = DistillRuns(world, FIRST_PODS, Path(folder))
            for contender in (ours, JobSets(world, FIRST_PODS), TrainJobs(world, FIRST_PODS)):
                if contender.name not in only:
                    continue
                try:
                    figures[contender.name] = burst(world, contender, runs)
                    show(runs, contender.name, figures[contender.name])
                    if contender is ours and whole:
                        figures["path"] = path(world, ours, runs)
                        show(runs, "path", figures["path"])
                        world.play_kubelet(completing=False)
                finally:
                    contender.stop()
                world.clear(contender.resource)
        finally:
            world.close()
    return figures


def show(runs: int, name: str, figures: Figures) -> None:
    """Print a row for each figure."""
    for what, figure in figures.items():
        print(f"| {runs} runs at once, {name}: {what} | {figure} |", flush=True)


def ratios(figures: Figures) -> Figures:
    """How the operator does beside each peer: first pods a second (more is better), p99 of the first Job (less is)."""
    found: Figures = {}
    ours = figures.get("distillrun")
    for peer in ("jobset", "trainer"):
        theirs = figures.get(peer)
        if ours and theirs:
            found[f"first_pods_ratio_to_{peer}"] = round(ours["first_pods_per_s"] / theirs["first_pods_per_s"], 2)
            found[f"first_job_p99_of_{peer}s"] = round(ours["first_job_p99_s"] / theirs["first_job_p99_s"], 3)
    return found


def main() -> None:
    """Measure and print. The ratios that come last are those of the largest number of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", default="100,500,2000", help="comma-separated numbers of runs (default 100,500,2000)")
    parser.add_argument("--only", default="distillrun,jobset,trainer", help="contenders (default: all three)")
    parser.add_argument("--no-path", action="store_true", help="leave out the later stages and the restart")
    chosen = parser.parse_args()
    print("| operator at scale | figure |\n| --- | --- |", flush=True)
    whole: Figures = {}
    for runs in sorted(int(each) for each in chosen.runs.split(",")):
        found = measure(runs, chosen.only.split(","), not chosen.no_path)
        whole[f"runs_{runs}"] = found | (last := ratios(found))
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"\nLoad average of the machine: {load} on {os.cpu_count()} CPUs")
    print(json.dumps({"bench": "operator", **last, "load": load, **whole}))


if __name__ == "__main__":
    main()
