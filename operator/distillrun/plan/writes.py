"""When a status is written: at once when something has happened, seldom when only numbers have moved."""

from __future__ import annotations

from datetime import datetime

from distillrun.api.status import Stage, StageCost, Status
from distillrun.plan.clock import since
from distillrun.plan.meter import SHOWN_EVERY
from distillrun.plan.model import Observed, Settings

_LONGEST_PAUSE_FOR_PROGRESS = 20.0
"""Running runs per second of pause between progress writes: 2,000 running runs write 20 statuses a second at most."""


def if_due(
    before: Status, after: Status, observed: Observed, settings: Settings, now: datetime
) -> dict[str, object] | None:
    """The status to write: at once when more than progress differs, else only when the last progress is old enough."""
    if after == before:
        return None
    if _steady(after) == _steady(before):
        written = _progress_time(before)
        pause = max(settings.progress_interval, observed.running_runs / _LONGEST_PAUSE_FOR_PROGRESS)
        moved = _progress_time(after) and not (written and since(written, now) < pause)
        if not moved and not _servers_used(before, after, now):
            return None
    return after.model_dump(by_alias=True, mode="json", exclude_none=True)


def _progress_time(status: Status) -> str:
    """When the progress of the stage that runs was taken; "" when none runs or none is known."""
    running = (stage.progress for stage in status.stages if stage.state == "Running")
    return next((progress.time for progress in running if progress is not None and progress.time), "")


def _servers_used(before: Status, after: Status, now: datetime) -> bool:
    """Whether model servers have used GPUs for so long that it shall be shown."""
    was, has = (status.cost.serving if status.cost else None for status in (before, after))
    if was is None or has is None or was.gpu_seconds == has.gpu_seconds:
        return False
    return since(was.time, now) >= SHOWN_EVERY


def _steady(status: Status) -> Status:
    """A status without what changes all the time while a stage runs or holds GPUs."""
    still = [_still(stage) if stage.state in ("Running", "Pending") else stage for stage in status.stages]
    money = status.cost.model_copy(update={"spent": "0", "asking": "0", "gpu_seconds": "0"}) if status.cost else None
    if money and money.serving:
        unmoved = {"spent": "0", "gpu_seconds": "0", "time": ""}
        money = money.model_copy(update={"serving": money.serving.model_copy(update=unmoved)})
    return status.model_copy(update={"stages": still, "progress": "", "cost": money})


def _still(stage: Stage) -> Stage:
    settled = stage.cost and StageCost(
        settled_gpu_seconds=stage.cost.settled_gpu_seconds,
        estimated=stage.cost.estimated,
        since=stage.cost.since,
    )
    progress, checkpoint = (stage.progress, stage.last_checkpoint) if stage.state == "Pending" else (None, None)
    return stage.model_copy(update={"progress": progress, "cost": settled, "last_checkpoint": checkpoint})
