"""A stage whose progress stands still: noticed, every rank's stacks kept, and said in a sentence.

What counts are the numbers of the progress port, of every worker of this pod. A worker may ask for patience
(Metrics.patience) where nothing can move for long: while it starts, loads and compiles, and while it saves. Until a
worker has said anything the limit is START_FACTOR times as wide, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from distillstages.common import metrics, stacks
from distillstages.common.artifacts import Output

# Importing an engine from a cold disk, loading a model of 65 GB, saving it: many times longer than any step.
START_FACTOR: Final = 10.0
_POLL_SECONDS: Final = 5.0
_PEER_SECONDS: Final = 15.0
_STORAGE_SECONDS: Final = 45.0


@dataclass(frozen=True)
class Watched:
    """What to watch: progress may stand still for `seconds`; `ranks` workers in all pods; `output` opens the folder
    that stacks are kept in (None: the log has to do)."""

    folder: Path
    seconds: float
    ranks: int = 1
    output: Callable[[], Output] | None = None


def wait(watched: Watched, ended: threading.Event) -> float | None:
    """Return the limit once nothing has moved for so long, or None when `ended` is set."""
    seen, since = _numbers(watched.folder), time.monotonic()
    while not ended.wait(min(watched.seconds / 4, _POLL_SECONDS)):
        now = _numbers(watched.folder)
        if now != seen:
            seen, since = now, time.monotonic()
        limit = watched.seconds * _patience(watched.folder)
        if time.monotonic() - since > limit:
            return limit
    return None


def explain(watched: Watched, limit: float, say: Callable[[str], None]) -> str:
    """Dump the stacks of all ranks of this pod, log their innermost frames with `say`, keep them beside the stage's
    work, wait a little for those of the other pods, and return the sentence."""
    step = _last(watched.folder)
    dumps = stacks.dump(watched.folder)
    for line in stacks.log_lines(dumps):
        say(line)
    kept: dict[str, Any] = {"where": "the log", "dumps": dumps}
    keeper = threading.Thread(target=_keep, args=(watched, dumps, kept), daemon=True)
    keeper.start()
    # A storage that hangs may be the cause of it all; it must not hold us, too.
    keeper.join(_STORAGE_SECONDS)
    cause = stacks.verdict(kept["dumps"], watched.ranks)
    return (
        f"no progress for {limit:g} s{f' after {step}' if step else ''}"
        f"{f': {cause}' if cause else ''}; every thread's stack is in {kept['where']}"
    )


def _keep(watched: Watched, dumps: dict[str, str], kept: dict[str, Any]) -> None:
    if watched.output is None:
        return
    try:
        output = watched.output()
        kept["where"] = stacks.keep(output, dumps)
        kept["dumps"] = stacks.others(output, watched.ranks, dumps, _PEER_SECONDS)
    except Exception as error:  # whatever the storage says: the stall is the news
        kept["where"] = f"the log (it could not be kept: {error})"


def _numbers(folder: Path) -> object:
    """Which workers have started, and what they said."""
    started = sorted(path.name for path in folder.glob("pid-*"))
    return started, [(s.get("patience"), s.get("series")) for s in metrics.read_snapshots(folder)]


def _patience(folder: Path) -> float:
    """The most that any worker asks for; START_FACTOR while none has started."""
    if not any(folder.glob("pid-*")):
        return START_FACTOR
    return max((float(s.get("patience", 1.0)) for s in metrics.read_snapshots(folder)), default=1.0)


def _last(folder: Path) -> str:
    """How far it was: "step 17", or "120 of 600 answers"."""
    values: dict[str, float] = {}
    unit = ""
    for snapshot in metrics.read_snapshots(folder):
        for name, labels, value in snapshot["series"]:
            values.setdefault(name, float(value))
            unit = labels.get("unit", "") or unit
    if "step" in values:
        return f"step {values['step']:.0f}"
    if "progress_done" in values:
        return f"{values['progress_done']:.0f} of {values.get('progress_total', 0):.0f} {unit or 'parts'}"
    return ""
