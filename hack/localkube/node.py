"""The machine's one cluster with a node: up, down, and what state it is in."""

import fcntl
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import addons, components, credentials, host, images, kubelet, processes, runtime
from .addresses import choose
from .binaries import build
from .client import ApiError, Client
from .components import Settings
from .errors import LocalKubeError
from .packages import NODE, install, require_root
from .places import SOURCE, Cluster, node_cluster
from .shell import run, say, tail, wait_until

PROGRAMS = ("kubernetes", "etcd", "coredns", "pause", "helm")
PARTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "network-policy",
    "provisioner",
    "kube-proxy",
    "kubelet",
)
_PORT = 6443
_LOCK = Path("/run/lock/distillrun-localkube")


def up() -> Cluster:
    """Bring the node cluster up and return it when it is ready to work; does nothing if it is.

    Ready: node Ready with its GPUs, DNS answering, default service account and storage class there. What a crash or a
    reboot left of an earlier cluster is removed first. Raises LocalKubeError on a machine that cannot hold it.
    """
    require_root()
    cluster = node_cluster()
    with _lock():
        if running(cluster):
            return cluster
        started = time.monotonic()
        install(NODE)
        build(PROGRAMS)
        if _state_left(cluster):
            say("removing what an earlier cluster left …")
            _take_down(cluster)
        _check_host()
        try:
            _start(cluster, started)
        except BaseException:
            say(f"start failed; the logs are in {cluster.logs}, `python3 hack/localkube down` removes what was started")
            raise
    return cluster


def _start(cluster: Cluster, began: float) -> None:
    def step(text: str) -> None:
        say(f"{time.monotonic() - began:5.1f} s  {text}")

    cluster.make_folders()
    ranges = choose()
    settings = Settings(ranges.bridge, _PORT, ranges.services, ranges.pods, ["controller-manager", "scheduler"])
    host.prepare(cluster, ranges)
    inside = ranges.services.replace(".0.0/16", ".0.1")  # the Service `kubernetes` has the first address
    credentials.create(cluster, settings.server, [ranges.bridge, inside])
    components.start_etcd(cluster)
    components.start_apiserver(cluster, settings)
    step("etcd and API server started; starting containerd")
    runtime.start(cluster, ranges)
    client = components.wait_for_api(cluster)
    step("API server ready; starting the rest")
    components.start_controller_manager(cluster)
    components.start_scheduler(cluster)
    _start_daemon(cluster, "network-policy", str(cluster.state / "policy.sock"))
    _start_daemon(cluster, "provisioner", str(cluster.state / "volumes"))
    kubelet.start_kubelet(cluster, ranges)
    kubelet.start_proxy(cluster, ranges)
    addons.apply(client, ranges)
    _wait(cluster, "the node is registered", lambda: kubelet.node(client) is not None, "kubelet")
    kubelet.advertise_gpus(client)
    _wait(cluster, "the node is Ready", lambda: kubelet.is_ready(kubelet.node(client)), "kubelet")
    step("node Ready")
    _wait(cluster, "cluster DNS answers", lambda: _dns_ready(client), "kubelet")
    path = "/api/v1/namespaces/default/serviceaccounts?fieldSelector=metadata.name=default"
    wait_until("the default service account is there", lambda: bool(client.get(path)["items"]), seconds=30)
    if not kubelet.has_gpus(kubelet.node(client)):
        kubelet.advertise_gpus(client)  # the kubelet's first report of the node's status may have dropped them
    settings.save(cluster)  # last: its presence says that the start was complete
    step("cluster ready")


def _start_daemon(cluster: Cluster, name: str, argument: str) -> None:
    """Start one of our own daemons: this package again, with `daemon NAME KUBECONFIG ARGUMENT`."""
    command = [sys.executable, "-u", str(SOURCE), "daemon", name, str(cluster.kubeconfig(name)), argument]
    processes.start(cluster, name, command)


def _wait(cluster: Cluster, what: str, ready: object, log: str) -> None:
    assert callable(ready)

    def alive_and_ready() -> bool:
        dead = [r.name for r in processes.records(cluster) if not r.alive()]
        if dead:
            raise LocalKubeError(f"{dead[0]} ended\n{tail(cluster.logs / f'{dead[0]}.log')}")
        return bool(ready())

    wait_until(what, alive_and_ready, seconds=120, hint=lambda: tail(cluster.logs / f"{log}.log"))


