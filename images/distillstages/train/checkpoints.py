"""Checkpoints on the shared volume: half-written ones are never taken for whole ones, stale attempts publish nothing.

checkpoints/.partial-<attempt>/checkpoint-<step>/   being written by all ranks of that attempt
checkpoints/checkpoint-<step>/                      whole: renamed there by rank 0 after every rank was through
checkpoints/checkpoint-<step>/complete.json         {"step", "attempt", "ranks", "time"}: written before the rename
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from distillstages.common.artifacts import Output, storage_errors, write_durably

MARKER = "complete.json"
_PREFIX = "checkpoint-"
_log = logging.getLogger("distillstages.train.checkpoints")


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: optimizer steps done, the attempt and number of ranks that wrote it."""

    path: Path
    step: int
    attempt: int
    ranks: int


class Checkpoints:
    """The checkpoints of one output folder, as seen by rank 0 of one attempt. `keep` newest ones stay."""

    def __init__(self, output: Output, *, keep: int) -> None:
        self.output = output
        self.keep = keep
        self.folder = output.path("checkpoints")
        self.partial = self.folder / f".partial-{output.attempt}"

    def prepare(self) -> None:
        """Makes the folder for this attempt and removes what earlier attempts left half-written."""
        self.output.folder("checkpoints")
        for leftover in self.folder.glob(".partial-*"):
            attempt = leftover.name.removeprefix(".partial-")
            if attempt.isdigit() and int(attempt) <= self.output.attempt:
                shutil.rmtree(leftover, ignore_errors=True)
        with storage_errors(str(self.partial)):
            self.partial.mkdir(exist_ok=True)

    def whole(self) -> list[Checkpoint]:
        """The whole checkpoints, newest (most steps) first. What has no readable marker is ignored."""
        found = []
        for path in self.folder.glob(f"{_PREFIX}*"):
            try:
                marker = json.loads((path / MARKER).read_text("utf-8"))
                checkpoint = Checkpoint(path, int(marker["step"]), int(marker["attempt"]), int(marker["ranks"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if path.name == f"{_PREFIX}{checkpoint.step}":
                found.append(checkpoint)
        return sorted(found, key=lambda each: -each.step)

    def newest(self, ranks: int) -> Checkpoint | None:
        """The one to continue from: the newest whole one written by as many ranks as there are now (ZeRO's shards fit
        no other number); None: begin at the beginning."""
        for checkpoint in self.whole():
            if checkpoint.ranks == ranks:
                return checkpoint
            _log.warning(
                "checkpoint of another number of ranks left alone",
                extra={"fields": {"step": checkpoint.step, "ranks": checkpoint.ranks, "ranksNow": ranks}},
            )
        return None

    def publish(self, step: int, ranks: int) -> Checkpoint:
        """Makes `.partial-<attempt>/checkpoint-<step>` a whole checkpoint and prunes old ones. Call it on rank 0 once
        every rank has written. Raises Temporary SupersededAttempt (a newer attempt works here), DataFault DiskFull."""
        source, target = self.partial / f"{_PREFIX}{step}", self.folder / f"{_PREFIX}{step}"
        marker = {"step": step, "attempt": self.output.attempt, "ranks": ranks, "time": time.time()}
        with storage_errors(str(source)):
            _sync_files(source)
            write_durably(source / MARKER, json.dumps(marker).encode())
            self.output.check_claim()
            if target.exists():  # an earlier attempt got this far, or left a folder without a marker
                shutil.rmtree(target)
            source.rename(target)
        self._prune(step)
        return Checkpoint(target, step, self.output.attempt, ranks)

    def _prune(self, newest: int) -> None:
        for checkpoint in [each for each in self.whole() if each.step <= newest][self.keep :]:
            # The marker first: killed half-way, this must not leave half a checkpoint that looks whole.
            (checkpoint.path / MARKER).unlink(missing_ok=True)
            shutil.rmtree(checkpoint.path, ignore_errors=True)

    def clear(self) -> None:
        """Removes the half-written ones of this attempt, when training is over."""
        shutil.rmtree(self.partial, ignore_errors=True)


def _sync_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
