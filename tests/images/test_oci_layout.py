"""Taking images out of an OCI layout: what others still use stays."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import oci_layout


def blob(layout: Path, content: bytes) -> str:
    value = hashlib.sha256(content).hexdigest()
    folder = layout / "blobs" / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / value).write_bytes(content)
    return f"sha256:{value}"


def image(layout: Path, name: str, *layers: bytes) -> dict[str, object]:
    """Write an image's blobs; its entry of index.json is returned."""
    manifest = {
        "config": {"digest": blob(layout, f"config of {name}".encode())},
        "layers": [{"digest": blob(layout, layer)} for layer in layers],
    }
    digest = blob(layout, json.dumps(manifest).encode())
    return {"digest": digest, "annotations": {oci_layout.REFERENCE: name}}


def test_a_layout_that_does_not_exist_holds_no_images(tmp_path: Path) -> None:
    assert oci_layout.references(tmp_path / "nowhere") == []


def test_a_removed_image_takes_its_own_layers_along_and_leaves_the_shared_ones(tmp_path: Path) -> None:
    entries = [image(tmp_path, "a:1", b"torch", b"old code"), image(tmp_path, "b:1", b"torch", b"other code")]
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    oci_layout.remove(tmp_path, {"a:1"})
    assert oci_layout.references(tmp_path) == ["b:1"]
    left = {path.read_bytes() for path in (tmp_path / "blobs").glob("*/*")}
    assert {b"torch", b"other code"} <= left
    assert b"old code" not in left
    assert len(left) == 4, "two layers, a config and a manifest"


def test_removing_nothing_keeps_everything(tmp_path: Path) -> None:
    entries = [image(tmp_path, "a:1", b"torch")]
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    oci_layout.remove(tmp_path, set())
    assert oci_layout.references(tmp_path) == ["a:1"]
    assert len(list((tmp_path / "blobs").glob("*/*"))) == 3
