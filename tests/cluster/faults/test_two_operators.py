"""Two operators: killed, stopped and woken at random, and writes that arrive after another has taken over."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from distillrun.cluster.resources import CHILDREN, DEPLOYMENT, LEASE, RUN
from tests.cluster.faults.kubelet import Fate, one_failure, smooth
from tests.cluster.faults.proxy import Fault, Hold, Proxy, Request
from tests.cluster.faults.world import Operators, Outcome, World, Worlds, through

pytestmark = pytest.mark.controlplane


@asynccontextmanager
async def pair(worlds: Worlds, fate: Fate = one_failure) -> AsyncIterator[tuple[World, Operators, Proxy]]:
    """A world with a second operator, behind a proxy of its own. The world's own one has started first and leads."""
    async with worlds.world(fate=fate, forgive=False) as world:
        await world.until("the first to lead", lambda: holder(world))
        proxy = await worlds.proxy()
        folder = world.operators.folder / "second"
        folder.mkdir()
        second = Operators(through(proxy, world.operators.kubeconfig), world.namespace, folder)
        world.tasks.append(asyncio.create_task(second.run()))

        async def ready() -> bool:
            standby = second.started[-1] if second.started else None
            return bool(standby and standby.listens() and (await asyncio.to_thread(standby.http, "/readyz"))[0] == 200)

        await world.until("the second to be ready", ready)
        try:
            yield world, second, proxy
        finally:
            await proxy.stop()


async def holder(world: World) -> str:
    """Who holds the lease; "" when nobody does."""
    async for page in world.client.list(LEASE, world.namespace):
        for lease in page.items:
            return str(lease["spec"].get("holderIdentity") or "")
    return ""


async def disturb(dice: random.Random, operators: Operators) -> None:
    """Kill an operator, or stop it for longer or shorter than its lease lasts, again and again."""
    while True:
        await asyncio.sleep(dice.uniform(1.0, 5.0))
        if not operators.started:
            continue
        process = operators.started[-1].process
        if dice.random() < 0.5:
            process.kill()
        else:
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(dice.choice((0.5, 3.0, 12.0)))
            process.send_signal(signal.SIGCONT)


async def harassed(worlds: Worlds, expected: Outcome, seed: int) -> None:
    """Play a run whose two operators are killed, stopped and woken."""
    dice = random.Random(seed)
    async with pair(worlds) as (world, second, _):
        for operators in (world.operators, second):
            world.tasks.append(asyncio.create_task(disturb(random.Random(dice.random()), operators)))
        await world.create()
        await asyncio.sleep(25)  # of kills and pauses, then it may end in peace
        for task in world.tasks[-2:]:
            task.cancel()
        for operators in (world.operators, second):
            if operators.started:
                operators.started[-1].process.send_signal(signal.SIGCONT)
        await worlds.ended(world, expected)


async def test_two_operators_that_are_killed_stopped_and_woken_make_one_job_an_attempt(worlds: Worlds) -> None:
    expected, _ = await worlds.undisturbed()
    await harassed(worlds, expected, seed=1)


@pytest.mark.full
@pytest.mark.timeout(3600)
async def test_whenever_two_operators_are_killed_stopped_and_woken_they_make_one_job_an_attempt(worlds: Worlds) -> None:
    expected, _ = await worlds.undisturbed()
    gate = asyncio.Semaphore(3)

    async def one(seed: int) -> None:
        async with gate:
            await harassed(worlds, expected, seed)

    async with asyncio.TaskGroup() as group:
        for seed in range(12):
            group.create_task(one(seed))


WRITES = {
    "the creation of a Job": "create jobs",
    "a status": "patch distillruns/status",
    "the creation of a ConfigMap": "create configmaps",
    "the deletion of a Job": "delete jobs",
    "a Deployment": "apply deployments",
    "a Service": "apply services",
}


