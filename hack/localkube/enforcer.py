"""The NetworkPolicy enforcer: keeps the rules of policy.py in the kernel as pods, namespaces and policies change.

For the tests of this repository, on its one node; no substitute for a network plugin of a real cluster.
"""

import json
import os
import socketserver
import threading
from pathlib import Path

from .client import Client, Object
from .errors import LocalKubeError
from .host import POLICY_TABLE
from .mirror import Key, Mirror
from .policy import Pod, ruleset
from .shell import run, say


class Enforcer:
    """Mirrors of what matters, and the rules that follow from them."""

    def __init__(self, client: Client) -> None:
        self._dirty = threading.Event()
        self._applying = threading.Lock()
        self._announced: dict[Key, str] = {}  # addresses that the API does not know yet, told by the gate
        self._seen: set[Key] = set()
        self._last = ""
        set_dirty = self._dirty.set
        self._pods = Mirror(client, "/api/v1/pods", set_dirty, _pod_projection)
        self._namespaces = Mirror(client, "/api/v1/namespaces", set_dirty, _namespace_projection)
        self._policies = Mirror(client, "/apis/networking.k8s.io/v1/networkpolicies", set_dirty)
        self._mirrors = (self._pods, self._namespaces, self._policies)

    def start(self) -> None:
        """Begin to follow the API, and return when everything was listed once and the first rules are in force."""
        for mirror in self._mirrors:
            mirror.start()
        for mirror in self._mirrors:
            mirror.listed.wait()
        self.apply()

    def run(self) -> None:
        """Put changes in force, as long as the process lives."""
        while True:
            self._dirty.wait()
            self._dirty.clear()
            try:
                self.apply()
            except LocalKubeError as error:
                # The rules before stay in force. A policy that nft refuses is a bug here: say it loudly.
                say(f"cannot put the rules in force: {error}")

    def announce(self, key: Key, address: str) -> str:
        """Put the rules for a pod in force that is about to start at `address`; return a problem, or nothing."""
        self._announced[key] = address
        for _ in range(100):  # the pod is known here as a rule: it was scheduled, and the kubelet saw it
            if self._pods.get(key) is not None:
                break
            self._dirty.wait(0.05)
        else:
            return f"pod {'/'.join(key)} is unknown to the network policy enforcer"
        try:
            self.apply()
        except LocalKubeError as error:
            return str(error)
        return ""

    def apply(self) -> None:
        """Compute the rules from what is known now, and load them if they differ from those loaded before."""
        with self._applying:
            namespaces = {item["name"]: item["labels"] for item in self._namespaces.all()}
            text = ruleset(POLICY_TABLE, self._policies.all(), self._current_pods(), namespaces)
            if text != self._last:
                run(["nft", "-f", "-"], stdin=text)
                self._last = text

    def _current_pods(self) -> list[Pod]:
        """Return the pods that have, or are about to have, an address of their own."""
        items = {(item["namespace"], item["name"]): item for item in self._pods.all()}
        for key in self._seen - set(items):
            self._announced.pop(key, None)  # was there and is gone; one that was never seen may still come
        self._seen = set(items)
        found = []
        for (namespace, name), item in items.items():
            # The gate's word is the newer one when a pod's sandbox was made anew.
            address = self._announced.get((namespace, name)) or item["address"]
            if address and not item["finished"]:
                found.append(Pod(namespace, name, address, item["labels"], item["ports"]))
        return found


def _pod_projection(pod: Object) -> Object:
    spec, status = pod["spec"], pod.get("status", {})
    sidecars = [c for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"]
    containers = [*spec["containers"], *sidecars]
    ports = [port for container in containers for port in container.get("ports", []) if port.get("name")]
    return {
        "namespace": pod["metadata"]["namespace"],
        "name": pod["metadata"]["name"],
        "labels": pod["metadata"].get("labels", {}),
        "address": None if spec.get("hostNetwork") else status.get("podIP"),
        "finished": status.get("phase") in ("Succeeded", "Failed") or bool(spec.get("hostNetwork")),
        "ports": {(port["name"], port.get("protocol", "TCP")): port["containerPort"] for port in ports},
    }


def _namespace_projection(namespace: Object) -> Object:
    return {"name": namespace["metadata"]["name"], "labels": namespace["metadata"].get("labels", {})}


class _Gate(socketserver.StreamRequestHandler):
    """Answers gate.py."""

    def handle(self) -> None:
        """Take one request, answer with the problem or nothing."""
        request = json.loads(self.rfile.readline())
        enforcer: Enforcer = self.server.enforcer  # type: ignore[attr-defined]
        key = (request["namespace"], request["name"])
        problem = enforcer.announce(key, request["addresses"][0]) if request["addresses"] else "the pod has no address"
        self.wfile.write(json.dumps({"problem": problem}).encode() + b"\n")


def main(kubeconfig: Path, socket: Path) -> None:
    """Run the enforcer with the access that `kubeconfig` gives; the gate reaches it at `socket`."""
    enforcer = Enforcer(Client(kubeconfig))
    enforcer.start()
    socket.unlink(missing_ok=True)
    server = socketserver.ThreadingUnixStreamServer(str(socket), _Gate)
    socket.chmod(0o600)
    server.enforcer = enforcer  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(f"enforcing network policies (process {os.getpid()})")
    enforcer.run()
