"""What the NetworkPolicies of a run let through and what not, asked from within its pods on a real node."""

from __future__ import annotations

import pytest

from tests.e2e.knocking import knock, until_ready
from tests.e2e.world import World
from tests.kube import stage

pytestmark = [pytest.mark.node, pytest.mark.e2e, pytest.mark.timeout(1200)]


def test_curation_reaches_dns_and_its_teacher_and_nothing_else(calm: World, elsewhere: World) -> None:
    thing = calm.run("held", evaluate=None, gates=None, serve=None)
    name = f"listener.{elsewhere.namespace}.svc"
    thing["spec"]["models"][0]["endpoint"]["url"] = f"http://{name}:8080/v1"
    thing["spec"]["seed"] = 11  # a fingerprint of its own: nothing is taken over
    calm.kube.apply(thing)
    calm.until("held", "a running curation", lambda s: stage(s, "curate").get("state") == "Running")
    [pod] = calm.pods("curate", "held")
    other = until_ready(elsewhere, "listener")
    found = knock(
        calm,
        pod["metadata"]["name"],
        f"{name}:8080",
        f"{other}:8080",
        f"{other}:9999",
        f"teacher.{calm.namespace}.svc:8080",
        "kubernetes.default.svc:443",
        f"{pod['status']['hostIP']}:10250",
        f"{pod['status']['hostIP']}:6443",
        "169.254.169.254:80",
    )
    assert [target for target, answer in found.items() if answer == "open"] == [f"{name}:8080", f"{other}:8080"]
    calm.kube.must("delete", "distillrun", "held", "-n", calm.namespace)
