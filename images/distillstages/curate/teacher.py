"""The teacher: an OpenAI-compatible chat endpoint, asked until it answers or until it is clear that it will not.

| what comes back                        | what happens                                                           |
| -------------------------------------- | ---------------------------------------------------------------------- |
| 401, 403                               | ConfigFault TeacherUnauthorized at once, naming the Secret and the key |
| 404; 400 about the model               | ConfigFault TeacherRefused at once                                     |
| other 4xx                              | TeacherRefused before the first answer, then this trace RequestRefused |
| 429                                    | wait (Retry-After), all if it happens again; without any answer: 75    |
| 5xx, timeout, connection, not our JSON | wait, ask again; then 75, or this trace is rejected if others go well  |
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import httpx

from distillstages.common import logs, reasons
from distillstages.common.blocks import Generate
from distillstages.common.blocks import Teacher as TeacherConfig
from distillstages.common.exit import ConfigFault, Temporary
from distillstages.curate import request
from distillstages.curate.backoff import Backoff, retry_after
from distillstages.curate.pace import Pacer
from distillstages.curate.records import Answer
from distillstages.curate.replies import Failure, Reply, parse_completion, problem_of

_MAX_BODY_BYTES: Final = 64 << 20
_LONGEST_WAIT_SECONDS: Final = 900.0
_GARBAGE_TRIES: Final = 3
_TAIL: Final = 3
_TEMPLATE_TOKENS: Final = 64
"""What a chat template may add to a request's text."""


