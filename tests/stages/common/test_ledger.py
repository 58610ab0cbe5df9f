"""Numbered entries of which each is made once, whoever else wants to, and however late."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from distillstages.common.artifacts import Output
from distillstages.common.exit import Fault
from distillstages.common.ledger import Entry, Ledger


def store(folder: Path) -> Output:
    return Output(folder.as_uri(), stage="train", fingerprint="7e" * 32, attempt=1)


def note(text: str) -> Any:
    return lambda newest: {"kind": "note", "text": text}


def test_entries_are_read_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    ledger = Ledger(store(tmp_path))
    assert ledger.last() is None
    for text in "abc":
        ledger.append(note(text))

    other = Ledger(store(tmp_path))
    assert [entry.document["text"] for entry in other.entries()] == ["a", "b", "c"]
    assert [entry.number for entry in other.entries()] == [1, 2, 3]
    assert other.last() == other.entry(3)


@pytest.mark.parametrize("links", [True, False])
def test_of_many_who_add_at_once_each_gets_a_number_of_its_own(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def none(*_: Any) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", none)

    def add(number: int) -> int:
        ledger = Ledger(store(tmp_path))
        return max(ledger.append(note(f"{number}.{n}")).number for n in range(10))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(4)))

    entries = Ledger(store(tmp_path)).entries()
    assert [entry.number for entry in entries] == list(range(1, 41))
    assert len({entry.document["text"] for entry in entries}) == 40
    assert not list(tmp_path.glob("ledger/.*"))


def test_who_was_slower_decides_again_with_what_the_faster_one_has_made(tmp_path: Path) -> None:
    mine, other = Ledger(store(tmp_path)), Ledger(store(tmp_path))
    seen: list[Entry | None] = []

    def decide(newest: Entry | None) -> Mapping[str, Any]:
        seen.append(newest)
        if len(seen) == 1:
            other.append(note("faster"))
        return {"kind": "note", "text": "mine"}

    assert mine.append(decide).number == 2
    assert [entry and entry.document["text"] for entry in seen] == [None, "faster"]


def test_a_repeated_request_whose_first_answer_was_lost_is_ours_all_the_same(tmp_path: Path) -> None:
    class Lossy(Output):
        def create(self, path: str, data: bytes) -> bool:
            super().create(path, data)
            return super().create(path, data)

    lossy = Lossy(tmp_path.as_uri(), stage="train", fingerprint="7e" * 32, attempt=1)
    assert Ledger(lossy).append(note("once")).number == 1
    assert len(Ledger(store(tmp_path)).entries()) == 1


def test_an_entry_whose_writer_died_says_nothing_and_its_number_is_not_used_again(tmp_path: Path) -> None:
    Ledger(store(tmp_path)).append(note("a"))
    (tmp_path / "ledger/00000002.json").write_text('{"kind": "no')

    ledger = Ledger(store(tmp_path), sleep=lambda _: None)
    last = ledger.last()
    assert last is not None
    assert last.document["text"] == "a"
    assert ledger.append(note("b")).number == 3


def test_a_storage_that_always_says_no_is_a_fault_with_a_sentence(tmp_path: Path) -> None:
    class Stubborn(Output):
        def create(self, path: str, data: bytes) -> bool:
            return False

    stubborn = Stubborn(tmp_path.as_uri(), stage="train", fingerprint="7e" * 32, attempt=1)
    with pytest.raises(Fault, match="ledger: 100 times"):
        Ledger(stubborn, sleep=lambda _: None).append(note("a"))
