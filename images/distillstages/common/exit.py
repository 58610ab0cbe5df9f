"""Exit codes of a stage and the exceptions that lead to them. Source: the table in the stage contract.

A stage raises one of these exceptions; the worker harness turns it into a termination message and an exit code,
and the operator decides from the code alone whether to retry.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from distillstages.common import reasons


class Exit(IntEnum):
    """Process exit codes. 64–78 follow sysexits.h, 137 and 143 are 128 + signal."""

    OK = 0
    USAGE = 64
    DATA = 65
    FAULT = 70
    TEMPORARY = 75
    PEER_LOST = 76
    CONFIG = 78
    OUT_OF_MEMORY = 137
    TERMINATED = 143


class StageError(Exception):
    """A failure with a reason (CamelCase constant of `reasons`) and a sentence that says what to change.

    `str(error)` is the sentence. It reaches the user's status: it must hold no secret and no traceback.
    """

    code: ClassVar[Exit] = Exit.FAULT
    default_reason: ClassVar[str] = reasons.FAULT

    def __init__(self, message: str, *, reason: str | None = None, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.retry_after_seconds = retry_after_seconds


class UsageFault(StageError):
    """Wrong command line: the same command fails again."""

    code = Exit.USAGE
    default_reason = reasons.USAGE


class DataFault(StageError):
    """Input data is wrong or missing: the same input fails again. Names file, row, field, found, expected."""

    code = Exit.DATA
    default_reason = reasons.DATA


class ConfigFault(StageError):
    """The configuration is wrong, or a credential is refused: the same configuration fails again."""

    code = Exit.CONFIG
    default_reason = reasons.CONFIG


class Temporary(StageError):
    """Quota, rate limit, upstream away, superseded: try again later, not a failure of the run."""

    code = Exit.TEMPORARY
    default_reason = reasons.TEMPORARY


class PeerLost(StageError):
    """Another rank went away. Never the cause: the cause is the peer's."""

    code = Exit.PEER_LOST
    default_reason = reasons.PEER_LOST


class Fault(StageError):
    """Anything else: retried within the run's limit."""

    code = Exit.FAULT
    default_reason = reasons.FAULT


class Terminated(StageError):
    """The stage was asked to stop (SIGTERM) and saved what it could."""

    code = Exit.TERMINATED
    default_reason = reasons.TERMINATED


_CAUSE_ORDER = (
    Exit.OUT_OF_MEMORY,
    Exit.USAGE,
    Exit.DATA,
    Exit.CONFIG,
    Exit.TEMPORARY,
    Exit.FAULT,
    Exit.TERMINATED,
    Exit.PEER_LOST,
    Exit.OK,
)


def cause_rank(code: int) -> int:
    """Sort key: of several ranks' exit codes the one with the lowest rank is the cause (OOM > 64, 65, 78 > 75 > 70,
    143 and 76 explain nothing by themselves). Unknown codes rank as a fault."""
    try:
        return _CAUSE_ORDER.index(Exit(code))
    except ValueError:
        return _CAUSE_ORDER.index(Exit.FAULT)
