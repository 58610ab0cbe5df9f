"""The demo's teacher: ``TEACHER_API_KEY=… python -m distillstages.demo.teacher --port 8080``.

An OpenAI-compatible chat server that works additions column by column (additions.py) and behaves as real
teachers do: it is wrong now and then, it says 429, it hangs. All of that follows from ``--seed``, so a test can say
beforehand which answers must be rejected (`is_wrong`) and read at ``GET /stats`` what was asked how often.

- ``POST /v1/chat/completions`` (bearer key from TEACHER_API_KEY): thinking in ``reasoning_content``, answer in
  ``content``
- ``GET /v1/models``, ``GET /healthz``, ``GET /stats``
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distillstages.demo.additions import Worked, letters_of, parse, work
from distillstages.demo.httpd import Request, Response, serve

MODEL = "worked-additions"
KEY_VARIABLE = "TEACHER_API_KEY"

PATIENCE = 2
"""How often one question is throttled or hung at most, so that no question stays unanswered for ever."""


def _dice(*what: object) -> int:
    """A number from 0 to 2**64 - 1 that follows from the arguments alone."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, what)).encode()).digest()[:8])


def is_wrong(question: str, seed: int, share: float = 0.1) -> bool:
    """Whether the teacher of this seed answers the question wrongly. ``share`` is its ``--wrong``, from 0 to 1."""
    addition = parse(question)
    return addition is not None and _dice("wrong", seed, addition.question) < share * 2**64


def answer(question: str, seed: int, share: float = 0.1) -> Worked | None:
    """What the teacher of this seed says to the question; None if it is no addition."""
    addition = parse(question)
    if addition is None:
        return None
    slip = _dice("slip", seed, addition.question) % addition.columns if is_wrong(question, seed, share) else None
    return work(addition, slip, letters_of(question))


@dataclass(frozen=True)
class Temper:
    """How the teacher behaves. Shares are from 0 to 1, times in seconds."""

    wrong: float = 0.1
    throttle: float = 0.02
    hang: float = 0.005
    seed: int = 7
    delay: float = 0.0
    """How long an answer takes."""
    hang_seconds: float = 120.0
    """How long a hung request is kept open if the client waits."""
    retry_after: int = 1
    """What a 429 asks the client to wait."""
    inline: bool = False
    """Whether the thinking stands in ``content`` between think tags, as servers without a reasoning parser do it."""


