"""Hypothesis strategies for what strangers may send: objects by the CRD's schema, valid and nearly valid."""

from __future__ import annotations

import copy
import functools
import re
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.kube import ROOT
from tests.unit.builders import spec

Json = Any

JUNK: tuple[Any, ...] = (
    *(None, "", " ", "x" * 5000, "ü\u2028\u202e", "../../etc/passwd", "{{.Values}}", "$(id)", "a\nb: c", "-1", "NaN"),
    *(0, -1, 1, 2**31, 2**63 - 1, 1e308, 0.1, True, False, [], {}, [[]], {"a": {"b": {"c": {}}}}, ["x"] * 300),
)
"""Values that no field asked for."""

text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
"""Any JSON value."""


@functools.cache
def schema(part: str) -> Json:
    """The CRD's schema of `spec` or `status`."""
    crd = yaml.safe_load((ROOT / "manifests/crd/distillruns.distillrun.dev.yaml").read_text())
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]


def values(node: Json) -> st.SearchStrategy[Json]:
    """Values that a schema's node allows, its CEL rules aside."""
    if "enum" in node:
        return st.sampled_from(node["enum"])
    match node.get("type"):
        case "object" if "properties" in node:
            parts = {name: values(each) for name, each in node["properties"].items()}
            required = {name: parts.pop(name) for name in node.get("required", ())}
            return st.fixed_dictionaries(required, optional=parts)
        case "object" if "additionalProperties" in node:
            return st.dictionaries(text, values(node["additionalProperties"]), max_size=3)
        case "object":
            return st.dictionaries(text, anything, max_size=3)
        case "array":
            least = node.get("minItems", 0)
            most = min(node.get("maxItems", 4), least + 3)
            return st.lists(values(node["items"]), min_size=least, max_size=most)
        case "string":
            return _strings(node)
        case "integer":
            return st.integers(node.get("minimum", -(2**31)), node.get("maximum", 2**31))
        case "number":
            return st.floats(-1e9, 1e9)
        case "boolean":
            return st.booleans()
    return anything


def _strings(node: Json) -> st.SearchStrategy[str]:
    longest = node.get("maxLength", 40)
    if node.get("format") == "date-time":
        return st.sampled_from(["2026-01-31T12:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
    if "pattern" in node:
        strings = st.from_regex(re.compile(node["pattern"], re.ASCII), fullmatch=True)
        return strings.filter(lambda value: len(value) <= longest and not value.endswith("\n"))
    least = node.get("minLength", 0)
    return st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=least, max_size=min(longest, 40))


def _places(node: Json, where: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value in a JSON document."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, value in inner for found in ((*where, key), *_places(value, (*where, key)))]


@st.composite
def specs(draw: st.DrawFn) -> Json:
    """A working spec of which up to four parts were replaced by what the schema allows there, or by junk."""
    made = spec()
    for _ in range(draw(st.integers(0, 4))):
        node, parent, key = schema("spec"), made, ""
        while True:
            key = draw(st.sampled_from(sorted(node["properties"])))
            node = node["properties"][key]
            deeper = isinstance(parent.get(key), dict) and "properties" in node and draw(st.booleans())
            if not deeper:
                break
            parent = parent[key]
        parent[key] = draw(values(node))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        place = draw(st.sampled_from(_places(made)))
        *way, last = place
        parent = functools.reduce(lambda inner, step: inner[step], way, made)
        match draw(st.sampled_from(["junk", "drop", "unknown", "repeat"])):
            case "junk":
                parent[last] = copy.deepcopy(draw(st.sampled_from(JUNK)))
            case "drop":
                del parent[last]
            case "unknown" if isinstance(parent, dict):
                parent[draw(text)] = draw(anything)
            case "repeat" if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[last]))
    return made


statuses = values(schema("status"))
"""Statuses that the schema allows, written by whoever may write them."""
