"""The one thing that the command line writes: a few fields of a run's spec, with the user's own rights."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from distillrun.cluster.errors import ApiError
from distillrun.cluster.readonly import Json, Reader
from distillrun.cluster.resources import RUN

FIELD_MANAGER = "distillrun-cli"


class Writer(Reader):
    """A Reader that may change a run's spec."""

    def change(self, run: Json, spec: Mapping[str, Any]) -> Json:
        """Merge fields into the spec of this very run, as long as nobody has changed it. The run as it is then.

        Raises ApiError: a conflict when it has changed since it was read, or was made anew.
        """
        meta = run["metadata"]
        body = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}, "spec": dict(spec)}
        path = RUN.path(meta["namespace"], meta["name"])
        request = urllib.request.Request(
            f"{self._connection.host}{path}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/merge-patch+json", "Accept": "application/json"},
            method="PATCH",
        )
        changed = json.loads(self._send(request))
        if not isinstance(changed, dict):
            raise ApiError(0, "NotJson", f"PATCH {path}: the answer is not a JSON object")
        return changed