async def late(worlds: Worlds, expected: Outcome, which: str) -> None:
    """Hold a leader's write back, stop the leader, let the other finish the run, then let the write arrive."""
    async with pair(worlds) as (world, _, proxy):
        arrive = asyncio.Event()
        held: list[Request] = []

        def judge(request: Request) -> Fault | None:
            if held or not request.number or f"{request.verb} {request.resource}" != which:
                return None
            held.append(request)
            world.operators.started[-1].process.send_signal(signal.SIGSTOP)
            return Hold(arrive)

        world.proxy.judge = judge
        await worlds.played(world, expected)
        assert held, f"no {which}"
        assert proxy.writes(), "the other never wrote"
        before = await versions(world, held[0])
        arrive.set()

        async def answered() -> bool:
            return held[0].number in world.proxy.answers

        await world.until("the late write to be answered", answered)
        code = world.proxy.answers[held[0].number]
        assert await versions(world, held[0]) == before, f"{held[0]} took effect: {code}"
        world.operators.started[0].process.send_signal(signal.SIGCONT)
        await worlds.ended(world, expected)


async def late_apply(worlds: Worlds) -> None:
    """Hold back a leader's apply of 2 replicas until the next leader has applied 3."""
    async with pair(worlds, smooth) as (world, _, _):
        await world.create()
        await world.end()
        arrive = asyncio.Event()
        held: list[Request] = []

        def judge(request: Request) -> Fault | None:
            if held or (request.verb, request.resource) != ("apply", "deployments"):
                return None
            held.append(request)
            world.operators.started[-1].process.send_signal(signal.SIGSTOP)
            return Hold(arrive)

        world.proxy.judge = judge

        async def is_held() -> bool:
            return bool(held)

        async def three() -> bool:
            return await _replicas(world) == 3

        async def answered() -> bool:
            return held[0].number in world.proxy.answers

        await world.client.patch(RUN, world.namespace, world.name, {"spec": {"serve": {"replicas": 2}}})
        await world.until("the apply", is_held)
        await world.client.patch(RUN, world.namespace, world.name, {"spec": {"serve": {"replicas": 3}}})
        await world.until("the next leader's apply", three)
        arrive.set()
        await world.until("the late apply to be answered", answered)
        assert world.proxy.answers[held[0].number] == 409
        assert await three()


async def _replicas(world: World) -> int:
    async for page in world.client.list(DEPLOYMENT, world.namespace):
        return int(page.items[0]["spec"]["replicas"])
    return 0


async def versions(world: World, request: Request) -> dict[str, str]:
    """resourceVersion by name of all objects of the kind that a request is about."""
    resource = next(each for each in (RUN, *CHILDREN) if each.plural == request.resource.split("/")[0])
    found: dict[str, str] = {}
    async for page in world.client.list(resource, world.namespace):
        found |= {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in page.items}
    return found


async def test_a_write_that_arrives_after_another_leads_takes_no_effect(worlds: Worlds) -> None:
    expected, _ = await worlds.undisturbed()
    async with asyncio.TaskGroup() as group:
        for name in ("the creation of a Job", "a status"):
            group.create_task(late(worlds, expected, WRITES[name]))
        group.create_task(late_apply(worlds))


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_whatever_write_arrives_after_another_leads_takes_no_effect(worlds: Worlds) -> None:
    expected, _ = await worlds.undisturbed()
    async with asyncio.TaskGroup() as group:
        for name in WRITES:
            group.create_task(late(worlds, expected, WRITES[name]))


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_the_standby_acts_after_the_leader_was_killed_at_any_moment_of_its_lease(worlds: Worlds) -> None:
    figures: list[float] = []

    async def take_over(wait: float) -> None:
        async with pair(worlds, smooth) as (world, _, proxy):
            await asyncio.sleep(wait)
            killed = time.monotonic()
            world.operators.kill()
            for task in world.tasks[:1]:
                task.cancel()  # it is not started again
            await world.create()
            acted = asyncio.Event()

            def judge(request: Request) -> Fault | None:
                if request.number:
                    acted.set()
                return None

            proxy.judge = judge
            async with asyncio.timeout(120):
                await acted.wait()
            figures.append(time.monotonic() - killed)

    for phase in range(10):
        await take_over(2.0 + phase * 0.3)
    print(f"seconds from kill -9 to the standby's first write: {sorted(round(figure, 1) for figure in figures)}")
    assert len(figures) == 10
