"""A real cluster as tests see it: kubectl with a kubeconfig, objects as dicts in and out."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def localkube(*arguments: str) -> str:
    """Run hack/localkube; its last line of output. Raises with its words when it fails."""
    done = subprocess.run(
        ["python3", str(ROOT / "hack/localkube"), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"hack/localkube {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


@dataclass(frozen=True)
class Kube:
    """One cluster."""

    kubeconfig: str
    kubectl_path: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """kubectl with the arguments; never raises."""
        command = [self.kubectl_path, "--kubeconfig", self.kubeconfig, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def must(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl's output; fails the test with its words when it fails."""
        done = self.kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side apply as a user would."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.must("apply", "--server-side", "-f", "-", stdin=text)

    def create(self, thing: dict[str, Any]) -> None:
        """Create an object, status included where its kind allows that."""
        self.must("create", "-f", "-", stdin=json.dumps(thing))

    def refusal(self, thing: dict[str, Any], verb: str = "apply") -> str:
        """The words with which the API server refuses an object; fails the test when it takes it."""
        extra = ["--server-side"] if verb == "apply" else ["--validate=strict"]
        done = self.kubectl(verb, *extra, "-f", "-", stdin=json.dumps(thing))
        assert done.returncode != 0, "the API server took what it should refuse"
        return done.stderr

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """One object, or None when it is not there."""
        done = self.kubectl("get", kind, name, "-n", namespace, "-o", "json")
        if done.returncode:
            assert "NotFound" in done.stderr, done.stderr
            return None
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def list(self, kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind in a namespace."""
        text = self.must("get", kind, "-n", namespace, "-o", "json", *(["-l", selector] if selector else []))
        items: list[dict[str, Any]] = json.loads(text)["items"]
        return items

    def status(self, name: str, namespace: str) -> dict[str, Any]:
        """The status of a DistillRun."""
        found = self.get("distillrun", name, namespace)
        assert found is not None, f"DistillRun {namespace}/{name} is not there"
        status: dict[str, Any] = found.get("status", {})
        return status

    def patch_status(self, name: str, namespace: str, status: dict[str, Any]) -> None:
        """Write a DistillRun's status as the operator would."""
        patch = json.dumps({"status": status})
        self.must("patch", "distillrun", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


def wait_for(what: str, check: Callable[[], Any], seconds: float = 60, every: float = 0.3) -> Any:
    """What `check` returns once it is true; fails the test with `what` after a generous limit."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        found = check()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of a status; empty when it is not there."""
    return next((c for c in status.get("conditions", []) if c["type"] == kind), {})


def stage(status: dict[str, Any], name: str) -> dict[str, Any]:
    """A stage of a status; empty when it is not there."""
    return next((s for s in status.get("stages", []) if s["name"] == name), {})
