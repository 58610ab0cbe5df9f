"""The small folder through which a supervisor and its workers speak (a path in $DISTILLRUN_STATE_DIR).

| file                | written by | what                                                                |
| ------------------- | ---------- | ------------------------------------------------------------------- |
| end-<rank>.json     | worker     | {"code": exit code, "termination": …}: why this rank ended          |
| metrics-<rank>.json | worker     | the numbers of the progress port                                    |
| pid-<rank>          | worker     | its process id                                                      |
| stacks-<rank>.txt   | worker     | every thread's stack, each time that it gets SIGUSR1                |

torchrun exits 1 whatever its workers said, hence files and not exit codes.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from distillstages.common.exit import cause_rank
from distillstages.common.termination import Termination, decode, write_atomic

VARIABLE: Final = "DISTILLRUN_STATE_DIR"
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class End:
    """Why one rank ended."""

    code: int
    termination: Termination


def folder() -> Path | None:
    """The state folder, or None when this process has no supervisor."""
    value = os.environ.get(VARIABLE)
    return Path(value) if value else None


def rank() -> str:
    """This worker's rank in its job ("0" when there is one only), from torchrun's RANK."""
    return os.environ.get("RANK") or "0"


def leave_end(code: int, termination: Termination) -> None:
    """Tell the supervisor why this worker ends. Without a supervisor: nothing."""
    where = folder()
    if where is None:
        return
    document = {"code": int(code), "termination": json.loads(termination.encode())}
    with suppress(OSError):
        write_atomic(json.dumps(document).encode(), where / f"end-{rank()}.json")


def ends(where: Path) -> list[End]:
    """What the workers left, the cause first (see exit.cause_rank)."""
    found = []
    for path in sorted(where.glob("end-*.json")):
        document = read_json(path)
        try:
            assert isinstance(document, dict)
            found.append(End(int(document["code"]), decode(json.dumps(document["termination"]))))
        except (AssertionError, KeyError, TypeError, ValueError):
            continue
    return sorted(found, key=lambda end: cause_rank(end.code))


def read_json(path: Path) -> object:
    """A file's JSON, or None when it is missing, too big or not JSON."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        return json.loads(data) if len(data) <= _MAX_BYTES else None
    except (OSError, ValueError):
        return None
