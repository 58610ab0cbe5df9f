"""Rendering the chart with the real Helm, which hack/localkube builds where it is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "distillrun"

Object = dict[str, Any]
Render = Callable[..., list[Object]]


class RenderError(Exception):
    """Helm refused; the text is what it said."""


def build(program: str) -> Path:
    """The program, built by hack/localkube if it is missing."""
    command = [sys.executable, str(ROOT / "hack" / "localkube"), "build", "--only", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"hack/localkube cannot build {program}:\n{done.stderr}")
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def helm() -> Path:
    return build("helm")


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    link = tmp_path_factory.mktemp("bin") / "kubectl"  # the Kubernetes binary goes by the name it is called
    link.symlink_to(build("kubernetes"))
    return link


@pytest.fixture(scope="session")
def render(helm: Path) -> Render:
    """`render(values, release="distillrun")`: the objects that an install would create. Raises RenderError."""

    def rendered(values: Object | None = None, release: str = "distillrun", *arguments: str) -> list[Object]:
        command = [helm, "template", release, CHART, "--namespace", "distillrun-system", "--kube-version", "1.35.0"]
        done = subprocess.run(
            [*map(str, command), "--values", "-", *arguments],
            input=json.dumps(values or {}),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RenderError(done.stderr)
        return [each for each in yaml.safe_load_all(done.stdout) if each]

    return rendered


@pytest.fixture(scope="session")
def default(render: Render) -> list[Object]:
    """What the chart renders with its defaults."""
    return render()


@pytest.fixture(scope="session")
def refusal(render: Render) -> Callable[[Object], str]:
    """`refusal(values)`: what Helm says when it refuses the values; fails if it takes them."""

    def refused(values: Object) -> str:
        with pytest.raises(RenderError) as error:
            render(values)
        return str(error.value)

    return refused


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The only object of the kind (and name)."""
    found = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} {kind} {name or ''} of {[each['kind'] for each in objects]}"
    return found[0]
