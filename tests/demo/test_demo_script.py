"""hack/demo, as far as it goes without a cluster: steps, whose cluster is used, and what the student is asked."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.kube import ROOT


@pytest.fixture(autouse=True)
def demo_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "hack" / "demo"), *sys.path])
    monkeypatch.delenv("KUBECONFIG", raising=False)


@pytest.fixture
def steps_module() -> ModuleType:
    import steps

    return steps


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """hack/demo/target.py on a machine whose own cluster is up and that has kubectl and helm."""
    import target as module

    monkeypatch.setattr(module, "own_kubeconfig", lambda: "/own")
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/bin/{name}")
    return module


def localkube_says(monkeypatch: pytest.MonkeyPatch, target: ModuleType, code: int, kubeconfig: str) -> list[list[str]]:
    """Has hack/localkube end with that code and answer; the list collects what it is asked."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, code, kubeconfig, "")

    monkeypatch.setattr(target.subprocess, "run", run)
    return asked


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_each_step_is_a_line_with_its_number_its_time_and_a_note(steps_module: ModuleType, tmp_path: Path) -> None:
    out = io.StringIO()
    steps = steps_module.Steps(2, tmp_path / "logs", out)
    with steps.step("one", "the first") as step:
        assert step.run(python("print(input())"), text="hello\n") == "hello\n"
        step.note = "well done"
    with steps.step("two", "the second"):
        pass
    assert out.getvalue().splitlines() == [
        "[1/2] the first …",
        "✔ [1/2] the first  0:00  well done",
        "[2/2] the second …",
        "✔ [2/2] the second  0:00",
    ]
    assert list(steps.seconds) == ["one", "two"]


def test_a_failed_step_shows_the_end_of_its_log_and_where_the_rest_is(steps_module: ModuleType, tmp_path: Path) -> None:
    out = io.StringIO()
    steps = steps_module.Steps(1, tmp_path / "logs", out)
    code = "import sys; [print(f'line {i}', file=sys.stderr) for i in range(100)]; sys.exit(7)"
    with pytest.raises(steps_module.DemoError, match="ended with exit code 7"):
        with steps.step("one", "the first") as step:
            step.run(python(code))
    told = out.getvalue()
    assert "✘ [1/1] the first" in told
    assert "line 99" in told
    assert "line 50" not in told
    assert "the whole log: " in told
    assert "line 0" in (tmp_path / "logs" / "01-one.log").read_text()


def test_a_terminal_shows_the_last_words_of_the_command_at_work(steps_module: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("$ a command\nbuilding etcd\n\n")
    assert steps_module.Step("x", log).last_words() == "building etcd"
    assert steps_module.Step("x", tmp_path / "none").last_words() == ""


def test_without_a_kubeconfig_the_machines_own_cluster_is_used(target: ModuleType) -> None:
    assert target.named(None, assume_yes=False) is None


def test_the_machines_own_kubeconfig_counts_as_none(target: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/own")
    localkube_says(monkeypatch, target, 0, "/own\n")
    assert target.named(None, assume_yes=False) is None


def test_a_cluster_of_the_users_is_used_as_localkube_gives_it_away(
    target: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = localkube_says(monkeypatch, target, 0, "/agreed\n")
    assert target.named("prod", assume_yes=True) == {"KUBECONFIG": "/agreed"}
    assert asked[0][-4:] == ["kubeconfig", "--context", "prod", "--yes"]


def test_nothing_is_done_to_a_cluster_that_localkube_does_not_give_away(
    target: ModuleType, monkeypatch: pytest.MonkeyPatch, steps_module: ModuleType
) -> None:
    localkube_says(monkeypatch, target, 1, "")
    with pytest.raises(steps_module.DemoError):
        target.named("prod", assume_yes=False)


def test_a_cluster_that_pulls_needs_to_know_from_where(target: ModuleType, steps_module: ModuleType) -> None:
    with pytest.raises(steps_module.DemoError, match="--registry is missing"):
        target.references(None)


@pytest.mark.parametrize(
    ("registry", "operator"),
    [
        ("registry.example/distillrun", "registry.example/distillrun/operator:0.1.0"),
        ("registry.example:5000/a/b:nightly", "registry.example:5000/a/b/operator:nightly"),
        ("distillrun", "distillrun/operator:0.1.0"),
    ],
)
def test_images_of_a_registry_are_named_after_the_stages(target: ModuleType, registry: str, operator: str) -> None:
    references = target.references(registry)
    assert references["operator"] == operator
    assert set(references) == {"operator", "curate", "train", "evaluate", "serve"}


def test_the_student_is_asked_something_that_it_has_not_learnt() -> None:
    import chat

    from distillstages.demo.additions import parse, question_sets

    asked = parse(chat.QUESTION)
    assert asked is not None
    train, _ = question_sets()
    assert {(asked.left, asked.right), (asked.right, asked.left)}.isdisjoint(
        {(each.left, each.right) for each in train}
    )


def test_a_demo_that_is_broken_off_says_so_and_ends_with_1(tmp_path: Path) -> None:
    environment: dict[str, Any] = {
        **os.environ,
        "KUBECONFIG": str(tmp_path / "none"),
        "DISTILLRUN_CACHE": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "hack" / "demo")],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "which does not exist; correct it or unset it" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_chart_is_installed_with_the_images_that_were_built() -> None:
    import play

    words = play.install({"train": "localhost/distillrun/train:abc"})
    assert words[:3] == ["upgrade", "--install", "distillrun"]
    assert "images.train.repository=localhost/distillrun/train,images.train.tag=abc" in words
