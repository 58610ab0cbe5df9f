"""One label out of a list for each question, by a model that is asked for it (s1, arXiv 2501.19393, section 2.2).

The prompt names the labels and asks for one of them alone. The label is read off the visible response: the last line
that is one, else the one label that the response mentions. A response with none or several has no label, and the
question keeps the domain that it came with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from distillstages.common import reasons
from distillstages.common.blocks import Domains, Generate
from distillstages.common.sources import Question
from distillstages.curate.campaign import Verdict
from distillstages.curate.journal import Journal, Key
from distillstages.curate.pool import GENERAL, Pool
from distillstages.curate.records import Answer, trace_of
from distillstages.curate.subjects import SUBJECTS

STEP: Final = "domains"
PROMPT: Final = """\
Below are a list of subjects and a question. Decide which subject of the list the question belongs to; if \
it touches several, choose the one whose methods solve it. Do not answer the question.

Subjects:
{labels}

Question:
{question}

Reply with the chosen subject, spelt as in the list, and nothing else."""
_LEAD: Final = re.compile(r"^\W*(?:(?:the\s+)?(?:subject|label|domain|answer)(?:\s+is)?\s*:?)?\W*", re.IGNORECASE)
_TRAIL: Final = re.compile(r"\W+$")
_LONGEST_DETAIL: Final = 200


def generate(config: Domains) -> Generate:
    """How the labeler is asked: greedily."""
    return Generate(temperature=0.0, max_tokens=config.max_tokens)


def labels(config: Domains) -> Sequence[str]:
    """The labels to choose from."""
    return config.labels or SUBJECTS


def prompt(config: Domains, question: Question) -> str:
    """What the labeler is asked about a question."""
    return PROMPT.format(labels="\n".join(f"- {label}" for label in labels(config)), question=question.question)


def keys(questions: Sequence[Question]) -> list[Key]:
    """What the labeler is asked."""
    return [(f"{STEP}/{question.key}", 0) for question in questions]


def verdict(config: Domains, answer: Answer) -> Verdict:
    """(None, label), or (UnreadableLabel, why)."""
    if answer.error is not None:
        return reasons.UNREADABLE_LABEL, ": ".join(answer.error)[:_LONGEST_DETAIL]
    response = trace_of(answer).response
    label = find(labels(config), response)
    if label is None:
        said = " ".join(response.split())[:_LONGEST_DETAIL]
        return reasons.UNREADABLE_LABEL, f"expected one of the labels, found {said!r}"
    return None, label


def find(known: Sequence[str], response: str) -> str | None:
    """The label that a response gives, None where it gives none or several. Case and decoration do not count."""
    spelt = {_plain(label): label for label in known}
    for line in reversed(response.splitlines()):
        for text in (line, _TRAIL.sub("", _LEAD.sub("", line))):
            if label := spelt.get(_plain(text)):
                return label
    # The longest first: a label that holds another one is not a mention of it.
    either = "|".join(re.escape(label) for label in sorted(spelt, key=len, reverse=True))
    mentioned = set(re.findall(rf"(?<!\w)(?:{either})(?!\w)", _plain(response)))
    return spelt[mentioned.pop()] if len(mentioned) == 1 else None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def apply(pool: Pool, journal: Journal) -> None:
    """Give the questions their labels; those without one keep their own domain, or are `general`."""
    for question in pool.questions:
        entry = journal.entries[f"{STEP}/{question.key}", 0]
        assert entry.verdict is not None
        reason, detail = entry.verdict
        if reason is None:
            pool.labels[question.key] = detail
        else:
            pool.labels[question.key] = pool.own_domain(question) or GENERAL
            pool.unreadable_labels += 1
