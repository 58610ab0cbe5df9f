"""Arguments, environment and logs of the operator process."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from distillrun.__main__ import AFTER_WRITES, WHILE_LATE, Operator, main
from distillrun.cluster.logs import JsonFormatter, about
from distillrun.options import arguments, options
from tests.unit.builders import run


def test_without_settings_the_whole_cluster_is_watched_with_the_images_of_this_version() -> None:
    made = options(arguments(["operator"]), {})
    assert made.namespaces == ()
    assert made.settings.images["train"].startswith("distillrun/train:")
    assert (made.port, made.lease_name, made.settings.gpu_resource) == (8080, "distillrun-operator", "nvidia.com/gpu")


def test_the_environment_says_what_the_chart_sets() -> None:
    env = {
        "DISTILLRUN_IMAGE_CURATE": "registry.test/curate:2",
        "DISTILLRUN_GPU_HOUR_PRICE": "2.96",
        "DISTILLRUN_CURRENCY": "EUR",
        "DISTILLRUN_WATCH_NAMESPACES": "b, a,,b",
        "DISTILLRUN_LEASE_NAMESPACE": "ops",
        "DISTILLRUN_LEASE_NAME": "mine",
        "DISTILLRUN_IMAGE_PULL_POLICY": "Never",
        "DISTILLRUN_GPU_RESOURCE": "amd.com/gpu",
    }
    made = options(arguments(["run"]), env)
    assert made.namespaces == ("a", "b")
    assert made.settings.images["curate"] == "registry.test/curate:2"
    assert (made.settings.gpu_hour_price, made.settings.currency) == ("2.96", "EUR")
    assert (made.settings.image_pull_policy, made.settings.gpu_resource) == ("Never", "amd.com/gpu")
    assert (made.lease_namespace, made.lease_name) == ("ops", "mine")


def test_an_empty_variable_is_as_good_as_none() -> None:
    made = options(arguments(["operator"]), {"DISTILLRUN_GPU_HOUR_PRICE": "", "DISTILLRUN_CURRENCY": ""})
    assert (made.settings.gpu_hour_price, made.settings.currency) == ("0", "USD")


def test_a_price_that_is_no_number_is_named_with_its_variable() -> None:
    with pytest.raises(ValueError, match="DISTILLRUN_GPU_HOUR_PRICE is 'cheap'"):
        options(arguments(["operator"]), {"DISTILLRUN_GPU_HOUR_PRICE": "cheap"})


def test_a_mirror_is_an_address_or_a_folder() -> None:
    for uri in ("https://hub.corp.example/hf", "s3://mirror/hub", "file:///mnt/distillrun/hub"):
        assert options(arguments(["operator"]), {"DISTILLRUN_MIRROR": uri}).settings.mirror == uri
    with pytest.raises(ValueError, match=r"DISTILLRUN_MIRROR is 'hub\.corp\.example'"):
        options(arguments(["operator"]), {"DISTILLRUN_MIRROR": "hub.corp.example"})


def test_the_definition_is_printed_for_kubectl(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crd"]) == 0
    assert "name: distillruns.distillrun.dev" in capsys.readouterr().out


def test_without_an_api_server_the_operator_says_where_it_looked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/nothing-here")
    assert main(["operator"]) == 1
    assert "nothing-here" in capsys.readouterr().err


def test_a_log_line_is_one_json_object_that_names_the_run() -> None:
    record = logging.LogRecord("distillrun.x", logging.WARNING, "x.py", 1, "attempt %d\nfailed", (2,), None)
    record.stage = "train"
    with about(run()):
        line = JsonFormatter().format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert (told["namespace"], told["run"], told["uid"], told["stage"]) == ("team", "s1", "run-uid", "train")
    assert (told["level"], told["message"]) == ("warning", "attempt 2\nfailed")
    assert "run" not in json.loads(JsonFormatter().format(record))


@pytest.mark.parametrize(
    ("leading", "again", "wrote", "expected"),
    [
        (True, None, False, None),
        (True, 30.0, False, 30.0),
        (True, None, True, AFTER_WRITES),
        (True, 30.0, True, AFTER_WRITES),
        (True, 0.2, True, 0.2),
        (False, 30.0, False, WHILE_LATE),
    ],
)
async def test_what_a_pass_wrote_is_looked_at_again_and_without_the_lease_there_is_no_pass(
    leading: bool, again: float | None, wrote: bool, expected: float | None
) -> None:
    passes: list[Any] = []

    async def reconciler(key: Any) -> float | None:
        passes.append(key)
        return again

    lease, applier = SimpleNamespace(leading=leading), SimpleNamespace(wrote=lambda key: wrote)
    operator: Any = SimpleNamespace(lease=lease, reconciler=reconciler, applier=applier)
    assert await Operator._pass(operator, ("team", "s1")) == expected
    assert passes == ([("team", "s1")] if leading else [])
