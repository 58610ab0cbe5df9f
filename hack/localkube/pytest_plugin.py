"""pytest fixtures that hand out clusters. Registered by tests/conftest.py; needs the marks `controlplane` and `node`.

`control_plane` and `control_plane_factory` start API servers, `node_cluster` the machine's one node; each is
started once a session and only if a test asks for it. A node cluster that runs already is used and left
running, and one that was started here is left running too: bringing it up is what costs, `make cluster-down` ends it.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import control_plane as planes
from . import node
from .binaries import binary, build
from .client import Client
from .places import Cluster
from .places import node_cluster as node_cluster_place


@dataclass(frozen=True)
class RunningCluster:
    """A cluster to test against: the administrator's kubeconfig, a plain client, and the API server's audit log."""

    name: str
    kubeconfig: Path
    audit_log: Path

    @property
    def client(self) -> Client:
        """Return a client of the administrator's."""
        return Client(self.kubeconfig)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl and return its standard output; fail the test with its words if it fails and `check` is set."""
        command = [str(binary("kubectl")), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            pytest.fail(f"kubectl {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects given as dictionaries."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def audit_events(self) -> list[dict[str, Any]]:
        """Return the audit events so far; the last one may still be in the writing and is then left out."""
        events = []
        for line in self.audit_log.read_text().splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
        return events


def _wrap(cluster: Cluster) -> RunningCluster:
    return RunningCluster(cluster.name, cluster.kubeconfig(), cluster.audit_log)


@pytest.fixture(scope="session")
def control_plane_factory() -> Iterator[Callable[..., RunningCluster]]:
    """Give a function that starts a control plane: name, then the arguments of hack.localkube.control_plane.up.

    Names get the process id appended, so that sessions do not meet; all are gone after the session.
    """
    started = []

    def start(name: str, **options: Any) -> RunningCluster:
        unique = f"{name}-{os.getpid()}"
        started.append(unique)
        return _wrap(planes.up(unique, **options))

    yield start
    for name in started:
        planes.down(name)


@pytest.fixture(scope="session")
def control_plane(control_plane_factory: Callable[..., RunningCluster]) -> RunningCluster:
    """Give the session's control plane: etcd, API server and controller manager (so owner references are acted on)."""
    return control_plane_factory("tests", with_=["controller-manager"])


@pytest.fixture(scope="session")
def node_was_up() -> bool:
    """Tell whether the node cluster ran before this session: it may then be in somebody's use."""
    return node.running(node_cluster_place())


@pytest.fixture(scope="session")
def node_cluster(node_was_up: bool) -> RunningCluster:
    """Give the machine's node cluster, brought up if it is not; skips the test without root."""
    if os.geteuid() != 0:
        pytest.skip("a node needs root")
    return _wrap(node.up())


@pytest.fixture(scope="session")
def helm() -> Path:
    """Give the path of Helm."""
    build(["helm"])
    return binary("helm")
