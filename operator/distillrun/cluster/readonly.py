"""Synchronous reading of runs for the command line: get, list and logs, no write of any kind."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from distillrun.cluster import progress
from distillrun.cluster.connection import connect, own_namespace
from distillrun.cluster.errors import ApiError, from_answer
from distillrun.cluster.resources import POD, RUN

SECONDS = 15.0
"""How long one answer may take."""

Json = dict[str, Any]


class Reader:
    """Read access to one API server, by the kubeconfig's context of that name (None: the current one, or the pod's).

    Raises ValueError when there is no API server to be found.
    """

    def __init__(self, context: str | None = None) -> None:
        self._connection = connect(context)
        proxy = self._connection.proxy
        handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=self._connection.ssl)]
        # Whether there is a proxy is the kubeconfig's word; the environment's proxies are for other servers.
        handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else {}))
        self._opener = urllib.request.build_opener(*handlers)

    def run(self, namespace: str, name: str) -> Json:
        """The DistillRun. Raises ApiError (not_found when there is none)."""
        return self._get_json(RUN.path(namespace, name))

    def runs(self, namespace: str | None = None) -> list[Json]:
        """The DistillRuns of a namespace, or of all. Raises ApiError."""
        return self._items(RUN.path(namespace))

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[Json]:
        """The pods that carry these labels. Raises ApiError."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return self._items(POD.path(namespace), {"labelSelector": selector})

    def events(self, namespace: str, uid: str) -> list[Json]:
        """The events about the object of that UID, in the server's order. Raises ApiError."""
        return self._items(f"/api/v1/namespaces/{namespace}/events", {"fieldSelector": f"involvedObject.uid={uid}"})

    def numbers(self, namespace: str, labels: Mapping[str, str]) -> tuple[dict[str, float], str]:
        """What the first of the pods with these labels exports of its progress, by name, and the unit of it.

        Asked through the API server, which takes the right to `get` `pods/proxy`. Empty when no such pod runs; raises
        ApiError when it does not answer.
        """
        running = [
            pod
            for pod in self.pods(namespace, labels)
            if (pod.get("status") or {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
        ]
        if not running:
            return {}, ""
        first = min(running, key=lambda pod: (_index(pod), str(pod["metadata"]["name"])))
        path = POD.path(namespace, f"{first['metadata']['name']}:{progress.PORT}", "proxy/metrics")
        return progress.parse(self._get(path)[: progress.BYTES].decode(errors="replace"))

    def log(self, namespace: str, pod: str, container: str = "stage", tail: int = 20) -> str:
        """The last lines of a container's log. Raises ApiError."""
        query = {"container": container, "tailLines": str(tail)}
        return self._get(POD.path(namespace, pod, "log"), query).decode(errors="replace")

    def _items(self, path: str, query: Mapping[str, str] | None = None) -> list[Json]:
        return list(self._get_json(path, query).get("items") or [])

    def _get_json(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        body = _parsed(self._get(path, query))
        if not isinstance(body, dict):
            raise ApiError(0, "NotJson", f"GET {path}: the answer is not a JSON object")
        return body

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        address = f"{self._connection.host}{path}" + (f"?{urlencode(query)}" if query else "")
        return self._send(urllib.request.Request(address, headers={"Accept": "application/json, */*"}))

    def _send(self, request: urllib.request.Request, renew: bool = False) -> bytes:
        authorization = asyncio.run(self._connection.authorization(renew))
        if authorization:
            request.add_header("Authorization", authorization)
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 401 and not renew:  # a token that has expired: the loader may have a new one
                    return self._send(request, renew=True)
                raise from_answer(error.code, _parsed(error.read()), dict(error.headers)) from error
        except OSError as error:  # URLError, time-outs and broken connections
            what = f"{request.get_method()} {request.selector}"
            raise ApiError(0, type(error).__name__, f"{what}: {getattr(error, 'reason', error)}") from error


def _index(pod: Mapping[str, Any]) -> int:
    text = (pod["metadata"].get("labels") or {}).get("batch.kubernetes.io/job-completion-index", "0")
    return int(text) if text.isdecimal() else 0


def default_namespace(context: str | None = None) -> str:
    """The namespace that kubectl would use: the context's, the pod's own, or `default`."""
    from kubernetes import config

    try:
        contexts, active = config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))  # type: ignore[no-untyped-call]
    except config.ConfigException:
        return own_namespace() or "default"
    chosen = next((each for each in contexts if each["name"] == context), None) if context else active
    return str(((chosen or {}).get("context") or {}).get("namespace") or "default")


def _parsed(body: bytes) -> Any:
    text = body.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text
