"""How hard a question is, as a model rates it: Sky-T1's way of choosing mathematics problems.

The scale is the one of the Art of Problem Solving's wiki ("AoPS Wiki: Competition ratings"), 1 to 10 in half points,
described in our own words. The rating is read off the last line of the visible response.
"""

from __future__ import annotations

import re
from typing import Final

from distillstages.common import reasons
from distillstages.common.sources import Question
from distillstages.curate.campaign import Verdict
from distillstages.curate.records import Answer, trace_of

PROMPT: Final = """Rate how hard the problem below is on this scale of competition mathematics. Half points are allowed.

1: routine exercises of lower secondary school; the first problems of AMC 8 and AMC 10
2: exercises that need a thought of one's own; the middle of AMC 10, the begin of AMC 12
3: several steps or an unusual idea; the end of AMC 10, the middle of AMC 12, the first problems of AIME
4: the end of AMC 12, the middle of AIME
5: the harder half of AIME; simple proofs of junior olympiads
6: the last problems of AIME; the first problems of national olympiads
7: the middle of national olympiads; the easier problems of the International Mathematical Olympiad
8: the hard problems of national olympiads; the middle of the International Mathematical Olympiad
9: the last and hardest problems of the International Mathematical Olympiad
10: harder than nearly all problems ever set at olympiads

Problem:
{question}

Do not solve the problem. Reply with the number alone."""
_NUMBER: Final = re.compile(r"(?<![\d.])(10|[1-9](?:\.[05])?)(?:\.0)?(?:\s*/\s*10)?(?![\d/]|\.\d)")
_LONGEST_DETAIL: Final = 200


def prompt(question: Question) -> str:
    """What the model is asked about a question."""
    return PROMPT.format(question=question.question)


def find(response: str) -> float | None:
    """The rating on the last line of a response, None where it holds none or several."""
    lines = response.strip().splitlines()
    found = _NUMBER.findall(lines[-1]) if lines else []
    return float(found[0]) if len(found) == 1 else None


def verdict(answer: Answer) -> Verdict:
    """(None, the rating as text), or (UnreadableLabel, why)."""
    if answer.error is not None:
        return reasons.UNREADABLE_LABEL, ": ".join(answer.error)[:_LONGEST_DETAIL]
    response = trace_of(answer).response
    rating = find(response)
    if rating is None:
        said = " ".join(response.split())[-_LONGEST_DETAIL:]
        return reasons.UNREADABLE_LABEL, f"expected one number from 1 to 10 on the last line, found {said!r}"
    return None, f"{rating:g}"
