from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stages.train import worlds


@pytest.fixture(scope="session", autouse=True)
def no_stale_compiler_lock() -> None:
    """A test session that was killed while it compiled leaves a lock behind, for which torch waits for ever."""
    for lock in worlds.extensions_folder().glob("*/lock"):
        lock.unlink()


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worlds.save_student(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worlds.save_dataset(tmp_path_factory.mktemp("data") / "curated")


@pytest.fixture
def conversation(tmp_path: Path) -> Callable[..., Any]:
    """Makes a Conversation from a tokenizer (default: the one with merges) and a system prompt."""
    from distillstages.train import student as students

    def make(tokenizer: Any = None, system_prompt: str | None = None, **changes: Any) -> Any:
        folder = worlds.save_tokenizer(tmp_path / "tokenizer", tokenizer or worlds.merged_tokenizer(), **changes)
        return students.load_conversation(folder, "file:///student", system_prompt)

    return make
