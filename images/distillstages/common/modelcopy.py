"""A model behind s3://, copied once a pod: its processes share the copy, for eight ranks are not to fetch eight."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from distillstages.common import modelfiles, reasons
from distillstages.common.exit import DataFault
from distillstages.common.sources import unreadable


def local_copy(what: str, uri: str, revision: str | None, *, missing: str = reasons.MODEL_NOT_FOUND) -> Path:
    """The local folder of a model at an fsspec URI; only the files that a model consists of are copied.

    The folder lies among the temporary files under a name made of URI and revision. Processes that ask at once wait for
    the first; a copy that was cut off is begun again. `what` names the model in messages, `missing` is the reason when
    nothing is there. Raises DataFault (`missing`, SourceUnreadable, DiskFull) and Temporary when the store is away.
    """
    name = hashlib.sha256(f"{uri}\0{revision or ''}".encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"model-{name}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _copy(what, uri, folder, missing)
    return folder


def _copy(what: str, uri: str, folder: Path, missing: str) -> None:
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(uri)
        files = modelfiles.paths(store, path.rstrip("/"))
    except FileNotFoundError:
        files = {}
    except Exception as error:  # stores raise their clients' own kinds
        raise unreadable(f"{what}: {uri}", error) from error
    if not files:
        raise DataFault(f"{what}: there is no model at {uri}; check the address and the bucket", reason=missing)
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name, path in files.items():
        _fetch(store, path, partial / name, f"{what}: {uri}/{name}")
    partial.rename(folder)


def _fetch(store: Any, path: str, to: Path, where: str) -> None:
    try:
        store.get_file(path, str(to))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataFault(
                f"{where}: no room for it in {to.parent.parent}, where the pod keeps what is temporary; ask for a node "
                "with room (ephemeral-storage in the stage's pod.resources.requests), or put the model on the claim",
                reason=reasons.DISK_FULL,
            ) from error
        raise unreadable(where, error) from error
