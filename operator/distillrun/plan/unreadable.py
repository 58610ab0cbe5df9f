"""Runs whose stored spec or status is not one of this version's: said in their status, without building on them."""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError

from distillrun.api.status import Condition, Status
from distillrun.plan import reasons
from distillrun.plan.clock import rfc3339
from distillrun.plan.conditions import Conditions
from distillrun.plan.model import Decision, Run


def known(status: object) -> dict[str, object]:
    """The parts of a stored status that this version knows: a newer operator's additions do not stop an older one."""
    raw = dict(status) if isinstance(status, dict) else {}
    fields = {field.alias for field in Status.model_fields.values()}
    return {key: value for key, value in raw.items() if key in fields}


def spec(run: Run, before: Status, error: ValidationError, now: datetime) -> Decision:
    """The stored spec is not one of this version's: written under another CRD, or with validation off."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    words = f"spec.{where}: {first['msg']}. Install the CRD of this operator's version and correct the field"
    conditions = Conditions(before.conditions, run.generation, rfc3339(now))
    conditions.add(reasons.READY, False, reasons.INVALID_SPEC, words)
    conditions.add(reasons.STALLED, True, reasons.INVALID_SPEC, words)
    after = before.model_copy(
        update={
            "observed_generation": run.generation,
            "phase": "Failed",
            "message": words[:2048],
            "conditions": conditions.items,
        }
    )
    return Decision(status=None if after == before else after.model_dump(by_alias=True, mode="json", exclude_none=True))


def status(run: Run, error: ValidationError, now: datetime) -> Decision:
    """The stored status is not one that the operator wrote: say so beside it, and do nothing that builds on it."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    words = (
        f"status.{where}: {first['msg']}. Somebody else wrote it: correct it, or remove the status, and the run goes on"
    )
    conditions = Conditions(_own_conditions(run), run.generation, rfc3339(now))
    conditions.add(reasons.READY, False, reasons.INVALID_STATUS, words)
    conditions.add(reasons.STALLED, True, reasons.INVALID_STATUS, words)
    ours = [condition.model_dump(by_alias=True, mode="json", exclude_none=True) for condition in conditions.items]
    after = {
        **run.status,
        "observedGeneration": run.generation,
        "phase": "Failed",
        "message": words,
        "conditions": ours,
    }
    return Decision(status=None if after == run.status else after)


def _own_conditions(run: Run) -> list[Condition]:
    try:
        return Status.model_validate({"conditions": run.status.get("conditions") or []}).conditions
    except ValidationError:
        return []
