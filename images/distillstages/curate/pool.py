"""The questions of a curation before the teacher is asked: read, screened, drawn, and what steps leave of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from distillstages.common import reasons
from distillstages.common.blocks import Curate
from distillstages.common.exit import DataFault
from distillstages.common.grading import require_sandbox
from distillstages.common.sources import Question, read_questions, unique
from distillstages.curate import mixture
from distillstages.curate.funnel import Funnel
from distillstages.curate.screening import Filtered, Why, screen

_log = logging.getLogger("distillstages.curate")
GENERAL: Final = "general"
"""The domain of a question that neither its labeler or column nor its source gave one."""


@dataclass
class Pool:
    """`questions` that are left, in the order of the sources; `filtered`, those that are not, in the order of the
    steps; `mixture`, how many of each source were drawn; `labels`, the domains that steps gave to questions, by key."""

    questions: list[Question]
    filtered: list[Filtered]
    funnel: Funnel
    mixture: list[dict[str, Any]]
    domains: Mapping[str, str]
    """Domains of the sources, by name."""
    labels: dict[str, str] = field(default_factory=dict)
    unreadable_labels: int = 0

    def domain(self, question: Question) -> str:
        """The question's domain, "" where nobody gave it one."""
        return self.labels.get(question.key) or self.own_domain(question)

    def own_domain(self, question: Question) -> str:
        """The domain that the question came with: of its row, else of its source; "" without either."""
        return question.domain or self.domains.get(question.source, "")

    def leave_out(self, step: str, why: Callable[[Question], Why | None]) -> None:
        """A step of the funnel: remove the questions for which there is a reason. Raises DataFault when none is
        left."""
        out = [Filtered(question, step, *found) for question in self.questions if (found := why(question))]
        gone = {each.question.key for each in out}
        self.funnel.add(step, "questions", len(self.questions), Counter(each.reason for each in out))
        self.questions = [question for question in self.questions if question.key not in gone]
        self.filtered += out
        self.check()

    def check(self) -> None:
        """Raises DataFault NothingAccepted when no question is left."""
        if not self.questions:
            raise DataFault(
                f"no question is left to ask: {self.funnel.why()}; check the sources, and the steps that left them out",
                reason=reasons.NOTHING_ACCEPTED,
            )


def read(config: Curate, seed: int) -> Pool:
    """Read the sources, screen the questions and draw the mixture. Raises DataFault, Temporary."""
    funnel = Funnel()
    questions: list[Question] = []
    repetitions = 0
    unwanted: Counter[str] = Counter()
    column = config.domains.column if config.domains else None
    for source in config.sources:
        rows = read_questions(
            mixture.to_be_read(source), domain_column=column, domain_required=not source.domain, left_out=unwanted
        )
        found, repeated = unique(rows)
        _log.info(
            "source read",
            extra={"fields": {"source": source.name, "questions": len(found), "duplicates": repeated}},
        )
        questions += found
        repetitions += repeated
    if any(source.filters for source in config.sources):
        rows_read = len(questions) + repetitions + unwanted.total()
        funnel.add("filter", "rows", rows_read, {reasons.FILTERED_OUT: unwanted.total()})
    funnel.add("read", "questions", len(questions) + repetitions, {reasons.DUPLICATE: repetitions})
    require_sandbox(questions, config.sandbox)
    questions, filtered = screen(questions, config.deduplicate, config.decontaminate, funnel)
    pools = [[q for q in questions if q.source == source.name] for source in config.sources]
    drawn = mixture.draw(config.sources, pools, seed)
    mixed = [
        {"source": source.name, "questions": len(some), "of": len(pool)}
        for source, some, pool in zip(config.sources, drawn, pools, strict=True)
    ]
    _log.info("mixture drawn", extra={"fields": {"mixture": mixed}})
    kept = [question for some in drawn for question in some]
    if len(kept) < len(questions):
        funnel.add("mix", "questions", len(questions), {reasons.NOT_DRAWN: len(questions) - len(kept)})
    pool = Pool(kept, filtered, funnel, mixed, {source.name: source.domain for source in config.sources})
    if column is not None:
        pool.labels = {question.key: pool.own_domain(question) or GENERAL for question in kept}
    pool.check()
    return pool
