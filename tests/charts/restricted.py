"""The `restricted` Pod Security Standard as a function: what in a pod's spec would be refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job"}


def pod_specs(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pod specs of all workloads among the objects, by "Kind/name"."""
    found = {}
    for each in objects:
        if each["kind"] in WORKLOADS:
            found[f"{each['kind']}/{each['metadata']['name']}"] = each["spec"]["template"]["spec"]
        elif each["kind"] == "Pod":
            found[f"Pod/{each['metadata']['name']}"] = each["spec"]
    return found


def violations(spec: Mapping[str, Any]) -> list[str]:
    """What the standard forbids in a pod spec, a phrase each; empty if it is compliant."""
    return [*_of_pod(spec), *(phrase for each in _containers(spec) for phrase in _of_container(spec, each))]


def _containers(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or []


def _of_pod(spec: Mapping[str, Any]) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set"
    for volume in spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is a {', '.join(kinds - VOLUMES)}"
    security = spec.get("securityContext") or {}
    if security.get("sysctls"):
        yield "sysctls are set"


def _of_container(spec: Mapping[str, Any], container: Mapping[str, Any]) -> Iterator[str]:
    name = container["name"]
    pod, own = spec.get("securityContext") or {}, container.get("securityContext") or {}
    merged = {**pod, **own}
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} does not forbid privilege escalation"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield f"{name} does not drop all capabilities"
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"{name} adds capabilities {capabilities['add']}"
    if merged.get("runAsNonRoot") is not True:
        yield f"{name} may run as root"
    if merged.get("runAsUser") == 0:
        yield f"{name} runs as user 0"
    if (merged.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{name} has no seccomp profile"
    if own.get("procMount") not in (None, "Default"):
        yield f"{name} has another /proc"
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"{name} takes the host's port {port['hostPort']}"
