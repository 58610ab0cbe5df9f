"""The API server's limits on what a definition may cost hold for the largest specs that the schema takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.authors import JOBS, Author, create, secrets
from tests.cluster.maximal import largest, largest_spec, spec_schema
from tests.cluster.test_api_rules import with_field
from tests.kube import Kube

pytestmark = pytest.mark.controlplane
ETCD_LIMIT = 1_500_000
"""Bytes of a request that etcd takes (its default)."""


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return largest_spec()


def a_large_run(namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": "a" * 63, "namespace": namespace}
    return {"apiVersion": "distillrun.dev/v1alpha1", "kind": "DistillRun", "metadata": meta, "spec": spec}


def leaves(node: Any) -> int:
    if isinstance(node, dict):
        return sum(leaves(child) for child in node.values())
    return sum(leaves(child) for child in node) if isinstance(node, list) else 1


def test_every_list_map_and_text_of_the_spec_is_bounded() -> None:
    assert leaves(largest(spec_schema())) > 500


def test_the_largest_spec_is_taken_and_so_is_every_rule_about_its_changes(
    policed: Kube, namespace: str, spec: dict[str, Any]
) -> None:
    thing = a_large_run(namespace, spec)
    size = len(json.dumps(thing))
    print(f"the largest spec has {size} bytes")
    assert size < ETCD_LIMIT
    done = policed.kubectl("create", "-f", "-", stdin=json.dumps(thing))
    assert done.returncode == 0, done.stderr[-2000:]
    everything = [{"name": name, "state": "Running"} for name in ("curate", "train", "evaluate", "serve")]
    policed.patch_status("a" * 63, namespace, {"stages": everything})
    # All transition rules compare all they can; only what may change does.
    policed.must("patch", "distillrun", "a" * 63, "-n", namespace, "--type=merge", "-p", '{"spec": {"maxRetries": 1}}')
    last = len(spec["evaluate"]["benchmarks"]) - 1
    changed = with_field(thing, f"evaluate.benchmarks.{last}.samples", 1)
    patch = json.dumps({"spec": {"evaluate": changed["spec"]["evaluate"]}})
    arguments = ("-n", namespace, "--type=merge", "--patch-file", "/dev/stdin")
    said = policed.kubectl("patch", "distillrun", "a" * 63, *arguments, stdin=patch).stderr
    assert "spec.evaluate cannot change any more" in said
    assert "cost" not in said


def test_the_largest_spec_that_breaks_its_rules_is_refused_for_that_and_not_for_its_cost(
    policed: Kube, namespace: str, spec: dict[str, Any]
) -> None:
    thing = a_large_run(namespace, {**spec, "teacher": "z" * 40})
    thing["spec"] = {**thing["spec"], "gates": [{**gate, "benchmark": "z" * 40} for gate in spec["gates"][-2:]]}
    done = policed.kubectl("create", "-f", "-", stdin=json.dumps(thing))
    assert "names no item of spec.models" in done.stderr
    assert "must be the name of one of evaluate.benchmarks" in done.stderr
    assert "cost" not in done.stderr.replace("--", "")


def test_the_largest_spec_costs_the_admission_policy_no_more_than_it_may(
    policed: Kube, namespace: str, author: Author, spec: dict[str, Any]
) -> None:
    thing = a_large_run(namespace, spec)
    done = create(policed, thing, author(JOBS, secrets(), name="bob"))
    assert done.returncode == 0, done.stderr[-2000:]
    said = create(policed, thing, author(JOBS)).stderr
    assert "may not read Secret" in said
    assert "budget" not in said
