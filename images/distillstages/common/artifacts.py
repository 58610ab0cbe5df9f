"""A stage's output folder, on a mounted volume (file://) or in an object store (s3://), reached through fsspec.

`<root>/<namespace>/<stage>/<fingerprint>/` holds `ledger/` (which attempt works here, what it has published),
`.partial/` (work in progress), the artifacts, and `result.json`, written last and atomically: its presence alone means
complete.
What a newer attempt has claimed, an older one cannot publish (fencing.py).
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from distillstages.common.exit import Fault
from distillstages.common.fencing import Claim, Fence
from distillstages.common.files import (
    FILE_MODE,
    copy_durably,
    create_durably,
    local_path,
    make_folder,
    move_durably,
    storage_errors,
    sync_file,
    sync_folder,
    write_durably,
)
from distillstages.common.ledger import Entry
from distillstages.common.result import Result

RESULT: Final = "result.json"
RESULT_ENTRY: Final = "result"
PARTIAL: Final = ".partial"
_STAGED: Final = "staged-"


def holder() -> str:
    """Who we are, for a claim: the pod's name in Kubernetes (its host name), the host's on a laptop."""
    return os.environ.get("POD_NAME") or socket.gethostname()


class Output:
    """One stage's output folder. Paths given to the methods are relative to it, with "/".

    `attempt` (of the run with the uid `run`) fences: see `claim`, `install`, `publish`. `origin` is that run's
    "namespace/name". Raises ConfigFault for a location that cannot be used."""

    def __init__(
        self,
        uri: str,
        *,
        stage: str,
        fingerprint: str,
        attempt: int,
        who: str | None = None,
        run: str = "",
        origin: str = "",
    ) -> None:
        self.uri = uri.rstrip("/") + "/"
        self.stage = stage
        self.fingerprint = fingerprint
        self.attempt = attempt
        self.who = who or holder()
        self.run = run
        self.origin = origin
        self.fence = Fence(self, uri=self.uri, me=Claim(attempt, self.who, run))
        self._moves: dict[str, str] = {}
        self.is_local = self.uri.startswith("file://")
        if self.is_local:
            self._root: Path | None = local_path(self.uri)
            self._fs: Any = None
            self._base = ""
        else:
            import fsspec

            self._root = None
            self._fs, self._base = fsspec.core.url_to_fs(self.uri)
            self._base = self._base.rstrip("/")

    def url(self, path: str = "") -> str:
        """The URI of a path in the folder."""
        return self.uri + path

    def path(self, path: str = "") -> Path:
        """The local path of a path in the folder. Raises ConfigFault when the folder is in an object store."""
        if self._root is None:
            local_path(self.uri)
        assert self._root is not None
        return self._root / path

    def folder(self, path: str = "") -> Path:
        """Like `path`, and the folder exists afterwards, group-writable."""
        target = self.path(path)
        with storage_errors(str(target)):
            make_folder(target)
        return target

    def read(self, path: str) -> bytes | None:
        """The content of a small file, or None when there is none."""
        try:
            if self._root is not None:
                return (self._root / path).read_bytes()
            self._fs.invalidate_cache()
            data: bytes = self._fs.cat_file(f"{self._base}/{path}")
            return data
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: str, data: bytes) -> None:
        """Write a small file so that a reader sees all of it or none, and it survives a power cut."""
        with storage_errors(self.url(path)):
            if self._root is not None:
                write_durably(self._root / path, data)
            else:
                self._fs.pipe_file(f"{self._base}/{path}", data)

    def create(self, path: str, data: bytes) -> bool:
        """Like `write`, but only if there is no such file; False if there is one, of whoever else."""
        with storage_errors(self.url(path)):
            if self._root is not None:
                return create_durably(self._root / path, data)
            return self._create_object(f"{self._base}/{path}", data)

    def _create_object(self, key: str, data: bytes) -> bool:
        """A conditional PUT (If-None-Match: *). A store that has none is asked first, which leaves a gap."""
        try:
            self._fs.pipe_file(key, data, mode="create")
            return True
        except OSError as error:
            if error.errno == errno.ENOSYS:
                if self._fs.exists(key):
                    return False
                self._fs.pipe_file(key, data)
                return True
            # s3fs has one errno (EINVAL) for a precondition that failed and for much else.
            self._fs.invalidate_cache()
            if self._fs.exists(key):
                return False
            raise

    def list(self, path: str = "") -> list[str]:
        """Names of the files directly in a folder, sorted; [] when there is no such folder."""
        if self._root is not None:
            folder = self._root / path
            return sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(f"{self._base}/{path}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return []
        return sorted(e["name"].rsplit("/", 1)[-1] for e in entries if e["type"] == "file")

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it; none there is fine."""
        if self._root is not None:
            target = self._root / path
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target, ignore_errors=True)
            else:
                target.unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError):
            self._fs.rm(f"{self._base}/{path}".rstrip("/"), recursive=True)

    def install(self, source: Path, path: str) -> None:
        """Make a finished local file part of the result: it is at its place once `publish` has won, and until then
        under a name that is this attempt's own. The source may be on another file system; it is gone afterwards."""
        staged = self._stage(path)
        with storage_errors(self.url(path)):
            if self._root is None:
                self._fs.put_file(str(source), f"{self._base}/{staged}")
                source.unlink()
                return
            target = self._root / staged
            make_folder(target.parent)
            sync_file(source)
            try:
                source.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                copy_durably(source, target)
                source.unlink()
            target.chmod(FILE_MODE)
            sync_folder(target.parent)

    def put(self, path: str, data: bytes) -> None:
        """Make a small file part of the result, as `install` does."""
        self.write(self._stage(path), data)

    def show(self, path: str) -> None:
        """Put an installed file at its place although nothing is published, for people to look at. Not fenced: a stale
        attempt may replace it. Raises Temporary SupersededAttempt where we know already."""
        self.check_claim()
        self._move(self._moves.pop(path), path)

    def _stage(self, path: str) -> str:
        self._moves[path] = f"{PARTIAL}/{_STAGED}{self.token}/{path}"
        return self._moves[path]

    def completed(self) -> Result | None:
        """The published result for this very stage and fingerprint, or None."""
        data = self.read(RESULT)
        if data is None:
            return None
        return self._decode(data)

    def _decode(self, data: bytes) -> Result | None:
        """A result, if it is one of this very stage and fingerprint."""
        try:
            result = Result.decode(data)
        except ValueError:
            return None
        return result if (result.stage, result.fingerprint) == (self.stage, self.fingerprint) else None

    def reused_from(self, result: Result) -> str | None:
        """The run that a result is of, where that is another one than ours; None where it is ours or unknown."""
        return result.origin or None if self.run and result.run and result.run != self.run else None

    @property
    def token(self) -> int:
        """The number of our claim, which no other attempt has; 0 before `claim`."""
        return self.fence.token

    def claim(self) -> None:
        """Say that this attempt works here. Raises Temporary SupersededAttempt when a newer one of our run does."""
        token = self.fence.claim()
        for name in self.folders(PARTIAL):
            number = name.removeprefix(_STAGED)
            if name.startswith(_STAGED) and number.isdigit() and int(number) < token:
                self.remove(f"{PARTIAL}/{name}")

    def check_claim(self) -> None:
        """Raises Temporary SupersededAttempt when another attempt, pod or run has claimed the folder since."""
        self.fence.check()

    def read_claim(self) -> Claim | None:
        """Who works here, or None."""
        return self.fence.holder()

    def publish(
        self,
        numbers: Mapping[str, Any],
        outputs: Mapping[str, str],
        *,
        details: Mapping[str, Any] | None = None,
        moves: Mapping[str, str] | None = None,
    ) -> Result:
        """Put what was installed, and `moves` (by its place: where it lies now), in place and write result.json: the
        stage is complete. Raises Temporary SupersededAttempt when the claim is not ours. A result that is already there
        stands and is returned: the first to publish wins."""
        if self.token:
            self.check_claim()
        there = self.completed()
        if there is not None:
            return there
        if not self.token:
            self.claim()
        result = Result(
            self.stage,
            self.fingerprint,
            self.attempt,
            numbers,
            outputs,
            details or {},
            run=self.run,
            origin=self.origin,
        )
        text = result.encode().decode()
        entry = self.fence.add({"kind": RESULT_ENTRY, "result": text, "moves": {**self._moves, **(moves or {})}})
        finished = self._finish(entry)
        if finished is None:
            raise Fault(f"{self.uri}: what was to be published is gone: {', '.join(entry.document['moves'])}")
        return finished

    def finish(self) -> Result | None:
        """The result of an attempt that was cut off after it had won and before all was in place: puts it in place.
        None when there is none. Anyone may do it, and more than one at a time."""
        newest = self.fence.ledger.last()
        return self._finish(newest) if newest is not None and newest.kind == RESULT_ENTRY else None

    def _finish(self, entry: Entry) -> Result | None:
        try:
            data, moves = str(entry.document["result"]).encode(), dict(entry.document["moves"])
        except (ValueError, KeyError, TypeError):
            return None
        result = self._decode(data)
        if result is None or not all(self._move(source, target) for target, source in moves.items()):
            return None
        self.write(RESULT, data)
        if moves:
            self.remove(f"{PARTIAL}/{_STAGED}{entry.claim}")
        return result

    def _move(self, source: str, target: str) -> bool:
        """Rename within the folder; done already is fine. False when it is at neither place."""
        with storage_errors(self.url(target)):
            if self._root is not None:
                return move_durably(self._root / source, self._root / target)
            self._fs.invalidate_cache()
            if self._fs.exists(f"{self._base}/{source}"):
                self._fs.copy(f"{self._base}/{source}", f"{self._base}/{target}")
                self.remove(source)
                return True
            return bool(self._fs.exists(f"{self._base}/{target}"))

    def folders(self, path: str = "") -> Sequence[str]:
        """Names of the folders directly in a folder, in no order; [] when there is no such folder."""
        if self._root is not None:
            folder = self._root / path
            return [p.name for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(f"{self._base}/{path}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return []
        return [e["name"].rstrip("/").rsplit("/", 1)[-1] for e in entries if e["type"] == "directory"]
