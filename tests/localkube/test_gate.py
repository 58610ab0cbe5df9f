"""The CNI plugin that holds a pod back until its policies are in force, run as containerd runs it."""

import json
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from hack.localkube import runtime
from hack.localkube.addresses import Ranges
from hack.localkube.errors import LocalKubeError
from hack.localkube.places import Cluster

RANGES = Ranges("10.200.0.0/16", "10.200.0.1", "10.201.0.0/16", "10.201.0.10")
BEFORE = {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.200.0.7/16"}]}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A cluster's folder with the network's configuration in it."""
    try:
        runtime._network(Cluster("test", tmp_path), RANGES)
    except LocalKubeError as missing:
        pytest.skip(str(missing))
    return tmp_path


def gate(state: Path, command: str) -> tuple[int, dict[str, Any]]:
    arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=team;K8S_POD_NAME=web-0;K8S_POD_UID=u"
    environment = {**os.environ, "CNI_COMMAND": command, "CNI_ARGS": arguments}
    given = json.dumps({"cniVersion": "0.4.0", "prevResult": BEFORE})
    program = state / "cni" / "bin" / "localkube-gate"
    done = subprocess.run([program], env=environment, input=given, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout or "{}")


def enforcer(state: Path, problem: str) -> dict[str, Any]:
    """Answer one request with `problem`; the dictionary returned gets the request."""
    received: dict[str, Any] = {}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(state / "policy.sock"))
    listener.listen()

    def answer() -> None:
        connection, _ = listener.accept()
        with listener, connection, connection.makefile("rw") as stream:
            received.update(json.loads(stream.readline()))
            stream.write(json.dumps({"problem": problem}) + "\n")

    threading.Thread(target=answer, daemon=True).start()
    return received


def test_a_pod_passes_with_the_result_of_the_plugin_before_when_its_rules_are_in_force(state: Path) -> None:
    received = enforcer(state, "")
    assert gate(state, "ADD") == (0, BEFORE)
    assert received == {"namespace": "team", "name": "web-0", "addresses": ["10.200.0.7"]}


def test_a_pod_is_held_back_when_the_rules_cannot_be_put_in_force(state: Path) -> None:
    enforcer(state, "nft refuses")
    code, said = gate(state, "ADD")
    assert code == 1
    assert said["msg"] == "nft refuses"


def test_a_pod_is_held_back_when_there_is_no_enforcer(state: Path) -> None:
    code, said = gate(state, "ADD")
    assert code == 1
    assert "does not answer" in said["msg"]


def test_taking_a_pod_down_asks_nobody_and_the_plugin_tells_its_versions(state: Path) -> None:
    assert gate(state, "DEL") == (0, {})
    code, said = gate(state, "VERSION")
    assert code == 0
    assert "0.4.0" in said["supportedVersions"]


def test_the_plugin_does_not_need_the_checkout_that_started_the_cluster(state: Path) -> None:
    script = (state / "cni" / "bin" / "localkube-gate").read_text()
    assert str(Path(runtime.__file__).parent) not in script
