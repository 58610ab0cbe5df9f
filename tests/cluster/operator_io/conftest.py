"""Operators to test: processes under the chart's role, and their parts in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from distillrun.cluster.client import Client
from distillrun.cluster.connection import connect
from tests.cluster.operator_io.processes import Audit, OperatorProcess, operator_kubeconfig
from tests.kube import Kube

Starter = Callable[..., OperatorProcess]


@pytest.fixture
def audit(api_server: Kube, namespace: str) -> Audit:
    """What the operators of this test's namespace ask of the API server."""
    path = Path(api_server.kubeconfig).parents[1] / "logs/audit.jsonl"
    return Audit(path, f"system:serviceaccount:{namespace}:operator")


@pytest.fixture
def start_operator(api_server: Kube, namespace: str, audit: Audit, tmp_path: Path) -> Iterator[Starter]:
    """Starts operator processes that watch the test's namespace, and ends them."""
    kubeconfig = operator_kubeconfig(api_server, namespace, tmp_path)
    started: list[OperatorProcess] = []

    def start(*arguments: str, wait: bool = True) -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        operator = OperatorProcess.start(kubeconfig, namespace, log, *arguments, wait=wait)
        started.append(operator)
        return operator

    yield start
    for operator in started:
        operator.end()
        print(f"--- {operator.log.name}\n{operator.log.read_text()}")


@pytest.fixture
async def client(api_server: Kube, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A client that may do everything."""
    monkeypatch.setenv("KUBECONFIG", api_server.kubeconfig)
    made = Client(connect(), user_agent="test")
    yield made
    await made.close()
