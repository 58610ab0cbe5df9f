"""Pods that knock at other pods' ports, to see what a network plugin lets through."""

from __future__ import annotations

from typing import Any

from tests.e2e.world import World

KNOCK = """
import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
        print("open")
    except OSError:
        print("closed")
"""
LISTEN = """
import socket, threading, time
def listen(port):
    server = socket.create_server(("", port))
    while True:
        kept.append(server.accept()[0])
kept = []
for port in (8080, 9999):
    threading.Thread(target=listen, args=(port,)).start()
"""


def a_pod(world: World, name: str, script: str = "import time; time.sleep(3600)") -> dict[str, Any]:
    """A restricted pod of nobody's run that runs a script in the curation image."""
    locked = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": world.namespace, "labels": {"app": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": world.images["curate"],
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", script],
                    "securityContext": locked,
                }
            ],
        },
    }


def listener(world: World) -> list[dict[str, Any]]:
    """A pod that takes connections on 8080 and 9999 and never answers, and a Service for 8080."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "listener", "namespace": world.namespace},
        "spec": {"selector": {"app": "listener"}, "ports": [{"port": 8080}]},
    }
    return [a_pod(world, "listener", LISTEN), service]


def until_ready(world: World, pod: str) -> str:
    """The address of a pod of `world` once it runs."""
    at = ("-n", world.namespace)
    world.kube.must(*at, "wait", "--for=condition=Ready", "--timeout=120s", f"pod/{pod}")
    return world.kube.must(*at, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")


def knock(world: World, pod: str, *targets: str) -> dict[str, str]:
    """`open` or `closed` for each `host:port`, as the pod finds it."""
    said = world.kube.must("-n", world.namespace, "exec", pod, "--", "python", "-c", KNOCK, *targets)
    return dict(zip(targets, said.split(), strict=True))
