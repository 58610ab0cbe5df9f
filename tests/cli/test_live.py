"""The live view and its line mode."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from distillrun.cli.live import event_line, events, lines, live
from distillrun.cli.view import read
from tests.cli import runs
from tests.cli.conftest import Page

HAPPENED = events(
    [
        {
            "type": "Warning",
            "reason": "Disrupted",
            "message": "train attempt 1 was evicted",
            "lastTimestamp": "2026-03-01T12:05:00Z",
        },
        {"type": "Normal", "reason": "StageStarted", "note": "curate", "eventTime": "2026-03-01T12:00:00.000000Z"},
        {
            "reason": "Repeated",
            "message": "x",
            "series": {"lastObservedTime": "2026-03-01T12:09:00.000000Z", "count": 3},
        },
    ]
)


def row(text: str, stage: str) -> str:
    return next(" ".join(line.split()) for line in text.splitlines() if f" {stage} " in line)


def test_a_training_run_shows_stages_bars_numbers_times_and_cost(page: Page) -> None:
    text = page(live(read(runs.training()), [], runs.NOW))
    assert "DistillRun additions  demo-team  Training" in text
    assert row(text, "curate").startswith("✔ curate Succeeded ━━━━━━━━━━━━━━━━━━━━━━━━ 4,000/4,000 questions 1:02")
    assert row(text, "train").startswith("● train Running ━━━━━━━━━")
    assert row(text, "train").endswith("250/600 steps 8:30")
    assert "attempt 2 · 1 preemption · loss 0.0312 · 12,346 tokens/s · checkpoint 200 · 3.5 steps/s · ETA 1:40" in text
    assert row(text, "evaluate") == "○ evaluate Pending"
    assert "cost so far 0.8400 USD for 17:00 of GPU time" in text


def test_the_scores_of_student_and_base_are_shown_as_soon_as_there_are_any(page: Page) -> None:
    text = page(live(read(runs.served()), [], runs.NOW))
    assert "additions: student 98.5 % (95.7–99.5), base 0.0 % (0.0–1.9)" in text
    assert "the student is served" in text


def test_a_run_that_nobody_has_seen_is_shown_as_pending(page: Page) -> None:
    assert "DistillRun additions  demo-team  Pending" in page(live(read(runs.fresh()), [], runs.NOW))


def test_a_waiting_stage_says_what_it_waits_for(page: Page) -> None:
    text = " ".join(page(live(read(runs.waiting()), [], runs.NOW), width=100).split())
    assert "SecretNotFound: Secret teacher is missing" in text


def test_events_are_shown_oldest_first_and_the_last_five_only(page: Page) -> None:
    assert [event.reason for event in HAPPENED] == ["StageStarted", "Disrupted", "Repeated"]
    many = events([{"reason": f"R{i}", "lastTimestamp": f"2026-03-01T12:00:0{i}Z"} for i in range(9)])
    text = page(live(read(runs.training()), many, runs.NOW))
    assert [f"R{i}" for i in range(9) if f"R{i}:" in text] == ["R4", "R5", "R6", "R7", "R8"]


def test_trouble_with_the_api_server_is_shown_under_the_last_known_state(page: Page) -> None:
    text = page(live(read(runs.training()), [], runs.NOW, "the API server does not answer"))
    assert "250/600" in text
    assert "the API server does not answer" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_loses_no_number(page: Page, width: int) -> None:
    text = page(live(read(runs.training()), HAPPENED, runs.NOW), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    assert all(word in " ".join(text.split()) for word in ("0.0312", "250/600 steps", "8:30", "4,000/4,000 questions"))


def test_markup_in_a_message_is_shown_and_not_obeyed(page: Page) -> None:
    run = runs.waiting()
    run["status"]["stages"][0]["message"] = "[red]not red[/red] [/]"
    assert "[red]not red[/red] [/]" in page(live(read(run), [], runs.NOW))


def test_lines_tell_everything_once_and_then_what_is_new() -> None:
    curating, training, served = (read(each()) for each in (runs.curating, runs.training, runs.served))
    assert lines(None, curating) == [
        "curate  Running  2,000/4,000 questions  1,795 accepted · 205 rejected · 64.5 questions/s · ETA 0:31",
        "Curating: curate attempt 1",
        "cost so far 0.0000 USD for 0:00 of GPU time",
    ]
    assert lines(curating, curating) == []
    assert lines(curating, training) == [
        "curate  Succeeded  4,000/4,000 questions  3,600 accepted · 400 rejected",
        "train  Running  250/600 steps"
        "  attempt 2 · 1 preemption · loss 0.0312 · 12,346 tokens/s · checkpoint 200 · 3.5 steps/s · ETA 1:40",
        "Training: train attempt 2",
        "cost so far 0.8400 USD for 17:00 of GPU time",
    ]
    assert "additions: student 98.5 % (95.7–99.5), base 0.0 % (0.0–1.9)" in lines(training, served)


def test_a_failure_is_a_line_with_its_reason_and_sentence() -> None:
    said = lines(read(runs.curating()), read(runs.failed()))
    assert any(
        "curate  Failed" in line and "TeacherUnauthorized: the teacher refused the API key" in line for line in said
    )


def test_an_event_is_a_line_that_tells_a_warning_from_news() -> None:
    assert event_line(HAPPENED[1]) == "warning Disrupted: train attempt 1 was evicted"
    assert event_line(HAPPENED[0]) == "event StageStarted: curate"


def test_events_without_any_time_come_first() -> None:
    items: list[dict[str, Any]] = [{"reason": "B", "lastTimestamp": "2026-03-01T12:00:00Z"}, {"reason": "A"}]
    assert [event.reason for event in events(items)] == ["A", "B"]
    assert events(items)[1].time == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_run_held_by_its_budget_shows_what_holds_it_and_what_it_was_to_cost(page: Page) -> None:
    text = page(live(read(runs.held()), [], runs.NOW), width=200)
    assert "DistillRun additions  demo-team  Suspended" in text
    assert row(text, "resolve") == "✔ resolve Succeeded ━━━━━━━━━━━━━━━━━━━━━━━━"
    assert row(text, "curate").startswith("✔ curate Reused")
    assert "taken over from other-team/first" in text
    assert "attempt 2 · 2 preemptions, 1 release · loss" in text
    assert "training was expected to cost 400.00 USD in 19:00:00 · budget 450 USD" in text
    assert "Feasible is not known (GpuUnknown): the GPU is not known: set spec.train.gpuProduct" in text
    assert text.count("raise the limit") == 1, "the message and the conditions say the same once"


def test_notices_are_told_once_in_lines() -> None:
    held = read(runs.held())
    assert [line for line in lines(None, held) if line.startswith("Feasible")]
    assert lines(held, held) == []
