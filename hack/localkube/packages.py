"""Debian packages: what the machine lacks is installed, what it has is left alone."""

import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .errors import LocalKubeError
from .places import cache_root
from .shell import run, say

# busybox-static is not run here: it becomes the small test image. containerd unpacks compressed layers faster by pigz.
NODE = (
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iproute2",
    "nftables",
    "iptables",
    "conntrack",
    "kmod",
    "mount",
    "util-linux",
    "openssl",
    "busybox-static",
    "pigz",
)
CONTROL_PLANE = ("openssl",)


def require_root() -> None:
    """Raise LocalKubeError unless this is the root user on a Linux machine."""
    if os.uname().sysname != "Linux":
        raise LocalKubeError(f"this is {os.uname().sysname}; hack/localkube runs on Linux only")
    if os.geteuid() != 0:
        raise LocalKubeError(
            "a node needs root (mounts, network interfaces, cgroups); run it as root, "
            "or use a cluster that you have: --context NAME"
        )


def install(names: Sequence[str]) -> None:
    """Install those of the Debian packages `names` that are missing. Raises LocalKubeError where it cannot."""
    absent = [name for name in names if not installed(name)]
    if not absent:
        return
    if shutil.which("apt-get") is None:
        raise LocalKubeError(
            f"this is no Debian (no apt-get); install what corresponds to these packages yourself: {', '.join(absent)}"
        )
    if os.geteuid() != 0:
        raise LocalKubeError(f"installing {', '.join(absent)} needs root")
    say(f"installing Debian packages: {', '.join(absent)} …")
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "apt.lock").open("w") as lock:
        # apt waits for dpkg's lock, but not for that of its lists, and images are built beside this (hack/images).
        fcntl.flock(lock, fcntl.LOCK_EX)
        run([*apt, "update"], env=environment)
        run([*apt, "install", "--no-install-recommends", *absent], env=environment)


def installed(name: str) -> bool:
    """Tell whether the Debian package `name` is installed."""
    if shutil.which("dpkg-query") is None:
        return False
    return run(["dpkg-query", "-W", "-f", "${Status}", name], check=False).endswith("ok installed")


def cni_plugins() -> Path:
    """Return the folder of the CNI plugins; Debian's and the upstream package's folders differ."""
    for folder in (Path("/usr/lib/cni"), Path("/opt/cni/bin")):
        if (folder / "bridge").exists():
            return folder
    raise LocalKubeError("no CNI plugins in /usr/lib/cni or /opt/cni/bin; install containernetworking-plugins")
