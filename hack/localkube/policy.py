"""NetworkPolicy objects (networking.k8s.io/v1) as nftables rules. Pure: objects in, the text of a ruleset out.

A pod that a policy selects is isolated in that direction: its traffic meets the chain of the direction, where each
allowed peer and port is a `return`, and what reaches the end is dropped. Traffic has to pass both chains, the sender's
egress and the receiver's ingress. Answers to allowed traffic, and everything from the node itself (probes), pass.
IPv6 between pods is dropped whole: the cluster has none, and link-local addresses would go around these rules.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


@dataclass(frozen=True)
class Pod:
    """What policies look at in a pod that has an address. `ports`: (name, protocol) -> number."""

    namespace: str
    name: str
    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)


def selects(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector matches `labels`. An empty selector matches all, None matches none."""
    if selector is None:
        return False
    if any(labels.get(name) != value for name, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions") or [])


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    present, values = expression["key"] in labels, expression.get("values") or []
    match expression["operator"]:
        case "In":
            return present and labels[expression["key"]] in values
        case "NotIn":
            return not present or labels[expression["key"]] not in values
        case "Exists":
            return present
        case _:
            return not present


def directions(policy: Object) -> set[str]:
    """Return in which directions a policy isolates: {"Ingress"}, {"Egress"} or both."""
    spec = policy["spec"]
    return set(spec.get("policyTypes") or (["Ingress", "Egress"] if "egress" in spec else ["Ingress"]))


def ruleset(
    table: str, policies: Iterable[Object], pods: Sequence[Pod], namespaces: Mapping[str, Mapping[str, str]]
) -> str:
    """Return the whole ruleset as input of `nft -f`, which replaces the one before it in one step.

    `namespaces` holds each namespace's labels by its name.
    """
    isolated: dict[str, set[str]] = {"Ingress": set(), "Egress": set()}
    rules: dict[str, list[str]] = {"Ingress": [], "Egress": []}
    for policy in sorted(policies, key=lambda p: (p["metadata"]["namespace"], p["metadata"]["name"])):
        namespace = policy["metadata"]["namespace"]
        selected = [p for p in pods if p.namespace == namespace and selects(policy["spec"]["podSelector"], p.labels)]
        for direction in directions(policy) if selected else ():
            isolated[direction].update(pod.address for pod in selected)
            for rule in policy["spec"].get(direction.lower()) or []:
                rules[direction] += _rule(direction, rule, namespace, selected, pods, namespaces)
    return _TEMPLATE.format(
        table=table,
        ingress_isolated=_elements(isolated["Ingress"]),
        egress_isolated=_elements(isolated["Egress"]),
        ingress=_lines(rules["Ingress"]),
        egress=_lines(rules["Egress"]),
    )


def _rule(
    direction: str,
    rule: Object,
    namespace: str,
    selected: Sequence[Pod],
    pods: Sequence[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> Iterator[str]:
    """Yield the nftables rules of one rule of a policy: its peers times its ports."""
    own, other = ("daddr", "saddr") if direction == "Ingress" else ("saddr", "daddr")
    peers = rule.get("from" if direction == "Ingress" else "to")
    if not peers:
        matches: list[tuple[str, list[Pod] | None]] = [("", None)]
    else:
        blocks = [peer["ipBlock"] for peer in peers if peer.get("ipBlock")]
        matches = [(_block(other, block), None) for block in blocks]
        named = [pod for peer in peers for pod in _peer_pods(peer, namespace, pods, namespaces)]
        if named:
            matches.append(("", named))
    for match, named_pods in matches:
        # Named ports are those of the receiving pod, so the receivers are grouped by what the name means to them.
        receivers = selected if direction == "Ingress" else pods if named_pods is None else named_pods
        for ports, subset in _ports(rule.get("ports"), receivers):
            ours = selected if direction == "Egress" else subset or selected
            theirs = named_pods if direction == "Ingress" else subset or named_pods
            parts = [f"ip {own} {_set(pod.address for pod in ours)}", match]
            if theirs is not None:
                parts.append(f"ip {other} {_set(pod.address for pod in theirs)}")
            yield " ".join([*filter(None, parts), *filter(None, [ports]), "return"])


def _peer_pods(
    peer: Object, namespace: str, pods: Sequence[Pod], namespaces: Mapping[str, Mapping[str, str]]
) -> Iterator[Pod]:
    """Yield the pods that a peer with selectors names; a missing pod selector beside a namespace selector means all."""
    if peer.get("ipBlock"):
        return
    spaces = peer.get("namespaceSelector")
    chosen = peer.get("podSelector")
    for pod in pods:
        here = pod.namespace == namespace if spaces is None else selects(spaces, namespaces.get(pod.namespace, {}))
        if here and (chosen is None or selects(chosen, pod.labels)):
            yield pod


def _block(side: str, block: Object) -> str:
    wanted = ipaddress.ip_network(block["cidr"], strict=False)
    if wanted.version != 4:
        return f"ip {side} 0.0.0.0/32 ip {side} 255.255.255.255/32"  # no IPv6 here: matches nothing
    excluded = [ipaddress.IPv4Network(cidr, strict=False) for cidr in block.get("except") or []]
    text = f"ip {side} {wanted}"
    if excluded:
        text += f" ip {side} != {{ {', '.join(map(str, ipaddress.collapse_addresses(excluded)))} }}"
    return text


def _ports(ports: Sequence[Object] | None, receivers: Sequence[Pod]) -> Iterator[tuple[str, list[Pod] | None]]:
    """Yield (nftables match, the receivers it holds for or None for all) for a rule's ports; none given: all ports."""
    if not ports:
        yield "", None
        return
    for port in ports:
        protocol = port.get("protocol") or "TCP"
        number = port.get("port")
        word = _PROTOCOLS[protocol]
        if number is None:
            yield f"meta l4proto {word}", None
        elif isinstance(number, int):
            last = port.get("endPort")
            yield f"{word} dport {number}-{last}" if last and last > number else f"{word} dport {number}", None
        else:
            meant: dict[int, list[Pod]] = {}
            for pod in receivers:
                if (number, protocol) in pod.ports:
                    meant.setdefault(pod.ports[number, protocol], []).append(pod)
            for value, subset in sorted(meant.items()):
                yield f"{word} dport {value}", subset


def _set(addresses: Iterable[str]) -> str:
    return f"{{ {', '.join(sorted(set(addresses)))} }}"


def _elements(addresses: Iterable[str]) -> str:
    listed = ", ".join(sorted(set(addresses)))
    return f"elements = {{ {listed} }}" if listed else ""


def _lines(rules: Iterable[str]) -> str:
    return "\n    ".join(dict.fromkeys(rules))


_TEMPLATE = """
table ip {table}
delete table ip {table}
table ip {table} {{
  set ingress_isolated {{ type ipv4_addr; {ingress_isolated} }}
  set egress_isolated {{ type ipv4_addr; {egress_isolated} }}
  chain ingress {{
    {ingress}
    counter drop
  }}
  chain egress {{
    {egress}
    counter drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    ip saddr @egress_isolated jump egress
    ip daddr @ingress_isolated jump ingress
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    ct state established,related accept
    ip saddr @egress_isolated jump egress
  }}
}}
table bridge {table}
delete table bridge {table}
table bridge {table} {{
  chain forward {{ type filter hook forward priority filter; policy accept; ether type ip6 drop; }}
  chain input {{ type filter hook input priority filter; policy accept; ether type ip6 drop; }}
}}
"""
