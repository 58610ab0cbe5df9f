"""The cluster with a node, as pods see it. Each test has a namespace of its own under restricted Pod Security."""

import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hack.localkube import node, processes
from hack.localkube.images import BUSYBOX
from hack.localkube.places import node_cluster as place
from hack.localkube.pytest_plugin import RunningCluster

pytestmark = pytest.mark.node

Object = dict[str, Any]
RESTRICTED = {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
LOCKED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
SERVE = "mkdir /tmp/www && echo hello > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"


@pytest.fixture
def namespace(node_cluster: RunningCluster, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"localkube-{abs(hash(request.node.nodeid)) % 10**8}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    node_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    node_cluster.kubectl("delete", "namespace", name, "--wait=false")


def pod(
    namespace: str, name: str, script: str, labels: dict[str, str] | None = None, **container: Any
) -> dict[str, Any]:
    """Return a pod that runs `script` in a shell, may write to /tmp only, and is gone at once when deleted."""
    main = {
        "name": "main",
        "image": BUSYBOX,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-c", script],
        "securityContext": LOCKED,
        **container,
    }
    main["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}, *container.get("volumeMounts", [])]
    spec = {
        "securityContext": RESTRICTED,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [main],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    metadata = {"namespace": namespace, "name": name, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def wait(cluster: RunningCluster, namespace: str, name: str, condition: str = "condition=Ready") -> None:
    cluster.kubectl("-n", namespace, "wait", f"--for={condition}", "--timeout=90s", f"pod/{name}")


def finished(cluster: RunningCluster, namespace: str, name: str) -> str:
    """Wait until the pod has ended well and return what it said."""
    wait(cluster, namespace, name, "jsonpath={.status.phase}=Succeeded")
    return cluster.kubectl("-n", namespace, "logs", name)


def fetches(cluster: RunningCluster, namespace: str, source: str, url: str) -> bool:
    """Tell whether the pod `source` gets an answer from `url` within two seconds."""
    script = ["-n", namespace, "exec", source, "--", "wget", "-q", "-O", "-", "-T", "2", url]
    return cluster.kubectl(*script, check=False) == "hello\n"


def eventually(ready: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def address(cluster: RunningCluster, namespace: str, name: str) -> str:
    return cluster.kubectl("-n", namespace, "get", "pod", name, "-o", "jsonpath={.status.podIP}")


def policy(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


@pytest.fixture
def pair(node_cluster: RunningCluster, namespace: str) -> str:
    """Give the address of a web server; a pod called `client` and a Service called `web` are beside it."""
    server = pod(namespace, "web", SERVE, {"app": "web"}, ports=[{"name": "http", "containerPort": 8080}])
    ports = [{"port": 80, "targetPort": "http"}]
    head = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": "web"}}
    service = {**head, "spec": {"selector": {"app": "web"}, "ports": ports}}
    node_cluster.apply(server, pod(namespace, "client", "sleep 600", {"app": "client"}), service)
    wait(node_cluster, namespace, "web")
    wait(node_cluster, namespace, "client")
    return address(node_cluster, namespace, "web")


def test_a_second_up_is_a_no_op(node_cluster: RunningCluster) -> None:
    before = {record.pid for record in processes.records(place())}
    node.up()
    assert {record.pid for record in processes.records(place())} == before


def test_the_node_is_ready_and_offers_eight_gpus(node_cluster: RunningCluster) -> None:
    (item,) = node_cluster.client.get("/api/v1/nodes")["items"]
    assert item["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert item["status"]["nodeInfo"]["kubeletVersion"] == "v1.35.4"


def test_pods_that_ask_for_gpus_run_and_one_gpu_too_many_waits(node_cluster: RunningCluster, namespace: str) -> None:
    gpus: Object = {"resources": {"limits": {"nvidia.com/gpu": "9"}}}
    one: Object = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    node_cluster.apply(pod(namespace, "fits", "echo ran", **one), pod(namespace, "too-many", "echo ran", **gpus))
    assert finished(node_cluster, namespace, "fits") == "ran\n"
    path = f"/api/v1/namespaces/{namespace}/pods/too-many"

    def refused() -> bool:
        conditions = node_cluster.client.get(path)["status"].get("conditions", [])
        return any("Insufficient nvidia.com/gpu" in c.get("message", "") for c in conditions)

    eventually(refused)


@pytest.mark.parametrize("storage_class", ["local", "memory"])
def test_a_claim_is_bound_written_by_pods_that_are_not_root_and_removed_with_its_contents(
    node_cluster: RunningCluster, namespace: str, storage_class: str
) -> None:
    spec: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "8Mi"}}}
    if storage_class != "local":  # local is the default
        spec["storageClassName"] = storage_class
    head = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": namespace, "name": "data"}}
    pods = [
        pod(namespace, name, script, volumeMounts=[{"name": "data", "mountPath": "/data"}])
        for name, script in (
            ("writer", "echo written > /data/file && stat -c '%u:%g' /data/file"),
            ("reader", "while ! grep written /data/file; do sleep 0.2; done"),
        )
    ]
    for item in pods:
        item["spec"]["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "data"}})
    node_cluster.apply({**head, "spec": spec}, *pods)
    assert finished(node_cluster, namespace, "writer") == "65532:65532\n"
    assert finished(node_cluster, namespace, "reader").splitlines()[-1] == "written"
    claim = node_cluster.client.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/data")
    folder = place().state / "volumes" / claim["spec"]["volumeName"]
    assert (folder / "file").read_text() == "written\n"
    node_cluster.kubectl("-n", namespace, "delete", "pods", "--all")
    node_cluster.kubectl("-n", namespace, "delete", "pvc", "data")
    eventually(lambda: not folder.exists())


def test_a_volume_of_the_class_memory_is_full_at_its_size(node_cluster: RunningCluster, namespace: str) -> None:
    head = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": namespace, "name": "small"}}
    resources = {"requests": {"storage": "1Mi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "memory", "resources": resources}
    script = "dd if=/dev/zero of=/data/x bs=64k count=32 2>&1 || exit 0"
    writer = pod(namespace, "writer", script, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    writer["spec"]["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "small"}})
    node_cluster.apply({**head, "spec": spec}, writer)
    assert "No space left on device" in finished(node_cluster, namespace, "writer")


def test_a_service_is_found_by_dns_and_answers_through_its_cluster_ip(
    node_cluster: RunningCluster, namespace: str, pair: str
) -> None:
    for name in ("web", f"web.{namespace}.svc.cluster.local"):
        eventually(lambda name=name: fetches(node_cluster, namespace, "client", f"http://{name}/"))  # type: ignore[misc]
    cluster_ip = node_cluster.kubectl("-n", namespace, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    assert fetches(node_cluster, namespace, "client", f"http://{cluster_ip}/")
    from_host = subprocess.run(["curl", "-s", "-m", "5", f"http://{cluster_ip}/"], capture_output=True, text=True)
    assert from_host.stdout == "hello\n"
    # A pod reaches itself through its own Service too.
    assert fetches(node_cluster, namespace, "web", f"http://{cluster_ip}/")


def test_the_pods_of_a_headless_service_are_found_by_their_host_names(
    node_cluster: RunningCluster, namespace: str
) -> None:
    head = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": "peers"}}
    spec = {"clusterIP": "None", "selector": {"app": "rank"}, "publishNotReadyAddresses": True, "ports": [{"port": 1}]}
    rank = pod(namespace, "rank-0", "sleep 600", {"app": "rank"})
    rank["spec"].update({"hostname": "rank-0", "subdomain": "peers"})
    node_cluster.apply({**head, "spec": spec}, rank)
    wait(node_cluster, namespace, "rank-0")
    own = address(node_cluster, namespace, "rank-0")
    name = f"rank-0.peers.{namespace}.svc.cluster.local"
    lookup = ["-n", namespace, "exec", "rank-0", "--", "nslookup", name]
    eventually(lambda: own in node_cluster.kubectl(*lookup, check=False))


def test_a_policy_that_denies_really_denies_and_one_that_allows_allows(
    node_cluster: RunningCluster, namespace: str, pair: str
) -> None:
    url = f"http://{pair}:8080/"
    assert fetches(node_cluster, namespace, "client", url)
    node_cluster.apply(policy(namespace, "deny", podSelector={}, policyTypes=["Ingress"]))
    eventually(lambda: not fetches(node_cluster, namespace, "client", url))
    allowed = [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": "http"}]}]
    web = {"matchLabels": {"app": "web"}}
    node_cluster.apply(policy(namespace, "allow", podSelector=web, ingress=allowed))
    eventually(lambda: fetches(node_cluster, namespace, "client", url))
    # Through the Service the policy sees the pods as well, not the Service's address.
    eventually(lambda: fetches(node_cluster, namespace, "client", "http://web/"))
    stranger = pod(namespace, "stranger", "sleep 600", {"app": "stranger"})
    node_cluster.apply(stranger)
    wait(node_cluster, namespace, "stranger")
    assert not fetches(node_cluster, namespace, "stranger", url)


def test_a_pod_without_egress_reaches_neither_pods_nor_dns_nor_the_node_nor_the_api_server(
    node_cluster: RunningCluster, namespace: str, pair: str
) -> None:
    node_cluster.apply(
        policy(namespace, "sealed", podSelector={"matchLabels": {"app": "sealed"}}, policyTypes=["Egress"]),
        pod(namespace, "sealed", "sleep 600", {"app": "sealed"}),
    )
    wait(node_cluster, namespace, "sealed")
    settings = node_cluster.client.get("/api/v1/nodes/node")["status"]["addresses"]
    host = next(item["address"] for item in settings if item["type"] == "InternalIP")
    api = node_cluster.kubectl("get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
    dns = node_cluster.kubectl("-n", "kube-system", "get", "service", "kube-dns", "-o", "jsonpath={.spec.clusterIP}")
    targets = ((pair, 8080), (host, 6443), (api, 443), (dns, 53))
    knock = "; ".join(f"nc -w 2 {target} {port} </dev/null >/dev/null 2>&1; echo $?" for target, port in targets)
    for source, expected in (("client", "0"), ("sealed", "1")):
        said = node_cluster.kubectl("-n", namespace, "exec", source, "--", "sh", "-c", knock).split()
        assert dict(zip(targets, said, strict=True)) == dict.fromkeys(targets, expected), source


def test_a_policy_holds_before_the_pods_first_process_runs(
    node_cluster: RunningCluster, namespace: str, pair: str
) -> None:
    attempt = "wget -q -O - -T 1 http://$TARGET:8080/ 2>/dev/null"
    early = f"for i in 1 2 3 4 5; do {attempt} && exit 0; done; echo silence"
    target: Object = {"env": [{"name": "TARGET", "value": pair}]}
    sealed = policy(namespace, "sealed", podSelector={"matchLabels": {"app": "sealed"}}, policyTypes=["Egress"])
    node_cluster.apply(sealed, pod(namespace, "early", early, {"app": "sealed"}, **target))
    assert finished(node_cluster, namespace, "early") == "silence\n"
    node_cluster.apply(pod(namespace, "open", early, **target))
    assert finished(node_cluster, namespace, "open") == "hello\n"


def test_egress_to_a_block_leaves_out_its_exceptions(node_cluster: RunningCluster, namespace: str, pair: str) -> None:
    url = f"http://{pair}:8080/"

    def allow(*excepted: str) -> None:
        block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(excepted)}}
        client = {"matchLabels": {"app": "client"}}
        node_cluster.apply(
            policy(namespace, "out", podSelector=client, policyTypes=["Egress"], egress=[{"to": [block]}])
        )

    allow(f"{pair}/32")
    eventually(lambda: not fetches(node_cluster, namespace, "client", url))
    allow("192.168.255.255/32")
    eventually(lambda: fetches(node_cluster, namespace, "client", url))


def test_logs_exec_and_port_forward_work(node_cluster: RunningCluster, namespace: str, pair: str) -> None:
    assert node_cluster.kubectl("-n", namespace, "exec", "web", "--", "id", "-u") == "65532\n"
    command = [
        "kubectl",
        "--kubeconfig",
        str(node_cluster.kubeconfig),
        "-n",
        namespace,
        "port-forward",
        "pod/web",
        ":8080",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            local = forward.stdout.readline().split()[2]
            done = subprocess.run(["curl", "-s", "-m", "5", f"http://{local}/"], capture_output=True, text=True)
            assert done.stdout == "hello\n"
        finally:
            forward.terminate()
