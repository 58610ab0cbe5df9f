"""What runs inside a node cluster from the start: cluster DNS, and the storage classes of provisioner.py."""

from pathlib import Path
from typing import Any

from .addresses import Ranges
from .client import Client, Object
from .images import coredns_image
from .provisioner import classes

_RESOLVERS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
_LABELS = {"k8s-app": "kube-dns"}  # the label by which policies and tools everywhere know cluster DNS


def resolver_file() -> Path | None:
    """Return the host's resolver file that names a server which pods can reach, or None (a machine without DNS)."""
    for path in _RESOLVERS:
        if path.exists() and any(_reachable(line) for line in path.read_text().splitlines()):
            return path
    return None


def _reachable(line: str) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] == "nameserver" and not words[1].startswith("127.") and words[1] != "::1"


def corefile(forward: bool) -> str:
    """Return CoreDNS' configuration. Answers are kept for a few seconds only: tests replace Services under one name."""
    upstream = "  forward . /etc/resolv.conf\n" if forward else ""
    return (
        ".:53 {\n  errors\n  health\n  ready\n"
        "  kubernetes cluster.local in-addr.arpa {\n    pods insecure\n    ttl 2\n  }\n"
        f"{upstream}  cache 2\n}}\n"
    )


def apply(client: Client, ranges: Ranges) -> None:
    """Create or update all of it."""
    core, rbac = "/api/v1/namespaces/kube-system", "/apis/rbac.authorization.k8s.io/v1"
    name = "coredns"
    meta: Object = {"name": name, "labels": _LABELS}
    core_v1: Object = {"apiVersion": "v1", "metadata": meta}
    for storage_class in classes():
        client.apply(f"/apis/storage.k8s.io/v1/storageclasses/{storage_class['metadata']['name']}", storage_class)
    client.apply(f"{core}/serviceaccounts/{name}", {**core_v1, "kind": "ServiceAccount"})
    data = {"Corefile": corefile(forward=resolver_file() is not None)}
    client.apply(f"{core}/configmaps/{name}", {**core_v1, "kind": "ConfigMap", "data": data})
    rbac_v1: Object = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "localkube:coredns"}}
    read = ["list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
    ]
    client.apply(f"{rbac}/clusterroles/localkube:coredns", {**rbac_v1, "kind": "ClusterRole", "rules": rules})
    binding = {
        **rbac_v1,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "localkube:coredns"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}],
    }
    client.apply(f"{rbac}/clusterrolebindings/localkube:coredns", binding)
    client.apply(f"/apis/apps/v1/namespaces/kube-system/deployments/{name}", _deployment(meta))
    service = {"selector": _LABELS, "clusterIP": ranges.dns, "ports": _ports(("dns", "UDP"), ("dns-tcp", "TCP"))}
    head: Object = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "labels": _LABELS}}
    client.apply(f"{core}/services/kube-dns", {**head, "spec": service})


def _ports(*names: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "protocol": protocol, "port": 53, "targetPort": 53} for name, protocol in names]


def _deployment(meta: Object) -> Object:
    container = {
        "name": "coredns",
        "image": coredns_image(),
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [{"name": n, "containerPort": 53, "protocol": p} for n, p in (("dns", "UDP"), ("dns-tcp", "TCP"))],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "20m", "memory": "40Mi"}},
        "securityContext": {
            "runAsUser": 0,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        },
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    pod = {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": _LABELS},
        "template": {"metadata": {"labels": _LABELS}, "spec": pod},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
