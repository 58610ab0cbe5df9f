"""From what happened to the worker to the contract's exit code and the termination message. Pure: facts in, end out."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from distillstages.common import cgroup, reasons
from distillstages.common.cgroup import Memory
from distillstages.common.exit import Exit
from distillstages.common.state import End
from distillstages.common.termination import Termination

_SAID_BY_CODE: Final = (Exit.USAGE, Exit.DATA, Exit.CONFIG, Exit.TEMPORARY, Exit.PEER_LOST)
_DEFINITE: Final = (Exit.USAGE, Exit.DATA, Exit.CONFIG)
_EXPLAINED: Final = (*_DEFINITE, Exit.TEMPORARY)


@dataclass(frozen=True)
class Facts:
    """`status`: as subprocess gives it (-n: ended by signal n). `ends`: what the ranks said, the cause first. `tail`:
    the end of the log. `stalled`: the sentence about nothing moving any more, None: it did not stall."""

    stage: str
    status: int
    ends: Sequence[End]
    before: Memory
    after: Memory
    artifact: str | None = None
    asked_to_stop: signal.Signals | None = None
    stalled: str | None = None
    tail: str | None = None


def judge(facts: Facts) -> tuple[int, Termination]:
    """Exit code and message. In this order: success, killed for memory, stalled, what a rank said, what we can tell."""
    best = facts.ends[0] if facts.ends else None
    if facts.status == 0 and (best is None or best.code == 0):
        return Exit.OK, best.termination if best else Termination.succeeded(facts.artifact, {})
    if _killed_for_memory(facts) and not (best and best.code in _DEFINITE):
        return Exit.OUT_OF_MEMORY, _failed(
            reasons.OUT_OF_MEMORY,
            f"the kernel killed a process of the {facts.stage} stage for lack of memory: peak "
            f"{cgroup.size(facts.after.peak)} of a limit of {cgroup.size(facts.after.limit)}; raise the memory limit "
            "of the stage's pod, or make it need less",
            facts.tail,
        )
    if facts.stalled is not None:
        return Exit.FAULT, _failed(reasons.STALLED, facts.stalled, facts.tail)
    if facts.asked_to_stop and (best is None or best.code in (Exit.OK, Exit.PEER_LOST)):
        # Who stops all ranks at once hears from some that they lost a peer, and from torchrun exit code 1.
        name = facts.asked_to_stop.name
        message = f"asked to stop ({name}); the next attempt continues from what was recorded"
        return 128 + facts.asked_to_stop, _failed(reasons.TERMINATED, message, None)
    if best is not None and best.code != 0:
        # Where the sentence explains it all, a log only takes room.
        tail = None if best.code in _EXPLAINED else facts.tail
        return best.code, replace(best.termination, log=best.termination.log or tail)
    return _silent(facts)


def _killed_for_memory(facts: Facts) -> bool:
    return facts.after.kills is not None and facts.after.kills > (facts.before.kills or 0)


def _silent(facts: Facts) -> tuple[int, Termination]:
    """A worker that failed without a word."""
    code: int = Exit.FAULT
    if facts.status < 0:
        how = f"signal {_signal_name(-facts.status)}"
        if facts.status == -signal.SIGKILL:
            how += ", sent by someone else than the kernel's memory killer (its counter did not rise)"
    else:
        how = f"exit code {facts.status}"
        if facts.status in _SAID_BY_CODE:
            code = facts.status
    message = f"the {facts.stage} worker ended with {how} and left no message; the end of its log follows"
    return code, _failed(reasons.FAULT, message, facts.tail)


def _failed(reason: str, message: str, tail: str | None) -> Termination:
    return Termination("Failed", reason, message, log=tail)


def _signal_name(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)
