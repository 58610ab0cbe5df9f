"""Errors of every kind on every verb, and an API server and an etcd that crash in the middle of a run."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.cluster.faults.kubelet import End, smooth
from tests.cluster.faults.trouble import KINDS, VERBS, Errors
from tests.cluster.faults.world import QUICK, Outcome, Worlds
from tests.kube import localkube

pytestmark = pytest.mark.controlplane

SLOW = ("timeout",)
"""Each of these takes the client's whole patience (15 s)."""


async def disturbed(worlds: Worlds, expected: Outcome, errors: Errors) -> Errors:
    """Play a run whose operator meets errors."""
    async with worlds.world(*QUICK) as world:
        world.proxy.judge = errors
        await worlds.played(world, expected)
    return errors


async def test_a_run_ends_as_ever_when_its_operator_meets_errors_of_every_kind(worlds: Worlds) -> None:
    expected, _ = await worlds.undisturbed()
    quick = tuple(kind for kind in KINDS if kind not in SLOW)
    met = await disturbed(worlds, expected, Errors(random.Random(3), quick, limit=24, leases=True))
    assert len(met.given) == met.limit, met.given


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_ends_as_ever_when_one_kind_of_error_meets_one_verb(worlds: Worlds, kind: str) -> None:
    expected, _ = await worlds.undisturbed()
    limit = 2 if kind in SLOW else 8
    async with asyncio.TaskGroup() as group:
        for seed, verb in enumerate(VERBS):
            # Every request of that verb fails until the limit, with the Lease's among them.
            errors = Errors(random.Random(seed), (kind,), (verb,), chance=1.0, limit=limit, leases=True)
            group.create_task(disturbed(worlds, expected, errors))


@pytest.mark.parametrize("component", ["apiserver", "etcd"])
async def test_a_run_ends_as_ever_when_a_part_of_the_control_plane_crashes(worlds: Worlds, component: str) -> None:
    go_on = asyncio.Event()

    def fate(stage: str, attempt: int, index: int) -> End | None:
        return smooth(stage, attempt, index) if stage != "train" or go_on.is_set() else None

    async with worlds.world(fate=fate, liveness=True) as world:
        await world.create()

        async def training() -> bool:
            return (await world.status()).get("phase") == "Training"

        await world.until("training", training)
        name = Path(worlds.kube.kubeconfig).parents[1].name
        await asyncio.to_thread(localkube, "control-plane", "restart", "--name", name, "--component", component)
        go_on.set()
        status = await world.end()
        assert status["phase"] == "Serving"
        assert next(stage for stage in status["stages"] if stage["name"] == "train")["attempt"] == 1
