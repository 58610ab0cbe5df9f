"""The Dockerfiles: who runs what, what is copied where, and what may not be in them."""

from __future__ import annotations

import re
from pathlib import Path

import build
import pytest

ROOT = build.REPOSITORY
NAMES = [image.name for image in build.IMAGES]


def instructions(name: str) -> list[str]:
    """The instructions of one Dockerfile, comments dropped and continued lines joined."""
    lines = (ROOT / "images" / name / "Dockerfile").read_text().splitlines()
    joined = "\n".join(line for line in lines if not line.lstrip().startswith("#")).replace("\\\n", " ")
    return [re.sub(r"\s+", " ", line).strip() for line in joined.splitlines() if line.strip()]


def last_stage(name: str) -> list[str]:
    steps = instructions(name)
    return steps[max(number for number, step in enumerate(steps) if step.startswith("FROM ")) :]


def test_there_is_one_dockerfile_for_each_image_that_is_built() -> None:
    assert {path.parent.name for path in (ROOT / "images").glob("*/Dockerfile")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_ends_with_a_numbered_user_that_is_not_root(name: str) -> None:
    users = [step for step in last_stage(name) if step.startswith("USER ")]
    assert users[-1:] == ["USER 65532:65532"]
    assert any("useradd --uid 65532" in step for step in instructions(name)), "the user is in passwd"


@pytest.mark.parametrize("name", NAMES)
def test_our_own_code_comes_after_every_package(name: str) -> None:
    steps = last_stage(name)
    ours = next(number for number, step in enumerate(steps) if re.search(r"^COPY \S+ /opt/distillrun/", step))
    assert not [step for step in steps[ours:] if "pip install" in step or "apt-get" in step]


@pytest.mark.parametrize("name", NAMES)
def test_only_what_a_lock_names_is_installed_and_with_its_hash(name: str) -> None:
    installs = [step for step in instructions(name) if "pip install" in step]
    assert installs
    for step in installs:
        assert "--require-hashes -r /opt/requirements/" in step
        if "uv pip" in step:
            assert "--no-deps" in step
            assert "--compile-bytecode" in step, "a read-only root cannot do it later"


@pytest.mark.parametrize("name", NAMES)
def test_a_dockerfile_names_no_index_and_keeps_no_setting_of_the_builder(name: str) -> None:
    text = (ROOT / "images" / name / "Dockerfile").read_text()
    assert "://" not in text
    kept = [step for step in instructions(name) if re.match(r"(ENV|ARG|COPY) ", step)]
    assert not [step for step in kept if re.search(r"INDEX|SSL_CERT|PIP_|_PROXY|ca-bundle", step, re.IGNORECASE)]


def test_the_operators_code_and_the_stages_code_never_share_an_image() -> None:
    for name in NAMES:
        ours = {step.split()[1] for step in last_stage(name) if step.startswith("COPY ") and "/opt/distillrun/" in step}
        assert ours == {"operator/distillrun" if name == "operator" else "images/distillstages"}


def test_the_images_with_torch_start_with_the_same_steps_so_that_they_share_the_layer() -> None:
    def up_to_torch(name: str) -> list[str]:
        steps = instructions(name)
        start = [number for number, step in enumerate(steps) if step.startswith("FROM ")][1]
        end = next(number for number, step in enumerate(steps) if step.endswith("-r /opt/requirements/torch.txt"))
        return steps[start + 1 : end + 1]

    assert up_to_torch("train") == up_to_torch("evaluate") == up_to_torch("serve")


def test_evaluate_and_serve_are_built_from_the_same_packages() -> None:
    assert instructions("evaluate") == instructions("serve")


@pytest.mark.parametrize("image", build.IMAGES, ids=NAMES)
def test_an_images_tag_covers_every_file_that_its_dockerfile_copies(image: build.Image) -> None:
    for step in instructions(image.name):
        if not step.startswith("COPY ") or "--from=" in step:
            continue
        source = step.split()[1].replace("${ACCELERATOR}", dict(image.arguments).get("ACCELERATOR", ""))
        locks = {f"requirements/{name}.txt" for name in ("uv", *image.locks)}
        assert source in locks | set(image.sources)


def test_a_tag_changes_with_the_code_and_with_nothing_that_python_leaves_behind(tmp_path: Path) -> None:
    for path in ("images/curate/Dockerfile", ".dockerignore", "requirements/uv.txt", "requirements/curate.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    code = tmp_path / "images" / "distillstages"
    (code / "__pycache__").mkdir(parents=True)
    (code / "module.py").write_text("x = 1\n")
    image = next(image for image in build.IMAGES if image.name == "curate")
    first = image.reference(tmp_path)
    (code / "__pycache__" / "module.cpython-311.pyc").write_bytes(b"anything")
    assert image.reference(tmp_path) == first
    (code / "module.py").write_text("x = 2\n")
    assert image.reference(tmp_path) != first


def test_an_edit_during_a_build_reaches_neither_the_image_nor_its_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, context = tmp_path / "repository", tmp_path / "context"
    for path in ("images/curate/Dockerfile", ".dockerignore", "requirements/uv.txt", "requirements/curate.txt"):
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_bytes((ROOT / path).read_bytes())
    (repository / "images" / "distillstages").mkdir()
    module = repository / "images" / "distillstages" / "module.py"
    module.write_text("x = 1\n")
    monkeypatch.setattr(build, "REPOSITORY", repository)
    image = next(image for image in build.IMAGES if image.name == "curate")
    build.snapshot([image], context)
    module.write_text("x = 2\n")
    assert (context / "images" / "distillstages" / "module.py").read_text() == "x = 1\n"
    assert image.reference(context) != image.reference(repository)
