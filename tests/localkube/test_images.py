"""Images on their way into the node cluster's containerd."""

import json
import uuid
from pathlib import Path

import pytest

from hack.localkube import images, oci
from hack.localkube.errors import LocalKubeError
from hack.localkube.places import node_cluster as place
from hack.localkube.pytest_plugin import RunningCluster

from .test_node import finished, namespace, pod

__all__ = ["namespace"]  # the fixture

pytestmark = pytest.mark.node


def test_an_image_is_loaded_once_and_runs_though_its_layers_are_dropped_once_unpacked(
    node_cluster: RunningCluster, namespace: str, tmp_path: Path
) -> None:
    program = tmp_path / "hello"
    program.write_text("#!/bin/busybox sh\necho hello from $0\n")
    # Images outlive the cluster, and a run of this test that was killed has left its own.
    repository = f"localhost/localkube-test/hello-{uuid.uuid4().hex[:8]}"
    tools = {"bin/busybox": Path("/bin/busybox"), "bin/hello": program}
    for tag in ("one", "two"):
        oci.write(oci.Image(f"{repository}:{tag}", tools, ["/bin/hello"], {"bin/sh": "busybox"}), tmp_path / tag)
        program.write_text("#!/bin/busybox sh\necho hello again from $0\n")
    assert images.load_layout(place(), tmp_path / "one") == [f"{repository}:one"]
    assert images.load_layout(place(), tmp_path / "one") == []
    stored = set(images.ctr(place(), "content", "list", "--quiet").split())
    (entry,) = json.loads((tmp_path / "one" / "index.json").read_text())["manifests"]
    manifest = tmp_path / "one" / "blobs" / entry["digest"].replace(":", "/")
    assert entry["digest"] in stored
    assert stored.isdisjoint(layer["digest"] for layer in json.loads(manifest.read_text())["layers"])
    # The same contents under another name: neither the layer nor its unpacking is needed again.
    renamed = oci.Image(f"{repository}:renamed", tools, ["/bin/hello"], {"bin/sh": "busybox"}, user="65534:65534")
    program.write_text("#!/bin/busybox sh\necho hello from $0\n")
    oci.write(renamed, tmp_path / "renamed")
    assert images.load_layout(place(), tmp_path / "renamed") == [f"{repository}:renamed"]
    item = pod(namespace, "hello", "", image=f"{repository}:renamed", imagePullPolicy="Never")
    del item["spec"]["containers"][0]["args"]
    node_cluster.apply(item)
    assert finished(node_cluster, namespace, "hello") == "hello from /bin/hello\n"
    assert images.load_layout(place(), tmp_path / "two") == [f"{repository}:two"]
    assert images.remove_others(place(), tmp_path / "two") == [f"{repository}:one", f"{repository}:renamed"]
    assert f"{repository}:two" in images.loaded(place())
    images.ctr(place(), "images", "delete", f"{repository}:two")


def test_a_folder_that_is_no_image_layout_is_named(node_cluster: RunningCluster, tmp_path: Path) -> None:
    with pytest.raises(LocalKubeError, match=str(tmp_path)):
        images.load_layout(place(), tmp_path)
