"""Suspend, resume and retry: what is written, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from distillrun.cli import control
from tests.cli import runs

Json = dict[str, Any]


def suspended(**status: Any) -> Json:
    made = runs.training()
    made["spec"]["suspend"] = True
    made["status"] |= {"phase": "Suspended", **status}
    return made


def over_budget() -> Json:
    made = runs.training()
    made["spec"]["budget"] = {"limit": "450"}
    made["status"] |= {"phase": "Suspended"}
    made["status"]["conditions"].append(runs.condition("BudgetExceeded", True, "BudgetExceeded", "used 450.10"))
    return made


def over_max_cost() -> Json:
    made = runs.served()
    made["spec"]["serve"] = {"maxCost": "200"}
    made["status"] |= {"phase": "Suspended"}
    made["status"]["conditions"].append(runs.condition("MaxCostReached", True, "MaxCostReached", "used 200.10"))
    return made


def retried(count: int) -> Json:
    made = runs.failed()
    made["spec"]["retry"] = count
    return made


@pytest.mark.parametrize(
    ("command", "run", "spec", "words"),
    [
        (control.suspend, runs.training(), {"suspend": True}, "being suspended"),
        (control.suspend, runs.served(), {"suspend": True}, "being suspended"),
        (control.suspend, runs.fresh(), {"suspend": True}, "being suspended"),
        (control.suspend, suspended(), {}, "suspended already"),
        (control.resume, suspended(), {"suspend": False}, "goes on from its last checkpoint"),
        (control.resume, runs.training(), {}, "is not suspended"),
        (control.retry, runs.failed(), {"retry": 1}, "curate of additions is tried again (spec.retry: 1)"),
        (control.retry, retried(7), {"retry": 8}, "spec.retry: 8"),
    ],
)
def test_what_is_asked_becomes_a_change_of_the_spec(command: Any, run: Json, spec: Json, words: str) -> None:
    change = command(run)
    assert change.spec == spec
    assert words in change.said


def changed_since() -> Json:
    made = runs.failed()
    made["metadata"]["generation"] = 4
    return made


@pytest.mark.parametrize(
    ("command", "run", "words"),
    [
        (control.suspend, runs.failed(), "has ended (Failed)"),
        (control.resume, over_budget(), "raise spec.budget.limit"),
        (control.resume, over_max_cost(), "serve.maxCost of 200"),
        (control.retry, runs.training(), "has not failed: it is Training"),
        (control.retry, runs.served(), "has not failed: it is Serving"),
        (control.retry, runs.barred(), "Lower the gate"),
        (control.retry, changed_since(), "has not acted on the latest change"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_way_forward(command: Any, run: Json, words: str) -> None:
    with pytest.raises(control.Refused) as error:
        command(run)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        ({}, ""),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "runs"}}, "Flux (runs)"),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "ml"}}, "Flux (ml)"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "ml:distillrun.dev/DistillRun:t/s1"}}, "Argo CD (ml)"),
    ],
)
def test_a_tool_that_may_undo_the_change_is_named(metadata: Json, owner: str) -> None:
    assert control.owner({"metadata": metadata}) == owner
