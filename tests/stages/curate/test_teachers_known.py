"""Teachers of whom it is known which answers are wrong: exactly those are kept out of the data set."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distillstages.demo import httpd
from distillstages.demo.additions import question_sets
from distillstages.demo.teacher import MODEL, Temper, is_wrong
from distillstages.demo.teacher import Teacher as DemoTeacher
from tests.stages.common.test_verify import shared
from tests.stages.curate.fake_teacher import FakeTeacher, completion


@contextmanager
def demo_teacher(temper: Temper) -> Iterator[tuple[DemoTeacher, str]]:
    """The demo's own teacher, on a free port."""
    teacher = DemoTeacher("demo-key-123456", temper)
    started: list[str] = []
    ready, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()

    async def run() -> None:
        server = await httpd.serve(teacher, "127.0.0.1", 0)
        started.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    ready.wait()
    try:
        yield teacher, started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def test_of_the_demos_teacher_every_right_trace_is_kept_and_no_wrong_one(make_stage: Any) -> None:
    additions, _ = question_sets(train=250, test=1)
    rows = [{"question": a.question, "answer": a.answer} for a in additions]
    temper = Temper(wrong=0.1, throttle=0.03, hang=0.01, seed=7, hang_seconds=60)
    with demo_teacher(temper) as (teacher, url):
        stage = make_stage(
            url,
            rows,
            teacher={
                "model": MODEL,
                "maxConcurrency": 16,
                "requestTimeoutSeconds": 5,
                "apiKey": {"secret": "teacher", "key": "apiKey", "env": "TEACHER_KEY_OF_TEST"},
            },
            generate={"maxTokens": 256},
        )
        stage.environment["TEACHER_KEY_OF_TEST"] = "demo-key-123456"
        finished = stage.run()
        assert finished.code == 0, finished.log
        assert teacher.outcomes["throttled"] + teacher.outcomes["hung"] > 0
    wrong = {a.question for a in additions if is_wrong(a.question, 7)}
    assert {r["question"] for r in stage.rows("rejected")} == wrong
    assert {r["question"] for r in stage.rows()} == {a.question for a in additions} - wrong
    assert finished.numbers["rejectedByReason"] == {"WrongAnswer": len(wrong)}
    assert all(r["thinking"].count("\n") == 2 for r in stage.rows())


def test_of_recorded_model_solutions_exactly_those_published_as_correct_are_kept(make_stage: Any) -> None:
    recorded = [json.loads(line) for line in shared("gsm8k-model-solutions.jsonl").read_text().splitlines()]
    chosen = random.Random(5).sample(recorded, 200)
    solutions = {row["question"].strip(): row["175b_verification"] for row in chosen}
    questions = [{"question": r["question"], "answer": r["ground_truth"].replace("A: ", "#### ")} for r in chosen]
    with FakeTeacher(lambda q, nth: completion(solutions[q]["solution"])) as teacher:
        stage = make_stage(teacher.url, questions)
        finished = stage.run()
    assert finished.code == 0, finished.log
    assert {r["question"] for r in stage.rows()} == {q for q, s in solutions.items() if s["is_correct"]}
    assert {r["question"] for r in stage.rows("rejected")} == {q for q, s in solutions.items() if not s["is_correct"]}
