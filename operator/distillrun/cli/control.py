"""Suspend, resume and retry: what to change in a run's spec, and what to tell its user. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distillrun.cli.view import read

Json = Mapping[str, Any]


class Refused(Exception):
    """What was asked for makes no sense now; the message says why and what to do instead."""


@dataclass(frozen=True)
class Change:
    """What to change in the spec, empty when it is so already; and the sentence to say afterwards."""

    spec: Json
    said: str


def suspend(run: Json) -> Change:
    """Stop everything that costs money. Raises Refused when nothing does."""
    view = read(run)
    if (run.get("spec") or {}).get("suspend"):
        return Change({}, f"{view.name} is suspended already")
    if view.phase in ("Succeeded", "Failed") and view.seen:
        raise Refused(f"{view.name} has ended ({view.phase}): there is nothing to suspend")
    return Change({"suspend": True}, f"{view.name} is being suspended; `kubectl distill resume {view.name}` continues")


def resume(run: Json) -> Change:
    """Continue from the last checkpoints. Raises Refused when something else than `suspend` holds the run."""
    view = read(run)
    if (run.get("spec") or {}).get("suspend"):
        return Change({"suspend": False}, f"{view.name} goes on from its last checkpoint")
    if view.holds("BudgetExceeded") and view.phase == "Suspended":
        raise Refused(
            f"{view.name} is not suspended by its spec, it has used up its budget of {view.budget} {view.currency}:"
            " raise spec.budget.limit, and it goes on by itself"
        )
    if view.holds("MaxCostReached") and view.phase == "Suspended":
        raise Refused(
            f"the model servers of {view.name} have used up serve.maxCost of {view.max_cost} {view.currency}:"
            " raise it, and they come back by themselves"
        )
    return Change({}, f"{view.name} is not suspended")


def retry(run: Json) -> Change:
    """Re-open a failed run. Raises Refused when no stage has failed."""
    view = read(run)
    count = int((run.get("spec") or {}).get("retry") or 0)
    if not view.seen:
        raise Refused(f"the operator has not acted on the latest change of {view.name} yet: try again in a moment")
    failed = next((stage for stage in view.stages if stage.state == "Failed"), None)
    if failed is None and view.outcome == "failed":
        raise Refused(f"no stage of {view.name} has failed, so none can be tried again: {view.message}")
    if failed is None:
        raise Refused(f"{view.name} has not failed: it is {view.phase}")
    return Change({"retry": count + 1}, f"{failed.name} of {view.name} is tried again (spec.retry: {count + 1})")


def owner(run: Json) -> str:
    """The GitOps tool that may undo what is not changed in its repository, "" if there is none.

    Flux marks what it applies by labels, Argo CD by an annotation.
    """
    meta = run.get("metadata") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    for kind in ("kustomize", "helm"):
        if name := labels.get(f"{kind}.toolkit.fluxcd.io/name"):
            return f"Flux ({name})"
    if tracked := annotations.get("argocd.argoproj.io/tracking-id"):
        return f"Argo CD ({tracked.partition(':')[0]})"
    return ""
