"""The command line: `python3 hack/localkube COMMAND`. Answers go to standard output, progress to standard error."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from . import binaries, control_plane, enforcer, external, images, node, packages, provisioner
from .components import OPTIONAL
from .errors import LocalKubeError
from .places import node_cluster
from .shell import say

# What `build --only` understands: a word, and the programs it stands for.
SELECTIONS = {
    "control-plane": ("kubernetes", "etcd", "kwok"),
    "node": node.PROGRAMS,
    "s3": ("versitygw",),
    "checks": ("promql", "health"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (default: the process'), and return the exit code: 0, or 1 with a sentence."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except LocalKubeError as error:
        say(f"localkube: {error}")
        return 1
    except KeyboardInterrupt:
        say("localkube: interrupted; `down` removes what was started")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 hack/localkube", description="A real Kubernetes on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="install Debian packages and build the Go programs that are missing")
    known = [*SELECTIONS, *binaries.PROGRAMS]
    build.add_argument("--only", metavar="LIST", help=f"comma list of: {', '.join(known)} (default: all)")
    node_up = commands.add_parser("up", help="bring the one cluster with a node up and print its kubeconfig's path")
    commands.add_parser("down", help="end it, and leave nothing of it on the host but the image store")
    commands.add_parser("status", help="say what runs, and where kubeconfig, logs and audit log are")
    path = commands.add_parser("kubeconfig", help="print the kubeconfig's path")
    for command in (node_up, path):
        command.add_argument("--context", help="use this cluster of your own instead (so does KUBECONFIG)")
        command.add_argument("--yes", action="store_true", help="use your own cluster without asking")
    load = commands.add_parser("load", help="load images into the node cluster")
    load.add_argument("--oci-layout", action="append", default=[], type=Path, metavar="DIR", help="may be repeated")
    load.add_argument("--replace", action="store_true", help="then remove images of the same repositories, other tags")
    daemon = commands.add_parser("daemon")  # for this package's own use: what `up` starts
    daemon.add_argument("name", choices=["network-policy", "provisioner"])
    daemon.add_argument("kubeconfig", type=Path)
    daemon.add_argument("argument", type=Path)
    planes = commands.add_parser("control-plane", help="clusters without a node: an API server to test against")
    actions = planes.add_subparsers(dest="action", required=True, metavar="ACTION")
    up = actions.add_parser("up", help="start one and print its kubeconfig's path")
    up.add_argument("--with", dest="with_", default="", metavar="LIST", help=f"comma list of: {', '.join(OPTIONAL)}")
    up.add_argument("--gpu-nodes", type=int, default=0, metavar="N", help="fake nodes with 8 GPUs each (needs kwok)")
    down = actions.add_parser("down", help="end one and remove all of it")
    kill = actions.add_parser("kill", help="kill one part and leave it dead")
    restart = actions.add_parser("restart", help="kill one part and start it again")
    for action in (up, down, kill, restart):
        action.add_argument("--name", required=True)
    for action in (kill, restart):
        action.add_argument("--component", required=True, help="etcd, apiserver, or one that was named by --with")
    actions.add_parser("list", help="print the names of the control planes")
    return parser


def _run(options: argparse.Namespace) -> None:
    match options.command:
        case "build":
            _build(options.only)
        case "control-plane":
            _control_plane(options)
        case "up":
            own = external.named(options.context)
            print(external.use(own, yes=options.yes) if own else node.up().kubeconfig())
        case "down":
            external.forget()
            node.down()
        case "status":
            print(node.describe())
        case "kubeconfig":
            own = external.named(options.context)
            print(external.use(own, yes=options.yes) if own else _kubeconfig())
        case "load":
            _load(options.oci_layout, options.replace)
        case "daemon":
            daemon = {"network-policy": enforcer.main, "provisioner": provisioner.main}[options.name]
            daemon(options.kubeconfig, options.argument)


def _build(only: str | None) -> None:
    words = _words(only) if only else list(SELECTIONS)
    for word in words:
        if word not in SELECTIONS and word not in binaries.PROGRAMS:
            raise LocalKubeError(f"--only {word!r} is unknown; known: {', '.join([*SELECTIONS, *binaries.PROGRAMS])}")
    names = list(dict.fromkeys(name for word in words for name in SELECTIONS.get(word, (word,))))
    if "node" in words:
        packages.install(packages.NODE)
    binaries.build(names)
    for name in names:
        print(binaries.path_of(binaries.PROGRAMS[name]))


def _kubeconfig() -> Path:
    path = node_cluster().kubeconfig()
    if not path.exists():
        raise LocalKubeError("there is no node cluster; bring it up first: python3 hack/localkube up")
    return path


def _load(layouts: Sequence[Path], replace: bool) -> None:
    cluster = node_cluster()
    if not images.socket(cluster).exists():
        raise LocalKubeError("there is no node cluster to load into; bring it up first: python3 hack/localkube up")
    for layout in layouts:
        for name in images.load_layout(cluster, layout):
            print(name)
        for name in images.remove_others(cluster, layout) if replace else []:
            say(f"removed {name}")


def _control_plane(options: argparse.Namespace) -> None:
    match options.action:
        case "up":
            print(control_plane.up(options.name, _words(options.with_), options.gpu_nodes).kubeconfig())
        case "down":
            control_plane.down(options.name)
        case "kill":
            control_plane.kill(options.name, options.component)
        case "restart":
            control_plane.restart(options.name, options.component)
        case "list":
            print("\n".join(control_plane.names()))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
