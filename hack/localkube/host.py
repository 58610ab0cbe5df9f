"""What a node changes on its host outside its own folder: kernel settings, the pods' bridge, nftables, cgroups, mounts.

Each change is written down before it is made, so that `undo` can take it back, after a crash too.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .addresses import Ranges
from .errors import LocalKubeError
from .places import Cluster
from .shell import run, say

BRIDGE = "drkube0"
NAT_TABLE = "localkube_nat"
POLICY_TABLE = "localkube_policy"
# Tables of this cluster alone: ours, and those of kube-proxy in its nftables mode.
TABLES = (
    ("ip", NAT_TABLE),
    ("ip", POLICY_TABLE),
    ("bridge", POLICY_TABLE),
    ("ip", "kube-proxy"),
    ("ip6", "kube-proxy"),
)

# What this package sets; the second group is what kubelet and kube-proxy may set by themselves.
SETTINGS = {
    "net/ipv4/ip_forward": "1",
    # Pods of one bridge meet each other's netfilter rules (Services, NetworkPolicy) only with this.
    "net/bridge/bridge-nf-call-iptables": "1",
}
TOUCHED_BY_OTHERS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "net/ipv4/conf/all/route_localnet",
)
CGROUPS = Path("/sys/fs/cgroup")
_BEFORE = "host-before.json"


def prepare(cluster: Cluster, ranges: Ranges) -> None:
    """Set kernel settings and make the bridge and the masquerading of what pods send out of the cluster."""
    for module in ("br_netfilter", "overlay", "nf_conntrack"):
        run(["modprobe", "-q", module], check=False)  # built in, or this fails and the next lines say what is missing
    if not Path("/proc/sys/net/bridge").exists():
        raise LocalKubeError("the kernel has no br_netfilter; without it NetworkPolicy could not be enforced")
    _remember_settings(cluster)
    for name, value in SETTINGS.items():
        Path("/proc/sys", name).write_text(value)
    if not Path("/sys/class/net", BRIDGE).exists():
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    # The cluster speaks IPv4 only; an IPv6 link-local address would be a way to the host past NetworkPolicy.
    disable = Path(f"/proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6")
    if disable.exists():  # not where the kernel was started without IPv6
        disable.write_text("1")
    width = ranges.pods.rpartition("/")[2]
    run(["ip", "address", "replace", f"{ranges.bridge}/{width}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    run(["nft", "-f", "-"], stdin=_nat_rules(ranges))


def _nat_rules(ranges: Ranges) -> str:
    return f"""
table ip {NAT_TABLE}
delete table ip {NAT_TABLE}
table ip {NAT_TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {ranges.pods} ip daddr != {ranges.pods} oifname != "{BRIDGE}" masquerade
  }}
}}
"""


def _remember_settings(cluster: Cluster) -> None:
    path = cluster.state / _BEFORE
    if path.exists():
        return  # a start that was cut short has already changed them
    files = {name: Path("/proc/sys", name) for name in (*SETTINGS, *TOUCHED_BY_OTHERS)}
    values = {name: file.read_text().strip() for name, file in files.items() if file.exists()}
    cgroups = sorted(map(str, kubepods()))
    path.write_text(json.dumps({"boot": _boot(), "values": values, "cgroups": cgroups}, indent=1))


def before(cluster: Cluster) -> dict[str, Any]:
    """Return what was there before: kernel settings (`values`), kubelet's cgroups (`cgroups`), and the boot's id."""
    path = cluster.state / _BEFORE
    if not path.exists():
        return {"boot": "", "values": {}, "cgroups": []}
    return dict(json.loads(path.read_text()))


def undo(cluster: Cluster) -> None:
    """Take everything back: mounts, network namespaces, the bridge with its interfaces, tables, cgroups, settings."""
    unmount(cluster.state)
    _remove_cni_results()
    if Path("/sys/class/net", BRIDGE).exists():
        run(["ip", "link", "delete", BRIDGE])
    for family, name in TABLES:
        run(["nft", "delete", "table", family, name], check=False)
    remembered = before(cluster)
    _remove_cgroups(remembered["cgroups"])
    if remembered["boot"] == _boot():  # a reboot has already reset them
        for name, value in remembered["values"].items():
            path = Path("/proc/sys", name)
            if path.exists() and path.read_text().strip() != value:
                path.write_text(value)


def _remove_cni_results() -> None:
    """Remove what the CNI library noted about our pods; it offers no way to put that elsewhere."""
    for ours in Path("/var/lib/cni/results").glob("localkube-*-eth0"):
        container = ours.name.removeprefix("localkube-").removesuffix("-eth0")
        for path in ours.parent.glob(f"*-{container}-*"):
            path.unlink()


def unmount(folder: Path) -> None:
    """Unmount everything at or below `folder`, the deepest first. Raises LocalKubeError if something stays mounted."""
    for attempt in range(20):
        found = sorted(mounts(folder), reverse=True)
        if not found:
            return
        for path in found:
            # Lazily only at the end: a busy mount is most often one whose process is about to be gone.
            run(["umount", *(["-l"] if attempt > 10 else []), path], check=False)
        time.sleep(0.05 * attempt)
    raise LocalKubeError(f"cannot unmount {', '.join(mounts(folder))}; end what uses it, then run this again")


def mounts(folder: Path) -> Iterator[str]:
    """Yield the mount points at or below `folder`; one that was mounted over twice comes twice."""
    prefix = str(folder)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")  # blanks are written as \040
        if point == prefix or point.startswith(prefix + "/"):
            yield point


def kubepods() -> Iterator[Path]:
    """Yield kubelet's cgroups: one in each hierarchy of version 1, or the one of version 2."""
    for pattern in ("kubepods", "*/kubepods"):
        yield from CGROUPS.glob(pattern)


def _remove_cgroups(foreign: list[str]) -> None:
    """Remove kubelet's cgroups, except those that were there before this cluster."""
    for top in kubepods():
        if str(top) in foreign:
            continue
        for folder, _, _ in os.walk(top, topdown=False):
            for _ in range(50):
                try:
                    Path(folder).rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.05)  # its last process is still being taken apart
            else:
                say(f"cgroup {folder} is still in use and stays")


def lines(path: Path) -> list[str]:
    """Return the lines of a kernel file, none if it is gone."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
