"""Which checkpoint to continue from: the newest that every rank finds as it was saved."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from distillstages.common import reasons
from distillstages.common.exit import DataFault
from distillstages.train import manifest
from distillstages.train.checkpoints import Checkpoint, Checkpoints

_TOLD: Final = 3
_log = logging.getLogger("distillstages.train.resume")


class Ranks(Protocol):
    """How ranks speak with each other (`distillstages.train.ranks`)."""

    def agree(self, value: Any) -> Any: ...
    def gather(self, value: Any) -> list[Any]: ...


@dataclass(frozen=True)
class Start:
    """Where training starts: after `checkpoint` (None: at the beginning), and how many damaged ones were set aside."""

    checkpoint: Checkpoint | None
    damaged: int = 0


Check = Callable[[Checkpoint], Sequence[str]]


def choose(
    checkpoints: Checkpoints, talk: Ranks, *, rank: int, ranks: int, every_steps: int, check: Check | None = None
) -> Start:
    """Call it on every rank; the answer is the same on all of them. Rank 0 lists the checkpoints, and each rank checks
    its own files of one after the other, as its own node sees them, until one is whole for all.

    The damaged ones are set aside and said. Where no good one is left, training begins again if that costs no more than
    one interval of `every_steps`; else raises DataFault CheckpointsDamaged, which nobody retries: whether to pay for
    the steps again is the user's to decide, and raising `retry` says yes."""

    def look(checkpoint: Checkpoint) -> Sequence[str]:
        return manifest.check(checkpoint.path, checkpoint.files, rank, ranks)

    candidates: list[Checkpoint] = talk.agree(checkpoints.candidates(ranks) if rank == 0 else [])
    damaged: list[tuple[Checkpoint, list[str]]] = []
    good: Checkpoint | None = None
    for candidate in candidates:
        complaints = [candidate.unreadable] if candidate.unreadable else _all(talk, (check or look)(candidate))
        if not complaints:
            good = candidate
            break
        damaged.append((candidate, complaints))
    if rank == 0:
        for checkpoint, complaints in damaged:
            name = checkpoints.set_aside(checkpoint).name
            _log.warning(
                "damaged checkpoint set aside",
                extra={"fields": {"step": checkpoint.step, "wrong": _short(complaints), "now": name}},
            )
    talk.agree(None)  # none goes on before they are aside
    if damaged and good is None and damaged[0][0].step > every_steps:
        raise DataFault(_sentence(checkpoints, damaged), reason=reasons.CHECKPOINTS_DAMAGED)
    return Start(good, len(damaged))


def _all(talk: Ranks, mine: Sequence[str]) -> list[str]:
    return [complaint for complaints in talk.gather(list(mine)) for complaint in complaints]


def _short(complaints: Sequence[str]) -> str:
    more = f" and {len(complaints) - _TOLD} more" if len(complaints) > _TOLD else ""
    return "; ".join(complaints[:_TOLD]) + more


def _sentence(checkpoints: Checkpoints, damaged: Sequence[tuple[Checkpoint, list[str]]]) -> str:
    told = "; ".join(f"of step {checkpoint.step}: {_short(complaints[:1])}" for checkpoint, complaints in damaged)
    return (
        f"every checkpoint is damaged ({told}), so that training would have to begin again and repeat "
        f"{damaged[0][0].step} steps. They are set aside as {checkpoints.folder}/damaged-<step>-*: to continue, "
        "restore one from a backup as checkpoint-<step> and raise retry; raise retry alone to begin again"
    )
