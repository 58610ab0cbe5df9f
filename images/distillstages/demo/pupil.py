"""Makes the demo's pupil and questions: ``python -m distillstages.demo.pupil --output FOLDER``.

Writes under FOLDER (made if missing)

- ``pupil/``: an untrained Qwen2 of about 0.8 million parameters with a byte-level tokenizer and a ChatML template,
  in the layout that transformers and vLLM load,
- ``train.jsonl`` and ``test.jsonl``: ``{"question": "347+589=?", "answer": "936"}`` a line, no question in both,
- ``pools/``: what the small recipes read (pools.py).

The same seed makes the same bytes. What exists already is left alone when it is the same pupil (``pupil.json`` is
written last and says what the folder holds), so the seed Job may run again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillstages.demo import pools
from distillstages.demo.additions import Addition, question_sets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LAYERS, WIDTH, HEADS = 4, 128, 4
POSITIONS = 512
SPREAD = WIDTH**-0.5
"""Standard deviation of the first weights. Qwen's 0.02 is made for widths of thousands: at this width it starts so near
zero that learning takes twice the steps (measured: loss 0.37 after 150 steps, with this 0.02)."""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Padding, start of turn, end of turn: three different tokens, as Qwen has them."""

WORDS = (
    *("system", "user", "assistant", "<think>", "</think>", "\\boxed{"),
    *("<|begin_of_thought|>", "<|end_of_thought|>", "<|begin_of_solution|>", "<|end_of_solution|>"),
)
"""Words that are one token, so that the frames of a turn and of Sky-T1's parts cost a few tokens and not eighty; the
rest is one token a byte. None of them is special: they are plain text that happens to be one token."""

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each byte, so that any text can be asked, and for the words above."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    core.add_tokens([AddedToken(word, normalized=False, special=False) for word in WORDS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Any:
    """An untrained Qwen2ForCausalLM whose float32 weights follow from the seed alone."""
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 32) * 32,  # rounded up: vLLM splits the embedding in blocks
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=POSITIONS,
        initializer_range=SPREAD,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(config).to(torch.float32)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return model


def write_pupil(folder: Path, seed: int) -> int:
    """Writes model and tokenizer into the folder and returns the number of parameters."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o664)  # safetensors writes 0600
    return int(sum(parameter.numel() for parameter in model.parameters()))


def write_questions(path: Path, additions: list[Addition]) -> None:
    """Writes one JSON object a line with question and answer; atomic, so that a reader never sees half of it."""
    partial = path.with_name(path.name + ".partial")
    rows = (json.dumps({"question": each.question, "answer": each.answer}) for each in additions)
    partial.write_text("\n".join(rows) + "\n", encoding="utf-8")
    partial.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Command line of this module; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m distillstages.demo.pupil", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    parser.add_argument("--train", type=int, default=4000, help="training questions (default: %(default)s)")
    parser.add_argument("--test", type=int, default=200, help="unseen test questions (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="default: %(default)s")
    options = parser.parse_args(arguments)
    made: dict[str, Any] = {
        "train": options.train,
        "test": options.test,
        "seed": options.seed,
        "layers": LAYERS,
        "width": WIDTH,
    }
    made |= {"spread": round(SPREAD, 4), "words": list(WORDS), "pools": pools.VERSION}
    marker = options.output / "pupil.json"
    if marker.exists() and json.loads(marker.read_text(encoding="utf-8")) == made:
        print(f"{options.output} holds this pupil and these questions already")
        return 0
    os.umask(0o002)  # the stages that read the folder share a group with this process, not always a user
    options.output.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    try:
        train, test = question_sets(options.train, options.test, options.seed)
    except ValueError as error:
        parser.error(str(error))
    write_questions(options.output / "train.jsonl", train)
    write_questions(options.output / "test.jsonl", test)
    pools.write_pools(options.output / "pools", options.seed)
    partial = options.output / "pupil.partial"
    shutil.rmtree(partial, ignore_errors=True)
    parameters = write_pupil(partial, options.seed)
    shutil.rmtree(options.output / "pupil", ignore_errors=True)
    partial.rename(options.output / "pupil")
    marker.write_text(json.dumps(made), encoding="utf-8")
    print(f"{options.output}: a pupil of {parameters:,} parameters, {len(train)} train and {len(test)} test questions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
