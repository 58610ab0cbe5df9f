"""What the kernel's memory controller knows about us, cgroup v1 and v2: kills, peak and limit.

In a container the controller's own folder is usually mounted as its root, while /proc/self/cgroup may name the path on
the host; both are tried. v2 (with Kubernetes' memory.oom.group) kills the whole container and nobody is left to look;
v1, and v2 without the group flag, kill one process, and only these counters tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_V1_NO_LIMIT: Final = 1 << 62


@dataclass(frozen=True)
class Memory:
    """Counters of one moment. `kills`: processes the kernel killed here; `peak` and `limit` in bytes, None: unknown."""

    kills: int | None
    peak: int | None
    limit: int | None


def read(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> Memory:
    """The counters of this process's memory cgroup; all None where there is none to be found."""
    for folder in _folders(root, membership):
        if (folder / "memory.events").exists():
            return Memory(
                _keyed(folder / "memory.events", "oom_kill"),
                _number(folder / "memory.peak"),
                _number(folder / "memory.max"),
            )
        if (folder / "memory.oom_control").exists():
            limit = _number(folder / "memory.limit_in_bytes")
            return Memory(
                _keyed(folder / "memory.oom_control", "oom_kill"),
                _number(folder / "memory.max_usage_in_bytes"),
                limit if limit is not None and limit < _V1_NO_LIMIT else None,
            )
    return Memory(None, None, None)


def _folders(root: Path, membership: Path) -> list[Path]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    v1, v2 = [], []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            v1 += [root / "memory" / path.lstrip("/"), root / "memory"]
        elif controllers == "":
            v2 += [root / path.lstrip("/"), root, root / "unified" / path.lstrip("/")]
    # Where v1 has the memory controller (also on a hybrid machine) v2's tree has no memory files.
    return v1 + v2


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None  # "max", or a kernel without this file


def _keyed(path: Path, key: str) -> int | None:
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        pass
    return None


def size(number: int | None) -> str:
    """Bytes as people write them: "1.50 GiB"; "unknown" for None."""
    if number is None:
        return "unknown"
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1024
    return f"{value:.2f} TiB"
