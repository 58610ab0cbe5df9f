"""Measures the operator on a real API server and prints a table for docs/benchmarks.md.

python hack/bench/measure_operator.py [--runs 30] [--burst 200] [--idle-seconds 60]

Figures come from the API server's audit log, not from the operator, and memory from /proc. The pods of the runs are
made by the real Job controller and never start, for there is no node. What else the machine does at the time counts
too, so the load average is printed with the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

from distillrun.cluster.client import Client  # noqa: E402
from distillrun.cluster.connection import connect  # noqa: E402
from distillrun.cluster.resources import RUN  # noqa: E402
from tests.cluster.operator_io import pods  # noqa: E402
from tests.cluster.operator_io.processes import Audit, OperatorProcess, operator_kubeconfig, said  # noqa: E402
from tests.kube import Kube, localkube, wait_for  # noqa: E402
from tests.unit.builders import spec  # noqa: E402

CLUSTER = "bench-operator"
NAMESPACE = "bench"


class Bench:
    """A control plane, and operators on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kubeconfig = localkube("control-plane", "up", "--name", CLUSTER, "--with", "controller-manager,scheduler")
        cache = Path(os.environ.get("DISTILLRUN_CACHE", Path.home() / ".cache/distillrun"))
        self.kube = Kube(kubeconfig, str(cache / "bin/kubectl"))
        self.kube.must("apply", "--server-side", "-f", str(ROOT / "manifests/crd/distillruns.distillrun.dev.yaml"))
        self.kube.must("wait", "--for=condition=Established", f"crd/{RUN.plural}.{RUN.group}", "--timeout=30s")
        self.kube.must("create", "namespace", NAMESPACE)
        self.log = Path(kubeconfig).parents[1] / "logs/audit.jsonl"
        self.audit = Audit(self.log, f"system:serviceaccount:{NAMESPACE}:operator")
        self.operators: list[OperatorProcess] = []
        self.credentials = operator_kubeconfig(self.kube, NAMESPACE, folder)

    def start(self) -> OperatorProcess:
        """One more operator."""
        log = self.folder / f"operator-{len(self.operators)}.log"
        self.operators.append(OperatorProcess.start(self.credentials, NAMESPACE, log))
        return self.operators[-1]

    def close(self) -> None:
        """Take everything away."""
        for operator in self.operators:
            operator.end()
        localkube("control-plane", "down", "--name", CLUSTER)

    def create(self, prefix: str, count: int, gap: float) -> None:
        """Create runs, `gap` seconds apart, or all at once."""

        async def work() -> None:
            os.environ["KUBECONFIG"] = self.kube.kubeconfig
            client = Client(connect(), user_agent="bench")
            slots = asyncio.Semaphore(16)

            async def one(number: int) -> None:
                meta = {"name": f"{prefix}-{number}", "namespace": NAMESPACE}
                body = {"apiVersion": RUN.api_version, "kind": RUN.kind, "metadata": meta, "spec": spec()}
                async with slots:
                    await client.create(RUN, NAMESPACE, body)

            if gap:
                for number in range(count):
                    await one(number)
                    await asyncio.sleep(gap)
            else:
                await asyncio.gather(*(one(number) for number in range(count)))
            await client.close()

        asyncio.run(work())

    def times(self, resource: str, prefix: str, verb: str = "create", subresource: str = "") -> dict[str, float]:
        """When each run's object of that kind was first written, by the run's name."""
        found: dict[str, float] = {}
        for request in self._requests():
            what = request.get("objectRef") or {}
            name = str(what.get("name", ""))
            same = what.get("resource") == resource and what.get("subresource", "") == subresource
            if not same or request["verb"] != verb or request["responseStatus"]["code"] >= 300:
                continue
            if not name and resource == "pods":  # its name is generated: the log has none, but the order is the runs'
                name = f"{prefix}-{len(found)}"
            if name.startswith(prefix):
                run = "-".join(name.split("-")[:2])
                found.setdefault(run, datetime.fromisoformat(request["stageTimestamp"]).timestamp())
        return found

    def _requests(self) -> Iterator[dict[str, Any]]:
        with self.log.open() as lines:
            for line in lines:
                if '"ResponseComplete"' in line and f'"{NAMESPACE}"' in line:
                    yield json.loads(line)

    def delays(self, prefix: str, count: int, resource: str, verb: str = "create", sub: str = "") -> list[float]:
        """Seconds from each run's creation to its first object of that kind, sorted."""
        wait_for(f"{count} {resource}", lambda: len(self.times(resource, prefix, verb, sub)) >= count, 300, every=2)
        began, ended = self.times(RUN.plural, prefix), self.times(resource, prefix, verb, sub)
        return sorted(ended[name] - began[name] for name in began)


def memory(operator: OperatorProcess) -> float:
    """Resident memory, MB."""
    status = Path(f"/proc/{operator.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def quantiles(delays: list[float]) -> str:
    """Median, 99th percentile and longest."""
    at: Callable[[float], float] = lambda part: delays[min(len(delays) - 1, int(len(delays) * part))]  # noqa: E731
    return f"{at(0.5):.2f} / {at(0.99):.2f} / {delays[-1]:.2f} s"


def measure(bench: Bench, runs: int, burst: int, idle: float) -> Iterator[tuple[str, str]]:
    """Figures, one after the other."""
    first = bench.start()
    wait_for("the operator to lead", lambda: first.leads)
    time.sleep(6)
    yield "memory, idle", f"{memory(first):.0f} MB"

    bench.create("slow", runs, gap=0.5)
    for what, resource, verb, sub in (
        ("Job", "jobs", "create", ""),
        ("status", RUN.plural, "patch", "status"),
        ("pod", "pods", "create", ""),
    ):
        yield (
            f"run created → first {what}, idle (p50 / p99 / max of {runs})",
            quantiles(bench.delays("slow", runs, resource, verb, sub)),
        )
    for pod in pods.wait_for_pods(bench.kube, NAMESPACE, "curate", runs)[:1]:
        pods.start(bench.kube, NAMESPACE, pod)
    time.sleep(10)
    bench.audit.mark()
    time.sleep(idle)
    writes = [said(request) for request in bench.audit.writes()]
    yield f"writes with one running run and {runs - 1} waiting, {idle:.0f} s, Lease aside", str(len(writes))

    bench.create("fast", burst, gap=0)
    jobs = bench.delays("fast", burst, "jobs")
    yield f"{burst} runs at once → first Job (p50 / p99 / max)", quantiles(jobs)
    began, ended = bench.times(RUN.plural, "fast").values(), bench.times("jobs", "fast").values()
    yield f"{burst} runs at once: Jobs a second", f"{burst / (max(ended) - min(began)):.1f}"
    yield f"memory with {runs + burst} runs", f"{memory(first):.0f} MB"

    bench.start()
    first.signal(signal.SIGKILL)
    killed = time.time()
    bench.create("next", 1, gap=0)
    wait_for("the successor's Job", lambda: bench.times("jobs", "next"), 120)
    yield "leader killed → successor's first write", f"{bench.times('jobs', 'next')['next-0'] - killed:.1f} s"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--burst", type=int, default=200)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    print("| operator | figure |\n| --- | --- |", flush=True)
    figures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            for what, figure in measure(bench, arguments.runs, arguments.burst, arguments.idle_seconds):
                print(f"| {what} | {figure} |", flush=True)
                figures[what] = figure
        finally:
            bench.close()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"\nLoad average of the machine: {load} on {os.cpu_count()} CPUs")
    print(json.dumps({"operator": figures, "load": load}))


if __name__ == "__main__":
    main()
