"""hf:// names in a mirror: where they are read, and that whoever reads them there is told what is missing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import fsspec
import pytest

from distillstages.common import hub, mirror
from distillstages.common.exit import DataFault, Temporary
from tests.stages.fake_hub import SHA


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An object store in memory that is the mirror s3://bucket/hub."""
    made = fsspec.filesystem("memory")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda uri: (made, "/" + uri.removeprefix("s3://")))
    monkeypatch.setenv(mirror.VARIABLE, "s3://bucket/hub")
    root = "/bucket/hub/datasets--owner--sums"
    made.pipe_file(f"{root}/refs/refs/pr/1", SHA.encode())
    made.pipe_file(f"{root}/refs/gone", b"f" * 40)
    made.pipe_file(f"{root}/snapshots/{SHA}/data/train.jsonl", b'{"question": "1+1=?", "answer": "2"}\n')
    yield made
    made.rm("/bucket", recursive=True)


def test_a_name_is_read_at_its_commit_and_what_is_not_of_the_hub_where_it_is(store: Any) -> None:
    snapshot = f"s3://bucket/hub/datasets--owner--sums/snapshots/{SHA}"
    assert hub.located("hf://datasets/owner/sums/data/train.jsonl", SHA) == f"{snapshot}/data/train.jsonl"
    assert hub.located("hf://datasets/owner/sums?config=main", SHA) == snapshot
    assert hub.located("hf://datasets/owner/sums@refs%2Fpr%2F1", None) == snapshot
    assert hub.located("file:///a.jsonl", "sha256:1") == "file:///a.jsonl"


@pytest.mark.parametrize("revision", ["main", "gone", "f" * 40])
def test_a_revision_that_the_mirror_lacks_is_named_with_the_command_that_brings_it(store: Any, revision: str) -> None:
    said = f"hf download owner/sums --repo-type dataset --revision {revision} --cache-dir"
    with pytest.raises(DataFault, match=said) as caught:
        hub.pin("hf://datasets/owner/sums", revision)
    assert caught.value.message.startswith("hf://datasets/owner/sums: the mirror s3://bucket/hub has no dataset")


def test_a_repository_as_a_whole_is_copied_out_of_an_object_store(store: Any, tmp_path: Path) -> None:
    where = hub.located("hf://datasets/owner/sums", SHA)
    copy = mirror.local_copy(where)
    assert copy.parent == tmp_path
    assert [str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()] == ["data/train.jsonl"]
    assert mirror.local_copy(where) == copy


def test_a_store_that_is_away_is_waited_for(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(path: str) -> bytes:
        raise ConnectionError("no route")

    monkeypatch.setattr(store, "cat_file", away)
    with pytest.raises(Temporary, match="in s3://bucket/hub, revision main: the hub cannot be reached"):
        hub.pin("hf://datasets/owner/sums", "main")


def test_a_server_takes_the_place_of_the_hub_for_every_library() -> None:
    assert mirror.environment(None) == {}
    assert mirror.environment("https://hub.corp.example/hf/") == {
        "HF_ENDPOINT": "https://hub.corp.example/hf",
        "HF_HUB_DISABLE_XET": "1",
    }
    assert mirror.environment("file:///mnt/distillrun/hub/")[mirror.VARIABLE] == "file:///mnt/distillrun/hub"
