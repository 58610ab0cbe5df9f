"""One namespace with one run, operators behind a proxy that are restarted when they end, and what must hold at the end.

Many such worlds share one API server, so that schedules which mostly wait can run side by side.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from distillrun.cluster.client import Client
from distillrun.cluster.errors import ApiError
from distillrun.cluster.resources import CHILDREN, LEASE, POD, RUN, Resource
from distillrun.plan.names import LABEL_RUN
from tests.cluster.faults.kubelet import Fate, Kubelet, one_failure
from tests.cluster.faults.proxy import Proxy, Request
from tests.cluster.operator_io.processes import LEASE as LEASE_NAME
from tests.cluster.operator_io.processes import OperatorProcess, operator_kubeconfig
from tests.kube import Kube
from tests.unit.builders import spec

NAMESPACE = Resource("Namespace", "", "v1", "namespaces")
QUICK = ("--relist-seconds", "2", "--relist-grace", "1")
"""Arguments of an operator that compares its cache often: what the watches lose is found in seconds, not minutes."""
TIMES_AND_COUNTS = {
    "jobTime",
    "retryTime",
    "activeSince",
    "activeSeconds",
    "finishedTime",
    "releases",
    "movedTime",
    *("startTime", "completionTime", "lastTransitionTime", "retryTime", "time", "progress", "lastCheckpoint"),
    *("attempt", "failures", "preemptions", "jobName", "cost", "observedGeneration"),
}


@dataclass
class Operators:
    """Keeps one operator running, as a Deployment of one replica would: what ends is started again."""

    kubeconfig: str
    namespace: str
    folder: Path
    arguments: tuple[str, ...] = ()
    liveness: bool = False
    """Whether an operator that fails /healthz three times is killed, as a kubelet would."""
    started: list[OperatorProcess] = field(default_factory=list)
    after_end: Callable[[], Any] | None = None
    """Awaited after an operator has ended and before the next one is started."""

    async def run(self) -> None:
        """Start and start again, until cancelled."""
        while True:
            log = self.folder / f"operator-{len(self.started)}.log"
            operator = OperatorProcess.spawn(self.kubeconfig, self.namespace, log, *self.arguments)
            self.started.append(operator)
            try:
                await self._watch(operator)
            finally:
                operator.end()
            if self.after_end is not None:
                await self.after_end()

    def kill(self, _: Request | None = None) -> None:
        """SIGKILL."""
        if self.started:
            self.started[-1].process.kill()

    def log(self) -> str:
        """What all of them logged."""
        return "\n".join(f"--- {each.log.name}\n{each.log.read_text()}" for each in self.started)

    async def _watch(self, operator: OperatorProcess) -> None:
        ill = 0
        while operator.process.poll() is None:
            await asyncio.sleep(0.1 if not self.liveness else 1.0)
            if self.liveness and (operator.port or operator.listens()):
                code, _ = await asyncio.to_thread(operator.http, "/healthz")
                ill = ill + 1 if code != 200 else 0
                if ill == 3:
                    operator.process.kill()
                    await asyncio.to_thread(operator.process.wait)


@dataclass
class World:
    """One run and its operators."""

    client: Client
    namespace: str
    proxy: Proxy
    operators: Operators
    name: str = "s1"
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def create(self, **changes: Any) -> None:
        """A user creates the run."""
        meta = {"name": self.name, "namespace": self.namespace}
        body = {"apiVersion": RUN.api_version, "kind": RUN.kind, "metadata": meta, "spec": spec(**changes)}
        await self.client.create(RUN, self.namespace, body)

    async def status(self) -> dict[str, Any]:
        """The run's status."""
        found: dict[str, Any] = (await self.client.get(RUN, self.namespace, self.name)).get("status", {})
        return found

    async def end(self, seconds: float = 240) -> dict[str, Any]:
        """The status once the run serves, has succeeded or has failed. Fails the test when it never does."""

        async def ended() -> dict[str, Any]:
            status = await self.status()
            words = {c["type"]: c["status"] for c in status.get("conditions", [])}
            return status if "True" in (words.get("Ready"), words.get("Stalled")) else {}

        return await self.until("the run to end", ended, seconds)

    async def until(self, what: str, check: Callable[[], Any], seconds: float = 60) -> Any:
        """What `check` returns once it is true. Fails the test with `what`, status and logs."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            for task in self.tasks:
                if task.done() and not task.cancelled():
                    task.result()  # whatever keeps the operators running should still be at it
            try:
                found = await check()
            except ApiError as error:
                if not error.retryable:
                    raise
                found = None
            if found:
                return found
            await asyncio.sleep(0.3)
        raise AssertionError(
            f"{self.namespace}: waited {seconds} s in vain for {what}\n"
            f"{json.dumps(await self.status(), indent=1)}\n{self.operators.log()[-6000:]}"
        )

    async def objects(self) -> Counter[str]:
        """The run's children less pods and what is going, by kind and name without hashes and attempts' numbers."""
        found: Counter[str] = Counter()
        for resource in CHILDREN:
            if resource is POD:
                continue
            async for page in self.client.list(resource, self.namespace, labels=LABEL_RUN):
                for item in page.items:
                    if not item["metadata"].get("deletionTimestamp"):
                        found[f"{resource.kind} {without_hash(item['metadata']['name'])}"] += 1
        return found

    async def forgive_lease(self) -> None:
        """Let a successor lead at once: waiting for a dead leader's lease is what other tests are about."""
        try:
            body = {"spec": {"holderIdentity": ""}}
            await self.client.patch(LEASE, self.namespace, LEASE_NAME, body)
        except ApiError:
            pass


