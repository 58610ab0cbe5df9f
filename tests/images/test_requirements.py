"""The locks: hashes for everything, no trace of the machine that compiled them, and the agreements between them."""

from __future__ import annotations

import re
from pathlib import Path

import lock
import pytest

REQUIREMENTS = Path(lock.__file__).resolve().parents[2] / "requirements"
NAMES = [each.name for each in lock.LOCKS]


def pins(name: str) -> dict[str, str]:
    """Version by package of one lock."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (REQUIREMENTS / f"{name}.txt").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_every_locked_package_has_a_hash(name: str) -> None:
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 1)[1])
    without = [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]
    assert len(entries) == len(pins(name)) > 0
    assert without == []


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_names_no_index_and_no_path(name: str) -> None:
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(index|extra-index|find-links|trusted)", text, re.MULTILINE)
    assert not re.search(r"(^|\s)/", text), "an absolute path"


def test_every_in_file_is_locked_or_included_by_one_that_is() -> None:
    read = {source.name for each in lock.LOCKS for source in each.inputs()}
    assert {source.name for source in REQUIREMENTS.glob("*.in")} == {name for name in read if name.endswith(".in")}


def test_every_lock_was_compiled_from_the_requirements_as_they_are_now() -> None:
    assert lock.stale() == [], "run `make lock`"


@pytest.mark.parametrize("name", ["train", "vllm-cpu", "vllm-gpu", "dev"])
def test_whoever_starts_from_the_torch_layer_keeps_every_version_in_it(name: str) -> None:
    there = pins(name)
    differing = {package: (version, there.get(package)) for package, version in pins("torch").items()
                 if there.get(package) != version}  # fmt: skip
    assert differing == {}


@pytest.mark.parametrize("name", ["operator", "curate", "train"])
def test_development_uses_the_versions_of_the_images(name: str) -> None:
    development = pins("dev")
    assert {package: development.get(package) for package in pins(name)} == pins(name)


def test_what_trains_and_what_serves_agree_on_the_model_library_and_on_vllm() -> None:
    for package in ("torch", "transformers"):
        assert len({pins(name)[package] for name in ("train", "vllm-cpu", "vllm-gpu")}) == 1
    assert pins("vllm-cpu")["vllm-cpu"] == pins("vllm-gpu")["vllm"]


@pytest.mark.parametrize("name", ["operator", "curate"])
def test_images_without_models_have_no_torch(name: str) -> None:
    assert not {"torch", "vllm", "vllm-cpu", "deepspeed"} & set(pins(name))


def test_a_changed_in_file_makes_its_lock_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in REQUIREMENTS.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(lock, "REQUIREMENTS", tmp_path)
    (tmp_path / "stage.in").write_text("pydantic\n")
    assert lock.stale() == ["train", "curate", "dev", "vllm-cpu", "vllm-gpu"]
