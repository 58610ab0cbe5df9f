"""Values: each is documented, bounded and passed on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.chart import values_table
from tests.charts.conftest import CHART, Render, one

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
TEXT = (CHART / "values.yaml").read_text()


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Dotted path of each setting: whatever is no map, or an empty one."""
    if not isinstance(tree, dict) or not tree:
        return {path: tree}
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= leaves(value, f"{path}.{name}" if path else name)
    return found


SETTINGS = leaves(yaml.safe_load(TEXT))


@pytest.mark.parametrize("path", SETTINGS)
def test_every_value_has_a_comment(path: str) -> None:
    comments = {value.path: value.comment for value in values_table.read(TEXT)}
    assert len(comments[path]) > 10


@pytest.mark.parametrize("path", SETTINGS)
def test_every_value_is_in_the_schema(path: str) -> None:
    at: Any = SCHEMA
    for name in path.split("."):
        properties, additional = at.get("properties", {}), at.get("additionalProperties")
        at = properties.get(name) or (additional if isinstance(additional, dict) else None)
        assert at, f"{path}: the schema has no {name}"
    assert "type" in at or "enum" in at


def test_the_schema_names_no_value_that_values_yaml_does_not_have() -> None:
    def named(schema: Any, path: str = "") -> set[str]:
        if not schema.get("properties"):
            return {path}
        return {
            leaf for name, each in schema["properties"].items() for leaf in named(each, f"{path}.{name}".strip("."))
        }

    given = {*SETTINGS, "resources.requests", "resources.limits"} - {"global"}
    assert named(SCHEMA) - {"global"} <= given


def test_every_map_of_the_schema_is_closed_or_says_what_it_holds() -> None:
    def maps(schema: Any, path: str) -> list[str]:
        found = [path] if schema.get("type") == "object" and "additionalProperties" not in schema else []
        for name, each in schema.get("properties", {}).items():
            found += maps(each, f"{path}.{name}")
        return found

    # Kubernetes' own structures are checked by the API server.
    assert set(maps(SCHEMA, "")) == {".global", ".affinity"}


def test_the_readmes_table_is_the_one_of_values_yaml() -> None:
    readme = (CHART / "README.md").read_text()
    assert values_table.renew(readme, values_table.read(TEXT)) == readme


def test_a_value_without_a_comment_is_refused_by_the_table() -> None:
    with pytest.raises(ValueError, match=r"a\.b has no comment"):
        values_table.table(values_table.read("# A map.\na:\n  b: 1\n"))


