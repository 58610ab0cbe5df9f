"""Compile requirements/*.in into lock files with hashes, one for each image and one for development.

``lock.py`` recompiles what is there and keeps every version that still fits; ``--upgrade`` takes the newest that the
.in files allow; ``--check`` compiles nothing and asks only whether each lock was made from the .in files as they are
now (each lock's first line says what it was made from), so it needs neither uv nor a network.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pysettings

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
COMPILE = (
    "pip", "compile", "--quiet", "--generate-hashes", "--python-version", "3.11",
    "--python-platform", "x86_64-manylinux_2_28",
    "--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate",
)  # fmt: skip


@dataclass(frozen=True)
class Lock:
    """One lock file: its name, the locks whose versions it must agree with, and its overrides file if any."""

    name: str
    agrees_with: tuple[str, ...] = ()
    overrides: str | None = None

    @property
    def path(self) -> Path:
        return REQUIREMENTS / f"{self.name}.txt"

    def inputs(self) -> list[Path]:
        """Every file that determines the lock: the .in file, those it includes, constraints and overrides."""
        found = _included(REQUIREMENTS / f"{self.name}.in")
        found += [REQUIREMENTS / f"{other}.txt" for other in self.agrees_with]
        if self.overrides:
            found.append(REQUIREMENTS / self.overrides)
        return found

    def first_line(self) -> str:
        """The comment that ties the lock to its inputs."""
        digest = hashlib.sha256()
        for source in self.inputs():
            digest.update(f"{source.name}\n".encode() + source.read_bytes())
        return f"# Compiled by hack/images/lock.py (make lock). Inputs: sha256:{digest.hexdigest()[:32]}"


# In the order in which they have to be compiled. What the images have in common has one version everywhere except
# in the vLLM images, since vLLM pins what others leave open.
LOCKS = (
    Lock("uv"),
    Lock("torch"),
    Lock("train", agrees_with=("torch",)),
    Lock("curate", agrees_with=("train",)),
    Lock("operator", agrees_with=("train", "curate")),
    Lock("dev", agrees_with=("train", "curate", "operator", "uv")),
    Lock("vllm-cpu", agrees_with=("torch",), overrides="vllm-cpu.overrides"),
    Lock("vllm-gpu", agrees_with=("torch",)),
)


def _included(source: Path) -> list[Path]:
    """``source`` and the files it includes with ``-r``, depth first."""
    found = [source]
    for included in re.findall(r"^-r (\S+)$", source.read_text(), re.MULTILINE):
        found += _included(REQUIREMENTS / included)
    return found


def stale() -> list[str]:
    """Names of the locks that were not made from the .in files as they are now."""
    return [
        lock.name
        for lock in LOCKS
        if not lock.path.exists() or lock.path.read_text().split("\n", 1)[0] != lock.first_line()
    ]


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    uv = os.environ.get("UV") or (str(beside) if beside.exists() else shutil.which("uv"))
    if not uv:
        sys.exit("uv was not found: run `make venv` first, or set UV to its path")
    return uv


def compile_lock(lock: Lock, upgrade: bool) -> None:
    """Write ``lock``; its old versions are kept where they still fit, unless ``upgrade``.

    Raises:
        subprocess.CalledProcessError: if no set of versions satisfies the .in file; uv has said why.
    """
    command = [_uv(), *COMPILE, f"{lock.name}.in", "--output-file", f"{lock.name}.txt"]
    for other in lock.agrees_with:
        command += ["--constraint", f"{other}.txt"]
    if lock.overrides:
        command += ["--override", lock.overrides]
    if upgrade:
        command.append("--upgrade")
    subprocess.run(command, cwd=REQUIREMENTS, env={**os.environ, **pysettings.uv_settings()}, check=True)
    lock.path.write_text(f"{lock.first_line()}\n{lock.path.read_text()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that the .in files allow")
    parser.add_argument("--check", action="store_true", help="only say which locks are out of date; exit 1 if any")
    arguments = parser.parse_args()
    if arguments.check:
        outdated = stale()
        for name in outdated:
            print(f"requirements/{name}.txt was not compiled from requirements/{name}.in as it is now: run `make lock`")
        return 1 if outdated else 0
    for lock in LOCKS:
        compile_lock(lock, arguments.upgrade)
        pins = len(re.findall(r"^[A-Za-z0-9._-]+==", lock.path.read_text(), re.MULTILINE))
        print(f"requirements/{lock.name}.txt  {pins} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