class Teacher:
    """Asks one endpoint. `remaining()` is how many answers are still wanted, `answered` how many usable answers earlier
    attempts have recorded; `role` is what messages call the model. Use as an async context manager; safe for any number
    of concurrent `ask`."""

    def __init__(
        self,
        config: TeacherConfig,
        generate: Generate,
        *,
        api_key: str | None,
        backoff: Backoff | None = None,
        pacer: Pacer | None = None,
        role: str = "teacher",
        answered: int = 0,
        remaining: Callable[[], int] = lambda: 0,
    ) -> None:
        self.config = config
        self.generate = generate
        self.backoff = backoff or Backoff()
        self.pacer = pacer
        self.role = role
        self.successes = 0
        self.in_flight = 0
        self._answered_before = answered
        self._remaining = remaining
        self._resume_at = 0.0
        self._told_to_wait = 0
        self._length_field = request.LENGTH
        self._url = config.url.rstrip("/") + "/chat/completions"
        self._place = _place(config, role)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._trust = httpx.create_ssl_context()
        self._clients: list[httpx.AsyncClient] = []
        self._idle: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Teacher:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.aclose()

    async def ask(self, key: str, sample: int, question: str) -> Answer:
        """One answer. Raises ConfigFault where asking again is useless, Temporary where the teacher is away, Paused
        where the endpoint's limits allow no request soon."""
        requests = failures = 0
        seen = self.successes
        at_start = self.successes
        while True:
            await self._wait_for_quota()
            turn = await self.pacer.admit(self._most_tokens(question)) if self.pacer is not None else None
            requests += 1
            reply = await self._request(question)
            if isinstance(reply, Reply):
                if self.pacer is not None and reply.prompt_tokens:
                    self.pacer.used(turn, reply.prompt_tokens + reply.completion_tokens)
                self.successes += 1
                self._told_to_wait = 0
                return Answer(
                    key,
                    sample,
                    reply.content,
                    reply.reasoning,
                    reply.finish,
                    reply.prompt_tokens,
                    reply.completion_tokens,
                    requests,
                    reply.model,
                    request=request.identity(self.config, self.generate, question),
                )
            if reply.kind == "changed":
                continue
            self._told_to_wait += reply.retry_after is not None
            if reply.kind == "refused":
                return Answer(key, sample, requests=requests, error=self._refused(reply))
            if reply.kind == "limited" and self.successes > seen:
                failures = 0  # others get through: this is a queue, not an outage
            seen = self.successes
            failures += 1
            if reply.retry_after is not None and reply.retry_after > _LONGEST_WAIT_SECONDS:
                raise self._away(reply, requests)
            limit = self.config.max_attempts_per_request
            if failures >= (min(limit, _GARBAGE_TRIES) if reply.kind == "garbage" else limit):
                if not self._blame_question(reply, self.successes > at_start):
                    raise self._away(reply, requests)
                reason = reasons.MALFORMED if reply.kind == "garbage" else reasons.REQUEST_FAILED
                return Answer(key, sample, requests=requests, error=(reason, reply.detail))
            await self._pause(reply, failures)

    def _blame_question(self, reply: Failure, others_succeed: bool) -> bool:
        """Whether the question rather than the teacher is at fault: others were answered meanwhile, or it is among the
        last few and many were answered before. A connection that fails is never the question's fault."""
        if reply.kind in ("connection", "limited"):
            return False
        return others_succeed or (self.successes + self._answered_before > 0 and self._remaining() <= _TAIL)

    async def _wait_for_quota(self) -> None:
        # Again and again: others may have been told to wait longer while we slept.
        while (seconds := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(self.backoff.after(seconds))

    async def _pause(self, reply: Failure, failures: int) -> None:
        if reply.retry_after is None:
            await asyncio.sleep(self.backoff.wait(failures))
        elif self._told_to_wait < 2:
            await asyncio.sleep(self.backoff.after(reply.retry_after))
        else:
            # Told again, and nobody was answered in between: it is the quota of all of us, so everybody waits.
            self._resume_at = max(self._resume_at, time.monotonic() + reply.retry_after)

    async def _request(self, question: str) -> Reply | Failure:
        self.in_flight += 1
        client = self._idle.pop() if self._idle else self._connect()
        said = request.body(self.config, self.generate, question, self._length_field)
        try:
            async with asyncio.timeout(self.config.request_timeout_seconds):
                async with client.stream("POST", self._url, json=said) as response:
                    heard = bytearray()
                    async for chunk in response.aiter_bytes():
                        heard += chunk
                        if len(heard) > _MAX_BODY_BYTES:
                            return Failure("garbage", f"an answer of more than {_MAX_BODY_BYTES >> 20} MiB")
            return self._judge(response, bytes(heard))
        except TimeoutError:
            return Failure("timeout", f"no complete answer within {self.config.request_timeout_seconds:g} s")
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ConfigFault(
                f"{self.who()}: the URL cannot be used ({error})", reason=reasons.TEACHER_REFUSED
            ) from None
        except httpx.DecodingError as error:
            return Failure("garbage", f"an answer that cannot be decoded ({error})")
        except httpx.HTTPError as error:
            return Failure("connection", f"{type(error).__name__}: {error}"[:300])
        finally:
            self._idle.append(client)
            self.in_flight -= 1

    def _connect(self) -> httpx.AsyncClient:
        """A client for one request at a time: the time that a pool takes grows with the square of its connections."""
        # The deadline of a request is ours, over all of it; a server that drips would outlive httpx's.
        client = httpx.AsyncClient(headers=self._headers, verify=self._trust, timeout=None, follow_redirects=False)
        self._clients.append(client)
        return client

    def _most_tokens(self, question: str) -> int:
        """No token stands for less than a byte."""
        text = question + (self.generate.system_prompt or "")
        return len(text.encode()) + _TEMPLATE_TOKENS + self.generate.max_tokens

    def _judge(self, response: httpx.Response, body: bytes) -> Reply | Failure:
        """Raises ConfigFault for what no repetition changes."""
        status = response.status_code
        if status == 200:
            return parse_completion(body)
        problem = problem_of(body)
        said = f"HTTP {status}: {logs.redact(problem.message)}"[:400]
        if status in (401, 403):
            raise self._unauthorized(said)
        wait = retry_after(response.headers.get("retry-after"), datetime.datetime.now(datetime.UTC))
        if status == 429:
            return Failure("limited", said, wait)
        if status >= 500 or status in (408, 409, 425):
            return Failure("server", said, wait)
        if status == 400 and "max_completion_tokens" in problem.message and self._length_field == request.LENGTH:
            self._length_field = "max_completion_tokens"  # OpenAI's newer models know only this name
            return Failure("changed", said)
        if status == 404 or 300 <= status < 400 or problem.is_about_model:
            where = f" to {response.headers['location']}" if "location" in response.headers else ""
            raise ConfigFault(
                f"{self.who()} refused: {said}{where}; check the endpoint's url and model",
                reason=reasons.TEACHER_REFUSED,
            )
        return Failure("refused", said)

    def _refused(self, reply: Failure) -> tuple[str, str]:
        """A request refused as such. Before any answer the request's form is suspected, not the question."""
        if self.successes + self._answered_before == 0:
            raise ConfigFault(
                f"{self.who()} refused the first request: {reply.detail}; check model, maxTokens, temperature and "
                "topP against what the endpoint accepts",
                reason=reasons.TEACHER_REFUSED,
            )
        return reasons.REQUEST_REFUSED, reply.detail

    def _unauthorized(self, said: str) -> ConfigFault:
        key = self.config.api_key
        if key is None:
            advice = "no API key is configured: set apiKeySecretRef on the model's endpoint"
        else:
            advice = f"check the key {key.key!r} of the Secret {key.secret!r}"
        return ConfigFault(
            f"{self.who()} does not accept our credentials ({said}); {advice}", reason=reasons.TEACHER_UNAUTHORIZED
        )

    def _away(self, reply: Failure, requests: int) -> Temporary:
        reason = {"limited": reasons.TEACHER_RATE_LIMITED, "garbage": reasons.TEACHER_GARBAGE}
        return Temporary(
            f"{self.who()} gave no usable answer in {requests} requests, last: {reply.detail}; what was answered is "
            "recorded and the next attempt continues",
            reason=reason.get(reply.kind, reasons.TEACHER_UNAVAILABLE),
            retry_after_seconds=reply.retry_after if reply.retry_after is not None else self.backoff.cap_seconds,
        )

    def who(self) -> str:
        """The model that is asked, in a sentence."""
        return f"{self.role} {self.config.name!r} (model {self.config.model!r} at {self._place})"


def _place(config: TeacherConfig, role: str) -> str:
    """Host and port for messages, no more: a URL may hold credentials. Raises ConfigFault when it is no URL."""
    try:
        parts = urlsplit(config.url)
        if not parts.hostname:
            raise ValueError("no host name")
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError as error:
        raise ConfigFault(
            f"{role} {config.name!r}: its url cannot be used ({error}), expected http://host:port/v1 or https://…",
            reason=reasons.TEACHER_REFUSED,
        ) from None
