"""An evaluation of fake models, as a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stages.engines.stages import FakeModel, Stage, additions, make_model, write_jsonl

MakeEvaluation = Callable[..., Stage]


@pytest.fixture
def student(tmp_path: Path) -> FakeModel:
    """A model that answers everything correctly."""
    return make_model(tmp_path / "student")


@pytest.fixture
def base(tmp_path: Path) -> FakeModel:
    """A model that answers everything wrongly."""
    return make_model(tmp_path / "base", answers="wrong")


@pytest.fixture
def evaluation(tmp_path: Path) -> Iterator[MakeEvaluation]:
    """evaluation(*models, questions=20 or rows, concurrency=4, benchmark={…}, engine={…}) -> Stage."""
    made: list[Stage] = []

    def make(
        *models: FakeModel,
        questions: int | list[dict[str, Any]] = 20,
        concurrency: int = 4,
        benchmark: dict[str, Any] | None = None,
        engine: dict[str, Any] | None = None,
        **block: Any,
    ) -> Stage:
        rows = additions(questions) if isinstance(questions, int) else questions
        path = write_jsonl(tmp_path / "test.jsonl", rows)
        block = {
            "models": [{"name": m.folder.name, "uri": m.uri} for m in models],
            "benchmarks": [{"name": "additions", "uri": path.as_uri(), "maxTokens": 64, **(benchmark or {})}],
            "engine": {"maxConcurrency": concurrency, **(engine or {})},
            **block,
        }
        made.append(Stage("evaluate", tmp_path, block))
        return made[-1]

    yield make
    for stage in made:
        if stage.process is not None and stage.process.poll() is None:
            stage.kill()