@dataclass(frozen=True)
class Outcome:
    """What is compared between schedules: final status and objects."""

    status: Any
    objects: Counter[str]


@dataclass
class Worlds:
    """Makes worlds on one API server."""

    kube: Kube
    client: Client
    kubelet: Kubelet
    folder: Path
    known: dict[Fate, tuple[Outcome, list[Request]]]
    """Undisturbed runs that were played already: outcome and writes, by fate."""
    made: list[World] = field(default_factory=list)

    @asynccontextmanager
    async def world(
        self, *arguments: str, fate: Fate = one_failure, liveness: bool = False, forgive: bool = True
    ) -> AsyncIterator[World]:
        """A namespace, a proxy and an operator that is kept running behind it."""
        namespace = f"f-{uuid.uuid4().hex[:8]}"
        folder = self.folder / namespace
        folder.mkdir()
        await self.client.create(NAMESPACE, "", {"metadata": {"name": namespace}})
        kubeconfig = await asyncio.to_thread(operator_kubeconfig, self.kube, namespace, folder)
        proxy = await self.proxy()
        operators = Operators(through(proxy, kubeconfig), namespace, folder, arguments, liveness)
        proxy.kill = operators.kill
        world = World(self.client, namespace, proxy, operators)
        if forgive:
            operators.after_end = world.forgive_lease
        self.made.append(world)
        self.kubelet.fates[namespace] = fate
        world.tasks.append(asyncio.create_task(operators.run()))
        try:
            yield world
        finally:
            del self.kubelet.fates[namespace]
            for task in world.tasks:
                task.cancel()
            await asyncio.gather(*world.tasks, return_exceptions=True)
            await proxy.stop()
            self.kube.kubectl("delete", "namespace", namespace, "--wait=false")

    async def proxy(self) -> Proxy:
        """A proxy in front of the API server."""
        proxy = Proxy(*server(self.kube.kubeconfig))
        await proxy.start()
        return proxy

    async def undisturbed(self, fate: Fate = one_failure) -> tuple[Outcome, list[Request]]:
        """How a run ends when nobody disturbs it, and every write on the way; played once a session."""
        if fate not in self.known:
            async with self.world(fate=fate) as world:
                self.known[fate] = await self.played(world), world.proxy.writes()
        return self.known[fate]

    async def played(self, world: World, undisturbed: Outcome | None = None, **changes: Any) -> Outcome:
        """Create the run, wait for its end and for its objects to be what they should be."""
        await world.create(**changes)
        return await self.ended(world, undisturbed)

    async def ended(self, world: World, undisturbed: Outcome | None = None) -> Outcome:
        """Wait for the run's end; with `undisturbed` also for the same objects, and compare the status with it."""
        await world.end()
        if undisturbed is None:
            return Outcome(normal(await world.status(), world.namespace), await _settled(world))

        async def same() -> bool:
            return await world.objects() == undisturbed.objects

        try:
            await world.until("the objects of an undisturbed run", same, 60)
        except AssertionError as error:
            there = await world.objects()
            raise AssertionError(
                f"too many: {there - undisturbed.objects}, missing: {undisturbed.objects - there}; {error}"
            ) from None
        status = normal(await world.status(), world.namespace)
        assert status == undisturbed.status, world.namespace
        return Outcome(status, undisturbed.objects)


