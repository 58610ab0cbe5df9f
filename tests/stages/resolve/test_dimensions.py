"""Dimensions out of config.json: as transformers reads it, and silent about what is not known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillstages.resolve.dimensions import Weights, dimensions

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2", "Qwen3"])
def test_parameters_without_weights_are_those_that_transformers_makes(tmp_path: Path, family: str, tied: bool) -> None:
    import torch
    import transformers

    config = getattr(transformers, f"{family}Config")(**SMALL, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = getattr(transformers, f"{family}ForCausalLM")(config)
    config.save_pretrained(tmp_path)
    found = dimensions(json.loads((tmp_path / "config.json").read_text()), None)
    assert found["parameters"] == model.num_parameters()
    assert found["tiedEmbeddings"] is tied
    assert found["headDim"] == config.head_dim if getattr(config, "head_dim", None) else found["headDim"] == 8


def test_other_names_and_nested_configurations_are_understood() -> None:
    gpt = dimensions({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}, None)
    assert (gpt["hiddenSize"], gpt["layers"], gpt["heads"], gpt["kvHeads"], gpt["headDim"]) == (768, 12, 12, 12, 64)
    assert (gpt["maxPositions"], gpt["tiedEmbeddings"]) == (1024, True)
    assert "parameters" not in gpt
    vision = dimensions({"model_type": "gemma3", "text_config": {**SMALL, "model_type": "gemma3_text"}}, None)
    assert (vision["modelType"], vision["hiddenSize"]) == ("gemma3_text", 32)


def test_an_unknown_architecture_leaves_out_what_is_not_known() -> None:
    assert dimensions({"model_type": "brand_new", "vocab_size": 7}, None) == {"modelType": "brand_new", "vocabSize": 7}
    weights = Weights(123, "bfloat16", has_output_layer=True)
    assert dimensions({}, weights) == {"tiedEmbeddings": False, "parameters": 123, "dtype": "bfloat16"}


values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from([*SMALL, "model_type", "text_config", "dtype", "tie_word_embeddings", "head_dim", "n_head"])


@given(st.dictionaries(names, values))
def test_no_configuration_however_odd_is_an_error(config: dict[str, Any]) -> None:
    json.dumps(dimensions(config, None), allow_nan=False)
