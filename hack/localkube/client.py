"""A small client for the Kubernetes API: JSON over HTTPS with the standard library, enough for this folder."""

import base64
import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

Object = dict[str, Any]


class ApiError(Exception):
    """The API server refused: `status` is the HTTP code, the text its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Client:
    """One user's access to one API server, taken from a kubeconfig that this package wrote (JSON, CA data, token)."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._address = urlsplit(cluster["server"]).netloc
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        self._token = config["users"][0]["user"]["token"]

    def request(
        self, method: str, path: str, body: object = None, *, kind: str = "application/json", timeout: float = 10.0
    ) -> Object:
        """Send one request and return the answer's object. Raises ApiError on a refusal, OSError if nobody answers."""
        connection = self._connect(timeout)
        try:
            response = self._send(connection, method, path, body, kind)
            return dict(json.loads(response.read() or b"{}"))
        finally:
            connection.close()

    def text(self, path: str) -> str:
        """GET `path` and return the answer as text. Raises as `request` does."""
        connection = self._connect(10.0)
        try:
            return self._send(connection, "GET", path, None, "").read().decode()
        finally:
            connection.close()

    def get(self, path: str) -> Object:
        """GET `path`."""
        return self.request("GET", path)

    def apply(self, path: str, body: Object) -> Object:
        """Server-side apply `body` to the object at `path`."""
        query = urlencode({"fieldManager": "localkube", "force": "true"})
        return self.request("PATCH", f"{path}?{query}", body, kind="application/apply-patch+yaml")

    def ready(self) -> bool:
        """Tell whether the API server says that it is ready."""
        try:
            return self.text("/readyz") == "ok"
        except (ApiError, OSError, http.client.HTTPException):
            return False

    def watch(self, path: str, version: str, *, seconds: int = 300) -> Iterator[Object]:
        """Yield watch events for the collection at `path` after resource version `version`, for `seconds` at most.

        Ends when the server closes the stream. Raises ApiError (410 if the version is too old) and OSError.
        """
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": seconds, "allowWatchBookmarks": "true"}
        connection = self._connect(seconds + 10.0)
        try:
            response = self._send(connection, "GET", f"{path}?{urlencode(query)}", None, "")
            while line := response.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 500), event["object"].get("message", ""))
                yield event
        finally:
            connection.close()

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._address, context=self._context, timeout=timeout)

    def _send(
        self, connection: http.client.HTTPSConnection, method: str, path: str, body: object, kind: str
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = kind
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        if response.status >= 400:
            text = response.read().decode(errors="replace")
            try:
                text = json.loads(text)["message"]
            except (ValueError, KeyError, TypeError):
                pass
            raise ApiError(response.status, text)
        return response
