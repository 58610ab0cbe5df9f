"""What this machine lends to a local image build: a base image, uv, mirrors, certificates. None of it stays there.

No registry of base images needs to be reachable: the base is made with debootstrap from the machine's own Debian
mirror, and takes the place of the official one that images/*/Dockerfile name (``--build-arg BASE=…``).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pysettings

REPOSITORY = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
BASE_PACKAGES = ("python3", "ca-certificates")
# Raised by hand when the recipe below changes what comes out.
BASE_RECIPE = 1

Progress = Callable[[str], None]


def cache_root() -> Path:
    """Where everything reusable across clones lies; made if need be."""
    root = Path(os.environ.get("DISTILLRUN_CACHE") or Path.home() / ".cache" / "distillrun") / "images"
    root.mkdir(parents=True, exist_ok=True)
    return root


def run(command: list[str], log: Path, **environment: str) -> None:
    """Run ``command`` with its output appended to ``log``.

    Raises:
        SystemExit: if it fails, with the end of its output.
    """
    with log.open("a") as sink:
        print(f"$ {shlex.join(command)}", file=sink, flush=True)
        start = sink.tell()
        ended = subprocess.run(
            command, cwd=REPOSITORY, env={**os.environ, **environment}, check=False,
            stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
        )  # fmt: skip
    if ended.returncode != 0:
        with log.open("rb") as written:
            written.seek(start)
            tail = written.read().decode(errors="replace").splitlines()[-25:]
        sys.exit("\n".join([*tail, f"{command[0]} ended with {ended.returncode}; the whole log is {log}"]))


def install_tools(log: Path, progress: Progress) -> None:
    """Install what builds images from Debian where it is missing.

    Raises:
        SystemExit: if they are missing and this is no Debian machine or the user is not root.
    """
    missing = [tool for tool in ("buildah", "skopeo", "debootstrap") if not shutil.which(tool)]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit(f"{' and '.join(missing)} are needed to build images and not installed: install them, or run as root")
    progress(f"apt-get install {' '.join(missing)}")
    waiting = ["-o", "DPkg::Lock::Timeout=600", "--quiet"]
    with (cache_root().parent / "apt.lock").open("w") as lock:
        # apt waits for dpkg's lock, but not for that of its lists, and hack/localkube installs beside this.
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(["apt-get", *waiting, "update"], log)
        run(["apt-get", *waiting, "install", "--yes", "--no-install-recommends", *missing], log,
            DEBIAN_FRONTEND="noninteractive")  # fmt: skip


def _apt_targets(template: str) -> list[str]:
    """One line for each package index of ``SUITE`` that the machine's apt knows, in apt's order."""
    if not shutil.which("apt-get"):
        return []
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) " + template, "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = (line.split(" ", 1) for line in asked.stdout.splitlines())
    # Debian's own suites only: other people's package sources have keys that the base does not hold.
    own = (SUITE, f"{SUITE}-updates", f"{SUITE}-security")
    return list(dict.fromkeys(rest for release, rest in lines if release in own))


def base_reference() -> str:
    """The name under which the base image is kept: it says what it was made of."""
    recipe = f"{BASE_RECIPE} {SUITE} {' '.join(BASE_PACKAGES)}"
    return f"localhost/distillrun/base:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def make_base_context(log: Path) -> Path:
    """Make a minimal Debian with debootstrap and return a build context that turns it into an image."""
    root, context = cache_root() / "base-root", cache_root() / "base-context"
    for folder in (root, context):
        shutil.rmtree(folder, ignore_errors=True)
    mirror = _apt_targets("$(SITE)")[:1]
    run(["debootstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}", SUITE, str(root), *mirror], log)
    # The machine's mirror is nobody else's: builds get it mounted (package_sources), the image keeps none.
    sources = root / "etc/apt/sources.list"
    (cache_root() / "debootstrap-sources.list").write_text(sources.read_text())
    sources.write_text("# Filled in at build time.\n")
    context.mkdir()
    leave_out = ("./var/cache/apt/archives/", "./var/lib/apt/lists/", "./var/log/", "./dev/")

    def kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if entry.name.startswith(leave_out) else entry

    with tarfile.open(context / "base.tar", "w") as archive:
        archive.add(root, arcname=".", filter=kept)
    shutil.rmtree(root)
    (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
    return context


def package_sources() -> Path:
    """A sources.list with the machine's Debian mirrors, to be mounted while building."""
    listing = cache_root() / "sources.list"
    lines = _apt_targets("deb $(SITE) $(RELEASE) $(COMPONENT)")
    fallback = cache_root() / "debootstrap-sources.list"
    listing.write_text("\n".join(lines) + "\n" if lines else fallback.read_text())
    return listing


def package_settings() -> list[str]:
    """buildah's arguments that hand pip's settings and the certificate bundle to RUN steps, as secrets."""
    settings = pysettings.uv_settings()
    arguments = []
    bundle = pysettings.ca_bundle()
    if bundle:
        settings["SSL_CERT_FILE"] = settings["PIP_CERT"] = "/run/secrets/ca-bundle"
        arguments += ["--secret", f"id=ca-bundle,src={bundle}"]
    if "UV_DEFAULT_INDEX" in settings:
        settings["PIP_INDEX_URL"] = settings["UV_DEFAULT_INDEX"]
    exports = cache_root() / "package-settings.sh"
    exports.touch(mode=0o600)
    exports.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()))
    return [*arguments, "--secret", f"id=packages,src={exports}"]


def share_uv_cache(temporary: Path) -> None:
    """Make the builds' uv cache the host's, so that a package is downloaded once for both.

    Args:
        temporary: the folder that buildah has as TMPDIR. What ``RUN --mount=type=cache,target=/root/.cache/uv`` mounts
            is buildah-cache/root/.cache/uv below it (buildah 1.28); a ``--volume`` of ours would lose to that mount.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"
    cache = Path(os.environ.get("UV_CACHE_DIR") or default).absolute()
    cache.mkdir(parents=True, exist_ok=True)
    mounted = temporary / "buildah-cache" / "root" / ".cache" / "uv"
    if mounted.is_symlink() and mounted.readlink() == cache:
        return
    if mounted.is_symlink():
        mounted.unlink()
    shutil.rmtree(mounted, ignore_errors=True)
    mounted.parent.mkdir(parents=True, exist_ok=True)
    mounted.symlink_to(cache, target_is_directory=True)


def uv_tools(log: Path) -> Path:
    """A folder that holds opt/uv, as the ``tools`` stage of the Dockerfiles would make it."""
    lock = REPOSITORY / "requirements" / "uv.txt"
    tools = cache_root() / f"tools-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not tools.exists():
        unfinished = tools.with_suffix(".partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(unfinished / "opt/uv")], log)
        pip = str(unfinished / "opt/uv/bin/pip")
        run([pip, "install", "--quiet", "--require-hashes", "-r", str(lock)], log)
        unfinished.rename(tools)
    return tools
