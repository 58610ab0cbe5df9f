"""Worlds to disturb; afterwards the audit log is asked whether any attempt ever had two Jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from distillrun.cluster.client import Client
from distillrun.cluster.connection import connect
from tests.cluster.faults.kubelet import Kubelet
from tests.cluster.faults.world import Worlds, job_creations
from tests.kube import Kube


@pytest.fixture(scope="session")
def known() -> dict[Any, Any]:
    """What undisturbed runs came to, for all tests of this folder."""
    return {}


@pytest.fixture
async def worlds(
    api_server: Kube, known: dict[Any, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Worlds]:
    """Worlds of this test, and one pretended kubelet for all of them."""
    monkeypatch.setenv("KUBECONFIG", api_server.kubeconfig)
    client = Client(connect(), user_agent="faults")
    audit = Path(api_server.kubeconfig).parents[1] / "logs/audit.jsonl"
    start = audit.stat().st_size
    kubelet = Kubelet(client)
    playing = asyncio.create_task(kubelet.run())
    made = Worlds(api_server, client, kubelet, tmp_path, known)
    yield made
    assert not playing.done(), playing
    playing.cancel()
    await client.close()
    created = job_creations(audit, start, {world.namespace for world in made.made})
    assert created, "the audit log shows no Job at all"
    assert {name: count for name, count in created.items() if count > 1} == {}, "two Jobs of one attempt"
