"""The serve stage's work: start vLLM, ask it one question ourselves, be ready, watch it, and drain at the end.

Readiness is /readyz on the progress port and not the server's own /health, which answers before the first completion
has shown that the model can generate. Liveness is judged here: a server that has died, or whose /health fails for a
minute, ends this stage with the reason, and the kubelet starts it again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from distillstages.common import enginemodel, reasons
from distillstages.common.blocks import Serve
from distillstages.common.engine import Engine, Launch
from distillstages.common.enginemetrics import EngineNumbers, Watch, read
from distillstages.common.exit import ConfigFault, Fault
from distillstages.common.metrics import Metrics
from distillstages.common.worker import Context, run

_log = logging.getLogger("distillstages.serve")

DRAIN_VARIABLE: Final = "DISTILLRUN_DRAIN_SECONDS"
_DRAIN_SECONDS: Final = 20.0
# How long Kubernetes' endpoints may still send requests to a pod that has been asked to end.
_ENDPOINT_SECONDS: Final = 2.0
_WARM_UP_SECONDS: Final = 600.0
_WARM_UP_TOKENS: Final = 8
_POLL_SECONDS: Final = 0.5
_HEALTH_EVERY_SECONDS: Final = 10.0
_HEALTH_FAILURES: Final = 6


def body(context: Context) -> Mapping[str, Any]:
    """Serve until asked to stop, then drain. Returns no numbers.

    Raises DataFault or ConfigFault for a model or arguments that cannot work, Fault EngineFailed when vLLM ends."""
    config = context.config.serve
    assert config is not None
    launch = launch_of(config)
    drain = drain_seconds()
    context.metrics.set_ready(False)
    _progress(context.metrics, 0)
    with Engine(launch) as engine:
        seconds = engine.wait_healthy(
            stopping=context.stopping,
            waiting=lambda elapsed: context.metrics.set("engine_loading_seconds", round(elapsed)),
        )
        _log.info("vLLM answers after %.1f s", seconds)
        warm_up(engine, context.stopping)
        _progress(context.metrics, 1)
        context.metrics.set_ready(True)
        _log.info("ready", extra={"fields": {"model": config.served_model_name, "port": config.port}})
        health = Health(engine.name, lambda: answers_health(engine.url))
        with Watch(engine.url, context.metrics):
            while not context.stopping.wait(_POLL_SECONDS):
                engine.raise_if_dead("while it was serving")
                health.check()
        context.metrics.set_ready(False)
        wait_drained(lambda: None if engine.is_dead() else read(engine.url), drain)
    return {}


def launch_of(config: Serve) -> Launch:
    """How vLLM is started for a configuration; bound to all interfaces, since a Service leads to it.

    Raises DataFault and ConfigFault."""
    enginemodel.check_arguments(config.engine.vllm_args)
    return Launch(
        enginemodel.resolve(config.served_model_name, config.model, config.revision),
        config.served_model_name,
        host="0.0.0.0",
        port=config.port,
        tensor_parallel=config.engine.tensor_parallel,
        max_model_length=config.engine.max_model_length,
        user_arguments=config.engine.vllm_args,
        own_arguments=("--disable-uvicorn-access-log",),
    )


def drain_seconds() -> float:
    """How long running requests may go on after SIGTERM: $DISTILLRUN_DRAIN_SECONDS or 20. Set it below the pod's grace
    period, 10 s less at least. Raises ConfigFault."""
    text = os.environ.get(DRAIN_VARIABLE) or str(_DRAIN_SECONDS)
    try:
        value = float(text)
        assert value >= 0
    except (ValueError, AssertionError):
        raise ConfigFault(f"{DRAIN_VARIABLE} is {text!r}, expected seconds, 0 or more") from None
    return value


def warm_up(engine: Engine, stopping: threading.Event) -> None:
    """One chat completion, so that the first user does not wait for lazy initialisation and readiness means answers.

    Raises Fault EngineFailed when there is no completion."""
    request = {
        "model": engine.name,
        "messages": [{"role": "user", "content": "1+1=?"}],
        "max_tokens": _WARM_UP_TOKENS,
        "temperature": 0,
    }
    trouble = "no answer"
    for _ in range(3):
        if stopping.is_set():
            return
        engine.raise_if_dead("in the warm-up")
        try:
            answer = httpx.post(
                f"{engine.url}/v1/chat/completions", json=request, timeout=_WARM_UP_SECONDS, trust_env=False
            )
            if answer.status_code == 200 and answer.json()["choices"]:
                return
            trouble = f"HTTP {answer.status_code}: {answer.text[:300]}"
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            trouble = f"{type(error).__name__}: {error}"
        stopping.wait(1)
    engine.raise_if_dead("in the warm-up")
    raise Fault(
        f"vLLM is up but model {engine.name!r} answered no chat completion: {trouble}", reason=reasons.ENGINE_FAILED
    )


def answers_health(url: str) -> bool:
    """Whether /health answers 200 within 5 s."""
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


class Health:
    """Counts failures of /health in a row; call `check` as often as you like, it probes every 10 s."""

    def __init__(self, name: str, probe: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._probe = probe
        self._clock = clock
        self._next = clock() + _HEALTH_EVERY_SECONDS
        self._failures = 0

    def check(self) -> None:
        """Raises Fault EngineFailed at the sixth failure in a row."""
        if self._clock() < self._next:
            return
        self._failures = 0 if self._probe() else self._failures + 1
        self._next = self._clock() + _HEALTH_EVERY_SECONDS
        if self._failures >= _HEALTH_FAILURES:
            raise Fault(
                f"vLLM for model {self._name!r} runs but its /health has failed {self._failures} times in a row, "
                f"{_HEALTH_EVERY_SECONDS:g} s apart: it hangs and is started again",
                reason=reasons.ENGINE_FAILED,
            )


def wait_drained(
    numbers: Callable[[], EngineNumbers | None],
    seconds: float,
    *,
    settle_seconds: float = _ENDPOINT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until no request runs or waits: at least `settle_seconds` (requests may still be on their way), at most
    `seconds`. `numbers` returns None when the server does not answer any more, which ends the waiting too. Returns
    whether all requests ended."""
    began = clock()
    while clock() - began < seconds:
        now = numbers()
        idle = now is not None and now.running + now.waiting == 0
        if now is None or (idle and clock() - began >= settle_seconds):
            return idle
        sleep(_POLL_SECONDS)
    _log.warning("requests were still running after %g s and are cut off", seconds)
    return False


def _progress(metrics: Metrics, done: int) -> None:
    """The stage's progress is its one warm-up answer."""
    metrics.set("progress_unit_info", 1, unit="answers")
    metrics.set("progress_total", 1)
    metrics.set("progress_done", done)


if __name__ == "__main__":
    run("serve", body, claim=False, graceful=True)
