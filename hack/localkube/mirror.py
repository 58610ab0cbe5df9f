"""A local copy of a collection of the API, kept current by a watch in a thread of its own."""

import http.client
import threading
import time
from collections.abc import Callable

from .client import ApiError, Client, Object
from .shell import say

Key = tuple[str, str]


class Mirror:
    """The objects of the collection at `path`, by (namespace, name); `changed` is called after each change.

    `project` cuts an object down to what is used, so that copies stay small.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        changed: Callable[[], None],
        project: Callable[[Object], Object] = lambda whole: whole,
    ) -> None:
        self._client, self._path, self._changed, self._project = client, path, changed, project
        self._objects: dict[Key, Object] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=path, daemon=True)
        self.listed = threading.Event()  # set once the first list has arrived

    def start(self) -> None:
        """Begin to follow the collection."""
        self._thread.start()

    def get(self, key: Key) -> Object | None:
        """Return the object of that key, or None."""
        with self._lock:
            return self._objects.get(key)

    def all(self) -> list[Object]:
        """Return all objects as they are now."""
        with self._lock:
            return list(self._objects.values())

    def _run(self) -> None:
        while True:
            try:
                self._follow()
            except ApiError as error:
                if error.status != 410:  # 410: too far behind, which the next list heals
                    say(f"{self._path}: {error}")
                    time.sleep(1)
            except (OSError, ValueError, http.client.HTTPException) as error:
                say(f"{self._path}: {error}")
                time.sleep(1)

    def _follow(self) -> None:
        """List once, then watch until the server ends it, going on from where it ended."""
        listed = self._client.get(self._path)
        with self._lock:
            self._objects = {_key(item): self._project(item) for item in listed["items"]}
        self.listed.set()
        self._changed()
        version = str(listed["metadata"]["resourceVersion"])
        while True:
            for event in self._client.watch(self._path, version):
                item = event["object"]
                version = str(item["metadata"]["resourceVersion"])
                if event["type"] == "BOOKMARK":
                    continue
                with self._lock:
                    if event["type"] == "DELETED":
                        self._objects.pop(_key(item), None)
                    else:
                        self._objects[_key(item)] = self._project(item)
                self._changed()


def _key(item: Object) -> Key:
    return str(item["metadata"].get("namespace", "")), str(item["metadata"]["name"])