class Teacher:
    """Answers requests and counts them. One event loop, no locks."""

    def __init__(self, key: str, temper: Temper | None = None) -> None:
        self.key = key
        self.temper = temper or Temper()
        self.outcomes: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self._spared: Counter[str] = Counter()
        self._count = 0

    async def __call__(self, request: Request) -> Response:
        """The server's handler."""
        where = (request.method, request.path)
        if where == ("GET", "/healthz"):
            return Response(200, {"status": "ok"})
        if where == ("GET", "/stats"):
            return Response(200, self.stats())
        if where not in (("POST", "/v1/chat/completions"), ("GET", "/v1/models")):
            return self._refuse("notFound", 404, f"there is no {request.method} {request.path[:80]} here")
        if not self._has_key(request.headers):
            return self._refuse("unauthorized", 401, "the API key is missing or wrong")
        if request.method == "GET":
            return Response(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        return await self._chat(request.body)

    def stats(self) -> dict[str, Any]:
        """Requests by outcome, and of each question how often it was asked and how often it was answered."""
        questions = {each: {"asked": n, "answered": self.answered[each]} for each, n in self.asked.items()}
        return {"requests": self.outcomes.total(), "outcomes": dict(self.outcomes), "questions": questions}

    def _has_key(self, headers: Mapping[str, str]) -> bool:
        given = headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self.key}".encode())

    async def _chat(self, body: bytes) -> Response:
        try:
            question, choices, limit = _understand(body)
        except LookupError as error:
            return self._refuse("notFound", 404, str(error.args[0]))
        except ValueError as error:
            return self._refuse("malformed", 400, str(error))
        self.asked[question] += 1
        fate = self._fate(question)
        if fate == "throttled":
            return self._refuse(fate, 429, "too many requests", {"Retry-After": str(self.temper.retry_after)})
        if fate == "hung":
            self.outcomes[fate] += 1
            return Response(200, hang=self.temper.hang_seconds)
        if self.temper.delay:
            await asyncio.sleep(self.temper.delay)
        self.outcomes[fate] += 1
        self.answered[question] += 1
        return self._complete(question, choices, limit)

    def _fate(self, question: str) -> str:
        """What becomes of this request, by its number and so differently when the same question comes again."""
        self._count += 1
        roll = _dice("fate", self.temper.seed, self._count) / 2**64
        if self._spared[question] < PATIENCE and roll < self.temper.throttle + self.temper.hang:
            self._spared[question] += 1
            return "throttled" if roll < self.temper.throttle else "hung"
        if parse(question) is None:
            return "unknown"
        return "wrong" if is_wrong(question, self.temper.seed, self.temper.wrong) else "right"

    def _complete(self, question: str, choices: int, limit: int | None) -> Response:
        worked = answer(question, self.temper.seed, self.temper.wrong)
        thinking, text = (worked.thinking, worked.response) if worked else ("", "I only add two numbers.")
        if self.temper.inline and worked:
            thinking, text = "", worked.completion
        tokens = len(thinking) + len(text)  # as the pupil counts: a token a character
        cut = limit is not None and tokens > limit
        if limit is not None and cut:
            text = text[: max(0, limit - len(thinking))]
            thinking, tokens = thinking[:limit], limit
        message = {"role": "assistant", "content": text, **({"reasoning_content": thinking} if thinking else {})}
        finish = "length" if cut else "stop"
        return Response(
            200,
            {
                "id": f"chatcmpl-{self._count}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": MODEL,
                "choices": [{"index": i, "message": message, "finish_reason": finish} for i in range(choices)],
                "usage": {
                    "prompt_tokens": len(question),
                    "completion_tokens": tokens * choices,
                    "total_tokens": len(question) + tokens * choices,
                },
            },
        )

    def _refuse(self, outcome: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        self.outcomes[outcome] += 1
        return Response(status, {"error": {"message": message, "type": outcome, "code": status}}, headers or {})


def _understand(body: bytes) -> tuple[str, int, int | None]:
    """Question, number of choices and limit of tokens of a chat request. Raises ValueError, LookupError (the model)."""
    request = json.loads(body)
    if not isinstance(request, dict):
        raise ValueError("the body is not a JSON object")
    if request.get("model") != MODEL:
        raise LookupError(f"there is no model {str(request.get('model'))[:80]!r} here, only {MODEL!r}")
    if request.get("stream"):
        raise ValueError("stream is not supported: ask without it")
    messages = request.get("messages")
    said = [each for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []
    questions = [each.get("content") for each in said if each.get("role") == "user"]
    if not questions or not isinstance(questions[-1], str):
        raise ValueError("messages has no user message whose content is a text")
    choices, limit = request.get("n") or 1, request.get("max_completion_tokens") or request.get("max_tokens")
    if not isinstance(choices, int) or not 1 <= choices <= 64:
        raise ValueError(f"n is a number from 1 to 64, got {choices!r}")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError(f"max_tokens is a number of at least 1, got {limit!r}")
    return questions[-1].strip(), choices, limit


async def run(teacher: Teacher, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await serve(teacher, host, port)
    print(f"teaching additions on port {server.sockets[0].getsockname()[1]}: {teacher.temper}", flush=True)
    await stop.wait()
    server.close()
    print(f"requests by outcome: {json.dumps(dict(teacher.outcomes))}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line of this module; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m distillstages.demo.teacher", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")
    parser.add_argument("--port", type=int, default=8080, help="default: %(default)s; 0 takes a free one")
    parser.add_argument("--wrong", type=_share, default=Temper.wrong, help="share of questions with a wrong answer")
    parser.add_argument("--throttle", type=_share, default=Temper.throttle, help="share of requests that get a 429")
    parser.add_argument("--hang", type=_share, default=Temper.hang, help="share of requests that get no answer")
    parser.add_argument("--seed", type=int, default=Temper.seed, help="decides which (default: %(default)s)")
    parser.add_argument("--delay", type=float, default=Temper.delay, help="seconds that an answer takes")
    parser.add_argument("--hang-seconds", type=float, default=Temper.hang_seconds, help="how long a hung request hangs")
    parser.add_argument("--retry-after", type=int, default=Temper.retry_after, help="seconds that a 429 asks to wait")
    parser.add_argument("--inline", action="store_true", help="thinking in the content, between think tags")
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("host"), options.pop("port")
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        parser.error(f"the environment variable {KEY_VARIABLE} is empty: set it to the key that clients must send")
    asyncio.run(run(Teacher(key, Temper(**options)), host, port))
    return 0


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"a share is from 0 to 1, got {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
