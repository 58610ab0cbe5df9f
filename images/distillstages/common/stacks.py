"""What every rank is doing when nothing moves: stack dumps, kept as an artifact, and which rank seems to be the cause.

Each worker process has faulthandler write every thread's stack into a file of the state folder when it gets SIGUSR1
(faulthandler works in C: also while Python hangs). Ranks of other pods leave theirs in the same artifact folder.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from distillstages.common.artifacts import PARTIAL, Output

MAX_BYTES: Final = 256 << 10
_DUMP_SECONDS: Final = 3.0
_LOGGED_FRAMES: Final = 8
_FRAME: Final = re.compile(r'^  File "(.+)", line (\d+) in (.+)$')
# A frame of these says that its rank waits for others. On GPUs collectives are queued, and a rank may wait anywhere.
_WAITING: Final = re.compile(r"/torch/distributed/|/deepspeed/comm/")
_NAMED: Final = 6


@dataclass(frozen=True)
class Frame:
    """One line of a stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.function} ({'/'.join(self.file.split('/')[-2:])}:{self.line})"


def path_of(rank: str, folder: Path) -> Path:
    """Where a rank's dumps go in the state folder."""
    return folder / f"stacks-{rank}.txt"


def dump(folder: Path) -> dict[str, str]:
    """Have every worker of this pod dump its stacks, and return the new ones by rank; "" from a process that does not
    answer (stopped, or in the kernel)."""
    offsets, asked = {}, []
    for path in folder.glob("pid-*"):
        rank = path.name.removeprefix("pid-")
        try:
            offsets[rank] = path_of(rank, folder).stat().st_size
            process = int(path.read_text())
            os.kill(process, signal.SIGUSR1)
            asked.append(rank)
        except (OSError, ValueError):
            continue  # it has ended
    found = dict.fromkeys(asked, "")
    deadline = time.monotonic() + _DUMP_SECONDS
    while time.monotonic() < deadline:
        before = dict(found)
        time.sleep(0.3)
        found = {rank: _read(path_of(rank, folder), offsets[rank]) for rank in asked}
        if all(found.values()) and found == before:
            break
    return found


def keep(output: Output, dumps: Mapping[str, str]) -> str:
    """Write this pod's dumps beside the stage's work; returns the folder's URI. Raises StageError, OSError."""
    where = folder_of(output)
    for rank, text in dumps.items():
        output.write(f"{where}/rank-{rank}.txt", text.encode("utf-8", "replace")[:MAX_BYTES])
    return output.url(where + "/")


def others(output: Output, ranks: int, dumps: Mapping[str, str], seconds: float) -> dict[str, str]:
    """The dumps of all ranks, those of other pods as they appear within `seconds`; what is missing then is missing."""
    where, found = folder_of(output), dict(dumps)
    deadline = time.monotonic() + seconds
    while True:
        for rank in map(str, range(ranks)):
            if rank not in found:
                data = output.read(f"{where}/rank-{rank}.txt")
                if data is not None:
                    found[rank] = data.decode("utf-8", "replace")
        if len([rank for rank in found if rank.isdigit()]) >= ranks or time.monotonic() >= deadline:
            return found
        time.sleep(0.5)


def folder_of(output: Output) -> str:
    """The artifact folder of an attempt's dumps, relative to its output."""
    return f"{PARTIAL}/stacks/attempt-{output.attempt}"


def main_thread(text: str) -> list[Frame]:
    """The frames of the main thread, innermost first: the last thread that faulthandler prints."""
    frames: list[Frame] = []
    for line in text.splitlines():
        if line.startswith(("Thread ", "Current thread ")):
            frames = []
        elif match := _FRAME.match(line):
            frames.append(Frame(match[1], int(match[2]), match[3]))
    return frames


def verdict(dumps: Mapping[str, str], ranks: int) -> str:
    """A sentence's end about who seems to be the cause: a rank that does not answer, else one that is not waiting while
    others are, else one that is elsewhere than most. "" where nothing tells them apart."""
    stacks = {rank: main_thread(dumps.get(rank, "")) for rank in map(str, range(ranks))}
    silent = [rank for rank, frames in stacks.items() if not frames]
    waiting = [rank for rank, frames in stacks.items() if any(_WAITING.search(f.file) for f in frames)]
    if silent and len(silent) < ranks:
        return f"{_ranks(silent)} left no stacks (stopped, its node away, or stuck in the kernel)"
    busy = [rank for rank in stacks if rank not in waiting]
    if waiting and busy:
        where = "; ".join(f"rank {rank} is in {stacks[rank][0]}" for rank in busy[:_NAMED])
        return f"{_ranks(waiting)} waits for the others, but {where}"
    places = Counter(frames[0] for frames in stacks.values() if frames)
    if len(places) > 1:
        (most, count), *rest = places.most_common()
        odd = [rank for rank, frames in stacks.items() if frames and frames[0] != most]
        if count > sum(number for _, number in rest):
            where = "; ".join(f"rank {rank} in {stacks[rank][0]}" for rank in odd[:_NAMED])
            return f"most ranks are in {most}, but {where}"
    if places and ranks > 1:
        return f"every rank is in {places.most_common(1)[0][0]}"
    return f"it is in {places.most_common(1)[0][0]}" if places else ""


def log_lines(dumps: Mapping[str, str]) -> list[str]:
    """The innermost frames of every rank's main thread, for the log."""
    lines = []
    for rank, text in sorted(dumps.items()):
        lines.append(f"stack of rank {rank}, innermost first:" if text else f"rank {rank} does not answer")
        lines += [f"  {frame}" for frame in main_thread(text)[:_LOGGED_FRAMES]]
    return lines


def _ranks(ranks: Collection[str]) -> str:
    names = sorted(ranks, key=int)
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return f"rank {shown}" if len(names) == 1 else f"each of ranks {shown}"


def _read(path: Path, offset: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
