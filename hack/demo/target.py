"""The cluster that the demo runs on: this machine's own (hack/localkube), or one that the user names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from steps import DemoError, Steps

ROOT = Path(__file__).resolve().parents[2]
LOCALKUBE = [sys.executable, str(ROOT / "hack" / "localkube")]
BUILD_IMAGES = [sys.executable, str(ROOT / "hack" / "images" / "build.py")]
IMAGES = ("operator", "curate", "train", "evaluate", "serve")


@dataclass(frozen=True)
class Target:
    """A cluster at work: tools, environment for them, and an image reference for each of IMAGES."""

    kubectl: str
    helm: str
    environment: dict[str, str]
    images: dict[str, str]

    def kube(self, *arguments: str) -> list[str]:
        """A kubectl command."""
        return [self.kubectl, *arguments]

    def chart(self, *arguments: str) -> list[str]:
        """A Helm command."""
        return [self.helm, *arguments]


def development_python() -> str:
    """The Python that has what `kubectl distill` needs: this one, or .venv's. Raises DemoError if neither has."""
    for python in (sys.executable, str(ROOT / ".venv" / "bin" / "python")):
        if shutil.which(python) and _succeeds([python, "-c", "import kubernetes, rich, typer"]):
            return python
    raise DemoError("the development environment is missing: run `make venv`, or start the demo with `make demo`")


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def cache_root() -> Path:
    """Where everything built is kept: $DISTILLRUN_CACHE or its default."""
    return Path(os.environ.get("DISTILLRUN_CACHE") or "~/.cache/distillrun").expanduser()


def local(steps: Steps) -> Target:
    """This machine's own cluster, with everything that it needs built, started and loaded. Four steps."""
    with steps.step("build", "Kubernetes and Helm from source") as step:
        built = step.run([*LOCALKUBE, "build", "--only", "node"]).split()
        helm = next(path for path in built if Path(path).name.startswith("helm"))
    with steps.step("cluster", "a Kubernetes on this machine") as step:
        environment = {"KUBECONFIG": step.run([*LOCALKUBE, "up"]).split()[-1]}
        step.note = f"export KUBECONFIG={environment['KUBECONFIG']}"
    with steps.step("images", "images of operator and stages") as step:
        references: dict[str, str] = json.loads(step.run(BUILD_IMAGES))
    with steps.step("load", "images into the cluster") as step:
        layout = step.run([*BUILD_IMAGES, "--layout"]).strip()
        step.run([*LOCALKUBE, "load", "--oci-layout", layout])
    return Target(str(cache_root() / "bin" / "kubectl"), helm, environment, references)


def named(context: str | None, *, assume_yes: bool) -> dict[str, str] | None:
    """The environment that leads to the cluster that KUBECONFIG or `context` names; None if the user named none.

    hack/localkube asks before it gives a cluster of somebody's away. Raises DemoError if the answer is no.
    """
    if not context and not os.environ.get("KUBECONFIG"):
        return None
    command = [
        *LOCALKUBE,
        "kubeconfig",
        *(["--context", context] if context else []),
        *(["--yes"] if assume_yes else []),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    kubeconfig = done.stdout.strip()
    if done.returncode:
        raise DemoError("the demo did not begin")
    return None if kubeconfig == own_kubeconfig() else {"KUBECONFIG": kubeconfig}


def own_kubeconfig() -> str:
    """Path of the kubeconfig of this machine's own cluster; "" if it is not up."""
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    command = [*LOCALKUBE, "kubeconfig"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def with_tools(environment: dict[str, str], images: dict[str, str]) -> Target:
    """A cluster with the user's own kubectl and helm, or else those built here. Raises DemoError if there are none."""
    found = {}
    for name in ("kubectl", "helm"):
        built = cache_root() / "bin" / name
        found[name] = shutil.which(name) or (str(built) if built.exists() else "")
        if not found[name]:
            raise DemoError(f"{name} is not on PATH: install it, or run python3 hack/localkube build --only node")
    return Target(found["kubectl"], found["helm"], environment, images)


def references(registry: str | None) -> dict[str, str]:
    """Image references for a cluster that pulls: `registry/operator:0.1.0` and so on. Raises DemoError without one."""
    if not registry:
        raise DemoError(
            "--registry is missing: push the five images (docs/install.md says how) and name where they are,"
            " such as --registry registry.example/distillrun or …/distillrun:some-tag"
        )
    head, _, last = registry.rpartition("/")
    name, _, tag = last.partition(":")
    base = f"{head}/{name}" if head else name
    return {image: f"{base}/{image}:{tag or '0.1.0'}" for image in IMAGES}
