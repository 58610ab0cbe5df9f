"""Handing images to the cluster's containerd: only what it lacks travels, and nothing is compressed on the way."""

import fcntl
import hashlib
import io
import json
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from . import oci
from .binaries import PROGRAMS, binary, key
from .errors import LocalKubeError
from .places import SOURCE, Cluster
from .shell import Words, run, say

BUSYBOX = "localhost/distillrun/busybox:dev"
_REFERENCE = "org.opencontainers.image.ref.name"


def pause_image() -> str:
    """Return the name of the image that holds each pod's namespaces."""
    return f"localhost/localkube/pause:{key(PROGRAMS['pause'])}"


def coredns_image() -> str:
    """Return the name of the CoreDNS image."""
    return f"localhost/localkube/coredns:{key(PROGRAMS['coredns'])}"


def socket(cluster: Cluster) -> Path:
    """Return containerd's socket."""
    return cluster.state / "containerd.sock"


def ctr(cluster: Cluster, *arguments: str, check: bool = True) -> str:
    """Run containerd's own client in the namespace of Kubernetes and return what it printed."""
    return run([*_client(cluster), *arguments], check=check)


def _client(cluster: Cluster) -> Words:
    return ["ctr", "--address", socket(cluster), "--namespace", "k8s.io"]


def load_own(cluster: Cluster) -> None:
    """Make and load the small images that the cluster itself and its tests need."""
    images = [
        oci.Image(pause_image(), {"pause": binary("pause")}, ["/pause"], {}),
        oci.Image(coredns_image(), {"coredns": binary("coredns")}, ["/coredns"], {}),
        _busybox(),
    ]
    have = loaded(cluster)
    for image in images:
        # The names of the first two carry a key of what is inside; busybox changes with Debian's package only.
        if image.name in have and image.name != BUSYBOX:
            continue
        with tempfile.TemporaryDirectory(dir=cluster.state) as folder:
            oci.write(image, Path(folder))
            load_layout(cluster, Path(folder))


def _busybox() -> oci.Image:
    """Return the test image: busybox' tools, dash as the shell, and a wget of our own.

    busybox' shell would run busybox' wget whatever the path says, and that one crashes (see busybox-wget.sh).
    """
    busybox, shell = Path("/bin/busybox"), Path("/bin/dash")
    files = {"bin/busybox": busybox, "bin/sh": shell, "bin/wget": SOURCE / "busybox-wget.sh"}
    libraries = re.findall(r"(?:=> )?(/\S+) \(0x", run(["ldd", shell]))
    files.update({path.lstrip("/"): Path(path).resolve() for path in libraries})
    tools = set(run([busybox, "--list"]).split()) - {Path(path).name for path in files}
    return oci.Image(BUSYBOX, files, ["/bin/sh"], {f"bin/{name}": "busybox" for name in tools})


def loaded(cluster: Cluster) -> dict[str, str]:
    """Return the digest of each image that containerd has, by name."""
    rows = (line.split() for line in ctr(cluster, "images", "list").splitlines()[1:])
    return {row[0]: row[2] for row in rows if len(row) > 2}


def load_layout(cluster: Cluster, layout: Path) -> list[str]:
    """Load the images of the OCI image layout in the folder `layout`; return the names of those that were not there.

    Each manifest's name is its annotation io.containerd.image.name, or org.opencontainers.image.ref.name if that is a
    full name (localhost/distillrun/x:dev). Raises LocalKubeError if the folder is no layout or an image has no name.
    """
    try:
        entries: list[dict[str, Any]] = json.loads((layout / "index.json").read_bytes())["manifests"]
    except (OSError, ValueError, KeyError) as error:
        raise LocalKubeError(f"{layout} is no OCI image layout: {error}") from error
    with _only_loader(cluster):  # two at once would unpack the same layers twice
        return _load_missing(cluster, layout, entries)


def _load_missing(cluster: Cluster, layout: Path, entries: list[dict[str, Any]]) -> list[str]:
    have = loaded(cluster)
    todo = {name: entry for entry in entries if have.get(name := _name(layout, entry)) != entry["digest"]}
    if todo:
        known = set(ctr(cluster, "content", "list", "--quiet").split())
        unpacked = {line.split()[0] for line in ctr(cluster, "snapshots", "list").splitlines()[1:]}
        layers = {digest: chain for entry in todo.values() for digest, chain in _layers(layout, entry)}
        _import(cluster, layout, todo, known | {digest for digest, chain in layers.items() if chain in unpacked})
        # A layer is of use until it is unpacked; after that it would only fill the disk a second time.
        stored = set(ctr(cluster, "content", "list", "--quiet").split())
        if spent := sorted(stored & set(layers)):
            ctr(cluster, "content", "delete", *spent)
    return sorted(todo)


