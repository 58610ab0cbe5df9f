"""Control-plane-only clusters: an API server to test against, any number side by side, each up in seconds."""

import fcntl
import re
import shutil
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from . import components, credentials, processes
from .binaries import build
from .client import Client
from .components import OPTIONAL, Settings
from .errors import LocalKubeError
from .packages import CONTROL_PLANE, install
from .places import Cluster, control_plane, control_planes
from .shell import wait_until

# Below the ports that Linux hands out to outgoing connections, so that none of those takes ours first.
_PORTS = range(21000, 29000)


def programs(with_: Sequence[str]) -> list[str]:
    """Return which programs a control plane with the optional parts `with_` needs built."""
    return ["kubernetes", "etcd", *(["kwok"] if "kwok" in with_ else [])]


def up(name: str, with_: Sequence[str] = (), gpu_nodes: int = 0) -> Cluster:
    """Start the control plane called `name` and return it once it answers; does nothing if it runs.

    `with_` names parts of OPTIONAL to start besides etcd and the API server; `gpu_nodes` fake nodes of 8 GPUs need it.
    Raises LocalKubeError on a bad name, an unknown part, another set of parts than it runs with, or a failed start.
    """
    _check(name, with_, gpu_nodes)
    cluster = control_plane(name)
    with _lock():
        old = Settings.load(cluster)
        if old is not None and _running(cluster, old):
            if sorted(old.components) != sorted(with_):
                raise LocalKubeError(
                    f"control plane {name!r} runs with {old.components}, asked for {list(with_)}; "
                    f"take it down first: python3 hack/localkube control-plane down --name {name}"
                )
            return cluster
        install(CONTROL_PLANE)
        build(programs(with_))
        remove(cluster)
        cluster.make_folders()
        settings = Settings("127.0.0.1", _free_port(), "10.96.0.0/16", components=list(with_))
        settings.save(cluster)
        credentials.create(cluster, settings.server, ["127.0.0.1"])
        components.start_etcd(cluster)
        components.start_apiserver(cluster, settings)
    client = components.wait_for_api(cluster)
    for part in with_:
        _start(cluster, settings, part)
    for number in range(gpu_nodes):
        components.add_gpu_node(client, f"gpu-{number}")
    if "controller-manager" in with_:
        path = "/api/v1/namespaces/default/serviceaccounts?fieldSelector=metadata.name=default"
        wait_until("the default service account is there", lambda: bool(client.get(path)["items"]), seconds=30)
    return cluster


def down(name: str) -> None:
    """End the control plane called `name` and remove all of it; does nothing if there is none."""
    _check(name, (), 0)
    remove(control_plane(name))


def remove(cluster: Cluster) -> None:
    """End the cluster's processes, recorded or not, and remove its folder."""
    processes.kill_marked(cluster)
    shutil.rmtree(cluster.state, ignore_errors=True)


def names() -> list[str]:
    """Return the names of the control planes that have a folder, running or not."""
    folder = control_planes()
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.exists() else []


def restart(name: str, part: str) -> None:
    """Kill one part of a running control plane (SIGKILL, as a crash would) and start it again; for fault tests."""
    kill(name, part)
    cluster, settings = _existing(name)
    _start(cluster, settings, part)
    components.wait_for_api(cluster)


def kill(name: str, part: str) -> None:
    """Kill one part of a control plane and leave it dead; `restart` starts it again. Its data stays."""
    cluster, settings = _existing(name)
    known = ["etcd", "apiserver", *settings.components]
    if part not in known:
        raise LocalKubeError(f"control plane {name!r} has no part {part!r}; it has {', '.join(known)}")
    processes.stop(cluster, [_process_name(part)], first=signal.SIGKILL)


def _existing(name: str) -> tuple[Cluster, Settings]:
    cluster = control_plane(name)
    settings = Settings.load(cluster)
    if settings is None:
        raise LocalKubeError(f"no control plane {name!r}; there are: {', '.join(names()) or 'none'}")
    return cluster, settings


def _process_name(part: str) -> str:
    return part if part in ("etcd", "kwok") else f"kube-{part}"


def _start(cluster: Cluster, settings: Settings, part: str) -> None:
    match part:
        case "etcd":
            components.start_etcd(cluster)
        case "apiserver":
            components.start_apiserver(cluster, settings)
        case "controller-manager":
            components.start_controller_manager(cluster)
        case "scheduler":
            components.start_scheduler(cluster)
        case "kwok":
            components.start_kwok(cluster)


def _check(name: str, with_: Sequence[str], gpu_nodes: int) -> None:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise LocalKubeError(f"{name!r} is no name for a control plane: up to 32 lower-case letters, digits and dashes")
    for part in with_:
        if part not in OPTIONAL:
            raise LocalKubeError(f"unknown part {part!r}; those to choose from: {', '.join(OPTIONAL)}")
    if gpu_nodes and "kwok" not in with_:
        raise LocalKubeError("fake GPU nodes need something that plays their kubelet: add kwok to --with")


def _running(cluster: Cluster, settings: Settings) -> bool:
    alive = {record.name for record in processes.records(cluster) if record.alive()}
    wanted = {_process_name(part) for part in ("etcd", "apiserver", *settings.components)}
    return wanted <= alive and Client(cluster.kubeconfig()).ready()


def _free_port() -> int:
    """Return a port that nobody listens on and no other control plane was given."""
    taken = {settings.port for name in names() if (settings := Settings.load(control_plane(name)))}
    for port in _PORTS:
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise LocalKubeError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


@contextmanager
def _lock() -> Iterator[None]:
    """Hold the lock under which ports are handed out."""
    control_planes().mkdir(parents=True, exist_ok=True)
    with (control_planes() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
