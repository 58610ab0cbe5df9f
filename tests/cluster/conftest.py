"""A real API server for the tests in this folder: one for all of them, with controllers; a namespace for each."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.authors import RUNS, Author, create, grant
from tests.kube import ROOT, Kube, localkube, wait_for
from tests.unit.builders import spec

CACHE = Path(os.environ.get("DISTILLRUN_CACHE", Path.home() / ".cache/distillrun"))


@pytest.fixture(scope="session")
def api_server() -> Iterator[Kube]:
    """API server, etcd, controller manager and scheduler, with the CRD and the admission policy installed."""
    name = f"api-{uuid.uuid4().hex[:6]}"
    kubeconfig = localkube("control-plane", "up", "--name", name, "--with", "controller-manager,scheduler")
    kube = Kube(kubeconfig, str(CACHE / "bin/kubectl"))
    try:
        kube.must("apply", "--server-side", "-f", str(ROOT / "manifests/crd/distillruns.distillrun.dev.yaml"))
        kube.must("wait", "--for=condition=Established", "crd/distillruns.distillrun.dev", "--timeout=30s")
        kube.must("apply", "--server-side", "-f", str(ROOT / "manifests/admission/policy.yaml"))
        yield kube
    finally:
        localkube("control-plane", "down", "--name", name)


@pytest.fixture
def namespace(api_server: Kube) -> Iterator[str]:
    """A namespace of the test's own, which refuses every pod that the `restricted` Pod Security Standard forbids."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    meta = {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    yield name
    api_server.must("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def policed(api_server: Kube) -> Kube:
    """The API server once it obeys the policy, which it does some time after it was created."""
    namespace = "policed"
    api_server.must("create", "namespace", namespace)
    grant(api_server, namespace, "nobody", RUNS)
    meta = {"name": "s1", "namespace": namespace}
    run = {"apiVersion": "distillrun.dev/v1alpha1", "kind": "DistillRun", "metadata": meta, "spec": spec()}
    wait_for("the policy to be in force", lambda: create(api_server, run, "nobody").returncode)
    return api_server


@pytest.fixture
def author(policed: Kube, namespace: str) -> Author:
    """`author(rule, …)`: a user who may write runs and what the rules say, in the test's namespace."""

    def made(*rules: dict[str, Any], name: str = "alice") -> str:
        grant(policed, namespace, name, RUNS, *rules)
        return name

    return made
