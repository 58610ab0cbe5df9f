"""The serve stage as a process, against the fake model server of tests/stages/engines."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distillstages.common.enginemetrics import EngineNumbers
from distillstages.common.exit import Fault
from distillstages.serve.worker import Health, wait_drained
from tests.stages.engines.stages import FakeModel, Stage, is_running, make_model, until


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def student(tmp_path: Path) -> FakeModel:
    """A model that answers everything correctly."""
    return make_model(tmp_path / "model")


@pytest.fixture
def serving(tmp_path: Path, student: FakeModel) -> Iterator[Callable[..., Stage]]:
    """serving(**engine) -> Stage, its progress port a free one."""
    made: list[Stage] = []

    def make(**engine: Any) -> Stage:
        block = {"model": student.uri, "servedModelName": "additions", "port": free_port(), "engine": engine}
        made.append(Stage("serve", tmp_path, block, port=free_port()))
        return made[-1]

    yield make
    for stage in made:
        if stage.process is not None and stage.process.poll() is None:
            stage.kill()


def chat(stage: Stage, question: str) -> str:
    """The content of one chat completion through the served port."""
    body = {"model": "additions", "messages": [{"role": "user", "content": question}], "max_tokens": 64}
    url = f"http://127.0.0.1:{stage.block['port']}/v1/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        content: str = json.load(answer)["choices"][0]["message"]["content"]
    return content


def test_it_is_ready_only_after_it_has_answered_a_question(serving: Callable[..., Stage], student: FakeModel) -> None:
    student.does(warmUpHolds=True)
    stage = serving(maxModelLength=256, vllmArgs=["--enforce-eager"])
    stage.start()
    until(lambda: student.events("asked"), "the warm-up question")
    assert stage.get("/readyz")[0] == 503
    assert stage.get("/healthz")[0] == 200
    student.release()
    until(lambda: stage.get("/readyz")[0] == 200, "ready")
    assert r"\boxed{7}" in chat(stage, "3+4=?")
    assert student.events("asked")[0]["request"]["model"] == "additions"
    arguments = student.events("started")[0]["arguments"]
    assert arguments == [
        *(str(student.folder), "--host", "0.0.0.0", "--port", str(stage.block["port"])),
        *("--served-model-name", "additions", "--max-model-len", "256"),
        *("--disable-uvicorn-access-log", "--enforce-eager"),
    ]


def test_before_anything_is_loaded_it_is_not_ready(serving: Callable[..., Stage], student: FakeModel) -> None:
    student.does(loading="never")
    stage = serving()
    stage.start()
    until(lambda: student.events("started"), "the server started")
    assert stage.get("/readyz")[0] == 503
    stage.terminate()
    assert stage.wait().code == 143


def test_on_sigterm_a_running_request_is_answered_before_the_end(
    serving: Callable[..., Stage], student: FakeModel
) -> None:
    student.does(holdAfter=1)
    stage = serving()
    stage.start()
    until(lambda: stage.get("/readyz")[0] == 200, "ready")
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(chat(stage, "3+4=?")))
    asking.start()
    until(lambda: len(student.asked()) == 1, "the request is running")
    stage.terminate()
    until(lambda: stage.get("/readyz")[0] == 503, "no longer ready")
    student.release()
    asking.join()
    end = stage.wait()
    assert r"\boxed{7}" in answers[0]
    assert (end.code, end.message["outcome"], end.message["numbers"]) == (0, "Succeeded", {}), end.log
    assert not is_running(student.events("started")[0]["pid"])


def test_a_server_that_dies_ends_the_stage_with_its_last_words(
    serving: Callable[..., Stage], student: FakeModel
) -> None:
    student.does(dieAfter=1)
    stage = serving()
    stage.start()
    until(lambda: stage.get("/readyz")[0] == 200, "ready")
    with pytest.raises(OSError):
        chat(stage, "3+4=?")
    end = stage.wait()
    assert (end.code, end.reason) == (70, "EngineFailed"), end.log
    assert "while it was serving: RuntimeError: the fake was told to die" in end.message["message"]


def test_a_server_that_is_killed_is_named_with_the_signal(serving: Callable[..., Stage], student: FakeModel) -> None:
    stage = serving()
    stage.start()
    until(lambda: stage.get("/readyz")[0] == 200, "ready")
    os.kill(student.events("started")[0]["pid"], signal.SIGKILL)
    end = stage.wait()
    assert "ended with signal SIGKILL while it was serving" in end.message["message"]


def test_a_model_that_cannot_answer_is_never_ready(serving: Callable[..., Stage], student: FakeModel) -> None:
    student.does(status=400)
    stage = serving()
    end = stage.run()
    assert (end.code, end.reason) == (70, "EngineFailed"), end.log
    assert "answered no chat completion: HTTP 400" in end.message["message"]


def test_arguments_that_would_take_the_server_away_are_refused(serving: Callable[..., Stage]) -> None:
    end = serving(vllmArgs=["--api-key", "secret"]).run()
    assert (end.code, end.reason) == (78, "ConfigInvalid")
    assert "engine.vllmArgs holds '--api-key'" in end.message["message"]


def test_a_model_that_is_not_there(serving: Callable[..., Stage], student: FakeModel) -> None:
    (student.folder / "model.safetensors").unlink()
    end = serving().run()
    assert (end.code, end.reason) == (65, "ModelNotFound")


def test_a_server_that_hangs_is_given_up_after_six_failures_in_a_row() -> None:
    now = [0.0]
    probes = iter([True, False, False, False, False, False, True, *[False] * 6])
    health = Health("student", lambda: next(probes), clock=lambda: now[0])
    for _ in range(12):
        now[0] += 10
        health.check()
        health.check()  # too early: no probe
    now[0] += 10
    with pytest.raises(Fault, match="'student' runs but its /health has failed 6 times in a row"):
        health.check()


@pytest.mark.parametrize(
    ("looks", "drained", "sleeps"),
    [
        ([EngineNumbers()] * 20, True, 4),  # idle, but requests may still be on their way for 2 s
        ([EngineNumbers(running=1)] * 6 + [EngineNumbers()], True, 6),
        ([EngineNumbers(waiting=1)] * 40, False, 20),  # 10 s are over
        ([None], False, 0),  # the server is gone
    ],
)
def test_draining_waits_for_requests_and_not_for_ever(
    looks: list[EngineNumbers | None], drained: bool, sleeps: int
) -> None:
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    answers = iter(looks)
    found = wait_drained(lambda: next(answers), 10.0, settle_seconds=2.0, clock=lambda: now[0], sleep=sleep)
    assert (found, len(slept)) == (drained, sleeps)
