"""Control-plane-only clusters."""

import time
from collections.abc import Callable

import pytest

from hack.localkube import control_plane as planes
from hack.localkube import processes
from hack.localkube.binaries import KUBERNETES_VERSION
from hack.localkube.client import ApiError
from hack.localkube.errors import LocalKubeError
from hack.localkube.places import control_plane as place
from hack.localkube.pytest_plugin import RunningCluster

pytestmark = pytest.mark.controlplane
Factory = Callable[..., RunningCluster]


def namespaces(cluster: RunningCluster) -> set[str]:
    return {item["metadata"]["name"] for item in cluster.client.get("/api/v1/namespaces")["items"]}


def eventually(ready: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_control_planes_run_side_by_side_and_know_nothing_of_each_other(control_plane_factory: Factory) -> None:
    one, two = control_plane_factory("one"), control_plane_factory("two")
    one.kubectl("create", "namespace", "only-in-one")
    assert "only-in-one" in namespaces(one)
    assert "only-in-one" not in namespaces(two)


def test_a_second_up_is_a_no_op(control_plane_factory: Factory) -> None:
    one = control_plane_factory("one")
    before = {record.pid for record in processes.records(place(one.name))}
    again = planes.up(one.name)
    assert {record.pid for record in processes.records(again)} == before


def test_asking_for_other_parts_than_it_runs_with_is_refused(control_plane_factory: Factory) -> None:
    one = control_plane_factory("one")
    with pytest.raises(LocalKubeError, match="take it down first"):
        planes.up(one.name, ["scheduler"])


def test_an_unknown_part_and_a_bad_name_and_gpu_nodes_without_kwok_are_refused() -> None:
    with pytest.raises(LocalKubeError, match="'kubelet'"):
        planes.up("x", ["kubelet"])
    with pytest.raises(LocalKubeError, match=r"'\.\./x'"):
        planes.up("../x")
    with pytest.raises(LocalKubeError, match="kwok"):
        planes.up("x", gpu_nodes=1)


def test_what_was_written_survives_the_death_of_etcd_and_of_the_api_server(control_plane_factory: Factory) -> None:
    one = control_plane_factory("one")
    one.kubectl("create", "namespace", "survivor")
    for part in ("etcd", "apiserver"):
        planes.kill(one.name, part)
        planes.restart(one.name, part)
        eventually(lambda: "survivor" in namespaces(one))


def test_who_did_what_is_in_the_audit_log(control_plane: RunningCluster) -> None:
    control_plane.kubectl("create", "namespace", "audited")
    events = control_plane.audit_events()
    created = [e for e in events if e["verb"] == "create" and (e.get("objectRef") or {}).get("name") == "audited"]
    assert [e["user"]["username"] for e in created] == ["admin"]


def test_pod_security_is_enforced(control_plane: RunningCluster) -> None:
    control_plane.kubectl("create", "namespace", "strict")
    control_plane.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    eventually(lambda: bool(control_plane.client.get("/api/v1/namespaces/strict/serviceaccounts")["items"]))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bold"},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    with pytest.raises(ApiError, match='violates PodSecurity "restricted'):
        control_plane.client.request("POST", "/api/v1/namespaces/strict/pods", pod)


def test_the_api_server_tells_the_version_that_was_pinned(control_plane: RunningCluster) -> None:
    assert control_plane.client.get("/version")["gitVersion"] == KUBERNETES_VERSION


def test_with_kwok_there_are_fake_gpu_nodes_and_a_job_asking_for_gpus_completes(control_plane_factory: Factory) -> None:
    farm = control_plane_factory("farm", with_=["controller-manager", "scheduler", "kwok"], gpu_nodes=3)

    def ready() -> int:
        nodes = farm.client.get("/api/v1/nodes")["items"]
        conditions = [c for n in nodes for c in n["status"].get("conditions", []) if c["type"] == "Ready"]
        return sum(c["status"] == "True" for c in conditions)

    eventually(lambda: ready() == 3)
    container = {"name": "c", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "8"}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "template": template}
    farm.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job", "namespace": "default"}, "spec": spec}
    )
    path = "/apis/batch/v1/namespaces/default/jobs/job"
    eventually(lambda: farm.client.get(path)["status"].get("succeeded") == 3)


def test_down_leaves_no_process_and_no_file() -> None:
    cluster = planes.up("short-lived")
    pids = [record.pid for record in processes.records(cluster)]
    planes.down("short-lived")
    assert not cluster.state.exists()
    assert all(processes.start_time(pid) is None for pid in pids)
    planes.down("short-lived")


def test_what_a_crash_left_is_replaced_by_the_next_up(control_plane_factory: Factory) -> None:
    crashed = control_plane_factory("crashed")
    cluster = place(crashed.name)
    processes.kill_marked(cluster)
    assert planes.up(crashed.name) == cluster
    assert crashed.client.ready()
