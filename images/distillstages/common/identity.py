"""The content identity of files that have no revision: `sha256:` and 32 hex digits over names, sizes and contents.

Whole contents count up to 256 MiB a file; of bigger ones 64 blocks of 1 MiB, spread evenly from the first byte to the
last, so that a model of 65 GB takes seconds and a truncated or replaced shard is still seen (a few bytes changed in the
middle of a huge file are not). In an object store the ETag stands for the content.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Sequence
from typing import IO, Any, Final

from distillstages.common import reasons
from distillstages.common.exit import ConfigFault, DataFault

WHOLE_BYTES: Final = 256 << 20
_BLOCK_BYTES: Final = 1 << 20
_BLOCKS: Final = 64
_FORM: Final = re.compile(r"sha256:[0-9a-f]{32}\Z")


def is_identity(revision: str | None) -> bool:
    """Whether a revision is a content identity."""
    return revision is not None and _FORM.match(revision) is not None


def of_files(filesystem: Any, paths: Sequence[str], *, whole_bytes: int = WHOLE_BYTES) -> str:
    """The identity of files of an fsspec file system. Their names count from the folder that they have in common, so
    it stays the same when the folder is moved. Raises OSError."""
    root = posixpath.commonpath([posixpath.dirname(path) for path in paths]) if paths else ""
    digest = hashlib.sha256()
    for path in sorted(paths):
        info = filesystem.info(path)
        name, size = posixpath.relpath(path, root or "/"), int(info["size"])
        body = info.get("ETag") or _content(filesystem, path, size, whole_bytes)
        digest.update(f"{name}\0{size}\0{body}\0".encode("utf-8", "surrogateescape"))
    return f"sha256:{digest.hexdigest()[:32]}"


def check(what: str, uri: str, revision: str | None, filesystem: Any, paths: Sequence[str]) -> None:
    """Files that were resolved must still be what they were then; None was not resolved. `what` names them.

    Raises DataFault InputChanged, ConfigFault for a revision that files cannot have."""
    if revision is None:
        return
    if not is_identity(revision):
        raise ConfigFault(
            f"{what}: {uri} has no revision {revision!r}: only hf:// knows commits, branches and tags. Leave it out"
        )
    now = of_files(filesystem, paths)
    if now != revision:
        raise DataFault(
            f"{what}: {uri} has changed since it was resolved (content then {revision}, now {now}); put the files back "
            "as they were, or start a new run with the new ones",
            reason=reasons.INPUT_CHANGED,
        )


def content(file: IO[bytes], size: int, *, whole_bytes: int = WHOLE_BYTES) -> str:
    """SHA-256, in hex, of what counts of a file of `size` bytes that is open for reading. Raises OSError."""
    digest = hashlib.sha256()
    if size <= whole_bytes:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    else:
        for number in range(_BLOCKS):
            file.seek((size - _BLOCK_BYTES) * number // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


def _content(filesystem: Any, path: str, size: int, whole_bytes: int) -> str:
    with filesystem.open(path, "rb") as file:
        return content(file, size, whole_bytes=whole_bytes)
