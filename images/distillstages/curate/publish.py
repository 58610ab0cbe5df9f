"""The artifact of a curation: what becomes of every answer, written in the order of the questions, and the numbers."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from distillstages.common import reasons
from distillstages.common.artifacts import PARTIAL
from distillstages.common.exit import DataFault
from distillstages.common.files import storage_errors
from distillstages.common.sources import Question
from distillstages.common.worker import Context
from distillstages.curate import dataset, difficulty, rewrite, selection
from distillstages.curate.card import card
from distillstages.curate.funnel import by_frequency
from distillstages.curate.htmlpage import page as pages_html
from distillstages.curate.journal import Journal
from distillstages.curate.pool import Pool
from distillstages.curate.records import Answer, length_of, trace_of
from distillstages.curate.selection import Judged

_log = logging.getLogger("distillstages.curate")
_SAMPLED_ACCEPTED: Final = 8
_SAMPLED_REJECTED: Final = 8
OUTPUTS: Final = {
    "dataset": "dataset/",
    "rejected": "rejected/",
    "filtered": "filtered/",
    "sample": "sample.md",
    "page": "sample.html",
    "card": "README.md",
    "funnel": "funnel.json",
}
PAGES: Final = ("sample.md", "sample.html", "README.md", "funnel.json")


class Publication:
    """Writes what a curation has recorded: `journals` by model, all answers of `pool`'s questions judged; `answered`
    are the questions that weaker models were asked about."""

    def __init__(self, context: Context, pool: Pool, journals: Mapping[str, Journal], answered: list[Question]) -> None:
        assert context.config.curate is not None
        assert context.config.curate.teacher is not None
        self.context = context
        self.config = context.config.curate
        self.teacher = context.config.curate.teacher
        self.output = context.output
        self.pool = pool
        self.funnel = pool.funnel
        self.journals = journals
        self.journal = journals[self.teacher.name]
        self.answered = answered

    def publish(self, paid: Mapping[str, Any]) -> dict[str, Any]:
        """Write the data set and the result; `paid` is told with the numbers. Raises DataFault NothingAccepted when
        there is nothing to train on."""
        self.output.check_claim()
        kinds = ["rejected", "filtered"]
        kinds += [difficulty.STEP] if self.config.difficulty else []
        kinds += [rewrite.STEP] if self.config.rewrite else []
        parent = self.output.folder(PARTIAL) if self.output.is_local else None
        with storage_errors(self.output.url(PARTIAL)), tempfile.TemporaryDirectory(prefix="build-", dir=parent) as name:
            build = Path(name)
            numbers = {**self._write(build), **paid}
            self.output.check_claim()
            for kind in kinds:
                self.output.install(build / f"{kind}.parquet", f"{kind}/part-00000.parquet")
            for page in PAGES:
                self.output.install(build / page, page)
            if not numbers["accepted"]:
                for name in (*PAGES, *(f"{kind}/part-00000.parquet" for kind in kinds)):
                    self.output.show(name)
                raise self._nothing_accepted(numbers)
            self.output.install(build / "dataset.parquet", "dataset/part-00000.parquet")
        details = {
            "teacher": {
                "name": self.teacher.name,
                "model": self.teacher.model,
                "termsReference": self.teacher.terms_reference,
            },
            "asked": {model.name: model.model for model in self.config.models},
            "sources": [s.uri for s in self.config.sources],
            "mixture": self.pool.mixture,
            "seed": self.context.config.seed,
            "uncheckedRevisions": [s.name for s in self.config.sources if s.unchecked],
        }
        outputs = {**OUTPUTS, **{kind: f"{kind}/" for kind in kinds}}
        return dict(self.output.publish(numbers, outputs, details=details).numbers)

    def _numbers(self, judged: list[Judged], tokens: int) -> dict[str, Any]:
        fates = Counter(each.fate for each in judged)
        accepted = fates.pop(None, 0)
        return {
            "questions": len(self.pool.questions),
            "accepted": accepted,
            "rejected": fates.total(),
            "duplicates": self.funnel.removed(reasons.DUPLICATE),
            "contaminated": self.funnel.removed(reasons.CONTAMINATED),
            "requests": self.journal.requests,
            "promptTokens": self.journal.prompt_tokens,
            "completionTokens": self.journal.completion_tokens,
            **({"datasetTokens": tokens} if tokens else {}),
            "rejectedByReason": by_frequency({str(fate): number for fate, number in fates.items()}),
            "funnel": self.funnel.numbers(),
            **({"unreadableLabels": self.pool.unreadable_labels} if self.pool.unreadable_labels else {}),
        }

    def _judged(self) -> list[Judged]:
        """All answers in the order of the questions, with what becomes of each; closes the funnel."""
        found = traces(self.pool, self.journal, self.config.generate.samples, keep_wrong=self._keeps_wrong)
        self.funnel.add("verify", "traces", len(found), Counter(j.fate for j in found if j.fate))
        if self.config.rewrite is not None:
            accepted = [each for each in found if each.fate is None]
            for each in accepted:
                verdict = self.journals[self.config.rewrite.model].entries[rewrite.key_of(each.key)].verdict
                assert verdict is not None
                each.fate, each.detail = verdict
            self.funnel.add(rewrite.STEP, "traces", len(accepted), Counter(j.fate for j in accepted if j.fate))
        seed = self.context.config.seed
        selection.narrow(self.config.select, found, self._length, self.pool.domain, seed, self.funnel)
        return found

    @property
    def _keeps_wrong(self) -> bool:
        return self.config.verify.wrong == "Keep"

    def _length(self, judged: Judged) -> int:
        return length_of(self._taught(judged))

    def _taught(self, judged: Judged) -> Answer:
        """The answer that is taught, were the trace accepted: its rewriting where there is one."""
        if self.config.rewrite is not None:
            journal, key = self.journals[self.config.rewrite.model], rewrite.key_of(judged.key)
            entry = journal.entries.get(key)
            if entry is not None and entry.verdict is not None and entry.verdict[0] is None:
                return journal.read(key)
        return self.journal.read(judged.key)

    def _write(self, build: Path) -> dict[str, Any]:
        """All files of the artifact; returns the stage's numbers."""
        judged = self._judged()
        for line in self.funnel.fields():
            _log.info("funnel", extra={"fields": line})
        seed = self.context.config.seed
        shown = dataset.choose([i for i, j in enumerate(judged) if j.fate is None], _SAMPLED_ACCEPTED, seed)
        shown |= dataset.choose([i for i, j in enumerate(judged) if j.fate is not None], _SAMPLED_REJECTED, seed)
        sampled = []
        tokens, counted = 0, True  # some servers count no tokens
        labels: Counter[str] = Counter()
        with (
            dataset.Writer(build / "dataset.parquet", dataset.COLUMNS) as good,
            dataset.Writer(build / "rejected.parquet", dataset.REJECTED_COLUMNS) as bad,
        ):
            for position, each in enumerate(judged):
                asked, taught = self.journal.read(each.key), self._taught(each)
                domain = self.pool.domain(each.question)
                row = dataset.row_of(each.question, each.sample, trace_of(taught), domain)
                if each.fate is None:
                    good.add(row)
                    labels[domain] += 1
                    tokens += asked.prompt_tokens + taught.completion_tokens
                    counted = counted and taught.completion_tokens > 0
                else:
                    row |= {"reason": each.fate, "detail": each.detail}
                    bad.add(row)
                if position in shown:
                    sampled.append(row)
        with dataset.Writer(build / "filtered.parquet", dataset.FILTERED_COLUMNS) as out:
            for left_out in self.pool.filtered:
                out.add(dataset.filtered_row(*left_out))
        self._write_asked(build, judged)
        numbers = self._numbers(judged, tokens if counted else 0)
        self._write_pages(build, numbers, sampled, labels)
        return numbers

    def _write_asked(self, build: Path, judged: list[Judged]) -> None:
        """What other models than the teacher said: answers to measure difficulty by, and rewritings."""
        if self.config.difficulty is not None:
            with dataset.Writer(build / f"{difficulty.STEP}.parquet", difficulty.COLUMNS) as out:
                for row in difficulty.rows(self.config.difficulty, self.answered, self.journals):
                    out.add(row)
        if self.config.rewrite is not None:
            journal = self.journals[self.config.rewrite.model]
            with dataset.Writer(build / f"{rewrite.STEP}.parquet", rewrite.COLUMNS) as out:
                for each in judged:
                    key = rewrite.key_of(each.key)
                    entry = journal.entries.get(key)
                    if entry is not None and entry.verdict is not None:
                        original, new = trace_of(self.journal.read(each.key)), trace_of(journal.read(key))
                        out.add(rewrite.row(each.question, each.sample, original, new, entry.verdict))

    def _write_pages(
        self, build: Path, numbers: dict[str, Any], sampled: list[dict[str, Any]], labels: Mapping[str, int]
    ) -> None:
        teacher = self.teacher
        summary = [
            ("teacher", f"{teacher.name}: {teacher.model}"),
            ("terms", teacher.terms_reference or "none given"),
            *map(dataset.revision_line, self.config.sources),
            *((name, str(numbers[name])) for name in ("questions", "accepted", "rejected", "duplicates")),
            *((f"rejected: {reason}", str(number)) for reason, number in numbers["rejectedByReason"].items()),
            *((f"questions of {each['source']}", f"{each['questions']} of {each['of']}") for each in self.pool.mixture),
        ]
        title = f"Traces of {self.context.config.run.name}"
        pages = {
            "sample.md": dataset.sample_page(title, summary, sampled),
            "sample.html": pages_html(title, summary, self.funnel, sampled),
            "README.md": card(title, self.config, self.context.config.seed, self.pool, labels),
            "funnel.json": self.funnel.document(),
        }
        for name, text in pages.items():
            (build / name).write_text(text, encoding="utf-8")

    def _nothing_accepted(self, numbers: dict[str, Any]) -> DataFault:
        why = ", ".join(f"{reason} {number}" for reason, number in numbers["rejectedByReason"].items())
        return DataFault(
            f"none of {numbers['rejected']} answers of teacher {self.teacher.name!r} was accepted ({why}); see "
            f"{self.output.url('rejected/')} and check the references and the teacher",
            reason=reasons.NOTHING_ACCEPTED,
        )


def traces(pool: Pool, journal: Journal, samples: int, *, keep_wrong: bool) -> list[Judged]:
    """The teacher's answers to the questions that are left, each with its verdict."""
    found: list[Judged] = []
    for question in pool.questions:
        for sample in range(samples):
            verdict = journal.entries[question.key, sample].verdict
            assert verdict is not None
            found.append(Judged(question, sample, *verdict, keep_wrong=keep_wrong))
    return found
