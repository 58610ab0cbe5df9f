"""`kubectl distill suspend`, `resume`, `retry` and `list` against a real API server and the real operator."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.cluster.pretend_kubelet import PretendKubelet
from tests.cluster.test_api_rules import a_run
from tests.cluster.test_operator_path import OperatorProcess, kubelet, operator, until
from tests.kube import ROOT, Kube, condition, stage, wait_for

pytestmark = pytest.mark.controlplane
__all__ = ["kubelet", "operator"]


def distill(kube: Kube, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user's shell would run it."""
    env = {**os.environ, "KUBECONFIG": kube.kubeconfig, "PYTHONPATH": str(ROOT / "operator")}
    command = [sys.executable, "-m", "distillrun.cli", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def of_curation(kube: Kube, namespace: str) -> list[dict[str, Any]]:
    pods = kube.list("pods", namespace)
    return [pod for pod in pods if pod["metadata"]["labels"]["distillrun.dev/stage"] == "curate"]


def test_a_run_is_suspended_resumed_and_after_its_failure_retried_from_the_shell(
    api_server: Kube, namespace: str, operator: OperatorProcess, kubelet: PretendKubelet
) -> None:
    wait_for("the operator to lead", lambda: "Leading" in operator.log.read_text(), 240)
    api_server.apply(a_run(namespace))
    kubelet.start("curate")
    until(api_server, namespace, "Curating", lambda s: s["phase"] == "Curating")

    told = distill(api_server, "suspend", "s1", "-n", namespace)
    assert told.returncode == 0, told.stderr
    status = until(api_server, namespace, "Suspended", lambda s: s["phase"] == "Suspended")
    assert condition(status, "Suspended")["status"] == "True"
    wait_for("the pods to go", lambda: not of_curation(api_server, namespace))
    listed = distill(api_server, "list", "-n", namespace)
    assert "s1" in listed.stdout
    assert "Suspended" in listed.stdout

    assert distill(api_server, "resume", "s1", "-n", namespace).returncode == 0
    attempt = stage(status, "curate")["attempt"]
    kubelet.start("curate", attempt=attempt)
    until(api_server, namespace, "Curating", lambda s: stage(s, "curate")["state"] == "Running")
    kubelet.end("curate", code=65, attempt=attempt, outcome="Failed", reason="RowBroken", message="row 3 is broken")
    until(api_server, namespace, "Failed", lambda s: s["phase"] == "Failed")

    told = distill(api_server, "retry", "s1", "-n", namespace)
    assert told.returncode == 0, told.stderr
    assert "curate of s1 is tried again (spec.retry: 1)" in told.stdout
    kubelet.start("curate", attempt=attempt + 1)
    until(api_server, namespace, "Curating again", lambda s: stage(s, "curate")["state"] == "Running")
    refused = distill(api_server, "retry", "s1", "-n", namespace)
    assert refused.returncode == 1
    assert "has not failed: it is Curating" in refused.stderr
