"""What the operator's pod is, and what it may do."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.charts.conftest import CHART, Render, one
from tests.charts.restricted import pod_specs, violations

Object = dict[str, Any]


def rules(objects: list[Object], kind: str, name: str) -> list[Object]:
    found: list[Object] = one(objects, kind, name)["rules"]
    return found


def granted(objects: list[Object]) -> set[tuple[str, str, str]]:
    """Every (group, resource, verb) of all roles."""
    return {
        (group, resource, verb)
        for each in objects
        if each["kind"] in ("Role", "ClusterRole")
        for rule in each["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_default_pod_is_restricted_compliant(default: list[Object]) -> None:
    specs = pod_specs(default)
    assert specs
    assert {name: violations(spec) for name, spec in specs.items()} == {"Deployment/distillrun-operator": []}


def test_the_root_file_system_is_read_only_and_tmp_is_not(default: list[Object]) -> None:
    (spec,) = pod_specs(default).values()
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert spec["securityContext"]["runAsUser"] == 65532


def test_the_operator_is_probed_alive_and_ready(default: list[Object]) -> None:
    (container,) = next(iter(pod_specs(default).values()))["containers"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]


def test_the_operator_has_memory_reserved_and_limited(default: list[Object]) -> None:
    (container,) = next(iter(pod_specs(default).values()))["containers"]
    assert container["resources"]["requests"]["memory"] == "128Mi"
    assert container["resources"]["limits"] == {"memory": "512Mi"}


@pytest.mark.parametrize("values", [{}, {"watchNamespaces": ["a", "b"]}])
def test_the_operator_may_do_nothing_to_secrets_nodes_or_roles(render: Render, values: Object) -> None:
    for group, resource, verb in granted(render(values)):
        assert resource.split("/")[0] not in ("secrets", "nodes", "serviceaccounts", "roles", "clusterroles", "*")
        assert "pods/" not in resource, "no exec, no logs, no ephemeral containers"
        assert group not in ("rbac.authorization.k8s.io", "apiextensions.k8s.io", "*")
        assert verb not in ("escalate", "bind", "impersonate", "deletecollection", "*")


def test_the_operator_reads_runs_and_writes_their_status_only(default: list[Object]) -> None:
    of_runs = {(resource, verb) for group, resource, verb in granted(default) if group == "distillrun.dev"}
    assert {verb for resource, verb in of_runs if resource == "distillruns"} == {"get", "list", "watch"}
    assert {pair for pair in of_runs if pair[0] != "distillruns"} == {("distillruns/status", "patch")}


def test_pods_are_only_read(default: list[Object]) -> None:
    assert {verb for _, resource, verb in granted(default) if resource == "pods"} == {"get", "list", "watch"}


def test_the_lease_is_the_only_thing_of_its_kind_that_is_written(default: list[Object]) -> None:
    create, use = rules(default, "Role", "distillrun-operator-leader")
    assert create == {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]}
    assert use["resourceNames"] == ["distillrun-operator"]
    assert one(default, "Role")["metadata"]["namespace"] == "distillrun-system"


def test_by_default_one_cluster_role_is_bound_to_the_service_account(default: list[Object]) -> None:
    account = {"kind": "ServiceAccount", "name": "distillrun-operator", "namespace": "distillrun-system"}
    for binding in (one(default, "ClusterRoleBinding"), one(default, "RoleBinding")):
        assert binding["subjects"] == [account]
    assert one(default, "ClusterRole")["rules"] == yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    assert one(default, "ServiceAccount")["metadata"]["name"] == account["name"]


def test_with_namespaces_to_watch_there_is_no_cluster_role(render: Render) -> None:
    objects = render({"watchNamespaces": ["team-a", "team-b"]})
    assert not [each for each in objects if each["kind"].startswith("ClusterRole")]
    roles = {each["metadata"]["namespace"]: each for each in objects if each["kind"] == "Role"}
    assert set(roles) == {"team-a", "team-b", "distillrun-system"}
    assert roles["team-a"]["rules"] == yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    for binding in (each for each in objects if each["kind"] == "RoleBinding"):
        assert binding["subjects"][0]["namespace"] == "distillrun-system"
        assert binding["roleRef"]["kind"] == "Role"


def test_watching_its_own_namespace_gives_two_roles_of_different_names(render: Render) -> None:
    objects = render({"watchNamespaces": ["distillrun-system"]})
    names = [each["metadata"]["name"] for each in objects if each["kind"] == "Role"]
    assert sorted(names) == ["distillrun-operator", "distillrun-operator-leader"]


def test_without_rbac_there_are_no_roles_and_without_an_account_no_account(render: Render) -> None:
    objects = render(
        {
            "rbac": {"create": False},
            "admissionPolicy": {"create": False},
            "serviceAccount": {"create": False, "name": "mine"},
        }
    )
    kinds = {each["kind"] for each in objects}
    assert kinds == {"CustomResourceDefinition", "Deployment", "Service"}
    assert one(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "mine"


def test_the_admission_policy_covers_the_watched_namespaces_and_fails_closed(render: Render) -> None:
    everywhere = one(render(), "ValidatingAdmissionPolicy")["spec"]
    assert everywhere["failurePolicy"] == "Fail"
    assert "namespaceSelector" not in everywhere["matchConstraints"]
    objects = render({"watchNamespaces": ["b", "a", "b"]}, "prod")
    policy, binding = (one(objects, f"ValidatingAdmissionPolicy{kind}") for kind in ("", "Binding"))
    [chosen] = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert (chosen["key"], chosen["values"]) == ("kubernetes.io/metadata.name", ["b", "a"])
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
    assert policy["metadata"]["name"] == "prod-distillrun-operator-author"


def test_no_webhook_certificate_or_hook_is_rendered(default: list[Object]) -> None:
    kinds = {each["kind"] for each in default}
    assert not {kind for kind in kinds if "Webhook" in kind or kind in ("Secret", "Certificate", "Issuer")}
    assert not [each for each in default if "helm.sh/hook" in each["metadata"].get("annotations", {})]


def test_the_same_values_render_the_same_objects(render: Render, default: list[Object]) -> None:
    assert render() == default
