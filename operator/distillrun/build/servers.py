"""The Deployment of servers: of the student that is served, and of a stage's companions."""

from __future__ import annotations

from typing import Any

from distillrun.api.v1alpha1 import Spec
from distillrun.build.meta import metadata, queued, selector
from distillrun.plan.model import Run, Want


def deployment(want: Want, run: Run, spec: Spec, *, replicas: int, template: dict[str, Any]) -> dict[str, Any]:
    """So many pods of a template, queued by Kueue where the run is."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": queued(metadata(want, run), want, spec),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector(want, run)},
            # A cluster seldom has spare GPUs for a surge: replace one by one.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "progressDeadlineSeconds": 3600,
            "template": template,
        },
    }
