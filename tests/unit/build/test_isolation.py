"""The NetworkPolicy of each stage: what it lets in and out, read as a network plugin reads it."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillrun.build.isolation import destination
from distillrun.build.objects import build
from distillrun.plan.model import Network, StageName, Want
from tests.unit.builders import SETTINGS, run, spec

NETWORK = Network("distillrun-system", metrics_from=("monitoring",), serve_from=("gateways", "203.0.113.0/24"))
ISOLATED = replace(SETTINGS, network=NETWORK)
STAGES: tuple[StageName, ...] = ("curate", "train", "evaluate", "serve")
HUB = {"model": {"uri": "hf://Qwen/Qwen2.5-32B-Instruct"}}


def policy(stage: StageName, network: Network = NETWORK, **changes: Any) -> dict[str, Any]:
    want = Want("NetworkPolicy", "isolation", f"s1-{stage}", stage=stage)
    return build(want, run(spec=spec(**changes)), replace(SETTINGS, network=network))


def egress(stage: StageName, **changes: Any) -> list[dict[str, Any]]:
    """Rules out of the stage's pods, less the first: DNS."""
    rules: list[dict[str, Any]] = policy(stage, **changes)["spec"]["egress"]
    return rules[1:]


def teacher(url: str) -> list[dict[str, Any]]:
    return [{"name": "teacher", "endpoint": {"url": url, "model": "big"}, "terms": spec()["models"][0]["terms"]}]


def namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def blocks(rules: list[dict[str, Any]]) -> list[str]:
    return [peer["ipBlock"]["cidr"] for rule in rules for peer in rule["to"] if "ipBlock" in peer]


def internet(rules: list[dict[str, Any]]) -> list[Any]:
    """Ports on which a public address may be reached."""
    return [rule["ports"] for rule in rules if "0.0.0.0/0" in blocks([rule])]


