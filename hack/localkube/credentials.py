"""Keys, certificates, tokens and kubeconfigs of one cluster, made when it starts, gone with it, never committed.

Users prove themselves with random tokens (the API server's static token file). Certificates are only where TLS asks
for them: the API server's, the kubelet's, and the one by which the API server proves itself to the kubelet.
"""

import json
import secrets
from collections.abc import Sequence
from pathlib import Path

from .places import Cluster
from .shell import Words, run

# user name -> (file name of the kubeconfig, groups)
USERS = {
    "admin": ("admin", ("system:masters",)),
    "system:kube-controller-manager": ("controller-manager", ()),
    "system:kube-scheduler": ("scheduler", ()),
    "system:kube-proxy": ("proxy", ()),
    "system:node:node": ("kubelet", ("system:nodes",)),
    "localkube:kwok": ("kwok", ("system:masters",)),
    "localkube:provisioner": ("provisioner", ("system:masters",)),
    "localkube:network-policy": ("network-policy", ("system:masters",)),
}
_DAYS = "30"


def create(cluster: Cluster, server: str, addresses: Sequence[str]) -> None:
    """Write all credentials for an API server reached at the URL `server`, whose certificate names `addresses`.

    Does nothing if they are there for the same server, so that a restarted cluster keeps its users.
    """
    folder = cluster.credentials
    wanted = json.dumps([server, *addresses])
    done = folder / "complete"
    if done.exists() and done.read_text() == wanted:
        return
    _authority(folder)
    inside = "kubernetes.default.svc.cluster.local"
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", inside]
    _certificate(folder, "apiserver", "/CN=kube-apiserver", [*names, *addresses], "serverAuth")
    _certificate(folder, "apiserver-to-kubelet", "/O=system:masters/CN=kube-apiserver", [], "clientAuth")
    _certificate(folder, "kubelet", "/O=system:nodes/CN=system:node:node", ["node", *addresses], "serverAuth")
    _key(folder / "service-accounts.key")
    rows = []
    for user, (name, groups) in USERS.items():
        token = secrets.token_urlsafe(32)
        quoted = ",".join(groups)
        rows.append(f'{token},{user},{user},"{quoted}"')
        cluster.kubeconfig(name).write_text(json.dumps(_kubeconfig(cluster, server, token), indent=1))
    (folder / "tokens.csv").write_text("\n".join(rows) + "\n")
    for path in folder.iterdir():
        path.chmod(0o600)
    done.write_text(wanted)


def _kubeconfig(cluster: Cluster, server: str, token: str) -> dict[str, object]:
    """Return a kubeconfig (JSON is YAML) that names the CA by content, so that it may be copied elsewhere."""
    context = f"localkube-{cluster.name}"
    authority = run(["openssl", "base64", "-A", "-in", cluster.credentials / "ca.crt"])
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": context, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    }


def _key(path: Path) -> None:
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])


def _authority(folder: Path) -> None:
    _key(folder / "ca.key")
    subject = f"/CN=localkube-{secrets.token_hex(4)}"
    extensions: Words = [
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]
    files: Words = ["-key", folder / "ca.key", "-out", folder / "ca.crt"]
    run(["openssl", "req", "-x509", "-new", "-days", _DAYS, "-subj", subject, *extensions, *files])


def _certificate(folder: Path, name: str, subject: str, names: Sequence[str], usage: str) -> None:
    """Write <name>.key and <name>.crt, signed by the cluster's CA, for the given DNS names and IP addresses."""
    _key(folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    run(["openssl", "req", "-new", "-key", folder / f"{name}.key", "-subj", subject, "-out", request])
    lines = [f"extendedKeyUsage={usage}", "keyUsage=critical,digitalSignature"]
    if names:
        alternatives = ",".join(f"{'IP' if _is_address(n) else 'DNS'}:{n}" for n in dict.fromkeys(names))
        lines.append(f"subjectAltName={alternatives}")
    extensions.write_text("\n".join(lines) + "\n")
    signer: Words = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-set_serial", f"0x{secrets.token_hex(15)}"]
    output: Words = ["-extfile", extensions, "-out", folder / f"{name}.crt"]
    run(["openssl", "x509", "-req", "-days", _DAYS, "-in", request, *signer, *output])
    request.unlink()
    extensions.unlink()


def _is_address(name: str) -> bool:
    return name.replace(".", "").isdigit()
