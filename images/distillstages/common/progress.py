"""How far a stage is: gauges for the operator, a bar on a terminal, one JSON log line per interval in a pod."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from distillstages.common.metrics import Metrics

_INTERVAL_SECONDS: Final = 10.0
_log = logging.getLogger("distillstages.progress")


class Progress:
    """Progress of one stage, in `unit` (questions, steps, answers). Thread-safe; use as a context manager.

    `update` sets the gauges progress_done and progress_total at once and everything else at its own pace."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        unit: str,
        total: int,
        done: int = 0,
        interval_seconds: float = _INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self.unit = unit
        self.total = total
        self.done = done
        self._fields: dict[str, Any] = {}
        self._interval = interval_seconds
        self._clock = clock
        self._started_at = clock()
        self._started_done = done
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._bar: Any = None
        self._task: Any = None
        metrics.set("progress_unit_info", 1, unit=unit)
        self._publish()

    def __enter__(self) -> Self:
        if not (sys.stderr.isatty() and self._start_bar()):
            self._thread = threading.Thread(target=self._log_forever, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._bar is not None:
            self._bar.stop()
        if self._thread is not None:
            self._thread.join()
            self.log_line()
        self._metrics.flush()

    def update(self, done: int | None = None, *, total: int | None = None, **fields: Any) -> None:
        """Set what is done (and the total, if it changed); `fields` are shown in the bar and in the log line."""
        if done is not None:
            self.done = done
        if total is not None:
            self.total = total
        self._fields.update(fields)
        self._publish()
        if self._bar is not None:
            text = " ".join(f"{k}={_brief(v)}" for k, v in self._fields.items())
            self._bar.update(self._task, completed=self.done, total=self.total, text=text)

    def advance(self, by: int = 1, **fields: Any) -> None:
        """`update` by a difference."""
        self.update(self.done + by, **fields)

    def rate(self) -> float:
        """Units per second since this process started (0.0 at the start)."""
        elapsed = self._clock() - self._started_at
        return (self.done - self._started_done) / elapsed if elapsed > 0 else 0.0

    def log_line(self) -> None:
        """One JSON line with done, total, unit, rate and the fields."""
        fields = {"done": self.done, "total": self.total, "unit": self.unit, "rate": round(self.rate(), 3)}
        _log.info("progress", extra={"fields": {**fields, **self._fields}})

    def _publish(self) -> None:
        self._metrics.set("progress_done", self.done)
        self._metrics.set("progress_total", self.total)

    def _log_forever(self) -> None:
        while not self._stop.wait(self._interval):
            self.log_line()

    def _start_bar(self) -> bool:
        """False where rich is not installed (an image without it has no terminal either)."""
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar
        except ImportError:
            return False

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(self.unit, total=self.total, completed=self.done, text="")
        self._bar.start()
        return True


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
