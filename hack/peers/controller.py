"""Starts a peer on a control plane, as its release would run but outside of a pod, and ends it.

The API server reaches its webhooks through a Service of type ExternalName that says localhost, so that names and
certificates are those of the release. The certificates are ours: the peers can make their own, but then wait for a
volume with them that nobody mounts here.
"""

import base64
import json
import re
import socket
import urllib.error
import urllib.request
from pathlib import Path

from hack.localkube import control_plane, processes
from hack.localkube.client import ApiError, Client
from hack.localkube.errors import LocalKubeError
from hack.localkube.places import Cluster
from hack.localkube.shell import Words, run, tail, wait_until

from .programs import PEERS, Object, Peer, build, manifests, program

# Where Trainer looks for its certificate; it cannot be told otherwise.
_FIXED_CERTIFICATES = Path("/tmp/k8s-webhook-server/serving-certs")
_LIMITS = {"qps": 500, "burst": 1000}


def up(name: str, kubeconfig: Path) -> None:
    """Start the peer `name`, built first if need be, and return once it is ready; does nothing if it runs.

    Raises LocalKubeError when the cluster is none of hack/localkube's, or when the peer does not come up.
    """
    cluster = _cluster(kubeconfig)
    if _record(cluster, name):
        return
    build(name)
    peer, client = PEERS[name], Client(kubeconfig)
    folder = cluster.state / "peers" / name
    folder.mkdir(parents=True, exist_ok=True)
    authority = _certificates(peer, folder)
    webhooks, health = _free_ports()
    for body in (*_surroundings(peer, folder, webhooks), *manifests(name)):
        if body["kind"].endswith("WebhookConfiguration"):
            body = _addressed(peer, body, webhooks, authority)
        _apply(client, body)
    definitions = [body for body in manifests(name) if body["kind"] == "CustomResourceDefinition"]
    wait_until(f"{name}'s kinds are served", lambda: all(_served(client, each) for each in definitions), seconds=60)
    command: Words = [program(name), *_arguments(peer, folder, webhooks, health)]
    processes.start(cluster, name, command, env={"KUBECONFIG": str(kubeconfig), "HOME": str(folder)})
    log = cluster.logs / f"{name}.log"

    def ready() -> bool:
        if not _record(cluster, name):
            raise LocalKubeError(f"{name} ended at once\n{tail(log)}")
        return _answers(f"http://127.0.0.1:{health}/readyz")

    wait_until(f"{name} is ready", ready, seconds=90, hint=lambda: tail(log))


def down(name: str, kubeconfig: Path) -> None:
    """End the peer and remove its webhooks, without which the API server would go on asking it."""
    cluster = _cluster(kubeconfig)
    client = Client(kubeconfig)
    for body in manifests(name):
        if body["kind"].endswith("WebhookConfiguration"):
            try:
                client.request("DELETE", _path(body))
            except ApiError as error:
                if error.status != 404:
                    raise
    processes.stop(cluster, [name])


def _cluster(kubeconfig: Path) -> Cluster:
    cluster = Cluster(kubeconfig.parents[1].name, kubeconfig.parents[1])
    if cluster.name not in control_plane.names():
        raise LocalKubeError(
            f"{kubeconfig} is no control plane of hack/localkube; "
            "make one first: python3 hack/localkube control-plane up --name x --with controller-manager"
        )
    return cluster


def _served(client: Client, definition: Object) -> bool:
    """Whether discovery knows a kind in each of its versions: a controller that starts earlier ends at once."""
    spec = definition["spec"]
    for version in spec["versions"]:
        if not version["served"]:
            continue
        try:
            found = client.request("GET", f"/apis/{spec['group']}/{version['name']}")
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        if spec["names"]["plural"] not in {each["name"] for each in found["resources"]}:
            return False
    return True


def _record(cluster: Cluster, name: str) -> bool:
    return any(record.name == name and record.alive() for record in processes.records(cluster))


