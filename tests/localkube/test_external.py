"""A cluster of the user's own is used only after a yes."""

import io
import json
import os
from pathlib import Path

import pytest

from hack.localkube import external
from hack.localkube.cli import main
from hack.localkube.errors import LocalKubeError
from hack.localkube.places import NODE_STATE

CONFIG = {"current-context": "production", "clusters": [{"name": "p", "cluster": {"server": "https://10.9.8.7:6443"}}]}


@pytest.fixture
def own_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig of the user's, a kubectl that prints it and finds its cluster well, and a cache of our own."""
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(f"#!/bin/sh\ncase \"$*\" in *view*) echo '{json.dumps(CONFIG)}' ;; *readyz*) echo ok ;; esac\n")
    kubectl.chmod(0o755)
    config = tmp_path / "config"
    config.write_text(json.dumps(CONFIG))
    monkeypatch.setenv("PATH", f"{kubectl.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setenv("DISTILLRUN_CACHE", str(tmp_path / "cache"))
    return config


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(text))


@pytest.mark.usefixtures("own_cluster")
def test_without_a_terminal_and_without_yes_it_is_refused_with_the_way_forward(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["up"]) == 1
    said = capsys.readouterr().err
    assert "production at https://10.9.8.7:6443" in said
    assert "--yes" in said
    assert "unset KUBECONFIG" in said


@pytest.mark.usefixtures("own_cluster")
def test_with_yes_it_is_used_and_its_kubeconfig_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--yes"]) == 0
    printed = Path(capsys.readouterr().out.strip())
    assert json.loads(printed.read_text()) == CONFIG
    assert printed.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("own_cluster")
def test_what_was_agreed_once_is_not_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--yes"]) == 0
    assert main(["kubeconfig"]) == 0


@pytest.mark.usefixtures("own_cluster")
def test_anything_but_a_yes_on_the_terminal_is_a_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("\n", "n\n", "what?\n", ""):
        answer(monkeypatch, text)
        assert main(["up"]) == 1
    assert "is not used" in capsys.readouterr().err
    answer(monkeypatch, "y\n")
    assert main(["up"]) == 0


def test_a_kubeconfig_that_does_not_exist_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/no/such/config")
    assert main(["up"]) == 1
    assert "/no/such/config, which does not exist" in capsys.readouterr().err


def test_a_kubeconfig_of_our_own_clusters_is_not_taken_for_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(NODE_STATE / "credentials" / "admin.kubeconfig"))
    assert external.named(None) is None
    monkeypatch.delenv("KUBECONFIG")
    assert external.named(None) is None


def test_another_context_than_the_agreed_one_is_asked_for_again(own_cluster: Path) -> None:
    choice = external.named(None)
    assert choice is not None
    external.use(choice, yes=True)
    other = external.Choice("staging", "https://10.9.8.8:6443", '{"other": true}')
    with pytest.raises(LocalKubeError, match="staging"):
        external.use(other, yes=False)
    assert own_cluster.exists()
