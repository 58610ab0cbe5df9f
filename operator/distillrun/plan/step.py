"""What planning one stage yields; the planner adds the steps of all stages up to a Decision."""

from __future__ import annotations

from dataclasses import dataclass, field

from distillrun.api.status import Stage
from distillrun.plan.model import Event, Ref, Want


@dataclass
class Step:
    """One stage's next state and what it asks for."""

    stage: Stage
    ensure: list[Want] = field(default_factory=list)
    delete: list[Ref] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    requeue: list[float] = field(default_factory=list)
    """Seconds after which to look again; the shortest counts."""
