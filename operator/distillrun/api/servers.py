"""Servers that exist only while a stage needs them: the sandbox that judges code."""

from __future__ import annotations

from pydantic import Field

from distillrun.api.base import ApiModel
from distillrun.api.pod import Quantity


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
