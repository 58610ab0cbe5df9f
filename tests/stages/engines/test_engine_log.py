"""What a dead server's log means, and the numbers read from a live one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from distillstages.common import enginemetrics
from distillstages.common.engine import Engine, Launch
from distillstages.common.enginemetrics import EngineNumbers, Watch
from distillstages.common.enginemodel import EngineModel
from distillstages.common.exit import Exit
from distillstages.common.metrics import Metrics

ROOT = "(EngineCore pid=981) ERROR 11-22 17:25:36 [core.py:133] ValueError: head size 5 is not supported"
REPORT = (
    "(APIServer pid=9) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
)


@pytest.mark.parametrize(
    ("lines", "code", "reason", "words"),
    [
        ([ROOT, REPORT], Exit.FAULT, "EngineFailed", "ValueError: head size 5 is not supported"),
        (["starting", "Killed", ""], Exit.FAULT, "EngineFailed", "Killed"),
        ([], Exit.FAULT, "EngineFailed", "nothing was logged"),
        (
            ["huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error."],
            Exit.DATA,
            "ModelNotFound",
            "RepositoryNotFoundError",
        ),
        (
            ["ValueError: User-specified max_model_len (4096) is greater than the derived max_model_len (512)."],
            Exit.CONFIG,
            "ConfigInvalid",
            "greater than the derived",
        ),
        (["api_server.py: error: unrecognized arguments: --nonsense"], Exit.CONFIG, "ConfigInvalid", "--nonsense"),
    ],
)
def test_a_dead_server_s_log_is_told_in_a_sentence(lines: list[str], code: Exit, reason: str, words: str) -> None:
    engine = Engine(Launch(EngineModel("/m"), "student"))
    engine.process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    engine.process.wait()
    engine.tail.extend(lines)
    error = engine.cause_of_death("while loading")
    assert (error.code, error.reason) == (code, reason)
    assert error.message.startswith("vLLM for model 'student' ended with exit code 1 while loading: ")
    assert words in error.message


def test_the_numbers_are_summed_over_engines() -> None:
    text = """# HELP vllm:num_requests_running x
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:generation_tokens_total{engine="0",model_name="m"} 1.5e3
vllm:generation_tokens_total{engine="0" broken
"""
    assert enginemetrics.parse(text) == EngineNumbers(5.0, 1.0, 1500.0)
    assert enginemetrics.parse("<html>") == EngineNumbers()


def test_the_rate_is_the_difference_of_two_looks() -> None:
    looks = iter([EngineNumbers(1, 0, 100), None, EngineNumbers(0, 0, 300), EngineNumbers(0, 0, 0)])
    clock = iter([10.0, 14.0, 15.0])
    metrics = Metrics()
    watch = Watch("http://unused", metrics, reader=lambda url: next(looks), clock=lambda: next(clock))
    watch.look()
    assert metrics.get("requests_running") == 1
    assert metrics.get("tokens_per_second") is None
    watch.look()  # no answer: nothing changes
    watch.look()
    assert metrics.get("tokens_per_second") == 50
    watch.look()  # the server was started anew: its counter begins at 0
    assert metrics.get("tokens_per_second") == 0
