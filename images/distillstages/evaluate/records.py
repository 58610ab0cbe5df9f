"""One record an answer: appended to a journal as soon as it is graded, sorted into an artifact at the end.

The journal is what makes an evaluation continue: a record in it is never asked for again. Records are written through
to the kernel before progress counts them, so a killed process loses none; they are forced to the disk once a second, so
a machine that loses power loses at most the last second, and those are asked again.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from distillstages.common.files import make_folder, storage_errors

_SYNC_SECONDS: Final = 1.0

Key = tuple[str, int]
"""(key of the question, sample)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One answer and its grade. `key` names the question within its benchmark, `id` is the row's own name for it,
    `sample` counts from 0. `thinking` and `response` are the answer's two parts by the trace format; only the response
    is graded. `extracted` is the answer found in it. `reason` says why it is not correct (null when it is).
    `finish_reason` is vLLM's: "length" is a truncated answer; ours: "promptTooLong" (never asked). `tokens` generated.
    """

    key: str
    id: str
    sample: int
    question: str
    reference: str
    thinking: str
    response: str
    extracted: str | None
    correct: bool
    reason: str | None
    finish_reason: str
    tokens: int

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the artifact and the journal."""
        document = asdict(self)
        document["finishReason"] = document.pop("finish_reason")
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Record:
        """The inverse of `as_dict`. Raises ValueError."""
        try:
            given = dict(document)
            given["finish_reason"] = given.pop("finishReason")
            record = cls(**given)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from None
        if not isinstance(record.key, str) or not isinstance(record.sample, int):
            raise ValueError("not a record: key and sample expected")
        return record


def encode(record: Record) -> bytes:
    """One line of JSON."""
    return json.dumps(record.as_dict(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


class Journal:
    """A JSON Lines file of records. Thread-safe. A line cut off by a kill is dropped when the file is opened, and so is
    a line that is no record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._synced_at = time.monotonic()
        with storage_errors(str(path)):
            make_folder(path.parent)
            self.records = self._recover()
            self._file = path.open("ab")

    def _recover(self) -> dict[Key, Record]:
        found: dict[Key, Record] = {}
        if not self.path.exists():
            return found
        data = self.path.read_bytes()
        whole, _, cut = data.rpartition(b"\n")
        if cut:
            os.truncate(self.path, len(data) - len(cut))
        for line in whole.split(b"\n"):
            try:
                record = Record.from_dict(json.loads(line))
            except ValueError:
                continue
            found[record.key, record.sample] = record
        return found

    def append(self, record: Record) -> None:
        """Keep a record. Raises DataFault DiskFull and the like."""
        with self._lock, storage_errors(str(self.path)):
            self._file.write(encode(record))
            self._file.flush()
            self.records[record.key, record.sample] = record
            if time.monotonic() - self._synced_at >= _SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced_at = time.monotonic()

    def close(self) -> None:
        """Force everything to the disk."""
        with self._lock, storage_errors(str(self.path)):
            if not self._file.closed:
                os.fsync(self._file.fileno())
                self._file.close()


def artifact(records: Iterable[Record]) -> bytes:
    """The records as JSON Lines, in the order given."""
    return b"".join(map(encode, records))
