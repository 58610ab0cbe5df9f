"""Taking the node cluster down, and what a crash leaves.

These end the machine's node cluster, so they run only in CI, when DISTILLRUN_TEST_DOWN is set, or when the cluster was
not up before the session. They bring it up again at the end, for the tests after them.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.localkube import host, images, node, processes
from hack.localkube.places import image_store
from hack.localkube.places import node_cluster as place
from hack.localkube.pytest_plugin import RunningCluster

from .test_node import RESTRICTED, pod, policy, wait

pytestmark = pytest.mark.node


@pytest.fixture(autouse=True)
def may_be_taken_down(node_was_up: bool) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("a node needs root")
    if node_was_up and not (os.environ.get("CI") or os.environ.get("DISTILLRUN_TEST_DOWN")):
        pytest.skip("the node cluster was up before this session; DISTILLRUN_TEST_DOWN=1 takes it down all the same")
    yield
    node.up()


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def rules(text: str) -> list[str]:
    """Return netfilter rules without comments, dates and counters."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def traces() -> dict[str, Any]:
    """Return everything that a node cluster may leave on its host."""
    settings = [*host.SETTINGS, *host.TOUCHED_BY_OTHERS]
    files = [Path("/var/lib/kubelet"), Path("/var/log/pods"), Path("/opt/containerd"), Path("/run/netns")]
    return {
        "marked processes": list(processes.marked(place())),
        "processes in pods": [p.read_text() for top in host.kubepods() for p in top.rglob("cgroup.procs")],
        "mounts": list(host.mounts(place().state)),
        "interfaces": sorted(p.name for p in Path("/sys/class/net").iterdir()),
        "routes": output("ip", "route", "show", "table", "all"),
        "iptables": rules(output("iptables-save")),
        "ip6tables": rules(output("ip6tables-save")),
        "nftables": rules(output("nft", "list", "ruleset")),
        "settings": {name: p.read_text() for name in settings if (p := Path("/proc/sys", name)).exists()},
        "cgroups": sorted(map(str, host.kubepods())),
        "folders": [str(path) for path in (*files, place().state) if path.exists()],
        "links": [str(p) for p in Path("/var/log/containers").glob("*") if p.is_symlink()],
        "network results": [str(p) for p in Path("/var/lib/cni/results").glob("localkube-*")],
    }


def put_to_use() -> RunningCluster:
    """Bring the cluster up and have it do all that leaves traces: pods, a Service, a volume, a policy."""
    cluster = place()
    up = RunningCluster(cluster.name, node.up().kubeconfig(), cluster.audit_log)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": "default", "name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "memory",
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    user = pod("default", "user", "sleep 600", volumeMounts=[{"name": "data", "mountPath": "/data"}])
    user["spec"]["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "data"}})
    assert user["spec"]["securityContext"] == RESTRICTED
    service = {"selector": {"app": "user"}, "type": "NodePort", "ports": [{"port": 80}]}
    head = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "user"}}
    up.apply(claim, user, {**head, "spec": service}, policy("default", "deny", podSelector={}, policyTypes=["Ingress"]))
    wait(up, "default", "user")
    return up


def test_down_leaves_no_process_mount_interface_rule_setting_or_cgroup_but_keeps_the_images() -> None:
    node.down()
    before = traces()
    put_to_use()
    assert list(host.mounts(place().state))
    contents = sum(1 for _ in (image_store() / "io.containerd.content.v1.content").rglob("*"))
    node.down()
    assert traces() == before
    assert sum(1 for _ in (image_store() / "io.containerd.content.v1.content").rglob("*")) == contents
    node.down()  # nothing to do, and no error


def test_after_a_crash_up_removes_what_was_left_and_starts_anew() -> None:
    crashed = put_to_use()
    (top, *_) = host.kubepods()
    orphans = {pid for file in top.rglob("cgroup.procs") for pid in file.read_text().split()}
    processes.kill_marked(place())  # every daemon and every containerd-shim, the containers live on
    assert orphans
    node.up()
    assert not any(processes.start_time(int(pid)) for pid in orphans)
    assert crashed.kubectl("get", "pods", "-o", "name") == ""


def test_after_the_death_of_one_part_up_repairs_the_cluster() -> None:
    up = put_to_use()
    processes.stop(place(), ["kube-scheduler"], first=processes.KILL)
    assert not node.running(place())
    node.up()
    assert node.running(place())
    up.apply(pod("default", "scheduled-again", "sleep 600"))
    wait(up, "default", "scheduled-again")


def test_containers_that_a_dead_containerd_left_in_its_store_are_removed() -> None:
    put_to_use()
    old = set(images.ctr(place(), "containers", "list", "--quiet").split())
    processes.stop(place(), ["containerd"], first=processes.KILL)
    node.up()
    assert old
    assert old.isdisjoint(images.ctr(place(), "containers", "list", "--quiet").split())
