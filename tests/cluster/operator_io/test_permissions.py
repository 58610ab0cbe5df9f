"""The chart's roles, cluster-wide and for named namespaces, as the API server reads them and an operator needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.conftest import Render, helm, render
from tests.cluster.operator_io.processes import LEASE, OperatorProcess, kubeconfig_of
from tests.cluster.operator_io.test_processes import a_run, wait_for_jobs
from tests.kube import Kube, wait_for

__all__ = ["helm", "render"]  # fixtures
pytestmark = pytest.mark.controlplane
SYSTEM = "distillrun-system"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:distillrun-operator"
KINDS = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


@pytest.fixture
def two(api_server: Kube, namespace: str) -> list[str]:
    """Two namespaces for runs."""
    other = f"{namespace}-b"
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    return [namespace, other]


def install(kube: Kube, objects: list[dict[str, Any]]) -> None:
    """The chart's account and roles, and nothing else of it."""
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    kube.apply(*(each for each in objects if each["kind"] in KINDS))


def may(kube: Kube, verb: str, resource: str, namespace: str) -> bool:
    answer = kube.kubectl("auth", "can-i", verb, resource, "-n", namespace, "--as", ACCOUNT).stdout.strip()
    assert answer in ("yes", "no"), answer
    return answer == "yes"


@pytest.fixture
def third(api_server: Kube, namespace: str) -> str:
    """A namespace that is none of the operator's business."""
    name = f"{namespace}-c"
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def test_an_operator_for_named_namespaces_works_there_and_may_do_nothing_elsewhere(
    api_server: Kube, two: list[str], third: str, render: Render, tmp_path: Path
) -> None:
    install(api_server, render({"watchNamespaces": two, "leaderElection": {"leaseName": LEASE}}))
    for namespace, expected in ((two[0], True), (two[1], True), (third, False), (SYSTEM, False)):
        assert may(api_server, "create", "jobs", namespace) is expected
        assert may(api_server, "list", "distillruns", namespace) is expected
        assert not may(api_server, "get", "secrets", namespace)
        assert not may(api_server, "create", "pods/exec", namespace)
    assert may(api_server, "create", "leases", SYSTEM)
    kubeconfig = kubeconfig_of(api_server, "distillrun-operator", SYSTEM, tmp_path)
    operator = OperatorProcess.start(kubeconfig, SYSTEM, tmp_path / "log", "--namespaces", ",".join(two))
    try:
        api_server.apply(*(a_run(namespace) for namespace in (*two, third)))
        for namespace in two:
            wait_for_jobs(api_server, namespace)
        assert api_server.status("s1", third)["observedGeneration"] == -1
    finally:
        operator.end()
        print(operator.log.read_text())
        for namespace in (two[1], third):
            api_server.must("delete", "namespace", namespace, "--wait=false")
        api_server.must("delete", "namespace", SYSTEM, "--wait=true")


def test_a_cluster_wide_operator_may_work_everywhere_and_read_secrets_nowhere(
    api_server: Kube, namespace: str, render: Render
) -> None:
    objects = render()
    wait_for("the namespace of the test before to be gone", lambda: gone(api_server))
    install(api_server, objects)
    try:
        for place in (namespace, "default"):
            assert may(api_server, "create", "jobs", place)
            assert not may(api_server, "get", "secrets", place)
            assert not may(api_server, "list", "secrets", place)
            assert not may(api_server, "update", "distillruns", place)
            assert not may(api_server, "impersonate", "users", place)
        assert not may(api_server, "list", "nodes", "default")
    finally:
        api_server.kubectl("delete", "-f", "-", stdin=yaml.safe_dump_all(o for o in objects if o["kind"] in KINDS))
        api_server.must("delete", "namespace", SYSTEM, "--wait=false")


def gone(kube: Kube) -> bool:
    return SYSTEM not in kube.must("get", "namespaces", "-o", "name")
