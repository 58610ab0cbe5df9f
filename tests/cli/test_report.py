"""The final report."""

from __future__ import annotations

from distillrun.cli.report import commands, report
from distillrun.cli.view import read
from tests.cli import runs
from tests.cli.conftest import Page


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_served_run_reports_scores_traces_stages_and_endpoint(page: Page) -> None:
    told = rows(page(report(read(runs.served()), runs.NOW)))
    assert told[0] == "demo-team/additions: gates passed: additions Accuracy 0.985 ≥ 0.95"
    assert "benchmark base student questions gate" in told
    assert "additions 0.0 % (0.0–1.9) 98.5 % (95.7–99.5) 200 ≥ 95.0 % passed" in told
    assert told[told.index("accepted 3,600") :][:4] == [
        "accepted 3,600",
        "rejected 400",
        "WrongAnswer 390",
        "Malformed 10",
    ]
    assert "curate Succeeded 1 1:02 0:00 0.0000 USD" in told
    assert "train Succeeded 2 1 10:00 17:00 0.8400 USD" in told
    assert "evaluate Succeeded 1 1:00 1:00 0.0500 USD *" in told
    assert "total 12:02 18:00 0.8900 USD" in told
    assert "* an upper bound: a pod was gone before its time was read" in told
    assert "model file:///mnt/distillrun/demo-team/train/bb/model" in told


def test_a_student_below_the_bar_is_reported_with_the_bar_it_missed(page: Page) -> None:
    told = rows(page(report(read(runs.barred()), runs.NOW)))
    assert told[0].startswith("demo-team/additions: gates not passed: additions Accuracy 0.56 < 0.95. Lower the gate")
    assert "additions 0.0 % (0.0–1.9) 56.0 % (49.1–62.7) 200 ≥ 95.0 % missed" in told


def test_a_gate_on_the_lower_end_is_judged_by_the_lower_end(page: Page) -> None:
    run = runs.served()
    run["spec"]["gates"] = [{"benchmark": "additions", "metric": "AccuracyLowerBound", "atLeast": "0.97"}]
    assert "lower end ≥ 97.0 % missed" in page(report(read(run), runs.NOW))


def test_what_was_used_at_a_revision_that_nobody_has_chosen_is_reported(page: Page) -> None:
    run = runs.served()
    assert "Nobody has chosen" not in page(report(read(run), runs.NOW))
    run["status"]["resolved"] = {
        "student": {"revision": "5" * 40, "unchecked": True},
        "sources": [{"name": "pool", "unchecked": True}, {"name": "own"}],
    }
    told = rows(page(report(read(run), runs.NOW)))
    assert "Nobody has chosen a commit of student, pool: the newest was used (status.resolved)" in told


def test_a_failed_run_reports_the_reason_and_has_no_scores(page: Page) -> None:
    text = page(report(read(runs.failed()), runs.NOW))
    assert rows(text)[0].startswith("demo-team/additions: curate failed (TeacherUnauthorized): the teacher refused")
    assert "benchmark" not in text
    assert "curate Failed 1" in " ".join(text.split())


def test_a_run_in_the_middle_reports_what_there_is(page: Page) -> None:
    text = page(report(read(runs.training()), runs.NOW))
    assert "accepted" in text
    assert "train attempt 2" in text


def test_a_run_that_nobody_has_seen_reports_commands_only(page: Page) -> None:
    assert "kubectl -n demo-team get distillrun additions -o yaml" in page(report(read(runs.fresh()), runs.NOW))


def test_the_commands_reach_the_service_of_the_endpoint() -> None:
    said = commands(read(runs.served()))
    assert "kubectl -n demo-team port-forward service/additions-serve 8000:8000" in said
    assert any('"model": "additions"' in command and command.startswith("curl") for command in said)
    assert not any("curl" in command for command in commands(read(runs.training())))


def test_a_failed_runs_commands_lead_to_the_log_of_the_stage_that_failed() -> None:
    selector = "-l distillrun.dev/run=additions,distillrun.dev/stage=curate"
    assert any("logs" in command and selector in command for command in commands(read(runs.failed())))
    assert not any(" logs " in command for command in commands(read(runs.served())))


def test_questions_that_were_asked_twice_are_reported_when_there_are_any(page: Page) -> None:
    run = runs.served()
    assert "duplicate" not in page(report(read(run), runs.NOW))
    run["status"]["stages"][0] = {**runs.CURATED, "results": {**runs.CURATED["results"], "duplicates": "7"}}
    assert "duplicate questions left out" in page(report(read(run), runs.NOW))


def test_answers_of_earlier_curations_are_reported_when_there_are_any(page: Page) -> None:
    run = runs.served()
    assert "earlier curations" not in page(report(read(run), runs.NOW))
    run["status"]["stages"][0] = {**runs.CURATED, "results": {**runs.CURATED["results"], "reusedAnswers": "3600"}}
    assert "answers of earlier curations 3,600" in rows(page(report(read(run), runs.NOW)))


def test_what_was_reused_expected_and_allowed_is_reported(page: Page) -> None:
    told = rows(page(report(read(runs.held()), runs.NOW), width=200))
    assert "curate Reused 1 0:00 0 USD" in told
    assert "train Pending 2 2 8:30 17:00 0.8400 USD" in told
    assert "curate was taken over from run other-team/first" in told
    assert "Training was expected to cost 400.00 USD, 19:00:00: 6·N·tokens at an MFU of 8 %" in told
    assert "The budget is 450 USD" in told
    assert "Feasible is not known (GpuUnknown): the GPU is not known: set spec.train.gpuProduct" in told
