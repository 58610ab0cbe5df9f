"""Which attempt may publish in an output folder: the one whose claim is the newest entry of its ledger.

Asking first and writing afterwards is no fence: a process that is stopped in between, or whose request a partitioned
node keeps and sends again minutes later, would still get through. So whatever counts is an entry of the ledger
(ledger.py), made exclusively under the number after the newest one; files are prepared under names that are the
attempt's own, and get their real ones only after the entry is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from distillstages.common import reasons
from distillstages.common.exit import Temporary
from distillstages.common.ledger import Entry, Ledger, Store

CLAIMED: Final = "claim"
RESULT: Final = "result"


class Claim(NamedTuple):
    """Who works here: which attempt of which run (its uid; "" where unknown), in which pod."""

    attempt: int
    pod: str
    run: str


class Fence:
    """One process's view of an output folder's claims. `token` is the number of its own claim, 0 before it has one."""

    def __init__(self, store: Store, *, uri: str, me: Claim) -> None:
        self.ledger = Ledger(store)
        self.uri = uri
        self.me = me
        self.token = 0

    def claim(self) -> int:
        """Take the folder over; returns the token. Raises Temporary SupersededAttempt when a newer attempt of our run
        has it.

        Attempts are counted within a run. Another run with the same fingerprint (a run that was deleted and made again,
        say) is taken over from, whatever its attempt: what it has recorded here continues to count."""

        def decide(newest: Entry | None) -> Mapping[str, Any]:
            there = self._holder(newest)
            if there is not None and not self._is_other_run(there) and there.attempt > self.me.attempt:
                raise self._superseded(there)
            return {"kind": CLAIMED, "attempt": self.me.attempt, "pod": self.me.pod, "run": self.me.run}

        self.token = self.ledger.append(decide).number
        return self.token

    def check(self) -> None:
        """Raises Temporary SupersededAttempt when someone else has claimed the folder since. Worth asking before work
        that would be in vain; no fence."""
        self._check(self.ledger.last())

    def add(self, document: Mapping[str, Any]) -> Entry:
        """Make an entry under our claim. Raises Temporary SupersededAttempt when someone else has claimed the folder
        since, and then there is no entry."""

        def decide(newest: Entry | None) -> Mapping[str, Any]:
            self._check(newest)
            return {**document, "claim": self.token}

        return self.ledger.append(decide)

    def holder(self) -> Claim | None:
        """Who has the folder; None: nobody."""
        return self._holder(self.ledger.last())

    def holder_token(self) -> int:
        """The number of the claim of who has the folder; 0: nobody."""
        newest = self.ledger.last()
        return newest.claim if newest is not None else 0

    def _check(self, newest: Entry | None) -> None:
        there = self._holder(newest)
        if newest is not None and there is not None and newest.claim != self.token:
            raise self._superseded(there)

    def _holder(self, newest: Entry | None) -> Claim | None:
        if newest is None or not newest.claim:
            return None
        there = self.ledger.entry(newest.claim).document
        attempt = there.get("attempt")
        return Claim(attempt if isinstance(attempt, int) else 0, str(there.get("pod", "")), str(there.get("run", "")))

    def _is_other_run(self, there: Claim) -> bool:
        return bool(self.me.run and there.run and there.run != self.me.run)

    def _superseded(self, there: Claim) -> Temporary:
        other = f" of another run ({there.run})" if self._is_other_run(there) else ""
        return Temporary(
            f"{self.uri}: attempt {there.attempt}{other} (pod {there.pod}) has taken over from attempt "
            f"{self.me.attempt} (pod {self.me.pod}); this one publishes nothing",
            reason=reasons.SUPERSEDED_ATTEMPT,
        )
