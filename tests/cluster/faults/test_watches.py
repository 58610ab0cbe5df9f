"""Watches that lose, delay and repeat what they tell, that expire, and that go silent while the process lives."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.cluster.faults.kubelet import End, smooth
from tests.cluster.faults.trouble import Silence, Watches
from tests.cluster.faults.world import QUICK, Outcome, Worlds

pytestmark = pytest.mark.controlplane

TROUBLES = {
    "all events lost": {"drop": 1.0},
    "half of the events lost": {"drop": 0.5},
    "events repeated": {"repeat": 0.8},
    "events delayed": {"delay": 1.5},
    "watches that expire": {"expire": 0.3},
    "all of it": {"drop": 0.2, "repeat": 0.3, "expire": 0.1, "delay": 0.5},
}


async def disturbed(worlds: Worlds, expected: Outcome, trouble: dict[str, float], seed: int) -> None:
    """Play a run whose operator's watches are disturbed."""
    async with worlds.world(*QUICK) as world:
        watches = world.proxy.tamper = Watches(random.Random(seed), **trouble)
        await worlds.played(world, expected)
        assert watches.given


async def test_a_run_ends_as_ever_when_watches_lose_delay_repeat_and_expire(worlds: Worlds) -> None:
    expected, _ = await worlds.undisturbed()
    async with asyncio.TaskGroup() as group:
        for name in ("half of the events lost", "all of it"):
            group.create_task(disturbed(worlds, expected, TROUBLES[name], seed=1))


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TROUBLES)
async def test_a_run_ends_as_ever_whatever_happens_to_its_watches(worlds: Worlds, name: str) -> None:
    expected, _ = await worlds.undisturbed()
    async with asyncio.TaskGroup() as group:
        for seed in range(5):
            group.create_task(disturbed(worlds, expected, TROUBLES[name], seed))


async def test_an_operator_whose_watches_went_silent_fails_liveness_and_its_successor_goes_on(worlds: Worlds) -> None:
    go_on = asyncio.Event()

    def fate(stage: str, attempt: int, index: int) -> End | None:
        return smooth(stage, attempt, index) if stage != "train" or go_on.is_set() else None

    async with worlds.world(*QUICK, fate=fate, liveness=True) as world:
        silence = world.proxy.tamper = Silence()
        await world.create()

        async def training() -> bool:
            return (await world.status()).get("phase") == "Training"

        async def restarted() -> bool:
            return len(world.operators.started) > 1

        await world.until("training", training)
        silence.now = True
        go_on.set()  # the watches will not say so
        await world.until("liveness to fail and the operator to be started again", restarted, 120)
        assert world.operators.started[0].process.returncode == -9
        silence.now = False
        status = await world.end()
        assert status["phase"] == "Serving"
