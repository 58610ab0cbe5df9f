"""A published dataset of traces, validated and written as the run's own: nobody is asked, and no answer is checked.

Every row ends in dataset/ or, with a reason, in rejected/; none is shortened. Rows are streamed, and the same rows give
the same bytes, so a killed conversion is simply begun again.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from distillstages.common import reasons, rowtext, sources, tracerows
from distillstages.common.artifacts import PARTIAL
from distillstages.common.exit import DataFault, Terminated
from distillstages.common.files import storage_errors
from distillstages.common.progress import Progress
from distillstages.common.tracerows import TraceRow
from distillstages.common.worker import Context
from distillstages.curate import dataset, pages
from distillstages.curate.card import card_of_published
from distillstages.curate.funnel import Funnel, by_frequency, gauge
from distillstages.curate.screening import benchmarks_of

_log = logging.getLogger("distillstages.curate")
_SAMPLED: Final = 8
_EVERY_ROWS: Final = 256
_CHARACTERS_A_TOKEN: Final = 4
"""As where a teacher counts no tokens (records.length_of): the student's tokenizer is not here."""

Row = dict[str, Any]


class Conversion:
    """One run of the curate stage over a published dataset."""

    def __init__(self, context: Context) -> None:
        assert context.config.curate is not None
        assert context.config.curate.dataset is not None
        self.context = context
        self.dataset = context.config.curate.dataset
        self.clean = context.config.curate.decontaminate
        self.tally: Counter[str | None] = Counter()
        self.samples: Counter[str] = Counter()
        self.seen: set[bytes] = set()
        self.systems = 0
        self.characters = 0
        self.funnel = Funnel()
        self.shown = {True: Shown(context.config.seed), False: Shown(context.config.seed)}

    def run(self) -> dict[str, Any]:
        """Returns the headline numbers, after publishing. Raises StageError."""
        output = self.context.output
        sources.check_unchanged(self.dataset)
        self.benchmarks = benchmarks_of(self.clean)
        parent = output.folder(PARTIAL) if output.is_local else None
        with storage_errors(output.url(PARTIAL)), tempfile.TemporaryDirectory(prefix="build-", dir=parent) as name:
            build = Path(name)
            self._write(build)
            self._close_funnel()
            numbers = self._numbers()
            self._write_pages(build, numbers)
            output.check_claim()
            output.install(build / "rejected.parquet", "rejected/part-00000.parquet")
            for page in pages.NAMES:
                output.install(build / page, page)
            if not numbers["accepted"]:
                for shown in (*pages.NAMES, "rejected/part-00000.parquet"):
                    output.show(shown)
                raise self._nothing_accepted(numbers)
            output.install(build / "dataset.parquet", "dataset/part-00000.parquet")
        details = {
            "dataset": self.dataset.model_dump(include={"uri", "revision", "split", "unchecked"}),
            "systemPromptsNotUsed": self.systems,
            "mirror": self.context.config.mirror,
        }
        outputs = {"dataset": "dataset/", "rejected": "rejected/", **pages.OUTPUTS}
        return dict(output.publish(numbers, outputs, details=details).numbers)

    def _write(self, build: Path) -> None:
        take = self.dataset.take
        with (
            dataset.Writer(build / "dataset.parquet", dataset.COLUMNS) as good,
            dataset.Writer(build / "rejected.parquet", dataset.REJECTED_COLUMNS) as bad,
            Progress(self.context.metrics, unit="rows", total=take or 0) as progress,
        ):
            number = 0
            for number, (where, line, row) in enumerate(itertools.islice(sources.rows(self.dataset), take), 1):
                if self.context.stopping.is_set():
                    raise Terminated("asked to stop; nothing is lost, the next attempt converts the dataset anew")
                place = f"{where} row {line}"
                if number == 1:
                    rowtext.missing(row, place, tracerows.columns(self.dataset.fields), least=1)
                converted = self._convert(row, place)
                (bad if "reason" in converted else good).add(converted)
                self.tally[converted.get("reason")] += 1
                if "reason" not in converted:
                    self.characters += sum(len(converted[part]) for part in ("question", "thinking", "response"))
                self.shown["reason" not in converted].offer(number, converted)
                if number % _EVERY_ROWS == 0:
                    self._show(progress, number, take or number)
            self._show(progress, number, number)
        if number == 0:
            raise sources.no_rows(self.dataset)

    def _convert(self, row: Mapping[str, Any], place: str) -> Row:
        """The row of the dataset, or of `rejected` with reason and detail."""
        try:
            found = tracerows.read(self.dataset.fields, row, place)
            self._only_once(found, place)
            self._only_ours(found, place)
        except DataFault as error:
            whole = json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "replace").decode()
            empty = {"question": "", "reference": "", "thinking": "", "sample": 0, "domain": ""}
            refused = {"id": place, "source": self.dataset.name, "response": whole}
            return {**empty, **refused, "reason": error.reason, "detail": error.message}
        key = sources.key_of(self.dataset.name, found.question)
        self.samples[key] += 1
        self.systems += found.has_system
        return {
            "id": found.id or key,
            "source": self.dataset.name,
            "question": found.question,
            "reference": found.reference,
            "thinking": found.trace.thinking,
            "response": found.trace.response,
            "sample": self.samples[key] - 1,
            "domain": "",
        }

    def _only_once(self, found: TraceRow, place: str) -> None:
        digest = hashlib.sha256("\0".join((found.question, *found.trace)).encode()).digest()[:16]
        if digest in self.seen:
            raise DataFault(f"{place}: the same question and trace stand in an earlier row", reason=reasons.DUPLICATE)
        self.seen.add(digest)

    def _only_ours(self, found: TraceRow, place: str) -> None:
        overlap = self.benchmarks.overlap(found.question)
        if overlap:
            raise DataFault(f"{place}: {overlap.benchmark} asks: {overlap.words}", reason=reasons.CONTAMINATED)

    def _show(self, progress: Progress, done: int, total: int) -> None:
        accepted, rejected = gauge(self.context.metrics, self.tally)
        progress.update(done, total=total, accepted=accepted, rejected=rejected)

    def _close_funnel(self) -> None:
        """The steps that every row went through, from the counts by reason."""
        left = self.tally.total()
        screened = {"deduplicate": reasons.DUPLICATE, "decontaminate": reasons.CONTAMINATED}
        broken = {r: n for r, n in self.tally.items() if r is not None and r not in screened.values()}
        left = self.funnel.add("read", "rows", left, broken).left
        for step, reason in screened.items():
            if step != "decontaminate" or self.clean.against:
                left = self.funnel.add(step, "rows", left, {reason: self.tally[reason]}).left
        for line in self.funnel.fields():
            _log.info("funnel", extra={"fields": line})

    def _numbers(self) -> dict[str, Any]:
        by_reason = {str(reason): number for reason, number in self.tally.items() if reason is not None}
        tokens = self.characters // _CHARACTERS_A_TOKEN
        return {
            "questions": len(self.samples),
            "rows": self.tally.total(),
            "accepted": self.tally[None],
            "rejected": sum(by_reason.values()),
            "rejectedByReason": by_frequency(by_reason),
            "duplicates": self.funnel.removed(reasons.DUPLICATE),
            "contaminated": self.funnel.removed(reasons.CONTAMINATED),
            "funnel": self.funnel.numbers(),
            **({"datasetTokens": tokens} if tokens else {}),
        }

    def _write_pages(self, build: Path, numbers: dict[str, Any]) -> None:
        config = self.context.config
        assert config.curate is not None
        tokens = numbers.get("datasetTokens", 0)
        summary = [
            ("dataset", f"{self.dataset.uri}, split {self.dataset.split}"),
            dataset.revision_line(self.dataset),
            *((name, str(numbers[name])) for name in ("rows", "questions", "accepted", "rejected")),
            *((f"rejected: {reason}", str(number)) for reason, number in numbers["rejectedByReason"].items()),
            ("rows whose own system prompt is not used", str(self.systems)),
            ("tokens, counted as a quarter of the characters", str(tokens)),
        ]
        counts = {
            "Traces": numbers["accepted"],
            "Tokens, counted as a quarter of the characters": tokens,
            "Rows whose own system prompt is not used": self.systems,
        }
        title = f"Traces of {config.run.name}"
        shown = [*self.shown[True].rows(), *self.shown[False].rows()]
        text = card_of_published(title, config.curate, config.seed, counts, self.funnel)
        pages.write(build, title, summary, shown, self.funnel, text)

    def _nothing_accepted(self, numbers: dict[str, Any]) -> DataFault:
        why = ", ".join(f"{reason} {number}" for reason, number in numbers["rejectedByReason"].items())
        return DataFault(
            f"none of the {numbers['rows']} rows of {self.dataset.uri} can be used ({why}); see "
            f"{self.context.output.url('rejected/')} and check dataset.fields",
            reason=reasons.NOTHING_ACCEPTED,
        )


class Shown:
    """A few rows of a stream of unknown length, chosen by a hash of the seed and their number."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._heap: list[tuple[int, int, Row]] = []

    def offer(self, number: int, row: Row) -> None:
        """The next row of the stream; numbers differ."""
        rank = int.from_bytes(hashlib.sha256(f"{self._seed}\0{number}".encode()).digest()[:8])
        entry = (-rank, number, row)
        if len(self._heap) < _SAMPLED:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def rows(self) -> list[Row]:
        """The chosen rows, in the stream's order."""
        return [row for _, _, row in sorted(self._heap, key=lambda entry: entry[1])]
