"""How each part of a control plane is started: its command line, and how one knows that it is up."""

import json
from dataclasses import asdict, dataclass, field

from . import processes
from .binaries import binary, kwok_stages
from .client import Client
from .errors import LocalKubeError
from .places import Cluster
from .shell import Words, tail, wait_until

OPTIONAL = ("controller-manager", "scheduler", "kwok")


@dataclass(frozen=True)
class Settings:
    """What was chosen for one cluster and holds as long as it lives."""

    host: str  # the API server's address
    port: int  # the API server's port
    services: str  # CIDR of the ClusterIPs
    pods: str | None = None  # CIDR of the pods; None without a node
    components: list[str] = field(default_factory=list)  # of OPTIONAL

    @property
    def server(self) -> str:
        """Return the API server's URL."""
        return f"https://{self.host}:{self.port}"

    def save(self, cluster: Cluster) -> None:
        """Write the settings to the cluster's folder."""
        cluster.settings.write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(cluster: Cluster) -> "Settings | None":
        """Return the settings of `cluster`, or None if it was never (completely) set up."""
        try:
            return Settings(**json.loads(cluster.settings.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None


_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]}, {"level": "Metadata"}],
}


def start_etcd(cluster: Cluster) -> None:
    """Start etcd on sockets in the cluster's folder: no port can clash, and no other user can open them."""
    folder = cluster.state / "etcd"
    folder.mkdir(mode=0o700, exist_ok=True)
    for leftover in folder.glob("*.sock"):
        leftover.unlink()
    client, peer = f"unix://{folder}/client.sock", f"unix://{folder}/peer.sock"
    command: Words = [
        binary("etcd"),
        f"--data-dir={folder}/data",
        f"--listen-client-urls={client}",
        f"--listen-peer-urls={peer}",
        # Only names for its one member: nobody listens there, and etcd takes no sockets here.
        "--advertise-client-urls=http://localhost:2379",
        "--initial-advertise-peer-urls=http://localhost:2380",
        "--initial-cluster=default=http://localhost:2380",
        "--unsafe-no-fsync",  # the cluster does not outlive the machine: nothing to lose by a power cut
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=10m",
        "--log-level=warn",
    ]
    processes.start(cluster, "etcd", command)


def start_apiserver(cluster: Cluster, settings: Settings) -> None:
    """Start the API server, with an audit log of who did what (not of contents)."""
    keys = cluster.credentials
    policy = cluster.state / "audit-policy.json"
    policy.write_text(json.dumps(_AUDIT_POLICY))
    command: Words = [
        binary("kube-apiserver"),
        f"--etcd-servers=unix://{cluster.state}/etcd/client.sock",
        f"--bind-address={settings.host}",
        f"--advertise-address={settings.host}",
        f"--secure-port={settings.port}",
        f"--service-cluster-ip-range={settings.services}",
        f"--tls-cert-file={keys}/apiserver.crt",
        f"--tls-private-key-file={keys}/apiserver.key",
        f"--token-auth-file={keys}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={keys}/service-accounts.key",
        f"--service-account-signing-key-file={keys}/service-accounts.key",
        f"--kubelet-client-certificate={keys}/apiserver-to-kubelet.crt",
        f"--kubelet-client-key={keys}/apiserver-to-kubelet.key",
        f"--kubelet-certificate-authority={keys}/ca.crt",
        # By the node's name logs and exec would need it to resolve.
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={cluster.audit_log}",
        "--audit-log-maxsize=500",
        "--audit-log-maxbackup=1",
        "--profiling=false",
    ]
    if settings.pods is None:
        command.append("--endpoint-reconciler-type=none")  # 127.0.0.1 may be no Service's endpoint
    if "controller-manager" not in settings.components:
        # Its controller makes each namespace's default service account, without which this plugin refuses every pod.
        command.append("--disable-admission-plugins=ServiceAccount")
    processes.start(cluster, "kube-apiserver", command)


def start_controller_manager(cluster: Cluster) -> None:
    """Start the controller manager, with client limits above the default of 20 a second, which tests would measure."""
    keys = cluster.credentials
    command: Words = [
        binary("kube-controller-manager"),
        f"--kubeconfig={cluster.kubeconfig('controller-manager')}",
        f"--service-account-private-key-file={keys}/service-accounts.key",
        f"--root-ca-file={keys}/ca.crt",
        "--use-service-account-credentials=true",
        f"--flex-volume-plugin-dir={cluster.state}/volume-plugins",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--profiling=false",
    ]
    processes.start(cluster, "kube-controller-manager", command)


def start_scheduler(cluster: Cluster) -> None:
    """Start the scheduler."""
    config = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(cluster.kubeconfig("scheduler")), "qps": 500, "burst": 1000},
        "leaderElection": {"leaderElect": False},
        "enableProfiling": False,
    }
    path = cluster.state / "scheduler.json"
    path.write_text(json.dumps(config))
    processes.start(cluster, "kube-scheduler", [binary("kube-scheduler"), f"--config={path}", "--secure-port=0"])


def start_kwok(cluster: Cluster) -> None:
    """Start KWOK, which plays the kubelet for every node of the cluster."""
    command: Words = [
        binary("kwok"),
        f"--kubeconfig={cluster.kubeconfig('kwok')}",
        "--manage-all-nodes=true",
        f"--config={kwok_stages()}",
        "--node-lease-duration-seconds=40",
    ]
    processes.start(cluster, "kwok", command, env={"HOME": str(cluster.state)})


def wait_for_api(cluster: Cluster, seconds: float = 120) -> Client:
    """Return a client of the administrator's once the API server is ready. Raises LocalKubeError if it never is."""
    client = Client(cluster.kubeconfig())

    def ready() -> bool:
        for record in processes.records(cluster):
            if record.name in ("etcd", "kube-apiserver") and not record.alive():
                raise LocalKubeError(f"{record.name} ended at once\n{_log(cluster, record.name)}")
        return client.ready()

    wait_until("the API server is ready", ready, seconds=seconds, hint=lambda: _log(cluster, "kube-apiserver"))
    return client


def _log(cluster: Cluster, name: str) -> str:
    return tail(cluster.logs / f"{name}.log")


def add_gpu_node(client: Client, name: str, gpus: int = 8) -> None:
    """Create the fake node `name` with `gpus` GPUs, for KWOK to keep alive."""
    amounts = {"cpu": "128", "memory": "1Ti", "pods": "250", "ephemeral-storage": "1Ti", "nvidia.com/gpu": str(gpus)}
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": "fake-gpu",
        "type": "kwok",
    }
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": amounts, "allocatable": amounts},
    }
    client.request("POST", "/api/v1/nodes", node)
