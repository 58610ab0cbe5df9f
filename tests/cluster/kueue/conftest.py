"""A real API server with the real Kueue on it, a queue with two GPUs, and a node that never is too full."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import CACHE
from tests.cluster.operator_io.conftest import audit, start_operator
from tests.kube import ROOT, Kube, localkube, wait_for

__all__ = ["audit", "start_operator"]  # fixtures that this folder uses, too

QUEUE = "team"
URGENT = "urgent"
GPUS = 2
"""GPUs that the queue may use."""
KUEUE = "kueue.x-k8s.io/v1beta1"


def peers(*arguments: str) -> None:
    """Run hack/peers. Raises with its words when it fails."""
    words = ["python3", str(ROOT / "hack/peers"), *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"hack/peers {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")


@pytest.fixture(scope="session")
def kueue_server() -> Iterator[Kube]:
    """A control plane of its own: Kueue's webhooks see every Job and pod of a cluster."""
    name = f"kueue-{uuid.uuid4().hex[:6]}"
    kubeconfig = localkube("control-plane", "up", "--name", name, "--with", "controller-manager,scheduler")
    kube = Kube(kubeconfig, str(CACHE / "bin/kubectl"))
    try:
        kube.must("apply", "--server-side", "-f", str(ROOT / "manifests/crd/distillruns.distillrun.dev.yaml"))
        kube.must("wait", "--for=condition=Established", "crd/distillruns.distillrun.dev", "--timeout=30s")
        peers("up", "kueue", "--kubeconfig", kubeconfig)
        amounts = {"cpu": "64", "memory": "64Gi", "pods": "100", "nvidia.com/gpu": "64"}
        size = {"capacity": amounts, "allocatable": amounts}
        kube.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}, "status": size})
        yield kube
    finally:
        localkube("control-plane", "down", "--name", name)


@pytest.fixture
def api_server(kueue_server: Kube) -> Kube:
    """The API server of this folder's tests."""
    return kueue_server


@pytest.fixture
def queue(kueue_server: Kube, namespace: str) -> str:
    """A LocalQueue of the test's namespace, before a ClusterQueue of its own. Its name."""
    quota = [{"name": "cpu", "nominalQuota": 64}, {"name": "nvidia.com/gpu", "nominalQuota": GPUS}]
    flavor = {"name": "any", "resources": quota}
    kueue_server.apply(
        {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": {"name": "any"}},
        {"apiVersion": KUEUE, "kind": "WorkloadPriorityClass", "metadata": {"name": URGENT}, "value": 1000},
        {
            "apiVersion": KUEUE,
            "kind": "ClusterQueue",
            "metadata": {"name": namespace},
            "spec": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "preemption": {"withinClusterQueue": "LowerPriority"},
                "resourceGroups": [{"coveredResources": ["cpu", "nvidia.com/gpu"], "flavors": [flavor]}],
            },
        },
        {
            "apiVersion": KUEUE,
            "kind": "LocalQueue",
            "metadata": {"name": QUEUE, "namespace": namespace},
            "spec": {"clusterQueue": namespace},
        },
    )

    def active() -> bool:
        found = kueue_server.get("clusterqueue", namespace, namespace) or {}
        conditions = found.get("status", {}).get("conditions", [])
        return any(each["type"] == "Active" and each["status"] == "True" for each in conditions)

    wait_for("the queue to be active", active)
    return QUEUE


@pytest.fixture
def claim(kueue_server: Kube, namespace: str) -> str:
    """A claim that is bound, without which no pod would get a node. Its name."""
    storage = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {**storage, "hostPath": {"path": "/nowhere"}, "capacity": {"storage": "1Gi"}}
    wanted = {**storage, "volumeName": namespace, "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": "demo", "namespace": namespace}
    kueue_server.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": wanted},
    )
    kueue_server.must("wait", "--for=jsonpath={.status.phase}=Bound", "-n", namespace, "pvc/demo", "--timeout=60s")
    return "demo"