@contextmanager
def _only_loader(cluster: Cluster) -> Iterator[None]:
    with (cluster.state / "loading.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another load is at work; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_others(cluster: Cluster, layout: Path) -> list[str]:
    """Remove images of the layout's repositories whose tags the layout does not have; return their names.

    Running containers keep what they run on.
    """
    kept = {_name(layout, entry) for entry in json.loads((layout / "index.json").read_bytes())["manifests"]}
    repositories = {name.rpartition(":")[0] for name in kept}
    others = sorted(name for name in set(loaded(cluster)) - kept if name.rpartition(":")[0] in repositories)
    if others:
        ctr(cluster, "images", "delete", *others)
        # Kubernetes' side of containerd names each image a second time, by its id, which would keep it on the disk.
        left = loaded(cluster)
        named = {digest for name, digest in left.items() if not name.startswith("sha256:")}
        if nameless := [name for name, digest in left.items() if digest not in named]:
            ctr(cluster, "images", "delete", *nameless)
    return others


def _name(layout: Path, entry: dict[str, Any]) -> str:
    annotations = entry.get("annotations") or {}
    name = str(annotations.get(oci.NAME) or annotations.get(_REFERENCE) or "")
    if "/" not in name:
        raise LocalKubeError(
            f"{layout}: the image {entry['digest']} is called {name!r}; give it a full name, "
            f"such as localhost/distillrun/x:dev, in the annotation {_REFERENCE}"
        )
    return name


def _import(cluster: Cluster, layout: Path, images: dict[str, dict[str, Any]], known: set[str]) -> None:
    """Stream the images to `ctr images import`, leaving out the blobs in `known`, which containerd does not need."""
    entries = [{**entry, "annotations": {oci.NAME: name}} for name, entry in images.items()]
    digests = dict.fromkeys(digest for entry in entries for digest in _digests(layout, entry))
    # The manifests always travel: containerd looks for them in the archive.
    tops = {entry["digest"] for entry in entries}
    missing = [digest for digest in digests if digest not in known or digest in tops]
    size = sum(_blob(layout, digest).stat().st_size for digest in missing)
    say(f"loading {', '.join(images)}: {size / 1e6:.0f} MB in {len(missing)} of {len(digests)} blobs …")
    command = [str(word) for word in [*_client(cluster), "images", "import", "-"]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _archive(process.stdin, layout, entries, missing)
            process.stdin.close()
        except BrokenPipeError:
            pass  # its own words, below, say why it stopped reading
        output = process.stdout.read().decode(errors="replace")
    if process.returncode != 0:
        raise LocalKubeError(f"containerd refused {', '.join(images)} from {layout}:\n{output.strip()}")


def _archive(stream: IO[bytes], layout: Path, entries: list[dict[str, Any]], digests: list[str]) -> None:
    index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries}
    with tarfile.open(fileobj=stream, mode="w|", bufsize=1 << 20, format=tarfile.GNU_FORMAT) as tar:
        for name, text in (
            ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            ("index.json", json.dumps(index).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
        for digest in digests:
            path = _blob(layout, digest)
            entry = tarfile.TarInfo(f"blobs/{digest.replace(':', '/')}")
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(entry, content)


def _digests(layout: Path, descriptor: dict[str, Any]) -> Iterator[str]:
    """Yield the digest of `descriptor` and of all that it refers to."""
    yield descriptor["digest"]
    if descriptor.get("mediaType", "").endswith(("manifest.v1+json", "index.v1+json", "manifest.v2+json")):
        document = json.loads(_blob(layout, descriptor["digest"]).read_bytes())
        for child in [*document.get("manifests", []), *document.get("layers", []), document.get("config")]:
            if child:
                yield from _digests(layout, child)


def _layers(layout: Path, entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (digest, chain id) for each layer of an image: containerd keeps the unpacked layer under its chain id.

    The chain id of a layer is a hash over the contents of it and of all below (OCI image specification, config.md).
    """
    manifest = json.loads(_blob(layout, entry["digest"]).read_bytes())
    config = json.loads(_blob(layout, manifest["config"]["digest"]).read_bytes())
    chain = ""
    for layer, content in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        chain = f"sha256:{hashlib.sha256(f'{chain} {content}'.encode()).hexdigest()}" if chain else content
        yield layer["digest"], chain


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")
