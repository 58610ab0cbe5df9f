"""The CustomResourceDefinition, generated from the models.

pydantic writes JSON Schema with `$ref` and `anyOf`; Kubernetes wants a structural schema without either
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema).
"""

from __future__ import annotations

import re
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from distillrun.api import API_VERSION, GROUP, KIND, PLURAL, SHORT_NAME, SINGULAR, VERSION
from distillrun.api.v1alpha1 import DistillRun

_KEEP = {
    "description",
    "type",
    "format",
    "default",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
}


def structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """One node of pydantic's JSON Schema in structural form: references inlined, unions with null dropped."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        return structural({**target, **{k: v for k, v in node.items() if k != "$ref"}}, definitions)
    if "anyOf" in node:
        [only] = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        rest = {k: v for k, v in node.items() if k not in ("anyOf",) and not (k == "default" and v is None)}
        return structural({**only, **rest}, definitions)
    out = {k: v for k, v in node.items() if k in _KEEP or k.startswith("x-kubernetes-")}
    if "const" in node:
        out["enum"] = [node["const"]]
    if "enum" in out:
        out["type"] = "string" if isinstance(out["enum"][0], str) else "integer"
    if "properties" in node:
        out["properties"] = {k: structural(v, definitions) for k, v in node["properties"].items()}
    elif isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = structural(node["additionalProperties"], definitions)
    elif node.get("type") == "object":
        out["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in node:
        out["items"] = structural(node["items"], definitions)
    return out


def _fill_defaults(schema: dict[str, Any]) -> None:
    """Give optional objects the whole of their parts' defaults: CEL rules see a default before it is filled in."""
    required = set(schema.get("required", ()))
    for name, child in schema.get("properties", {}).items():
        _fill_defaults(child)
        if child.pop("x-distillrun-factory", None) and name not in required and not child.get("required"):
            child["default"] = {key: part["default"] for key, part in child["properties"].items() if "default" in part}
    if "items" in schema:
        _fill_defaults(schema["items"])


def _mark_factories(model: Any, schema: dict[str, Any]) -> None:
    """Walk models and schema together and mark fields that are made by a factory (objects, lists, maps)."""
    for field in model.model_fields.values():
        child = schema["properties"][field.alias]
        inner = _model_of(field.annotation)
        if inner is not None:
            target = child["items"] if child.get("type") == "array" else child
            _mark_factories(inner, target)
        if field.default_factory is not None and child.get("type") == "object" and "properties" in child:
            child["x-distillrun-factory"] = True


def _model_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_of(argument)
        if found is not None:
            return found
    return None


def openapi() -> dict[str, Any]:
    """The structural schema of a whole DistillRun."""
    raw = DistillRun.model_json_schema(by_alias=True, mode="validation")
    schema = structural(raw, raw.get("$defs", {}))
    _mark_factories(DistillRun, schema)
    _fill_defaults(schema)
    schema["properties"]["status"]["default"] = {"observedGeneration": -1}
    schema["properties"] = {
        "apiVersion": {"type": "string", "description": f"Always {API_VERSION}."},
        "kind": {"type": "string", "description": f"Always {KIND}."},
        "metadata": {"type": "object"},
        **schema["properties"],
    }
    schema["required"] = ["spec"]
    return schema


def columns() -> list[dict[str, Any]]:
    """What `kubectl get` shows; those with priority 1 only with `-o wide`."""

    def column(name: str, path: str, priority: int = 0, kind: str = "string") -> dict[str, Any]:
        return {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}

    return [
        column("Phase", ".status.phase"),
        column("Stage", ".status.stage"),
        column("Progress", ".status.progress"),
        column("Cost", ".status.cost.spent"),
        column("Score", ".status.score"),
        column("Age", ".metadata.creationTimestamp", kind="date"),
        column("Ready", '.status.conditions[?(@.type=="Ready")].status', 1),
        column("Message", ".status.message", 1),
    ]


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition as a plain dict."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT_NAME],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns(),
                    "schema": {"openAPIV3Schema": openapi()},
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Quotes strings such as 1e-5, which YAML 1.1 takes for text and Kubernetes' reader for a number."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = "'" if re.fullmatch(r"[-+.0-9][-+.0-9eE_]*", value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(document: dict[str, Any]) -> str:
    """YAML that means the same to YAML 1.1 and 1.2 readers."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
