"""What the peers are: a Go program each, and the manifests of its release, rendered and kept beside the binary."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.localkube import binaries
from hack.localkube.shell import run

SOURCE = Path(__file__).resolve().parent
Object = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """One controller, as its authors release it."""

    name: str
    module: str
    """Go module; its version is the one pinned in go/<name>/go.mod."""
    package: str
    kustomize: tuple[str, ...]
    """Folders of the module that render to its definitions and webhooks."""
    namespace: str
    service: str
    """Name of the Service in front of its webhooks: its certificate is made out to it."""
    secret: str
    """Name of the Secret with that certificate."""
    authority: str
    """Name of the authority that signs it."""


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "kueue",
            "sigs.k8s.io/kueue",
            "sigs.k8s.io/kueue/cmd/kueue",
            ("config/default",),
            "kueue-system",
            "kueue-webhook-service",
            "kueue-webhook-server-cert",
            "kueue-ca",
        ),
        Peer(
            "jobset",
            "sigs.k8s.io/jobset",
            "sigs.k8s.io/jobset",
            ("config/default",),
            "jobset-system",
            "jobset-webhook-service",
            "jobset-webhook-server-cert",
            "jobset-ca",
        ),
        Peer(
            "trainer",
            "github.com/kubeflow/trainer/v2",
            "github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager",
            # Its overlays fetch JobSet's manifests over the network.
            ("manifests/base/crds", "manifests/base/webhook"),
            "kubeflow-system",
            "kubeflow-trainer-controller-manager",
            "kubeflow-trainer-webhook-cert",
            "kubeflow-trainer-ca",
        ),
    )
}
_WANTED = ("CustomResourceDefinition", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def _program(name: str) -> binaries.Program:
    return binaries.Program(name, PEERS[name].package, home=SOURCE / "go")


def program(name: str) -> Path:
    """Return where the built program lies, or will lie."""
    return binaries.path_of(_program(name))


def build(name: str) -> None:
    """Build the program if it is missing, and keep its manifests. Raises LocalKubeError on failure."""
    binaries.build_programs([_program(name)])
    kept = _kept(name)
    if not kept.exists():
        temporary = kept.with_name(f".{kept.name}")
        temporary.write_text(json.dumps(list(_rendered(PEERS[name]))))
        temporary.rename(kept)


def manifests(name: str) -> list[Object]:
    """Return the definitions and webhook configurations of a built peer, as its authors release them."""
    objects: list[Object] = json.loads(_kept(name).read_text())
    return objects


def _kept(name: str) -> Path:
    return program(name).with_suffix(".manifests.json")


def _rendered(peer: Peer) -> Iterator[Object]:
    """Render the release's manifests out of the Go module, and yield those that a controller outside of pods needs."""
    kubectl = binaries.binary("kubectl")
    folder = run([binaries.go(), "list", "-m", "-f", "{{.Dir}}", peer.module], cwd=SOURCE / "go" / peer.name).strip()
    for part in peer.kustomize:
        rendered = run([kubectl, "kustomize", f"{folder}/{part}"])
        # What turns YAML into JSON without a server; the standard library of Python reads none.
        text = run([kubectl, "label", "--local", "-f", "-", "-o", "json", f"peer={peer.name}"], stdin=rendered)
        yield from (found for found in _objects(text) if found["kind"] in _WANTED)


def _objects(text: str) -> Iterator[Object]:
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        found, at = decoder.raw_decode(text, len(text) - len(text[at:].lstrip()))
        yield from found["items"] if found["kind"] == "List" else [found]
