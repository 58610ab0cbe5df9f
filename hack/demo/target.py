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
    context: str | None
    images: dict[str, str]

    def kube(self, *arguments: str) -> list[str]:
        """A kubectl command."""
        return [self.kubectl, *(["--context", self.context] if self.context else []), *arguments]

    def chart(self, *arguments: str) -> list[str]:
        """A Helm command."""
        return [self.helm, *(["--kube-context", self.context] if self.context else []), *arguments]


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
    return Target(str(cache_root() / "bin" / "kubectl"), helm, environment, None, references)


def running_local() -> Target | None:
    """This machine's own cluster if it is up, without images; for cleaning up."""
    if not cluster_kubeconfig():
        return None
    tools = cache_root() / "bin"
    return Target(str(tools / "kubectl"), str(tools / "helm"), {"KUBECONFIG": cluster_kubeconfig()}, None, {})


def cluster_kubeconfig() -> str:
    """Path of this machine's own cluster's kubeconfig; "" if it is not up."""
    done = subprocess.run([*LOCALKUBE, "kubeconfig"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def named(context: str | None, registry: str | None, assume_yes: bool, *, cleaning: bool = False) -> Target | None:
    """The cluster of KUBECONFIG or of a context, after asking; None if the user named none.

    Raises DemoError if the user declines, if nobody can be asked, or if a tool or the registry is missing.
    """
    given = os.environ.get("KUBECONFIG", "")
    if not context and (not given or given == cluster_kubeconfig()):
        return None
    where = f"context {context!r}" if context else f"the current context of KUBECONFIG={given}"
    way_back = "unset KUBECONFIG and give no --context to have the demo make a cluster of its own"
    what = "remove the operator and the demo from" if cleaning else "install the operator and run the demo on"
    if not assume_yes:
        if not sys.stdin.isatty():
            raise DemoError(f"this would {what} {where}: say --yes to agree, or {way_back}")
        print(f"This will {what} {where}. Go on? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise DemoError(f"nothing was done; {way_back}")
    tools = {name: shutil.which(name) for name in ("kubectl", "helm")}
    for name, path in tools.items():
        if path is None:
            raise DemoError(f"{name} is not on PATH: install it, or {way_back}")
    return Target(str(tools["kubectl"]), str(tools["helm"]), {}, context, {} if cleaning else references(registry))


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
