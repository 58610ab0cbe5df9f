"""The chart, the kustomization and the generated CRD install the same operator."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts import kustomized
from tests.charts.conftest import CHART, ROOT, Render, one

Object = dict[str, Any]
MANIFESTS = ROOT / "manifests"
CRD = MANIFESTS / "crd" / "distillruns.distillrun.dev.yaml"


@pytest.fixture(scope="session")
def manifests() -> list[Object]:
    return kustomized.build(MANIFESTS)


def key(each: Object) -> tuple[str, str, str]:
    return each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]


def without_helms_own(each: Object) -> Object:
    """The object less the labels and annotations by which Helm marks what it made."""
    metadata = dict(each["metadata"])
    for field, prefixes in (
        ("labels", ("helm.sh/", "app.kubernetes.io/managed-by", "app.kubernetes.io/version")),
        ("annotations", ("helm.sh/",)),
    ):
        kept = {
            name: value for name, value in (metadata.pop(field, None) or {}).items() if not name.startswith(prefixes)
        }
        if kept:
            metadata[field] = kept
    return {**each, "metadata": metadata}


def test_kustomize_and_the_chart_install_the_same_objects(default: list[Object], manifests: list[Object]) -> None:
    ours = {key(each): without_helms_own(each) for each in manifests if each["kind"] != "Namespace"}
    charts = {key(each): without_helms_own(each) for each in default}
    assert sorted(ours) == sorted(charts)
    for name in ours:
        assert ours[name] == charts[name], name


def test_the_namespace_of_the_kustomization_enforces_restricted(manifests: list[Object]) -> None:
    labels = one(manifests, "Namespace")["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.mark.controlplane
def test_kubectl_reads_the_kustomization_as_this_test_does(kubectl: Path, manifests: list[Object]) -> None:
    command = [str(kubectl), "kustomize", str(MANIFESTS)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    built = {key(each): each for each in yaml.safe_load_all(text)}
    assert built == {key(each): each for each in manifests}


def test_the_charts_crd_is_the_generated_one() -> None:
    assert (CHART / "files" / "crd.yaml").read_bytes() == CRD.read_bytes()


def test_the_rendered_crd_differs_from_the_generated_one_in_the_keep_annotation_only(default: list[Object]) -> None:
    rendered = one(default, "CustomResourceDefinition")
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert without_helms_own(rendered) == yaml.safe_load(CRD.read_text())


def test_the_crd_can_be_left_out_and_can_go_with_the_release(render: Render) -> None:
    assert not [each for each in render({"crds": {"install": False}}) if each["kind"] == "CustomResourceDefinition"]
    crd = one(render({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert crd == yaml.safe_load(CRD.read_text())
