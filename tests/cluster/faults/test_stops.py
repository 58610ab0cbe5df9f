"""The operator is stopped after, or before, each single write of a whole run, and another one goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from tests.cluster.faults.proxy import Fault, Request, Stop
from tests.cluster.faults.world import Outcome, Worlds

pytestmark = pytest.mark.controlplane

AT_ONCE = 5
"""Schedules side by side: each mostly waits."""


@dataclass(frozen=True)
class Place:
    """Where the operator is stopped: at the n-th write of all, or of a kind such as `create jobs`."""

    number: int
    kind: str = ""
    after: bool = True


@dataclass
class StopAt:
    """Judges the write at that place to be the operator's last act."""

    place: Place
    hit: list[Request] = field(default_factory=list)
    seen: int = 0

    def __call__(self, request: Request) -> Fault | None:
        """Judge a request."""
        if not request.number or self.place.kind not in ("", f"{request.verb} {request.resource}"):
            return None
        self.seen += 1
        if self.seen != self.place.number or self.hit:
            return None
        self.hit.append(request)
        return Stop(self.place.after)


async def stopped_at(worlds: Worlds, places: Iterable[Place], expected: Outcome) -> list[Request]:
    """Play the run once for each place, the operator stopped there. The writes at which it was stopped."""
    gate = asyncio.Semaphore(AT_ONCE)
    hit: list[Request] = []

    async def play(place: Place) -> None:
        async with gate, worlds.world() as world:
            stop = world.proxy.judge = StopAt(place)
            await worlds.played(world, expected)
            assert len(world.operators.started) == 1 + len(stop.hit)
            hit.extend(stop.hit)

    async with asyncio.TaskGroup() as group:
        for place in places:
            group.create_task(play(place))
    return hit


def kinds(writes: Iterable[Request]) -> Counter[str]:
    """Writes by verb and resource."""
    return Counter(f"{request.verb} {request.resource}" for request in writes)


SAMPLE = (
    Place(1, "create configmaps", after=True),
    Place(2, "create jobs", after=True),
    Place(3, "patch distillruns/status", after=False),
    Place(4, "patch distillruns/status", after=True),
    Place(1, "delete jobs", after=False),
    Place(1, "apply deployments", after=True),
)


async def test_an_operator_stopped_at_writes_of_every_kind_is_continued_by_the_next(worlds: Worlds) -> None:
    expected, _ = await worlds.undisturbed()
    hit = await stopped_at(worlds, SAMPLE, expected)
    assert kinds(hit) == Counter(place.kind for place in SAMPLE)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_an_operator_stopped_at_every_single_write_is_continued_by_the_next(worlds: Worlds, after: bool) -> None:
    expected, writes = await worlds.undisturbed()
    places = [Place(number, after=after) for number in range(1, len(writes) + 1)]
    hit = await stopped_at(worlds, places, expected)
    print(f"{len(writes)} writes: {dict(kinds(writes))}; stopped at {len(hit)}: {dict(kinds(hit))}")
    # How often the status is written depends on what a pass finds together: the last places may not be reached.
    assert len(hit) >= len(writes) - 3
    assert set(kinds(hit)) == set(kinds(writes))
