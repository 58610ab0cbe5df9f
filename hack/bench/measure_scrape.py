"""What one scrape of /metrics costs with 2,000 runs that all train (CPU seconds of this process, no cluster needed).

PYTHONPATH=operator:images .venv/bin/python hack/bench/measure_scrape.py
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from distillrun.cluster.cache import Cache
from distillrun.cluster.metrics import Metrics
from distillrun.cluster.runmetrics import PROGRESS
from distillrun.plan import names
from distillrun.plan.model import Scrape

RUNS, NAMESPACES = 2000, 50


def meta(name: str, number: int, uid: str, **more: Any) -> dict[str, Any]:
    """Metadata in one of the namespaces."""
    return {"name": name, "namespace": f"team-{number % NAMESPACES}", "uid": uid, "resourceVersion": "1", **more}


def filled() -> Cache:
    """A cache with a run, its training pod and that pod's numbers, 2,000 times."""
    cache = Cache()
    states = {"curate": "Succeeded", "train": "Running", "evaluate": "Pending", "serve": "Pending"}
    cost = {"spent": "1.00", "currency": "USD", "gpuSeconds": "3600"}
    stages = [{"name": name, "state": state, "attempt": 1} for name, state in states.items()]
    pod = {"phase": "Running", "podIP": "10.0.0.1"}
    for number in range(RUNS):
        labels = {names.LABEL_RUN_UID: f"run-{number}", names.LABEL_STAGE: "train", names.LABEL_ATTEMPT: "1"}
        run = meta(f"r{number}", number, f"run-{number}")
        cache.upsert("DistillRun", {"metadata": run, "status": {"phase": "Training", "stages": stages, "cost": cost}})
        child = meta(f"r{number}-0", number, f"pod-{number}", labels=labels)
        cache.upsert("Pod", {"metadata": child, "status": pod})
        scrape = Scrape(f"pod-{number}", datetime.now(UTC), dict.fromkeys(PROGRESS, 1.0))
        cache.put_scrape(child["name"], child["namespace"], scrape)
    return cache


def main() -> None:
    """Print one JSON line: the least of five scrapes."""
    metrics = Metrics(filled())
    taken, written, text = [], [], b""
    for _ in range(5):
        began = time.process_time()
        write = metrics.snapshot()
        between = time.process_time()
        text = write()
        taken.append(between - began)
        written.append(time.process_time() - between)
    print(
        json.dumps(
            {
                "runs": RUNS,
                "lines": text.count(b"\n"),
                "bytes": len(text),
                "loopSeconds": round(min(taken), 3),
                "threadSeconds": round(min(written), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
