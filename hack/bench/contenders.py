"""What is measured side by side: this operator, JobSet, and Kubeflow Trainer on top of JobSet.

Each gets the same order: N objects at once, each of which asks for one Job of as many pods as the first stage of a
DistillRun has. The peers' pods are the smallest there are (one container, nothing mounted); a DistillRun's carry all
that a stage's pod has, and its operator also writes a ConfigMap, a status with conditions, and events.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from distillrun.cluster.resources import RUN, Resource
from hack.bench.world import CLAIM, NAMESPACE, ROOT, World
from hack.localkube import processes
from hack.peers import controller
from tests.cluster.operator_io.processes import OperatorProcess, operator_kubeconfig
from tests.unit.builders import spec

JOBSET = Resource("JobSet", "jobset.x-k8s.io", "v1alpha2", "jobsets")
TRAINJOB = Resource("TrainJob", "trainer.kubeflow.org", "v1alpha1", "trainjobs")
RUNTIME = "bench"


class Contender:
    """One controller (or a pair), started on the world's cluster."""

    name: str
    resource: Resource

    def __init__(self, world: World, pods: int) -> None:
        """`pods` is the number of pods of each object's first Job."""
        self.world = world
        self.pods = pods

    def start(self) -> None:
        """Start it and return once it works."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it."""
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Its processes."""
        raise NotImplementedError

    def mine(self, agent: str) -> bool:
        """Whether a user agent is one of its processes'."""
        raise NotImplementedError

    def body(self, name: str, number: int) -> dict[str, Any]:
        """One object."""
        raise NotImplementedError


class DistillRuns(Contender):
    """This operator, under the chart's role, with as many workers as it has by default."""

    name, resource = "distillrun", RUN

    def __init__(self, world: World, pods: int, folder: Path) -> None:
        super().__init__(world, pods)
        self.folder = folder
        self.operator: OperatorProcess | None = None
        definition = ROOT / "manifests/crd/distillruns.distillrun.dev.yaml"
        world.kube.must("apply", "--server-side", "-f", str(definition))
        world.kube.must("wait", "--for=condition=Established", f"crd/{RUN.plural}.{RUN.group}", "--timeout=30s")
        self.credentials = operator_kubeconfig(world.kube, NAMESPACE, folder)

    def start(self) -> None:
        log = self.folder / f"operator-{time.monotonic_ns()}.log"
        self.operator = OperatorProcess.start(self.credentials, NAMESPACE, log)

    def stop(self) -> None:
        assert self.operator is not None
        self.operator.end()

    def pids(self) -> list[int]:
        assert self.operator is not None
        return [self.operator.process.pid]

    def mine(self, agent: str) -> bool:
        return agent.startswith("distillrun-operator/")

    def body(self, name: str, number: int) -> dict[str, Any]:
        # Seeds differ, so that no run can take another one's results for its own.
        whole = spec(storage={"claimName": CLAIM}, seed=number, serve=None, gates=None)
        return {"apiVersion": RUN.api_version, "kind": RUN.kind, "metadata": {"name": name}, "spec": whole}


class Peers(Contender):
    """Controllers of hack/peers."""

    started: tuple[str, ...]

    def start(self) -> None:
        for name in self.started:
            controller.up(name, self.world.kubeconfig)

    def stop(self) -> None:
        for name in reversed(self.started):
            controller.down(name, self.world.kubeconfig)

    def pids(self) -> list[int]:
        return [record.pid for record in processes.records(self.world.cluster) if record.name in self.started]

    def mine(self, agent: str) -> bool:
        return agent.startswith(self.started)

    def job(self) -> dict[str, Any]:
        """The spec of an object's one Job."""
        container = {"name": "node", "image": "registry.test/node:1"}
        return {
            "completionMode": "Indexed",
            "completions": self.pods,
            "parallelism": self.pods,
            "backoffLimit": 0,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        }


class JobSets(Peers):
    """JobSet, with its client's limits raised."""

    name, resource, started = "jobset", JOBSET, ("jobset",)

    def body(self, name: str, number: int) -> dict[str, Any]:
        replicated = [{"name": "node", "replicas": 1, "template": {"spec": self.job()}}]
        return {
            "apiVersion": JOBSET.api_version,
            "kind": JOBSET.kind,
            "metadata": {"name": name},
            "spec": {"replicatedJobs": replicated},
        }


class TrainJobs(Peers):
    """Trainer, which makes a JobSet of each TrainJob. Its client's limit of 20 requests a second cannot be raised."""

    name, resource, started = "trainer", TRAINJOB, ("jobset", "trainer")

    def start(self) -> None:
        super().start()
        step = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
        job = {"metadata": {"labels": step}, "spec": self.job()}
        self.world.kube.apply(
            {
                "apiVersion": TRAINJOB.api_version,
                "kind": "ClusterTrainingRuntime",
                "metadata": {"name": RUNTIME},
                "spec": {
                    "mlPolicy": {"numNodes": self.pods},
                    "template": {"spec": {"replicatedJobs": [{"name": "node", "replicas": 1, "template": job}]}},
                },
            }
        )

    def body(self, name: str, number: int) -> dict[str, Any]:
        return {
            "apiVersion": TRAINJOB.api_version,
            "kind": TRAINJOB.kind,
            "metadata": {"name": name},
            "spec": {"runtimeRef": {"name": RUNTIME}},
        }
