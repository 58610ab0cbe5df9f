"""What holds, stops, re-opens and cleans up a whole run, one row a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from distillrun.api.status import MOST
from distillrun.api.v1alpha1 import Spec
from distillrun.plan import reasons
from distillrun.plan.lifecycle import Clock
from distillrun.plan.model import Child, Scrape
from distillrun.plan.trouble import SUPERVISOR_FIRST
from tests.unit.builders import SETTINGS, at, ended, job, pod, run, spec
from tests.unit.plan.test_planner import (
    GOOD_CURATE,
    GOOD_RESOLVE,
    GOOD_TRAIN,
    RESOLVED,
    Play,
    condition_of,
    scores,
    stage_of,
)


def edit(play: Play, **changes: Any) -> None:
    """The user changes the spec."""
    play.run = replace(play.run, generation=play.run.generation + 1, spec={**play.run.spec, **changes})


def training(**changes: Any) -> tuple[Play, str, list[Any]]:
    """A run whose two training pods have been at work for some seconds, the Job's name, and Job and pods."""
    play = Play(run(spec=spec(**changes)))
    play.complete("curate", GOOD_CURATE)
    name = play.job_of("train")
    begun = play.clock
    things: list[Any] = [
        job(name, created=at(begun), active=2),
        *(pod(name, index, scheduled=at(begun), started=at(begun + 1)) for index in (0, 1)),
    ]
    play.step(*things)
    return play, name, things


def train_of(play: Play) -> dict[str, Any]:
    return stage_of(play.run.status, "train")


# -- suspension ----------------------------------------------------------------------------------


def test_a_suspended_run_frees_its_pods_keeps_its_stages_and_goes_on_with_the_next_attempt() -> None:
    play, name, things = training()
    edit(play, suspend=True)
    decision = play.step(*things)
    assert decision.ensure == ()
    assert [ref.name for ref in decision.delete] == [name]
    assert decision.status is not None
    assert decision.status["phase"] == "Suspended"
    assert condition_of(decision.status, reasons.SUSPENDED)["status"] == "True"
    assert condition_of(decision.status, reasons.RECONCILING) == {}
    assert condition_of(decision.status, reasons.STALLED) == {}
    train = train_of(play)
    assert (train["state"], train["attempt"], train["failures"], train["preemptions"]) == ("Pending", 2, 0, 0)
    assert stage_of(play.run.status, "curate")["state"] == "Succeeded"
    assert play.step().ensure == ()
    edit(play, suspend=False)
    resumed = play.step()
    assert [want.name for want in resumed.ensure if want.kind == "Job"] == [play.job_of("train")]
    assert play.job_of("train") != name
    assert condition_of(resumed.status, reasons.SUSPENDED)["status"] == "False"


def test_what_a_suspended_attempts_pods_may_use_in_their_grace_period_is_billed_and_marked() -> None:
    play, _, things = training()
    edit(play, suspend=True)
    play.step(*things, seconds=3600)
    cost = train_of(play)["cost"]
    assert float(cost["gpuSeconds"]) == 2 * (3610 + 60)
    assert cost["estimated"] is True
    play.step()
    assert train_of(play)["cost"] == cost


def test_a_stage_whose_end_was_seen_late_keeps_what_was_shown_and_is_not_called_estimated() -> None:
    play, _name, things = training()
    play.step(*things, seconds=100)
    shown = 2 * 110.5
    train_of(play)["cost"]["gpuSeconds"] = str(shown)
    done = [ended(each, 0, play.clock - 1, **GOOD_TRAIN) for each in things[1:]]
    play.step(replace(things[0], complete=True, active=0, succeeded=2, finished=at(play.clock)), *done)
    assert float(train_of(play)["cost"]["gpuSeconds"]) == shown
    assert not train_of(play)["cost"]["estimated"]


def test_a_run_created_suspended_starts_nothing_until_it_is_resumed() -> None:
    play = Play(run(spec=spec(suspend=True)))
    assert play.last.ensure == ()
    assert play.run.status["phase"] == "Suspended"
    edit(play, suspend=False)
    assert [want.stage for want in play.step().ensure] == ["resolve", "resolve"]