async def _settled(world: World) -> Counter[str]:
    """The objects once they have not changed for two seconds."""
    before: Counter[str] = Counter()
    while True:
        now = await world.objects()
        if now == before:
            return now
        before = now
        await asyncio.sleep(2)


def server(kubeconfig: str) -> tuple[str, str]:
    """URL of a kubeconfig's API server, and the PEM of its certificate authority."""
    cluster = yaml.safe_load(Path(kubeconfig).read_text())["clusters"][0]["cluster"]
    pem = cluster.get("certificate-authority-data")
    authority = base64.b64decode(pem).decode() if pem else Path(cluster["certificate-authority"]).read_text()
    return cluster["server"], authority


def through(proxy: Proxy, kubeconfig: str) -> str:
    """A copy of a kubeconfig that goes through a proxy."""
    content = json.loads(Path(kubeconfig).read_text())
    content["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{proxy.port}"}
    path = Path(kubeconfig).with_name(f"proxied-{proxy.port}.kubeconfig")
    path.write_text(json.dumps(content))
    return str(path)


def without_hash(name: str) -> str:
    """`s1-train-0a1b2c3d-2` → `s1-train-H-N`: attempts may differ, and a server's configuration names its namespace."""
    return re.sub(r"-[0-9a-f]{8}(-\d+)?$", lambda found: "-H-N" if found[1] else "-H", name)


def normal(value: Any, namespace: str) -> Any:
    """A status without times, attempts, costs and the namespace's name."""
    if isinstance(value, dict):
        # A run is resolved for itself: that fingerprint is no other run's.
        own = {"fingerprint"} if value.get("name") == "resolve" else set()
        return {key: normal(inner, namespace) for key, inner in value.items() if key not in TIMES_AND_COUNTS | own}
    if isinstance(value, list):
        return [normal(inner, namespace) for inner in value]
    if isinstance(value, str):
        return re.sub(r"attempt \d+", "attempt N", value.replace(namespace, "NAMESPACE"))
    return value


def job_creations(audit: Path, start: int, namespaces: set[str]) -> Counter[tuple[str, str]]:
    """How often the API server has created a Job of each (namespace, name), by its audit log from byte `start` on."""
    created: Counter[tuple[str, str]] = Counter()
    with audit.open("rb") as log:
        log.seek(start)
        for line in log:
            if b'"jobs"' not in line or b'"create"' not in line:
                continue
            event = json.loads(line)
            what = event.get("objectRef") or {}
            ended = event["stage"] == "ResponseComplete" and event["responseStatus"]["code"] == 201
            created_job = ended and (what.get("resource"), event["verb"]) == ("jobs", "create")
            if created_job and what.get("namespace") in namespaces:
                created[what["namespace"], what.get("name", "")] += 1
    return created
