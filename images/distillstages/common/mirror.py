"""Where hf:// is read from when the hub itself is not: another server with the hub's API, or a folder.

A folder has the layout of the hub's own cache, which `hf download <repository> --cache-dir <folder>` makes. It knows
commits, so that a run with a mirror pins, and is fingerprinted by, the same revisions as one without:

    models--owner--name/refs/main               the commit of a branch or tag
    datasets--owner--name/snapshots/<commit>/…  the files at a commit (links in a cache, files in an object store)

What lies under a commit's name is believed to be that commit.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from distillstages.common import reasons
from distillstages.common.exit import DataFault
from distillstages.common.files import local_path

VARIABLE: Final = "DISTILLRUN_MIRROR"
COMMIT: Final = re.compile(r"[0-9a-f]{40}\Z")


def environment(uri: str | None) -> Mapping[str, str]:
    """The variables by which a stage's processes, ours and those of libraries, find the mirror at `uri`."""
    if uri is None:
        return {}
    if uri.startswith(("http://", "https://")):
        # Xet's servers are others than the hub's, and a mirror names them as the hub does.
        return {"HF_ENDPOINT": uri.rstrip("/"), "HF_HUB_DISABLE_XET": "1"}
    return {VARIABLE: uri.rstrip("/"), "HF_HUB_OFFLINE": "1"}


def folder() -> str | None:
    """The URI of the folder that is the mirror; None where the hub, or another server, is asked."""
    return os.environ.get(VARIABLE) or None


def commit(root: str, kind: str, repository: str, wanted: str) -> str:
    """The commit of a revision (a commit, branch or tag) that the mirror has. `kind`: model or dataset.

    Raises DataFault SourceNotFound, which says how to put it there; what the store's client raises."""
    import fsspec

    store, path = fsspec.core.url_to_fs(_repository(root, kind, repository))
    found = wanted
    if not COMMIT.match(wanted):
        try:
            found = store.cat_file(f"{path}/refs/{wanted}").decode("ascii", "replace").strip()
        except FileNotFoundError:
            raise _missing(root, kind, repository, wanted) from None
    if not COMMIT.match(found) or not store.exists(f"{path}/snapshots/{found}"):
        raise _missing(root, kind, repository, wanted)
    return found


def snapshot(root: str, kind: str, repository: str, revision: str) -> str:
    """URI of the folder with a repository's files at a commit."""
    return f"{_repository(root, kind, repository)}/snapshots/{revision}"


def local_copy(uri: str) -> Path:
    """A local folder with what lies under a folder's URI: itself, or a copy among the temporary files, made once.

    Raises what the store's client raises."""
    import fsspec

    if uri.startswith("file://"):
        return local_path(uri)
    copy = Path(tempfile.gettempdir()) / f"mirrored-{hashlib.sha256(uri.encode()).hexdigest()[:16]}"
    if not copy.is_dir():
        store, path = fsspec.core.url_to_fs(uri)
        partial = tempfile.mkdtemp(prefix="mirrored-")
        store.get(f"{path.rstrip('/')}/", f"{partial}/", recursive=True)
        Path(partial).rename(copy)
    return copy


def _repository(root: str, kind: str, repository: str) -> str:
    return f"{root}/{kind}s--{repository.replace('/', '--')}"


def _missing(root: str, kind: str, repository: str, wanted: str) -> DataFault:
    what = "" if kind == "model" else f" --repo-type {kind}"
    return DataFault(
        f"the mirror {root} has no {kind} {repository} at {wanted}: put it there with `hf download {repository}{what}"
        f" --revision {wanted} --cache-dir <folder>` where the hub is reached",
        reason=reasons.SOURCE_NOT_FOUND,
    )
