"""What asking costs counts once, ends a stage at the budget, and a teacher that says "tomorrow" is waited for."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from distillrun.api.status import MOST, Asked
from distillrun.api.v1alpha1 import Price
from distillrun.plan import asking, reasons
from distillrun.plan.model import Decision, Scrape
from tests.unit.builders import at, ended, job, pod, run, spec
from tests.unit.plan.test_lifecycle import edit
from tests.unit.plan.test_planner import GOOD_CURATE, Play, condition_of, stage_of

PRICE = Price(input="1.25", output="10")
TOLD = st.tuples(st.integers(0, MOST), st.integers(0, MOST))


def curating(**budget: Any) -> Play:
    """A run at curation whose teacher costs 1.25 and 10 a million tokens."""
    whole = spec(budget={"gpuHourPrice": "3.60", **budget})
    whole["models"][0]["endpoint"]["pricePerMillionTokens"] = {"input": "1.25", "output": "10"}
    play = Play(run(spec=whole))
    play.step()
    return play


def work(play: Play, prompt: float, completion: float) -> Decision:
    """A pass while the stage's pod says so many tokens."""
    name = play.job_of("curate")
    numbers = {
        "progress_done": 1.0,
        "progress_total": 9.0,
        'paid_prompt_tokens{model="teacher"}': prompt,
        'paid_completion_tokens{model="teacher"}': completion,
    }
    scrapes = {f"{name}-0": Scrape("u", at(play.clock), numbers, "questions")}
    return play.step(job(name, "curate"), pod(name, stage="curate"), scrapes=scrapes, seconds=30)


def end(play: Play, code: int, **message: Any) -> Decision:
    """A pass after the pod has ended."""
    name = play.job_of("curate")
    gone = ended(pod(name, stage="curate"), code, play.clock + 5, **message)
    return play.step(
        job(name, "curate", active=0, failed=1, failure="PodFailurePolicy", finished=at(play.clock + 5)), gone
    )


def paid(prompt: Any, completion: Any, model: str = "teacher") -> dict[str, Any]:
    return {"paid": {model: {"promptTokens": prompt, "completionTokens": completion}}}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefghijklmnopqrst"), TOLD), max_size=40), st.randoms())
def test_tokens_count_once_however_often_and_in_whatever_order_they_are_told(
    told: list[tuple[str, tuple[int, int]]], chance: Any
) -> None:
    names = {name for name, _ in told}
    twice = [*told, *told]
    chance.shuffle(twice)
    asked: list[Asked] = []
    for name, pair in twice:
        before = asking.total(asked)
        asked = asking.heard(asked, name * 64, "teacher", [pair], PRICE)
        assert asking.total(asked) >= before
        assert len(asked) <= asking.ITEMS
    if len(names) <= asking.ITEMS:
        most = {n: [max(pair[i] for name, pair in told if name == n) for i in (0, 1)] for n in names}
        exact = sum((p * Decimal("1.25") + c * 10 for p, c in most.values()), Decimal(0)) / 10**6
        assert abs(asking.total(asked) - exact) <= Decimal("0.0001") * len(names)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 500_000), st.booleans()), min_size=1, max_size=8))
