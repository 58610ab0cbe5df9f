"""Tiny container images written by hand: one uncompressed layer, always the same bytes for the same files."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .shell import run

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAME = "io.containerd.image.name"  # the annotation by which containerd names an image that it imports


@dataclass(frozen=True)
class Image:
    """What goes into an image: `files` (path inside -> file outside), symbolic `links`, and how it starts."""

    name: str
    files: Mapping[str, Path]
    entrypoint: Sequence[str]
    links: Mapping[str, str]
    user: str = "65532:65532"


def write(image: Image, layout: Path) -> None:
    """Write `image` as an OCI image layout into the folder `layout`."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    layer = _layer(image)
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Entrypoint": list(image.entrypoint), "User": image.user, "Env": ["PATH=/bin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _blob(blobs, _json(config), CONFIG),
        "layers": [_blob(blobs, layer, LAYER)],
    }
    entry = {**_blob(blobs, _json(manifest), MANIFEST), "annotations": {NAME: image.name}}
    (layout / "index.json").write_bytes(_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def _layer(image: Image) -> bytes:
    """Return the layer as a tar: owned by root, dated 1970, in fixed order; its digest depends on contents only."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        inside = [*image.files, *image.links]
        folders = {str(parent) for path in inside for parent in Path(path).parents if str(parent) != "."}
        for folder in sorted({*folders, "tmp", "etc"}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        for path, target in sorted(image.links.items()):
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
        for path, source in sorted(image.files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = source.stat().st_size, 0o755
            with source.open("rb") as content:
                archive.addfile(entry, content)
        accounts = {"etc/passwd": b"root:x:0:0:root:/:/bin/sh\nuser:x:65532:65532:user:/tmp:/bin/sh\n"}
        for path, text in accounts.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text), 0o644
            archive.addfile(entry, io.BytesIO(text))
    return buffer.getvalue()


def _blob(folder: Path, content: bytes, media: str) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    (folder / digest).write_bytes(content)
    return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _architecture() -> str:
    machine = run(["uname", "-m"]).strip()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
