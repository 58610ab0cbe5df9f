"""What the planner sees and what it decides: frozen dataclasses, no clock, no client.

`Observed` is made of small projections of Kubernetes objects (never whole bodies: the cache holds
them for thousands of runs). `Decision` is everything a reconcile pass may do, in the order in which it is done:
create, apply, status, delete, events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

StageName = Literal["resolve", "curate", "train", "evaluate", "serve"]
STAGES: tuple[StageName, ...] = ("resolve", "curate", "train", "evaluate", "serve")


@dataclass(frozen=True)
class Run:
    """One DistillRun as the API server holds it. `spec` and `status` are the plain JSON objects."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created: datetime
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class ContainerEnd:
    """How the container called `stage` of a pod ended."""

    exit_code: int
    reason: str
    """Kubernetes' word: Completed, Error, OOMKilled, …"""
    message: str
    """The termination message, as written by the stage (untrusted: JSON or not)."""
    finished: datetime | None


@dataclass(frozen=True, slots=True)
class Pod:
    """Projection of a pod that carries our labels."""

    name: str
    uid: str
    stage: str
    attempt: int
    job: str
    """Name of the owning Job or Deployment's label; "" when neither."""
    index: int
    """Completion index; 0 when the Job is not Indexed."""
    phase: str
    ip: str
    node: str
    gpus: int
    created: datetime
    scheduled: datetime | None
    """When the node was assigned (condition PodScheduled=True)."""
    started: datetime | None
    """When the container `stage` began to run; None while it waits."""
    end: ContainerEnd | None
    waiting_reason: str
    """Container waiting reason, e.g. ImagePullBackOff, CreateContainerConfigError, or "" ."""
    waiting_message: str
    unschedulable: str
    """Message of PodScheduled=False, or ""."""
    disrupted: str
    """Reason of the condition DisruptionTarget=True, or ""."""
    ready: bool
    deleting: bool
    deleted: datetime | None = None
    """deletionTimestamp less the grace period; None when the pod is not being deleted."""


@dataclass(frozen=True, slots=True)
class Job:
    """Projection of a batch/v1 Job that carries our labels."""

    name: str
    uid: str
    owner_uid: str
    """UID of the controlling owner, "" when none."""
    stage: str
    attempt: int
    fingerprint: str
    """Annotation distillrun.dev/fingerprint (the whole 64 characters)."""
    created: datetime
    suspended: bool
    active: int
    succeeded: int
    failed: int
    complete: bool
    """Condition Complete or SuccessCriteriaMet is True."""
    failure: str
    """Reason of the condition Failed or FailureTarget when True (PodFailurePolicy, …), else ""."""
    failure_message: str
    finished: datetime | None
    deleting: bool
    preempted: bool = False
    """Whether it was suspended after it had failed: its pods were told to go, and their endings made it fail."""


@dataclass(frozen=True, slots=True)
class Child:
    """Projection of any other object of a run: Service, Deployment, ConfigMap, claim, NetworkPolicy."""

    kind: str
    name: str
    uid: str
    owner_uid: str
    deleting: bool
    run_uid: str = ""
    """Label distillrun.dev/run-uid: the run that it works for; a shared Service has no owner."""
    run_name: str = ""
    """Label distillrun.dev/run."""
    holder_since: datetime | None = None
    """Annotation distillrun.dev/holder-created of a shared Service: when the run that holds it was created."""
    hash: str = ""
    """Annotation distillrun.dev/applied: hash of what the operator applied last; equal means nothing to write."""
    available: int = 0
    """Deployment: available replicas of its observed generation."""
    phase: str = ""
    """Claim: Pending, Bound, Lost. Deployment: message of a False condition."""


@dataclass(frozen=True)
class Scrape:
    """Last numbers pulled from a stage's first pod. Untrusted, bounded by the puller."""

    pod_uid: str
    at: datetime
    numbers: Mapping[str, float]
    """By metric name without `distillrun_stage_`, labels as exported: `traces_rejected{reason="WrongAnswer"}`."""
    unit: str = ""


@dataclass(frozen=True)
class Conflict:
    """An object that has a child's name and belongs to someone else, learned from a 409 or a refused apply."""

    kind: str
    name: str
    owner: str
    """What it belongs to, as words for a message."""


@dataclass(frozen=True)
class Refusal:
    """A create or apply that the API server refused: quota, Pod Security, admission, an invalid field."""

    kind: str
    name: str
    message: str


