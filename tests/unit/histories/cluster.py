"""A model of a cluster: the API server of api.py, Jobs and pods that live and end on it, operators that may crash."""

from __future__ import annotations

import asyncio
import copy
import json
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from distillrun.build.objects import build
from distillrun.cluster.apply import Applier
from distillrun.cluster.cache import Cache
from distillrun.cluster.errors import ApiError
from distillrun.cluster.events import Recorder
from distillrun.cluster.evidence import Evidence
from distillrun.cluster.metrics import Metrics
from distillrun.cluster.project import INDEX
from distillrun.cluster.relist import Relist
from distillrun.plan.clock import rfc3339
from distillrun.plan.names import LABEL_STAGE
from distillrun.plan.planner import plan
from distillrun.reconcile import Reconciler
from tests.cluster.faults.kubelet import End, success
from tests.unit.builders import SETTINGS, T0, spec
from tests.unit.histories.api import Crash, Json, ModelClient, ModelServer

KEY = ("team", "s1")
COUNTED_FAILURES = 2
"""As many as `maxRetries` allows: one more and the run fails, which is another end."""
JOB_NAME = "batch.kubernetes.io/job-name"


class Operator:
    """One operator process: its cache, what its watches have not told it yet, and its passes."""

    def __init__(self, cluster: ModelCluster) -> None:
        self.unread: dict[str, deque[tuple[str, Json]]] = defaultdict(deque)
        self.client: Any = ModelClient(cluster.server)
        self.cache = Cache()
        self.relist = Relist(self.client, self.cache, Metrics(self.cache), lambda _: None)
        self.again: float | None = 0.0
        self.reconciler = Reconciler(
            self.cache,
            Applier(self.client, self.cache),
            Evidence(self.client, self.cache),
            Recorder(self.client, "model"),
            SETTINGS,
            plan=plan,
            build=build,
            clock=lambda: cluster.now,
        )
        cluster.server.watchers.append(self.hear)
        cluster.do(self.relist.fill())

    def hear(self, kind: str, event: str, body: Json) -> None:
        """The API server has sent an event; it is not read yet."""
        self.unread[kind].append((event, body))

    def read(self, kind: str, count: int) -> None:
        """Read so many of the events of a kind, the oldest first."""
        for _ in range(min(count, len(self.unread[kind]))):
            event, body = self.unread[kind].popleft()
            if event == "DELETED":
                self.cache.remove(kind, body)
            else:
                self.cache.upsert(kind, body)

    def read_all(self) -> None:
        """Read everything."""
        for kind in list(self.unread):
            self.read(kind, len(self.unread[kind]))


