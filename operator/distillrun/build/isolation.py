"""The NetworkPolicy of a stage's pods: nothing in, nothing out, but what the stage needs (docs/security.md).

A NetworkPolicy (networking.k8s.io/v1) knows pods, namespaces and addresses, not host names, and it sees a connection
after the Service was resolved: the pod's address and the pod's port. So a URL becomes the narrowest rule that can be
told from its text alone. Policies add up: whoever needs more writes one more for pods labelled `distillrun.dev/run`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from distillrun.api.pod import ServerPodSettings
from distillrun.api.v1alpha1 import Spec
from distillrun.build.meta import metadata, selector
from distillrun.build.pod import METRICS_PORT
from distillrun.plan import companions, inputs, names, stageconfig
from distillrun.plan.model import Network, Run, Settings, StageName, Want

Rule = dict[str, Any]

# The ports of cluster DNS as its pods listen on it: 53, and 5353 on OpenShift.
DNS_PORTS = tuple({"protocol": protocol, "port": port} for port in (53, 5353) for protocol in ("UDP", "TCP"))
HTTPS = 443
UNPRIVILEGED = 1024
# Link-local addresses are the node's own services: instance metadata, and with it the node's credentials.
INTERNET: tuple[Rule, ...] = (
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}},
)
METADATA = ("100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128")
"""Instance metadata of clouds that do not keep it on a link-local address (Alibaba, Azure, Amazon's IPv6)."""
PRIVATE: tuple[Rule, ...] = (
    *({"ipBlock": {"cidr": cidr}} for cidr in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    {"ipBlock": {"cidr": "100.64.0.0/10", "except": [METADATA[0]]}},
    {"ipBlock": {"cidr": "fc00::/7", "except": [METADATA[2]]}},
)
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
REMOTE = ("hf://", "s3://")
URL_VARIABLES = frozenset(
    {"HF_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}
)
"""Variables of `pod.env` (in either case) by which hub, object store and proxy lie elsewhere."""


def isolation(want: Want, run: Run, spec: Spec, settings: Settings) -> dict[str, Any]:
    """The policy of one stage of one run. It selects by the run's UID: labels alone must not reach another run."""
    assert settings.network is not None
    make = _companion if want.companion else _stage
    inside, outside = make(want, run, spec, settings.network)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(want, run),
        "spec": {
            "podSelector": {"matchLabels": selector(want, run)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": inside,
            "egress": outside,
        },
    }


def _stage(want: Want, run: Run, spec: Spec, network: Network) -> tuple[list[Rule], list[Rule]]:
    return _ingress(want, run, spec, network), _egress(want, run, spec, network)


def _companion(want: Want, run: Run, spec: Spec, network: Network) -> tuple[list[Rule], list[Rule]]:
    """Only stages of this run call a companion. Nothing leaves the sandbox, not even to DNS; a model server leaves to
    where its model comes from."""
    stages = {"key": names.LABEL_STAGE, "operator": "In", "values": list(companions.callers(want.companion))}
    calling = {"matchLabels": {names.LABEL_RUN_UID: run.uid}, "matchExpressions": [stages]}
    inside = [_rule("from", [{"podSelector": calling}], companions.PORT)]
    model = companions.named(run.name, spec, want.companion).model
    if model is None or model.server is None:
        return inside, []
    outside = _dns(network)
    if model.server.model.uri.startswith(REMOTE):
        outside += _distinct([_rule("to", list(INTERNET), HTTPS), *_to(_urls(model.server.pod))])
    return [*_metrics(network), *inside], outside


def _dns(network: Network) -> list[Rule]:
    return [{"to": [peer(each) for each in network.dns], "ports": list(DNS_PORTS)}] if network.dns else []


def _metrics(network: Network) -> list[Rule]:
    readers = [peer(each) for each in (network.operator_namespace, *network.metrics_from) if each]
    return [_rule("from", readers, METRICS_PORT)] if readers else []


def _ingress(want: Want, run: Run, spec: Spec, network: Network) -> list[Rule]:
    rules = _metrics(network)
    if want.stage == "serve":
        clients = [{"podSelector": {}}, *(peer(each) for each in network.serve_from)]
        rules.append(_rule("from", clients, stageconfig.SERVE_PORT))
    return [*rules, *_among_ranks("from", want, run, spec)]


def _egress(want: Want, run: Run, spec: Spec, network: Network) -> list[Rule]:
    rules = _dns(network)
    rules += _among_ranks("to", want, run, spec)
    assert want.stage is not None
    for each in companions.needed(run.name, spec, want.stage):
        labels = {names.LABEL_RUN_UID: run.uid, names.LABEL_STAGE: each.label}
        rules.append(_rule("to", [{"podSelector": {"matchLabels": labels}}], companions.PORT))
    asked = spec.asked_models if want.stage == "curate" else []
    urls = [model.endpoint.url for model in asked if model.endpoint is not None]
    places = _places(want.stage, spec)
    remote = any(place.startswith(REMOTE) for place in places)
    if remote:
        rules.append(_rule("to", list(INTERNET), HTTPS))
    urls += [place for place in places if place.startswith(("http://", "https://"))]
    if urls or remote:
        urls += _named_in_environment(str(want.stage), spec)
    return _distinct([*rules, *_to(urls)])


def _to(urls: list[str]) -> list[Rule]:
    return [rule for rule in (destination(url) for url in urls) if rule is not None]


def _distinct(rules: list[Rule]) -> list[Rule]:
    return [rule for number, rule in enumerate(rules) if rule not in rules[:number]]


def _among_ranks(direction: str, want: Want, run: Run, spec: Spec) -> list[Rule]:
    """Ranks of one training talk to each other on ports that gloo and NCCL draw at random."""
    if want.stage != "train" or spec.train.nodes == 1:
        return []
    return [{direction: [{"podSelector": {"matchLabels": selector(want, run)}}]}]


def _places(stage: StageName, spec: Spec) -> list[str]:
    """Where a stage reads: the URIs of its inputs, the mirror's instead of the hub's."""
    found = [each.uri for each in inputs.read_by(stage, spec)]
    if spec.mirror is not None:
        found = [spec.mirror.uri if uri.startswith("hf://") else uri for uri in found]
    return list(dict.fromkeys(found))


def _named_in_environment(stage: str, spec: Spec) -> list[str]:
    block = getattr(spec, stage, None) or spec.curate
    return _urls(block.pod)


def _urls(pod: ServerPodSettings) -> list[str]:
    return [each.value for each in pod.env if each.name.upper() in URL_VARIABLES]


def destination(url: str) -> Rule | None:
    """The egress rule for a URL; None when it names no host, or one that no pod of a run shall reach.

    - An address: that address and port; never a link-local one.
    - `name`, `name.namespace.svc…`: the pods of that namespace, on the URL's port. Below 1024 it is the Service's port
      and not the pods' (who are not root): then every TCP port of theirs.
    - Any other host on 443: the internet and private networks, on 443.
    - Any other host on another port: pods and private networks on that port, never the internet.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return None
    if not host or parts.scheme not in ("http", "https"):
        return None
    port = port or (HTTPS if parts.scheme == "https" else 80)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _by_name(host, port)
    address = getattr(address, "ipv4_mapped", None) or address
    block = f"{address}/{address.max_prefixlen}"
    if block in METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return None
    return _rule("to", [{"ipBlock": {"cidr": block}}], port)


def _by_name(host: str, port: int) -> Rule | None:
    labels = host.split(".")
    if not all(labels):
        return None
    service_port = None if port < UNPRIVILEGED else port
    if len(labels) == 1:
        return _rule("to", [{"podSelector": {}}], service_port)
    if "svc" in labels[2:]:
        namespace = labels[labels.index("svc", 2) - 1]
        return _rule("to", [peer(namespace)], service_port) if NAMESPACE.fullmatch(namespace) else None
    if port == HTTPS:
        return _rule("to", list(INTERNET), HTTPS)
    return _rule("to", [{"namespaceSelector": {}}, *PRIVATE], port)


def peer(entry: str) -> Rule:
    """A peer as the administrator names it: a namespace, or a block of addresses."""
    if "/" in entry:
        return {"ipBlock": {"cidr": entry}}
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": entry}}}


def _rule(direction: str, peers: list[Rule], port: int | None) -> Rule:
    """A rule for one TCP port, or for all of them."""
    return {direction: peers, "ports": [{"protocol": "TCP", **({"port": port} if port else {})}]}
