"""Every answer on disk before anything counts it.

Append-only JSON lines in `.partial/answers-<claim>-<n>.jsonl` (of a model besides the teacher
`answers.<model>.<claim>-<n>.jsonl`), one file a process, each answer (and later its verdict) one line. `append` returns
after fsync; what waits meanwhile is written together, so one fsync serves many answers. A third kind of line reserves
requests of a day's limit (pace.py), and the first line says which run writes and how the model is asked, by which
another curation knows whether these answers are its own, too (recorded.py). A process that is killed loses what had not
been written, which is exactly what was in flight. A torn last line is skipped when read; nobody appends to another
process's file.

In an object store the same lines are objects `answers-<claim>-<n>-<part>.jsonl`, one a group; a scratch file on the
local disk serves the reads. In memory: one small entry an answer, never the texts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from distillstages.common.artifacts import PARTIAL, Output
from distillstages.common.exit import Fault, StageError, Temporary
from distillstages.common.files import make_folder, storage_fault
from distillstages.curate.records import Answer

_log = logging.getLogger("distillstages.journal")
_GROUP: Final = 1000
_PUT_TRIES: Final = 4

Key = tuple[str, int]
Judged = tuple[str | None, str, str]
"""A verdict: reason (None: accepted), detail, and what identifies its judge ("": unknown)."""


@dataclass(slots=True)
class Entry:
    """Where an answer lies, and the verdict on it: None while unknown, else (reason or None, detail)."""

    file: int
    offset: int
    length: int
    verdict: tuple[str | None, str] | None = None


class Journal:
    """All answers of a curation, of this process and of those before it. Open with `Journal.open`."""

    def __init__(self, output: Output, model: str = "") -> None:
        self._output = output
        # No model's name holds a dot, so no prefix is the begin of another one.
        self._prefix = f"answers.{model}." if model else "answers-"
        self._files: list[int] = []
        self._queue: asyncio.Queue[tuple[bytes, asyncio.Future[int]] | None] = asyncio.Queue()
        self._broken: StageError | None = None
        self._writer: asyncio.Task[None] | None = None
        self._own = -1
        self._size = 0
        self._part = 0
        self._stem = ""
        self.entries: dict[Key, Entry] = {}
        self.successes = 0
        self.reused = 0
        """Answers that were taken over from other curations."""
        self.requests = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.paid_prompt_tokens = 0
        self.paid_completion_tokens = 0
        """Tokens of answers that this run has asked for, its earlier attempts included: another run with the same
        fingerprint may have recorded the others."""
        self._of_other_run = False
        self.skipped_lines = 0
        self.continued = False
        """Whether other processes have worked here before."""
        self.reserved: list[tuple[float, int]] = []
        """What they reserved of the days' limits: until when (seconds since 1970), requests."""

    @classmethod
    async def open(cls, output: Output, model: str = "", *, asking: Sequence[str] = ()) -> Journal:
        """Read what is there and be ready to append; `asking` identifies how the model is asked (request.py), for
        other curations; `model` names whose answers, "" the teacher's. Raises StageError."""
        journal = cls(output, model)
        await asyncio.to_thread(journal._load)
        journal._writer = asyncio.create_task(journal._write_forever(), name="journal")
        await journal._append({"kind": "opened", "run": output.run, "asking": list(asking)})
        return journal

    async def append(self, answer: Answer) -> None:
        """Record an answer; on return it is on disk. Raises StageError (DiskFull) when it could not be written."""
        offset, length = await self._append(answer.as_dict())
        self._enter(answer, Entry(self._own, offset, length))

    async def take_over(self, answers: Sequence[Answer], verdicts: Mapping[Key, Judged]) -> None:
        """Record answers to keys that have none, and verdicts on them or on earlier ones, which another curation has
        recorded; all that is given is written together. Raises StageError."""
        places = await asyncio.gather(*(self._append({**each.as_dict(), "reused": True}) for each in answers))
        for answer, (offset, length) in zip(answers, places, strict=True):
            self._enter(answer, Entry(self._own, offset, length), reused=True)
        await asyncio.gather(*(self.judge(key, *verdict) for key, verdict in verdicts.items()))

    async def judge(self, key: Key, reason: str | None, detail: str, judging: str = "") -> None:
        """Record the verdict on an answer; `judging` identifies the judge, for other curations."""
        verdict = {"reason": reason, "detail": detail, "judging": judging}
        await self._append({"kind": "verdict", "key": key[0], "sample": key[1], **verdict})
        self.entries[key].verdict = (reason, detail)

    async def reserve(self, until: float, requests: int) -> None:
        """Record requests that are sent until then, before they are (negative: given back). Raises StageError."""
        await self._append({"kind": "reserved", "until": until, "requests": requests})

    def read(self, key: Key) -> Answer:
        """The recorded answer. Raises KeyError."""
        entry = self.entries[key]
        data = os.pread(self._files[entry.file], entry.length, entry.offset)
        return Answer.from_dict(json.loads(data))

    async def close(self) -> None:
        """Write what waits and end."""
        if self._writer is not None:
            self._queue.put_nowait(None)
            await self._writer
            self._writer = None
        for descriptor in self._files:
            os.close(descriptor)
        self._files.clear()

    async def _append(self, document: dict[str, Any]) -> tuple[int, int]:
        if self._broken is not None:
            raise self._broken
        line = json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((line, future))
        return await future, len(line)

    def _enter(self, answer: Answer, entry: Entry, *, reused: bool = False) -> None:
        """The first answer to a question counts: files are read in the order of their names."""
        key = (answer.key, answer.sample)
        self.requests += answer.requests
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        if not (reused or self._of_other_run):
            self.paid_prompt_tokens += answer.prompt_tokens
            self.paid_completion_tokens += answer.completion_tokens
        if answer.error is None:
            self.successes += 1
        self.reused += reused and key not in self.entries
        self.entries.setdefault(key, entry)

    async def _write_forever(self) -> None:
        ending = False
        while not ending:
            group = [await self._queue.get()]
            while len(group) < _GROUP and not self._queue.empty():
                group.append(self._queue.get_nowait())
            ending = None in group
            lines = [item for item in group if item is not None]
            if not lines:
                continue
            try:
                if self._broken is not None:
                    raise self._broken
                start = await asyncio.to_thread(self._commit, b"".join(line for line, _ in lines))
            except StageError as error:
                self._broken = error
                for _, future in lines:
                    if not future.done():
                        future.set_exception(error)
                continue
            for line, future in lines:
                if not future.done():
                    future.set_result(start)
                start += len(line)

    def _commit(self, data: bytes) -> int:
        """Append and fsync; returns the offset. Raises StageError, with the file as it was before."""
        start, descriptor = self._size, self._files[self._own]
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, start)
            raise storage_fault(error, self._output.url(f"{PARTIAL}/{self._stem}")) from error
        if not self._output.is_local:
            self._put(data)
        self._size = start + len(data)
        return start

    def _put(self, data: bytes) -> None:
        self._part += 1
        path = f"{PARTIAL}/{self._stem}-{self._part:06d}.jsonl"
        for attempt in range(1, _PUT_TRIES + 1):
            try:
                self._output.write(path, data)
                return
            except Exception as error:
                if attempt == _PUT_TRIES:
                    message = f"{self._output.url(path)}: the object store does not take it ({error})"
                    raise Temporary(message[:500]) from error

    def _load(self) -> None:
        names = [n for n in self._output.list(PARTIAL) if n.startswith(self._prefix) and n.endswith(".jsonl")]
        # The claim's number, which two runs' first attempts do not share; an attempt's where nobody has claimed.
        writer = self._output.token or self._output.attempt
        number = 1 + max([_number(n.removeprefix(self._prefix), writer) for n in names], default=0)
        self.continued = bool(names)
        self._stem = f"{self._prefix}{writer:06d}-{number:04d}"
        if self._output.is_local:
            folder = self._output.folder(PARTIAL)
            for name in names:
                self._scan(folder / name)
            self._create(folder)
        else:
            # Unlinked at once: only our descriptors keep it.
            with tempfile.TemporaryDirectory(prefix="distillrun-journal-") as scratch:
                replay = Path(scratch) / "replay.jsonl"
                with replay.open("wb") as file:
                    for name in names:
                        data = self._output.read(f"{PARTIAL}/{name}") or b""
                        file.write(data if data.endswith(b"\n") or not data else data + b"\n")
                self._scan(replay)
                self._create(Path(scratch))
        self._of_other_run = False
        if self.entries:
            _log.info(
                "continuing",
                extra={
                    "fields": {"answers": len(self.entries), "files": len(names), "skippedLines": self.skipped_lines}
                },
            )

    def _create(self, folder: Path) -> None:
        make_folder(folder)
        path = folder / f"{self._stem}.jsonl"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o664)
        except FileExistsError:
            raise Fault(f"{path} is there already: another process of this attempt has just started") from None
        except OSError as error:
            raise storage_fault(error, str(path)) from error
        self._files.append(descriptor)
        self._own = len(self._files) - 1

    def _scan(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        self._files.append(descriptor)
        index = len(self._files) - 1
        self._of_other_run = False
        for offset, line in _lines(path):
            try:
                document: dict[str, Any] = json.loads(line if line.endswith(b"\n") else b"{}")
                if document["kind"] == "answer":
                    entry = Entry(index, offset, len(line))
                    self._enter(Answer.from_dict(document), entry, reused=document.get("reused") is True)
                elif document["kind"] == "opened":
                    self._of_other_run = document["run"] not in ("", self._output.run)
                elif document["kind"] == "reserved":
                    self.reserved.append((float(document["until"]), int(document["requests"])))
                else:
                    entry = self.entries[document["key"], document["sample"]]
                    entry.verdict = entry.verdict or (document["reason"], document["detail"])
            except (ValueError, KeyError, TypeError):
                # A torn line of a process that was killed, or a verdict on one.
                self.skipped_lines += 1


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    offset = 0
    with path.open("rb") as file:
        for line in file:
            yield offset, line
            offset += len(line)


def _number(name: str, writer: int) -> int:
    """n of <writer>-<n>…; 0 for another's or a foreign name."""
    parts = name.removesuffix(".jsonl").split("-")
    try:
        return int(parts[1]) if int(parts[0]) == writer else 0
    except (IndexError, ValueError):
        return 0
