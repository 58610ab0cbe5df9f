"""Serving is metered apart from the run: what is counted, what the limit does, and that nothing is lost or doubled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillrun.api.status import LEDGER, ServingCost
from distillrun.plan import meter, reasons
from distillrun.plan.meter import Unwatched
from distillrun.plan.model import Child, ContainerEnd, Pod
from tests.unit.builders import at, pod, run, spec
from tests.unit.plan.test_lifecycle import edit, shared
from tests.unit.plan.test_planner import GOOD_CURATE, GOOD_TRAIN, Play, condition_of, scores, stage_of

SERVER = Child("Deployment", "s1-serve", "d", "run-uid", False, available=1)


def serving(**changes: Any) -> Play:
    """A run whose gates are passed; a GPU hour costs 3.60, a GPU-second 0.001."""
    play = Play(run(spec=spec(**changes)))
    play.complete("curate", GOOD_CURATE)
    play.complete("train", GOOD_TRAIN, pods=2)
    if play.run.spec.get("evaluate"):
        play.complete("evaluate", scores(0.99))
    return play


def server(name: str, scheduled: float, **changes: Any) -> Pod:
    """A model server's pod with two GPUs."""
    times = {"created": at(scheduled), "scheduled": at(scheduled), "started": at(scheduled + 1)}
    return pod("s1-serve", stage="serve", **{"name": name, "uid": f"uid-{name}", "gpus": 2, **times, **changes})


def dead(one: Pod, after: float) -> Pod:
    """The pod after the kubelet has ended it."""
    return replace(one, phase="Failed", end=ContainerEnd(137, "Evicted", "", at(after)))


def used(play: Play) -> float:
    return float(play.run.status["cost"]["serving"]["gpuSeconds"])


def test_what_a_server_uses_is_counted_apart_and_never_against_the_budget() -> None:
    play = serving(budget={"gpuHourPrice": "3.60", "limit": "1"})
    before = play.run.status["cost"]["spent"]
    one = server("a", play.clock)
    play.step(SERVER, one)
    decision = play.step(SERVER, one, seconds=100_000)
    assert used(play) == pytest.approx(2 * 100_010)
    assert play.run.status["cost"]["serving"]["spent"] == "200.02"
    assert play.run.status["cost"]["spent"] == before
    assert condition_of(play.run.status, reasons.BUDGET_EXCEEDED)["status"] == "False"
    assert "server" in [want.role for want in decision.ensure]


def test_a_server_that_was_never_evaluated_is_not_stopped_by_the_budget_either() -> None:
    play = serving(evaluate=None, gates=None, budget={"gpuHourPrice": "3.60", "limit": "100"})
    edit(play, budget={"gpuHourPrice": "3.60", "limit": "0.0001"})
    assert "server" in [want.role for want in play.step(SERVER, server("a", play.clock)).ensure]
    assert play.run.status["phase"] == "Serving"


def test_what_a_server_uses_is_shown_every_five_minutes_and_no_more_often() -> None:
    play = serving()
    one = server("a", play.clock)
    play.step(SERVER, one)
    quiet = play.step(SERVER, one, seconds=200)
    assert quiet.status is None
    assert quiet.requeue_after == meter.SHOWN_EVERY
    assert play.step(SERVER, one, seconds=110).status is not None


def test_at_four_fifths_of_its_limit_serving_warns_once_and_at_the_limit_the_servers_go() -> None:
    play = serving(serve={"maxCost": "10"})
    one = server("a", play.clock)
    soon = play.step(SERVER, one, seconds=3000)
    assert soon.requeue_after == meter.SHOWN_EVERY
    near = play.step(SERVER, one, seconds=1010)
    assert [event.reason for event in near.events] == [reasons.NEAR_MAX_COST]
    assert near.events[0].type == "Warning"
    assert condition_of(play.run.status, reasons.MAX_COST)["status"] == "False"
    assert play.step(SERVER, one, seconds=10).events == ()
    last = play.step(SERVER, one, seconds=900)
    assert last.requeue_after is not None
    assert 0 < last.requeue_after < 100
    over = play.step(SERVER, one, seconds=last.requeue_after)
    assert "s1-serve" in [ref.name for ref in over.delete]
    assert reasons.MAX_COST in [event.reason for event in over.events]
    assert play.run.status["phase"] == "Suspended"
    assert condition_of(play.run.status, reasons.MAX_COST)["status"] == "True"
    assert condition_of(play.run.status, reasons.STALLED)["reason"] == reasons.MAX_COST
    assert "raise serve.maxCost" in play.run.status["message"]
    going = replace(one, deleting=True, deleted=at(play.clock), end=ContainerEnd(0, "", "", at(play.clock + 5)))
    play.step(going)
    gone = play.step(seconds=100_000)
    assert (gone.ensure, gone.requeue_after) == ((), None)
    assert used(play) == pytest.approx(10_000, abs=20)
    assert not play.run.status["cost"]["serving"]["estimated"]


