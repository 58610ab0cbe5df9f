"""What the files of a checkpoint are: sizes and contents, written down as it is saved, looked at before it is used.

Each rank reads its own files, so it takes as long as one rank's share: of a file over 256 MiB 64 blocks of 1 MiB count
(common.identity), a second for a shard of 50 GB. Whatever makes a file shorter, empty or absent is seen, and so is what
is wrong in one of those blocks; a bit that turned anywhere else is not.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from distillstages.common import identity
from distillstages.common.files import storage_errors

Files = dict[str, tuple[int, str]]
"""By path relative to the checkpoint's folder: size in bytes and identity.content."""

LOOK_AGAIN_SECONDS: Final = (1.0, 5.0, 25.0)
"""When to look again for a file that is not there: a network file system keeps a folder's names for 30 s by default."""

_OWNER: Final = re.compile(r"(?:^|_)(?:pp_rank|rng_state)_(\d+)")


def owner(name: str, ranks: int) -> int:
    """The rank that wrote a file, by DeepSpeed's and the trainer's way to name them; 0 for what names none."""
    match = _OWNER.search(name)
    rank = int(match[1]) if match else 0
    return rank if rank < ranks else 0


def describe(folder: Path, rank: int, ranks: int) -> Files:
    """This rank's files in a folder that it has just written to, each flushed to the storage first: other nodes cannot
    flush what lies in this one's memory. Raises StageError (DataFault DiskFull among others)."""
    found: Files = {}
    with storage_errors(str(folder)):
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            name = path.relative_to(folder).as_posix()
            if owner(name, ranks) == rank:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                    size = os.fstat(file.fileno()).st_size
                    found[name] = (size, identity.content(file, size))
    return found


def check(
    folder: Path,
    files: Mapping[str, tuple[int, str]],
    rank: int,
    ranks: int,
    *,
    look_again_seconds: Sequence[float] = LOOK_AGAIN_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """What is wrong with this rank's files, as ends of sentences; [] when nothing is."""
    mine = {name: what for name, what in files.items() if owner(name, ranks) == rank}
    for seconds in look_again_seconds:
        if all((folder / name).exists() for name in mine):
            break
        sleep(seconds)
    complaints = []
    for name, (size, content) in sorted(mine.items()):
        wrong = _wrong(folder / name, size, content)
        if wrong:
            complaints.append(f"{name} {wrong}")
    return complaints


def _wrong(path: Path, size: int, content: str) -> str | None:
    try:
        with path.open("rb") as file:
            now = os.fstat(file.fileno()).st_size
            if now != size:
                return f"has {now:,} of {size:,} bytes"
            return None if identity.content(file, size) == content else "has other content than when it was saved"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
