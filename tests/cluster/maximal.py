"""The largest spec that the schema takes: every field given, every list and map full, every text at its limit."""

from __future__ import annotations

import re
from typing import Any

import yaml

from distillrun.api.v1alpha1 import MOST_SERVED
from tests.kube import ROOT

Schema = dict[str, Any]
FILL = ("{i}{a}", "0.{zeros}5", "1{zeros}Gi", "file:///{a}", "http://{a}/{i}", "a{a}{i}", "AAA")
"""What texts are made of: `{a}` letters and `{zeros}` zeros up to the limit, `{i}` the number of the item."""


def spec_schema() -> Schema:
    """`spec` of the CRD."""
    crd = yaml.safe_load((ROOT / "manifests/crd/distillruns.distillrun.dev.yaml").read_text())
    schema: Schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def largest(schema: Schema, item: int = 0) -> Any:
    """The largest value of a node. `item` numbers the values of a list, so that they differ."""
    if "enum" in schema:
        return schema["enum"][item % len(schema["enum"])]
    kind = schema["type"]
    if kind == "string":
        return text(schema, item)
    if kind == "integer":
        return schema["maximum"]
    if kind == "boolean":
        return True
    if kind == "array":
        return [largest(schema["items"], i) for i in range(length(schema))]
    if "properties" in schema:
        return {name: largest(child, item) for name, child in schema["properties"].items()}
    if "additionalProperties" in schema:
        return {f"k{i}": largest(schema["additionalProperties"], i) for i in range(schema["maxProperties"])}
    return {f"k{i}": {"a": ["x" * 64] * 16} for i in range(64)}


def length(schema: Schema) -> int:
    """How many items a list holds at most; one of few words no more than there are words."""
    words = schema["items"].get("enum")
    most: int = schema["maxItems"]
    return min(most, len(words)) if words else most


def text(schema: Schema, item: int) -> str:
    """The longest text of a node. Raises ValueError for a pattern that nothing in FILL fits."""
    limit = schema.get("maxLength", 3)
    pattern = schema.get("pattern", "")
    for form in FILL:
        fixed = len(form.format(a="", zeros="", i=item))
        room = max(0, limit - fixed)
        made = form.format(a="a" * room, zeros="0" * room, i=item)
        if len(made) <= limit and (not pattern or re.search(pattern, made)):
            return made
    raise ValueError(f"no text is known that fits {pattern!r}: add one to FILL")


def largest_spec() -> dict[str, Any]:
    """The largest spec, changed where rules between fields ask for it."""
    spec: dict[str, Any] = largest(spec_schema())
    for number, model in enumerate(spec["models"]):
        model["terms"]["trainingPermitted"] = True
        model.pop("endpoint" if number < MOST_SERVED else "server")
    # The last of equally long names: rules that look for it compare it with all the others first.
    spec["teacher"] = spec["models"][-1]["name"]
    spec["curate"].pop("dataset")
    spec["storage"].pop("claimTemplate")
    spec["train"].pop("epochs")
    spec["train"] |= {"nodes": 1, "gpusPerNode": 1, "microBatchSize": 1}
    spec["train"]["deepspeed"]["zeroStage"] = 3
    for each in (*spec["curate"]["sources"], *spec["evaluate"]["benchmarks"]):
        each["fields"] |= {"layout": "MultipleChoice"}
        for other in ("input", "tests", "starterCode", "entryPoint"):
            each["fields"].pop(other)
    for source in spec["curate"]["sources"]:
        for each in source["filters"]:
            each.pop("contains")
            each.pop("lacks")
    for benchmark in spec["evaluate"]["benchmarks"]:
        benchmark["grader"] = "MultipleChoice"
    spec["curate"]["select"]["strategy"] = "S1"
    curate, models = spec["curate"], [model["name"] for model in spec["models"]]
    curate["difficulty"] |= {"keep": "PassRate", "models": models[-len(curate["difficulty"]["models"]) :]}
    curate["difficulty"].pop("scores")
    curate["domains"].pop("column")
    curate["domains"]["model"] = curate["rewrite"]["model"] = models[-1]
    spec["curate"]["generate"]["reasoningDelimiters"]["close"] = "b" * 64
    sources = [source["name"] for source in spec["curate"]["sources"]]
    for each, name in zip(spec["curate"]["select"]["preselect"], reversed(sources), strict=True):
        each["source"] = name
    names = [benchmark["name"] for benchmark in spec["evaluate"]["benchmarks"]]
    for gate, name in zip(spec["gates"], reversed(names), strict=True):
        gate |= {"benchmark": name}
    return spec
