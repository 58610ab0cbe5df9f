"""Every pod that a run can have is taken by a namespace that enforces `restricted`; asked of the API server itself."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from distillrun.build.objects import build
from distillrun.plan.model import StageName, Want
from tests.cluster.maximal import largest_spec
from tests.kube import Kube
from tests.unit.builders import SETTINGS, run, spec

pytestmark = pytest.mark.controlplane
SPECS = {"small": spec(), "largest": largest_spec()}


def template(stage: StageName, of: dict[str, Any]) -> dict[str, Any]:
    """The pod template of a stage's Job or Deployment."""
    kind, role = ("Deployment", "server") if stage == "serve" else ("Job", "job")
    want = Want(kind, role, "x", stage=stage, attempt=1, fingerprint="f" * 64)  # type: ignore[arg-type]
    made: dict[str, Any] = build(want, run(spec=of), SETTINGS)["spec"]["template"]
    made["spec"]["containers"][0]["image"] = "registry.test/x:1"
    return made


@pytest.mark.parametrize("stage", get_args(StageName))
@pytest.mark.parametrize("size", SPECS)
def test_a_restricted_namespace_takes_every_stages_pods_whatever_their_settings(
    api_server: Kube, namespace: str, stage: StageName, size: str
) -> None:
    pod = template(stage, SPECS[size])
    for field in ("runtimeClassName", "priorityClassName"):
        pod["spec"].pop(field, None)  # there is none on this cluster
    pod["metadata"] |= {"name": "x", "namespace": namespace}
    # The largest resource maps hold names and amounts that no API server takes; Pod Security does not look at them.
    pod["spec"]["containers"][0]["resources"] = {}
    if size == "largest":
        pod["metadata"]["annotations"] = {}
        pod["spec"]["tolerations"] = []
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", **pod})
    done = api_server.kubectl("create", "--dry-run=server", "-f", "-", stdin=text)
    assert done.returncode == 0, done.stderr[-2000:]


def test_such_a_namespace_refuses_a_pod_that_is_not_restricted(api_server: Kube, namespace: str) -> None:
    pod = template("train", SPECS["small"])
    pod["metadata"] |= {"name": "x", "namespace": namespace}
    del pod["spec"]["securityContext"]["seccompProfile"]
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", **pod})
    assert "violates PodSecurity" in api_server.kubectl("create", "--dry-run=server", "-f", "-", stdin=text).stderr
