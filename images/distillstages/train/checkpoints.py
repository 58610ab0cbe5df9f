"""Checkpoints on the shared volume: neither half-written, nor damaged, nor a stale attempt's are continued from.

checkpoints/.partial-<claim>/checkpoint-<step>/     being written by all ranks of the attempt that made that claim
checkpoints/checkpoint-<step>-<claim>/              whole: renamed there after an entry in the ledger allowed it
checkpoints/checkpoint-…/complete.json              {"step", "attempt", "ranks", "time", "files"}: written before that
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

from distillstages.common.artifacts import Output
from distillstages.common.files import move_durably, storage_errors, sync_folder, write_durably
from distillstages.train.manifest import Files

FOLDER = "checkpoints"
MARKER = "complete.json"
CHECKPOINT_ENTRY = "checkpoint"
_NAME = re.compile(r"checkpoint-(\d{1,15})(?:-(\d{1,15}))?")
_ASIDE = re.compile(r"damaged-(\d{1,15})-\w+")
_log = logging.getLogger("distillstages.train.checkpoints")


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint: optimizer steps done, the attempt and number of ranks that wrote it, its files, when.

    `claim` is the number of the claim under which it was published (0: restored by hand, say). `unreadable` says what
    is wrong with its marker; the rest is then unknown but for step and claim, which its name says."""

    path: Path
    step: int
    claim: int = 0
    attempt: int = 0
    ranks: int = 0
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    time: float = 0.0
    unreadable: str | None = None


class Checkpoints:
    """The checkpoints of one output folder, as seen by rank 0 of one attempt. `keep` newest ones stay."""

    def __init__(self, output: Output, *, keep: int, token: int) -> None:
        self.output = output
        self.keep = keep
        self.token = token
        self.folder = output.path(FOLDER)
        self.partial = self.folder / f".partial-{token}"

    def prepare(self) -> None:
        """Makes the folder for this attempt and removes what attempts before it left half-written or half-removed."""
        self.output.folder(FOLDER)
        self._finish()
        for leftover in self.folder.glob(".partial-*"):
            claim = leftover.name.removeprefix(".partial-")
            if claim.isdigit() and int(claim) < self.token:
                shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.folder.glob(".removed-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with storage_errors(str(self.partial)):
            self.partial.mkdir(exist_ok=True)

    def _finish(self) -> None:
        """What was allowed and not yet renamed when its attempt was cut off."""
        for entry in self.output.fence.ledger.entries():
            step = entry.document.get("step")
            if entry.kind == CHECKPOINT_ENTRY and isinstance(step, int):
                source = self.folder / f".partial-{entry.claim}" / f"checkpoint-{step}"
                if source.is_dir():
                    with storage_errors(str(source)):
                        move_durably(source, self._place(step, entry.claim))

    def _place(self, step: int, claim: int) -> Path:
        return self.folder / f"checkpoint-{step}-{claim}"

    def partial_path(self, name: str) -> str:
        """The place in the output folder of what lies under a name in `partial`."""
        return f"{FOLDER}/{self.partial.name}/{name}"

    def published(self) -> list[Checkpoint]:
        """All that were published, newest (most steps) first, also those whose marker has become unreadable since."""
        found = [
            _read(path, int(match[1]), int(match[2] or 0))
            for path in self._folders()
            if (match := _NAME.fullmatch(path.name))
        ]
        return sorted(found, key=lambda each: (-each.step, -each.claim))

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
        """Makes `.partial-<claim>/checkpoint-<step>` a whole checkpoint and prunes old ones. Call it on rank 0 once
        every rank has written and flushed; `files` are those of all ranks. Raises Temporary SupersededAttempt (a newer
        attempt works here), DataFault DiskFull."""
        source, target = self.partial / f"checkpoint-{step}", self._place(step, self.token)
        now = time.time()
        marker = {"step": step, "attempt": self.output.attempt, "ranks": ranks, "time": now, "files": files}
        with storage_errors(str(source)):
            for folder in [each for each in source.rglob("*") if each.is_dir()]:
                sync_folder(folder)
            write_durably(source / MARKER, json.dumps(marker, sort_keys=True).encode())
            # The fence: who was overtaken gets no entry, and without one nothing is renamed.
            self.output.fence.add({"kind": CHECKPOINT_ENTRY, "step": step})
            move_durably(source, target)
        self._prune(step)
        return Checkpoint(target, step, self.token, self.output.attempt, ranks, files, now)

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
        # Overtaken in the meantime, this must not touch what the newer attempt has published.
        ours = [each for each in self.whole() if each.step <= newest and each.claim <= self.token]
        for checkpoint in ours[self.keep :]:
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


def _read(path: Path, step: int, claim: int) -> Checkpoint:
    """What a published checkpoint's marker says."""
    try:
        marker = json.loads((path / MARKER).read_text("utf-8"))
        files = {str(name): (int(size), str(content)) for name, (size, content) in marker["files"].items()}
        attempt, ranks, at = int(marker["attempt"]), int(marker["ranks"]), float(marker["time"])
        if files and marker["step"] == step:
            return Checkpoint(path, step, claim, attempt, ranks, files, at)
        wrong = "is not what was written"
    except FileNotFoundError:
        wrong = "is missing"
    except OSError as error:
        wrong = f"cannot be read ({os.strerror(error.errno or 0)})"
    except (ValueError, KeyError, TypeError, AttributeError):
        wrong = "is not what was written"
    return Checkpoint(path, step, claim, unreadable=f"{MARKER} {wrong}")
