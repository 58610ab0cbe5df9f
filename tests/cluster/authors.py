"""Users of different rights who try to write runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from tests.kube import Kube

RUNS = {"apiGroups": ["distillrun.dev"], "resources": ["distillruns"], "verbs": ["get", "create", "update", "patch"]}
JOBS = {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]}
Author = Callable[..., str]


def secrets(*names: str) -> dict[str, Any]:
    """The right to read these Secrets; without names all of them."""
    return {
        "apiGroups": [""],
        "resources": ["secrets"],
        "verbs": ["get"],
        **({"resourceNames": names} if names else {}),
    }


def grant(kube: Kube, namespace: str, user: str, *rules: dict[str, Any]) -> None:
    meta = {"name": user.replace(":", "-"), "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "User", "name": user, "apiGroup": rbac}
    kube.apply(
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": list(rules)},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": meta["name"]},
            "subjects": [subject],
        },
    )


def create(kube: Kube, thing: dict[str, Any], user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A user's attempt; nothing is stored."""
    dry = arguments or ("--dry-run=server",)
    return kube.kubectl("create", "--as", user, *dry, "-f", "-", stdin=json.dumps(thing))


def refusal(kube: Kube, thing: dict[str, Any], user: str) -> str:
    done = create(kube, thing, user)
    assert done.returncode, "the API server took what it should refuse"
    return done.stderr
