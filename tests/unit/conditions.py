"""What kstatus needs of a run's conditions, whatever happens to the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ONE_OF = ("Ready", "Reconciling", "Stalled")
"""What kstatus goes by. A run that its user has suspended has none of them: in progress, as a suspended Job is."""


def check_conditions(status: Mapping[str, Any]) -> None:
    """A run that was looked at is ready, goes on, or needs someone: one of them, or none if it is suspended."""
    if status.get("observedGeneration", -1) == -1:
        assert not status.get("conditions")
        return
    conditions = {each["type"]: each for each in status["conditions"]}
    assert len(conditions) == len(status["conditions"]), "a condition is there twice"
    assert conditions["Ready"]["status"] in ("True", "False"), "Unknown would be in progress for ever"
    for kind in ("Reconciling", "Stalled"):
        assert conditions.get(kind, {}).get("status", "True") == "True", f"{kind} is present only while it is true"
    true = {kind for kind, each in conditions.items() if each["status"] == "True"}
    if "Suspended" in true:
        assert true & {*ONE_OF} <= {"Stalled"}, "a suspended run does nothing; at most it needs someone"
    else:
        assert len(true & {*ONE_OF}) == 1, f"one of {ONE_OF} is True, not {sorted(true)}"
    assert all(each["reason"] and each["lastTransitionTime"] for each in conditions.values())
