"""How GitOps tools judge a run: kstatus' own code, and the chart's health script in Argo CD's Lua interpreter."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest

from tests.charts.conftest import CHART, ROOT, build
from tests.charts.tools import Health
from tests.cli import runs

Json = dict[str, Any]
SCRIPT = str(CHART / "files/argocd-health.lua")


@pytest.fixture(scope="session")
def health() -> Health:
    return Health(build("health"))


def changed(run: Json) -> Json:
    """The same run with a spec that the operator has not acted on."""
    made = deepcopy(run)
    made["metadata"]["generation"] += 1
    return made


def suspended() -> Json:
    words = "the run is suspended: set spec.suspend to false to let it go on"
    made = runs.training()
    made["status"]["phase"] = "Suspended"
    made["status"]["conditions"] = [
        runs.condition("Ready", False, "Suspended", words),
        runs.condition("Suspended", True, "Suspended", words),
    ]
    return made


def resumed() -> Json:
    made = runs.training()
    made["status"]["conditions"].append(runs.condition("Suspended", False, "Resumed", "the run is not suspended"))
    return made


def complete() -> Json:
    made = runs.served()
    made["status"] |= {"phase": "Succeeded", "conditions": [runs.condition("Ready", True, "Complete", "all done")]}
    return made


def without_status() -> Json:
    """As a client-side tool sees it that applied it under a CRD without defaults."""
    made = runs.fresh()
    del made["status"]
    return made


def deleted() -> Json:
    made = runs.served()
    made["metadata"]["deletionTimestamp"] = "2026-03-01T13:00:00Z"
    return made


CASES: list[tuple[str, Json, str, str]] = [
    ("nobody has looked at it", runs.fresh(), "InProgress", "Progressing"),
    ("waits for a Secret", runs.waiting(), "InProgress", "Progressing"),
    ("curates", runs.curating(), "InProgress", "Progressing"),
    ("trains", runs.training(), "InProgress", "Progressing"),
    ("suspended", suspended(), "InProgress", "Suspended"),
    ("held by its budget", runs.held(), "Failed", "Degraded"),
    ("resumed", resumed(), "InProgress", "Progressing"),
    ("served", runs.served(), "Current", "Healthy"),
    ("complete", complete(), "Current", "Healthy"),
    ("below its gates", runs.barred(), "Failed", "Degraded"),
    ("failed", runs.failed(), "Failed", "Degraded"),
    ("served, and edited since", changed(runs.served()), "InProgress", "Progressing"),
    ("failed, and retried since", changed(runs.failed()), "InProgress", "Progressing"),
    ("suspended, and resumed since", changed(suspended()), "InProgress", "Progressing"),
]
IDS = [name for name, *_ in CASES]


@pytest.mark.parametrize(("run", "expected"), [(run, kstatus) for _, run, kstatus, _ in CASES], ids=IDS)
def test_kstatus_judges_a_run(health: Health, run: Json, expected: str) -> None:
    ((status, _),) = health.judge("kstatus", objects=[run])
    assert status == expected


@pytest.mark.parametrize(("run", "expected"), [(run, argo) for _, run, _, argo in CASES], ids=IDS)
def test_argo_cd_judges_a_run(health: Health, run: Json, expected: str) -> None:
    ((status, message),) = health.judge("argocd", SCRIPT, objects=[run])
    assert status == expected
    assert message


def test_argo_cd_tells_why_a_run_failed_or_waits(health: Health) -> None:
    words = [message for _, message in health.judge("argocd", SCRIPT, objects=[runs.failed(), runs.waiting()])]
    assert "correct key apiKey of Secret teacher" in words[0]
    assert "Secret teacher is missing" in words[1]


def test_a_run_without_any_status_is_in_progress(health: Health) -> None:
    ((status, _),) = health.judge("argocd", SCRIPT, objects=[without_status()])
    assert status == "Progressing"


def test_a_run_that_is_being_deleted_is_terminating(health: Health) -> None:
    ((status, _),) = health.judge("kstatus", objects=[deleted()])
    assert status == "Terminating"


def test_the_docs_say_what_the_tools_say() -> None:
    rows = re.findall(
        r"^\| (.+?) \| .+? \| (\w+)[^|]* \| (\w+) \|$", (ROOT / "docs/gitops.md").read_text(), re.MULTILINE
    )
    told = {(kstatus, argo) for _, kstatus, argo in rows}
    assert told == {(kstatus, argo) for _, _, kstatus, argo in CASES}
