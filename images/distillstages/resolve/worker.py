"""The worker of the resolve stage: looks at the student and at all data, then says all that is wrong.

Nothing is written: its answer is the termination message, since a revision that was found for one run must not be taken
for another's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from distillstages.common import reasons
from distillstages.common.exit import ConfigFault, DataFault, StageError, Temporary, cause_rank
from distillstages.common.progress import Progress
from distillstages.common.worker import Context, run
from distillstages.resolve import data, message, student

_log = logging.getLogger("distillstages.resolve")
_MOST_CHARS: Final = 900
_LEAST_CHARS: Final = 140


def body(context: Context) -> Mapping[str, Any]:
    """Returns {"resolved": …}. Raises DataFault or ConfigFault naming everything that is wrong, Temporary when nothing
    is wrong but a hub or a storage is away."""
    block = context.config.resolve
    assert block is not None
    failed: list[StageError] = []
    curated: list[data.Input] = [*block.sources, *([block.dataset] if block.dataset else [])]
    total = 1 + len(curated) + len(block.benchmarks) + len(block.against)
    with Progress(context.metrics, unit="inputs", total=total) as progress:

        def attempt(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            try:
                return look()
            except StageError as error:
                _log.error(error.message)
                failed.append(error)
                return {}
            finally:
                progress.advance()

        found = attempt(lambda: student.resolve(block))
        # An evaluation leaves no row of a benchmark out; curation counts those that it cannot use.
        entries = {
            "sources": [attempt(partial(data.resolve, each)) for each in curated],
            "benchmarks": [attempt(partial(data.resolve, each, every_row=True)) for each in block.benchmarks],
            "against": [attempt(partial(data.resolve, each)) for each in block.against],
        }
    if failed:
        raise together(failed)
    return message.numbers(found, entries, context.output.uri)


def together(failed: Sequence[StageError]) -> StageError:
    """One error for all: the gravest one's code, every sentence as far as they fit. What is only away now is left out
    beside what is wrong for good."""
    gravest = min(failed, key=lambda error: cause_rank(error.code))
    said = [error for error in failed if not isinstance(error, Temporary)] or list(failed)
    if len(said) == 1:
        return said[0]
    # Each of a few gets its share of the room; of many, as many are named as fit.
    share = max(_LEAST_CHARS, _MOST_CHARS // len(said))
    sentences = [_cut(error.message, share) for error in said[: _MOST_CHARS // share]]
    left = len(said) - len(sentences)
    text = f"{len(said)} things are wrong: " + "; ".join(f"({n}) {s}" for n, s in enumerate(sentences, 1))
    text += f"; and {left} more, see the log" if left else ""
    reasons_found = {error.reason for error in said}
    reason = reasons_found.pop() if len(reasons_found) == 1 else reasons.DATA
    if isinstance(gravest, ConfigFault):
        return ConfigFault(text, reason=reason)
    if isinstance(gravest, Temporary):
        return Temporary(text, reason=reason)
    return DataFault(text, reason=reason)


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"


if __name__ == "__main__":
    run("resolve", body, claim=False, reuse=False)
