"""Look into an OCI image layout and take images out of it. Source: OCI image-spec 1.1, image-layout.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REFERENCE = "org.opencontainers.image.ref.name"


def _index(layout: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((layout / "index.json").read_text())
    except FileNotFoundError:
        return {"schemaVersion": 2, "manifests": []}
    return index


def references(layout: Path) -> list[str]:
    """The names of the images in ``layout``; none if there is no layout yet."""
    named = (manifest.get("annotations", {}).get(REFERENCE) for manifest in _index(layout)["manifests"])
    return [name for name in named if name]


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    return layout / "blobs" / algorithm / value


def _used(layout: Path, digest: str) -> set[Path]:
    """The blobs of one image: its manifest, its config, its layers."""
    manifest = json.loads(_blob(layout, digest).read_text())
    digests = [digest, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    return {_blob(layout, each) for each in digests}


def remove(layout: Path, unwanted: set[str]) -> None:
    """Take the images named in ``unwanted`` out of ``layout``, with every blob that no other image uses."""
    index = _index(layout)
    index["manifests"] = [
        manifest for manifest in index["manifests"] if manifest.get("annotations", {}).get(REFERENCE) not in unwanted
    ]
    unfinished = layout / "index.json.partial"
    unfinished.write_text(json.dumps(index))
    unfinished.replace(layout / "index.json")
    used: set[Path] = set()
    for manifest in index["manifests"]:
        used |= _used(layout, manifest["digest"])
    for blob in (layout / "blobs").glob("*/*"):
        if blob not in used:
            blob.unlink()
