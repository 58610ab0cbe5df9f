"""One exception for everything that the API server, or the way to it, can say no with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A request that did not succeed.

    `code` is the HTTP status, or 0 when no answer came. `reason` is Kubernetes' CamelCase word (AlreadyExists,
    Conflict, Forbidden, Invalid, …), or the name of the network error. `message` is the server's sentence.
    `retry_after` is in seconds, None when the server named none.
    """

    def __init__(
        self, code: int, reason: str, message: str, retry_after: float | None = None, causes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(f"{code or 'no answer'} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.causes = causes
        """Reasons in `details.causes`, e.g. NamespaceTerminating."""

    @property
    def not_found(self) -> bool:
        """The object, its namespace or its kind does not exist."""
        return self.code == 404

    @property
    def already_exists(self) -> bool:
        """A create met an object of that name."""
        return self.code == 409 and self.reason == "AlreadyExists"

    @property
    def conflict(self) -> bool:
        """A stale resourceVersion, a UID precondition that fails, or fields that another manager owns."""
        return self.code == 409 and not self.already_exists

    @property
    def refused(self) -> bool:
        """The server understood and says no: quota, Pod Security, admission, permission (403), or validation (422)."""
        return self.code in (403, 422) or (self.code == 400 and self.reason in ("BadRequest", "Invalid"))

    @property
    def retryable(self) -> bool:
        """The same request may succeed in a moment: no answer, 429, or a fault of the server (5xx)."""
        return self.code in (0, 429) or self.code >= 500


def from_answer(code: int, body: Any, headers: Mapping[str, str]) -> ApiError:
    """The error in an answer: `body` is the parsed Status object, or text when the answer was no JSON."""
    retry_after = _seconds(headers.get("Retry-After"))
    if not isinstance(body, dict):
        return ApiError(code, "Unknown", str(body)[:500], retry_after)
    details = body.get("details") or {}
    if retry_after is None:
        retry_after = _seconds(details.get("retryAfterSeconds"))
    causes = tuple(str(cause.get("reason", "")) for cause in details.get("causes") or ())
    return ApiError(code, str(body.get("reason") or "Unknown"), str(body.get("message") or ""), retry_after, causes)


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if seconds > 0 else None
