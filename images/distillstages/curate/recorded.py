"""What other curations have been answered already, taken over instead of asked and paid for again.

A curation lies under the fingerprint of all that determines its dataset; an answer depends on less, the request. So
each is recorded with its request's identity, and the first line of every journal says how its model is asked. Before a
curation asks it looks at the others of its namespace and storage, finished, failed or at work, and copies the answers
to its own requests from journals whose first line says the same as its own. It copies, since the others' folders may be
removed at any time, and only reads there. Whatever is wrong with one of them (torn, unreadable, gone) costs its
answers and nothing else.

Answers stream from journal to journal, a few MiB at a time; in memory is one small entry for each that is missing.
Errors of the model are no answers: those questions are asked again.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Final

import distillstages
from distillstages.common.artifacts import PARTIAL, Output
from distillstages.common.blocks import ReasoningDelimiters, Verify
from distillstages.common.codetests import UnitTests
from distillstages.common.sources import Question
from distillstages.curate.journal import Journal, Judged, Key
from distillstages.curate.records import Answer

_log = logging.getLogger("distillstages.recorded")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_FILE: Final = re.compile(r"(answers(?:-|\.[^.]+\.)\d+-\d+)(?:-\d+)?\.jsonl")
"""A file of a journal; the group is the same for all parts of one."""
_HEAD: Final = b'{"kind":"answer","request":"'
_REQUEST: Final = slice(len(_HEAD), len(_HEAD) + 32)
_LONGEST_LINE: Final = 64 << 20
_BATCH_BYTES: Final = 8 << 20
_BATCH_LINES: Final = 1000
_LOOK_BYTES: Final = 256 << 20
"""So much is read before somebody may ask us to stop."""
_IN_VAIN_BYTES: Final = 16 << 30
"""So much read in a row without an answer to be had, and the rest is asked."""
_AT_ONCE: Final = 16


def judging(verify: Verify, question: Question, marks: ReasoningDelimiters | None = None) -> str:
    """Identifies what determines the verdict on an answer: the settings, the delimiters of its reasoning, the reference
    or the tests, and the code that judges."""
    settings = verify.model_dump(mode="json", exclude={"wrong"})
    delimiters = marks.model_dump(mode="json") if marks else None
    return _digest([_judge(), settings, delimiters, question.reference, question.choices, _tests(question)])


def _tests(question: Question) -> list[str] | None:
    if not isinstance(question.tests, UnitTests):
        return None
    tests = question.tests
    packed = [hashlib.sha256(cases).hexdigest() for cases in tests.packed]
    return [tests.entry_point, tests.header, str(tests.output_bytes), *packed]


@functools.cache
def _judge() -> str:
    """Identifies the code that judges. No number that is raised by hand: judging again is cheap, a verdict that does
    not hold any more is not."""
    package = Path(distillstages.__file__).parent
    files = [path for folder in ("common", "curate", "sandbox") for path in sorted((package / folder).rglob("*.py"))]
    return _digest(
        [metadata.version("math-verify"), *(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)]
    )


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


async def take_over(
    journal: Journal,
    output: Output,
    asking: str,
    requests: Mapping[Key, str],
    *,
    judging: Callable[[Key], str],
    stopping: asyncio.Event,
    took: Callable[[int], None] = lambda answers: None,
) -> None:
    """Record in the journal what other curations that ask alike (`asking`) have been answered to those of the requests
    (their identities, by key) that it has no answer to, and their verdicts where they are of the same judge. Ends early
    once `stopping` is set; what is recorded then, or when the process is killed, stays, and the next one goes on with
    the rest. `took` is told how many answers were recorded. Raises StageError when the journal cannot be written."""
    missing = {key: request for key, request in requests.items() if key not in journal.entries}
    if not missing:
        return
    others = _Others(output, asking, missing, judging)
    batches = others.batches()
    answers = verdicts = 0
    while not stopping.is_set() and (batch := await asyncio.to_thread(next, batches, None)) is not None:
        await journal.take_over(batch.answers, batch.verdicts)
        answers += len(batch.answers)
        verdicts += len(batch.verdicts)
        took(len(batch.answers))
    if others.found["curations"]:
        _log.info(
            "looked for recorded answers in other curations",
            extra={"fields": {"reusedAnswers": answers, "reusedVerdicts": verdicts, **others.found}},
        )


@dataclass
class _Batch:
    """What is recorded together."""

    answers: list[Answer] = field(default_factory=list)
    verdicts: dict[Key, Judged] = field(default_factory=dict)
    size: int = 0
    """Bytes of it, as they were read."""
    read: int = 0
    """Bytes that were read for it."""

    @property
    def is_full(self) -> bool:
        """Whether it is time to write."""
        many = max(len(self.answers), len(self.verdicts)) >= _BATCH_LINES
        return many or self.size >= _BATCH_BYTES or self.read >= _LOOK_BYTES


class _Others:
    """The journals of other curations, read once for the answers that are `missing`. Nothing is raised for them."""

    def __init__(self, output: Output, asking: str, missing: Mapping[Key, str], judging: Callable[[Key], str]) -> None:
        self._output = output
        self._asking = asking
        self._judging = judging
        self._missing: dict[str, list[Key]] = {}
        for key, request in missing.items():
            self._missing.setdefault(request, []).append(key)
        self._batch = _Batch()
        self._in_vain = 0
        self._lock = threading.Lock()
        self.found: dict[str, Any] = {"curations": 0, "askedAlike": 0, "unreadable": 0}

    def batches(self) -> Iterator[_Batch]:
        """What they have been answered and have judged, in the order of their fingerprints; now and then nothing."""
        for curation, names in self._alike():
            taken: dict[Key, Key] = {}
            for name in names:
                try:
                    with _open(curation, name) as file:
                        while line := file.readline(_LONGEST_LINE):
                            self._see(line, taken)
                            if self._batch.is_full:
                                yield self._flush()
                except Exception as error:
                    self._cannot_read(curation, error)
            if self._batch.size:
                yield self._flush()
            if not self._missing:
                return
            if self._in_vain > _IN_VAIN_BYTES:
                _log.warning("%d bytes of other curations' answers were read in vain; the rest is asked", self._in_vain)
                return

    def _flush(self) -> _Batch:
        batch, self._batch = self._batch, _Batch()
        return batch

    def _alike(self) -> list[tuple[Output, list[str]]]:
        """The curations beside ours that ask as we do, with the names of the files that count."""
        parent, _, own = self._output.uri.rstrip("/").rpartition("/")
        place = Output(parent, stage=self._output.stage, fingerprint="", attempt=0)
        try:
            names = sorted(name for name in place.folders() if name != own and _FINGERPRINT.fullmatch(name))
        except Exception as error:
            self._cannot_read(place, error)
            return []
        others = [Output(f"{parent}/{n}", stage=place.stage, fingerprint=n, attempt=0) for n in names]
        # Each takes a round trip or two, on network file systems as well.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            alike = [(each, files) for each, files in zip(others, pool.map(self._files, others), strict=True) if files]
        self.found |= {"curations": len(others), "askedAlike": len(alike)}
        return alike

    def _files(self, curation: Output) -> list[str]:
        """Names of the files of its journals that begin as ours. Of one in an object store only the first part says."""
        try:
            files = [found for name in curation.list(PARTIAL) if (found := _FILE.fullmatch(name))]
            journals = [[file[0] for file in parts] for _, parts in groupby(files, lambda file: file[1])]
            return [name for names in journals if self._is_asked_alike(curation, names[0]) for name in names]
        except Exception as error:
            self._cannot_read(curation, error)
            return []

    def _is_asked_alike(self, curation: Output, name: str) -> bool:
        with _open(curation, name) as file:
            first = file.readline(1 << 16)
        try:
            document = json.loads(first)
            return bool(document["kind"] == "opened" and self._asking in document["asking"])
        except (ValueError, KeyError, TypeError):
            return False  # torn, or of a version that did not say how it asks

    def _see(self, line: bytes, taken: dict[Key, Key]) -> None:
        self._in_vain += len(line)
        self._batch.read += len(line)
        # Most of what is not wanted is told by its first bytes.
        if line.startswith(_HEAD) and line[_REQUEST].decode("ascii", "replace") not in self._missing:
            return
        try:
            document = json.loads(line)
            if document["kind"] == "answer":
                self._take(Answer.from_dict(document), len(line), taken)
            elif document["kind"] == "verdict":
                self._believe(document, len(line), taken)
        except (ValueError, KeyError, TypeError):
            return  # a torn line: of a process that was killed, or of one that is at work on it

    def _take(self, answer: Answer, size: int, taken: dict[Key, Key]) -> None:
        """Its key is another one where the source is called otherwise there."""
        keys = [key for key in self._missing.get(answer.request, ()) if key[1] == answer.sample]
        if not keys or answer.error is not None or not _is_whole(answer):
            return
        key = answer.key, answer.sample
        ours = key if key in keys else keys[0]
        self._missing[answer.request].remove(ours)
        if not self._missing[answer.request]:
            del self._missing[answer.request]
        taken[key] = ours
        self._batch.answers.append(replace(answer, key=ours[0]))
        self._batch.size += size
        self._in_vain = 0

    def _believe(self, verdict: dict[str, Any], size: int, taken: dict[Key, Key]) -> None:
        # The first one counts, as it did there.
        ours = taken.pop((verdict["key"], verdict["sample"]), None)
        if ours is None:
            return
        reason, detail = verdict["reason"], verdict["detail"]
        if (
            verdict["judging"]
            and verdict["judging"] == self._judging(ours)
            and isinstance(reason, str | None)
            and isinstance(detail, str)
        ):
            self._batch.verdicts[ours] = (reason, detail, verdict["judging"])
            self._batch.size += size

    def _cannot_read(self, curation: Output, error: Exception) -> None:
        """One is told, all are counted: what one cannot read of thousands is often the same."""
        with self._lock:
            self.found["unreadable"] += 1
            self.found.setdefault("firstUnreadable", f"{curation.uri}: {error}"[:300])


def _open(curation: Output, name: str) -> IO[bytes]:
    path = f"{PARTIAL}/{name}"
    return curation.path(path).open("rb") if curation.is_local else io.BytesIO(curation.read(path) or b"")


def _is_whole(answer: Answer) -> bool:
    """Whether the fields are of their types; our own journal's are, by whoever wrote it."""
    texts = (answer.key, answer.content, answer.reasoning, answer.finish, answer.model, answer.request)
    counts = (answer.sample, answer.prompt_tokens, answer.completion_tokens, answer.requests)
    return all(isinstance(text, str) for text in texts) and all(type(count) is int for count in counts)