@dataclass
class ModelCluster:
    """One run, two operators of which one leads, and what the pods really used."""

    now: datetime = T0
    used: dict[str, tuple[int, datetime, datetime | None]] = field(default_factory=dict)
    """By pod UID: GPUs, when it was scheduled, when it ended."""
    faults: Counter[str] = field(default_factory=Counter)
    """Failures that count, by stage."""

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.server = ModelServer(lambda: self.now)
        self.server.watchers.append(self._account)
        self.operators = [Operator(self), Operator(self)]

    def close(self) -> None:
        """Give the event loop back."""
        self.loop.close()

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def do(self, work: Any) -> Any:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(work)

    # -- the user --------------------------------------------------------------------------------

    def create(self, **changes: Any) -> None:
        """Create the run."""
        meta = {"namespace": KEY[0], "name": KEY[1]}
        self.server.put(
            {
                "apiVersion": "distillrun.dev/v1alpha1",
                "kind": "DistillRun",
                "metadata": meta,
                "spec": spec(**changes),
                "status": {"observedGeneration": -1},
            }
        )

    @property
    def run(self) -> Json:
        """The run as it is stored."""
        return self.server.objects["DistillRun", *KEY]

    @property
    def status(self) -> Json:
        """Its status."""
        status: Json = self.run["status"]
        return status

    def state(self, stage: str) -> str:
        """A stage's state in the status."""
        stages = self.status.get("stages", [])
        return str(next((each["state"] for each in stages if each["name"] == stage), "Pending"))

    def edit(self, new: Json) -> None:
        """Change the spec."""
        if new == self.run["spec"]:
            return
        body = copy.deepcopy(self.run)
        body["spec"] = new
        body["metadata"]["generation"] += 1
        self.server.put(body)

    # -- the operators ---------------------------------------------------------------------------

    @property
    def leader(self) -> Operator:
        """The operator that leads."""
        return self.operators[0]

    def work(self) -> None:
        """One pass of the leader; a pass that fails is tried again, a crash is followed by a new process."""
        try:
            self.leader.again = self.do(self.leader.reconciler(KEY))
        except ApiError:
            self.leader.again = 1.0
        except Crash:
            self.server.watchers.remove(self.leader.hear)
            self.operators[0] = Operator(self)

    def take_over(self) -> None:
        """The other one leads: its watches may lag, so it reads lists first."""
        self.operators.reverse()
        self.leader.client.troubles.clear()
        self.do(self.leader.relist.catch_up())

    # -- the controllers of Jobs and Deployments ---------------------------------------------------

    def control(self) -> None:
        """What the controller manager does: pods for Jobs, conditions for Jobs whose pods have ended."""
        for job in list(self.server.of_kind("Job")):
            if not any(c["status"] == "True" for c in job.get("status", {}).get("conditions", ())):
                self._control_job(job)
        for deployment in list(self.server.of_kind("Deployment")):
            ready = {
                "availableReplicas": deployment["spec"]["replicas"],
                "observedGeneration": deployment["metadata"]["generation"],
            }
            if deployment.get("status") != ready:
                self.server.put({**copy.deepcopy(deployment), "status": ready})

    def _control_job(self, job: Json) -> None:
        name = job["metadata"]["name"]
        pods = {
            pod["metadata"]["labels"][INDEX]: pod for pod in self.pods() if pod["metadata"]["labels"][JOB_NAME] == name
        }
        if job["spec"].get("suspend"):
            return
        for index in range(job["spec"]["completions"]):
            if str(index) not in pods:
                self._create_pod(job, index)
        phases = [pod["status"]["phase"] for pod in pods.values()]
        if "Failed" in phases:
            for pod in pods.values():
                if pod["status"]["phase"] in ("Pending", "Running"):
                    self.vanish(pod)
            self._conclude(job, "Failed", "PodFailurePolicy")
        elif phases.count("Succeeded") == job["spec"]["completions"]:
            self._conclude(job, "Complete", "CompletionsReached")

    def _create_pod(self, job: Json, index: int) -> None:
        meta = job["metadata"]
        template = copy.deepcopy(job["spec"]["template"])
        owner = {"kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        labels = {**template["metadata"]["labels"], JOB_NAME: meta["name"], INDEX: str(index)}
        name = f"{meta['name']}-{index}-{len(self.server.created)}"
        self.server.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "namespace": KEY[0],
                    "name": name,
                    "labels": labels,
                    "annotations": template["metadata"].get("annotations", {}),
                    "ownerReferences": [owner],
                },
                "spec": template["spec"],
                "status": {"phase": "Pending"},
            }
        )

    def _conclude(self, job: Json, condition: str, reason: str) -> None:
        body = copy.deepcopy(job)
        said = {"type": condition, "status": "True", "reason": reason, "lastTransitionTime": rfc3339(self.now)}
        body["status"] = {"conditions": [said]}
        self.server.put(body)

    # -- the kubelets ----------------------------------------------------------------------------

    def pods(self) -> list[Json]:
        """Every pod of a Job."""
        return self.server.of_kind("Pod")

    def active(self) -> list[Json]:
        """Pods that wait or run, in the order of their creation."""
        return [pod for pod in self.pods() if pod["status"]["phase"] in ("Pending", "Running")]

    def start(self, pod: Json) -> None:
        """A pod that waits is scheduled and its container runs."""
        body = copy.deepcopy(pod)
        body["spec"]["nodeName"] = "node-1"
        at = rfc3339(self.now)
        body["status"] = {
            "phase": "Running",
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at}],
            "containerStatuses": [{"name": "stage", "state": {"running": {"startedAt": at}}}],
        }
        limits = [each.get("resources", {}).get("limits", {}) for each in body["spec"]["containers"]]
        gpus = sum(int(limit.get(SETTINGS.gpu_resource, 0)) for limit in limits)
        self.used[body["metadata"]["uid"]] = (gpus, self.now, None)
        self.server.put(body)

    def end(self, pod: Json, how: End) -> None:
        """A running pod's container ends."""
        body = copy.deepcopy(pod)
        at = rfc3339(self.now)
        started = body["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
        message = json.dumps(how.message)
        ended = {"exitCode": how.code, "reason": "Error", "message": message, "startedAt": started, "finishedAt": at}
        body["status"]["phase"] = "Failed" if how.code else "Succeeded"
        body["status"]["containerStatuses"] = [{"name": "stage", "state": {"terminated": ended}}]
        if how.disrupted:
            target = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
            body["status"]["conditions"].append({**target, "lastTransitionTime": at})
        self.server.put(body)

    def vanish(self, pod: Json) -> None:
        """A pod is gone without a word, as with its node."""
        self.server.remove(("Pod", KEY[0], pod["metadata"]["name"]))

    def delete_job_of(self, pod: Json) -> None:
        """Somebody deletes a pod's Job; its pods go with it."""
        self.server.remove(("Job", KEY[0], pod["metadata"]["labels"][JOB_NAME]))

    def may_fail(self, stage: str) -> bool:
        """Whether a stage may have one more failure that counts; if so it is taken for granted that it happens."""
        if self.faults[stage] >= COUNTED_FAILURES:
            return False
        self.faults[stage] += 1
        return True

    def _account(self, kind: str, event: str, body: Json) -> None:
        """A pod that has ended or is gone uses nothing any more."""
        uid = body["metadata"]["uid"]
        over = kind == "Pod" and (event == "DELETED" or body["status"]["phase"] in ("Failed", "Succeeded"))
        if over and uid in self.used:
            gpus, since, until = self.used[uid]
            self.used[uid] = (gpus, since, until or self.now)

    def gpu_seconds(self) -> float:
        """What pods of Jobs have really used until now."""
        return sum(gpus * ((until or self.now) - since).total_seconds() for gpus, since, until in self.used.values())

    # -- peace -----------------------------------------------------------------------------------

    def settle(self, rounds: int = 300) -> None:
        """Nothing goes wrong any more: let the run come to its end. Fails when it does not."""
        for operator in self.operators:
            operator.client.troubles.clear()
        quiet = 0
        for _ in range(rounds):
            before = self.server.version
            self.control()
            for pod in self.active():
                if pod["status"]["phase"] == "Pending":
                    self.start(pod)
                else:
                    self.end(pod, success(pod["metadata"]["labels"][LABEL_STAGE]))
            for operator in self.operators:
                operator.read_all()
            self.work()
            quiet = quiet + 1 if int(self.server.version) == int(before) + 1 else 0
            if quiet > 3 and self.leader.again is None:
                return
            if quiet > 40:
                return
            self.now += timedelta(seconds=max(1.0, min(self.leader.again or 1.0, 400.0)))
        raise AssertionError(f"the run does not settle: {json.dumps(self.status, indent=1)}")
