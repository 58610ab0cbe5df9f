"""The process in which math-verify runs: JSON lines in, JSON lines out. Started by `verify`, never by hand.

    {"reference": "\\\\frac{1}{2}", "answer": "0.5"}  ->  {"outcome": "equal", "detail": ""}

The first line says that it is ready: math-verify is imported, the limits are set.

Two limits on CPU time: a timer that raises in the main thread, and, for a computation inside one C call, the kernel's
RLIMIT_CPU, which ends the process. math-verify's own alarm is off: it counts seconds of the clock.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import resource
import signal
import sys
import time
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Final

READY: Final = b"ready\n"
_MEMORY_BYTES: Final = 3 << 30
_RELATIVE: Final = 1e-5


class OutOfTime(BaseException):
    """Not an Exception: sympy and math-verify catch those all over."""


def _raise(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


def check(reference: str, answer: str) -> tuple[str, str]:
    """(outcome, detail): equal, different, or reference when the reference itself says nothing."""
    from math_verify import verify

    expected = read(reference)
    if expected is None and not re.search(r"[\d\\^_=<>]", re.sub(r"\\text\{([^{}]*)\}", r"\1", reference)):
        return "different", ""  # words; the same ones would not have come here
    if expected is None:
        return "reference", f"the reference {reference[:200]!r} cannot be read as mathematics"
    found = read(answer)
    if found is None or not verify(expected, found, timeout_seconds=None, allow_set_relation_comp=True):
        return "different", ""
    return ("equal" if near(expected, found) else "different"), ""


@lru_cache(maxsize=256)
def read(text: str) -> Any:
    """A sympy object, or None. What math-verify's own extraction does besides is done before by `notation`, or is not
    wanted: it takes any last letter for a unit (3d is 3), and of a text it cannot read it takes the last number."""
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig, latex2sympy, normalize_latex
    from math_verify.grader import should_treat_as_complex

    rules = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    normal = normalize_latex(text, rules)
    last_side = normal.rpartition("=")[2].strip()
    for each in (normal, last_side) if last_side and last_side != normal else (normal,):
        with contextlib.suppress(Exception):
            return latex2sympy(
                each, is_real=not should_treat_as_complex(each), convert_degrees=False, normalization_config=None
            )
    return None


def near(one: Any, other: Any) -> bool:
    """Whether two values that math-verify calls equal still are beside their own size. It rounds to six places after
    the point, which makes all numbers below a millionth equal, and compares what is not a number (1/0) as equal."""
    from sympy import Float, nan, zoo

    if one in (nan, zoo) or other in (nan, zoo):
        return False
    if not (getattr(one, "is_number", False) and getattr(other, "is_number", False)):
        return True
    if not (one.has(Float) or other.has(Float)) or bool(_percent(one)) != bool(_percent(other)):
        return True
    a, b = complex(one.doit()), complex(other.doit())
    return abs(a - b) <= _RELATIVE * max(abs(a), abs(b))


def _percent(value: Any) -> bool:
    from sympy import UnevaluatedExpr

    return bool(value.has(UnevaluatedExpr))


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
