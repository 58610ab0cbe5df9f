"""The process in which math-verify runs: JSON lines in, JSON lines out. Started by `verify`, never by hand.

    {"reference": "\\\\frac{1}{2}", "answer": "0.5"}  ->  {"outcome": "equal", "detail": ""}

The first line says that it is ready: math-verify is imported, the limits are set.

Two limits on CPU time: a timer that raises in the main thread, and, for a computation inside one C call, the kernel's
RLIMIT_CPU, which ends the process. math-verify's own alarm is off: it counts seconds of the clock.
"""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

READY: Final = b"ready\n"
_MEMORY_BYTES: Final = 3 << 30


class OutOfTime(BaseException):
    """Not an Exception: sympy and math-verify catch those all over."""


def _raise(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


def check(reference: str, answer: str) -> tuple[str, str]:
    """(outcome, detail): equal, different, or reference when the reference itself says nothing."""
    from math_verify import parse, verify

    gold: list[Any] = parse(f"\\boxed{{{reference}}}", parsing_timeout=None)
    if not gold:
        return "reference", f"the reference {reference[:200]!r} cannot be read as mathematics"
    target: list[Any] = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
    return ("equal" if verify(gold, target, timeout_seconds=None) else "different"), ""


def limited(reference: str, answer: str, seconds: float) -> tuple[str, str]:
    """`check` within so many CPU seconds."""
    soft = math.ceil(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
    # Again and again, should a bare `except` swallow the first.
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 0.2)
    try:
        return check(reference, answer)
    except OutOfTime:
        return "timeout", f"the check took more than {seconds:g} s of CPU time"
    except MemoryError:
        return "timeout", "the check needed too much memory"
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def main() -> None:
    """Answer until standard input ends."""
    seconds = float(sys.argv[1])
    logging.disable(logging.CRITICAL)
    import math_verify  # noqa: F401  (the import takes seconds of CPU time, so before any limit)

    signal.signal(signal.SIGVTALRM, _raise)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    sys.stdout.write(READY.decode())
    sys.stdout.flush()
    # Nobody reads standard error from here on; a full pipe would stop us.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    for line in sys.stdin:
        request = json.loads(line)
        outcome, detail = limited(request["reference"], request["answer"], seconds)
        sys.stdout.write(json.dumps({"outcome": outcome, "detail": detail}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
