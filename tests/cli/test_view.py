"""What the command line reads out of a run."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from distillrun.cli.view import read
from distillrun.cli.words import count, duration, headline, interval, rate, rejections, share
from tests.cli import runs


@pytest.mark.parametrize(
    ("run", "outcome", "passed"),
    [
        (runs.fresh(), "running", False),
        (runs.waiting(), "running", False),
        (runs.curating(), "running", False),
        (runs.training(), "running", False),
        (runs.served(), "done", True),
        (runs.barred(), "failed", False),
        (runs.failed(), "failed", False),
    ],
)
def test_a_runs_end_is_read_off_its_conditions(run: dict[str, Any], outcome: str, passed: bool) -> None:
    view = read(run)
    assert (view.outcome, view.passed) == (outcome, passed)


def test_a_ready_run_that_was_changed_since_is_not_at_its_end() -> None:
    run = runs.served()
    run["metadata"]["generation"] = 4
    assert read(run).outcome == "running"


def test_a_run_without_gates_passes_when_it_is_done() -> None:
    run = runs.served()
    run["spec"] = {}
    run["status"]["conditions"] = run["status"]["conditions"][:1]
    assert read(run).passed


def test_a_run_of_a_newer_operator_is_read_as_far_as_it_is_known() -> None:
    run = copy.deepcopy(runs.served())  # stages are shared by all the runs of these tests
    run["status"]["novelty"] = {"a": 1}
    run["status"]["stages"][0]["state"] = "Hibernating"
    assert read(run).stages[0].state == "Hibernating"


@pytest.mark.parametrize(
    "run", [{}, {"metadata": {}, "spec": {}, "status": {}}, {"status": {"stages": [{}], "scores": [{}]}}]
)
def test_an_empty_run_is_read_as_an_empty_view(run: dict[str, Any]) -> None:
    assert read(run).phase == "Pending"


def test_rejections_come_from_progress_while_it_runs_and_from_the_result_afterwards() -> None:
    running, finished = read(runs.curating()).stages[0], read(runs.served()).stages[0]
    assert rejections(running) == {"WrongAnswer": "200", "Malformed": "5"}
    assert rejections(finished) == {"WrongAnswer": "390", "Malformed": "10"}


def test_headlines_say_what_matters_of_each_stage() -> None:
    curate, train, *_ = read(runs.training()).stages
    assert headline(read(runs.curating()).stages[0]) == "1,795 accepted · 205 rejected · 64.5 questions/s · ETA 0:31"
    assert headline(curate) == "3,600 accepted · 400 rejected"
    assert headline(train) == "loss 0.0312 · 12,346 tokens/s · checkpoint 200 · 3.5 steps/s · ETA 1:40"
    assert headline(read(runs.waiting()).stages[0]).startswith("SecretNotFound: Secret teacher is missing")


def test_an_evaluation_shows_its_accuracy_so_far_by_benchmark_and_model() -> None:
    run = runs.served()
    numbers = {
        'accuracy{benchmark="additions",model="student"}': "0.97",
        'accuracy{model="base",benchmark="additions"}': "0",
    }
    progress = {"done": 100, "total": 400, "unit": "answers", "numbers": numbers}
    run["status"]["stages"][2] = {"name": "evaluate", "state": "Running", "progress": progress}
    assert headline(read(run).stages[2]) == "additions base 0.0 % · additions student 97.0 %"


def test_numbers_are_written_for_people() -> None:
    assert [duration(each) for each in (None, 0, 65, 3661.6)] == ["", "0:00", "1:05", "1:01:02"]
    assert [count(each) for each in (3600, "3600", None, "NaN", "soon")] == ["3,600", "3,600", "", "NaN", "soon"]
    assert share(0.985) == "98.5 %"
    assert interval(read(runs.served()).scores[1]) == "98.5 % (95.7–99.5)"


def test_a_slow_rate_is_told_as_seconds_a_unit() -> None:
    run = runs.training()
    run["status"]["stages"][1]["progress"]["rate"] = "0.08"
    assert rate(read(run).stages[1]) == "12.5 s/step"
    run["status"]["stages"][1]["progress"]["rate"] = "0"
    assert rate(read(run).stages[1]) == ""
