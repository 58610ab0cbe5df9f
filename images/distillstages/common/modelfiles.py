"""The files that a model consists of, and whether they are still those that were resolved."""

from __future__ import annotations

import fnmatch
from typing import Any, Final

from distillstages.common import identity

# Anything else in its folder (a README, an optimizer's state, a folder) changes nothing.
_PATTERNS: Final = ("*.json", "*.safetensors", "*.bin", "*.model", "*.jinja", "*.txt", "*.py")


def paths(filesystem: Any, folder: str) -> dict[str, str]:
    """The paths of a model's files, directly in its folder, by their names. Raises OSError."""
    found: dict[str, str] = {}
    for entry in filesystem.ls(folder, detail=True):
        name = entry["name"].rsplit("/", 1)[-1]
        # A hub's cache holds links, of which fsspec says neither.
        if entry["type"] != "directory" and any(fnmatch.fnmatch(name, pattern) for pattern in _PATTERNS):
            found[name] = entry["name"]
    return found


def check(what: str, uri: str, revision: str | None) -> None:
    """A model at file:// or s3:// must still be what was resolved (None: it was not). `what` names it in messages.

    Raises DataFault InputChanged, ConfigFault, OSError."""
    import fsspec

    if revision is None:
        return
    filesystem, folder = fsspec.core.url_to_fs(uri)
    identity.check(what, uri, revision, filesystem, list(paths(filesystem, folder.rstrip("/")).values()))
