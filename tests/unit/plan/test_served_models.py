"""A teacher that the run serves itself: its server's life, what it costs, and what lets its GPUs go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from distillrun.api.status import Resolved
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import companions, reasons
from distillrun.plan.fingerprint import fingerprint
from distillrun.plan.model import Child, ContainerEnd, Pod
from tests.unit.builders import at, ended, job, pod, run, spec
from tests.unit.plan.test_companions import CODE, MADE, SANDBOX, roles
from tests.unit.plan.test_lifecycle import edit
from tests.unit.plan.test_planner import GOOD_CURATE, Play, condition_of, stage_of

SERVER: dict[str, Any] = {
    "model": {"uri": "hf://Qwen/QwQ-32B", "revision": "a" * 40, "secretName": "hub"},
    "replicas": 2,
    "engine": {"tensorParallel": 4, "maxModelLength": 32768, "vllmArgs": ["--enable-prefix-caching"]},
}
WAITED_FOR = [("Service", "companion-service"), ("ConfigMap", "config"), ("Deployment", "companion")]


def served(**changes: Any) -> dict[str, Any]:
    """`models` and `teacher` of a run that serves its teacher itself."""
    return {"models": [{"name": "big", "server": {**SERVER, **changes}}], "teacher": "big"}


def name_of(whole: dict[str, Any]) -> str:
    [server] = companions.needed("s1", Spec.model_validate(whole), "curate")
    return server.name


NAME = name_of(spec(**served()))
DEPLOYMENT = Child("Deployment", NAME, "uid-server", "run-uid", deleting=False)
SERVICE = Child("Service", NAME, "uid-service", "run-uid", deleting=False)
READY = replace(DEPLOYMENT, available=2)


def server(number: int, scheduled: float | None, **changes: Any) -> Pod:
    """A model server's pod with four GPUs, which loads its model."""
    when = None if scheduled is None else at(scheduled)
    given = {"gpus": 4, "ready": False, "created": when or at(0), "scheduled": when, "started": when, **changes}
    return pod(NAME, number, "model-big", **given)


def probed(**changes: Any) -> Play:
    """A run of which nobody has made the dataset; a GPU hour costs 3.60, a GPU-second 0.001."""
    play = Play(run(spec=spec(**{**served(), **changes})))
    play.complete("curate", {"outcome": "Absent"})
    play.done.clear()
    return play


def curate(play: Play) -> dict[str, Any]:
    return stage_of(play.run.status, "curate")


def at_work(play: Play, *servers: Pod) -> tuple[Any, Any]:
    """Curation's Job and its pod, at work beside its servers."""
    play.step(READY, *servers)
    name = play.job_of("curate")
    things = (job(name, "curate", created=at(play.clock)), pod(name, stage="curate", started=at(play.clock)))
    play.step(READY, SERVICE, *servers, *things)
    assert curate(play)["state"] == "Running"
    return things


# -- its life ------------------------------------------------------------------------------------


def test_no_gpu_is_asked_for_before_it_is_known_that_nobody_has_made_the_dataset() -> None:
    play = Play(run(spec=spec(**served())))
    assert roles(play.last) == MADE
    assert play.last.ensure[-1].attempt == 0
    reused = play.complete("curate", {**GOOD_CURATE, "reusedFrom": "team/other"})
    assert curate(play)["state"] == "Reused"
    assert "companion" not in [want.role for want in reused.ensure]


def test_curations_job_is_made_once_all_servers_answer_and_asks_them() -> None:
    play = probed()
    assert roles(play.step()) == WAITED_FOR
    assert curate(play)["reason"] == reasons.SERVER_NOT_READY
    assert "model big" in play.run.status["message"]
    assert roles(play.step(replace(READY, available=1))) == WAITED_FOR
    made = play.step(READY)
    assert roles(made) == [*WAITED_FOR, *MADE]
    teacher = made.ensure[-1].config["curate"]["teacher"]
    assert (teacher["url"], teacher["model"]) == (f"http://{NAME}.team.svc:8000/v1", "big")
    assert "apiKey" not in teacher


def test_the_server_is_told_the_model_its_revision_and_its_arguments() -> None:
    play = probed()
    [config] = [want for want in play.step().ensure if want.role == "config"]
    assert config.name == NAME
    assert config.config["serve"] == {
        "model": "hf://Qwen/QwQ-32B",
        "revision": "a" * 40,
        "servedModelName": "big",
        "port": 8000,
        "engine": {"tensorParallel": 4, "maxModelLength": 32768, "vllmArgs": ["--enable-prefix-caching"]},
    }


