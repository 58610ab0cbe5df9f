"""The judge over HTTP: POST /judge (requests.py), GET /healthz. Standard library only, so that it runs in any image.

At most as many submissions run at once as there are CPUs; so many again wait, and who comes then is told to come again
(503, Retry-After). A submission cannot reach the service it is judged by: it has no sockets.
"""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from distillstages.common.exit import Fault
from distillstages.common.verify import usable_cpus
from distillstages.sandbox import requests
from distillstages.sandbox.judge import Check, Submission, judge

LARGEST_BODY: Final = 32 << 20
_WAITING_FOR_EACH: Final = 8


class Server:
    """Listens on `port` (0: a free one, then in `port`). `slots`: submissions judged at the same time."""

    def __init__(self, *, host: str = "", port: int = 8000, slots: int | None = None) -> None:
        count = slots or usable_cpus()
        self._server = _HttpServer((host, port), _handler(threading.Semaphore(count)))
        self._server.places = threading.BoundedSemaphore(count * (1 + _WAITING_FOR_EACH))
        self.port: int = self._server.server_address[1]

    def run(self) -> None:
        """Answer until `stop`."""
        self._server.serve_forever()

    def stop(self) -> None:
        """From another thread: answer no more and free the port."""
        self._server.shutdown()
        self._server.server_close()


def self_test() -> None:
    """Judge one right and one hostile function. Raises Fault where submissions cannot be confined."""
    check = Check("def check(candidate):\n    assert candidate(2) == 4")
    right = judge(Submission("def double(x): return 2 * x", [check], "double"))
    hostile = judge(Submission("import os\nos.fork()\ndef double(x): return 2 * x", [check], "double"))
    if not right.passed or hostile.verdict != "Forbidden":
        raise Fault(f"the sandbox does not judge as it should: {right.verdict}, and of a fork {hostile.verdict}")


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    places: threading.BoundedSemaphore

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        taken = self.places.acquire(blocking=False)
        try:
            if taken:
                super().process_request_thread(request, client_address)
            else:
                request.settimeout(5)
                request.sendall(
                    b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                self.shutdown_request(request)
        except OSError:
            self.shutdown_request(request)
        finally:
            if taken:
                self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in mid-answer is not worth a traceback in the log."""


def _handler(slots: threading.Semaphore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._answer(200, b"ok\n", "text/plain")
            else:
                self._refuse(404, "not found: POST /judge, GET /healthz")

        def do_POST(self) -> None:
            size = self.headers.get("Content-Length", "")
            if self.path != "/judge":
                self._refuse(404, "not found: POST /judge, GET /healthz")
            elif not size.isascii() or not size.isdigit():
                self._refuse(411, "the request says no Content-Length")
            elif len(size) > 10 or int(size) > LARGEST_BODY:
                self._refuse(413, f"the request has more than {LARGEST_BODY} bytes")
            else:
                self._judge(self.rfile.read(int(size)))

        def _judge(self, body: bytes) -> None:
            try:
                submission = requests.read(body)
                with slots:
                    report = judge(submission)
            except requests.BadRequest as error:
                self._refuse(400, str(error))
            except Fault as error:
                print(f"sandbox: {error}", file=sys.stderr, flush=True)
                self._refuse(500, str(error))
            else:
                self._answer(200, requests.write(report), "application/json")

        def _refuse(self, status: int, sentence: str) -> None:
            self.close_connection = True
            self._answer(status, sentence.encode() + b"\n", "text/plain; charset=utf-8")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """One line for each submission would hide the others."""

    return Handler
