"""Reads a kustomization of ours: resources and a namespace. A test compares it with kubectl's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KNOWN = {"apiVersion", "kind", "resources", "namespace"}
CLUSTER_WIDE = {
    "Namespace",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


def build(folder: Path) -> list[dict[str, Any]]:
    """The objects of the kustomization in the folder. Raises ValueError for a feature that is not read here."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(kustomization) - KNOWN
    if unknown:
        raise ValueError(f"{folder}/kustomization.yaml: this reader does not know {', '.join(sorted(unknown))}")
    objects: list[dict[str, Any]] = []
    for resource in kustomization["resources"]:
        path = folder / resource
        objects += build(path) if path.is_dir() else [each for each in yaml.safe_load_all(path.read_text()) if each]
    for each in objects if "namespace" in kustomization else []:
        if each["kind"] not in CLUSTER_WIDE:
            each["metadata"]["namespace"] = kustomization["namespace"]
        elif each["kind"] == "Namespace":
            each["metadata"]["name"] = kustomization["namespace"]
    return objects
