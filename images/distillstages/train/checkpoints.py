"""Checkpoints on the shared volume: neither half-written nor damaged ones are continued from.

checkpoints/.partial-<attempt>/checkpoint-<step>/   being written by all ranks of that attempt
checkpoints/checkpoint-<step>/                      whole: renamed there by rank 0 after every rank was through
checkpoints/checkpoint-<step>/complete.json         {"step", "attempt", "ranks", "time", "files"}: written before that
checkpoints/damaged-<step>-<random>/                set aside: something is wrong with it
checkpoints/.removed-<random>/                      on its way out
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from distillstages.common.artifacts import Output, storage_errors, sync_folder, write_durably
from distillstages.train.manifest import Files

MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d{1,15})")
_ASIDE = re.compile(r"damaged-(\d{1,15})-\w+")
_log = logging.getLogger("distillstages.train.checkpoints")


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint: optimizer steps done, the attempt and number of ranks that wrote it, its files, when.

    `unreadable` says what is wrong with its marker; the rest is then unknown but for the step, which its name says."""

    path: Path
    step: int
    attempt: int = 0
    ranks: int = 0
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    time: float = 0.0
    unreadable: str | None = None


class Checkpoints:
    """The checkpoints of one output folder, as seen by rank 0 of one attempt. `keep` newest ones stay."""

    def __init__(self, output: Output, *, keep: int) -> None:
        self.output = output
        self.keep = keep
        self.folder = output.path("checkpoints")
        self.partial = self.folder / f".partial-{output.attempt}"

    def prepare(self) -> None:
        """Makes the folder for this attempt and removes what earlier attempts left half-written or half-removed."""
        self.output.folder("checkpoints")
        for leftover in self.folder.glob(".partial-*"):
            attempt = leftover.name.removeprefix(".partial-")
            if attempt.isdigit() and int(attempt) <= self.output.attempt:
                shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.folder.glob(".removed-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with storage_errors(str(self.partial)):
            self.partial.mkdir(exist_ok=True)

    def published(self) -> list[Checkpoint]:
        """All that were published, newest (most steps) first, also those whose marker has become unreadable since."""
        found = [_read(path, int(match[1])) for path in self._folders() if (match := _NAME.fullmatch(path.name))]
        return sorted(found, key=lambda each: -each.step)

    def whole(self) -> list[Checkpoint]:
        """Those of them with a readable marker."""
        return [each for each in self.published() if each.unreadable is None]

    def candidates(self, ranks: int) -> list[Checkpoint]:
        """What may be continued from if its files are still what they were: all but those written by another number of
        ranks (ZeRO's shards fit no other), newest first."""
        found = []
        for checkpoint in self.published():
            if checkpoint.unreadable is None and checkpoint.ranks != ranks:
                _log.warning(
                    "checkpoint of another number of ranks left alone",
                    extra={"fields": {"step": checkpoint.step, "ranks": checkpoint.ranks, "ranksNow": ranks}},
                )
            else:
                found.append(checkpoint)
        return found

    def publish(self, step: int, ranks: int, files: Files) -> Checkpoint:
        """Makes `.partial-<attempt>/checkpoint-<step>` a whole checkpoint and prunes old ones. Call it on rank 0 once
        every rank has written and flushed; `files` are those of all ranks. Raises Temporary SupersededAttempt (a newer
        attempt works here), DataFault DiskFull."""
        source, target = self.partial / f"checkpoint-{step}", self.folder / f"checkpoint-{step}"
        now = time.time()
        marker = {"step": step, "attempt": self.output.attempt, "ranks": ranks, "time": now, "files": files}
        with storage_errors(str(source)):
            for folder in [each for each in source.rglob("*") if each.is_dir()]:
                sync_folder(folder)
            write_durably(source / MARKER, json.dumps(marker, sort_keys=True).encode())
            self.output.check_claim()
            if target.exists():  # an earlier attempt got this far
                self._remove(target)
            source.rename(target)
            sync_folder(self.folder)
        self._prune(step)
        return Checkpoint(target, step, self.output.attempt, ranks, files, now)

    def set_aside(self, checkpoint: Checkpoint) -> Path:
        """Gives a damaged checkpoint another name, under which nothing looks for it. It goes once a good one of as
        many steps is there. Raises Temporary SupersededAttempt, StageError of the storage."""
        self.output.check_claim()
        target = self.folder / f"damaged-{checkpoint.step}-{uuid.uuid4().hex[:8]}"
        with storage_errors(str(checkpoint.path)):
            checkpoint.path.rename(target)
            sync_folder(self.folder)
        return target

    def _prune(self, newest: int) -> None:
        for checkpoint in [each for each in self.whole() if each.step <= newest][self.keep :]:
            self._remove(checkpoint.path)
        for path in self._folders():
            match = _ASIDE.fullmatch(path.name)
            if match and int(match[1]) <= newest:
                _log.info("damaged checkpoint removed", extra={"fields": {"name": path.name, "newest": newest}})
                self._remove(path)

    def _remove(self, path: Path) -> None:
        """Under another name first: killed half-way, this must not leave half a checkpoint that looks whole."""
        doomed = self.folder / f".removed-{uuid.uuid4().hex[:8]}"
        try:
            path.rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed, ignore_errors=True)

    def _folders(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.is_dir()] if self.folder.is_dir() else []

    def clear(self) -> None:
        """Removes the half-written ones of this attempt, when training is over."""
        shutil.rmtree(self.partial, ignore_errors=True)


def _read(path: Path, step: int) -> Checkpoint:
    """What a published checkpoint's marker says."""
    try:
        marker = json.loads((path / MARKER).read_text("utf-8"))
        files = {str(name): (int(size), str(content)) for name, (size, content) in marker["files"].items()}
        found = Checkpoint(
            path, int(marker["step"]), int(marker["attempt"]), int(marker["ranks"]), files, float(marker["time"])
        )
    except FileNotFoundError:
        return Checkpoint(path, step, unreadable=f"{MARKER} is missing")
    except OSError as error:
        return Checkpoint(path, step, unreadable=f"{MARKER} cannot be read ({os.strerror(error.errno or 0)})")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Checkpoint(path, step, unreadable=f"{MARKER} is not what was written")
    if found.step != step or not files:
        return Checkpoint(path, step, unreadable=f"{MARKER} is not what was written")
    return found