@dataclass(frozen=True)
class Observed:
    """All that is known of the cluster about one run."""

    jobs: Mapping[str, Job] = field(default_factory=dict)
    pods: Mapping[str, Pod] = field(default_factory=dict)
    children: Mapping[tuple[str, str], Child] = field(default_factory=dict)
    """By (kind, name)."""
    scrapes: Mapping[str, Scrape] = field(default_factory=dict)
    """By pod name."""
    conflicts: tuple[Conflict, ...] = ()
    """Name conflicts met by the last pass over this run; the pass after it plans with them."""
    refusals: tuple[Refusal, ...] = ()
    """Refusals met by the last pass over this run."""
    endpoint: Child | None = None
    """The Service called `serve.endpointName`, whichever run of ours holds it."""
    endpoint_orphaned: bool = False
    """Whether the run that holds it is no more."""
    unwatched: tuple[datetime, datetime] | None = None
    """From when until when no operator looked at the run, before the first look of this one; None when not known."""
    running_runs: int = 1
    """Runs with active pods in the whole cluster: spaces out progress writes."""


@dataclass(frozen=True)
class Ref:
    """An object to delete. The UID is a precondition of the delete."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event about the run."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Want:
    """One object that must exist, named by what it is for; `build` turns it into a Kubernetes object."""

    kind: Literal["ConfigMap", "Job", "Service", "Deployment", "PersistentVolumeClaim", "NetworkPolicy"]
    role: Literal[
        "storage",
        "config",
        "job",
        "rendezvous",
        "endpoint",
        "shared-endpoint",
        "server",
        "isolation",
        "companion",
        "companion-service",
    ]
    name: str
    stage: StageName | None = None
    companion: str = ""
    """Instead of a stage: the companion of stages that it is part of, by its label."""
    attempt: int = 0
    fingerprint: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Role `config`, `job` and `server`: the stage's configuration (stage.yaml), complete."""
    image: str = ""
    """Role `job`, `server` and `companion`: the operator's image for it, frozen when the run was resolved."""
    queue: str = ""
    """Role `job`, `server` and `companion`: Kueue's LocalQueue; empty: none."""

    @property
    def immutable(self) -> bool:
        """Created once by POST, never changed: Jobs and ConfigMaps."""
        return self.kind in ("ConfigMap", "Job")


@dataclass(frozen=True)
class Decision:
    """What one reconcile pass does, in this order: `ensure`, then `status`, then `delete`, then `events`."""

    ensure: tuple[Want, ...] = ()
    status: Mapping[str, Any] | None = None
    """The whole new status, or None when the one on the API server stands."""
    delete: tuple[Ref, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    """Seconds after which to look again even if nothing happens."""


@dataclass(frozen=True)
class Network:
    """With whom pods of runs may talk beside what their run names. Entries are namespaces or CIDR blocks."""

    operator_namespace: str = ""
    """Where the operator's own pods are, which read progress; "" when it runs outside the cluster."""
    dns: tuple[str, ...] = ("kube-system", "169.254.0.0/16")
    """Where cluster DNS answers: its namespace, and the link-local addresses of node-local caches."""
    metrics_from: tuple[str, ...] = ()
    """Who else reads stages' metrics, e.g. the namespace of Prometheus."""
    serve_from: tuple[str, ...] = ()
    """Who else asks served students; pods of the run's own namespace always may."""


@dataclass(frozen=True)
class Settings:
    """What the operator's administrator decides; a part of the planner's and the builder's input."""

    images: Mapping[str, str]
    """Stage name → image reference."""
    gpu_hour_price: str = "0"
    """Decimal; used when neither the run nor the price book gives one."""
    price_book: Mapping[str, str] = field(default_factory=dict)
    """GPU product (node label nvidia.com/gpu.product) → price of a GPU hour, a decimal."""
    currency: str = "USD"
    gpu_resource: str = "nvidia.com/gpu"
    image_pull_policy: str = "IfNotPresent"
    mirror: str = ""
    """Where runs that name no mirror read hf://; "": the hub."""
    progress_interval: float = 30.0
    """Seconds between progress writes of one run, at least."""
    network: Network | None = Network()
    """None: no NetworkPolicies are made."""

    def price(self, product: str) -> str:
        """Price of a GPU hour of that product, the general one when the book does not list it."""
        return self.price_book.get(product, self.gpu_hour_price)
