"""The generated CRD, as far as it can be checked without an API server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from distillrun.api.schema import crd


def _nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _nodes(schema[key], f"{path}[]")


def _wrong(node: dict[str, Any]) -> bool:
    default = node["default"]
    if isinstance(default, str):
        fits = len(default) <= node.get("maxLength", 2**31) and len(default) >= node.get("minLength", 0)
        return not (fits and re.search(node.get("pattern", ""), default) and default in node.get("enum", [default]))
    if isinstance(default, int) and not isinstance(default, bool):
        return not node.get("minimum", default) <= default <= node.get("maximum", default)
    return False


def test_every_default_of_the_schema_is_valid_by_the_schema() -> None:
    """Else the API server refuses the whole CRD."""
    (version,) = crd()["spec"]["versions"]
    nodes = list(_nodes(version["schema"]["openAPIV3Schema"], ""))
    assert [path for path, node in nodes if "default" in node and _wrong(node)] == []
    assert sum("default" in node for _, node in nodes) > 100
