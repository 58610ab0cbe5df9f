"""Files and folders on a volume: whole or not at all, there after a power cut, and errors as sentences."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from distillstages.common import reasons
from distillstages.common.exit import ConfigFault, DataFault, Fault

# group-writable: another attempt's pod shares the group, not always the user
FILE_MODE: Final = 0o664
_FOLDER_MODE: Final = 0o2775


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
    with _beside(path, data) as temporary:
        temporary.replace(path)
    sync_folder(path.parent)


def create_durably(path: Path, data: bytes) -> bool:
    """Make a file that is not there yet, whole or not at all; False if it is there. On a file system without hard links
    a process that dies while it writes leaves half of it. Raises OSError."""
    with _beside(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
            except FileExistsError:
                return False
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
    sync_folder(path.parent)
    return True


@contextmanager
def _beside(path: Path, data: bytes) -> Iterator[Path]:
    """A temporary file with that content, on disk, beside `path`; gone afterwards where it was not renamed."""
    make_folder(path.parent)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(FILE_MODE)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def move_durably(source: Path, target: Path) -> bool:
    """Rename a file or folder, replacing what is there; True also when it was done before, False when it is at neither
    place. The target is never touched unless the source is there. Raises OSError."""
    make_folder(target.parent)
    try:
        source.rename(target)
    except FileNotFoundError:
        return target.exists()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise
        # Something that was put there by hand, or by a version that did not publish like this.
        old = target.with_name(f".{target.name}.{uuid.uuid4().hex}.old")
        target.rename(old)
        source.rename(target)
        _remove_tree(old)
    sync_folder(target.parent)
    return True


def _remove_tree(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def copy_durably(source: Path, target: Path) -> None:
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


def sync_file(path: Path) -> None:
    """fsync of a file that was written and closed. Raises OSError."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """fsync of a folder: names made, changed or removed in it stay so through a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot; the rename itself was done
    finally:
        os.close(descriptor)