def test_over_attempts_that_fail_wait_or_are_lost_the_run_pays_what_its_journal_holds(
    attempts: list[tuple[bool, int, bool]],
) -> None:
    play, journal = curating(), 0
    play.run = replace(play.run, spec={**play.run.spec, "maxRetries": 100})
    for scraped, tokens, says in attempts:
        journal += tokens
        if scraped:
            work(play, journal // 2, journal)
        end(play, 75, outcome="Failed", reason="Temporary", retryAfterSeconds=5, numbers=paid(journal, journal * 2))
        play.step(seconds=60)
        if says:  # the next attempt tells the same once more
            work(play, journal, journal * 2)
    cost = play.run.status["cost"]
    exact = (journal * Decimal("1.25") + 2 * journal * 10) / 10**6
    assert abs(Decimal(cost["asking"]) - exact) <= Decimal("0.0001")
    assert stage_of(play.run.status, "curate")["failures"] == 0


def test_asking_is_a_part_of_the_stage_s_and_the_run_s_cost() -> None:
    play = curating()
    work(play, 200_000, 1_000_000)
    cost = play.run.status["cost"]
    assert (cost["asking"], cost["spent"], cost["gpuSeconds"]) == ("10.2500", "10.25", "0.0")
    assert stage_of(play.run.status, "curate")["cost"]["amount"] == "10.25"
    play.complete("curate", {**GOOD_CURATE, "numbers": {"accepted": 9, **paid(400_000, 1_200_000)}})
    play.step()
    assert play.run.status["cost"]["asking"] == "12.5000"
    assert stage_of(play.run.status, "curate")["cost"]["amount"] == "12.50"


def test_a_stage_is_stopped_while_it_asks_once_the_budget_is_used_up_and_goes_on_when_it_is_raised() -> None:
    play = curating(limit="5")
    decision = work(play, 0, 499_000)
    assert decision.delete == ()
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 10
    name = play.job_of("curate")
    decision = work(play, 0, 500_000)
    assert [ref.name for ref in decision.delete] == [name]
    assert play.run.status["phase"] == "Suspended"
    assert "5.00 of its budget.limit of 5" in condition_of(play.run.status, reasons.BUDGET_EXCEEDED)["message"]
    assert play.step(seconds=10_000).ensure == ()
    edit(play, budget={"gpuHourPrice": "3.60", "limit": "20"})
    assert [want.kind for want in play.step().ensure][-1] == "Job"
    work(play, 0, 520_000)
    assert play.run.status["cost"]["spent"] == "5.20"
    assert stage_of(play.run.status, "curate")["failures"] == 0


def test_what_asking_used_up_is_said_even_where_no_gpu_has_a_price() -> None:
    play = curating(limit="5", gpuHourPrice=None)
    assert condition_of(play.run.status, reasons.BUDGET_EXCEEDED)["reason"] == reasons.PRICE_UNKNOWN
    work(play, 0, 500_000)
    exceeded = condition_of(play.run.status, reasons.BUDGET_EXCEEDED)
    assert (exceeded["status"], exceeded["reason"]) == ("True", reasons.BUDGET_EXCEEDED)


def test_each_model_that_is_asked_costs_its_own_price_and_status_tells_them_apart() -> None:
    whole = spec(budget={"gpuHourPrice": "3.60"})
    [teacher] = whole["models"]
    teacher["endpoint"]["pricePerMillionTokens"] = {"input": "1.25", "output": "10"}
    small = {"name": "small", "endpoint": {"url": "http://small:8080/v1", "model": "s"}}
    small["endpoint"] |= {"pricePerMillionTokens": {"input": "0.1", "output": "0.2"}}
    free = {"name": "free", "endpoint": {"url": "http://free:8080/v1", "model": "f"}}
    whole["models"] += [small, free]
    whole["curate"]["difficulty"] = {"models": ["small", "free"]}
    play = Play(run(spec=whole))
    play.step()
    name = play.job_of("curate")
    numbers = {f'paid_{kind}_tokens{{model="{model}"}}': 1e6 for kind in ("prompt", "completion") for model in "xy"}
    numbers |= {'paid_prompt_tokens{model="small"}': 2e6, 'paid_completion_tokens{model="small"}': 1e6}
    numbers |= {'paid_prompt_tokens{model="free"}': 9e6}
    scrapes = {f"{name}-0": Scrape("u", at(play.clock), numbers, "questions")}
    play.step(job(name, "curate"), pod(name, stage="curate"), scrapes=scrapes, seconds=30)
    told = {
        "teacher": {"promptTokens": 10**6, "completionTokens": 10**5},
        **paid(2 * 10**6, 2 * 10**6, "small")["paid"],
    }
    end(play, 75, outcome="Failed", reason="Temporary", retryAfterSeconds=5, numbers={"paid": told})
    cost = stage_of(play.run.status, "curate")["cost"]
    assert {item["model"]: item["amount"] for item in cost["asked"]} == {"small": "0.6000", "teacher": "2.2500"}
    assert cost["asking"] == "2.8500"


def test_a_result_that_another_run_paid_for_costs_nothing() -> None:
    play = curating()
    play.complete("curate", {**GOOD_CURATE, "reusedFrom": "team/other", "numbers": paid(10**6, 10**6)})
    assert play.run.status["cost"]["asking"] == "0.0000"


def test_a_price_that_is_not_given_counts_nothing() -> None:
    play = Play()
    play.step()
    work(play, 10**6, 10**6)
    assert play.run.status["cost"]["asking"] == "0.0000"


def test_a_pod_that_tells_nonsense_costs_nothing() -> None:
    play = curating(limit="5")
    for nonsense in (float("nan"), -5.0, 1e300, float("inf")):
        work(play, nonsense, nonsense)
    end(play, 70, outcome="Failed", numbers=paid("many", [1]))
    end(play, 70, outcome="Failed", numbers={"paid": {"teacher": [3, 4]}})
    end(play, 70, outcome="Failed", numbers={"paid": "all of it"})
    assert play.run.status["cost"]["asking"] == "0.0000"


def test_a_used_up_day_is_waited_for_without_a_pod_or_a_failure_and_status_says_until_when() -> None:
    play = Play()
    play.step()
    name = play.job_of("curate")
    said = "the teacher has been asked its requestsPerDay; asking goes on at 2026-02-01 12:00 UTC"
    decision = end(
        play, 75, outcome="Failed", reason="TeacherDailyLimit", message=said, retryAfterSeconds=86_000, numbers={}
    )
    assert [ref.name for ref in decision.delete] == [name]
    assert [(event.type, event.reason) for event in decision.events] == [("Normal", "AttemptPostponed")]
    stage = stage_of(play.run.status, "curate")
    assert (stage["state"], stage["failures"], stage["preemptions"]) == ("Pending", 0, 0)
    assert stage["retryTime"] == "2026-02-01T11:54:00Z"
    assert said in play.run.status["message"]
    assert play.step(seconds=85_000).ensure == ()
    assert [want.kind for want in play.step(seconds=1001).ensure][-1] == "Job"