@pytest.mark.parametrize("change", [None, {"suspend": True}])
def test_the_servers_go_when_the_stage_has_ended_or_the_run_is_suspended(change: dict[str, Any] | None) -> None:
    play = probed()
    things = at_work(play)
    if change is not None:
        edit(play, **change)
        decision = play.step(READY, SERVICE, *things)
    else:
        finished = ended(things[1], 0, play.clock + 5, **GOOD_CURATE)
        decision = play.step(READY, SERVICE, replace(things[0], complete=True, finished=at(play.clock + 5)), finished)
    assert {("Deployment", NAME), ("Service", NAME)} <= {(ref.kind, ref.name) for ref in decision.delete}
    assert "companion" not in [want.role for want in decision.ensure]


@pytest.mark.parametrize(
    ("change", "another"),
    [
        ({"model": {"uri": "hf://Qwen/QwQ-32B", "revision": "b" * 40}}, True),
        ({"model": {"uri": "hf://other/model", "revision": "a" * 40}}, True),
        ({"engine": {**SERVER["engine"], "vllmArgs": []}}, True),
        ({"engine": {**SERVER["engine"], "maxModelLength": 1024}}, True),
        ({"replicas": 7}, False),
        ({"maxConcurrency": 7}, False),
        ({"requestTimeoutSeconds": 7}, False),
        ({"pod": {"nodeSelector": {"a": "b"}}}, False),
        ({"model": {**SERVER["model"], "secretName": "other"}}, False),
    ],
)
def test_what_a_server_loads_is_part_of_the_dataset_and_of_its_name_and_how_many_there_are_is_not(
    change: dict[str, Any], another: bool
) -> None:
    one, other = (spec(**served(**each)) for each in ({}, change))
    marks = {fingerprint(run(), Spec.model_validate(each), "curate", "", Resolved()) for each in (one, other)}
    assert len(marks) == (2 if another else 1)
    assert (name_of(other) != NAME) is another


def test_gpus_that_share_a_model_are_no_other_dataset_and_another_server() -> None:
    other = spec(**served(engine={**SERVER["engine"], "tensorParallel": 8}))
    marks = {
        fingerprint(run(), Spec.model_validate(each), "curate", "", Resolved()) for each in (spec(**served()), other)
    }
    assert len(marks) == 1
    assert name_of(other) != NAME


def test_a_server_of_a_model_that_was_edited_goes_and_is_not_taken_for_the_new_one() -> None:
    play = probed()
    play.step(READY)
    edit(play, **served(model={"uri": "hf://other/model"}))
    decision = play.step(READY, SERVICE)
    assert NAME in [ref.name for ref in decision.delete]
    assert "job" not in [want.role for want in decision.ensure if want.attempt]


# -- what it costs -------------------------------------------------------------------------------


def test_what_servers_hold_is_a_part_of_curations_cost_from_their_node_to_their_end() -> None:
    play = probed()
    begun = play.clock
    pods = [server(number, begun) for number in (0, 1)]
    play.step(DEPLOYMENT, *pods, seconds=100)
    assert float(curate(play)["cost"]["gpuSeconds"]) == 8 * 100
    things = at_work(play, *pods)
    play.step(READY, SERVICE, *pods, *things, seconds=400)
    used = play.clock - begun
    assert float(curate(play)["cost"]["gpuSeconds"]) == 8 * used
    assert float(play.run.status["cost"]["gpuSeconds"]) == 8 * used
    assert float(play.run.status["cost"]["spent"]) == pytest.approx(8 * used * 0.001, abs=0.01)
    finished = ended(things[1], 0, play.clock + 5, **GOOD_CURATE)
    done = replace(things[0], complete=True, active=0, succeeded=1, finished=at(play.clock + 5))
    play.step(READY, SERVICE, *pods, done, finished)
    play.done += [done, finished]
    told = play.clock
    going = [
        replace(each, deleting=True, deleted=at(told), end=ContainerEnd(0, "", "", at(told + 20))) for each in pods
    ]
    play.step(*going, seconds=25)
    play.step(seconds=25)
    cost = curate(play)["cost"]
    assert float(cost["gpuSeconds"]) == float(cost["settledGpuSeconds"]) == 8 * (told + 20 - begun)
    assert "servers" not in cost
    assert not cost["estimated"]
    later = play.step(seconds=9000)
    assert float(curate(play)["cost"]["gpuSeconds"]) == float(cost["gpuSeconds"])
    assert later.status is None or stage_of(later.status, "curate")["cost"] == cost


