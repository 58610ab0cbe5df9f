"""A fake teacher: a real HTTP server that speaks as much of the OpenAI chat API as curation uses, and misbehaves.

It counts how often each question was asked and how many requests were open at once, which is what the tests are about.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hang:
    """Accept the request and never answer (until the teacher stops)."""


class Drop:
    """Close the connection without a word."""


class Raw:
    """An answer byte by byte: status, body, headers."""

    def __init__(self, status: int, body: bytes | str | dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.body = (
            json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
        )
        self.headers = headers or {}


Behaviour = Callable[[str, int], Any]


def completion(
    content: str,
    *,
    finish: str = "stop",
    reasoning: str | None = None,
    tokens: int = 7,
    field: str = "reasoning_content",
) -> Raw:
    """A well-formed chat completion; `field` holds the reasoning."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning is not None:
        message[field] = reasoning
    return Raw(
        200,
        {
            "id": "chatcmpl-fake",
            "object": "chat.completion",
            "model": "fake",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens},
        },
    )


def add(question: str) -> str:
    """The answer to "3+4=?"."""
    left, _, right = question.removesuffix("=?").partition("+")
    return str(int(left) + int(right))


def solve(question: str, nth: int) -> Raw:
    """The good behaviour: thinks, then boxes the right sum."""
    return completion(f"<think>\nAdd the two.\n</think>\n\nThe sum is \\boxed{{{add(question)}}}.")


class FakeTeacher:
    """`behaviour(question, nth)` (nth ask of this question, from 1) returns what to answer. A context manager."""

    def __init__(self, behaviour: Behaviour = solve, *, delay: float = 0.0) -> None:
        self.behaviour = behaviour
        self.delay = delay
        self.asked: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.open = 0
        self.most_open = 0
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def __enter__(self) -> FakeTeacher:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def total(self) -> int:
        """Requests received so far."""
        return sum(self.asked.values())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question = body["messages"][-1]["content"]
                with teacher.lock:
                    teacher.asked[question] += 1
                    nth = teacher.asked[question]
                    teacher.requests.append(body)
                    teacher.authorizations.append(self.headers["Authorization"])
                    teacher.open += 1
                    teacher.most_open = max(teacher.most_open, teacher.open)
                try:
                    time.sleep(teacher.delay)
                    self._answer(teacher.behaviour(question, nth))
                except OSError:
                    self.close_connection = True
                finally:
                    with teacher.lock:
                        teacher.open -= 1

            def _answer(self, answer: Any) -> None:
                if self.path != "/v1/chat/completions":
                    answer = Raw(404, {"error": {"message": f"no route {self.path}"}})
                if isinstance(answer, Hang):
                    teacher.stopped.wait()
                    self.close_connection = True
                    return
                if isinstance(answer, Drop):
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        return Handler