def test_a_stage_that_ended_just_when_its_run_was_suspended_keeps_its_result() -> None:
    play, _name, things = training()
    edit(play, suspend=True)
    done = [ended(each, 0, play.clock, **GOOD_TRAIN) for each in things[1:]]
    decision = play.step(replace(things[0], complete=True, finished=at(play.clock)), *done)
    assert train_of(play)["state"] == "Succeeded"
    assert decision.ensure == ()


def test_a_suspended_server_is_taken_down_and_comes_back() -> None:
    play, _name, things = training()
    server = Child("Deployment", "s1-serve", "d", "run-uid", False, available=1)
    play.done.append(replace(things[0], complete=True, finished=at(play.clock)))
    play.done += [ended(each, 0, play.clock, **GOOD_TRAIN) for each in things[1:]]
    play.complete("evaluate", scores(0.99))
    play.step(server)
    assert play.run.status["phase"] == "Serving"
    edit(play, suspend=True)
    decision = play.step(server)
    assert "s1-serve" in [ref.name for ref in decision.delete]
    assert play.run.status["phase"] == "Suspended"
    assert "endpoint" not in play.run.status
    edit(play, suspend=False)
    assert "server" in [want.role for want in play.step().ensure]


def test_the_number_of_an_attempt_is_never_used_twice() -> None:
    play = Play()
    first = play.job_of("curate")
    play.step(job(first, "curate"), pod(first, stage="curate", phase="Pending", started=None))
    play.step(seconds=60)  # somebody has deleted the Job before any pod of it ran
    assert stage_of(play.run.status, "curate")["attempt"] == 2
    second = play.job_of("curate")
    play.step(seconds=60)
    for uri in ("file:///b.jsonl", "file:///mnt/distillrun/demo/train.jsonl"):
        edit(play, curate={"sources": [{"name": "pool", "uri": uri}]})
        play.step()
        play.complete("resolve", GOOD_RESOLVE)
    assert play.job_of("curate") not in (first, second)
    assert stage_of(play.run.status, "curate")["attempt"] == 4


# -- retry ---------------------------------------------------------------------------------------


def test_a_failed_run_is_reopened_by_a_higher_retry_and_by_nothing_else() -> None:
    play, name, things = training(maxRetries=0)
    broken = [ended(each, 78, play.clock, outcome="Failed", reason="Broken", message="no") for each in things[1:]]
    failed = replace(things[0], failure="PodFailurePolicy", finished=at(play.clock))
    play.step(failed, *broken)
    assert play.run.status["phase"] == "Failed"
    edit(play, train={**play.run.spec["train"], "learningRate": "2e-5"}, maxRetries=5)
    assert play.step(failed, *broken).ensure == ()
    assert play.run.status["phase"] == "Failed"
    edit(play, retry=1)
    decision = play.step(failed, *broken)
    assert [want.kind for want in decision.ensure] == ["ConfigMap", "Service", "Job"]
    assert decision.ensure[-1].config["train"]["learningRate"] == 2e-5
    assert play.run.status["observedRetry"] == 1
    assert train_of(play)["failures"] == 0
    assert play.job_of("train") != name


def test_a_retry_of_an_unchanged_stage_goes_on_as_the_next_attempt_from_its_checkpoints() -> None:
    play, _name, things = training(maxRetries=0)
    broken = [ended(each, 78, play.clock, outcome="Failed", message="no") for each in things[1:]]
    play.step(replace(things[0], failure="PodFailurePolicy", finished=at(play.clock)), *broken)
    fingerprint = train_of(play)["fingerprint"]
    edit(play, retry=7)
    play.step()
    assert (train_of(play)["attempt"], train_of(play)["fingerprint"]) == (2, fingerprint)


def test_a_retry_raised_while_nothing_has_failed_is_noted_and_changes_nothing() -> None:
    play, _, things = training()
    edit(play, retry=3)
    decision = play.step(*things)
    assert decision.delete == ()
    assert play.run.status["observedRetry"] == 3
    assert train_of(play)["attempt"] == 1


# -- deadline and time to live -------------------------------------------------------------------


def test_a_run_past_its_deadline_fails_settles_its_cost_and_removes_what_still_runs() -> None:
    play, name, things = training(activeDeadlineSeconds=1000)
    assert play.step(*things, seconds=100).requeue_after is not None
    decision = play.step(*things, seconds=1000)
    assert play.run.status["phase"] == "Failed"
    assert train_of(play)["reason"] == reasons.DEADLINE_EXCEEDED
    assert "1000" in train_of(play)["message"]
    assert [ref.name for ref in decision.delete] == [name]
    assert float(train_of(play)["cost"]["gpuSeconds"]) >= 2 * 1100
    again = play.step(seconds=10)
    assert (again.ensure, again.status) == ((), None)


def test_time_for_which_a_run_was_suspended_does_not_count_against_its_deadline() -> None:
    play, _, things = training(activeDeadlineSeconds=1000)
    edit(play, suspend=True)
    play.step(*things)
    play.step(seconds=5000)
    edit(play, suspend=False)
    play.step()
    assert play.run.status["phase"] == "Training"
    play.step(seconds=1000)
    assert train_of(play)["reason"] == reasons.DEADLINE_EXCEEDED


def test_a_served_model_is_touched_by_neither_deadline_nor_time_to_live_nor_budget() -> None:
    play, _name, things = training(
        activeDeadlineSeconds=2000, ttlSecondsAfterFinished=60, budget={"gpuHourPrice": "3.60", "limit": "1"}
    )
    server = Child("Deployment", "s1-serve", "d", "run-uid", False, available=1)
    done = [replace(things[0], complete=True, finished=at(play.clock))]
    done += [ended(each, 0, play.clock, **GOOD_TRAIN) for each in things[1:]]
    play.step(*done)
    play.done += done
    play.complete("evaluate", scores(0.99))
    play.step(server)
    decision = play.step(server, seconds=100_000)
    assert play.run.status["phase"] == "Serving"
    assert {ref.kind for ref in decision.delete} == {"Job"}
    assert "s1-serve" not in [ref.name for ref in decision.delete]
    assert "server" in [want.role for want in decision.ensure]


def test_children_of_a_finished_run_go_after_their_time_and_the_run_stays_as_it_ended() -> None:
    play, name, things = training(maxRetries=0, ttlSecondsAfterFinished=300)
    broken = [ended(each, 78, play.clock, outcome="Failed", message="no") for each in things[1:]]
    failed = replace(things[0], failure="PodFailurePolicy", finished=at(play.clock))
    config = Child("ConfigMap", name, "c", "run-uid", False)
    early = play.step(failed, *broken, config)
    assert early.delete == ()
    assert early.requeue_after is not None
    late = play.step(failed, *broken, config, seconds=301)
    assert {(ref.kind, ref.name) for ref in late.delete} >= {("Job", name), ("ConfigMap", name)}
    play.done.clear()
    gone = play.step(seconds=10_000)
    assert (gone.ensure, gone.delete, gone.status) == ((), (), None)
    assert play.run.status["phase"] == "Failed"


# -- budget --------------------------------------------------------------------------------------


def test_a_run_that_reaches_its_budget_is_suspended_and_goes_on_once_the_limit_is_raised() -> None:
    play, name, things = training(budget={"gpuHourPrice": "3.60", "limit": "2"})
    soon = play.step(*things, seconds=900)
    assert soon.requeue_after is not None
    assert soon.requeue_after <= 30
    decision = play.step(*things, seconds=100)
    assert [ref.name for ref in decision.delete] == [name]
    assert play.run.status["phase"] == "Suspended"
    assert condition_of(play.run.status, reasons.STALLED)["reason"] == reasons.BUDGET_EXCEEDED
    exceeded = condition_of(play.run.status, reasons.BUDGET_EXCEEDED)
    assert exceeded["status"] == "True"
    assert "budget.limit of 2" in exceeded["message"]
    assert reasons.BUDGET_EXCEEDED in [event.reason for event in decision.events]
    assert play.step(seconds=10_000).ensure == ()
    edit(play, budget={"gpuHourPrice": "3.60", "limit": "20"})
    assert [want.kind for want in play.step().ensure][-1] == "Job"
    assert condition_of(play.run.status, reasons.BUDGET_EXCEEDED)["status"] == "False"


def test_a_budget_that_only_warns_marks_the_run_says_so_once_and_lets_it_go_on() -> None:
    play, _, things = training(budget={"gpuHourPrice": "3.60", "limit": "2", "onExceeded": "Warn"})
    decision = play.step(*things, seconds=2000)
    assert decision.delete == ()
    assert [event.reason for event in decision.events] == [reasons.BUDGET_EXCEEDED]
    assert condition_of(play.run.status, reasons.BUDGET_EXCEEDED)["status"] == "True"
    assert play.step(*things).events == ()


def test_a_gpu_product_is_priced_by_the_price_book_and_the_price_is_frozen() -> None:
    book = replace(SETTINGS, price_book={"NVIDIA-H100-80GB-HBM3": "2.96"}, gpu_hour_price="1")
    whole = spec(budget=None)
    whole["train"]["gpuProduct"] = "NVIDIA-H100-80GB-HBM3"
    play = Play(run(spec=whole), settings=book)
    assert play.run.status["resolved"]["gpuHourPrice"] == "2.96"
    play.settings = replace(book, price_book={"NVIDIA-H100-80GB-HBM3": "9"})
    play.complete("curate", GOOD_CURATE)
    play.complete("train", GOOD_TRAIN, pods=2)
    assert play.run.status["resolved"]["gpuHourPrice"] == "2.96"


def test_costs_say_whose_price_they_go_by_and_one_that_no_book_lists_is_marked_as_an_estimate() -> None:
    whole = spec(budget=None)
    whole["train"]["gpuProduct"] = "NVIDIA-H200"
    book = replace(SETTINGS, price_book={"NVIDIA-H200": "3.50"}, gpu_hour_price="1")
    found = {
        "Run": Play(run(spec=spec()), settings=book),
        "PriceBook": Play(run(spec=whole), settings=book),
        "General": Play(run(spec=whole), settings=replace(book, price_book={"NVIDIA-B200": "5"})),
        "Unknown": Play(run(spec=whole), settings=SETTINGS),
    }
    assert {name: play.run.status["cost"]["priceFrom"] for name, play in found.items()} == {
        each: each for each in found
    }


def test_a_limit_without_a_price_is_said_not_to_be_kept_until_the_administrator_gives_one() -> None:
    whole = spec(budget={"limit": "5"}, serve={"maxCost": "5"})
    whole["train"]["gpuProduct"] = "NVIDIA-H200"
    play = Play(run(spec=whole))
    for kind, field in ((reasons.BUDGET_EXCEEDED, "budget.limit"), (reasons.MAX_COST, "serve.maxCost")):
        told = condition_of(play.run.status, kind)
        assert (told["status"], told["reason"]) == ("Unknown", reasons.PRICE_UNKNOWN)
        assert told["message"].startswith(f"GPU time does not count against {field}")
        assert "NVIDIA-H200" in told["message"]
    play.settings = replace(SETTINGS, price_book={"NVIDIA-H200": "3.50"})
    play.step()
    assert play.run.status["cost"]["priceFrom"] == "PriceBook"
    assert condition_of(play.run.status, reasons.BUDGET_EXCEEDED)["status"] == "False"


# -- attempts that Kubernetes believes to be alive -------------------------------------------------


def test_gpus_are_released_when_another_pod_of_the_attempt_cannot_start_in_time() -> None:
    play, name, things = training()
    stuck = replace(
        things[2], started=None, scheduled=None, phase="Pending", unschedulable="0/9 nodes: no GPU", node=""
    )
    play.step(things[0], things[1], stuck, seconds=60)
    assert train_of(play)["attempt"] == 1
    decision = play.step(things[0], things[1], stuck, seconds=900)
    train = train_of(play)
    assert (train["attempt"], train["releases"], train["failures"], train["preemptions"]) == (2, 1, 0, 0)
    assert train["reason"] == reasons.RELEASED
    assert "0/9 nodes: no GPU" in train["message"]
    assert [ref.name for ref in decision.delete] == [name]
    assert decision.requeue_after is not None
    assert play.step(seconds=1).ensure == ()  # it waits before it takes GPUs again
    assert play.step(seconds=60).ensure != ()


def test_a_pod_that_waits_alone_holds_nothing_and_waits_on() -> None:
    play = Play()
    play.complete("curate", GOOD_CURATE)
    name = play.job_of("train")
    alone = [pod(name, i, started=None, scheduled=None, phase="Pending", unschedulable="no GPU") for i in (0, 1)]
    play.step(job(name), *alone)
    play.step(job(name), *alone, seconds=100_000)
    assert (train_of(play)["attempt"], train_of(play)["reason"]) == (1, reasons.UNSCHEDULABLE)


def test_a_pod_on_a_node_that_does_not_answer_does_not_keep_the_next_attempt_waiting() -> None:
    play, _name, things = training()
    lost = replace(things[1], disrupted="DeletionByTaintManager", deleting=True, deleted=at(play.clock))
    play.step(things[0], lost, things[2], seconds=30)
    assert train_of(play)["attempt"] == 1
    play.step(things[0], lost, things[2], seconds=61)
    train = train_of(play)
    assert (train["attempt"], train["preemptions"], train["failures"]) == (2, 1, 0)
    assert train["reason"] == reasons.NODE_LOST


def test_a_rank_that_is_silent_while_its_peers_report_it_lost_counts_as_a_lost_node_not_as_a_failure() -> None:
    play, _name, things = training()
    failed = replace(things[0], failure="PodFailurePolicy", finished=at(play.clock))
    peer = ended(things[2], 76, play.clock, outcome="Failed", reason="PeerLost", message="rank 0 is gone")
    play.step(failed, things[1], peer, seconds=10)
    assert train_of(play)["attempt"] == 1
    play.step(failed, things[1], peer, seconds=100)
    train = train_of(play)
    assert (train["attempt"], train["preemptions"], train["failures"], train["reason"]) == (2, 1, 0, reasons.NODE_LOST)


def test_ranks_that_stand_still_since_they_wait_for_a_lost_node_count_as_a_lost_node_not_as_a_stall() -> None:
    play, _name, things = training()
    failed = replace(things[0], failure="PodFailurePolicy", finished=at(play.clock))
    stalled = ended(things[1], 70, play.clock, reason=reasons.STALLED_STAGE, message="no step for 600 s")
    silent = replace(things[2], deleting=True, deleted=at(play.clock))
    play.step(failed, stalled, silent, seconds=10)
    assert train_of(play)["attempt"] == 1
    play.step(failed, stalled, silent, seconds=100)
    train = train_of(play)
    assert (train["attempt"], train["preemptions"], train["failures"], train["reason"]) == (2, 1, 0, reasons.NODE_LOST)


def test_while_a_lost_node_is_waited_for_training_that_stands_still_is_no_stall() -> None:
    play, name, things = training()

    def look(*now: Any, seconds: float) -> dict[str, Any]:
        numbers = {"progress_done": 5.0, "progress_total": 100.0}
        scrape = Scrape("u", at(play.clock + seconds), numbers, "steps")
        play.step(*now, seconds=seconds, scrapes={f"{name}-0": scrape})
        return train_of(play)

    look(*things, seconds=10)
    still = Spec.model_validate(play.run.spec).train.stall_timeout_seconds + SUPERVISOR_FIRST
    evicted = at(play.clock + still)
    lost = replace(things[2], disrupted="DeletionByTaintManager", deleting=True, deleted=evicted)
    assert look(things[0], things[1], lost, seconds=still + 5)["attempt"] == 1
    train = look(things[0], things[1], lost, seconds=90)
    assert (train["attempt"], train["preemptions"], train["failures"], train["reason"]) == (2, 1, 0, reasons.NODE_LOST)


