"""What goes wrong, drawn by a seeded generator: error answers by verb; watches that drop, delay, repeat or expire."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.cluster.faults.proxy import END, SILENCE, Fault, Hang, LoseAnswer, Refuse, Request, Reset, Tampered, expired

KINDS: dict[str, Callable[[], Fault]] = {
    "409": lambda: Refuse(409, "Conflict"),
    "410": lambda: Refuse(410, "Expired"),
    "429": lambda: Refuse(429, "TooManyRequests", retry_after=1),
    "500": lambda: Refuse(500, "InternalError"),
    "503": lambda: Refuse(503, "ServiceUnavailable"),
    "timeout": Hang,
    "reset": Reset,
    "lost answer": LoseAnswer,
}
VERBS = ("create", "apply", "patch", "delete", "get", "list", "watch")


@dataclass
class Errors:
    """Answers requests with errors, at most `limit` of them, each with the given chance."""

    random: random.Random
    kinds: tuple[str, ...]
    verbs: tuple[str, ...] = VERBS
    chance: float = 0.3
    limit: int = 12
    leases: bool = False
    """Whether renewals of the Lease meet errors, too."""
    given: list[str] = field(default_factory=list)
    """What happened to which request."""

    def __call__(self, request: Request) -> Fault | None:
        """Judge a request."""
        if request.verb not in self.verbs or len(self.given) >= self.limit:
            return None
        if request.resource == "leases" and not self.leases:
            return None
        if self.random.random() >= self.chance:
            return None
        kind = self.random.choice(self.kinds)
        if kind == "lost answer" and request.verb == "watch":
            kind = "reset"
        self.given.append(f"{kind}: {request}")
        return KINDS[kind]()


@dataclass
class Watches:
    """Loses, delays, repeats and expires what watches tell."""

    random: random.Random
    drop: float = 0.0
    repeat: float = 0.0
    expire: float = 0.0
    """Chances for each line; an expired watch says 410 and ends."""
    delay: float = 0.0
    """Longest delay of a line, in seconds. The lines of one watch keep their order; two watches do not keep step."""
    given: int = 0
    """Lines that were lost, delayed, repeated or followed by a 410."""

    def __call__(self, request: Request, line: bytes) -> Tampered:
        """Lines to pass on for one line."""
        if self.delay:
            self.given += 1
            yield self.random.uniform(0.0, self.delay)
        if self.random.random() < self.drop:
            self.given += 1
            return
        yield line
        if self.random.random() < self.repeat:
            self.given += 1
            yield line
        if self.random.random() < self.expire:
            self.given += 1
            yield expired()
            yield END


@dataclass
class Silence:
    """Watches that say nothing more from the moment `now` is set, while their connections stay."""

    now: bool = False

    def __call__(self, request: Request, line: bytes) -> Tampered:
        """The line, or nothing any more."""
        yield SILENCE if self.now else line
