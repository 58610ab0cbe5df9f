"""The content identity of files: the same for the same content, another for any other."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from distillstages.common import identity
from distillstages.common.exit import ConfigFault, DataFault

LOCAL = fsspec.filesystem("file")


def of(*paths: Path, whole_bytes: int = identity.WHOLE_BYTES) -> str:
    return identity.of_files(LOCAL, [str(path) for path in paths], whole_bytes=whole_bytes)


def test_names_sizes_and_contents_count_and_the_place_does_not(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_bytes(b"1" * 100)
        (tmp_path / folder / "y").write_bytes(b"2" * 100)
    one, other = [[tmp_path / folder / name for name in "xy"] for folder in "ab"]
    first = of(*one)
    assert identity.is_identity(first)
    assert of(*reversed(other)) == first
    other[1].write_bytes(b"2" * 99 + b"3")
    assert of(*other) != first
    other[1].write_bytes(b"2" * 100)
    assert of(*other) == first
    other[1].rename(tmp_path / "b/z")
    assert of(other[0], tmp_path / "b/z") != first


@pytest.mark.parametrize("change", ["first byte", "last byte", "truncated", "longer"])
def test_of_big_files_the_ends_and_the_size_are_always_seen(tmp_path: Path, change: str) -> None:
    path = tmp_path / "shard"
    data = bytearray(5 << 20)
    path.write_bytes(data)
    before = of(path, whole_bytes=1 << 20)
    if change == "first byte":
        data[0] = 1
    elif change == "last byte":
        data[-1] = 1
    elif change == "truncated":
        data.pop()
    else:
        data.append(0)
    path.write_bytes(data)
    assert of(path, whole_bytes=1 << 20) != before


def test_files_that_changed_are_refused_and_those_that_did_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("1")
    was = of(path)
    identity.check("source 'x'", path.as_uri(), was, LOCAL, [str(path)])
    identity.check("source 'x'", path.as_uri(), None, LOCAL, [str(path)])
    path.write_text("2")
    with pytest.raises(DataFault, match=r"source 'x': file://.* has changed since it was resolved") as caught:
        identity.check("source 'x'", path.as_uri(), was, LOCAL, [str(path)])
    assert caught.value.reason == "InputChanged"


def test_a_branch_of_plain_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault, match="has no revision 'main'"):
        identity.check("student", tmp_path.as_uri(), "main", LOCAL, [])
