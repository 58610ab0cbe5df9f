"""Random schedules: everything that the other files do one by one, at once, on the real API server.

Errors on requests, stops before and after writes, watches that lose, delay, repeat and expire, pods that are preempted
or fail, and a user who edits. Each schedule follows from its seed, as far as the time on a real cluster allows.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from distillrun.cluster.errors import ApiError
from distillrun.cluster.resources import RUN
from tests.cluster.faults.kubelet import End, failure, smooth
from tests.cluster.faults.proxy import Fault, Request, Stop
from tests.cluster.faults.trouble import KINDS, Errors, Watches
from tests.cluster.faults.world import QUICK, Outcome, World, Worlds

pytestmark = pytest.mark.controlplane

COUNTED_FAILURES = 2
"""As many as maxRetries allows."""
EDITS: tuple[dict[str, Any], ...] = (
    {"gates": [{"benchmark": "additions", "metric": "accuracy", "atLeast": "0.5"}]},
    {"maxRetries": 4},
    {"budget": {"gpuHourPrice": "7"}},
)
"""What the user changes and changes back, so that the end is the same."""


@dataclass
class Judge:
    """Errors, and up to two stops."""

    dice: random.Random
    errors: Errors
    stops: int = 2

    def __call__(self, request: Request) -> Fault | None:
        """Judge a request."""
        if request.number and self.stops and self.dice.random() < 0.06:
            self.stops -= 1
            return Stop(after=self.dice.random() < 0.5)
        return self.errors(request)


@dataclass
class Fates:
    """Pods that are preempted, must wait or fail, at most three times a stage."""

    dice: random.Random
    counted: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def __call__(self, stage: str, attempt: int, index: int) -> End | None:
        """How a pod ends."""
        chance = self.dice.random()
        if stage == "serve" or chance > 0.4:
            return smooth(stage, attempt, index)
        if chance < 0.15 and self.counted[stage] < COUNTED_FAILURES:
            self.counted[stage] += 1
            return failure(70)
        if self.others[stage] < 3:
            self.others[stage] += 1
            return failure(75, retryAfterSeconds=1) if chance < 0.28 else End(143, {}, disrupted=True)
        return smooth(stage, attempt, index)


async def edit(world: World, dice: random.Random) -> None:
    """A user changes the spec and changes it back, a few times."""
    for _ in range(dice.randint(0, 3)):
        change = dice.choice(EDITS)
        name = next(iter(change))
        await asyncio.sleep(dice.uniform(0.5, 4.0))
        before = (await world.client.get(RUN, world.namespace, world.name))["spec"].get(name)
        await world.client.patch(RUN, world.namespace, world.name, {"spec": change})
        await asyncio.sleep(dice.uniform(0.2, 3.0))
        await world.client.patch(RUN, world.namespace, world.name, {"spec": {name: before}})


async def schedule(worlds: Worlds, expected: Outcome, seed: int) -> None:
    """Play one run by one schedule."""
    dice = random.Random(seed)
    kinds = tuple(kind for kind in KINDS if kind != "timeout" or seed % 10 == 0)  # each takes 15 s
    errors = Errors(random.Random(seed + 1), kinds, chance=0.15, limit=20, leases=True)
    fates = Fates(random.Random(seed + 2))
    async with worlds.world(*QUICK, fate=fates) as world:
        world.proxy.judge = Judge(dice, errors)
        world.proxy.tamper = Watches(random.Random(seed + 3), drop=0.1, repeat=0.2, expire=0.05, delay=0.3)
        await world.create()
        await edit(world, random.Random(seed + 4))
        await worlds.ended(world, expected)


async def schedules(worlds: Worlds, seeds: Iterable[int], at_once: int) -> None:
    """Play schedules side by side and say which seeds failed."""
    expected, _ = await worlds.undisturbed()
    gate = asyncio.Semaphore(at_once)
    failed: dict[int, str] = {}

    async def play(seed: int) -> None:
        async with gate:
            try:
                await schedule(worlds, expected, seed)
            except (AssertionError, ApiError) as error:
                failed[seed] = str(error)

    await asyncio.gather(*(play(seed) for seed in seeds))
    for seed, words in failed.items():
        print(f"--- seed {seed}: {words}")
    assert sorted(failed) == []


async def test_random_schedules_end_as_an_undisturbed_run(worlds: Worlds) -> None:
    await schedules(worlds, range(1), at_once=1)


@pytest.mark.full
@pytest.mark.timeout(7200)
async def test_two_hundred_random_schedules_end_as_an_undisturbed_run(worlds: Worlds) -> None:
    await schedules(worlds, range(100, 300), at_once=6)
