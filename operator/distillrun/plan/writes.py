"""When a status is written: at once when something has happened, seldom when only numbers have moved."""

from __future__ import annotations

from datetime import datetime

from distillrun.api.status import ServingCost, Stage, StageCost, Status
from distillrun.plan.clock import since
from distillrun.plan.meter import SHOWN_EVERY
from distillrun.plan.model import Observed, Settings

_LONGEST_PAUSE_FOR_PROGRESS = 20.0
"""Running runs per second of pause between progress writes: 2,000 running runs write 20 statuses a second at most."""
_UNMOVED = {"spent": "0", "gpu_seconds": "0", "time": ""}
"""A meter without what moves while servers only hold what they held."""


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
    return any(
        was is not None
        and has is not None
        and was.gpu_seconds != has.gpu_seconds
        and since(was.time, now) >= SHOWN_EVERY
        for was, has in zip(_meters(before), _meters(after), strict=True)
    )


def _meters(status: Status) -> tuple[ServingCost | None, ServingCost | None]:
    """Of serving, and of model servers beside curation."""
    costs = (stage.cost for stage in status.stages if stage.cost is not None)
    companions = next((each.servers for each in costs if each.servers is not None), None)
    return status.cost.serving if status.cost else None, companions


def _steady(status: Status) -> Status:
    """A status without what changes all the time while a stage runs or holds GPUs."""
    still = [_still(stage) for stage in status.stages]
    money = status.cost.model_copy(update={"spent": "0", "asking": "0", "gpu_seconds": "0"}) if status.cost else None
    if money and money.serving:
        money = money.model_copy(update={"serving": money.serving.model_copy(update=_UNMOVED)})
    return status.model_copy(update={"stages": still, "progress": "", "cost": money})


def _still(stage: Stage) -> Stage:
    servers = stage.cost.servers.model_copy(update=_UNMOVED) if stage.cost and stage.cost.servers else None
    if stage.state not in ("Running", "Pending") and servers is None:
        return stage
    settled = stage.cost and StageCost(
        settled_gpu_seconds=stage.cost.settled_gpu_seconds,
        estimated=stage.cost.estimated,
        since=stage.cost.since,
        servers=servers,
    )
    progress, checkpoint = (stage.progress, stage.last_checkpoint) if stage.state == "Pending" else (None, None)
    return stage.model_copy(update={"progress": progress, "cost": settled, "last_checkpoint": checkpoint})
