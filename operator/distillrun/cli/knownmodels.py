"""Dimensions of well-known students, for estimates without a cluster and without a download.

Copied by hand from the models' public config.json; a run in a cluster reads the real file.
"""

from __future__ import annotations

from typing import Any

_QWEN25 = {
    "0.5B": (896, 24, 14, 2, 64, 4864, 151936, True),
    "1.5B": (1536, 28, 12, 2, 128, 8960, 151936, True),
    "3B": (2048, 36, 16, 2, 128, 11008, 151936, True),
    "7B": (3584, 28, 28, 4, 128, 18944, 152064, False),
    "14B": (5120, 48, 40, 8, 128, 13824, 152064, False),
    "32B": (5120, 64, 40, 8, 128, 27648, 152064, False),
    "72B": (8192, 80, 64, 8, 128, 29568, 152064, False),
}
_QWEN3 = {
    "0.6B": (1024, 28, 16, 8, 128, 3072, 151936, True),
    "1.7B": (2048, 28, 16, 8, 128, 6144, 151936, True),
    "4B": (2560, 36, 32, 8, 128, 9728, 151936, True),
    "8B": (4096, 36, 32, 8, 128, 12288, 151936, False),
    "14B": (5120, 40, 40, 8, 128, 17408, 151936, False),
    "32B": (5120, 64, 64, 8, 128, 25600, 151936, False),
}
_OTHERS = {
    "meta-llama/llama-3.1-8b": ("llama", (4096, 32, 32, 8, 128, 14336, 128256, False)),
    "meta-llama/llama-3.1-70b": ("llama", (8192, 80, 64, 8, 128, 28672, 128256, False)),
    "meta-llama/llama-3.3-70b": ("llama", (8192, 80, 64, 8, 128, 28672, 128256, False)),
    "meta-llama/llama-3.2-1b": ("llama", (2048, 16, 32, 8, 64, 8192, 128256, True)),
    "meta-llama/llama-3.2-3b": ("llama", (3072, 28, 24, 8, 128, 8192, 128256, True)),
    "mistralai/mistral-7b-v0.3": ("mistral", (4096, 32, 32, 8, 128, 14336, 32768, False)),
}
_SHAPES = {
    **{f"qwen/qwen2.5-{size.lower()}": ("qwen2", shape) for size, shape in _QWEN25.items()},
    **{f"qwen/qwen3-{size.lower()}": ("qwen3", shape) for size, shape in _QWEN3.items()},
    **_OTHERS,
}
NAMES = tuple(_SHAPES)
"""What `config` knows, in lower case; with -Instruct or -Base after it, too."""


def config(name: str) -> dict[str, Any] | None:
    """The part of config.json that dimensions follow from, for owner/name on the hub; None for an unknown one."""
    found = _SHAPES.get(name.lower().removesuffix("-instruct").removesuffix("-base"))
    if found is None:
        return None
    model_type, (hidden, layers, heads, kv_heads, head_dim, intermediate, vocabulary, tied) = found
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }
