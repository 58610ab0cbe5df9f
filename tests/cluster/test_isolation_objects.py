"""The API server takes every NetworkPolicy that the operator can make, whatever a spec says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest

from distillrun.build.objects import build
from distillrun.plan.model import Network, StageName, Want
from tests.cluster.maximal import largest_spec
from tests.kube import Kube
from tests.unit.builders import SETTINGS, run, spec
from tests.unit.plan.test_companions import GRADED
from tests.unit.plan.test_served_models import served

pytestmark = pytest.mark.controlplane
ISOLATED = replace(SETTINGS, network=Network("distillrun-system", metrics_from=("monitoring",), serve_from=("::/0",)))
URLS = (
    "http://teacher:8080/v1",
    "http://TEACHER.Models.SVC:8000",
    "http://vllm.models.svc/v1",
    "http://0.vllm.models.svc.cluster.local:65535",
    "http://a.b.svc.svc.svc:1",
    "http://x.-.svc:8000",
    "http://x._y.svc:8000",
    "http://x." + "n" * 63 + ".svc:8000",
    "http://10.1.2.3:8000",
    "http://010.1.2.3:8000",
    "http://0x7f000001:8000",
    "http://[2001:db8::7]:8000",
    "http://[2001:db8::7%25eth0]:8000",
    "http://[::ffff:10.0.0.1]:8000",
    "http://[64:ff9b::a00:1]:8000",
    "http://127.0.0.1:8000",
    "http://example.com:0/",
    "http://example.com:8080/",
    "https://example.com/" + "a" * 1000,
    "https://user:password@example.com/",
    "https://bücher.example/",
    "https://xn--bcher-kva.example./",
    "http://%31%30.0.0.1/",
    "http://!$&'()*+,;=:@!:80/",
)


def policy(of: dict[str, Any], stage: StageName | None, name: str, companion: str = "") -> dict[str, Any]:
    want = Want("NetworkPolicy", "isolation", name, stage=stage, companion=companion)
    made = build(want, run(spec=of), ISOLATED)
    del made["metadata"]["namespace"], made["metadata"]["ownerReferences"]
    return made


def test_every_policy_is_valid(api_server: Kube, namespace: str) -> None:
    models = [
        {"name": f"m{i}", "endpoint": {"url": url, "model": "m"}, "terms": spec()["models"][0]["terms"]}
        for i, url in enumerate(URLS)
    ]
    specs = [spec(models=[model], teacher=model["name"], student={"model": {"uri": "hf://a/b"}}) for model in models]
    specs.append(largest_spec())
    objects = [policy(each, stage, f"p{i}-{stage}") for i, each in enumerate(specs) for stage in get_args(StageName)]
    objects.append(policy(spec(evaluate=GRADED), None, "sandbox", "sandbox"))
    objects.append(policy(spec(**served()), None, "model", "model-big"))
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    done = api_server.kubectl("create", "-n", namespace, "--dry-run=server", "-f", "-", stdin=text)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr
