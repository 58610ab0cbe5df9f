"""The planner's transitions, one row a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from distillrun.plan import reasons
from distillrun.plan.model import Child, Conflict, Decision, Job, Observed, Pod, Refusal, Run, Scrape, Settings
from distillrun.plan.planner import plan
from tests.unit.builders import SETTINGS, T0, at, ended, job, observed, pod, run, spec
from tests.unit.conditions import check_conditions

RESOLVED = {
    "student": {"revision": "sha256:aa", "dimensions": {"modelType": "qwen2", "layers": 4, "parameters": 860_000}},
    "sources": [{"name": "pool", "revision": "sha256:bb", "rows": 4000}],
    "benchmarks": [{"name": "additions", "revision": "sha256:cc", "rows": 200}],
}
GOOD_RESOLVE = {
    "outcome": "Succeeded",
    "artifact": "file:///mnt/distillrun/team/resolve/w/",
    "numbers": {"resolved": RESOLVED},
}
GOOD_CURATE = {"outcome": "Succeeded", "artifact": "file:///mnt/distillrun/team/curate/x/", "numbers": {"accepted": 9}}
GOOD_TRAIN = {"outcome": "Succeeded", "artifact": "file:///mnt/distillrun/team/train/y/", "numbers": {"loss": 0.5}}


def scores(value: float) -> dict[str, Any]:
    score = {"benchmark": "additions", "metric": "accuracy", "low": value - 0.03, "high": value + 0.02, "n": 200}
    return {
        "outcome": "Succeeded",
        "artifact": "file:///mnt/distillrun/team/evaluate/z/",
        "numbers": {
            "scores": [{**score, "model": "student", "value": value}, {**score, "model": "base", "value": 0.0}]
        },
    }


def follow(a_run: Run, decision: Decision) -> Run:
    """The run after the decision's status was written."""
    return a_run if decision.status is None else replace(a_run, status=decision.status)


