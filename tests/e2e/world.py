"""The demo's world in a namespace of a test's own: teacher, claim, pupil and questions; and runs in it."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import yaml

from tests import recipes
from tests.kube import ROOT, Kube, wait_for

SAMPLES = ROOT / "manifests/samples"


class World:
    """One namespace under the `restricted` Pod Security Standard with everything that a run needs."""

    def __init__(self, kube: Kube, images: dict[str, str], name: str) -> None:
        self.kube = kube
        self.images = images
        self.namespace = f"e2e-{name}-{uuid.uuid4().hex[:5]}"

    def create(self, questions: int = 240, tests: int = 40) -> None:
        """Apply demo-world.yaml here and begin to seed the claim."""
        objects = self._sample("demo-world.yaml")
        for thing in objects:
            if thing["kind"] == "Job":
                container = thing["spec"]["template"]["spec"]["containers"][0]
                container["command"] += ["--train", str(questions), "--test", str(tests)]
        self.kube.apply(objects[0])
        self.kube.apply(*objects[1:])

    def wait_until_seeded(self) -> None:
        """Wait for the teacher and for the pupil and questions on the claim."""
        at = ("-n", self.namespace)
        self.kube.must(*at, "wait", "--for=condition=complete", "--timeout=300s", "job/seed")
        self.kube.must(*at, "rollout", "status", "deployment/teacher", "--timeout=120s")

    def delete(self) -> None:
        """Take the namespace away; nothing may keep it from going."""
        self.kube.must("delete", "namespace", self.namespace, "--timeout=120s", "--ignore-not-found")

    def run(self, name: str, **changes: Any) -> dict[str, Any]:
        """The sample's run, small: keyword arguments replace top-level fields of its spec, None removes them."""
        [thing] = self._sample("demo.yaml")
        spec = thing["spec"]
        spec["train"] |= {"maxSteps": 60, "globalBatchSize": 16, "microBatchSize": 8, "checkpoint": {"everySteps": 10}}
        spec["gates"] = [{"benchmark": "additions", "atLeast": "0"}]
        thing["metadata"] = {"name": name, "namespace": self.namespace}
        thing["spec"] = {key: value for key, value in (spec | changes).items() if value is not None}
        return thing  # type: ignore[no-any-return]

    def recipe(self, recipe: str, name: str = "", **changes: Any) -> dict[str, Any]:
        """A small recipe as shipped, in this namespace. `name`: another than its own; keyword arguments as of `run`."""
        thing = recipes.recipe(recipe)
        thing["metadata"] = {"name": name or thing["metadata"]["name"], "namespace": self.namespace}
        thing["spec"] = {key: value for key, value in (thing["spec"] | changes).items() if value is not None}
        return thing

    def claim(self, name: str = "demo") -> Path:
        """Where a claim of this namespace lies on this machine, which is the node."""
        claim = self.kube.get("persistentvolumeclaim", name, self.namespace)
        assert claim is not None
        volume = json.loads(self.kube.must("get", "pv", claim["spec"]["volumeName"], "-o", "json"))
        source = volume["spec"].get("local") or volume["spec"]["hostPath"]
        return Path(source["path"])

    def artifact(self, uri: str) -> Path:
        """The folder on this machine of an artifact's URI."""
        return self.claim() / uri.removeprefix("file:///mnt/distillrun/")

    def pods(self, stage: str, run: str) -> list[dict[str, Any]]:
        """A run's pods of a stage that are not on their way out."""
        found = self.kube.list("pods", self.namespace, f"distillrun.dev/stage={stage},distillrun.dev/run={run}")
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def until(self, run: str, what: str, check: Any, seconds: float = 300) -> dict[str, Any]:
        """The run's status once `check` holds; fails at once with its message when the run has failed."""

        def look() -> dict[str, Any] | None:
            status = self.kube.status(run, self.namespace)
            if check(status):
                return status
            assert status.get("phase") != "Failed", f"the run failed while waiting for {what}: {status['message']}"
            return None

        found: dict[str, Any] = wait_for(f"{what} of {run}", look, seconds)
        return found

    def _sample(self, file: str) -> list[dict[str, Any]]:
        text = (SAMPLES / file).read_text().replace("distillrun-demo", self.namespace)
        text = re.sub(r"(?m)^(\s+image: )distillrun/(\w+):\S+$", lambda m: m[1] + self.images[m[2]], text)
        return [thing for thing in yaml.safe_load_all(text) if thing]


def losses(artifact: Path) -> dict[int, tuple[int, float]]:
    """Attempt and loss by step of a training, as its metrics.jsonl has them last."""
    lines = (json.loads(line) for line in (artifact / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: (line["attempt"], line["loss"]) for line in lines}


def steps_done(folder: Path) -> int:
    """The last step that a training whose fingerprint is not known yet has reported."""
    found = list(folder.glob("train/*/metrics.jsonl"))
    lines = found[0].read_text().splitlines() if found else []
    return int(json.loads(lines[-1])["step"]) if lines else 0
