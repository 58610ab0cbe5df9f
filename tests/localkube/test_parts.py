"""The small parts: sizes, address ranges, images, credentials, and what the committed files may not hold."""

import ipaddress
import json
import re
import subprocess
from pathlib import Path

import pytest

from hack.localkube import addresses, binaries, credentials, images, oci, provisioner
from hack.localkube.errors import LocalKubeError
from hack.localkube.places import SOURCE, Cluster


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("1Ki", 1024), ("512Mi", 512 << 20), ("1.5Gi", 3 << 29), ("2G", 2 * 10**9), ("9", 9)],
)
def test_a_size_is_read_as_kubernetes_reads_it(quantity: str, expected: int) -> None:
    assert provisioner.size(quantity) == expected


@pytest.mark.parametrize("quantity", ["", "big", "1Xi", "1KB"])
def test_what_is_no_size_is_refused_by_name(quantity: str) -> None:
    with pytest.raises(LocalKubeError, match=re.escape(repr(quantity))):
        provisioner.size(quantity)


def test_a_volume_is_bound_to_its_claim_before_anyone_else_can_take_it(tmp_path: Path) -> None:
    claim = {
        "metadata": {"namespace": "team", "name": "data", "uid": "u-1"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    made = provisioner.volume(claim, provisioner.classes()[0], tmp_path / "pvc-u-1")
    assert made["spec"]["claimRef"]["uid"] == "u-1"
    assert made["spec"]["accessModes"] == ["ReadWriteMany"]
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert made["spec"]["local"]["path"] == str(tmp_path / "pvc-u-1")


def test_ranges_avoid_what_the_host_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = [{"dst": "default"}, {"dst": "10.200.0.0/15"}, {"dst": "10.203.4.5"}]
    monkeypatch.setattr(addresses, "run", lambda _: json.dumps(routes))
    chosen = addresses.choose()
    assert chosen == addresses.Ranges("10.204.0.0/16", "10.204.0.1", "10.205.0.0/16", "10.205.0.10")
    assert ipaddress.ip_address(chosen.bridge) in ipaddress.ip_network(chosen.pods)


def test_a_host_that_routes_every_range_is_told_which_route_is_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "run", lambda _: json.dumps([{"dst": "10.0.0.0/8"}]))
    with pytest.raises(LocalKubeError, match=r"10\.0\.0\.0/8"):
        addresses.choose()


def test_the_same_files_make_the_same_image(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/sh\n")
    image = oci.Image("localhost/x/y:dev", {"bin/program": program}, ["/bin/program"], {"bin/link": "program"})
    for name in ("one", "two"):
        oci.write(image, tmp_path / name)
        program.touch()
    assert (tmp_path / "one/index.json").read_bytes() == (tmp_path / "two/index.json").read_bytes()


def test_an_image_without_a_full_name_is_refused_and_the_annotation_to_set_is_named(tmp_path: Path) -> None:
    entry = {"digest": "sha256:0", "annotations": {"org.opencontainers.image.ref.name": "dev"}}
    with pytest.raises(LocalKubeError, match=r"org\.opencontainers\.image\.ref\.name"):
        images._name(tmp_path, entry)


def test_credentials_differ_between_clusters_and_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    tokens = []
    for name in ("one", "two"):
        cluster = Cluster(name, tmp_path / name)
        cluster.make_folders()
        credentials.create(cluster, "https://127.0.0.1:1", ["127.0.0.1"])
        files = [path for path in cluster.credentials.iterdir() if path.name != "complete"]
        assert all(path.stat().st_mode & 0o077 == 0 for path in files)
        assert cluster.credentials.stat().st_mode & 0o077 == 0
        tokens.append((cluster.credentials / "tokens.csv").read_text())
        verify = ["openssl", "verify", "-CAfile", "ca.crt", "apiserver.crt", "kubelet.crt", "apiserver-to-kubelet.crt"]
        subprocess.run(verify, cwd=cluster.credentials, check=True, capture_output=True)
    assert tokens[0] != tokens[1]


def test_credentials_stay_when_the_same_cluster_starts_again(tmp_path: Path) -> None:
    cluster = Cluster("one", tmp_path)
    cluster.make_folders()
    credentials.create(cluster, "https://127.0.0.1:1", ["127.0.0.1"])
    before = (cluster.credentials / "tokens.csv").read_text()
    credentials.create(cluster, "https://127.0.0.1:1", ["127.0.0.1"])
    assert (cluster.credentials / "tokens.csv").read_text() == before


def test_every_program_has_a_module_with_pins_and_hashes() -> None:
    for program in binaries.PROGRAMS.values():
        assert (program.module / "go.mod").exists()
        assert program.name == "pause" or (program.module / "go.sum").stat().st_size > 0


def test_a_changed_pin_changes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "go" / "pause").mkdir(parents=True)
    for path in (SOURCE / "go" / "pause").iterdir():
        (tmp_path / "go" / "pause" / path.name).write_bytes(path.read_bytes())
    before = binaries.key(binaries.PROGRAMS["pause"])
    monkeypatch.setattr(binaries, "SOURCE", tmp_path)
    assert binaries.key(binaries.PROGRAMS["pause"]) == before
    with (tmp_path / "go" / "pause" / "go.mod").open("a") as module:
        module.write("\n// another pin\n")
    assert binaries.key(binaries.PROGRAMS["pause"]) != before


def test_the_stamped_version_is_the_pinned_version() -> None:
    pins = (SOURCE / "go" / "kubernetes" / "go.mod").read_text()
    assert f"\tk8s.io/kubernetes {binaries.KUBERNETES_VERSION}\n" in pins
