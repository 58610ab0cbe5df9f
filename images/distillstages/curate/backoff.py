"""When to ask again: exponential backoff with full jitter, and what Retry-After says."""

from __future__ import annotations

import datetime
import email.utils
import random
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """The n-th wait is uniform between 0 and min(cap, base · 2^(n-1)) seconds ("full jitter": clients that failed
    together do not come back together)."""

    base_seconds: float = 1.0
    cap_seconds: float = 60.0
    random: random.Random = field(default_factory=random.Random)

    def wait(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (1, 2, …)."""
        return self.random.uniform(0, min(self.cap_seconds, self.base_seconds * 2 ** min(failures - 1, 30)))

    def after(self, seconds: float) -> float:
        """Seconds to wait when told to wait `seconds`: never less, a little more."""
        return seconds + self.random.uniform(0, self.base_seconds)


def retry_after(value: str | None, now: datetime.datetime) -> float | None:
    """Seconds that a Retry-After header asks for (a number or an HTTP date), never negative; None without a usable
    one. Source: RFC 9110, 10.2.3; fractions are accepted because servers send them."""
    if not value:
        return None
    try:
        seconds = float(value)
        return max(0.0, seconds) if seconds < float("inf") else None
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return max(0.0, (when - now).total_seconds())
