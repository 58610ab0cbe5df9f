"""A cluster that the user brings: used instead of building one, but only after a yes.

Tests and the demo create and delete things, so a KUBECONFIG that happens to be set must never be enough.
"""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from .binaries import binary
from .errors import LocalKubeError
from .places import NODE_STATE, cache_root, control_planes
from .shell import run, say


@dataclass(frozen=True)
class Choice:
    """A cluster named by the user: the context, its server's URL, and the whole kubeconfig cut down to it (JSON)."""

    context: str
    server: str
    config: str

    @property
    def file(self) -> Path:
        """Return where the kubeconfig with this context alone lies once the user has agreed."""
        return cache_root() / "your-cluster" / "kubeconfig"


def named(context: str | None) -> Choice | None:
    """Return the cluster that --context or KUBECONFIG names, or None if there is neither, or it is one of ours.

    Raises LocalKubeError if it cannot be read.
    """
    files = [Path(part).expanduser().absolute() for part in os.environ.get("KUBECONFIG", "").split(":") if part]
    files = [path for path in files if not _ours(path)]
    if context is None and not files:
        return None
    absent = [str(path) for path in files if not path.exists()]
    if absent:
        raise LocalKubeError(f"KUBECONFIG names {', '.join(absent)}, which does not exist; correct it or unset it")
    words = [_kubectl(), "config", "view", "--minify", "--flatten", "--raw", "-o", "json"]
    environment = {**os.environ, "KUBECONFIG": ":".join(map(str, files))}
    if not files:
        environment.pop("KUBECONFIG")  # kubectl's default file
    text = run([*words, *(["--context", context] if context else [])], env=environment)
    config = json.loads(text)
    return Choice(config["current-context"], config["clusters"][0]["cluster"]["server"], text)


def use(choice: Choice, *, yes: bool) -> Path:
    """Ask whether `choice` may be used, unless that was agreed before or `yes` is given; return its kubeconfig.

    Raises LocalKubeError if the answer is no, if nobody is there to ask, or if the cluster does not answer.
    """
    if not _agreed(choice):
        if not yes:
            _ask(choice)
        choice.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        choice.file.touch(mode=0o600)
        choice.file.write_text(choice.config)
    say(f"using your cluster {choice.context} at {choice.server}; nothing is built")
    run([_kubectl(), "--kubeconfig", choice.file, "--request-timeout=10s", "get", "--raw", "/readyz"])
    return choice.file


def forget() -> None:
    """Remove the copy of the user's kubeconfig, and with it the agreement; their cluster is left alone."""
    shutil.rmtree(cache_root() / "your-cluster", ignore_errors=True)


def _ask(choice: Choice) -> None:
    where = f"{choice.context} at {choice.server}"
    if not sys.stdin.isatty():
        raise LocalKubeError(
            f"KUBECONFIG or --context names the cluster {where}, and no terminal is there to ask whether to use it; "
            "add --yes to use it, or unset KUBECONFIG to build a local one"
        )
    say(f"Tests and the demo create and delete namespaces, custom resources and roles in {where}.")
    print("Use it instead of building a local cluster? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise LocalKubeError(
            f"{where} is not used; unset KUBECONFIG (and leave out --context) to build a local cluster"
        )


def _agreed(choice: Choice) -> bool:
    try:
        return choice.file.read_text() == choice.config
    except FileNotFoundError:
        return False


def _ours(path: Path) -> bool:
    return path.is_relative_to(NODE_STATE) or path.is_relative_to(control_planes())


def _kubectl() -> Path | str:
    """Return the user's kubectl, or the one built here."""
    return shutil.which("kubectl") or binary("kubectl")