def test_helm_lint_finds_nothing(helm: Path) -> None:
    done = subprocess.run([helm, "lint", "--strict", CHART], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": "two"}, "replicas"),
        ({"images": {"operator": {"repo": "x"}}}, "repo"),
        ({"images": {"operator": {"digest": "abc"}}}, "digest"),
        ({"images": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"gpu": {"hourPrice": 2.96}}, "hourPrice"),
        ({"gpu": {"hourPrice": "three"}}, "hourPrice"),
        ({"gpu": {"currency": "dollars"}}, "currency"),
        ({"gpu": {"resource": "gpu"}}, "resource"),
        ({"watchNamespaces": "team-a"}, "watchNamespaces"),
        ({"watchNamespaces": ["Team A"]}, "watchNamespaces"),
        ({"logLevel": "loud"}, "logLevel"),
        ({"mirror": "hub.example"}, "mirror"),
        ({"networkPolicy": {"dns": ["*"]}}, "dns"),
        ({"networkPolicy": {"serveFrom": "gateways"}}, "serveFrom"),
        ({"admissionPolicy": {"create": "no"}}, "admissionPolicy"),
        ({"crds": {"install": "yes"}}, "install"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
        ({"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}}, "metrics.service.enabled"),
    ],
)
def test_a_wrong_value_is_refused_and_named(
    values: dict[str, Any], word: str, refusal: Callable[[dict[str, Any]], str]
) -> None:
    assert word in refusal(values)


def test_the_chart_works_as_a_dependency_with_global_values(render: Render) -> None:
    assert render({"global": {"anything": 1}})


def environment(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_the_defaults_pass_every_setting_to_the_operator(default: list[dict[str, Any]]) -> None:
    assert environment(default) == {
        "DISTILLRUN_IMAGE_CURATE": "distillrun/curate:0.1.0",
        "DISTILLRUN_IMAGE_TRAIN": "distillrun/train:0.1.0",
        "DISTILLRUN_IMAGE_EVALUATE": "distillrun/evaluate:0.1.0",
        "DISTILLRUN_IMAGE_SERVE": "distillrun/serve:0.1.0",
        "DISTILLRUN_IMAGE_PULL_POLICY": "IfNotPresent",
        "DISTILLRUN_GPU_RESOURCE": "nvidia.com/gpu",
        "DISTILLRUN_GPU_HOUR_PRICE": "0",
        "DISTILLRUN_PRICE_BOOK": "{}",
        "DISTILLRUN_CURRENCY": "USD",
        "DISTILLRUN_MIRROR": "",
        "DISTILLRUN_WATCH_NAMESPACES": "",
        "DISTILLRUN_NETWORK_POLICIES": "true",
        "DISTILLRUN_DNS": "kube-system,169.254.0.0/16",
        "DISTILLRUN_METRICS_FROM": "",
        "DISTILLRUN_SERVE_FROM": "",
        "DISTILLRUN_LEASE_NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
        "DISTILLRUN_LEASE_NAME": "distillrun-operator",
        "DISTILLRUN_LOG_LEVEL": "info",
        "HOME": "/tmp",
    }


def test_what_is_set_reaches_the_operator(render: Render) -> None:
    digest = "sha256:" + "0" * 64
    objects = render(
        {
            "images": {
                "pullPolicy": "Never",
                "operator": {"repository": "registry.example/o", "tag": "9"},
                "train": {"repository": "registry.example/t", "tag": "ignored", "digest": digest},
            },
            "gpu": {"resource": "amd.com/gpu", "hourPrice": "2.96", "currency": "EUR", "priceBook": {"A100": "1.5"}},
            "watchNamespaces": ["team-a", "team-b", "team-a"],
            "networkPolicy": {"create": False, "dns": ["openshift-dns"], "serveFrom": ["gw", "10.0.0.0/8", "gw"]},
            "mirror": "s3://mirror/hub",
            "logLevel": "debug",
            "leaderElection": {"leaseName": "another"},
            "replicas": 2,
        }
    )
    deployment = one(objects, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert deployment["spec"]["replicas"] == 2
    assert container["image"] == "registry.example/o:9"
    assert container["imagePullPolicy"] == "Never"
    got = environment(objects)
    assert got["DISTILLRUN_IMAGE_TRAIN"] == f"registry.example/t@{digest}"
    assert got["DISTILLRUN_IMAGE_PULL_POLICY"] == "Never"
    assert got["DISTILLRUN_GPU_RESOURCE"] == "amd.com/gpu"
    assert got["DISTILLRUN_GPU_HOUR_PRICE"] == "2.96"
    assert got["DISTILLRUN_PRICE_BOOK"] == '{"A100":"1.5"}'
    assert got["DISTILLRUN_CURRENCY"] == "EUR"
    assert got["DISTILLRUN_MIRROR"] == "s3://mirror/hub"
    assert got["DISTILLRUN_WATCH_NAMESPACES"] == "team-a,team-b"
    assert got["DISTILLRUN_NETWORK_POLICIES"] == "false"
    assert got["DISTILLRUN_DNS"] == "openshift-dns"
    assert got["DISTILLRUN_SERVE_FROM"] == "gw,10.0.0.0/8"
    assert got["DISTILLRUN_LOG_LEVEL"] == "debug"
    assert got["DISTILLRUN_LEASE_NAME"] == "another"


def test_what_is_said_of_the_pod_reaches_the_pod(render: Render) -> None:
    said = {
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1}],
        "priorityClassName": "high",
    }
    resources = {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}
    more = {"podLabels": {"team": "ml"}, "podAnnotations": {"note": "x"}, "images": {"pullSecrets": [{"name": "pull"}]}}
    template = one(render({**said, **more, "resources": resources}), "Deployment")["spec"]["template"]
    assert {name: template["spec"][name] for name in said} == said
    assert template["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert template["metadata"]["labels"]["team"] == "ml"
    assert template["metadata"]["annotations"] == {"note": "x"}
    assert template["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "1"


def test_two_replicas_are_spread_over_nodes_and_drained_one_by_one(
    render: Render, default: list[dict[str, Any]]
) -> None:
    assert not [each for each in default if each["kind"] == "PodDisruptionBudget"]
    objects = render({"replicas": 2})
    template = one(objects, "Deployment")["spec"]["template"]
    budget = one(objects, "PodDisruptionBudget")["spec"]
    [spread] = template["spec"]["topologySpreadConstraints"]
    assert budget["maxUnavailable"] == 1
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    for selector in (budget["selector"], spread["labelSelector"]):
        assert selector["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_metrics_are_exposed_and_monitored_as_asked(render: Render, default: list[dict[str, Any]]) -> None:
    service = one(default, "Service")
    pod = one(default, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert not [each for each in default if each["kind"] == "ServiceMonitor"]
    asked = {
        "service": {"annotations": {"a": "b"}},
        "serviceMonitor": {"enabled": True, "interval": "5s", "labels": {"release": "prometheus"}},
    }
    objects = render({"metrics": asked})
    monitor = one(objects, "ServiceMonitor")
    assert one(objects, "Service")["metadata"]["annotations"] == {"a": "b"}
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"] == [{"port": "http", "path": "/metrics", "interval": "5s", "honorLabels": True}]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= one(objects, "Service")["metadata"]["labels"].items()
    assert not [each for each in render({"metrics": {"service": {"enabled": False}}}) if each["kind"] == "Service"]


@pytest.mark.parametrize(
    ("values", "release", "name"),
    [
        ({}, "distillrun", "distillrun-operator"),
        ({}, "prod", "prod-distillrun-operator"),
        ({"nameOverride": "students"}, "prod", "prod-students-operator"),
        ({"fullnameOverride": "op"}, "prod", "op"),
        ({}, "r" * 53, ("r" * 53 + "-")[:53] + "-operator"),
    ],
)
def test_objects_are_named_after_the_release(render: Render, values: dict[str, Any], release: str, name: str) -> None:
    deployment = one(render(values, release), "Deployment")
    assert deployment["metadata"]["name"] == name
    assert len(name) <= 63