# -- Kueue ---------------------------------------------------------------------------------------


def test_a_queued_job_is_created_with_its_queue_and_waits_without_being_touched() -> None:
    play = Play(run(spec=spec(queueName="team")))
    play.complete("curate", GOOD_CURATE)
    name = play.job_of("train")
    assert {want.queue for want in play.last.ensure if want.kind == "Job"} == {"team"}
    queued = job(name, suspended=True, active=0)
    decision = play.step(queued)
    assert decision.ensure == ()
    assert (train_of(play)["state"], train_of(play)["reason"]) == ("Pending", reasons.QUEUED)
    assert "LocalQueue team" in train_of(play)["message"]
    assert play.step(queued, seconds=10_000).status is None


def test_a_job_that_kueue_suspends_under_its_pods_counts_one_preemption_and_queues_anew() -> None:
    play, name, things = training(queueName="team")
    going = [replace(each, deleting=True, deleted=at(play.clock)) for each in things[1:]]
    suspended = replace(things[0], suspended=True, active=0)
    decision = play.step(suspended, *going, seconds=100)
    train = train_of(play)
    assert (train["state"], train["preemptions"], train["failures"], train["attempt"]) == ("Pending", 1, 0, 2)
    assert train["reason"] == reasons.PREEMPTED
    assert [ref.name for ref in decision.delete] == [name]
    billed = float(train["cost"]["gpuSeconds"])
    assert billed == 2 * (110 + 60)
    again = play.step(suspended, *going)
    assert [want.queue for want in again.ensure if want.kind == "Job"] == ["team"]
    assert train_of(play)["preemptions"] == 1
    assert float(train_of(play)["cost"]["gpuSeconds"]) == billed


def test_a_job_that_failed_only_because_kueue_had_suspended_it_is_a_preemption_even_when_nobody_saw_it() -> None:
    play, _name, things = training(queueName="team")
    failed = replace(things[0], failure="PodFailurePolicy", preempted=True, finished=at(play.clock))
    play.step(failed, *(ended(each, 143, play.clock) for each in things[1:]))
    assert (train_of(play)["preemptions"], train_of(play)["failures"]) == (1, 0)


# -- reuse ---------------------------------------------------------------------------------------


def test_a_stage_that_another_run_has_made_is_reused_and_the_next_is_looked_for_without_gpus() -> None:
    play = Play()
    play.complete("curate", {**GOOD_CURATE, "reusedFrom": "team/earlier"})
    curate = stage_of(play.run.status, "curate")
    assert (curate["state"], curate["reusedFrom"]) == ("Reused", "team/earlier")
    assert condition_of(play.run.status, reasons.CURATED)["reason"] == reasons.REUSED
    assert train_of(play)["attempt"] == 0
    assert [want.kind for want in play.last.ensure] == ["ConfigMap", "Job"]
    assert [want.image for want in play.last.ensure] == [SETTINGS.images["resolve"]] * 2
    name = play.job_of("train")
    probe = pod(name, stage="train", gpus=0)
    absent = ended(probe, 0, play.clock + 5, outcome="Absent")
    play.step(job(name, attempt=0, complete=True, succeeded=1, finished=at(play.clock + 5)), absent)
    real = play.step(job(name, attempt=0, complete=True, succeeded=1, finished=at(play.clock + 5)), absent)
    assert train_of(play)["attempt"] == 1
    assert [want.kind for want in real.ensure] == ["ConfigMap", "Service", "Job"]


