"""The numbers of a model's config.json that decide what it needs. Pure. What is not known is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# One number under the names that transformers' configurations give it; the first one found counts.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "hiddenSize": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "kvHeads": ("num_key_value_heads", "multi_query_group_num"),
    "headDim": ("head_dim",),
    "intermediateSize": ("intermediate_size", "n_inner", "ffn_dim"),
    "vocabSize": ("vocab_size",),
    "maxPositions": ("max_position_embeddings", "n_positions", "max_seq_len"),
}
# What each of these families' configurations says when config.json says nothing (transformers 5.19).
_TIED_BY_DEFAULT: Final = {
    **dict.fromkeys(("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi3"), False),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text", "gpt2"), True),
}
_COUNTED: Final = ("llama", "mistral", "qwen2", "qwen3")
_MOST: Final = 1 << 53


@dataclass(frozen=True)
class Weights:
    """What the safetensors headers say. `parameters`: elements of all tensors, a tied output layer counted once.
    `has_output_layer`: whether lm_head.weight is there."""

    parameters: int
    dtype: str
    has_output_layer: bool


def dimensions(config: Mapping[str, Any], weights: Weights | None) -> dict[str, Any]:
    """The entries of `resolved.student.dimensions` that are known. `config` is config.json, whatever is in it."""
    text = config.get("text_config")
    inner = {**config, **text} if isinstance(text, Mapping) and "hidden_size" not in config else config
    found: dict[str, Any] = {}
    model_type = inner.get("model_type")
    if isinstance(model_type, str) and model_type:
        found["modelType"] = model_type[:64]
    for key, names in _NAMES.items():
        value = next((inner[n] for n in names if inner.get(n) is not None), None)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST:
            found[key] = value
    if "heads" in found:
        found.setdefault("kvHeads", found["heads"])
        if "hiddenSize" in found and found["hiddenSize"] % found["heads"] == 0:
            found.setdefault("headDim", found["hiddenSize"] // found["heads"])
    tied = _tied(inner, found.get("modelType", ""), weights)
    if tied is not None:
        found["tiedEmbeddings"] = tied
    parameters = weights.parameters if weights else _computed(inner, found)
    if parameters:
        found["parameters"] = parameters
    dtype = inner.get("dtype") or inner.get("torch_dtype") or (weights.dtype if weights else None)
    if isinstance(dtype, str) and dtype:
        found["dtype"] = dtype.removeprefix("torch.")[:32]
    return found


def _tied(config: Mapping[str, Any], model_type: str, weights: Weights | None) -> bool | None:
    said = config.get("tie_word_embeddings")
    if isinstance(said, bool):
        return said
    if weights is not None:
        return not weights.has_output_layer
    return _TIED_BY_DEFAULT.get(model_type)


def _computed(config: Mapping[str, Any], found: Mapping[str, Any]) -> int | None:
    """Parameters of the dense decoders whose shapes are known by their family: attention, gated MLP, two norms a layer,
    embeddings, a last norm. None for the others, and where a number is missing."""
    family = found.get("modelType")
    names = ("hiddenSize", "layers", "heads", "kvHeads", "headDim", "intermediateSize", "vocabSize", "tiedEmbeddings")
    if family not in _COUNTED or any(name not in found for name in names):
        return None
    hidden, layers, heads, kv_heads, head, middle, vocabulary, tied = (found[name] for name in names)
    queries, keys = heads * head, kv_heads * head
    layer = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * middle + 2 * hidden
    if family == "qwen2" or config.get("attention_bias"):
        layer += queries + 2 * keys + (0 if family == "qwen2" else hidden)
    if family == "qwen3":
        layer += 2 * head
    total: int = vocabulary * hidden * (1 if tied else 2) + layers * layer + hidden
    return total
