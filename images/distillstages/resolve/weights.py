"""The headers of a model's safetensors files, read without the tensors: 8 bytes (the header's length, little endian),
then JSON {name: {"dtype", "shape", "data_offsets"}}. Source: the safetensors format, version 0.

They count the parameters and show a missing or truncated shard before a GPU has been asked for.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from distillstages.common import reasons
from distillstages.common.exit import DataFault
from distillstages.resolve.dimensions import Weights

INDEX: Final = "model.safetensors.index.json"
_MOST_HEADER_BYTES: Final = 100 << 20  # the format's own limit
_BLOCK_BYTES: Final = 64 << 10  # what a remote file system fetches at once; most headers are smaller
_DTYPES: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def shards(names: Sequence[str], index: Mapping[str, Any] | None) -> list[str]:
    """The weight files of a model folder: those the index names, else all *.safetensors. Raises DataFault when one that
    the index names is not among `names`."""
    if index is None:
        return sorted(name for name in names if name.endswith(".safetensors"))
    mapped = index.get("weight_map")
    if not isinstance(mapped, Mapping) or not mapped:
        raise DataFault(f"{INDEX} holds no weight_map, expected {{tensor: file}}", reason=reasons.STUDENT_NOT_FOUND)
    wanted = sorted({str(name) for name in mapped.values()})
    missing = [name for name in wanted if name not in names]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataFault(
            f"{INDEX} names {missing[0]}{more}, not there: {len(wanted) - len(missing)} of {len(wanted)} weight files "
            "were found",
            reason=reasons.STUDENT_NOT_FOUND,
        )
    return wanted


def header(filesystem: Any, path: str) -> dict[str, Any]:
    """The tensors of one file. Raises DataFault when it is truncated or no safetensors file, OSError."""
    name = path.rsplit("/", 1)[-1]
    size = int(filesystem.info(path)["size"])
    with filesystem.open(path, "rb", block_size=_BLOCK_BYTES) as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(_MOST_HEADER_BYTES, size - 8):
            raise DataFault(
                f"{name} ({size} bytes) is no safetensors file, or its beginning is damaged; copy it anew",
                reason=reasons.STUDENT_NOT_FOUND,
            )
        data = file.read(length)
    try:
        tensors = json.loads(data)
        tensors.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        expected = 8 + length + end
    except (ValueError, AttributeError, KeyError, TypeError, IndexError):
        raise DataFault(
            f"{name}: its header is not that of a safetensors file; copy it anew", reason=reasons.STUDENT_NOT_FOUND
        ) from None
    if size < expected:
        raise DataFault(
            f"{name} is truncated: {size} bytes, expected {expected}; copy it anew", reason=reasons.STUDENT_NOT_FOUND
        )
    assert isinstance(tensors, dict)
    return tensors


def count(headers: Sequence[Mapping[str, Any]], *, tied: bool) -> Weights | None:
    """What the headers of all files say together, tensors of whole numbers (masks, positions) left out; None where no
    parameter is left. With `tied` an output layer that was saved beside the embedding is counted once."""
    parameters, of_type, output = 0, Counter[str](), False
    for tensors in headers:
        for name, tensor in tensors.items():
            dtype, shape = tensor.get("dtype"), tensor.get("shape")
            if dtype not in _DTYPES or not isinstance(shape, list):
                continue
            output = output or name == "lm_head.weight"
            if name == "lm_head.weight" and tied:
                continue
            elements = math.prod(shape)
            parameters += elements
            of_type[_DTYPES[dtype]] += elements
    return Weights(parameters, of_type.most_common(1)[0][0], output) if parameters else None
