"""What a user may say about a stage's pods: a small block instead of a whole PodTemplateSpec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distillrun.api.base import ATOMIC, ATOMIC_MAP, MAP_BY_NAME, ApiModel, ObjectName, rules

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$", max_length=24)]
"""A Kubernetes quantity as a string: "500m", "64Gi", "8"."""

ResourceMap = Annotated[dict[str, Quantity], Field(max_length=16)]


class Resources(ApiModel):
    """CPU, memory and other resources of each pod of the stage. GPUs are added from the stage's own fields."""

    requests: ResourceMap = Field(default_factory=dict, description="What the scheduler sets aside for each pod.")
    limits: ResourceMap = Field(default_factory=dict, description="What each pod may use at most.")


class Toleration(ApiModel):
    """As in core/v1."""

    key: str = Field(default="", max_length=317, description="Taint key; empty with operator Exists: every taint.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="How key and value are compared.")
    value: str = Field(default="", max_length=63, description="Taint value for Equal.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="", description="Taint effect; empty: every effect."
    )


class EnvVar(ApiModel):
    """A plain environment variable. Secrets are named by the fields made for them."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128, description="Variable name.")
    value: str = Field(default="", max_length=4096, description="Its value, as it is: nothing is expanded.")


class PullSecret(ApiModel):
    """A Secret that holds registry credentials."""

    name: ObjectName = Field(description="Name of the Secret in the run's namespace.")


class ServerPodSettings(ApiModel):
    """Settings of each pod of a model server."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "!has(self.env) || !self.env.exists(e, e.name.startsWith('DISTILLRUN_'))",
                "pod.env must not set DISTILLRUN_… variables: they belong to the operator; remove them",
            )
        )
    }

    image: str = Field(
        default="",
        max_length=512,
        pattern=r"^\S*$",
        description="Image of the pods; empty: the operator's image for them.",
    )
    resources: Resources = Field(default_factory=Resources, description="CPU, memory and other resources.")
    node_selector: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=16)] = Field(
        default_factory=dict, description="Labels that a node must have.", json_schema_extra=ATOMIC_MAP
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=16, description="Taints that are tolerated.", json_schema_extra=ATOMIC
    )
    env: list[EnvVar] = Field(
        default_factory=list, max_length=8, description="Environment variables.", json_schema_extra=MAP_BY_NAME
    )
    runtime_class_name: str = Field(default="", max_length=253, description="RuntimeClass of the pods; empty: none.")
    shm_size: Quantity = Field(default="2Gi", description="Size of /dev/shm; it counts as memory of the pod.")


class PodSettings(ServerPodSettings):
    """Settings of each pod of a stage."""

    annotations: Annotated[dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=16)] = Field(
        default_factory=dict, description="Annotations of each pod.", json_schema_extra=ATOMIC_MAP
    )
    env: list[EnvVar] = Field(
        default_factory=list, max_length=32, description="Environment variables.", json_schema_extra=MAP_BY_NAME
    )
    image_pull_secrets: list[PullSecret] = Field(
        default_factory=list, max_length=8, description="Registry credentials.", json_schema_extra=MAP_BY_NAME
    )