@pytest.mark.parametrize("stage", STAGES)
def test_a_policy_isolates_the_pods_of_one_stage_of_one_run_in_both_directions(stage: StageName) -> None:
    made = policy(stage)
    assert made["spec"]["podSelector"]["matchLabels"] == {
        "distillrun.dev/run-uid": "run-uid",
        "distillrun.dev/stage": stage,
    }
    assert made["spec"]["policyTypes"] == ["Ingress", "Egress"]
    [owner] = made["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == ("run-uid", True)


@pytest.mark.parametrize("stage", STAGES)
def test_every_rule_names_its_peers_and_no_rule_but_that_of_the_ranks_leaves_the_port_open(stage: StageName) -> None:
    made = policy(stage, student=HUB)["spec"]
    for direction, rules in (("from", made["ingress"]), ("to", made["egress"])):
        for rule in rules:
            assert rule[direction]
            assert rule.get("ports") or stage == "train"


@pytest.mark.parametrize("stage", STAGES)
def test_cluster_dns_is_reached_on_its_ports_and_nobody_else_is(stage: StageName) -> None:
    [rule, *_] = policy(stage)["spec"]["egress"]
    assert rule["to"] == [namespace("kube-system"), {"ipBlock": {"cidr": "169.254.0.0/16"}}]
    assert {(port["protocol"], port["port"]) for port in rule["ports"]} == {
        (protocol, port) for protocol in ("TCP", "UDP") for port in (53, 5353)
    }


@pytest.mark.parametrize("stage", STAGES)
def test_progress_is_read_from_the_operators_and_the_named_namespaces_only(stage: StageName) -> None:
    [rule, *_] = policy(stage)["spec"]["ingress"]
    assert rule == {
        "from": [namespace("distillrun-system"), namespace("monitoring")],
        "ports": [{"protocol": "TCP", "port": 9400}],
    }


def test_a_served_student_is_asked_from_its_own_namespace_and_from_where_the_administrator_says() -> None:
    [_, rule] = policy("serve")["spec"]["ingress"]
    assert rule == {
        "from": [{"podSelector": {}}, namespace("gateways"), {"ipBlock": {"cidr": "203.0.113.0/24"}}],
        "ports": [{"protocol": "TCP", "port": 8000}],
    }
    for stage in ("curate", "train", "evaluate"):
        assert "8000" not in json.dumps(policy(stage)["spec"]["ingress"])


def test_ranks_of_a_training_talk_to_each_other_on_every_port_and_to_nobody_else() -> None:
    made = policy("train")
    ranks = {"podSelector": made["spec"]["podSelector"]}
    assert made["spec"]["ingress"][1:] == [{"from": [ranks]}]
    assert egress("train") == [{"to": [ranks]}]


def test_a_training_of_one_pod_talks_to_nobody() -> None:
    alone = {"nodes": 1, "gpusPerNode": 1, "globalBatchSize": 8}
    assert egress("train", train=alone) == []
    assert len(policy("train", train=alone)["spec"]["ingress"]) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_with_everything_on_the_claim_no_stage_reaches_the_internet(stage: StageName) -> None:
    assert internet(egress(stage)) == []


@pytest.mark.parametrize(
    ("changes", "open_stages"),
    [
        ({"student": HUB}, {"train", "evaluate"}),
        ({"curate": {"sources": [{"name": "a", "uri": "hf://datasets/a/b"}]}}, {"curate"}),
        ({"evaluate": {"benchmarks": [{"name": "a", "uri": "s3://bucket/a"}]}, "gates": None}, {"curate", "evaluate"}),
        (
            {
                "curate": {
                    **spec()["curate"],
                    "decontaminate": {"against": [{"name": "a", "uri": "hf://datasets/a/b"}]},
                }
            },
            {"curate"},
        ),
        ({"models": teacher("https://example.com/v1")}, {"curate"}),
        (
            {
                "teacher": None,
                "models": teacher("https://example.com/v1"),
                "curate": {"dataset": {"uri": "file:///mnt/distillrun/traces.parquet"}},
            },
            set(),
        ),
        (
            {"teacher": None, "models": None, "curate": {"dataset": {"uri": "hf://datasets/a/traces"}}},
            {"curate"},
        ),
        (
            {
                "student": HUB,
                "gates": None,
                "evaluate": {"alsoBaseModel": False, "benchmarks": [{"name": "a", "uri": "file:///mnt/x"}]},
            },
            {"train"},
        ),
    ],
)
def test_the_internet_is_reached_on_443_by_the_stages_whose_inputs_lie_there(
    changes: dict[str, Any], open_stages: set[str]
) -> None:
    found = {stage: internet(egress(stage, **changes)) for stage in STAGES}
    assert {stage for stage, ports in found.items() if ports} == open_stages
    for stage in open_stages:
        assert found[stage] == [[{"protocol": "TCP", "port": 443}]]  # type: ignore[index]


@pytest.mark.parametrize(
    ("url", "peers", "port"),
    [
        ("http://teacher:8080/v1", [{"podSelector": {}}], 8080),
        ("http://vllm.models.svc:8000/v1", [namespace("models")], 8000),
        ("http://vllm.models.svc.cluster.local.:8000/v1", [namespace("models")], 8000),
        ("http://vllm-0.vllm.models.svc.cluster.local:8000", [namespace("models")], 8000),
        # The Service's port: what the pods listen on cannot be told.
        ("http://vllm.models.svc/v1", [namespace("models")], None),
        ("https://vllm.models.svc/v1", [namespace("models")], None),
        ("http://10.1.2.3:8000/v1", [{"ipBlock": {"cidr": "10.1.2.3/32"}}], 8000),
        ("https://[2001:db8::7]/v1", [{"ipBlock": {"cidr": "2001:db8::7/128"}}], 443),
        ("http://[::ffff:10.1.2.3]:8000", [{"ipBlock": {"cidr": "10.1.2.3/32"}}], 8000),
    ],
)
def test_a_teachers_url_becomes_the_narrowest_rule_that_its_text_allows(
    url: str, peers: list[Any], port: int | None
) -> None:
    assert egress("curate", models=teacher(url)) == [
        {"to": peers, "ports": [{"protocol": "TCP", **({"port": port} if port else {})}]}
    ]


def test_a_name_in_another_script_is_a_host_like_any_other() -> None:
    assert internet(egress("curate", models=teacher("https://bücher.example/v1"))) == [
        [{"protocol": "TCP", "port": 443}]
    ]


def test_a_host_nobody_can_place_is_reached_inside_on_its_port_and_outside_never() -> None:
    [rule] = egress("curate", models=teacher("http://llm.corp.example:8080/v1"))
    assert rule["ports"] == [{"protocol": "TCP", "port": 8080}]
    assert {"namespaceSelector": {}} in rule["to"]
    assert all(ipaddress.ip_network(cidr).is_private or cidr == "100.64.0.0/10" for cidr in blocks([rule]))


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1%25eth0]:80/",
        "http://[::ffff:169.254.169.254]/",
        "http://100.100.100.200/",
        "http://[fd00:ec2::254]/",
        "http://0.0.0.0:6443/",
        "http://[::]/",
        "http://224.0.0.1/",
        "http://user@/v1",
        "http://:8000/v1",
        "http://[1:2/v1",
        "http://a:99999/v1",
        "http://a..b/v1",
        "http://a.-b.svc:80/v1",
        "http://a._b.svc:80/v1",
        "http://a." + "b" * 64 + ".svc:80/v1",
    ],
)
def test_node_services_and_urls_without_a_host_get_no_rule(url: str) -> None:
    assert destination(url) is None
    assert egress("curate", models=teacher(url)) == []


