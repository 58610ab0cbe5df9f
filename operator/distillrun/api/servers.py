"""Servers that exist only while a stage needs them: the sandbox that judges code, and models that are asked."""

from __future__ import annotations

from pydantic import Field

from distillrun.api.base import ApiModel, ArtifactUri
from distillrun.api.pod import Quantity, ServerPodSettings
from distillrun.api.stages import Engine


class Sandbox(ApiModel):
    """The judge of code that models wrote, started for curation and evaluation where they verify code.

    Requests are limits: submissions are judged at the same time on as many CPUs as there really are.
    """

    replicas: int = Field(default=1, ge=1, le=64, description="Pods that judge.")
    cpu: Quantity = Field(default="2", description="CPU of each pod: one submission at a time on each whole CPU.")
    memory: Quantity = Field(
        default="4Gi", description="Memory of each pod: that of two processes for each submission at a time."
    )
    runtime_class_name: str = Field(
        default="", max_length=253, description="RuntimeClass of its pods, e.g. of gVisor or Kata; empty: none."
    )


class Weights(ApiModel):
    """A model's files."""

    uri: ArtifactUri = Field(description="Folder with config.json, weights and tokenizer, or hf://owner/name.")
    revision: str | None = Field(default=None, max_length=128, description="Revision of a hub model: a commit is best.")
    secret_name: str = Field(
        default="", max_length=253, description="Secret whose keys become environment variables (HF_TOKEN, AWS_…)."
    )


class ModelServer(ApiModel):
    """A model that the run serves itself, with vLLM, while a stage asks it."""

    model: Weights = Field(description="What is served.")
    replicas: int = Field(
        default=1, ge=1, le=32, description="Model servers; the stage begins once all of them answer."
    )
    engine: Engine = Field(default_factory=Engine, description="How vLLM serves the model.")
    max_concurrency: int = Field(
        default=64, ge=1, le=4096, description="Requests in flight at most, at all servers together."
    )
    request_timeout_seconds: int = Field(
        default=3600, ge=1, le=86_400, description="How long one answer may take before it is asked for again."
    )
    pod: ServerPodSettings = Field(
        default_factory=ServerPodSettings,
        description="Settings of its pods; curate.pod.imagePullSecrets are theirs, too.",
    )
