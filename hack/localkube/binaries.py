"""The programs that are built from Go modules, each once for its sources, its pins and the Go that builds it."""

import fcntl
import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import LocalKubeError
from .places import SOURCE, binaries
from .shell import run, say

KUBERNETES_VERSION = "v1.35.4"
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")


@dataclass(frozen=True)
class Program:
    """A binary: its module is <home>/<name>, `package` what is built there, `stamps` the linker's -X settings."""

    name: str
    package: str = "."
    stamps: tuple[str, ...] = ()
    home: Path | None = None  # this package's go/ when None

    @property
    def module(self) -> Path:
        """Return the folder of the Go module."""
        return (self.home or SOURCE / "go") / self.name

    def flags(self) -> list[str]:
        """Return the build flags; part of the key."""
        return ["-trimpath", "-ldflags", " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in self.stamps)])]


_MAJOR, _MINOR = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
PROGRAMS = {
    program.name: program
    for program in (
        Program(
            "kubernetes",
            # Without it every component calls itself v0.0.0, and kubelet and API server check each other's version.
            stamps=tuple(
                f"k8s.io/component-base/version.{field}={value}"
                for field, value in (("gitVersion", KUBERNETES_VERSION), ("gitMajor", _MAJOR), ("gitMinor", _MINOR))
            ),
        ),
        Program("etcd"),
        Program("coredns"),
        Program("pause"),
        Program("helm", "helm.sh/helm/v3/cmd/helm"),
        Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
        Program("versitygw", "github.com/versity/versitygw/cmd/versitygw"),
        Program("promql"),
        Program("health"),
    )
}


def go() -> str:
    """Return the path of the Go command. Raises LocalKubeError if there is none."""
    found = shutil.which("go") or next((str(p) for p in (Path("/usr/local/go/bin/go"),) if p.exists()), None)
    if found is None:
        raise LocalKubeError("go was not found on PATH; install Go 1.25 or newer, then run this again")
    return found


@functools.cache
def _go_version() -> str:
    return run([go(), "env", "GOVERSION"]).strip()


def key(program: Program) -> str:
    """Return 12 hex digits that change with the program's sources, pins, flags or the Go that builds it."""
    digest = hashlib.sha256(json.dumps([_go_version(), program.package, program.flags()]).encode())
    for path in sorted(program.module.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def path_of(program: Program) -> Path:
    """Return where the built program lies, or will lie."""
    return binaries() / f"{program.name}-{key(program)}"


def binary(name: str) -> Path:
    """Return the built program `name`, or the Kubernetes component of that name. Raises LocalKubeError if not built."""
    program = PROGRAMS["kubernetes" if name in COMPONENTS else name]
    built = path_of(program)
    if not built.exists():
        raise LocalKubeError(f"{program.name} is not built yet; run: python3 hack/localkube build")
    return _component_links(built) / name if name in COMPONENTS else built


def build(names: Sequence[str]) -> None:
    """Build the named programs that are missing, with a line for each step. Raises LocalKubeError on failure."""
    build_programs([PROGRAMS[name] for name in names])


def build_programs(programs: Sequence[Program]) -> None:
    """Build those of `programs` that are missing, as `build` does."""
    todo = [program for program in programs if not path_of(program).exists()]
    for number, program in enumerate(todo, 1):
        started = time.monotonic()
        note = " (the longest one: 8 min on 2 cores the first time)" if program.name == "kubernetes" else ""
        say(f"[{number}/{len(todo)}] building {program.name}{note} …")
        with _only_builder():
            _build(program)
        say(f"[{number}/{len(todo)}] {program.name} built in {time.monotonic() - started:.0f} s")
    for program in programs:
        _publish(program)


def _build(program: Program) -> None:
    target = path_of(program)
    if target.exists():
        return  # another build was faster
    temporary = target.with_name(f".{target.name}")
    environment = {**os.environ, "CGO_ENABLED": "0"}
    run([go(), "build", *program.flags(), "-o", temporary, program.package], cwd=program.module, env=environment)
    if program.name == "kwok":
        _copy_kwok_stages(program)
    temporary.rename(target)


def _publish(program: Program) -> None:
    """Point <cache>/bin/<name> at the newest build, for people; this package itself goes by keys."""
    built = path_of(program)
    names = COMPONENTS if program.name == "kubernetes" else (program.name,)
    for name in names:
        target = _component_links(built) / name if program.name == "kubernetes" else built
        _link(binaries() / name, target)


def _component_links(built: Path) -> Path:
    folder = built.with_name(f"{built.name}.d")
    folder.mkdir(exist_ok=True)
    for name in COMPONENTS:
        _link(folder / name, built)
    return folder


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(target)
    temporary.rename(link)


def kwok_stages() -> Path:
    """Return KWOK's own stage files (how its fake nodes and pods behave), one YAML document after another."""
    return path_of(PROGRAMS["kwok"]).with_suffix(".stages.yaml")


def _copy_kwok_stages(program: Program) -> None:
    """Keep the "fast" stages of KWOK's module beside its binary: the module cache may be emptied at any time."""
    listed = json.loads(run([go(), "list", "-m", "-json", "sigs.k8s.io/kwok"], cwd=program.module))
    stages = Path(listed["Dir"]) / "kustomize" / "stage"
    files = [p for kind in ("node", "pod") for p in sorted((stages / kind / "fast").glob("*.yaml"))]
    documents = [p.read_text() for p in files if p.name != "kustomization.yaml"]
    if not documents:
        raise LocalKubeError(f"KWOK's module has no stages below {stages}; its layout changed with its version")
    kwok_stages().write_text("---\n".join(documents))


@contextmanager
def _only_builder() -> Iterator[None]:
    """Hold the lock that lets one build run at a time for one cache."""
    binaries().mkdir(parents=True, exist_ok=True)
    with (binaries() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is running; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
