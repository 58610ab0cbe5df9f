"""The ValidatingAdmissionPolicy by which an author gains nothing by a DistillRun.

Who may not create Jobs may not write runs, and who may not read a Secret may not name it in one. Generated from the
models, so that no field that names a Secret is forgotten. No webhook: the API server itself asks its authorizer, in CEL
(https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/). A question costs 350,000 of the
1,000,000 that one expression may cost and of the 10,000,000 that a policy may; so each Secret has a rule of its own,
and there are `CHECKED` of them. Who may read all Secrets of the namespace is asked once, and may name any number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from distillrun.api import GROUP, PLURAL
from distillrun.api.schema import openapi

CHECKED = 16
FREE = (
    "suspend",
    "retry",
    "maxRetries",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "startTimeoutSeconds",
    "budget",
    "gates",
    "preflight",
)
"""Fields of the spec by which no pod gets to see anything else: whoever may write runs may change them, so that the one
on duty can suspend a run whose Secrets are not his."""
NAME = "distillrun-operator-author"
LABELS = {"name": "distillrun", "instance": "distillrun", "component": "operator"}


def policy_spec() -> dict[str, Any]:
    """`spec` of the policy."""
    free = ", ".join(f"'{field}'" for field in FREE)
    changed = (
        "request.operation == 'CREATE'"
        f" || !object.spec.all(field, field in [{free}]"
        " || (field in oldObject.spec && object.spec[field] == oldObject.spec[field]))"
        f" || !oldObject.spec.all(field, field in [{free}] || field in object.spec)"
    )
    named = " + ".join(_expression(path) for path in secret_paths())
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [GROUP],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": [PLURAL],
                }
            ]
        },
        "matchConditions": [{"name": "what-pods-see-changes", "expression": changed}],
        "variables": [
            {"name": "who", "expression": "'user ' + request.userInfo.username"},
            {
                "name": "secrets",
                "expression": "authorizer.group('').resource('secrets').namespace(request.namespace)",
            },
            {"name": "readsAll", "expression": "variables.secrets.check('get').allowed()"},
            {"name": "named0", "expression": f"({named}).filter(name, name != '')"},
            # The Secret that a rule asks about leaves the list, and with it its other mentions.
            *(
                {
                    "name": f"named{i + 1}",
                    "expression": f"variables.named{i}.filter(name, name != variables.named{i}[0])",
                }
                for i in range(CHECKED)
            ),
        ],
        "validations": list(_validations()),
    }


def _validations() -> Iterator[dict[str, Any]]:
    yield {
        "expression": (
            "authorizer.group('batch').resource('jobs').namespace(request.namespace).check('create').allowed()"
        ),
        "reason": "Forbidden",
        "messageExpression": (
            "variables.who + ' may not create Jobs in namespace ' + request.namespace + ', and a DistillRun starts"
            " Jobs: ask for the right to create jobs.batch there (docs/security.md)'"
        ),
    }
    for i in range(CHECKED):
        first = f"variables.named{i}[0]"
        yield {
            "expression": (
                f"variables.named{i}.size() == 0 || variables.readsAll"
                f" || variables.secrets.name({first}).check('get').allowed()"
            ),
            "reason": "Forbidden",
            "messageExpression": (
                f"variables.who + ' may not read Secret \"' + {first} + '\", which the run names: ask for the right to"
                " get it, or name another one (docs/security.md)'"
            ),
        }
    yield {
        "expression": f"variables.named{CHECKED}.size() == 0 || variables.readsAll",
        "reason": "Forbidden",
        "messageExpression": (
            f"variables.who + ' may not read all Secrets of namespace ' + request.namespace + ', and the run names more"
            f" than {CHECKED}: name fewer, or ask for the right to get them all (docs/security.md)'"
        ),
    }


def policy() -> dict[str, Any]:
    """The policy as the kustomize manifests have it."""
    return _object("ValidatingAdmissionPolicy", policy_spec())


def binding() -> dict[str, Any]:
    """What puts the policy in force, in every namespace."""
    return _object("ValidatingAdmissionPolicyBinding", {"policyName": NAME, "validationActions": ["Deny"]})


def _object(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    labels = {f"app.kubernetes.io/{key}": value for key, value in LABELS.items()}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": NAME, "labels": labels},
        "spec": spec,
    }


def secret_paths() -> list[tuple[str, ...]]:
    """Where a spec can name a Secret: steps from `spec` to the name, `[]` for the items of a list.

    A field names a Secret when its own name says so: `secretName`, `apiKeySecretRef`, `imagePullSecrets`. Raises
    ValueError for one of which it cannot be told where the name is.
    """
    return list(_walk(openapi()["properties"]["spec"], ()))


def _walk(schema: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for field, child in schema.get("properties", {}).items():
        here = (*path, field)
        inner = child
        if child.get("type") == "array":
            inner, here = child["items"], (*here, "[]")
        if "secret" not in field.lower():
            yield from _walk(inner, here)
        elif inner.get("type") == "string":
            yield here
        elif "name" in inner.get("properties", {}):
            yield (*here, "name")
        else:
            raise ValueError(f"spec.{'.'.join(here)} seems to name a Secret: call the part that holds its name `name`")


def _expression(path: tuple[str, ...]) -> str:
    """CEL: the list of names at that path. Lists within lists are not in the API. Raises ValueError for them."""
    if path.count("[]") > 1:
        raise ValueError(f"spec.{'.'.join(path)} lies in a list within a list: teach this function to flatten them")
    if "[]" not in path:
        return f"[object.spec{_steps(path)}.orValue('')]"
    at = path.index("[]")
    item = f"item{_steps(path[at + 1 :])}.orValue('')" if path[at + 1 :] else "item"
    return f"object.spec{_steps(path[:at])}.orValue([]).map(item, {item})"


def _steps(path: tuple[str, ...]) -> str:
    return "".join(f".?{step}" for step in path)
