"""What a request to a chat endpoint says, and by what one knows that an answer is to the same request."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from distillstages.common.blocks import Generate
from distillstages.common.blocks import Teacher as Endpoint

LENGTH: Final = "max_tokens"
_ANSWERS: Final = 1
"""Raised by hand when recorded answers are not to be used any more: what is kept of them has changed its meaning."""


def body(endpoint: Endpoint, generate: Generate, question: str, length: str = LENGTH) -> dict[str, Any]:
    """The request's JSON; `length` is what the endpoint calls the limit of an answer's tokens."""
    messages = [{"role": "user", "content": question}]
    if generate.system_prompt:
        messages.insert(0, {"role": "system", "content": generate.system_prompt})
    return {
        "model": endpoint.model,
        "messages": messages,
        "temperature": generate.temperature,
        "top_p": generate.top_p,
        length: generate.max_tokens,
    }


def identity(endpoint: Endpoint, generate: Generate, question: str = "") -> str:
    """32 hex digits over where a request goes to and all that it says; without a question: over how questions are
    asked. The run's seed is not in it: no request carries it."""
    what = [_ANSWERS, endpoint.loads or endpoint.url.rstrip("/"), body(endpoint, generate, question)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
