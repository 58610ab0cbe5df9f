"""A real API server for the tests in this folder: one for all of them, with controllers; a namespace for each."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kube import ROOT, Kube, localkube

CACHE = Path(os.environ.get("DISTILLRUN_CACHE", Path.home() / ".cache/distillrun"))


@pytest.fixture(scope="session")
def api_server() -> Iterator[Kube]:
    """API server, etcd, controller manager and scheduler, with the CRD installed."""
    name = f"api-{uuid.uuid4().hex[:6]}"
    kubeconfig = localkube("control-plane", "up", "--name", name, "--with", "controller-manager,scheduler")
    kube = Kube(kubeconfig, str(CACHE / "bin/kubectl"))
    try:
        kube.must("apply", "--server-side", "-f", str(ROOT / "manifests/crd/distillruns.distillrun.dev.yaml"))
        kube.must("wait", "--for=condition=Established", "crd/distillruns.distillrun.dev", "--timeout=30s")
        yield kube
    finally:
        localkube("control-plane", "down", "--name", name)


@pytest.fixture
def namespace(api_server: Kube) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    api_server.must("create", "namespace", name)
    yield name
    api_server.must("delete", "namespace", name, "--wait=false")
