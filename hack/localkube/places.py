"""Where things lie: what is kept between clusters, and what belongs to one cluster."""

import os
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent

# One machine has one node cluster (bridge, cgroups and kube-proxy's tables are the host's), so its state has one place,
# whoever asks and whatever cache they use. The path is short because sockets below it may have 107 characters at most.
NODE_STATE = Path("/var/lib/distillrun/localkube")
NODE_NAME = "node"


def cache_root() -> Path:
    """Return the folder for what is built once and reused by every clone: $DISTILLRUN_CACHE or its default."""
    return Path(os.environ.get("DISTILLRUN_CACHE") or "~/.cache/distillrun").expanduser().absolute()


def binaries() -> Path:
    """Return the folder of built binaries."""
    return cache_root() / "bin"


def image_store() -> Path:
    """Return containerd's root: image contents and snapshots, kept when the cluster goes."""
    return cache_root() / "containerd"


def control_planes() -> Path:
    """Return the folder that holds one folder for each control-plane-only cluster."""
    return cache_root() / "control-planes"


@dataclass(frozen=True)
class Cluster:
    """The files of one cluster, all below `state`, gone when the cluster goes."""

    name: str
    state: Path

    @property
    def credentials(self) -> Path:
        """Return the folder of generated keys, certificates and kubeconfigs (mode 0700)."""
        return self.state / "credentials"

    @property
    def logs(self) -> Path:
        """Return the folder with one log file for each process."""
        return self.state / "logs"

    @property
    def processes(self) -> Path:
        """Return the folder with one record for each started process."""
        return self.state / "processes"

    @property
    def audit_log(self) -> Path:
        """Return the API server's audit log, one JSON event a line."""
        return self.logs / "audit.jsonl"

    @property
    def settings(self) -> Path:
        """Return the file with what was chosen for this cluster: ports, address ranges, components."""
        return self.state / "cluster.json"

    def kubeconfig(self, user: str = "admin") -> Path:
        """Return the kubeconfig of `user`."""
        return self.credentials / f"{user}.kubeconfig"

    def make_folders(self) -> None:
        """Create the cluster's folders, readable by their owner only where secrets lie."""
        self.state.mkdir(parents=True, exist_ok=True)
        for folder in (self.logs, self.processes):
            folder.mkdir(exist_ok=True)
        self.credentials.mkdir(mode=0o700, exist_ok=True)


def node_cluster() -> Cluster:
    """Return the machine's one cluster with a node."""
    return Cluster(NODE_NAME, NODE_STATE)


def control_plane(name: str) -> Cluster:
    """Return the control-plane-only cluster called `name`."""
    return Cluster(name, control_planes() / name)
