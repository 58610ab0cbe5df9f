"""One chat completion over OpenAI's HTTP interface, asked of a vLLM on the loopback.

Sampling is set in full, so that a model's own generation_config.json (repetition penalties, top_k) does not leak into a
score: temperature 0 means greedy decoding and nothing else. Special tokens are kept in the text, because the delimiters
of some trace formats are special tokens.
"""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

import httpx

from distillstages.common import reasons
from distillstages.common.exit import ConfigFault, Fault

_ATTEMPTS: Final = 5
_BACKOFF_SECONDS: Final = 0.25
_DOES_NOT_FIT: Final = re.compile(r"maximum context length|exceeds model's maximum", re.IGNORECASE)


class Server(Protocol):
    """What is needed of common.engine.Engine."""

    @property
    def url(self) -> str: ...
    @property
    def name(self) -> str: ...
    def raise_if_dead(self, when: str) -> None: ...


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class Answer:
    """What came back. `thinking` is None unless the server separated it (a --reasoning-parser among the vllmArgs).
    `finish_reason`: stop, length, … ; `tokens`: generated."""

    text: str
    thinking: str | None
    finish_reason: str
    tokens: int


class PromptTooLong(Exception):
    """The question alone does not fit into the model's context."""


class _Unusable(Exception):
    """An answer worth asking for again: a server error, or a body that is no completion."""


class Chat:
    """A client for one server; use as an async context manager. `concurrency` requests at most run at once."""

    def __init__(
        self, server: Server, *, concurrency: int, attempts: int = _ATTEMPTS, backoff_seconds: float = _BACKOFF_SECONDS
    ) -> None:
        self._server = server
        self._attempts = attempts
        self._backoff = backoff_seconds
        self._context_tokens: int | None = None
        # No limit on reading: an answer of 32,768 tokens takes as long as it takes, and a server that hangs shows in
        # the supervisor's watch on the numbers.
        self._http = httpx.AsyncClient(
            base_url=server.url,
            timeout=httpx.Timeout(None, connect=30),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def context_tokens(self) -> int | None:
        """The model's context in tokens, as the server says; None when it does not."""
        body = await self._retrying("GET", "/v1/models", None)
        try:
            length = body["data"][0]["max_model_len"]
        except (KeyError, IndexError, TypeError):
            return None
        return length if isinstance(length, int) and length > 0 else None

    async def ask(self, messages: list[dict[str, str]], sampling: Sampling) -> Answer:
        """Ask, again after server errors. Raises PromptTooLong; Fault EngineFailed when the server has died or keeps
        failing; ConfigFault when it refuses the request."""
        if self._context_tokens is None:
            self._context_tokens = await self.context_tokens() or 1 << 40
        request = {
            "model": self._server.name,
            "messages": messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # vLLM shortens this to what fits after the prompt, and refuses more than its whole context.
            "max_tokens": min(sampling.max_tokens, self._context_tokens),
            "seed": sampling.seed,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "skip_special_tokens": False,
        }
        answer: Answer = await self._retrying("POST", "/v1/chat/completions", request, read=_answer)
        return answer

    async def _retrying(self, method: str, path: str, content: Any, *, read: Any = lambda body: body) -> Any:
        trouble = ""
        for attempt in range(self._attempts):
            if attempt:
                await asyncio.sleep(self._backoff * 2 ** (attempt - 1) * (0.5 + random.random()))
            try:
                response = await self._http.request(method, path, json=content)
                return read(self._body(response))
            except (httpx.HTTPError, _Unusable) as error:
                self._server.raise_if_dead("while it was answering")
                trouble = str(error) or type(error).__name__
        # A dying server refuses connections a moment before its process has ended.
        self._server.raise_if_dead("while it was answering")
        raise Fault(
            f"vLLM for model {self._server.name!r} gave no usable answer in {self._attempts} attempts: {trouble[:300]}",
            reason=reasons.ENGINE_FAILED,
        )

    def _body(self, response: httpx.Response) -> Any:
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise _Unusable(f"HTTP {response.status_code}: {response.text[:200]}")
        if response.status_code >= 400:
            message = _error_message(response)
            if _DOES_NOT_FIT.search(message):
                raise PromptTooLong(message)
            raise ConfigFault(
                f"vLLM refuses the requests for model {self._server.name!r} (HTTP {response.status_code}: "
                f"{message[:300]}); see engine.vllmArgs and the benchmark's settings"
            )
        try:
            return response.json()
        except ValueError:
            raise _Unusable(f"not JSON: {response.text[:200]!r}") from None


def _answer(body: Any) -> Answer:
    """A completion's first choice. Raises _Unusable for anything else."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text = message.get("content") or ""
        thinking = message.get("reasoning") or message.get("reasoning_content")
        tokens = (body.get("usage") or {}).get("completion_tokens") or 0
        finish = choice.get("finish_reason") or "unknown"
        if not isinstance(text, str) or not isinstance(tokens, int) or not isinstance(finish, str):
            raise TypeError("text, number and text expected")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Unusable(f"not a completion ({error}): {str(body)[:200]}") from None
    if finish in ("abort", "error"):
        raise _Unusable(f"the server gave up on the request (finish_reason {finish})")
    return Answer(text, thinking if isinstance(thinking, str) else None, finish, tokens)


def _error_message(response: httpx.Response) -> str:
    try:
        body = response.json()
        error = body.get("error", body)
        return str(error.get("message") or error) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        return response.text
