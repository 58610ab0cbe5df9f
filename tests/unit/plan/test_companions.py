"""Servers that exist only while a stage needs them: when they are asked for, waited for, given up and removed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from distillrun.api.v1alpha1 import Spec
from distillrun.plan import companions, reasons
from distillrun.plan.model import Child, ContainerEnd, Decision, Network, Pod, Refusal
from tests.unit.builders import SETTINGS, at, ended, job, pod, run, spec
from tests.unit.plan.test_lifecycle import edit
from tests.unit.plan.test_planner import GOOD_CURATE, GOOD_TRAIN, Play, condition_of, scores, stage_of

CODE: dict[str, Any] = {
    "sources": [{"name": "pool", "uri": "file:///mnt/distillrun/code.jsonl", "fields": {"layout": "CodeTests"}}]
}
GRADED: dict[str, Any] = {
    "benchmarks": [
        {
            "name": "additions",
            "uri": "file:///mnt/distillrun/test.jsonl",
            "grader": "Code",
            "fields": {"layout": "HumanEval"},
        }
    ]
}
SANDBOX = Child("Deployment", "s1-sandbox", "uid-sandbox", "run-uid", deleting=False)
SERVICE = Child("Service", "s1-sandbox", "uid-service", "run-uid", deleting=False)
READY = replace(SANDBOX, available=1)
URL = "http://s1-sandbox.team.svc:8000"


def judge(**changes: Any) -> Pod:
    """The sandbox's pod while it starts."""
    return pod("s1-sandbox", stage="sandbox", **{"ready": False, **changes})


def failing(code: int, said: str = "", scheduled: float = 0, reason: str = "Error") -> Pod:
    """The sandbox's pod after its container has ended, about to be started again."""
    end = ContainerEnd(code, reason, said, at(scheduled + 1))
    return judge(end=end, scheduled=at(scheduled), waiting_reason="CrashLoopBackOff", waiting_message="back-off 10s")


def roles(decision: Decision) -> list[tuple[str, str]]:
    return [(want.kind, want.role) for want in decision.ensure]


def curating(**changes: Any) -> Play:
    """A resolved run whose questions are code."""
    return Play(run(spec=spec(curate=CODE, **changes)))


WAITED_FOR = [("Service", "companion-service"), ("Deployment", "companion")]
MADE = [("ConfigMap", "config"), ("Job", "job")]


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({}, set()),
        ({"curate": CODE}, {"curate"}),
        (
            {
                "curate": {
                    "sources": [*CODE["sources"], {"name": "b", "uri": "file:///b", "fields": {"layout": "Alpaca"}}]
                }
            },
            {"curate"},
        ),
        ({"curate": {"sources": [{"name": "h", "uri": "file:///h", "fields": {"layout": "HumanEval"}}]}}, {"curate"}),
        ({"evaluate": GRADED}, {"evaluate"}),
        ({"curate": CODE, "evaluate": GRADED}, {"curate", "evaluate"}),
        ({"curate": CODE, "evaluate": None, "gates": None}, {"curate"}),
    ],
)
def test_a_stage_needs_the_sandbox_where_it_has_code_judged_and_nowhere_else(
    changes: dict[str, Any], stages: set[str]
) -> None:
    whole = Spec.model_validate(spec(**changes))
    names = ("resolve", "curate", "train", "evaluate", "serve")
    assert {name for name in names if companions.needed("s1", whole, name)} == stages  # type: ignore[arg-type]


def test_the_job_is_made_once_the_sandbox_answers_and_is_told_where() -> None:
    play = curating()
    assert roles(play.last) == WAITED_FOR
    assert stage_of(play.run.status, "curate")["reason"] == reasons.SERVER_NOT_READY
    assert condition_of(play.run.status, reasons.CURATED)["reason"] == reasons.SERVER_NOT_READY
    assert "s1-sandbox" in play.run.status["message"]
    assert play.last.requeue_after is not None
    assert roles(play.step(SANDBOX, judge())) == WAITED_FOR
    made = play.step(READY, judge(ready=True))
    assert roles(made) == [*WAITED_FOR, *MADE]
    assert made.ensure[-1].config["curate"]["sandbox"] == {"url": URL}
    assert "reason" not in stage_of(play.run.status, "curate") or not stage_of(play.run.status, "curate")["reason"]


