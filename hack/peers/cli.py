"""The command line: `python3 hack/peers COMMAND`. Answers go to standard output, progress to standard error."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hack.localkube.errors import LocalKubeError
from hack.localkube.shell import say

from . import controller
from .programs import PEERS, build, program


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (default: the process'), and return the exit code: 0, or 1 with a sentence."""
    parser = argparse.ArgumentParser(
        prog="python3 hack/peers", description="Kueue, JobSet and Trainer on a control plane of hack/localkube."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    builder = commands.add_parser("build", help="build those that are missing (2 to 10 minutes each, on 2 cores)")
    builder.add_argument("peer", nargs="*", choices=[*PEERS, []], help="default: all")
    up = commands.add_parser("up", help="start one and return once its webhooks answer; does nothing if it runs")
    down = commands.add_parser("down", help="end one and remove its webhooks; its definitions and objects stay")
    for command in (up, down):
        command.add_argument("peer", choices=PEERS)
        command.add_argument("--kubeconfig", type=Path, required=True, help="as `control-plane up` printed it")
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "build":
                for name in options.peer or PEERS:
                    build(name)
                    print(program(name))
            case "up":
                controller.up(options.peer, options.kubeconfig)
            case "down":
                controller.down(options.peer, options.kubeconfig)
    except LocalKubeError as error:
        say(f"peers: {error}")
        return 1
    return 0
