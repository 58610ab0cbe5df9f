"""Real operator processes under the chart's own role, and what the API server's audit log says they did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.kube import ROOT, Kube, wait_for

WRITES = ("create", "update", "patch", "delete", "deletecollection")
LEASE = "operator"


def role_rules() -> list[dict[str, Any]]:
    """The rules that the Helm chart gives the operator."""
    rules: list[dict[str, Any]] = yaml.safe_load((ROOT / "charts/distillrun/files/rules.yaml").read_text())
    return rules


def operator_kubeconfig(kube: Kube, namespace: str, folder: Path) -> str:
    """A service account with the chart's role in one namespace, and a kubeconfig that is it."""
    rbac = "rbac.authorization.k8s.io/v1"
    lease = {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "create", "patch"],
    }
    meta = {"name": "operator", "namespace": namespace}
    kube.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": rbac, "kind": "Role", "metadata": meta, "rules": [*role_rules(), lease]},
        {
            "apiVersion": rbac,
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
        },
    )
    return kubeconfig_of(kube, "operator", namespace, folder)


def kubeconfig_of(kube: Kube, account: str, namespace: str, folder: Path) -> str:
    """A kubeconfig that is a service account."""
    admin = yaml.safe_load(Path(kube.kubeconfig).read_text())
    token = kube.must("create", "token", account, "-n", namespace, "--duration=2h").strip()
    admin["users"] = [{"name": "operator", "user": {"token": token}}]
    for context in admin["contexts"]:
        context["context"]["user"] = "operator"
    path = folder / "operator.kubeconfig"
    path.write_text(json.dumps(admin))
    return str(path)


@dataclass
class OperatorProcess:
    """One `python -m distillrun operator`."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0
    identity: str = ""

    @classmethod
    def start(cls, kubeconfig: str, namespace: str, log: Path, *arguments: str, wait: bool = True) -> OperatorProcess:
        """Start one that watches one namespace, and wait until it listens and its cache is filled."""
        operator = cls.spawn(kubeconfig, namespace, log, *arguments)
        wait_for("the operator to listen", operator.listens, 120)
        if wait:
            wait_for("the operator to be ready", lambda: operator.http("/readyz")[0] == 200, 60)
        return operator

    @classmethod
    def spawn(cls, kubeconfig: str, namespace: str, log: Path, *arguments: str) -> OperatorProcess:
        """Start one and do not wait for anything; `listens` fills in its port and identity."""
        env = {
            **os.environ,
            "KUBECONFIG": kubeconfig,
            "PYTHONPATH": str(ROOT / "operator"),
            "DISTILLRUN_WATCH_NAMESPACES": namespace,
            "DISTILLRUN_LEASE_NAMESPACE": namespace,
            "DISTILLRUN_LEASE_NAME": LEASE,
        }
        command = [sys.executable, "-m", "distillrun", "operator", "--host", "127.0.0.1", "--port", "0", *arguments]
        with log.open("ab") as out:
            process = subprocess.Popen(command, env=env, stdout=out, stderr=out, cwd=ROOT)
        return cls(process, log)

    def listens(self) -> bool:
        """Whether it listens by now."""
        listening = self.logged("listens on port")
        if listening is None:
            return False
        words = listening["message"].split()
        self.identity, self.port = words[1], int(words[-1].rstrip("."))
        return True

    def lines(self) -> list[dict[str, Any]]:
        """What it logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def logged(self, words: str) -> dict[str, Any] | None:
        """The last line whose message has these words."""
        assert self.process.poll() is None or self.log.read_text(), f"the operator ended with {self.process.returncode}"
        return next((line for line in reversed(self.lines()) if words in line["message"]), None)

    def http(self, path: str) -> tuple[int, str]:
        """Status and text of a GET."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metric(self, name: str) -> float:
        """One sample of /metrics, with its labels as exported."""
        for line in self.http("/metrics")[1].splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        return 0.0

    @property
    def leads(self) -> bool:
        """Whether it says that it may write."""
        return self.metric("distillrun_leader") == 1.0

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """Whatever state it is in: end it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)


@dataclass
class Audit:
    """The API server's audit log, as far as one service account is concerned."""

    path: Path
    user: str
    start: int = 0
    _cache: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start = self.path.stat().st_size

    def mark(self) -> None:
        """Forget what was so far."""
        self.start = self.path.stat().st_size

    def requests(self) -> Iterator[dict[str, Any]]:
        """Requests since the mark: those that ended, and watches, which go on."""
        with self.path.open("rb") as log:
            log.seek(self.start)
            for line in log:
                if line.endswith(b"\n") and self.user.encode() in line:
                    request = json.loads(line)
                    done = request["stage"] == ("ResponseStarted" if request["verb"] == "watch" else "ResponseComplete")
                    if done and request["user"]["username"] == self.user:
                        yield request

    def writes(self, agent: str = "") -> list[dict[str, Any]]:
        """Writes since the mark, less the Lease; with `agent` only those of the process of that identity."""
        return [
            request
            for request in self.requests()
            if request["verb"] in WRITES
            and request["objectRef"]["resource"] != "leases"
            and agent in request.get("userAgent", "")
        ]


def said(request: dict[str, Any]) -> str:
    """A request in words: `create jobs s1-curate-1: 201`."""
    what = request["objectRef"]
    resource = "/".join(part for part in (what["resource"], what.get("subresource")) if part)
    return f"{request['verb']} {resource} {what.get('name', '')}: {request['responseStatus']['code']}"
