"""Who may write is decided by a clock of one's own; elections against a real API server are in tests/cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from distillrun.cluster import lease as module
from distillrun.cluster.errors import ApiError
from distillrun.cluster.lease import DEADLINE, DURATION, Lease, NotLeader


class Clock:
    """A clock that goes only when a test lets it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """Keeps one Lease as the API server does: with versions."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.body: dict[str, Any] | None = None
        self.version = 0
        self.slow = 0.0

    async def get(self, *_: Any, **__: Any) -> dict[str, Any]:
        if self.body is None:
            raise ApiError(404, "NotFound", "no lease")
        return self.body

    async def create(self, _: Any, __: Any, body: dict[str, Any], **___: Any) -> dict[str, Any]:
        if self.body is not None:
            raise ApiError(409, "AlreadyExists", "there is one")
        return self._store(body["spec"])

    async def patch(self, *_: Any, retry: bool = True) -> dict[str, Any]:
        body = _[3]
        assert self.body is not None
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise ApiError(409, "Conflict", "stale")
        return self._store({**self.body["spec"], **body["spec"]})

    def _store(self, spec: dict[str, Any]) -> dict[str, Any]:
        self.clock.now += self.slow
        self.version += 1
        self.body = {"metadata": {"resourceVersion": str(self.version)}, "spec": spec}
        return self.body


def leases() -> tuple[Clock, Shelf, Lease, Lease]:
    clock = Clock()
    shelf = Shelf(clock)
    one, two = (Lease(shelf, "ns", "l", name, clock=clock) for name in ("one", "two"))  # type: ignore[arg-type]
    return clock, shelf, one, two


async def test_before_it_leads_a_process_may_not_write() -> None:
    _, _, one, _ = leases()
    with pytest.raises(NotLeader):
        one.check()


async def test_the_right_to_write_ends_before_another_may_take_it() -> None:
    clock, _, one, two = leases()
    await one.acquire()
    one.check()
    assert await two._try() == "one"
    clock.now += DEADLINE
    with pytest.raises(NotLeader):
        one.check()
    assert await two._try() == "one"
    clock.now += DURATION - DEADLINE
    assert await two._try() is None
    two.check()


async def test_the_right_to_write_counts_from_the_start_of_the_renewal_not_from_its_answer() -> None:
    clock, shelf, one, _ = leases()
    shelf.slow = 5.0
    await one.acquire()
    clock.now += DEADLINE - 5.0
    assert not one.leading


async def test_a_lease_that_is_renewed_is_not_taken() -> None:
    clock, _, one, two = leases()
    await one.acquire()
    for _ in range(10):
        clock.now += 3
        assert await one._renew()
        assert await two._try() == "one"


async def test_who_finds_the_lease_taken_stops_at_once() -> None:
    clock, shelf, one, two = leases()
    await one.acquire()
    await two._try()
    clock.now += DURATION
    assert await two._try() is None
    with pytest.raises(NotLeader, match="two holds"):
        await one._renew()
    assert not one.leading
    assert shelf.body is not None
    assert shelf.body["spec"]["leaseTransitions"] == 1


async def test_an_edited_lease_that_still_names_us_is_kept() -> None:
    _, shelf, one, _ = leases()
    await one.acquire()
    assert shelf.body is not None
    shelf._store(dict(shelf.body["spec"]))
    assert not await one._renew()
    assert await one._renew()
    one.check()


async def test_a_released_lease_is_taken_at_once() -> None:
    _, _, one, two = leases()
    await one.acquire()
    assert await two._try() == "one"
    await one.release()
    with pytest.raises(NotLeader):
        one.check()
    assert await two._try() is None


async def test_a_lease_that_is_late_is_released_too_unless_another_has_taken_it() -> None:
    clock, shelf, one, two = leases()
    await one.acquire()
    await two._try()
    clock.now += DURATION - 0.5
    await one.release()
    assert await two._try() is None
    clock.now += DURATION
    await one.release()
    assert shelf.body is not None
    assert shelf.body["spec"]["holderIdentity"] == "two"


async def test_a_lease_that_somebody_deleted_is_made_again() -> None:
    _, shelf, one, _ = leases()
    await one.acquire()

    async def gone(*_: Any, **__: Any) -> dict[str, Any]:
        shelf.body = None
        raise ApiError(404, "NotFound", "no lease")

    patch, shelf.patch = shelf.patch, gone  # type: ignore[method-assign]
    assert await one._renew()
    shelf.patch = patch  # type: ignore[method-assign]
    one.check()


async def test_a_renewal_that_comes_too_late_is_no_loss_when_nobody_led_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, shelf, one, _ = leases()
    await one.acquire()
    monkeypatch.setattr(module, "RENEW", 0.001)
    monkeypatch.setattr(module, "RETRY", 0.001)
    regained = asyncio.Event()
    patch = shelf.patch

    async def unanswered(*_: Any, **__: Any) -> dict[str, Any]:
        clock.now += 3
        if clock.now > 150:
            shelf.patch = patch  # type: ignore[method-assign]
        assert clock.now < 109 or not one.leading
        raise ApiError(0, "Timeout", "no answer")

    shelf.patch = unanswered  # type: ignore[method-assign]
    keeping = asyncio.create_task(one.keep(regained.set))
    await regained.wait()
    keeping.cancel()
    one.check()
