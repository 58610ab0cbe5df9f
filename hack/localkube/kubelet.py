"""The parts of a node: kubelet and kube-proxy, and the GPUs that the node pretends to have."""

import json
from pathlib import Path

from . import processes
from .addons import resolver_file
from .addresses import Ranges
from .binaries import binary
from .client import ApiError, Client, Object
from .images import socket
from .places import NODE_NAME, Cluster
from .shell import Words

GPUS = 8
# Where kubelet writes whatever it is told; cleaned by `forget`.
_OUTSIDE = (Path("/var/lib/kubelet/device-plugins"), Path("/var/lib/kubelet"))
_LINKS = Path("/var/log/containers")


def start_kubelet(cluster: Cluster, ranges: Ranges) -> None:
    """Start the kubelet, with all its folders below the cluster's."""
    state, keys = cluster.state, cluster.credentials
    resolver = resolver_file()
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ranges.bridge,
        "healthzPort": 0,
        "tlsCertFile": f"{keys}/kubelet.crt",
        "tlsPrivateKeyFile": f"{keys}/kubelet.key",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{keys}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{socket(cluster)}",
        "clusterDNS": [ranges.dns],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolver) if resolver else "",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        # A developer's disk is often nearly full, and nothing here may evict a pod or remove an image for it.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "podLogsDir": f"{state}/pod-logs",
        "volumePluginDir": f"{state}/volume-plugins",
        # For one node and impatient tests: what a pod became is seen and told at once.
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "eventRecordQPS": 0,
    }
    path = state / "kubelet.json"
    path.write_text(json.dumps(config, indent=1))
    command: Words = [
        binary("kubelet"),
        f"--config={path}",
        f"--kubeconfig={cluster.kubeconfig('kubelet')}",
        f"--root-dir={state}/kubelet",
        f"--cert-dir={state}/kubelet/pki",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={ranges.bridge}",
    ]
    processes.start(cluster, "kubelet", command)


def start_proxy(cluster: Cluster, ranges: Ranges) -> None:
    """Start kube-proxy in its nftables mode: all it does lies in tables of its own, which `down` can remove whole."""
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(cluster.kubeconfig("proxy"))},
        "clusterCIDR": ranges.pods,
        "hostnameOverride": NODE_NAME,
        "healthzBindAddress": f"{ranges.bridge}:10256",
        "metricsBindAddress": f"{ranges.bridge}:10249",
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "100ms"},
        "oomScoreAdj": 0,
    }
    path = cluster.state / "proxy.json"
    path.write_text(json.dumps(config, indent=1))
    processes.start(cluster, "kube-proxy", [binary("kube-proxy"), f"--config={path}"])


def node(client: Client) -> Object | None:
    """Return the Node object, or None before the kubelet has registered it."""
    try:
        return client.get(f"/api/v1/nodes/{NODE_NAME}")
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def advertise_gpus(client: Client) -> None:
    """Say that the node has GPUS graphics cards: an extended resource is nothing but this number."""
    patch = [
        {"op": "add", "path": f"/status/{field}/nvidia.com~1gpu", "value": str(GPUS)}
        for field in ("capacity", "allocatable")
    ]
    client.request("PATCH", f"/api/v1/nodes/{NODE_NAME}/status", patch, kind="application/json-patch+json")


def is_ready(item: Object | None) -> bool:
    """Tell whether the Node object says that the node is ready."""
    conditions = item["status"].get("conditions", []) if item else []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def has_gpus(item: Object | None) -> bool:
    """Tell whether the Node object offers all its GPUs to the scheduler."""
    return bool(item) and item is not None and item["status"].get("allocatable", {}).get("nvidia.com/gpu") == str(GPUS)


def forget(cluster: Cluster) -> None:
    """Remove the few files that kubelet leaves outside of its folder."""
    if _LINKS.exists():
        for link in _LINKS.iterdir():
            if link.is_symlink() and str(link.readlink()).startswith(str(cluster.state)):
                link.unlink()
    for folder in _OUTSIDE:
        if folder.exists():
            for left in folder.glob("kubelet.sock"):
                left.unlink()
            try:
                folder.rmdir()
            except OSError:
                return  # somebody else's files
