"""Base of all API models: camelCase on the wire, unknown fields refused, and the few types that recur."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """A part of the resource. Class attributes `rules` and `open_schema` steer the generated schema."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


def rules(*pairs: tuple[str, str] | tuple[str, str, str]) -> dict[str, Any]:
    """CEL rules for a model's schema as (rule, message) or (rule, message, messageExpression)."""
    validations = []
    for pair in pairs:
        validation = {"rule": pair[0], "message": pair[1]}
        if len(pair) == 3:
            validation["messageExpression"] = pair[2]
        validations.append(validation)
    return {"x-kubernetes-validations": validations}


MAP_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}
ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
ATOMIC_MAP: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}
ANY_OBJECT: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}

DECIMAL_PATTERN = r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?$"
Decimal = Annotated[str, Field(pattern=DECIMAL_PATTERN, max_length=24)]
"""A non-negative decimal number as a string, as Kubernetes asks for: "0.95", "1e-5"."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=40)]
"""The name of a list's item: a short DNS label."""

ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)]
"""The name of a Kubernetes object in the run's namespace."""

Column = Annotated[str, Field(min_length=1, max_length=128)]
"""The name of a column of rows."""

ServiceName = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]
"""The name of a Service: an RFC 1035 label."""

ArtifactUri = Annotated[str, Field(pattern=r"^(file:///|s3://|hf://).+", max_length=1024)]
"""Where a model or data lies: file:///mnt/distillrun/… (the run's claim), s3://bucket/key or hf://owner/name."""

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, max_length=40)]
"""RFC 3339, UTC."""
