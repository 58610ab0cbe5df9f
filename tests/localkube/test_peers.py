"""The peers' programs and manifests, as far as they can be looked at without a cluster."""

from __future__ import annotations

import pytest

from hack.localkube import binaries
from hack.peers import programs
from hack.peers.cli import main


def test_every_peer_has_a_module_with_its_version_and_hashes_pinned() -> None:
    for peer in programs.PEERS.values():
        module = programs.SOURCE / "go" / peer.name
        assert f"{peer.module} v" in (module / "go.mod").read_text()
        assert (module / "go.sum").stat().st_size > 0


def test_a_peer_never_shares_a_binary_with_a_program_of_localkube() -> None:
    assert not set(programs.PEERS) & set(binaries.PROGRAMS)


def test_a_cluster_of_somebody_else_is_refused_with_the_way_to_one_of_ours(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "kueue", "--kubeconfig", f"{tmp_path}/credentials/admin.kubeconfig"]) == 1
    assert "hack/localkube control-plane up" in capsys.readouterr().err