def test_every_model_that_is_asked_gets_its_rule_and_equal_rules_appear_once() -> None:
    more = [{**teacher(url)[0], "name": f"m{i}"} for i, url in enumerate(["http://a:8000/v1", "http://b:8000/v1"])]
    rules = egress("curate", models=[*teacher("https://example.com/v1"), *more])
    assert len(rules) == 2


def test_a_mirror_store_or_proxy_named_in_the_environment_is_reached_by_the_stages_that_read_from_afar() -> None:
    env = [
        {"name": "AWS_ENDPOINT_URL", "value": "http://minio.storage.svc:9000"},
        {"name": "https_proxy", "value": "http://proxy.corp.example:3128"},
        {"name": "OTHER", "value": "http://x:1"},
    ]
    train = {**spec()["train"], "pod": {"env": env}}
    rules = egress("train", train=train, student=HUB)
    assert {"to": [namespace("storage")], "ports": [{"protocol": "TCP", "port": 9000}]} in rules
    assert 3128 in [port.get("port") for rule in rules for port in rule.get("ports", [])]
    assert len(egress("train", train=train)) == 1, "a training that reads its claim only needs none of them"


@pytest.mark.parametrize(
    ("uri", "rules"),
    [
        ("file:///mnt/distillrun/hub", []),
        (
            "http://mirror.tools.svc:8080/hf",
            [{"to": [namespace("tools")], "ports": [{"protocol": "TCP", "port": 8080}]}],
        ),
    ],
)
def test_with_a_mirror_it_is_reached_instead_of_the_internet(uri: str, rules: list[Any]) -> None:
    alone = {"nodes": 1, "gpusPerNode": 1, "globalBatchSize": 8}
    assert egress("train", train=alone, student=HUB, mirror={"uri": uri}) == rules
    assert egress("train", train=alone, mirror={"uri": uri}) == [], "a student on the claim needs no mirror"


def test_a_mirror_in_an_object_store_is_reached_as_any_object_store_is() -> None:
    alone = {"nodes": 1, "gpusPerNode": 1, "globalBatchSize": 8}
    assert len(internet(egress("train", train=alone, student=HUB, mirror={"uri": "s3://mirror/hub"}))) == 1


def test_the_administrators_mirror_is_reached_by_runs_that_name_none() -> None:
    want = Want("NetworkPolicy", "isolation", "s1-train", stage="train")
    there = replace(ISOLATED, mirror="http://mirror.tools.svc:8080/hf")
    made = build(want, run(spec=spec(student=HUB)), there)["spec"]["egress"]
    assert {"to": [namespace("tools")], "ports": [{"protocol": "TCP", "port": 8080}]} in made
    assert internet(made) == []


def test_a_changed_spec_changes_the_hash_that_tells_whether_to_apply() -> None:
    one, other = policy("curate"), policy("curate", models=teacher("http://b.c.svc:9/v1"))
    assert one["metadata"]["annotations"] != other["metadata"]["annotations"]


def test_an_operator_outside_the_cluster_lets_nobody_read_metrics_and_dns_can_be_closed() -> None:
    made = policy("curate", network=Network(dns=()))["spec"]
    assert made["ingress"] == []
    assert len(made["egress"]) == 1


@given(st.text(max_size=60) | st.from_regex(r"https?://[^\s?#]+", fullmatch=True))
def test_no_url_whatsoever_breaks_the_builder_or_opens_the_internet_but_on_443(url: str) -> None:
    rule = destination(url)
    if rule is None:
        return
    [port] = rule["ports"]
    for peer in rule["to"]:
        block = peer.get("ipBlock")
        if block and ipaddress.ip_network(block["cidr"]).prefixlen == 0:
            assert port["port"] == 443
        if block and ipaddress.ip_network(block["cidr"]).num_addresses == 1:
            assert not ipaddress.ip_network(block["cidr"]).is_link_local