def stage_of(status: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    assert status is not None
    return next(stage for stage in status["stages"] if stage["name"] == name)


def condition_of(status: Mapping[str, Any] | None, kind: str) -> dict[str, Any]:
    assert status is not None
    return next((c for c in status["conditions"] if c["type"] == kind), {})


class Play:
    """Plays a run forward: each call of `step` shows the planner what is observed and keeps the status it wants."""

    def __init__(
        self, a_run: Run | None = None, settings: Settings = SETTINGS, resolve: dict[str, Any] = GOOD_RESOLVE
    ) -> None:
        self.run = a_run or run()
        self.settings = settings
        self.clock = 0.0
        self.done: list[Job | Pod | Child] = []
        self.step(seconds=0)
        if stage_of(self.run.status, "resolve")["state"] == "Pending" and self.run.spec.get("suspend") is not True:
            self.complete("resolve", resolve)

    def step(self, *things: Job | Pod | Child, seconds: float = 10, **changes: Any) -> Decision:
        self.clock += seconds
        decision = plan(self.run, observed(*self.done, *things, **changes), at(self.clock), self.settings)
        self.run = follow(self.run, decision)
        self.last = decision
        check_conditions(self.run.status)
        return decision

    def job_of(self, stage: str) -> str:
        name: str = stage_of(self.run.status, stage)["jobName"]
        return name

    def complete(self, stage: str, message: dict[str, Any], pods: int = 1) -> Decision:
        """The stage's Job is created, runs and succeeds."""
        if not stage_of(self.run.status, stage).get("jobName"):
            self.step()
        name = self.job_of(stage)
        bases = [pod(name, index, stage) for index in range(pods)]
        self.step(job(name, stage), *bases)
        finished = [ended(base, 0, self.clock + 5, **message) for base in bases]
        done = [job(name, stage, complete=True, active=0, succeeded=pods, finished=at(self.clock + 5)), *finished]
        decision = self.step(*done)
        self.done += done
        return decision


def started() -> Play:
    play = Play()
    play.step()
    return play


def trained() -> Play:
    play = started()
    play.complete("curate", GOOD_CURATE)
    play.complete("train", GOOD_TRAIN, pods=2)
    return play


def test_the_first_pass_looks_at_the_inputs_and_says_pending() -> None:
    decision = plan(run(), observed(), at(1), SETTINGS)
    assert [(want.kind, want.role, want.stage) for want in decision.ensure] == [
        ("ConfigMap", "config", "resolve"),
        ("Job", "job", "resolve"),
    ]
    assert decision.status is not None
    assert decision.status["phase"] == "Pending"
    assert decision.status["observedRetry"] == 0


def test_a_resolved_run_curates_with_the_revisions_that_were_found_and_freezes_images_and_price() -> None:
    play = Play()
    decision = play.last
    assert [(want.kind, want.role) for want in decision.ensure] == [("ConfigMap", "config"), ("Job", "job")]
    assert decision.status is not None
    assert decision.status["phase"] == "Pending"
    assert decision.status["observedGeneration"] == 1
    assert condition_of(decision.status, reasons.RECONCILING)["status"] == "True"
    assert decision.ensure[0].config["curate"]["teacher"]["apiKey"]["secret"] == "teacher"
    assert decision.ensure[0].config["curate"]["sources"][0]["revision"] == "sha256:bb"
    assert decision.status["resolved"]["images"] == dict(SETTINGS.images)
    assert decision.status["resolved"]["student"]["dimensions"]["parameters"] == 860_000


def test_a_published_dataset_is_curated_without_a_teacher_and_trained_on() -> None:
    published = {"dataset": {"uri": "hf://datasets/a/traces", "revision": "main", "fields": {"layout": "ShareGPT"}}}
    found = {**RESOLVED, "sources": [{"name": "dataset", "revision": "5" * 40, "rows": 17000}]}
    answer = {**GOOD_RESOLVE, "numbers": {"resolved": found}}
    play = Play(run(spec=spec(models=None, teacher=None, curate=published)), resolve=answer)
    config = play.last.ensure[0].config
    assert config["curate"] == {
        "dataset": {
            "name": "dataset",
            "uri": "hf://datasets/a/traces",
            "revision": "5" * 40,
            "split": "train",
            "take": None,
            "unchecked": True,
            "fields": config["curate"]["dataset"]["fields"],
        },
        "decontaminate": config["curate"]["decontaminate"],
    }
    assert [each["name"] for each in config["curate"]["decontaminate"]["against"]] == ["additions"]
    assert play.run.status["resolved"]["sources"][0]["unchecked"] is True
    assert "unchecked" not in play.run.status["resolved"]["student"], "it lies on the claim"
    play.complete("curate", GOOD_CURATE)
    assert stage_of(play.run.status, "train")["jobName"]


@pytest.mark.parametrize(("revision", "mark"), [(None, True), ("main", True), ("5" * 40, None)])
def test_a_student_of_the_hub_whose_commit_nobody_has_chosen_is_marked(revision: str | None, mark: bool | None) -> None:
    play = Play(run(spec=spec(student={"model": {"uri": "hf://owner/model", "revision": revision}})))
    assert play.run.status["resolved"]["student"].get("unchecked") is mark


def test_what_else_questions_are_compared_with_is_read_at_the_revision_that_was_found() -> None:
    against = [{"name": "held-out", "uri": "hf://datasets/a/held-out"}]
    found = {**RESOLVED, "against": [["5" * 40, 70]]}
    play = Play(
        run(spec=spec(curate={**spec()["curate"], "decontaminate": {"against": against}})),
        resolve={**GOOD_RESOLVE, "numbers": {"resolved": found}},
    )
    compared = play.last.ensure[0].config["curate"]["decontaminate"]["against"]
    assert [(each["name"], each["revision"]) for each in compared] == [
        ("additions", "sha256:cc"),
        ("held-out", "5" * 40),
    ]
    assert play.run.status["resolved"]["against"] == [
        {"name": "held-out", "revision": "5" * 40, "rows": 70, "unchecked": True}
    ]


@pytest.mark.parametrize(("own", "used"), [(None, "https://hub.corp.example"), ("s3://mirror/hub", "s3://mirror/hub")])
def test_a_runs_own_mirror_or_the_administrators_is_told_to_stages_that_read_of_the_hub_and_recorded(
    own: str | None, used: str
) -> None:
    settings = replace(SETTINGS, mirror="https://hub.corp.example")
    given = spec(
        mirror={"uri": own} if own else None, curate={"sources": [{"name": "pool", "uri": "hf://datasets/a/b"}]}
    )
    play = Play(run(spec=given), settings=settings)
    assert play.last.ensure[0].config["mirror"] == used
    assert play.run.status["resolved"]["mirror"] == used
    decision = play.complete("curate", GOOD_CURATE)
    assert decision.ensure[0].config["mirror"] is None, "the student is on the claim"


def test_a_second_pass_over_the_same_things_writes_nothing() -> None:
    play = started()
    name = play.job_of("curate")
    play.step(job(name, "curate"), pod(name, stage="curate"))
    again = play.step(job(name, "curate"), pod(name, stage="curate"))
    assert again.status is None
    assert again.ensure == ()
    assert again.events == ()


def test_a_finished_curation_is_followed_by_training_with_a_rendezvous_service() -> None:
    play = started()
    decision = play.complete("curate", GOOD_CURATE)
    assert [(want.kind, want.role) for want in decision.ensure] == [
        ("ConfigMap", "config"),
        ("Service", "rendezvous"),
        ("Job", "job"),
    ]
    assert decision.status is not None
    assert decision.status["phase"] == "Training"
    assert stage_of(decision.status, "curate")["results"] == {"accepted": "9"}
    assert decision.ensure[0].config["train"]["dataset"] == GOOD_CURATE["artifact"]


def test_a_run_whose_gates_pass_is_served_and_ready_once_every_replica_answers() -> None:
    play = trained()
    decision = play.complete("evaluate", scores(0.99))
    assert [want.role for want in decision.ensure] == ["config", "endpoint", "server"]
    assert condition_of(decision.status, reasons.GATES_PASSED)["status"] == "True"
    assert condition_of(decision.status, reasons.READY)["status"] == "False"
    server = Child("Deployment", "s1-serve", "d", "run-uid", False, available=1)
    ready = play.step(server)
    assert ready.status is not None
    assert ready.status["phase"] == "Serving"
    assert ready.status["endpoint"] == {"url": "http://s1-serve.team.svc:8000/v1", "model": "s1"}
    assert condition_of(ready.status, reasons.READY)["status"] == "True"
    assert condition_of(ready.status, reasons.RECONCILING) == {}


def test_a_run_whose_gates_fail_is_stalled_names_the_gate_and_serves_nothing() -> None:
    play = trained()
    decision = play.complete("evaluate", scores(0.5))
    assert decision.ensure == ()
    assert decision.status is not None
    assert decision.status["phase"] == "Failed"
    assert "additions Accuracy 0.5000 < 0.95" in decision.status["message"]
    assert condition_of(decision.status, reasons.STALLED)["reason"] == reasons.GATES_NOT_PASSED
    assert play.step().status is None


def test_a_gate_that_is_lowered_afterwards_lets_the_student_be_served() -> None:
    play = trained()
    play.complete("evaluate", scores(0.5))
    play.run = replace(play.run, generation=2, spec=spec(gates=[{"benchmark": "additions", "atLeast": "0.4"}]))
    assert [want.role for want in play.step().ensure] == ["config", "endpoint", "server"]


def test_a_gate_that_is_raised_above_the_score_takes_the_server_away() -> None:
    play = trained()
    play.complete("evaluate", scores(0.97))
    play.run = replace(play.run, generation=2, spec=spec(gates=[{"benchmark": "additions", "atLeast": "0.99"}]))
    server = Child("Deployment", "s1-serve", "d", "run-uid", False, available=1)
    service = Child("Service", "s1-serve", "s", "run-uid", False)
    assert {ref.kind for ref in play.step(server, service).delete} == {"Deployment", "Service"}


def test_a_run_without_evaluation_and_serving_succeeds_after_training() -> None:
    play = Play(run(spec=spec(evaluate=None, gates=None, serve=None)))
    play.step()
    play.complete("curate", GOOD_CURATE)
    decision = play.complete("train", GOOD_TRAIN, pods=2)
    assert decision.status is not None
    assert decision.status["phase"] == "Succeeded"
    assert condition_of(decision.status, reasons.READY)["status"] == "True"


@pytest.mark.parametrize("code", [64, 65, 78])
def test_an_error_that_would_come_again_fails_the_run_at_once_with_the_stages_sentence(code: int) -> None:
    play = started()
    name = play.job_of("curate")
    failed = job(name, "curate", failure="PodFailurePolicy", finished=at(11))
    end = ended(pod(name, stage="curate"), code, reason="TeacherUnauthorized", message="Secret teacher is wrong")
    decision = play.step(failed, end)
    assert decision.status is not None
    assert decision.status["phase"] == "Failed"
    assert "Secret teacher is wrong" in decision.status["message"]
    assert condition_of(decision.status, reasons.CURATED)["reason"] == "TeacherUnauthorized"
    assert decision.delete == ()
    later = play.step(failed, end, seconds=3600)
    assert (later.status, later.ensure, later.delete) == (None, (), ())


def test_a_fault_is_followed_by_the_next_attempt_after_a_wait_and_the_old_job_goes() -> None:
    play = started()
    play.complete("curate", GOOD_CURATE)
    name = play.job_of("train")
    play.step(job(name), pod(name, 0), pod(name, 1))
    failed = job(name, failure="PodFailurePolicy", finished=at(40))
    first = ended(pod(name, 0), 76, reason="PeerLost", message="rank 1 is gone")
    second = ended(pod(name, 1), 70, reason="Fault", message="boom")
    decision = play.step(failed, first, second)
    train = stage_of(decision.status, "train")
    assert (train["attempt"], train["failures"], train["state"]) == (2, 1, "Pending")
    assert "boom" in train["message"]
    assert [ref.name for ref in decision.delete] == [name]
    assert all(want.kind != "Job" for want in decision.ensure)
    waiting = play.step(seconds=1)
    assert all(want.kind != "Job" for want in waiting.ensure)
    assert waiting.requeue_after is not None
    [created] = [want for want in play.step(seconds=10).ensure if want.kind == "Job"]
    assert created.attempt == 2
    assert created.name != name


def test_failures_beyond_max_retries_fail_the_run_and_keep_the_last_job_for_its_logs() -> None:
    play = Play(run(spec=spec(maxRetries=0)))
    play.step()
    name = play.job_of("curate")
    end = ended(pod(name, stage="curate"), 70, message="boom")
    decision = play.step(job(name, "curate", failure="PodFailurePolicy", finished=at(11)), end)
    assert decision.status is not None
    assert decision.status["phase"] == "Failed"
    assert decision.delete == ()


def test_a_disruption_is_counted_apart_and_followed_at_once() -> None:
    play = started()
    play.complete("curate", GOOD_CURATE)
    name = play.job_of("train")
    play.step(job(name), pod(name, 0), pod(name, 1))
    evicted = ended(pod(name, 1, disrupted="PreemptionByScheduler"), 143)
    decision = play.step(job(name, failure="PodFailurePolicy", finished=at(40)), ended(pod(name, 0), 76), evicted)
    train = stage_of(decision.status, "train")
    assert (train["failures"], train["preemptions"], train["attempt"]) == (0, 1, 2)
    assert [want.attempt for want in play.step(seconds=1).ensure if want.kind == "Job"] == [2]


def test_a_temporary_error_waits_as_told_and_is_no_failure() -> None:
    play = started()
    name = play.job_of("curate")
    end = ended(pod(name, stage="curate"), 75, reason="TeacherRateLimited", message="later", retryAfterSeconds=120)
    decision = play.step(job(name, "curate", failure="PodFailurePolicy", finished=at(11)), end)
    assert stage_of(decision.status, "curate")["failures"] == 0
    assert decision.requeue_after == 120
    assert play.step(seconds=100).ensure == ()
    assert [want.attempt for want in play.step(seconds=30).ensure if want.kind == "Job"] == [2]


def test_out_of_memory_does_not_retry() -> None:
    play = started()
    name = play.job_of("curate")
    end = ended(pod(name, stage="curate"), 137, kubernetes_reason="OOMKilled")
    decision = play.step(job(name, "curate", failure="PodFailurePolicy", finished=at(11)), end)
    assert stage_of(decision.status, "curate")["reason"] == reasons.OUT_OF_MEMORY
    assert decision.status is not None
    assert decision.status["phase"] == "Failed"


@pytest.mark.parametrize(
    ("changes", "reason", "word"),
    [
        (
            {"waiting_reason": "CreateContainerConfigError", "waiting_message": 'secret "teacher" not found'},
            reasons.SECRET_NOT_FOUND,
            "Secret teacher",
        ),
        (
            {
                "waiting_reason": "CreateContainerConfigError",
                "waiting_message": "couldn't find key apiKey in Secret team/teacher",
            },
            reasons.SECRET_NOT_FOUND,
            "Secret teacher has no key apiKey",
        ),
        (
            {"waiting_reason": "ImagePullBackOff", "waiting_message": 'Back-off pulling image "x/y:1"'},
            reasons.IMAGE_NOT_PULLED,
            "x/y:1",
        ),
        (
            {"unschedulable": 'persistentvolumeclaim "demo" not found'},
            reasons.CLAIM_NOT_FOUND,
            "PersistentVolumeClaim demo",
        ),
        ({"unschedulable": "0/1 nodes: 1 Insufficient nvidia.com/gpu"}, reasons.UNSCHEDULABLE, "nvidia.com/gpu"),
    ],
)
def test_what_is_missing_is_named_in_a_condition_and_the_run_stays_pending(
    changes: dict[str, Any], reason: str, word: str
) -> None:
    play = started()
    name = play.job_of("curate")
    waiting = pod(name, stage="curate", phase="Pending", started=None, **changes)
    decision = play.step(job(name, "curate"), waiting)
    assert decision.status is not None
    assert decision.status["phase"] == "Pending"
    condition = condition_of(decision.status, reasons.CURATED)
    assert condition["reason"] == reason
    assert word in condition["message"]
    assert [event.reason for event in decision.events] == [reason]
    assert play.step(job(name, "curate"), waiting).events == ()
    runs = play.step(job(name, "curate"), pod(name, stage="curate"))
    assert condition_of(runs.status, reasons.CURATED)["reason"] == reasons.RUNNING


def test_a_foreign_object_with_a_childs_name_is_named_and_left_alone() -> None:
    play = started()
    name = play.job_of("curate")
    decision = play.step(conflicts=(Conflict("ConfigMap", name, "nobody"),))
    assert condition_of(decision.status, reasons.CURATED)["reason"] == reasons.NAME_CONFLICT
    assert name in condition_of(decision.status, reasons.CURATED)["message"]
    assert decision.delete == ()
    assert decision.requeue_after is not None
    cleared = play.step()
    assert condition_of(cleared.status, reasons.CURATED)["reason"] == reasons.PENDING


def test_what_the_api_server_refuses_is_told_in_its_own_words() -> None:
    play = started()
    name = play.job_of("curate")
    decision = play.step(refusals=(Refusal("Job", name, "exceeded quota: gpus"),))
    assert "exceeded quota: gpus" in condition_of(decision.status, reasons.CURATED)["message"]


def test_a_spec_edited_before_anything_ran_starts_the_stage_afresh_and_the_old_job_goes() -> None:
    play = started()
    name = play.job_of("curate")
    edited = spec(curate={"sources": [{"name": "pool", "uri": "file:///mnt/distillrun/demo/other.jsonl"}]})
    play.run = replace(play.run, generation=2, spec=edited)
    waiting = job(name, "curate"), pod(name, stage="curate", phase="Pending", started=None)
    play.step(*waiting)
    assert stage_of(play.run.status, "resolve")["state"] == "Pending"
    play.done += waiting
    decision = play.complete("resolve", GOOD_RESOLVE)
    assert play.job_of("curate") != name
    assert [want.name for want in decision.ensure if want.kind == "Job"] == [play.job_of("curate")]
    assert name in [ref.name for ref in play.step(*waiting).delete]


def test_a_job_deleted_by_hand_while_it_ran_is_followed_by_another_attempt() -> None:
    play = started()
    name = play.job_of("curate")
    play.step(job(name, "curate"), pod(name, stage="curate"))
    decision = play.step(seconds=60)
    curate = stage_of(decision.status, "curate")
    assert (curate["attempt"], curate["failures"], curate["reason"]) == (2, 1, reasons.JOB_DELETED)


def test_a_complete_job_whose_message_is_lost_is_run_again_to_learn_its_result() -> None:
    play = started()
    name = play.job_of("curate")
    decision = play.step(job(name, "curate", complete=True, finished=at(15)))
    assert stage_of(decision.status, "curate")["reason"] == reasons.RESULT_LOST
    assert [ref.name for ref in decision.delete] == [name]


def test_gpu_time_of_every_attempt_is_billed_once() -> None:
    play = started()
    play.complete("curate", GOOD_CURATE)
    first = play.job_of("train")
    begun = play.clock
    pods = [pod(first, index, scheduled=at(begun)) for index in (0, 1)]
    play.step(job(first, created=at(begun)), *pods)
    ends = [ended(base, 70, begun + 1800, message="boom") for base in pods]
    play.step(job(first, created=at(begun), failure="PodFailurePolicy", finished=at(begun + 1800)), *ends, seconds=1800)
    assert stage_of(play.run.status, "train")["cost"]["gpuSeconds"] == "3600.0"
    play.step(seconds=60)
    second = play.job_of("train")
    base = play.clock
    again = [pod(second, index, scheduled=at(base)) for index in (0, 1)]
    play.step(job(second, attempt=2, created=at(base)), *again)
    done = [ended(p, 0, base + 1800, **GOOD_TRAIN) for p in again]
    decision = play.step(job(second, attempt=2, created=at(base), complete=True, finished=at(base + 1800)), *done)
    assert stage_of(decision.status, "train")["cost"]["gpuSeconds"] == "7200.0"
    assert decision.status is not None
    assert (decision.status["cost"]["spent"], decision.status["cost"]["gpuSeconds"]) == ("7.20", "7200.0")


def test_a_pod_that_left_no_evidence_is_billed_the_whole_attempt_and_marked_estimated() -> None:
    play = started()
    play.complete("curate", GOOD_CURATE)
    name = play.job_of("train")
    play.step(job(name), pod(name, 0), pod(name, 1))
    failed = job(name, created=T0, failure="BackoffLimitExceeded", finished=at(1000))
    decision = play.step(failed, ended(pod(name, 0), 76, 1000), seconds=1000)
    cost = stage_of(decision.status, "train")["cost"]
    assert cost["estimated"] is True
    assert float(cost["gpuSeconds"]) == 2000


def test_progress_alone_is_written_at_most_every_thirty_seconds() -> None:
    play = started()
    name = play.job_of("curate")
    things = job(name, "curate"), pod(name, stage="curate")

    def scraped(done: int) -> dict[str, Scrape]:
        numbers = {"progress_done": float(done), "progress_total": 100.0, "traces_accepted": done * 0.9}
        return {f"{name}-0": Scrape("u", at(play.clock), numbers, "questions")}

    first = play.step(*things, scrapes=scraped(10))
    assert stage_of(first.status, "curate")["progress"]["done"] == 10
    assert play.step(*things, scrapes=scraped(20)).status is None
    assert play.step(*things, scrapes=scraped(30)).status is None
    written = play.step(*things, scrapes=scraped(40))
    progress = stage_of(written.status, "curate")["progress"]
    assert progress["done"] == 40
    assert progress["rate"] == "1"
    assert progress["etaSeconds"] == 60
    assert written.status is not None
    assert written.status["progress"] == "40%"


def test_with_two_thousand_running_runs_progress_is_written_less_often() -> None:
    play = started()
    name = play.job_of("curate")
    things = job(name, "curate"), pod(name, stage="curate")
    numbers = {f"{name}-0": Scrape("u", T0, {"progress_done": 1.0, "progress_total": 100.0}, "q")}
    play.step(*things, scrapes=numbers)
    more = {f"{name}-0": Scrape("u", T0, {"progress_done": 2.0, "progress_total": 100.0}, "q")}
    assert play.step(*things, scrapes=more, seconds=60, running_runs=2000).status is None
    assert play.step(*things, scrapes=more, seconds=60, running_runs=2000).status is not None


def test_a_run_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    assert plan(run(deleting=True), observed(), at(1), SETTINGS) == Decision()


def test_a_stored_spec_that_this_version_does_not_know_stalls_with_the_fields_name() -> None:
    decision = plan(run(spec={**spec(), "teecher": "x"}), observed(), at(1), SETTINGS)
    assert condition_of(decision.status, reasons.STALLED)["reason"] == reasons.INVALID_SPEC
    assert "teecher" in condition_of(decision.status, reasons.STALLED)["message"]


def test_the_rest_of_a_failed_jobs_pods_are_waited_for_but_not_forever() -> None:
    play = started()
    play.complete("curate", GOOD_CURATE)
    name = play.job_of("train")
    play.step(job(name), pod(name, 0), pod(name, 1))
    failed_at = play.clock
    failed = job(name, failure="PodFailurePolicy", finished=at(failed_at))
    boom = ended(pod(name, 1), 70, message="boom")
    first = play.step(failed, pod(name, 0), boom, seconds=5)
    assert stage_of(play.run.status, "train")["attempt"] == 1
    assert first.requeue_after is not None
    play.step(failed, pod(name, 0), boom, seconds=100)
    assert stage_of(play.run.status, "train")["attempt"] == 2


def test_a_claim_template_is_wanted_in_every_pass() -> None:
    claimed = run(spec=spec(storage={"claimTemplate": {"size": "10Gi", "accessModes": ["ReadWriteMany"]}}))
    assert plan(claimed, Observed(), at(1), SETTINGS).ensure[0].role == "storage"


def test_a_status_that_a_stranger_wrote_is_named_and_nothing_is_done_on_it() -> None:
    play = started()
    broken = {**play.run.status, "cost": {"spent": "x", "gpuSeconds": "lots"}}
    decision = plan(replace(play.run, status=broken), observed(), at(90), SETTINGS)
    assert decision.ensure == ()
    assert decision.status is not None
    assert condition_of(decision.status, reasons.STALLED)["reason"] == reasons.INVALID_STATUS
    assert "status.cost" in decision.status["message"]
    assert decision.status["stages"] == play.run.status["stages"]
    assert plan(replace(play.run, status=decision.status), observed(), at(99), SETTINGS).status is None


def test_a_spec_whose_teacher_is_none_of_its_models_is_named_though_the_api_server_let_it_in() -> None:
    decision = plan(run(spec=spec(teacher="nobody")), observed(), at(1), SETTINGS)
    assert condition_of(decision.status, reasons.STALLED)["reason"] == reasons.INVALID_SPEC
