"""Whether whoever holds an output folder is still at work, for another run that would compute the same.

Attempts of one run overtake each other at once: the operator has given the older one up. Two runs with the same
fingerprint know nothing of each other; were each to take over from the other whenever it starts, both would pay and
neither get anywhere. So a holder gives signs of life, and another run comes back later while there are any.

The signs are counted, not dated: no two clocks need agree.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from distillstages.common import reasons
from distillstages.common.artifacts import Output
from distillstages.common.exit import Temporary
from distillstages.common.ledger import FOLDER

BEAT_SECONDS: Final = 15.0
WATCH_SECONDS: Final = 4 * BEAT_SECONDS
RETRY_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 5.0


def path_of(token: int) -> str:
    """Where the holder of a claim counts, relative to its output folder."""
    return f"{FOLDER}/alive-{token}"


def give_signs(output: Output, *, ended: threading.Event | None = None, seconds: float = BEAT_SECONDS) -> None:
    """Count on, in a thread, until `ended` (None: as long as this process lives)."""
    until = ended or threading.Event()

    def count() -> None:
        number = 0
        while True:
            number += 1
            # A storage that fails is for the work itself to notice.
            with suppress(Exception):
                output.write(path_of(output.token), str(number).encode())
            if until.wait(seconds):
                return

    threading.Thread(target=count, name="alive", daemon=True).start()


def leave_to_others(
    output: Output, *, seconds: float = WATCH_SECONDS, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Raises Temporary SupersededAttempt while another run is at work on the same output; it takes `seconds` to learn
    that one is not any more."""
    there = output.read_claim()
    if there is None or not output.run or not there.run or there.run == output.run:
        return
    path = path_of(output.fence.holder_token())
    before = output.read(path)
    waited = 0.0
    while before is not None and waited < seconds:
        sleep(_LOOK_SECONDS)
        waited += _LOOK_SECONDS
        if output.read(path) != before:
            raise Temporary(
                f"{output.uri}: attempt {there.attempt} of another run ({there.run}, pod {there.pod}) computes the "
                "same; its result will be taken over, and if it ends without one, this run continues its work",
                reason=reasons.SUPERSEDED_ATTEMPT,
                retry_after_seconds=RETRY_SECONDS,
            )
