"""A fake hub: a real HTTP server with as much of the Hugging Face hub's API as reading a repository needs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SHA = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Holds one repository, `owner/name`, with the files given, at the commit SHA, which is its branch main. A context
    manager. Setting `sha` is what a push does; the earlier commit is gone then."""

    def __init__(self, repository: str, files: dict[str, bytes], *, kind: str = "datasets") -> None:
        self.repository = repository
        self.files = files
        self.kind = kind
        self.sha = SHA
        self.seen: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def info(self) -> dict[str, Any]:
        """The repository as the API describes it."""
        return {
            "id": self.repository,
            "sha": self.sha,
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "lastModified": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": name} for name in self.files],
        }

    def entries(self, folder: str) -> list[dict[str, Any]]:
        """The files below a folder and the folders on the way."""
        found = [self.entry(n) for n in self.files if not folder or n.startswith(folder + "/")]
        folders = {n.rpartition("/")[0] for n in self.files if "/" in n and n.startswith(folder)} - {folder, ""}
        return [{"type": "directory", "path": f, "oid": SHA, "size": 0} for f in sorted(folders)] + found

    def entry(self, name: str) -> dict[str, Any]:
        """One file."""
        data = self.files[name]
        return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._route(b"")

            def do_HEAD(self) -> None:
                self._route(b"")

            def do_POST(self) -> None:
                self._route(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def _route(self, body: bytes) -> None:
                path = self.path.partition("?")[0]
                hub.seen.append(f"{self.command} {path}")
                api = f"/api/{hub.kind}/{hub.repository}"
                place = f"/datasets/{hub.repository}" if hub.kind == "datasets" else f"/{hub.repository}"
                asked_for = re.search(r"/(?:revision|tree|paths-info|resolve)/([^/]+)", path)
                if asked_for and path.startswith((api, place)) and asked_for[1] not in ("main", hub.sha):
                    self._send(404, b'{"error":"Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
                elif path == api or re.fullmatch(re.escape(api) + r"/revision/[^/]+", path):
                    self._json(hub.info())
                elif match := re.fullmatch(re.escape(api) + r"/tree/[^/]+(?:/(.*))?", path):
                    self._json(hub.entries(match[1] or ""))
                elif re.fullmatch(re.escape(api) + r"/paths-info/[^/]+", path):
                    asked = json.loads(body)["paths"]
                    self._json([hub.entry(p) for p in asked if p in hub.files])
                elif match := re.fullmatch(re.escape(place) + "/resolve/[^/]+/(.+)", path):
                    self._file(match[1])
                else:
                    self._send(404, b'{"error":"Repository not found"}', {"X-Error-Code": "RepoNotFound"})

            def _json(self, document: Any) -> None:
                self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

            def _file(self, name: str) -> None:
                if name not in hub.files:
                    self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                    return
                data = hub.files[name]
                headers = {"ETag": f'"{hub.entry(name)["oid"]}"', "X-Repo-Commit": hub.sha, "Accept-Ranges": "bytes"}
                wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
                if wanted:
                    start, end = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
                    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
                    self._send(206, data[start : end + 1], headers)
                else:
                    self._send(200, data, headers)

            def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for key, value in {"X-Request-Id": "fake", **headers}.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        return Handler


def hub_cache(root: Path, repository: str, files: dict[str, bytes], *, kind: str = "datasets") -> Path:
    """The hub's cache as `hf download --cache-dir root` leaves it: the files at the commit SHA, which is main, as links
    to blobs. Returns the snapshot's folder."""
    where = root / f"{kind}--{repository.replace('/', '--')}"
    snapshot = where / "snapshots" / SHA
    for name, data in files.items():
        blob = where / "blobs" / hashlib.sha1(data).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        path = snapshot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(blob, path.parent))
    (where / "refs").mkdir()
    (where / "refs/main").write_text(SHA)
    return snapshot
