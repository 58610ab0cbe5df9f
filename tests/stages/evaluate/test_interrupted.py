"""An evaluation that is killed, asked to stop, or whose model server dies goes on with what is missing."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.stages.engines.stages import FakeModel, Stage, is_running, until
from tests.stages.evaluate.conftest import MakeEvaluation

CONCURRENCY = 4


def kept(stage: Stage, model: str) -> int:
    """Whole lines in a model's journal."""
    path = stage.output / ".partial" / model / "additions.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_killed_evaluation_asks_only_for_what_is_missing(
    evaluation: MakeEvaluation, student: FakeModel, base: FakeModel
) -> None:
    base.does(answers="wrong", holdAfter=12)
    stage = evaluation(student, base, questions=30, concurrency=CONCURRENCY)
    stage.start()
    until(lambda: kept(stage, "base") == 12, "twelve answers of the base model kept")
    stage.kill()
    base.release()
    end = stage.run()
    assert end.code == 0, end.log
    assert end.scores["additions", "base"]["n"] == 30
    # The student was through: its server is not even started again.
    assert len(student.events("started")) == 1
    assert len(student.asked()) == 30
    repeated = [question for question, times in Counter(base.asked()).items() if times > 1]
    assert len(repeated) <= CONCURRENCY
    assert len(set(base.asked())) == 30


def test_a_line_cut_off_by_the_kill_is_asked_again(evaluation: MakeEvaluation, student: FakeModel) -> None:
    student.does(holdAfter=5)
    stage = evaluation(student, questions=8, concurrency=1)
    stage.start()
    until(lambda: kept(stage, "student") == 5, "five answers kept")
    stage.kill()
    journal = stage.output / ".partial/student/additions.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    student.release()
    assert stage.run().scores["additions", "student"]["correct"] == 8
    assert Counter(student.asked())["4+5=?"] == 2


def test_on_sigterm_the_server_is_ended_and_the_next_attempt_continues(
    evaluation: MakeEvaluation, student: FakeModel
) -> None:
    student.does(holdAfter=5)
    stage = evaluation(student, questions=9, concurrency=CONCURRENCY)
    stage.start()
    until(lambda: kept(stage, "student") == 5, "five answers kept")
    stage.terminate()
    end = stage.wait()
    assert (end.code, end.reason) == (143, "Terminated"), end.log
    assert not is_running(student.events("started")[0]["pid"])
    student.release()
    stage.attempt = 2
    assert stage.run().scores["additions", "student"]["correct"] == 9
    assert len(student.asked()) <= 9 + CONCURRENCY


def test_a_worker_that_is_killed_alone_takes_its_server_along(evaluation: MakeEvaluation, student: FakeModel) -> None:
    student.does(holdAfter=1)
    stage = evaluation(student, questions=5)
    stage.start()
    until(lambda: kept(stage, "student") == 1, "an answer kept")
    server = student.events("started")[0]["pid"]
    worker = parent(server)
    os.kill(worker, signal.SIGKILL)
    end = stage.wait()
    assert end.code == 70
    until(lambda: not is_running(server), "the server ended")


def parent(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_server_that_dies_half_way_fails_the_attempt_and_the_next_continues(
    evaluation: MakeEvaluation, student: FakeModel
) -> None:
    student.does(dieAfter=6)
    stage = evaluation(student, questions=10, concurrency=2)
    end = stage.run()
    assert (end.code, end.reason) == (70, "EngineFailed"), end.log
    assert "ended with exit code 3 while it was answering" in end.message["message"]
    assert "RuntimeError: the fake was told to die" in end.message["message"]
    before = kept(stage, "student")
    assert before >= 5
    student.does()
    stage.attempt = 2
    asked = len(student.asked())
    assert stage.run().scores["additions", "student"]["correct"] == 10
    assert len(student.asked()) - asked == 10 - before


@pytest.mark.parametrize(
    ("behaviour", "environment", "sentence"),
    [
        ({"loading": "dies"}, {}, "while loading: ValueError: the weights are not what they seem"),
        ({"loading": "never"}, {"DISTILLRUN_ENGINE_START_SECONDS": "1"}, "did not answer for model 'student' within 1"),
        ({"garbage": -1}, {}, "gave no usable answer in 5 attempts: not JSON"),
        ({"status": 500}, {}, "gave no usable answer in 5 attempts: HTTP 500"),
    ],
    ids=["dies while loading", "is never healthy", "answers garbage", "answers 500"],
)
def test_a_server_that_cannot_be_used_fails_with_its_last_words(
    evaluation: MakeEvaluation,
    student: FakeModel,
    behaviour: dict[str, Any],
    environment: dict[str, str],
    sentence: str,
) -> None:
    student.does(**behaviour)
    stage = evaluation(student, questions=2)
    stage.environment = environment
    end = stage.run()
    assert (end.code, end.reason) == (70, "EngineFailed"), end.log
    assert sentence in end.message["message"]
    assert end.message["log"], "the tail of the log comes along"


def test_a_garbled_answer_is_asked_for_again(evaluation: MakeEvaluation, student: FakeModel) -> None:
    student.does(garbage=3)
    assert evaluation(student, questions=4).run().scores["additions", "student"]["correct"] == 4
    assert len(student.asked()) == 7
