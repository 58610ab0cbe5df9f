"""What an OpenAI-compatible server sends back, read with suspicion: any field may be missing or of another type."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

_MODEL_CODES: Final = ("model_not_found", "invalid_model", "model_not_available", "unknown_model")
_MODEL_PHRASES: Final = ("does not exist", "not found", "unknown", "invalid", "not supported", "no such")


@dataclass(frozen=True)
class Reply:
    """A usable chat completion (usable as a record; whether as a trace is judged later)."""

    content: str
    reasoning: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    model: str


@dataclass(frozen=True)
class Failure:
    """No answer this time. `retry_after`: seconds the server asks for."""

    kind: Literal["limited", "server", "timeout", "connection", "garbage", "refused", "changed"]
    detail: str
    retry_after: float | None = None


@dataclass(frozen=True)
class Problem:
    """The error object of a 4xx or 5xx body, or the beginning of whatever the body is."""

    message: str
    code: str

    @property
    def is_about_model(self) -> bool:
        """Whether the server says that it has no such model."""
        text = self.message.lower()
        return self.code in _MODEL_CODES or (
            "model" in text and any(p in text.split("model", 1)[1][:120] for p in _MODEL_PHRASES)
        )


def parse_completion(body: bytes) -> Reply | Failure:
    """The first choice of a chat completion; Failure "garbage" says what is not as expected."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return Failure("garbage", f"not JSON: {_begin(body)}")
    if not isinstance(document, dict):
        return Failure("garbage", f"JSON, but no object: {_begin(body)}")
    if document.get("error"):
        return Failure("server", f"HTTP 200 with an error: {problem_of(body).message}"[:400])
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return Failure("garbage", f"no choices: {_begin(body)}")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        return Failure("garbage", f"a choice without a message: {_begin(body)}")
    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        content=_content(message.get("content")),
        # DeepSeek and vLLM say reasoning_content, newer vLLM and OpenRouter say reasoning.
        reasoning=_content(message.get("reasoning_content")) or _content(message.get("reasoning")),
        finish=_text(choices[0].get("finish_reason")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        model=_text(document.get("model")),
    )


def problem_of(body: bytes) -> Problem:
    """The message and code of an error body. Never raises."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return Problem(_begin(body), "")
    if isinstance(document, list) and document:  # Gemini wraps it in a list
        document = document[0]
    error: Any = document.get("error", document) if isinstance(document, dict) else document
    if isinstance(error, dict):
        message = error.get("message") or error.get("detail") or json.dumps(error)
        return Problem(" ".join(str(message).split())[:1000], str(error.get("code") or error.get("type") or ""))
    return Problem(" ".join(str(error).split())[:1000], "")


def _content(value: object) -> str:
    """Text, or the text parts of a list of parts."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        return _clean("".join(p["text"] for p in value if isinstance(p, dict) and isinstance(p.get("text"), str)))
    return ""


def _text(value: object) -> str:
    return _clean(value)[:200] if isinstance(value, str) else ""


def _clean(text: str) -> str:
    """Lone surrogates cannot be stored."""
    return text.encode("utf-8", "replace").decode()


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def _begin(body: bytes) -> str:
    return repr(" ".join(body[:400].decode("utf-8", "replace").split())[:120]) if body else "an empty body"
