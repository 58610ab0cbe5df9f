"""A stage's output folder, on a mounted volume (file://) or in an object store (s3://), reached through fsspec.

`<root>/<namespace>/<stage>/<fingerprint>/` holds `claim.json` (which attempt works here), `.partial/` (work in
progress), the artifacts, and `result.json`, written last and atomically: its presence alone means complete.
What a newer attempt has claimed, an older one cannot publish.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from distillstages.common import reasons
from distillstages.common.exit import ConfigFault, DataFault, Fault, Temporary

RESULT_VERSION: Final = "distillrun.dev/result/v1"
OUTPUT_VERSION: Final = 1
RESULT: Final = "result.json"
CLAIM: Final = "claim.json"
PARTIAL: Final = ".partial"
# group-writable: another attempt's pod shares the group, not always the user
_FILE_MODE: Final = 0o664
_FOLDER_MODE: Final = 0o2775


@dataclass(frozen=True)
class Result:
    """The content of result.json."""

    stage: str
    fingerprint: str
    attempt: int
    numbers: Mapping[str, Any]
    outputs: Mapping[str, str]
    details: Mapping[str, Any] = field(default_factory=dict)
    output_version: int = OUTPUT_VERSION
    run: str = ""
    """The uid of the run that published it, "" where unknown."""
    origin: str = ""
    """That run's "namespace/name"."""

    def encode(self) -> bytes:
        """result.json, keys sorted, so that equal results are equal bytes."""
        document: dict[str, Any] = {
            "apiVersion": RESULT_VERSION,
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "attempt": self.attempt,
            "outputVersion": self.output_version,
            "numbers": dict(self.numbers),
            "outputs": dict(self.outputs),
            "run": {"uid": self.run, "name": self.origin},
        }
        if self.details:
            document["details"] = dict(self.details)
        return (json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode("utf-8", "replace")

    @classmethod
    def decode(cls, data: bytes) -> Result:
        """The inverse of `encode`. Raises ValueError."""
        d = json.loads(data)
        if not isinstance(d, dict) or d.get("apiVersion") != RESULT_VERSION:
            raise ValueError(f"not a result: expected a JSON object with apiVersion {RESULT_VERSION}")
        run = d.get("run") or {}
        try:
            return cls(
                d["stage"],
                d["fingerprint"],
                int(d["attempt"]),
                d["numbers"],
                d["outputs"],
                d.get("details", {}),
                int(d["outputVersion"]),
                str(run.get("uid", "")),
                str(run.get("name", "")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a result: {error!r}") from None


class Claim(NamedTuple):
    """The content of claim.json: which attempt of which run (its uid; "" where unknown) works here, in which pod."""

    attempt: int
    pod: str
    run: str


def holder() -> str:
    """Who we are, for claim.json: the pod's name in Kubernetes (its host name), the host's on a laptop."""
    return os.environ.get("POD_NAME") or socket.gethostname()


def local_path(uri: str) -> Path:
    """The path of a file:// URI. Raises ConfigFault for any other scheme, naming the URI."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ConfigFault(f"{uri}: a file:// location is needed here, {parts.scheme}:// cannot be used as a local path")
    return Path(unquote(parts.path))


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn the storage's errors into sentences: a full disk into DataFault DiskFull, the rest of OSError into a
    ConfigFault (permission, read-only: the same claim fails again) or Fault. `what` names the thing being written."""
    try:
        yield
    except OSError as error:
        raise storage_fault(error, what) from error


def storage_fault(error: OSError, what: str) -> DataFault | ConfigFault | Fault:
    """The StageError that says what an OSError from storage means for the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataFault(
            f"{what}: the disk is full ({os.strerror(error.errno)}); nothing that was recorded is lost. Free space "
            "on the claim or enlarge it, then retry the run",
            reason=reasons.DISK_FULL,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ConfigFault(
            f"{what}: not writable ({os.strerror(error.errno)}) by uid {os.getuid()}, gid {os.getgid()}; make the "
            "volume writable for the stage's group (fsGroup)",
            reason=reasons.OUTPUT_UNWRITABLE,
        )
    return Fault(f"{what}: {error.strerror or error}")


class Output:
    """One stage's output folder. Paths given to the methods are relative to it, with "/".

    `attempt` (of the run with the uid `run`) fences: see `claim`, `check_claim`, `publish`. `origin` is that run's
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
            import shutil

            target = self._root / path
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target, ignore_errors=True)
            else:
                target.unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError):
            self._fs.rm(f"{self._base}/{path}".rstrip("/"), recursive=True)

    def install(self, source: Path, path: str) -> None:
        """Move a finished local file to its place in the folder, atomically and durably. The source may be on another
        file system; it is gone afterwards."""
        with storage_errors(self.url(path)):
            if self._root is None:
                self._fs.put_file(str(source), f"{self._base}/{path}")
                source.unlink()
                return
            target = self._root / path
            make_folder(target.parent)
            with source.open("rb") as file:
                os.fsync(file.fileno())
            try:
                source.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                _copy_durably(source, target)
                source.unlink()
            target.chmod(_FILE_MODE)
            sync_folder(target.parent)

    def completed(self) -> Result | None:
        """The published result for this very stage and fingerprint, or None."""
        data = self.read(RESULT)
        if data is None:
            return None
        try:
            result = Result.decode(data)
        except ValueError:
            return None
        return result if (result.stage, result.fingerprint) == (self.stage, self.fingerprint) else None

    def reused_from(self, result: Result) -> str | None:
        """The run that a result is of, where that is another one than ours; None where it is ours or unknown."""
        return result.origin or None if self.run and result.run and result.run != self.run else None

    def claim(self) -> None:
        """Say that this attempt works here. Raises Temporary SupersededAttempt when a newer one of our run does.

        Attempts are counted within a run. Another run with the same fingerprint (a run that was deleted and made again,
        say) is taken over from, whatever its attempt: what it has recorded here continues to count."""
        there = self.read_claim()
        if there is not None and not self._is_other_run(there) and there.attempt > self.attempt:
            raise self._superseded(there)
        self.write(CLAIM, json.dumps({"attempt": self.attempt, "pod": self.who, "run": self.run}).encode())
        self.check_claim()

    def check_claim(self) -> None:
        """Raises Temporary SupersededAttempt when another attempt, pod or run has claimed the folder since."""
        there = self.read_claim()
        if there is None or (there.attempt < self.attempt and not self._is_other_run(there)):
            return
        if there.attempt > self.attempt or there.pod != self.who or self._is_other_run(there):
            raise self._superseded(there)

    def _is_other_run(self, claim: Claim) -> bool:
        return bool(self.run and claim.run and claim.run != self.run)

    def _superseded(self, claim: Claim) -> Temporary:
        other = f" of another run ({claim.run})" if self._is_other_run(claim) else ""
        return Temporary(
            f"{self.uri}: attempt {claim.attempt}{other} (pod {claim.pod}) has taken over from attempt {self.attempt} "
            f"(pod {self.who}); this one publishes nothing",
            reason=reasons.SUPERSEDED_ATTEMPT,
        )

    def read_claim(self) -> Claim | None:
        """The content of claim.json, or None when there is none that can be read."""
        data = self.read(CLAIM)
        if data is None:
            return None
        try:
            document = json.loads(data)
            return Claim(int(document["attempt"]), str(document.get("pod", "")), str(document.get("run", "")))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def publish(
        self, numbers: Mapping[str, Any], outputs: Mapping[str, str], *, details: Mapping[str, Any] | None = None
    ) -> Result:
        """Write result.json: the stage is complete. Raises Temporary SupersededAttempt when the claim is not ours.
        A result that is already there stands and is returned: the first to publish wins."""
        self.check_claim()
        there = self.completed()
        if there is not None:
            return there
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
        self.write(RESULT, result.encode())
        return result


def make_folder(path: Path) -> None:
    """mkdir -p with group-writable folders (the set-group-id bit keeps the group). Raises OSError."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        with suppress(OSError):
            folder.chmod(_FOLDER_MODE)


def write_durably(path: Path, data: bytes) -> None:
    """Temporary file beside it, fsync, rename, fsync of the folder. Raises OSError."""
    make_folder(path.parent)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_FILE_MODE)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _copy_durably(source: Path, target: Path) -> None:
    import shutil

    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """fsync of a folder: names made, changed or removed in it stay so through a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot; the rename itself was done
    finally:
        os.close(descriptor)
