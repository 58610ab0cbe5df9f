"""A CNI plugin, chained after the bridge: it lets a pod start only when the pod's NetworkPolicies are in force.

The kubelet reports a pod's address up to a second after its first process runs. Hostile code could use that second;
so the enforcer is told the address here, before the pod has any process, and answers when its rules name it.
Run by containerd as `gate.py SOCKET` with the CNI variables and the network's configuration on standard input.
Stands alone, and imports little, since every pod waits for it.
"""

import json
import os
import socket
import sys


def main() -> int:
    """Do what CNI_COMMAND says; on failure print CNI's error object and return 1."""
    command = os.environ.get("CNI_COMMAND", "")
    if command == "VERSION":
        print(json.dumps({"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0"]}))
        return 0
    if command != "ADD":
        return 0
    network = json.load(sys.stdin)
    before = network.get("prevResult", {})
    arguments = dict(pair.split("=", 1) for pair in os.environ.get("CNI_ARGS", "").split(";") if "=" in pair)
    request: dict[str, object] = {
        "namespace": arguments.get("K8S_POD_NAMESPACE", ""),
        "name": arguments.get("K8S_POD_NAME", ""),
        "addresses": [ip["address"].partition("/")[0] for ip in before.get("ips", [])],
    }
    try:
        problem = _ask(sys.argv[1], request)
    except (OSError, ValueError) as error:
        problem = f"the network policy enforcer does not answer on {sys.argv[1]}: {error}"
    if problem:
        print(json.dumps({"cniVersion": network.get("cniVersion"), "code": 11, "msg": problem}))
        return 1
    print(json.dumps(before))
    return 0


def _ask(path: str, request: dict[str, object]) -> str:
    """Tell the enforcer about a pod, and return its problem, empty when its rules are in force."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(path)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile() as answer:
            return str(json.loads(answer.readline())["problem"])


if __name__ == "__main__":
    sys.exit(main())
