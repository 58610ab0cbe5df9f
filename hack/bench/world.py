"""A control plane with fake nodes to measure on, and what its audit log says about a burst of objects."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

from distillrun.cluster.client import Client  # noqa: E402
from distillrun.cluster.connection import connect  # noqa: E402
from distillrun.cluster.resources import JOB, POD, Resource  # noqa: E402
from hack.localkube import binaries, components, control_plane, processes  # noqa: E402
from tests.kube import Kube, wait_for  # noqa: E402

CLUSTER = "bench-scale"
NAMESPACE = "bench"
NODES = 50
CLAIM = "demo"
WRITES = ("create", "update", "patch", "delete", "deletecollection")

_COMPLETE = Path(__file__).with_name("complete.yaml")
"""How the fake nodes end a pod once they are told to: with the termination message of its stage."""


@dataclass
class Burst:
    """What the audit log says of objects created at once. Times in seconds, of one clock."""

    began: dict[str, float] = field(default_factory=dict)
    """When each object was created, by its name."""
    jobs: dict[str, float] = field(default_factory=dict)
    """When the first Job of each object was created, by the object's name."""
    pods: list[float] = field(default_factory=list)
    """When pods were created, in order."""
    calls: Counter[str] = field(default_factory=Counter)
    """Requests of the controllers that are measured, watches and Leases aside, as `create jobs`."""

    @property
    def delays(self) -> list[float]:
        """From each object's creation to that of its first Job, sorted."""
        return sorted(self.jobs[name] - self.began[name] for name in self.began)

    @property
    def seconds(self) -> float:
        """From the first object's creation to the last first pod's."""
        return self.pods[-1] - min(self.began.values())

    @property
    def writes(self) -> int:
        """Requests that change something."""
        return sum(count for words, count in self.calls.items() if words.split()[0] in WRITES)


class World:
    """A fresh cluster. Times come from its audit log, never from the controllers that are measured."""

    def __init__(self) -> None:
        control_plane.down(CLUSTER)
        self.cluster = control_plane.up(CLUSTER, ["controller-manager", "scheduler"])
        self.kubeconfig = self.cluster.kubeconfig()
        os.environ["KUBECONFIG"] = str(self.kubeconfig)
        self.kube = Kube(str(self.kubeconfig), str(binaries.binary("kubectl")))
        self._mark = 0
        self.kube.must("create", "namespace", NAMESPACE)
        self._make_claim()
        self.play_kubelet(completing=False)
        for number in range(NODES):
            components.add_gpu_node(components.Client(self.kubeconfig), f"gpu-{number}")

    def close(self) -> None:
        """Take it away, and leave the logs of what went wrong in the working folder if BENCH_LOGS says where to."""
        if where := os.environ.get("BENCH_LOGS"):
            shutil.copytree(self.cluster.logs, where, dirs_exist_ok=True)
        control_plane.down(CLUSTER)

    def play_kubelet(self, *, completing: bool) -> None:
        """Start KWOK anew: its nodes run every pod at once, and end it with success only when `completing`."""
        processes.stop(self.cluster, ["kwok"])
        stages = [text for text in _stock_stages() if "name: pod-complete" not in text]
        if completing:
            stages.append(_COMPLETE.read_text())
        path = self.cluster.state / "stages.yaml"
        path.write_text("---\n".join(stages))
        words = [binaries.binary("kwok"), f"--kubeconfig={self.cluster.kubeconfig('kwok')}", f"--config={path}"]
        words += ["--manage-all-nodes=true", "--node-lease-duration-seconds=40"]
        processes.start(self.cluster, "kwok", words, env={"HOME": str(self.cluster.state)})

    def create(self, resource: Resource, bodies: list[dict[str, Any]]) -> None:
        """Create objects as fast as 16 connections can."""

        async def work(client: Client) -> None:
            slots = asyncio.Semaphore(16)

            async def one(body: dict[str, Any]) -> None:
                async with slots:
                    await client.create(resource, NAMESPACE, body)

            await asyncio.gather(*(one(body) for body in bodies))

        self._ask(work)

    def count(self, resource: Resource) -> int:
        """How many objects of a kind there are, without reading them."""
        path = resource.path(NAMESPACE)
        page = components.Client(self.kubeconfig).get(f"{path}?limit=1")
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

    def clear(self, *resources: Resource) -> None:
        """Delete all objects of these kinds and all Jobs and pods, and wait until they are gone."""
        client = components.Client(self.kubeconfig)
        for resource in (*resources, JOB, POD):
            body = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
            client.request("DELETE", resource.path(NAMESPACE), body, timeout=300)
        for resource in (*resources, JOB, POD):
            wait_for(f"all {resource.plural} to go", lambda one=resource: not self.count(one), 600, every=1)

    def mark(self) -> None:
        """Forget what the audit log said so far."""
        self._mark = self.cluster.audit_log.stat().st_size

    def burst(self, resource: Resource, agents: Callable[[str], bool]) -> Burst:
        """What was asked since the mark; `agents` tells by the user agent whose requests are counted."""
        seen = Burst()
        for request in self.requests():
            what = request.get("objectRef") or {}
            name, kind = str(what.get("name", "")), str(what.get("resource"))
            at = datetime.fromisoformat(request["stageTimestamp"]).timestamp()
            made = request["verb"] == "create" and not what.get("subresource")
            if what.get("namespace") == NAMESPACE and made and request["responseStatus"]["code"] < 300:
                if kind == resource.plural and what.get("apiGroup") == resource.group:
                    seen.began.setdefault(name, at)
                elif kind == "jobs":
                    seen.jobs.setdefault(name.split("-")[0], at)
                elif kind == "pods":
                    seen.pods.append(at)
            if kind != "leases" and request["verb"] != "watch" and agents(str(request.get("userAgent", ""))):
                seen.calls[" ".join((request["verb"], "/".join(filter(None, (kind, what.get("subresource"))))))] += 1
        seen.pods.sort()
        return seen

    def requests(self) -> Iterator[dict[str, Any]]:
        """Requests that were answered since the mark."""
        with self.cluster.audit_log.open("rb") as log:
            log.seek(self._mark)
            for line in log:
                if b'"stage":"ResponseComplete"' in line and line.endswith(b"\n"):
                    yield json.loads(line)

    def _make_claim(self) -> None:
        """A claim that is bound, for pods that ask for it to be scheduled."""
        storage = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        path = {"hostPath": {"path": "/nowhere"}, "capacity": {"storage": "1Ti"}}
        self.kube.apply(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": CLAIM}, "spec": {**storage, **path}},
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": CLAIM, "namespace": NAMESPACE},
                "spec": {**storage, "resources": {"requests": {"storage": "1Gi"}}},
            },
        )
        self.kube.must("wait", "--for=jsonpath={.status.phase}=Bound", "-n", NAMESPACE, f"pvc/{CLAIM}", "--timeout=60s")

    def _ask(self, work: Callable[[Client], Any]) -> None:
        async def asking() -> None:
            client = Client(connect(), user_agent="bench")
            try:
                await work(client)
            finally:
                await client.close()

        asyncio.run(asking())


def _stock_stages() -> list[str]:
    return binaries.kwok_stages().read_text().split("---\n")


def memory(pid: int) -> float:
    """Peak resident memory of a process so far, MB (10^6 bytes)."""
    return int(_status(pid, "VmHWM")) * 1024 / 1e6


def cpu(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/status").read_text().partition(f"{name}:")[2].split()[0]


def quantile(values: list[float], part: float) -> float:
    """The value that `part` of the sorted values do not exceed."""
    return values[min(len(values) - 1, int(len(values) * part))]
