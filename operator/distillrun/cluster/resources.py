"""The kinds of objects that the operator touches, and where the API server serves them."""

from __future__ import annotations

from dataclasses import dataclass

from distillrun import api


@dataclass(frozen=True)
class Resource:
    """One kind of object and its address. Every kind here is namespaced."""

    kind: str
    group: str
    """Empty for the core group."""
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        """`apiVersion` of an object of this kind."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path below the server's address; without a namespace it addresses the whole cluster."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/" + "/".join(parts)


RUN = Resource(api.KIND, api.GROUP, api.VERSION, api.PLURAL)
POD = Resource("Pod", "", "v1", "pods")
JOB = Resource("Job", "batch", "v1", "jobs")
SERVICE = Resource("Service", "", "v1", "services")
DEPLOYMENT = Resource("Deployment", "apps", "v1", "deployments")
CONFIG_MAP = Resource("ConfigMap", "", "v1", "configmaps")
CLAIM = Resource("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
NETWORK_POLICY = Resource("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies")
LEASE = Resource("Lease", "coordination.k8s.io", "v1", "leases")
EVENT = Resource("Event", "events.k8s.io", "v1", "events")

CHILDREN: tuple[Resource, ...] = (POD, JOB, SERVICE, DEPLOYMENT, CONFIG_MAP, CLAIM, NETWORK_POLICY)
"""What a run's children may be: watched, cached and listed by label, never without it."""

BY_KIND: dict[str, Resource] = {r.kind: r for r in (RUN, *CHILDREN, LEASE, EVENT)}