def _dns_ready(client: Client) -> bool:
    deployment = client.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns")
    return bool(deployment.get("status", {}).get("availableReplicas"))


def running(cluster: Cluster) -> bool:
    """Tell whether every part of the node cluster runs and the node is ready."""
    if Settings.load(cluster) is None or any(not alive for _, alive, _ in parts(cluster)):
        return False
    client = Client(cluster.kubeconfig())
    try:
        return client.ready() and kubelet.is_ready(kubelet.node(client))
    except (ApiError, OSError):
        return False


def parts(cluster: Cluster) -> list[tuple[str, bool, int | None]]:
    """Return (name, whether it runs, process id) for each part of the node cluster."""
    known = {record.name: record for record in processes.records(cluster)}
    return [(name, name in known and known[name].alive(), known[name].pid if name in known else None) for name in PARTS]


def down() -> None:
    """End the node cluster and remove all it put on the host; the image store stays. Does nothing if there is none."""
    require_root()
    cluster = node_cluster()
    with _lock():
        if _state_left(cluster):
            _take_down(cluster)


def _take_down(cluster: Cluster) -> None:
    """Remove a cluster in whatever state it is: pods first, while containerd can still tidy up after them."""
    processes.stop(cluster, [name for name in PARTS if name != "containerd"], first=processes.KILL)
    if any(record.name == "containerd" and record.alive() for record in processes.records(cluster)):
        runtime.remove_containers(cluster)
    processes.stop(cluster, ["containerd"])
    processes.kill_marked(cluster)
    runtime.kill_container_processes(host.before(cluster)["cgroups"])
    host.undo(cluster)
    kubelet.forget(cluster)
    left = list(host.mounts(cluster.state))
    if left:
        raise LocalKubeError(f"{left[0]} is still mounted; nothing below {cluster.state} was deleted")
    shutil.rmtree(cluster.state, ignore_errors=True)


def _state_left(cluster: Cluster) -> bool:
    return cluster.state.exists() or Path("/sys/class/net", host.BRIDGE).exists()


def _check_host() -> None:
    """Raise LocalKubeError if something on this machine would fight with a node."""
    for entry in Path("/proc").iterdir():
        try:
            name = (entry / "comm").read_text().strip() if entry.name.isdigit() else ""
        except OSError:
            continue
        if name == "kubelet" and processes.start_time(int(entry.name)) is not None:
            raise LocalKubeError(
                f"another kubelet runs on this machine (process {entry.name}); end that node, "
                "or use its cluster: --context NAME"
            )
    for chain in json.loads(run(["nft", "-j", "list", "chains"]))["nftables"]:
        settings = chain.get("chain", {})
        if settings.get("hook") == "forward" and settings.get("policy") == "drop":
            raise LocalKubeError(
                f"the firewall chain {settings['table']} {settings['name']} drops forwarded traffic (Docker's doing), "
                "and pods could not talk; allow it with: iptables -P FORWARD ACCEPT"
            )


@contextmanager
def _lock() -> Iterator[None]:
    """Hold the lock that lets one command change the node cluster at a time."""
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another localkube command is at work on the node cluster; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def describe() -> str:
    """Return the state of the node cluster for a person to read."""
    cluster = node_cluster()
    if not cluster.state.exists():
        return "node cluster: none (python3 hack/localkube up)"
    settings = Settings.load(cluster)
    lines = [f"node cluster: {'up' if running(cluster) else 'not complete (python3 hack/localkube up repairs it)'}"]
    lines += [f"  {name:24} {'process ' + str(pid) if alive else 'not running'}" for name, alive, pid in parts(cluster)]
    if settings is not None:
        lines += [
            f"  API server  {settings.server}",
            f"  pods        {settings.pods}",
            f"  services    {settings.services}",
        ]
    lines += [
        f"  kubeconfig  {cluster.kubeconfig()}",
        f"  audit log   {cluster.audit_log}",
        f"  logs        {cluster.logs}",
        f"  containerd  {images.socket(cluster)} (namespace k8s.io)",
    ]
    return "\n".join(lines)