def test_a_run_applied_again_with_another_evaluation_reuses_curation_and_training() -> None:
    play = Play()
    play.complete("curate", {**GOOD_CURATE, "reusedFrom": "team/earlier"})
    play.complete("train", {**GOOD_TRAIN, "reusedFrom": "team/earlier"})
    assert train_of(play)["state"] == "Reused"
    assert stage_of(play.run.status, "evaluate")["attempt"] == 0


@pytest.mark.parametrize("how", ["fails", "leaves nothing"])
def test_a_probe_that_goes_wrong_costs_nothing_but_the_reuse(how: str) -> None:
    play = Play()
    play.complete("curate", {**GOOD_CURATE, "reusedFrom": "team/earlier"})
    name = play.job_of("train")
    base = pod(name, stage="train", gpus=0)
    if how == "fails":
        play.step(job(name, attempt=0, failure="PodFailurePolicy", finished=at(play.clock)), ended(base, 1))
    else:
        play.step(job(name, attempt=0, complete=True, finished=at(play.clock)), ended(base, 0))
    assert (train_of(play)["attempt"], train_of(play)["failures"]) == (1, 0)


@pytest.mark.parametrize("entries", [["sha256:bb"], [["sha256:bb", 4000]], [{"name": "pool", "revision": "sha256:bb"}]])
def test_what_was_resolved_is_read_in_each_form_that_fits_a_termination_message(entries: list[Any]) -> None:
    short = {**GOOD_RESOLVE, "numbers": {"resolved": {**RESOLVED, "sources": entries}}}
    play = Play(run(spec=spec(suspend=True)))
    edit(play, suspend=False)
    play.complete("resolve", short)
    assert play.run.status["resolved"]["sources"][0]["revision"] == "sha256:bb"
    assert play.run.status["resolved"]["sources"][0]["name"] == "pool"


# -- a shared endpoint ---------------------------------------------------------------------------


def serving_run(**observed_changes: Any) -> tuple[Play, Child]:
    play = Play(run(spec=spec(serve={"endpointName": "chat"})))
    play.complete("curate", GOOD_CURATE)
    play.complete("train", GOOD_TRAIN, pods=2)
    play.complete("evaluate", scores(0.99))
    return play, Child("Deployment", "s1-serve", "d", "run-uid", False, available=1)


def shared(uid: str, created: float) -> Child:
    return Child("Service", "chat", "svc", "", False, run_uid=uid, run_name="other", holder_since=at(created))


def test_a_shared_service_is_taken_over_only_once_the_model_has_answered() -> None:
    play, server = serving_run()
    before = play.step(endpoint=shared("older", -100))
    assert "shared-endpoint" not in [want.role for want in before.ensure]
    warm = play.step(server, endpoint=shared("older", -100))
    assert "shared-endpoint" in [want.role for want in warm.ensure]
    assert play.run.status["phase"] != "Failed"
    done = play.step(server, endpoint=shared("run-uid", 0))
    assert play.run.status["phase"] == "Serving"
    assert play.run.status["endpoint"]["url"] == "http://chat.team.svc:8000/v1"
    assert "shared-endpoint" in [want.role for want in done.ensure]


def test_a_newer_runs_hold_on_a_shared_service_is_not_fought_over() -> None:
    play, server = serving_run()
    play.step(server, endpoint=shared("run-uid", 0))
    decision = play.step(server, endpoint=shared("newer", 500))
    assert "shared-endpoint" not in [want.role for want in decision.ensure]
    assert stage_of(play.run.status, "serve")["reason"] == reasons.SUPERSEDED
    assert play.run.status["endpoint"]["url"] == "http://s1-serve.team.svc:8000/v1"
    assert "delete or suspend this run" in condition_of(play.run.status, reasons.SERVING)["message"]
    gone = play.step(server, endpoint=shared("newer", 500), endpoint_orphaned=True)
    assert "shared-endpoint" in [want.role for want in gone.ensure]


def test_active_time_that_a_stranger_wrote_never_grows_over_what_status_holds() -> None:
    assert Clock("0001-01-01T00:00:00Z", MOST - 1).after(False, at(0)) == Clock(None, MOST)
