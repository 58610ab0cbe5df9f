"""When a stage's NetworkPolicy is made: before its pods, and again when somebody deletes it."""

from __future__ import annotations

from dataclasses import replace

from distillrun.plan import names
from distillrun.plan.model import Child, Conflict, Decision, Network, Refusal
from distillrun.plan.planner import plan
from tests.unit.builders import SETTINGS, at, ended, job, observed, pod, run, spec
from tests.unit.plan.test_planner import Play

ISOLATED = replace(SETTINGS, network=Network("distillrun-system"))
POLICY = Child("NetworkPolicy", "s1-resolve", "uid-policy", "run-uid", deleting=False)
FIRST = plan(run(), observed(), at(1), ISOLATED)
JOB = next(want.name for want in FIRST.ensure if want.kind == "Job")


def at_work(*things: Child) -> Decision:
    return plan(
        run(status=FIRST.status), observed(job(JOB, "resolve"), pod(JOB, stage="resolve"), *things), at(9), ISOLATED
    )


def test_a_stages_policy_is_made_before_its_pods() -> None:
    assert [(want.kind, want.name) for want in FIRST.ensure] == [
        ("NetworkPolicy", "s1-resolve"),
        ("ConfigMap", JOB),
        ("Job", JOB),
    ]


def test_a_policy_that_somebody_deletes_while_pods_run_is_made_again_and_otherwise_left_alone() -> None:
    assert [want.name for want in at_work().ensure] == ["s1-resolve"]
    assert at_work(POLICY).ensure == ()


def test_a_policy_that_cannot_be_made_holds_the_pods_back_and_the_status_says_why() -> None:
    taken = Conflict("NetworkPolicy", "s1-resolve", "nobody: it has no controller")
    refused = Refusal("NetworkPolicy", "s1-resolve", "exceeded quota")
    for trouble, reason in ((observed(conflicts=(taken,)), "NameConflict"), (observed(refusals=(refused,)), "Refused")):
        decision = plan(run(), trouble, at(1), ISOLATED)
        assert decision.ensure[0].kind == "NetworkPolicy"
        assert decision.status is not None
        assert decision.status["stages"][0]["reason"] == reason
        assert "NetworkPolicy s1-resolve" in decision.status["stages"][0]["message"]
        assert decision.requeue_after is not None


def test_without_network_settings_no_policy_is_made() -> None:
    assert "NetworkPolicy" not in {want.kind for want in plan(run(), observed(), at(1), SETTINGS).ensure}


def test_policies_of_two_runs_and_two_stages_have_different_names() -> None:
    assert names.child("a" * 63, "curate") != names.child("a" * 63, "train")


def test_the_policies_of_a_finished_run_go_when_its_time_to_live_is_over() -> None:
    play = Play(run(spec=spec(ttlSecondsAfterFinished=300)), ISOLATED)
    play.step()
    name = play.job_of("curate")
    broken = ended(pod(name, stage="curate"), 78, outcome="Failed", message="no")
    failed = replace(job(name, "curate"), failure="PodFailurePolicy", finished=at(60))
    play.step(failed, broken, POLICY)
    assert play.run.status["phase"] == "Failed"
    assert play.step(failed, broken, POLICY, seconds=200).delete == ()
    late = play.step(failed, broken, POLICY, seconds=200)
    assert {ref.kind for ref in late.delete} == {"Job", "NetworkPolicy"}
    assert late.ensure == ()
