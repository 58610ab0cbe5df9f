"""containerd for this cluster alone: its own socket, state and image store; the system's is not touched."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from . import host, images, processes
from .addresses import Ranges
from .errors import LocalKubeError
from .packages import cni_plugins
from .places import SOURCE, Cluster, image_store
from .shell import tail, wait_until

# No value in it needs escaping: all paths are ours.
_CONFIG = """
version = 2
root = "{root}"
state = "{state}/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{state}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE a lower score than our own may not be set, and runc would fail.
  restrict_oom_score_adj = true
  # Mounts of the pods' network namespaces lie below our folder, where `down` finds them.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{state}/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{state}/cni/bin"
    conf_dir = "{state}/cni/net.d"
"""


def start(cluster: Cluster, ranges: Ranges) -> None:
    """Start containerd with the network's configuration in place, and load the images of the cluster's own.

    Containers that a crashed cluster left in the store are removed first. Raises LocalKubeError if it does not start.
    """
    _network(cluster, ranges)
    config = cluster.state / "containerd.toml"
    config.write_text(
        _CONFIG.format(
            root=image_store(), state=cluster.state, socket=images.socket(cluster), pause=images.pause_image()
        )
    )
    _spawn(cluster, config)
    if remove_containers(cluster):
        # Its Kubernetes part read them when it started and would go on believing in them.
        processes.stop(cluster, ["containerd"])
        _spawn(cluster, config)
    images.load_own(cluster)


def _spawn(cluster: Cluster, config: Path) -> None:
    record = processes.start(cluster, "containerd", [_program(), "--config", config])

    def answers() -> bool:
        if not record.alive():
            raise LocalKubeError(f"containerd ended at once\n{tail(cluster.logs / 'containerd.log')}")
        return images.socket(cluster).exists() and bool(images.ctr(cluster, "version", check=False))

    wait_until("containerd answers", answers, seconds=30, hint=lambda: tail(cluster.logs / "containerd.log"))


def _program() -> str:
    found = shutil.which("containerd", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin")
    if found is None:
        raise LocalKubeError("containerd was not found; `python3 hack/localkube build` installs Debian's package")
    return found


def remove_containers(cluster: Cluster) -> bool:
    """Kill and remove every container; tell whether there was any."""
    running = images.ctr(cluster, "tasks", "list", "--quiet", check=False).split()
    if running:
        images.ctr(cluster, "tasks", "delete", "--force", *running, check=False)
    known = images.ctr(cluster, "containers", "list", "--quiet", check=False).split()
    if known:
        images.ctr(cluster, "containers", "delete", *known, check=False)
    return bool(known)


def kill_container_processes(foreign: list[str]) -> None:
    """Kill what still runs in kubelet's cgroups, those named in `foreign` apart: containers whose shim is gone."""
    for top in host.kubepods():
        if str(top) not in foreign:
            for file in top.rglob("cgroup.procs"):
                for pid in host.lines(file):
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass


def _network(cluster: Cluster, ranges: Ranges) -> None:
    """Write the CNI configuration: a bridge, then our gate, which holds a pod back until its policies are in force."""
    folder = cluster.state / "cni"
    programs, configs = folder / "bin", folder / "net.d"
    programs.mkdir(parents=True, exist_ok=True)
    configs.mkdir(exist_ok=True)
    for plugin in cni_plugins().iterdir():
        (programs / plugin.name).symlink_to(plugin)
    # A copy, and the interpreter itself: the cluster outlives the checkout and the virtual environment that started it.
    script = folder / "gate.py"
    shutil.copyfile(SOURCE / "gate.py", script)
    gate = programs / "localkube-gate"
    # Taking a pod's network down needs no gate, and starting Python for it would only cost time.
    gate.write_text(
        "#!/bin/sh\n"
        '[ "$CNI_COMMAND" = DEL ] && exit 0\n'
        f"exec {Path(sys.executable).resolve()} -S -E {script} {cluster.state}/policy.sock\n"
    )
    gate.chmod(0o755)
    bridge = {
        "type": "bridge",
        "bridge": host.BRIDGE,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": f"{folder}/leases",
            "ranges": [[{"subnet": ranges.pods, "gateway": ranges.bridge}]],
        },
    }
    plugins = [bridge, {"type": "localkube-gate"}]
    network = {"cniVersion": "0.4.0", "name": "localkube", "plugins": plugins}
    (configs / "10-localkube.conflist").write_text(json.dumps(network, indent=1))