def test_a_stage_without_code_is_told_that_there_is_no_sandbox() -> None:
    play = Play()
    assert roles(play.last) == MADE
    assert play.last.ensure[-1].config["curate"]["sandbox"] is None


def test_the_sandboxs_policy_is_made_before_its_pods() -> None:
    play = Play(run(spec=spec(curate=CODE)), replace(SETTINGS, network=Network("distillrun-system")))
    assert [(want.kind, want.name) for want in play.last.ensure] == [
        ("NetworkPolicy", "s1-curate"),
        ("NetworkPolicy", "s1-sandbox"),
        ("Service", "s1-sandbox"),
        ("Deployment", "s1-sandbox"),
    ]


def test_as_many_judges_as_asked_for_must_answer() -> None:
    play = curating(sandbox={"replicas": 2})
    assert roles(play.step(READY)) == WAITED_FOR
    assert roles(play.step(replace(READY, available=2))) == [*WAITED_FOR, *MADE]


def test_a_sandbox_that_goes_is_not_taken_for_the_one_that_comes() -> None:
    assert roles(curating().step(replace(READY, deleting=True))) == WAITED_FOR


def at_work(play: Play) -> tuple[Any, Any]:
    """Curation's Job and its pod, at work beside the sandbox."""
    play.step(READY)
    name = play.job_of("curate")
    things = (job(name, "curate", created=at(play.clock)), pod(name, stage="curate", started=at(play.clock)))
    play.step(READY, SERVICE, *things)
    assert stage_of(play.run.status, "curate")["state"] == "Running"
    return things


def test_the_sandbox_stays_while_the_stage_works_even_if_it_has_to_start_again() -> None:
    play = curating()
    things = at_work(play)
    decision = play.step(SANDBOX, SERVICE, *things)
    assert (roles(decision), decision.delete) == (WAITED_FOR, ())
    assert stage_of(play.run.status, "curate")["state"] == "Running"


def test_the_sandbox_goes_when_the_stage_has_ended_and_comes_back_for_the_evaluation() -> None:
    play = curating(evaluate=GRADED)
    things = at_work(play)
    finished = ended(things[1], 0, play.clock + 5, **GOOD_CURATE)
    done = replace(things[0], complete=True, active=0, succeeded=1, finished=at(play.clock + 5))
    decision = play.step(READY, SERVICE, done, finished)
    assert {(ref.kind, ref.name) for ref in decision.delete} >= {
        ("Deployment", "s1-sandbox"),
        ("Service", "s1-sandbox"),
    }
    play.done += [done, finished]
    play.complete("train", GOOD_TRAIN, pods=2)
    assert roles(play.last) == WAITED_FOR
    assert stage_of(play.run.status, "evaluate")["reason"] == reasons.SERVER_NOT_READY
    assert play.step(READY).ensure[-1].config["evaluate"]["sandbox"] == {"url": URL}
    name = play.job_of("evaluate")
    base = pod(name, stage="evaluate")
    result = ended(base, 0, play.clock + 5, **scores(0.99))
    over = job(name, "evaluate", complete=True, active=0, succeeded=1, finished=at(play.clock + 5))
    assert "s1-sandbox" in [ref.name for ref in play.step(READY, SERVICE, over, result).delete]


@pytest.mark.parametrize("change", [{"suspend": True}, {"budget": {"limit": "0"}}, {"activeDeadlineSeconds": 1}])
def test_the_sandbox_of_a_run_that_is_stopped_goes(change: dict[str, Any]) -> None:
    play = curating()
    things = at_work(play)
    edit(play, **change)
    decision = play.step(READY, SERVICE, *things)
    assert {ref.name for ref in decision.delete} == {"s1-sandbox", things[0].name}
    assert decision.ensure == ()