def test_raising_the_limit_brings_the_servers_back() -> None:
    play = serving(serve={"maxCost": "1"})
    play.step(SERVER, server("a", play.clock), seconds=600)
    assert play.run.status["phase"] == "Suspended"
    edit(play, serve={"maxCost": "2"})
    assert "server" in [want.role for want in play.step().ensure]
    assert condition_of(play.run.status, reasons.SUSPENDED)["status"] == "False"


def test_a_server_whose_endpoint_another_run_has_taken_over_is_counted_on_for_its_own_run() -> None:
    play = serving(serve={"endpointName": "chat"})
    one = server("a", play.clock)
    play.step(SERVER, one, endpoint=shared("run-uid", 0))
    play.step(SERVER, one, endpoint=shared("newer", 500))
    assert stage_of(play.run.status, "serve")["reason"] == reasons.SUPERSEDED
    before = used(play)
    play.step(SERVER, one, endpoint=shared("newer", 500), seconds=1000)
    assert used(play) == before + 2 * 1000


def test_a_server_that_is_started_again_and_again_holds_its_gpus_all_the_time() -> None:
    play = serving()
    begun = play.clock
    crashing = server("a", begun, end=ContainerEnd(1, "Error", "", at(begun + 5)), waiting_reason="CrashLoopBackOff")
    play.step(SERVER, crashing)
    play.step(SERVER, crashing, seconds=1000)
    assert used(play) == 2 * 1010


def test_a_pod_that_ended_is_settled_once_for_as_long_as_it_is_there() -> None:
    first = meter.advance(None, [server("a", 0)], "3.60", at(50))
    over = dead(server("a", 0), 60)
    seen = meter.advance(first, [over], "3.60", at(70))
    later = meter.advance(seen, [over], "3.60", at(9000))
    gone = meter.advance(later, [], "3.60", at(9999))
    assert [each and each.gpu_seconds for each in (seen, later, gone)] == ["120.0"] * 3
    assert gone is not None
    assert (gone.pods, gone.estimated) == ([], False)


def test_a_pod_that_is_gone_without_a_word_is_billed_until_it_is_missed_and_marked() -> None:
    first = meter.advance(None, [server("a", 0)], "3.60", at(50))
    gone = meter.advance(first, [], "3.60", at(80))
    assert gone is not None
    assert (gone.gpu_seconds, gone.estimated) == ("160.0", True)


def test_a_pod_on_a_node_that_does_not_answer_is_billed_until_it_is_given_up() -> None:
    lost = server("a", 0, deleting=True, deleted=at(100), disrupted="DeletionByTaintManager")
    waiting = meter.advance(None, [lost], "3.60", at(150))
    given_up = meter.advance(waiting, [lost], "3.60", at(200))
    later = meter.advance(given_up, [lost], "3.60", at(9000))
    assert later is not None
    assert (later.gpu_seconds, later.estimated) == ("400.0", True)


def test_places_that_no_pod_is_known_to_have_had_while_nobody_looked_are_billed_and_marked() -> None:
    first = meter.advance(None, [server("a", 0)], "3.60", at(50))
    window = Unwatched(at(60), at(160), gpus=4)
    there = meter.advance(first, [server("a", 0), server("b", 110)], "3.60", at(160), window)
    assert there is not None
    assert (there.gpu_seconds, there.estimated) == (f"{2 * 160 + 2 * 50 + 2 * 50}.0", True)
    waited = server("b", 110, created=at(20))
    known = meter.advance(first, [server("a", 0), waited], "3.60", at(160), window)
    assert known is not None
    assert (known.gpu_seconds, known.estimated) == (f"{2 * 160 + 2 * 50}.0", False)


def test_an_operator_that_was_away_asks_only_for_a_time_that_status_does_not_cover() -> None:
    play = serving(serve={"replicas": 2})
    one = server("a", play.clock, gpus=1)
    play.step(SERVER, one)
    until = play.clock
    play.step(SERVER, one, seconds=100, unwatched=(at(until), at(until + 90)))
    assert used(play) == 1 * 110 + 1 * 90
    assert play.run.status["cost"]["serving"]["estimated"]
    again = play.step(SERVER, one, seconds=400, unwatched=(at(until), at(until + 90)))
    assert again.status is not None
    assert used(play) == 1 * 510 + 1 * 90


def test_a_ledger_never_grows_over_what_status_holds_and_counts_nothing_twice() -> None:
    pods = [dead(server(str(number), number), number + 10) for number in range(3 * LEDGER)]
    first = meter.advance(None, pods, "3.60", at(9000))
    assert first is not None
    assert len(first.pods) == LEDGER
    again = meter.advance(first, pods, "3.60", at(9100))
    assert again is not None
    assert again.gpu_seconds == first.gpu_seconds == f"{3 * LEDGER * 20}.0"


