"""A model behind s3:// is copied once a pod, whole or not at all. The store is one in memory."""

from __future__ import annotations

import errno
import tempfile
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest

from distillstages.common.exit import DataFault, Temporary
from distillstages.common.modelcopy import local_copy


class Store:
    """A stand-in for an object store: four files, the calls counted; `error` is raised instead of the second file."""

    def __init__(self) -> None:
        self.files = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}", "notes.md": b"-"}
        self.fetched: list[str] = []
        self.error: Exception | None = None

    def ls(self, folder: str, detail: bool) -> list[dict[str, Any]]:
        return [{"name": f"{folder}/{name}", "type": "file"} for name in self.files] + [
            {"name": f"{folder}/checkpoint-10", "type": "directory"}
        ]

    def get_file(self, path: str, to: str) -> None:
        if self.error and self.fetched:
            raise self.error
        self.fetched.append(path)
        Path(to).write_bytes(self.files[path.rsplit("/", 1)[-1]])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda uri: (made, uri.removeprefix("s3://")))
    return made


def test_only_what_a_model_consists_of_is_copied(store: Store) -> None:
    folder = local_copy("student", "s3://bucket/m", None)

    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_eight_ranks_fetch_one_copy(store: Store) -> None:
    found: list[Path] = []
    ranks = [
        threading.Thread(target=lambda: found.append(local_copy("student", "s3://bucket/m", "r"))) for _ in "8" * 8
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()

    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(store.fetched) == 3


def test_another_revision_is_another_copy(store: Store) -> None:
    assert local_copy("student", "s3://bucket/m", "a") != local_copy("student", "s3://bucket/m", "b")


def test_a_copy_that_was_cut_off_is_not_taken_for_a_model(store: Store) -> None:
    store.error = ConnectionResetError("peer went away")
    with pytest.raises(Temporary, match="the storage cannot be reached"):
        local_copy("student", "s3://bucket/m", None)
    store.error = None

    folder = local_copy("student", "s3://bucket/m", None)

    assert len(list(folder.iterdir())) == 3


def test_a_full_disk_is_named_with_the_way_forward(store: Store) -> None:
    store.error = OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataFault, match="ephemeral-storage") as caught:
        local_copy("student", "s3://bucket/m", None)

    assert caught.value.reason == "DiskFull"


def test_a_place_without_a_model_is_named(store: Store) -> None:
    store.files.clear()

    with pytest.raises(DataFault, match="there is no model at s3://bucket/m") as caught:
        local_copy("model 'base'", "s3://bucket/m", None)

    assert caught.value.reason == "ModelNotFound"
