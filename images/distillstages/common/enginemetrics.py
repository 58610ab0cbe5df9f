"""A few numbers of a running vLLM, read from its own /metrics. Source of the names: vLLM's metrics documentation."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import httpx

from distillstages.common.metrics import Metrics

_LINE: Final = re.compile(r"^(vllm:[a-z_]+)(?:\{[^}]*\})?\s+([0-9.eE+-]+)")
_MAX_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class EngineNumbers:
    """Requests now running and waiting, tokens generated since the start."""

    running: float = 0.0
    waiting: float = 0.0
    generated: float = 0.0


def parse(text: str) -> EngineNumbers:
    """The numbers in a Prometheus text, summed over engines; what is missing is 0."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            with contextlib.suppress(ValueError):
                sums[match[1]] = sums.get(match[1], 0.0) + float(match[2])
    return EngineNumbers(
        sums.get("vllm:num_requests_running", 0.0),
        sums.get("vllm:num_requests_waiting", 0.0),
        sums.get("vllm:generation_tokens_total", 0.0),
    )


def read(url: str) -> EngineNumbers | None:
    """The numbers of the server at `url` now, or None when it does not answer."""
    try:
        with httpx.Client(timeout=5, trust_env=False) as client:
            answer = client.get(f"{url}/metrics")
    except httpx.HTTPError:
        return None
    return parse(answer.text) if answer.status_code == 200 and len(answer.content) <= _MAX_BYTES else None


class Watch:
    """Copies the numbers into our gauges every few seconds: requests_running, requests_waiting, tokens_per_second,
    engine_tokens. A context manager; the reading is done on a thread and never raises."""

    def __init__(
        self,
        url: str,
        metrics: Metrics,
        *,
        interval_seconds: float = 5.0,
        reader: Callable[[str], EngineNumbers | None] = read,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._metrics = metrics
        self._interval = interval_seconds
        self._reader = reader
        self._clock = clock
        self._before: tuple[float, float] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def look(self) -> None:
        """Read once and set the gauges."""
        numbers = self._reader(self._url)
        if numbers is None:
            return
        now = self._clock()
        self._metrics.set("requests_running", numbers.running)
        self._metrics.set("requests_waiting", numbers.waiting)
        self._metrics.set("engine_tokens", numbers.generated)
        if self._before is not None and now > self._before[0]:
            rate = max(0.0, numbers.generated - self._before[1]) / (now - self._before[0])
            self._metrics.set("tokens_per_second", rate)
        self._before = (now, numbers.generated)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.look()