# -- random histories ------------------------------------------------------------------------------

GPUS, REPLICAS = 2, 3
ACTIONS = ("time", "time", "create", "create", "schedule", "schedule", "end", "delete", "gone", "look", "down", "up")


@dataclass
class World:
    """A Deployment's pods as they really are, and an operator that looks at them, late, seldom, or not at all."""

    now: float = 0
    pods: dict[str, Pod] = field(default_factory=dict)
    """That the API server has."""
    truth: dict[str, list[float]] = field(default_factory=dict)
    """By UID: when its GPUs were assigned, and when they were free again."""
    told: set[str] = field(default_factory=set)
    """Pods that some look has seen with a node."""
    most: float = 0
    """GPU-seconds of which there is no evidence, at most."""
    known: ServingCost | None = None
    left: float | None = None
    """When the operator was last heard of; None: it is there."""
    made: int = 0

    def act(self, action: str, number: int) -> None:
        """One thing happens."""
        self._kubelets()
        live = sorted(uid for uid, each in self.pods.items() if each.end is None)
        chosen = live[number % len(live)] if live else ""
        if action == "time":
            self.now += number
            self._kubelets()
        elif action == "create" and len(live) < REPLICAS:
            self.made += 1
            new = replace(server(str(self.made), 0, gpus=GPUS), created=at(self.now), scheduled=None, started=None)
            self.pods[new.uid] = new
        elif action == "schedule" and chosen and self.pods[chosen].scheduled is self.pods[chosen].deleted is None:
            self.pods[chosen] = replace(self.pods[chosen], scheduled=at(self.now))
            self.truth[chosen] = [self.now]
        elif action == "end" and chosen in self.truth and len(self.truth[chosen]) == 1:
            self.pods[chosen] = dead(self.pods[chosen], self.now)
            self.truth[chosen].append(self.now)
        elif action == "delete" and chosen and self.pods[chosen].deleted is None:
            self.pods[chosen] = replace(self.pods[chosen], deleted=at(self.now), deleting=True)
        elif action == "gone" and self.pods:
            self._gone(sorted(self.pods)[number % len(self.pods)])
        elif action == "look" and self.left is None:
            self.look()
        elif action == "down" and self.left is None:
            self.look()  # an event is looked at as soon as it is told
            self.left = self.now - number % 15
        elif action == "up" and self.left is not None:
            window = Unwatched(at(self.left), at(self.now), GPUS * REPLICAS)
            self.most += (self.now - self.left) * GPUS * REPLICAS
            self.left = None
            self.look(window)

    def _kubelets(self) -> None:
        """Containers of pods that were told to go have ended after their grace period."""
        for uid, each in self.pods.items():
            if each.deleted is None or each.end is not None or uid not in self.truth:
                continue
            end = (each.deleted - at(0)).total_seconds() + 60
            if end <= self.now:
                self.pods[uid] = replace(each, end=ContainerEnd(0, "Completed", "", at(end)))
                self.truth[uid].append(end)

    def _gone(self, uid: str) -> None:
        """A pod's object goes; a watch tells of it only what was looked at in time."""
        if self.left is None and uid in self.truth and uid not in self.told:
            self.look()
        del self.pods[uid]
        if uid in self.truth and len(self.truth[uid]) == 1:
            self.truth[uid].append(self.now)

    def look(self, window: Unwatched | None = None) -> None:
        """A pass of the operator, and its status."""
        for uid, times in self.truth.items():
            if len(times) == 2 and uid in self.told and uid not in self.pods:
                self.most += GPUS * (self.now - times[1])
                self.told.discard(uid)
        self.told |= {uid for uid, each in self.pods.items() if each.scheduled is not None}
        self.known = meter.advance(self.known, self.pods.values(), "3.60", at(self.now), window)

    def used(self) -> float:
        """GPU-seconds that the pods have really used."""
        return sum(GPUS * ((times[1] if len(times) == 2 else self.now) - times[0]) for times in self.truth.values())


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 89)), max_size=80))
def test_whatever_happens_to_a_servers_pods_they_are_counted_once_and_never_for_less_than_they_used(
    history: list[tuple[str, int]],
) -> None:
    world = World()
    for action, number in history:
        was_there = world.left is None
        world.act(action, number)
        shown = float(world.known.gpu_seconds) if world.known else 0.0
        if (action, was_there) in (("look", True), ("up", False)):
            assert shown >= world.used()
    world.act("up", 0)
    for uid in sorted(world.pods):
        if uid in world.truth and len(world.truth[uid]) == 1:
            world.pods[uid] = dead(world.pods[uid], world.now)
            world.truth[uid].append(world.now)
    world.look()
    settled = float(world.known.settled_gpu_seconds) if world.known else 0.0
    assert settled >= world.used()
    assert settled <= world.used() + world.most
    if world.known is None or not world.known.estimated:
        assert settled == world.used()
