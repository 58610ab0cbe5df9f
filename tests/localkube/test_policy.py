"""NetworkPolicy objects as nftables rules, looked at as text; that the kernel obeys them is shown in test_node.py."""

import shutil
import subprocess
from typing import Any

import pytest

from hack.localkube.policy import Pod, directions, ruleset, selects

WEB = Pod("shop", "web", "10.0.0.1", {"app": "web"}, {("http", "TCP"): 8080})
WEB2 = Pod("shop", "web-2", "10.0.0.4", {"app": "web"}, {("http", "TCP"): 9090})
SHELL = Pod("shop", "shell", "10.0.0.2", {"app": "shell"})
OTHER = Pod("other", "web", "10.0.0.3", {"app": "web"})
PODS = [WEB, WEB2, SHELL, OTHER]
NAMESPACES = {"shop": {"team": "a"}, "other": {"team": "b"}}


def policy(spec: dict[str, Any], namespace: str = "shop") -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": "p"}, "spec": spec}


def rules(direction: str, spec: dict[str, Any]) -> list[str]:
    """Return the lines of the chain of that direction, without the closing drop."""
    text = ruleset("t", [policy(spec)], PODS, NAMESPACES)
    chain = text.split(f"chain {direction} {{")[1].split("}\n")[0]
    return [line.strip() for line in chain.splitlines() if line.strip() and "drop" not in line]


def isolated(direction: str, spec: dict[str, Any]) -> str:
    text = ruleset("t", [policy(spec)], PODS, NAMESPACES)
    return next(line for line in text.splitlines() if f"set {direction}_isolated" in line)


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ({}, {"a": "1"}, True),
        (None, {"a": "1"}, False),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {"a": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": "1"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": "1"}, False),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}, {"a": "1"}, False),
    ],
)
def test_a_selector_matches_labels_as_the_api_documents_it(
    selector: dict[str, Any] | None, labels: dict[str, str], expected: bool
) -> None:
    assert selects(selector, labels) is expected


def test_the_direction_of_a_policy_follows_from_its_rules_when_it_names_none() -> None:
    assert directions(policy({"podSelector": {}})) == {"Ingress"}
    assert directions(policy({"podSelector": {}, "egress": []})) == {"Ingress", "Egress"}
    assert directions(policy({"podSelector": {}, "policyTypes": ["Egress"]})) == {"Egress"}


def test_a_policy_without_rules_isolates_the_pods_it_selects_and_allows_nothing() -> None:
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}
    assert "{ 10.0.0.1, 10.0.0.4 }" in isolated("ingress", spec)
    assert "10.0.0" not in isolated("egress", spec)
    assert rules("ingress", spec) == []


def test_an_empty_rule_allows_everything() -> None:
    assert rules("ingress", {"podSelector": {"matchLabels": {"app": "shell"}}, "ingress": [{}]}) == [
        "ip daddr { 10.0.0.2 } return"
    ]


def test_a_pod_selector_alone_means_the_policys_own_namespace() -> None:
    peer = {"podSelector": {"matchLabels": {"app": "web"}}}
    spec = {"podSelector": {"matchLabels": {"app": "shell"}}, "ingress": [{"from": [peer]}]}
    assert rules("ingress", spec) == ["ip daddr { 10.0.0.2 } ip saddr { 10.0.0.1, 10.0.0.4 } return"]


def test_a_namespace_selector_alone_means_every_pod_there_and_with_a_pod_selector_both_must_match() -> None:
    selector = {"matchLabels": {"team": "b"}}
    shell = {"matchLabels": {"app": "shell"}}
    alone = {"podSelector": shell, "ingress": [{"from": [{"namespaceSelector": selector}]}]}
    both = {"podSelector": shell, "ingress": [{"from": [{"namespaceSelector": selector, "podSelector": shell}]}]}
    assert rules("ingress", alone) == ["ip daddr { 10.0.0.2 } ip saddr { 10.0.0.3 } return"]
    assert rules("ingress", both) == []


def test_a_block_leaves_out_its_exceptions() -> None:
    block = {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16"]}
    spec = {"podSelector": {"matchLabels": {"app": "shell"}}, "egress": [{"to": [{"ipBlock": block}]}]}
    assert rules("egress", spec) == [
        "ip saddr { 10.0.0.2 } ip daddr 0.0.0.0/0 ip daddr != { 10.0.0.0/8, 192.168.0.0/16 } return"
    ]


def test_ports_may_be_numbers_ranges_whole_protocols_and_default_to_tcp() -> None:
    ports = [{"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 8000, "endPort": 8010}, {"protocol": "SCTP"}]
    spec = {"podSelector": {"matchLabels": {"app": "shell"}}, "egress": [{"ports": ports}]}
    assert rules("egress", spec) == [
        "ip saddr { 10.0.0.2 } tcp dport 80 return",
        "ip saddr { 10.0.0.2 } udp dport 53 return",
        "ip saddr { 10.0.0.2 } tcp dport 8000-8010 return",
        "ip saddr { 10.0.0.2 } meta l4proto sctp return",
    ]


def test_a_named_port_means_what_each_receiving_pod_calls_so() -> None:
    web = {"matchLabels": {"app": "web"}}
    ingress = {"podSelector": web, "ingress": [{"ports": [{"port": "http"}]}]}
    assert rules("ingress", ingress) == [
        "ip daddr { 10.0.0.1 } tcp dport 8080 return",
        "ip daddr { 10.0.0.4 } tcp dport 9090 return",
    ]
    egress = {
        "podSelector": {"matchLabels": {"app": "shell"}},
        "egress": [{"to": [{"podSelector": web}], "ports": [{"port": "http"}]}],
    }
    assert rules("egress", egress) == [
        "ip saddr { 10.0.0.2 } ip daddr { 10.0.0.1 } tcp dport 8080 return",
        "ip saddr { 10.0.0.2 } ip daddr { 10.0.0.4 } tcp dport 9090 return",
    ]


def test_an_ipv6_block_matches_nothing_since_the_cluster_has_no_ipv6() -> None:
    spec = {"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "::/0"}}]}]}
    (rule,) = rules("egress", spec)
    assert "ip daddr 0.0.0.0/32 ip daddr 255.255.255.255/32" in rule


def test_two_policies_on_one_pod_add_up() -> None:
    shell = {"matchLabels": {"app": "shell"}}
    one = policy({"podSelector": shell, "ingress": [{"ports": [{"port": 80}]}]})
    two = policy({"podSelector": shell, "ingress": [{"ports": [{"port": 81}]}]})
    text = ruleset("t", [one, two], PODS, NAMESPACES)
    assert "tcp dport 80 return" in text
    assert "tcp dport 81 return" in text


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")
def test_nft_accepts_the_rules() -> None:
    block = {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 1, "endPort": 9}, {"port": "http"}, {"protocol": "SCTP"}]
    peers = [{"ipBlock": block}, {"podSelector": {}}, {"namespaceSelector": {}}, {"ipBlock": {"cidr": "::/0"}}]
    spec = {"podSelector": {}, "ingress": [{"from": peers, "ports": ports}], "egress": [{"to": peers, "ports": ports}]}
    text = ruleset("distillrun_test", [policy(spec)], PODS, NAMESPACES)
    done = subprocess.run(["nft", "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("nft needs root even to check")
    assert done.returncode == 0, done.stderr
