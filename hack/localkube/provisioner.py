"""A dynamic provisioner: each claim of its classes becomes a folder on the node, offered as a `local` volume.

Local volumes, unlike hostPath ones, get a pod's fsGroup. Any access mode is granted: there is one node. A class with
the parameter `medium: Memory` mounts a tmpfs of the requested size instead, so that a full disk can be tested;
otherwise the requested size is recorded and not enforced.
"""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from .client import ApiError, Client, Object
from .errors import LocalKubeError
from .host import unmount
from .mirror import Mirror
from .places import NODE_NAME
from .shell import run, say

NAME = "localkube.distillrun.dev/provisioner"
_BY = "pv.kubernetes.io/provisioned-by"
_SUFFIXES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "": 1}


def size(quantity: str) -> int:
    """Return a Kubernetes quantity (512Mi, 1.5G, 4096) in bytes. Raises LocalKubeError if it is none."""
    digits = quantity.rstrip("KMGTik")
    try:
        return int(float(digits) * _SUFFIXES[quantity.removeprefix(digits)])
    except (ValueError, KeyError) as error:
        raise LocalKubeError(f"{quantity!r} is no size that this provisioner understands") from error


def classes() -> list[Object]:
    """Return the storage classes: `local`, the default, and `memory`, whose size limit is real."""
    common: Object = {"provisioner": NAME, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}
    head: Object = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass"}
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return [
        {**head, "metadata": {"name": "local", "annotations": default}, **common},
        {**head, "metadata": {"name": "memory"}, "parameters": {"medium": "Memory"}, **common},
    ]


def volume(claim: Object, storage_class: Object, folder: Path) -> Object:
    """Return the PersistentVolume for `claim`, bound to it beforehand, at `folder`."""
    metadata, spec = claim["metadata"], claim["spec"]
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": folder.name, "annotations": {_BY: NAME}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": "Filesystem",
            "storageClassName": storage_class["metadata"]["name"],
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "claimRef": {**reference, **{field: metadata[field] for field in ("namespace", "name", "uid")}},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


class Provisioner:
    """Gives pending claims their volumes, and removes released volumes whose policy says Delete."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client, self._folder = client, folder
        self._dirty = threading.Event()
        self._claims = Mirror(client, "/api/v1/persistentvolumeclaims", self._dirty.set)
        self._volumes = Mirror(client, "/api/v1/persistentvolumes", self._dirty.set)
        self._classes = Mirror(client, "/apis/storage.k8s.io/v1/storageclasses", self._dirty.set)

    def run(self) -> None:
        """Follow the API and act, as long as the process lives."""
        for mirror in (self._claims, self._volumes, self._classes):
            mirror.start()
        while True:
            self._dirty.wait()
            self._dirty.clear()
            for act, items in ((self._provide, self._claims.all()), (self._remove, self._volumes.all())):
                for item in items:
                    self._try(act, item)

    def _try(self, act: Callable[[Object], None], item: Object) -> None:
        try:
            act(item)
        except (ApiError, OSError, LocalKubeError) as error:
            say(f"{item['metadata']['name']}: {error}")
            # Looked at again with the next change, or in a while.
            threading.Timer(5, self._dirty.set).start()

    def _provide(self, claim: Object) -> None:
        """Make the volume of a pending claim; the folder first, so that a volume never names a missing one."""
        metadata, spec = claim["metadata"], claim["spec"]
        storage_class = self._classes.get(("", spec.get("storageClassName") or ""))
        if storage_class is None or storage_class["provisioner"] != NAME:
            return
        if claim["status"].get("phase") != "Pending" or spec.get("volumeName") or metadata.get("deletionTimestamp"):
            return
        folder = self._folder / f"pvc-{metadata['uid']}"
        if self._volumes.get(("", folder.name)) is not None:
            return  # made already; Kubernetes is about to bind it
        if spec.get("volumeMode") == "Block" or spec.get("dataSource"):
            raise LocalKubeError(
                "asks for a block device or for the copy of another volume; this provisioner has neither"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if (storage_class.get("parameters") or {}).get("medium") == "Memory" and not folder.is_mount():
            limit = size(spec["resources"]["requests"]["storage"])
            run(["mount", "-t", "tmpfs", "-o", f"size={limit}", "localkube", folder])
        folder.chmod(0o777)  # whoever the pod runs as
        try:
            self._client.request("POST", "/api/v1/persistentvolumes", volume(claim, storage_class, folder))
        except ApiError as error:
            if error.status != 409:
                raise

    def _remove(self, item: Object) -> None:
        """Remove a released volume of ours with its folder."""
        spec, metadata = item["spec"], item["metadata"]
        released = item.get("status", {}).get("phase") == "Released"
        ours = (metadata.get("annotations") or {}).get(_BY) == NAME
        if not ours or not released or spec["persistentVolumeReclaimPolicy"] != "Delete":
            return
        folder = self._folder / metadata["name"]
        unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)
        if not metadata.get("deletionTimestamp"):
            try:
                self._client.request("DELETE", f"/api/v1/persistentvolumes/{metadata['name']}")
            except ApiError as error:
                if error.status != 404:
                    raise


def main(kubeconfig: Path, folder: Path) -> None:
    """Run the provisioner with the access that `kubeconfig` gives; volumes are folders below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    say("providing volumes")
    Provisioner(Client(kubeconfig), folder).run()