def _certificates(peer: Peer, folder: Path) -> str:
    """Write ca.crt, ca.key, tls.crt and tls.key, and return the authority as a caBundle.

    The peers' own certificate managers replace what is not as they would make it: RSA keys in PKCS 1, and an authority
    that names itself as a host.
    """
    if not (folder / "tls.crt").exists():
        host = f"{peer.service}.{peer.namespace}.svc"
        for key in ("ca.key", "tls.key"):
            run(["openssl", "genrsa", "-traditional", "-out", folder / key, "2048"])
        usage: Words = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
        usage += ["-addext", f"subjectAltName=DNS:{peer.authority}"]
        own: Words = ["-key", folder / "ca.key", "-out", folder / "ca.crt", "-subj", f"/CN={peer.authority}"]
        run(["openssl", "req", "-x509", "-new", "-days", "365", *own, *usage])
        signer: Words = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-days", "365"]
        names: Words = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
        names += ["-addext", "extendedKeyUsage=serverAuth", "-addext", "basicConstraints=critical,CA:FALSE"]
        files: Words = ["-key", folder / "tls.key", "-out", folder / "tls.crt"]
        run(["openssl", "req", "-x509", "-new", *files, *signer, *names])
    if peer.name == "trainer":
        _FIXED_CERTIFICATES.mkdir(parents=True, exist_ok=True)
        for file in ("tls.crt", "tls.key"):
            (_FIXED_CERTIFICATES / file).write_bytes((folder / file).read_bytes())
    return _encoded(folder / "ca.crt")


def _surroundings(peer: Peer, folder: Path, port: int) -> list[Object]:
    """Return the namespace, the Secret with the certificate, and the Service by which the webhooks are reached."""
    where = {"namespace": peer.namespace}
    files = {name: _encoded(folder / name) for name in ("ca.crt", "ca.key", "tls.crt", "tls.key")}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": peer.namespace}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": peer.secret, **where}, "data": files},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": peer.service, **where},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        },
    ]


def _addressed(peer: Peer, body: Object, port: int, authority: str) -> Object:
    service = {"name": peer.service, "namespace": peer.namespace, "port": port}
    for webhook in body["webhooks"]:
        path = webhook["clientConfig"]["service"]["path"]
        webhook["clientConfig"] = {"service": {**service, "path": path}, "caBundle": authority}
    return body


def _arguments(peer: Peer, folder: Path, webhooks: int, health: int) -> list[str]:
    """Return how the controller is told what its release says, with raised client limits where it has such an option.

    Trainer 2.0 has none: its client keeps to controller-runtime's 20 requests a second.
    """
    if peer.name == "trainer":
        return [f"--webhook-server-port={webhooks}", f"--health-probe-bind-address=127.0.0.1:{health}"]
    config: Object = {
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": "127.0.0.1", "port": webhooks, "certDir": str(folder)},
        "leaderElection": {"leaderElect": False},
        "clientConnection": _LIMITS,
    }
    if peer.name == "jobset":
        config |= {"apiVersion": "config.jobset.x-k8s.io/v1alpha1", "internalCertManagement": {"enable": False}}
    else:
        config |= {
            "apiVersion": "config.kueue.x-k8s.io/v1beta1",
            "namespace": peer.namespace,
            # With it off, Kueue wants files for its metrics below /etc.
            "internalCertManagement": {
                "enable": True,
                "webhookServiceName": peer.service,
                "webhookSecretName": peer.secret,
            },
            # Its own small API server listens on a fixed port and keeps files in a folder at the root.
            "featureGates": {"VisibilityOnDemand": False},
            "integrations": {"frameworks": ["batch/job", "pod", "deployment"]},
        }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return [f"--config={path}"]


def _apply(client: Client, body: Object) -> None:
    client.apply(_path(body), body)


def _path(body: Object) -> str:
    """Return the URL path of an object of one of the kinds that a peer consists of."""
    meta = body["metadata"]
    plural = re.sub(r"y$", "ie", body["kind"].lower()) + "s"
    prefix = "/api/v1" if body["apiVersion"] == "v1" else f"/apis/{body['apiVersion']}"
    scope = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"{prefix}{scope}/{plural}/{meta['name']}"


def _free_ports() -> tuple[int, int]:
    """Return two ports that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
