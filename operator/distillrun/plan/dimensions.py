"""The student's dimensions: what memory and time are computed from.

They come from `status.resolved` (written by the resolve stage from config.json) and are untrusted: `read` answers with
a sentence where one is missing or absurd. `of_config` makes them from a config.json for the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LARGEST = 1 << 24
"""No width, vocabulary or number of layers of a model is larger; a larger one would be a broken file."""

_GATED = frozenset({"qwen2", "qwen3", "llama", "mistral", "olmo2", "granite", "phi3"})
"""Architectures whose layer is attention, a gated MLP and two norms: the layer that memory.py counts."""

_QK_NORM = frozenset({"qwen3", "olmo2"})
"""Architectures that also normalise queries and keys."""

_FIELDS = {
    "hiddenSize": "hidden",
    "layers": "layers",
    "heads": "heads",
    "kvHeads": "kv_heads",
    "headDim": "head_dim",
    "intermediateSize": "intermediate",
    "vocabSize": "vocabulary",
}
"""Keys of status.resolved and our names for them."""


@dataclass(frozen=True)
class Dimensions:
    """A dense decoder: `layers` blocks of attention and a gated MLP between an embedding and a head."""

    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    parameters: int

    @property
    def queries(self) -> int:
        """Width of all heads' queries together."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all heads' keys together (as many values)."""
        return self.kv_heads * self.head_dim

    @property
    def head(self) -> int:
        """Parameters of the output projection, the largest single matrix of most models."""
        return self.vocabulary * self.hidden

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normalised."""
        return self.model_type in _QK_NORM

    @property
    def layer_matrices(self) -> tuple[int, ...]:
        """Parameters of each matrix of a layer: q, k, v, o, gate, up, down."""
        attention = (self.hidden * self.queries, self.hidden * self.keys, self.hidden * self.keys)
        return (*attention, self.queries * self.hidden, *(self.hidden * self.intermediate,) * 3)


@dataclass(frozen=True)
class Missing:
    """Why dimensions cannot be had, as the end of a sentence."""

    why: str


def read(resolved: object) -> Dimensions | Missing:
    """The dimensions in `status.resolved`; it is untrusted, so nothing is raised."""
    if not isinstance(resolved, Mapping):
        return Missing("the student's config.json has not been read yet")
    student = resolved.get("student")
    found = student.get("dimensions") if isinstance(student, Mapping) else None
    if not isinstance(found, Mapping) or not found.get("modelType"):
        return Missing("the resolve stage could not read the student's dimensions from its config.json")
    return _read(found)


def heads(resolved: object) -> int | None:
    """Attention heads in `status.resolved`, of any architecture; None where they are not known."""
    student = resolved.get("student") if isinstance(resolved, Mapping) else None
    found = student.get("dimensions") if isinstance(student, Mapping) else None
    value = found.get("heads") if isinstance(found, Mapping) else None
    return value if isinstance(value, int) and _whole(value, _LARGEST) else None


def _read(found: Mapping[str, Any]) -> Dimensions | Missing:
    model_type = found.get("modelType")
    if not isinstance(model_type, str) or model_type not in _GATED:
        known = ", ".join(sorted(_GATED))
        return Missing(f"the memory of architecture {str(model_type)[:40]!r} is not modelled (modelled: {known})")
    values: dict[str, int] = {}
    for name, field in _FIELDS.items():
        value = found.get(name)
        if not _whole(value, _LARGEST):
            return Missing(f"the student's {name} is {str(value)[:40]!r}, expected a whole number from 1 to {_LARGEST}")
        assert isinstance(value, int)
        values[field] = value
    parameters = found.get("parameters")
    if not _whole(parameters, 10**14):
        return Missing(f"the student's number of parameters is {str(parameters)[:40]!r}, expected a whole number")
    assert isinstance(parameters, int)
    return Dimensions(
        model_type=model_type,
        tied=found.get("tiedEmbeddings") is True,
        parameters=parameters,
        **values,
    )


def _whole(value: object, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


def of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """`status.resolved`'s student.dimensions from a config.json of Hugging Face's transformers.

    Raises ValueError naming the key that is missing or wrong.
    """

    def number(key: str, default: int | None = None) -> int:
        value = config.get(key, default)
        if value is None and default is not None:
            value = default
        if not _whole(value, _LARGEST):
            raise ValueError(f"{key} is {value!r}, expected a whole number from 1 to {_LARGEST}")
        assert isinstance(value, int)
        return value

    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise ValueError(f"model_type is {model_type!r}, expected a name such as qwen2")
    hidden, heads = number("hidden_size"), number("num_attention_heads")
    dimensions = {
        "modelType": model_type,
        "hiddenSize": hidden,
        "layers": number("num_hidden_layers"),
        "heads": heads,
        "kvHeads": number("num_key_value_heads", heads),
        "headDim": number("head_dim", max(hidden // heads, 1)),
        "intermediateSize": number("intermediate_size"),
        "vocabSize": number("vocab_size"),
        "tiedEmbeddings": config.get("tie_word_embeddings") is True,
        "maxPositions": config.get("max_position_embeddings"),
        "dtype": str(config.get("dtype") or config.get("torch_dtype") or ""),
    }
    return {**dimensions, "parameters": count(dimensions, biases=model_type == "qwen2")}


def count(dimensions: Mapping[str, Any], *, biases: bool) -> int:
    """Parameters of a dense decoder with these dimensions; `biases` on the query, key and value projections."""
    hidden, head_dim = dimensions["hiddenSize"], dimensions["headDim"]
    queries, keys = dimensions["heads"] * head_dim, dimensions["kvHeads"] * head_dim
    layer = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * dimensions["intermediateSize"] + 2 * hidden
    if biases:
        layer += queries + 2 * keys
    if dimensions["modelType"] in _QK_NORM:
        layer += 2 * head_dim if dimensions["modelType"] == "qwen3" else queries + keys
    embeddings = dimensions["vocabSize"] * hidden * (1 if dimensions["tiedEmbeddings"] else 2)
    return int(embeddings + dimensions["layers"] * layer + hidden)