def test_the_sandbox_of_a_run_that_is_suspended_while_it_starts_goes_and_comes_back() -> None:
    play = curating()
    edit(play, suspend=True)
    decision = play.step(SANDBOX, SERVICE, judge())
    assert ([ref.name for ref in decision.delete], decision.ensure) == (["s1-sandbox", "s1-sandbox"], ())
    edit(play, suspend=False)
    assert roles(play.step()) == WAITED_FOR


def test_the_sandbox_stays_between_two_attempts_that_follow_each_other_and_goes_before_a_long_wait() -> None:
    for answer, stays in (({"code": 70}, True), ({"code": 75, "retryAfterSeconds": 3600}, False)):
        play = curating()
        things = at_work(play)
        broken = ended(things[1], answer.pop("code"), play.clock + 5, outcome="Failed", message="no", **answer)
        failed = replace(things[0], failure="PodFailurePolicy", finished=at(play.clock + 5))
        decision = play.step(READY, SERVICE, failed, broken)
        assert ("s1-sandbox" in [ref.name for ref in decision.delete]) is not stays
        assert (roles(decision) == WAITED_FOR) is stays
        assert (roles(play.step(READY, SERVICE, seconds=2)) == WAITED_FOR) is stays


# -- what keeps it from answering ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("things", "reason", "words"),
    [
        ([SANDBOX, judge(waiting_reason="ImagePullBackOff", waiting_message="x/curate:1")], "ImageNotPulled", "x/cur"),
        ([SANDBOX, judge(scheduled=None, started=None, unschedulable="0/3 nodes")], "Unschedulable", "0/3 nodes"),
        ([replace(SANDBOX, phase='pods "x" is forbidden: exceeded quota')], "Refused", "exceeded quota"),
        ([replace(SANDBOX, phase="Deployment does not have minimum availability.")], "ServerNotReady", "is starting"),
        ([SANDBOX, failing(70, "sandbox: this kernel has no Landlock")], "ServerNotReady", "has no Landlock"),
    ],
)
def test_the_status_says_what_the_sandbox_waits_for(things: list[Any], reason: str, words: str) -> None:
    play = curating()
    play.step(*things)
    found = condition_of(play.run.status, reasons.CURATED)
    assert (found["status"], found["reason"]) == ("False", reason)
    assert words in found["message"]


def test_a_deployment_that_the_api_server_refuses_is_in_the_status() -> None:
    play = curating()
    play.step(refusals=(Refusal("Deployment", "s1-sandbox", 'runtimeClass "gvisor" not found'),))
    assert "gvisor" in condition_of(play.run.status, reasons.CURATED)["message"]


def test_a_sandbox_that_fails_for_the_start_timeout_is_a_fault_of_the_attempt_and_each_attempt_has_that_time() -> None:
    play = curating(startTimeoutSeconds=100, maxRetries=1)
    broken = failing(70, "sandbox: no seccomp", scheduled=play.clock)
    early = play.step(SANDBOX, SERVICE, broken, seconds=50)
    assert early.delete == ()
    assert early.requeue_after is not None
    assert early.requeue_after <= 50
    late = play.step(SANDBOX, SERVICE, broken, seconds=60)
    assert "s1-sandbox" in [ref.name for ref in late.delete]
    assert (stage_of(play.run.status, "curate")["failures"], play.run.status["phase"]) == (1, "Curating")
    assert roles(play.step(seconds=6)) == WAITED_FOR
    assert play.step(SANDBOX, broken, seconds=60).delete == ()
    play.step(SANDBOX, broken, seconds=60)
    assert play.run.status["phase"] == "Failed"
    assert "no seccomp" in play.run.status["message"]


def test_a_sandbox_without_enough_memory_to_start_ends_the_run_with_the_field_to_raise() -> None:
    play = curating()
    play.step(SANDBOX, failing(137, reason="OOMKilled"))
    assert play.run.status["phase"] == "Failed"
    assert "raise sandbox.memory" in play.run.status["message"]
    assert [ref.name for ref in play.step(SANDBOX, SERVICE).delete] == ["s1-sandbox", "s1-sandbox"]
