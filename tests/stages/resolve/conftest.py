"""A resolve as a user starts it, in a process of its own, and the inputs it looks at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillstages.demo import pupil

REPOSITORY = Path(__file__).parents[3]


@dataclass
class Finished:
    """How the stage ended."""

    code: int
    message: dict[str, Any]
    log: str

    @property
    def resolved(self) -> dict[str, Any]:
        """The answer."""
        found: dict[str, Any] = self.message["numbers"]["resolved"]
        return found


def run_stage(
    folder: Path, block: Mapping[str, Any], environment: Mapping[str, str] | None = None, *, mirror: str | None = None
) -> Finished:
    """`python -m distillstages.resolve --config …` to its end."""
    config = {
        "apiVersion": "distillrun.dev/stage/v1",
        "stage": "resolve",
        "run": {"namespace": "team", "name": "test", "uid": "3f"},
        "fingerprint": "5e" * 32,
        "output": (folder / "artifacts/team/resolve" / ("5e" * 32)).as_uri(),
        "mirror": mirror,
        "resolve": dict(block),
    }
    (folder / "stage.yaml").write_text(yaml.safe_dump(config))
    ended = subprocess.run(
        [sys.executable, "-m", "distillstages.resolve", "--config", str(folder / "stage.yaml")],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY / "images"),
            "DISTILLRUN_METRICS_PORT": "0",
            "DISTILLRUN_TERMINATION_LOG": str(folder / "termination"),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Finished(ended.returncode, json.loads((folder / "termination").read_text()), ended.stdout + ended.stderr)


def save_weights(path: Path, tensors: Mapping[str, tuple[int, ...]], dtype: str = "BF16") -> Path:
    """A safetensors file of zeros, made by hand."""
    sizes = {"BF16": 2, "F32": 4}
    header, data = {}, 0
    for name, shape in tensors.items():
        size = sizes[dtype]
        for number in shape:
            size *= number
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [data, data + size]}
        data += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))
    return path


CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 32,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


@pytest.fixture(scope="session")
def tokenizer_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo pupil's tokenizer, saved once."""
    folder = tmp_path_factory.mktemp("tokenizer")
    pupil.make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def student(tmp_path: Path, tokenizer_files: Path) -> Path:
    """A model folder with everything that resolve looks at; its weights are zeros."""
    folder = tmp_path / "student"
    folder.mkdir()
    for path in tokenizer_files.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_weights(folder / "model.safetensors", {"model.embed_tokens.weight": (32, 8), "model.norm.weight": (8,)})
    return folder


def questions(path: Path, count: int = 5, **changes: Any) -> Path:
    """A JSON Lines file of additions; `changes` replace fields of the last row."""
    rows = [{"question": f"{n}+1=?", "answer": str(n + 1)} for n in range(count)]
    rows[-1].update(changes)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
