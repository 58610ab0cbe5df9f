"""The progress port: a worker sets gauges, its supervisor serves them.

The worker keeps the numbers in memory and a background thread writes them, at most twice a second, to a file in the
state folder; the supervisor's HTTP server renders that file. So /metrics answers from the stage's start to its end,
also while the worker imports torch, hangs, or restarts. All of it is bounded: series, label length, body size.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from distillstages.common import state
from distillstages.common.termination import write_atomic

PREFIX: Final = "distillrun_stage_"
PORT: Final = 9400
PORT_VARIABLE: Final = "DISTILLRUN_METRICS_PORT"
MAX_SERIES: Final = 500
MAX_LABEL_CHARS: Final = 100
_FLUSH_SECONDS: Final = 0.5
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*\Z")

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """A worker's gauges. Thread-safe. Names are given without the prefix `distillrun_stage_`."""

    def __init__(self, folder: Path | None = None, rank: str = "0") -> None:
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._values: dict[tuple[str, Labels], float] = {}
        self._ready = True
        self._patience = 1.0
        self._file = folder / f"metrics-{rank}.json" if folder else None
        self._dirty = threading.Event()
        if self._file:
            threading.Thread(target=self._flush_forever, name="metrics", daemon=True).start()

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge. Beyond MAX_SERIES new series are dropped. Raises ValueError for a name Prometheus has not."""
        if not _NAME.match(name):
            raise ValueError(f"metric name {name!r}: expected lower-case letters, digits and _")
        key = (name, tuple(sorted((k, str(v)[:MAX_LABEL_CHARS]) for k, v in labels.items())))
        with self._lock:
            if key in self._values or len(self._values) < MAX_SERIES:
                self._values[key] = float(value)
        self._dirty.set()

    def get(self, name: str, **labels: str) -> float | None:
        """The value of a gauge, or None."""
        return self._values.get((name, tuple(sorted(labels.items()))))

    def set_ready(self, ready: bool) -> None:
        """What /readyz says (True unless told otherwise; serve starts with False)."""
        with self._lock:
            self._ready = ready
        self.flush()

    def set_patience(self, factor: float) -> None:
        """How many times longer than usual the numbers may stand still now, before that counts as a stall."""
        with self._lock:
            self._patience = factor
        self.flush()

    @contextmanager
    def patience(self, factor: float) -> Iterator[None]:
        """`set_patience` for as long as the block takes, or longer if it was longer before."""
        before = self._patience
        self.set_patience(max(factor, before))
        try:
            yield
        finally:
            self.set_patience(before)

    def flush(self) -> None:
        """Hand the numbers to the supervisor now. The disk being full is no reason to fail."""
        if self._file is None:
            self._dirty.clear()
            return
        # One at a time: numbers that were read earlier must not be written later.
        with self._flushing, suppress(OSError):
            self._dirty.clear()
            write_atomic(json.dumps(self.snapshot()).encode(), self._file)

    def snapshot(self) -> dict[str, Any]:
        """The numbers as JSON: {"ready", "patience", "series": [[name, {label: value}, number as text], …]}."""
        with self._lock:
            return {
                "ready": self._ready,
                "patience": self._patience,
                "series": [[name, dict(labels), repr(value)] for (name, labels), value in self._values.items()],
            }

    def _flush_forever(self) -> None:
        while True:
            self._dirty.wait()
            self.flush()
            time.sleep(_FLUSH_SECONDS)


def render(snapshots: Sequence[Mapping[str, Any]]) -> bytes:
    """Prometheus text format 0.0.4 of worker snapshots (of one series the first snapshot's value counts)."""
    series: dict[str, dict[str, str]] = {}
    for snapshot in snapshots:
        for name, labels, value in snapshot.get("series", [])[:MAX_SERIES]:
            inner = ",".join(f'{k}="{_escape(str(v))}"' for k, v in sorted(labels.items()))
            series.setdefault(PREFIX + name, {}).setdefault(f"{{{inner}}}" if inner else "", _number(float(value)))
    lines = []
    for name, rows in sorted(series.items()):
        lines.append(f"# TYPE {name} gauge")
        lines.extend(f"{name}{labels} {value}" for labels, value in sorted(rows.items()))
    return ("\n".join(lines) + "\n").encode("utf-8", "replace") if lines else b""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def read_snapshots(folder: Path) -> list[dict[str, Any]]:
    """What the workers have written, rank 0 first."""
    found = [state.read_json(p) for p in sorted(folder.glob("metrics-*.json"), key=lambda p: (len(p.name), p.name))]
    return [s for s in found if isinstance(s, dict) and isinstance(s.get("series"), list)]


class Server:
    """/metrics, /healthz and /readyz over HTTP/1.1, on a thread. `port` 0 picks a free one.

    `ready_by_default` is what /readyz says before the worker has said anything. Raises OSError for a taken port."""

    def __init__(self, folder: Path, *, port: int = PORT, ready_by_default: bool = True, host: str = "") -> None:
        def snapshots() -> list[dict[str, Any]]:
            return read_snapshots(folder)

        def ready() -> bool:
            found = snapshots()
            return bool(found[0].get("ready")) if found else ready_by_default

        self._server = _HttpServer((host, port), _handler(snapshots, ready))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="progress-port", daemon=True)

    def start(self) -> Server:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop to answer and free the port."""
        self._server.shutdown()
        self._server.server_close()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32
    _slots = threading.BoundedSemaphore(16)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in mid-answer is not worth a traceback in the stage's log."""


def _handler(snapshots: Callable[[], list[dict[str, Any]]], ready: Callable[[], bool]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, render(snapshots()), "text/plain; version=0.0.4; charset=utf-8")
            elif path == "/healthz":
                self._answer(200, b"ok\n")
            elif path == "/readyz":
                self._answer(*((200, b"ready\n") if ready() else (503, b"not ready\n")))
            else:
                self._answer(404, b"not found: /metrics, /healthz, /readyz\n")

        def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Probes every few seconds are no news."""

    return Handler
