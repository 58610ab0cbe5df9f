"""What an author gains by a DistillRun: nothing. Each attempt, by users of different rights, on a real API server."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml

from distillrun.api import admission
from tests.cluster.authors import JOBS, RUNS, Author, create, grant, refusal, secrets
from tests.cluster.test_api_rules import a_run, with_field
from tests.kube import ROOT, Kube

pytestmark = pytest.mark.controlplane


def replace(kube: Kube, thing: dict[str, Any], user: str) -> subprocess.CompletedProcess[str]:
    found = kube.get("distillrun", thing["metadata"]["name"], thing["metadata"]["namespace"])
    assert found is not None
    return kube.kubectl("replace", "--as", user, "-f", "-", stdin=json.dumps({**found, "spec": thing["spec"]}))


def naming(namespace: str, path: tuple[str, ...], name: str) -> dict[str, Any]:
    """A run whose field at that path names a Secret, with what has to stand around it."""
    thing = a_run(namespace)
    node: Any = thing["spec"]
    for step, following in zip(path, (*path[1:], None), strict=True):
        if following is None and step != "[]":
            node[step] = name
        elif step == "[]":
            if following is None or not node:
                node.append(name if following is None else {"name": name})
            node = node[0]
        else:
            node = node.setdefault(step, [] if following == "[]" else {"key": "k"} if "Ref" in step else {})
    if "dataset" in path:
        thing["spec"]["curate"] = {"dataset": {"uri": "file:///x", **thing["spec"]["curate"]["dataset"]}}
        thing["spec"].pop("teacher")
    if "mirror" in path:
        thing["spec"]["mirror"]["uri"] = "s3://mirror/hub"
    if "against" in path:
        thing["spec"]["curate"]["decontaminate"]["against"][0] |= {"name": "held-out", "uri": "file:///x"}
    if "server" in path:
        thing["spec"]["models"][0].pop("endpoint")
        thing["spec"]["models"][0]["server"]["model"]["uri"] = "hf://a/b"
    return thing


def test_who_may_create_jobs_and_read_the_secrets_that_a_run_names_may_write_it(
    policed: Kube, namespace: str, author: Author
) -> None:
    for user in (author(JOBS, secrets("teacher")), author(JOBS, secrets(), name="bob")):
        done = create(policed, a_run(namespace), user)
        assert done.returncode == 0, done.stderr


def test_who_may_not_create_jobs_may_not_write_runs(policed: Kube, namespace: str, author: Author) -> None:
    said = refusal(policed, a_run(namespace), author(secrets()))
    assert f"user alice may not create Jobs in namespace {namespace}" in said
    assert "ask for the right" in said


def test_rights_in_another_namespace_do_not_count(policed: Kube, namespace: str, author: Author) -> None:
    grant(policed, "policed", "alice", RUNS, JOBS, secrets())
    assert "may not create Jobs" in refusal(policed, a_run(namespace), author(secrets()))
    assert 'may not read Secret "teacher"' in refusal(policed, a_run(namespace), author(JOBS))


def test_a_run_without_secrets_asks_for_no_right_to_read_any(policed: Kube, namespace: str, author: Author) -> None:
    thing = with_field(a_run(namespace), "models.0.endpoint.apiKeySecretRef", None)
    done = create(policed, thing, author(JOBS))
    assert done.returncode == 0, done.stderr


def test_the_policy_knows_every_field_that_can_name_a_secret() -> None:
    crd = yaml.safe_load((ROOT / "manifests/crd/distillruns.distillrun.dev.yaml").read_text())
    text = json.dumps(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])
    assert text.lower().count('secretname":') + text.lower().count('secretref":') + text.lower().count(
        'pullsecrets":'
    ) == len(admission.secret_paths())


@pytest.mark.parametrize("path", admission.secret_paths(), ids=".".join)
def test_a_secret_that_the_author_may_not_read_is_refused_wherever_it_is_named(
    policed: Kube, namespace: str, author: Author, path: tuple[str, ...]
) -> None:
    user = author(JOBS, secrets("teacher"))
    thing = naming(namespace, path, "payroll")
    assert 'user alice may not read Secret "payroll"' in refusal(policed, thing, user)


def with_sources(namespace: str, count: int, distinct: int) -> dict[str, Any]:
    sources = [{"name": f"s{i}", "uri": "file:///x", "secretName": f"secret-{i % distinct}"} for i in range(count)]
    thing = with_field(a_run(namespace), "curate.sources", sources)
    return with_field(thing, "models.0.endpoint.apiKeySecretRef", None)


def test_sixteen_secrets_are_asked_about_one_by_one_and_more_need_the_right_to_all(
    policed: Kube, namespace: str, author: Author
) -> None:
    each = author(JOBS, secrets(*(f"secret-{i}" for i in range(17))))
    done = create(policed, with_sources(namespace, 32, 16), each)
    assert done.returncode == 0, done.stderr
    assert "names more than 16" in refusal(policed, with_sources(namespace, 32, 17), each)
    done = create(policed, with_sources(namespace, 32, 32), author(JOBS, secrets(), name="bob"))
    assert done.returncode == 0, done.stderr
    short = author(JOBS, secrets(*(f"secret-{i}" for i in range(15))), name="carol")
    assert 'may not read Secret "secret-15"' in refusal(policed, with_sources(namespace, 32, 16), short)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("models.0.endpoint.url", "http://collector.evil.example:8080/v1"),
        ("curate.pod", {"image": "evil/image:1"}),
        ("curate.pod", {"env": [{"name": "PYTHONSTARTUP", "value": "/tmp/x"}]}),
        ("student.model.secretName", "payroll"),
        ("serve", None),
    ],
)
def test_somebody_elses_run_cannot_be_bent_to_hand_out_its_secret(
    policed: Kube, namespace: str, author: Author, path: str, value: Any
) -> None:
    thing = a_run(namespace)
    assert create(policed, thing, author(JOBS, secrets("teacher")), "--validate=strict").returncode == 0
    mallory = author(JOBS, name="mallory")
    done = replace(policed, with_field(thing, path, value), mallory)
    assert "may not read Secret" in done.stderr


def test_the_one_on_duty_may_label_a_run_and_change_its_limits_without_its_secrets(
    policed: Kube, namespace: str, author: Author
) -> None:
    thing = a_run(namespace)
    assert create(policed, thing, author(JOBS, secrets("teacher")), "--validate=strict").returncode == 0
    duty = author(name="duty")
    done = policed.kubectl("label", "distillrun", "s1", "-n", namespace, "--as", duty, "seen=yes")
    assert done.returncode == 0, done.stderr
    for path, value in (("maxRetries", 5), ("budget.gpuHourPrice", "9"), ("gates", None)):
        done = replace(policed, with_field(thing, path, value), duty)
        assert done.returncode == 0, done.stderr


def test_the_operators_status_writes_are_not_asked_about(policed: Kube, namespace: str, author: Author) -> None:
    assert create(policed, a_run(namespace), author(JOBS, secrets()), "--validate=strict").returncode == 0
    operator = f"system:serviceaccount:{namespace}:operator"
    rule = {"apiGroups": ["distillrun.dev"], "resources": ["distillruns/status"], "verbs": ["get", "patch"]}
    grant(policed, namespace, operator, rule)
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": {"phase": "Curating"}}))
    done = policed.kubectl("patch", "distillrun", "s1", "-n", namespace, "--as", operator, *patch)
    assert done.returncode == 0, done.stderr
    assert policed.status("s1", namespace)["phase"] == "Curating"


def test_what_the_operator_would_believe_cannot_be_put_into_status_by_an_author(
    policed: Kube, namespace: str, author: Author
) -> None:
    alice = author(JOBS, secrets())
    forged = {"stages": [{"name": "curate", "state": "Succeeded", "artifact": "file:///mnt/distillrun/other/"}]}
    thing = {**a_run(namespace), "status": forged}
    assert create(policed, thing, alice, "--validate=strict").returncode == 0
    done = policed.kubectl("replace", "--as", alice, "-f", "-", stdin=json.dumps(thing))
    assert done.returncode == 0, done.stderr
    assert "stages" not in policed.status("s1", namespace)
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": forged}))
    done = policed.kubectl("patch", "distillrun", "s1", "-n", namespace, "--as", alice, *patch)
    # kubectl reads an object before it patches it: which of the two is refused first is its affair.
    assert "Forbidden" in done.stderr
    assert 'resource "distillruns/status"' in done.stderr
    assert "stages" not in policed.status("s1", namespace)


def test_a_gitops_controller_is_an_author_like_any_other(policed: Kube, namespace: str, author: Author) -> None:
    flux = f"system:serviceaccount:{namespace}:kustomize-controller"
    grant(policed, namespace, flux, RUNS)
    apply = ("apply", "--server-side", "--dry-run=server", "--as", flux, "-f", "-")
    text = json.dumps(a_run(namespace))
    assert "may not create Jobs" in policed.kubectl(*apply, stdin=text).stderr
    grant(policed, namespace, flux, RUNS, JOBS, secrets("teacher"))
    done = policed.kubectl(*apply, stdin=text)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.pod", {"hostNetwork": True}),
        ("train.pod", {"hostPID": True}),
        ("train.pod", {"serviceAccountName": "admin"}),
        ("train.pod", {"automountServiceAccountToken": True}),
        ("train.pod", {"securityContext": {"privileged": True}}),
        ("train.pod", {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}),
        ("train.pod", {"command": ["sh"]}),
        ("train.pod", {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "payroll", "key": "k"}}}]}),
        ("storage", {"claimName": "x", "namespace": "other"}),
        ("student.model", {"uri": "file:///x", "secretNamespace": "other"}),
    ],
)
def test_what_would_be_an_escalation_cannot_even_be_said(
    policed: Kube, namespace: str, path: str, value: dict[str, Any]
) -> None:
    thing = with_field(a_run(namespace), path, value)
    assert "unknown field" in policed.refusal(thing, verb="create")
    # A client that does not ask for strict validation has the field dropped before it is stored.
    text = json.dumps(thing)
    done = policed.kubectl("create", "--validate=ignore", "-o", "json", "-f", "-", stdin=text)
    if done.returncode == 0:
        node = json.loads(done.stdout)["spec"]
        for step in path.split("."):
            node = node[step]
        assert not set(value) - {"uri", "claimName", "env"} & set(node)
        assert all(set(each) <= {"name", "value"} for each in node.get("env", []))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("storage.claimName", "other/claim"),
        ("storage.claimName", "../claim"),
        ("models.0.endpoint.apiKeySecretRef.name", "kube-system/token"),
        ("train.pod", {"imagePullSecrets": [{"name": "kube-system/pull"}]}),
    ],
)
def test_a_name_that_points_into_another_namespace_is_refused(
    policed: Kube, namespace: str, path: str, value: Any
) -> None:
    assert "should match" in policed.refusal(with_field(a_run(namespace), path, value))
