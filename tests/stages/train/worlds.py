"""Small students, datasets and configurations for the train stage's tests."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import yaml

from distillstages.common.termination import Termination, decode
from distillstages.demo import additions, pupil

FINGERPRINT = "7e" * 32
IMAGES = Path(__file__).resolve().parents[3] / "images"

QWEN_LIKE = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are made for tests.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message['role'] != 'system' %}"
    "{%- set content = message['content'] %}"
    "{%- if message['role'] == 'assistant' and '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + content + '<|im_end|>\\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""As Qwen2.5's (a default system prompt) and Qwen3's (no thinking in turns of the past)."""

OPENS_THINKING = pupil.CHAT_TEMPLATE.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}")
"""As QwQ's and DeepSeek-R1's: the prompt ends inside the thinking."""


def merged_tokenizer() -> Any:
    """A tokenizer with merges and Qwen's way to split text, so that tokens reach over the borders of parts."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    split = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    text = ["So the sum is 12.\n\nThe answer is 12.\n", "First, we add.\n Then we carry.\n\n\n", "?\n!\n.\n\n"] * 50
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(text, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in pupil.SPECIAL])
    core.add_tokens([AddedToken(word, normalized=False, special=False) for word in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    tokenizer.chat_template = QWEN_LIKE
    return tokenizer


def save_tokenizer(folder: Path, tokenizer: Any, **changes: Any) -> Path:
    """Writes tokenizer and a config.json; `changes` are set on the tokenizer before."""
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    return folder


def save_student(folder: Path, *, layers: int = 1, width: int = 32) -> Path:
    """A complete tiny student."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = pupil.make_tokenizer()
    torch.manual_seed(7)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=288,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_dataset(folder: Path, rows: Sequence[Mapping[str, Any]] | None = None, *, count: int = 60) -> Path:
    """A curate stage's complete output folder, by default worked additions of unequal lengths."""
    if rows is None:
        rows = [_row(number, each) for number, each in enumerate(additions.question_sets(count, 0)[0])]
    (folder / "dataset").mkdir(parents=True)
    table = pyarrow.Table.from_pylist([dict(row) for row in rows])
    pyarrow.parquet.write_table(table, folder / "dataset" / "part-00000.parquet")
    result = {
        "apiVersion": "distillrun.dev/result/v1",
        "stage": "curate",
        "fingerprint": "a" * 64,
        "attempt": 1,
        "outputVersion": 1,
        "numbers": {},
        "outputs": {"dataset": "dataset/"},
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def _row(number: int, addition: additions.Addition) -> dict[str, Any]:
    worked = additions.work(addition)
    return {
        "id": f"row-{number:03d}",
        "source": "additions",
        "question": addition.question,
        "reference": addition.answer,
        "thinking": worked.thinking + "\nso it is" * (number % 3),
        "response": worked.response,
        "sample": 0,
    }


def configuration(root: Path, student: Path, dataset: Path, *, attempt: int = 1, **train: Any) -> Path:
    """Writes a stage.yaml for a small training on two ranks into `root`."""
    block: dict[str, Any] = {
        "student": {"uri": student.as_uri()},
        "dataset": dataset.as_uri() + "/",
        "distributed": {"nodes": 1, "processesPerNode": 2, "masterPort": 29600 + os.getpid() % 300},
        "maxSteps": 6,
        "learningRate": 0.01,
        "warmupRatio": 0.1,
        "globalBatchSize": 8,
        "microBatchSize": 2,
        "maxSequenceLength": 128,
        "precision": "FP32",
        "gradientCheckpointing": False,
        "checkpoint": {"everySteps": 5, "keep": 2},
        **train,
    }
    document = {
        "apiVersion": "distillrun.dev/stage/v1",
        "stage": "train",
        "run": {"namespace": "tests", "name": "small"},
        "fingerprint": FINGERPRINT,
        "attempt": attempt,
        "output": (root / "output").as_uri() + "/",
        "train": block,
    }
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"stage-{attempt}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def extensions_folder() -> Path:
    """Where DeepSpeed's CPU Adam is compiled on first use: once a checkout, not once a test run.

    A checkout's own, since the compiler's command names its environment's headers: two checkouts that shared the
    folder would each compile it anew whenever the other had.
    """
    cache = Path(os.environ.get("DISTILLRUN_CACHE", "~/.cache/distillrun")).expanduser()
    return cache / "torch-extensions" / hashlib.sha256(sys.prefix.encode()).hexdigest()[:8]


class Pod:
    """One `python -m distillstages.train`, as a pod runs it, with its own /tmp and termination log."""

    def __init__(self, root: Path, config: Path, *, index: int = 0) -> None:
        self.folder = root / f"pod-{index}-{config.stem}"
        (self.folder / "tmp").mkdir(parents=True)
        self.log = self.folder / "log"
        environment = {
            **os.environ,
            "PYTHONPATH": str(IMAGES),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "JOB_COMPLETION_INDEX": str(index),
            "POD_NAME": f"pod-{index}",
            "DISTILLRUN_TERMINATION_LOG": str(self.folder / "termination"),
            "DISTILLRUN_METRICS_PORT": "0",
            "TMPDIR": str(self.folder / "tmp"),
            "OMP_NUM_THREADS": "1",
            "TORCH_EXTENSIONS_DIR": str(extensions_folder()),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "distillstages.train", "--config", str(config)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    def end(self, seconds: float = 600) -> int:
        """Waits for the exit code."""
        return self.process.wait(timeout=seconds)

    def rank_pid(self, rank: int) -> int | None:
        """The process id of a rank that has started."""
        for path in (self.folder / "tmp").glob(f"distillrun-*/pid-{rank}"):
            return int(path.read_text())
        return None

    @property
    def termination(self) -> Termination:
        """What it left in the termination log."""
        return decode((self.folder / "termination").read_bytes())

    def words(self) -> str:
        """Its log, for assertion messages."""
        return self.log.read_text(errors="replace")[-6000:]