def test_a_server_that_only_holds_what_it_held_writes_a_status_every_five_minutes_and_no_more_often() -> None:
    play = probed()
    one = server(0, play.clock)
    play.step(DEPLOYMENT, one)
    assert play.step(DEPLOYMENT, one, seconds=200).status is None
    assert play.step(DEPLOYMENT, one, seconds=110).status is not None


def test_a_server_that_is_gone_without_a_word_is_billed_until_it_is_missed_and_marked() -> None:
    play = probed()
    begun = play.clock
    play.step(DEPLOYMENT, server(0, begun))
    play.step(DEPLOYMENT)
    cost = curate(play)["cost"]
    assert (float(cost["gpuSeconds"]), cost["estimated"]) == (4 * (play.clock - begun), True)


def test_the_budget_stops_a_run_whose_teacher_uses_it_up() -> None:
    play = probed(budget={"gpuHourPrice": "3.60", "limit": "1"})
    pods = [server(number, play.clock) for number in (0, 1)]
    near = play.step(DEPLOYMENT, *pods, seconds=100)
    assert near.requeue_after is not None
    assert near.requeue_after <= 26
    over = play.step(DEPLOYMENT, SERVICE, *pods, seconds=30)
    assert play.run.status["phase"] == "Suspended"
    assert NAME in [ref.name for ref in over.delete]


# -- what lets its GPUs go -------------------------------------------------------------------------


def test_gpus_of_a_server_that_wait_for_one_without_a_node_are_let_go_and_come_back_later() -> None:
    play = probed(startTimeoutSeconds=100)
    begun = play.clock
    lonely = server(1, None, unschedulable="0/9 nodes are available: 9 Insufficient nvidia.com/gpu")
    assert play.step(DEPLOYMENT, server(0, begun), lonely, seconds=50).delete == ()
    late = play.step(DEPLOYMENT, SERVICE, server(0, begun), lonely, seconds=60)
    assert NAME in [ref.name for ref in late.delete]
    assert curate(play)["reason"] == reasons.RELEASED
    assert "Insufficient nvidia.com/gpu" in curate(play)["message"]
    assert curate(play)["releases"] == 1
    assert play.step(seconds=30).ensure == ()
    assert roles(play.step(seconds=31)) == WAITED_FOR


def test_gpus_of_servers_that_wait_for_a_sandbox_without_a_node_are_let_go() -> None:
    play = probed(startTimeoutSeconds=100, curate=CODE)
    pods = [server(number, play.clock, ready=True) for number in (0, 1)]
    judge = pod(
        "s1-sandbox", stage="sandbox", scheduled=None, started=None, unschedulable="0/9 nodes: 9 Insufficient cpu"
    )
    assert play.step(READY, SANDBOX, *pods, judge, seconds=50).delete == ()
    late = play.step(READY, SANDBOX, SERVICE, *pods, judge, seconds=60)
    assert {NAME, "s1-sandbox"} <= {ref.name for ref in late.delete}
    assert "Insufficient cpu" in curate(play)["message"]


def test_a_server_that_loads_a_large_model_is_waited_for() -> None:
    play = probed(startTimeoutSeconds=100)
    pods = [server(number, play.clock) for number in (0, 1)]
    assert play.step(DEPLOYMENT, SERVICE, *pods, seconds=3000).delete == ()


def test_a_model_that_cannot_be_served_ends_the_run_with_the_servers_own_words() -> None:
    play = probed()
    end = ContainerEnd(
        65, "Error", '{"reason": "ModelNotFound", "message": "no folder config.json"}', at(play.clock + 5)
    )
    play.step(DEPLOYMENT, server(0, play.clock, end=end, waiting_reason="CrashLoopBackOff"))
    assert curate(play)["reason"] == "ModelNotFound"
    assert play.run.status["phase"] == "Failed"
    assert "no folder config.json" in condition_of(play.run.status, reasons.CURATED)["message"]
    assert NAME in [ref.name for ref in play.step(DEPLOYMENT, SERVICE).delete]


def test_servers_whose_job_does_not_begin_are_let_go_with_the_cause() -> None:
    play = probed(startTimeoutSeconds=100, queueName="team")
    pods = [server(number, play.clock, ready=True) for number in (0, 1)]
    play.step(READY, *pods)
    held = job(play.job_of("curate"), "curate", suspended=True, active=0, created=at(play.clock))
    early = play.step(READY, SERVICE, *pods, held, seconds=50)
    assert early.delete == ()
    late = play.step(READY, SERVICE, *pods, held, seconds=60)
    assert {NAME, held.name} <= {ref.name for ref in late.delete}
    assert curate(play)["reason"] == reasons.RELEASED
    assert "LocalQueue team" in curate(play)["message"]
