"""Who works in an output folder and what has been published there: numbered entries, each created once and for ever.

ledger/00000001.json, 00000002.json, … An entry is created exclusively under the number after the last, so of two who
want to be next, on whatever nodes, the storage tells one no. That makes a stale attempt harmless however late it wakes:
what it would publish is an entry as well, and its number is taken.

| kind       | says                                                                 | beside               |
| ---------- | -------------------------------------------------------------------- | -------------------- |
| claim      | this attempt works here from now on; its number is its fencing token | attempt, pod, run    |
| checkpoint | the checkpoint with this name is whole                               | claim, name          |
| result     | the stage is complete; a claim follows only if its files are gone    | claim, result, moves |

Locally an entry is a hard link to a finished file (exclusive and never half-written, on NFS as well); where a file
system has no links it is created with O_EXCL. In an object store it is a conditional PUT (If-None-Match: *).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from distillstages.common.exit import Fault

FOLDER: Final = "ledger"
_TRIES: Final = 100
_HALF_WRITTEN_SECONDS: Final = 2.0


class Store(Protocol):
    """What a ledger needs of the folder it lies in."""

    def read(self, path: str) -> bytes | None: ...
    def list(self, path: str = "") -> list[str]: ...
    def create(self, path: str, data: bytes) -> bool: ...


@dataclass(frozen=True)
class Entry:
    """One entry. `claim`: the number of the claim under which it was made (its own for a claim, 0 for a broken one)."""

    number: int
    document: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """claim, checkpoint, result; "" for one whose writer died while it wrote."""
        return str(self.document.get("kind", ""))

    @property
    def claim(self) -> int:
        value = self.number if self.kind == "claim" else self.document.get("claim")
        return value if isinstance(value, int) else 0


class Ledger:
    """The ledger of one output folder. Entries never change, so each is read once."""

    def __init__(self, store: Store, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._store = store
        self._sleep = sleep
        self._known: dict[int, Entry] = {}

    def last(self) -> Entry | None:
        """The newest entry that says something, None when there is none."""
        numbers = self._numbers()
        return next((entry for n in reversed(numbers) if (entry := self._read(n)).kind), None)

    def entries(self) -> list[Entry]:
        """All of them, oldest first."""
        return [entry for n in self._numbers() if (entry := self._read(n)).kind]

    def entry(self, number: int) -> Entry:
        """One entry."""
        return self._read(number)

    def append(self, decide: Callable[[Entry | None], Mapping[str, Any]]) -> Entry:
        """Add the entry that `decide` makes of the newest one; it is asked anew, and may raise, each time that someone
        else was faster. Raises Fault when that never ends."""
        for _ in range(_TRIES):
            numbers = self._numbers()
            newest = next((entry for n in reversed(numbers) if (entry := self._read(n)).kind), None)
            number = (numbers[-1] if numbers else 0) + 1
            document = {**decide(newest), "id": uuid.uuid4().hex}
            data = json.dumps(document, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace") + b"\n"
            # Told no, it may still be ours: an answer of the storage was lost and the request repeated.
            if self._store.create(_path(number), data) or self._store.read(_path(number)) == data:
                return self._known.setdefault(number, Entry(number, json.loads(data)))
            # A client that caches the folder's listing sees the other's entry by its name before it is listed.
            self._read(number)
        raise Fault(f"{FOLDER}: {_TRIES} times in a row another process was faster to add an entry")

    def _numbers(self) -> list[int]:
        listed = {int(name[:-5]) for name in self._store.list(FOLDER) if name.endswith(".json") and name[:-5].isdigit()}
        return sorted(listed | self._known.keys())

    def _read(self, number: int) -> Entry:
        if number in self._known:
            return self._known[number]
        waited = 0.0
        while True:
            data = self._store.read(_path(number))
            try:
                document = json.loads(data or b"")
                assert isinstance(document, dict)
                break
            except (ValueError, AssertionError):
                if waited >= _HALF_WRITTEN_SECONDS:
                    document = {}
                    break
                self._sleep(0.1)
                waited += 0.1
        return self._known.setdefault(number, Entry(number, document))


def _path(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"
