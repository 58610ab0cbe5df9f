"""Killed at any point, a curation continues and asks again at most what was in flight."""

from __future__ import annotations

import random
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.stages.curate.conftest import Stage, additions
from tests.stages.curate.fake_teacher import FakeTeacher, Hang, Raw, solve

CONCURRENCY = 8


def until(condition: Callable[[], bool], stage: Stage) -> None:
    """Wait until the condition holds. Fails when the stage ends before."""
    for _ in range(60_000):
        if condition():
            return
        assert stage.process is not None
        assert stage.process.poll() is None, stage.log
        time.sleep(0.002)
    pytest.fail("the condition never held")


def until_asked(teacher: FakeTeacher, requests: int, stage: Stage) -> None:
    """Wait until the teacher has received so many requests."""
    until(lambda: teacher.total >= requests, stage)


@pytest.mark.parametrize(("kills", "count"), [(3, 150), pytest.param(20, 900, marks=pytest.mark.full)])
def test_a_killed_curation_asks_again_only_what_was_in_flight(make_stage: Any, kills: int, count: int) -> None:
    chance = random.Random(kills)
    with FakeTeacher(delay=0.01) as teacher:
        stage = make_stage(teacher.url, additions(count), teacher={"maxConcurrency": CONCURRENCY})
        in_flight = 0
        for attempt in range(1, kills + 1):
            stage.attempt = attempt
            stage.start()
            target = teacher.total + chance.randint(1, 40)
            until_asked(teacher, target, stage)
            stage.kill()
            in_flight += CONCURRENCY
        stage.attempt = kills + 1
        finished = stage.run()
        assert finished.code == 0, finished.log
        assert finished.numbers["accepted"] == count
        assert set(teacher.asked) == {row["question"] for row in additions(count)}
        assert teacher.total - count <= in_flight
    answers = [(line["key"], line["sample"]) for line in stage.journal() if line["kind"] == "answer"]
    assert len(set(answers)) == count
    assert [r["question"] for r in stage.rows()] == [row["question"] for row in additions(count)]


def test_progress_never_counts_an_answer_that_is_not_on_disk(make_stage: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    seen = []
    with FakeTeacher(delay=0.02) as teacher:
        stage = make_stage(teacher.url, additions(120), teacher={"maxConcurrency": 2})
        stage.environment["DISTILLRUN_METRICS_PORT"] = str(port)
        process = stage.start()
        until(lambda: teacher.total > 0, stage)
        while process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
                    text = response.read().decode()
            except OSError:
                continue
            done = [line for line in text.splitlines() if line.startswith("distillrun_stage_progress_done ")]
            # The number was read before the disk: the disk can only hold more.
            recorded = sum(line["kind"] == "answer" for line in stage.journal())
            if done:
                seen.append(float(done[0].split()[1]))
                assert seen[-1] <= recorded
            time.sleep(0.05)
        assert stage.wait().code == 0
    assert seen == sorted(seen)
    assert any(done > 0 for done in seen)


def test_sigterm_records_the_answers_on_their_way_and_ends_as_terminated(make_stage: Any) -> None:
    with FakeTeacher(delay=0.1) as teacher:
        stage = make_stage(teacher.url, additions(400), teacher={"maxConcurrency": CONCURRENCY})
        process = stage.start()
        until(lambda: teacher.total >= 10, stage)
        process.send_signal(signal.SIGTERM)
        finished = stage.wait()
        asked = teacher.total
    assert finished.code == 143, finished.log
    assert finished.message["reason"] == "Terminated"
    assert sum(line["kind"] == "answer" for line in stage.journal()) == asked


def test_a_torn_last_line_costs_one_question(make_stage: Any) -> None:
    with FakeTeacher(delay=0.01) as teacher:
        stage = make_stage(teacher.url, additions(60), teacher={"maxConcurrency": 1})
        stage.start()
        until(lambda: teacher.total >= 20, stage)
        stage.kill()
        (journal,) = (stage.output / ".partial").glob("answers-*.jsonl")
        lines = [line for line in journal.read_bytes().splitlines(True) if b'"kind":"answer"' in line]
        journal.write_bytes(b"".join(lines)[:-7])
        recorded = len(lines) - 1
        before = teacher.total
        finished = stage.run()
        assert teacher.total - before == 60 - recorded
    assert finished.code == 0, finished.log
    assert finished.numbers["accepted"] == 60


def test_a_teacher_that_hangs_for_ever_does_not_hold_back_the_end(make_stage: Any) -> None:
    with FakeTeacher(lambda q, nth: Hang() if q == "7+8=?" else solve(q, nth)) as teacher:
        stage = make_stage(teacher.url, additions(30), teacher={"requestTimeoutSeconds": 3, "maxAttemptsPerRequest": 2})
        finished = stage.run()
    assert finished.code == 0, finished.log
    assert finished.numbers["rejectedByReason"] == {"RequestFailed": 1}
    assert "within 3 s" in stage.rows("rejected")[0]["detail"]


def test_tokens_are_told_over_all_attempts_of_the_run_and_less_what_another_run_has_paid(make_stage: Any) -> None:
    with FakeTeacher(delay=0.01) as teacher:
        stage = make_stage(teacher.url, additions(60), teacher={"maxConcurrency": 2})
        for attempt, total in ((1, 15), (2, 30)):
            stage.attempt = attempt
            stage.start()
            until_asked(teacher, total, stage)
            stage.kill()
        first, second = sorted((stage.output / ".partial").glob("answers-*.jsonl"))
        others = sum(b'"kind":"answer"' in line for line in first.read_bytes().splitlines())
        assert b'"kind":"opened","run":"3f"' in first.read_bytes()
        first.write_bytes(first.read_bytes().replace(b'"run":"3f"', b'"run":"another"'))
        stage.attempt = 3
        finished = stage.run()
    assert finished.code == 0, finished.log
    assert second.exists()
    assert (finished.numbers["promptTokens"], finished.numbers["completionTokens"]) == (3 * 60, 7 * 60)
    ours = 60 - others
    assert 0 < ours < 60
    assert finished.numbers["paid"] == {"t": {"promptTokens": 3 * ours, "completionTokens": 7 * ours}}


def test_a_stage_that_fails_tells_what_it_has_paid(make_stage: Any) -> None:
    def tired(question: str, nth: int) -> Any:
        return solve(question, nth) if int(question.partition("+")[0]) < 5 else Raw(401, {"error": "no"})

    with FakeTeacher(tired) as teacher:
        finished = make_stage(teacher.url, additions(9), teacher={"maxConcurrency": 1}).run()
    assert finished.code == 78
    assert finished.numbers == {"paid": {"t": {"promptTokens": 15, "completionTokens": 35}}}
