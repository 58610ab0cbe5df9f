"""Whatever the number of inputs, the answer fits the termination message, and nothing of it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distillstages.common.termination import MAX_BYTES, Termination
from distillstages.resolve import message

ARTIFACT = f"file:///mnt/distillrun/{'n' * 63}/resolve/{'5e' * 32}/"
STUDENT = {
    "revision": "a" * 40,
    "dimensions": {
        **dict.fromkeys(
            ("hiddenSize", "layers", "heads", "kvHeads", "headDim", "intermediateSize", "vocabSize", "maxPositions"),
            1_000_000,
        ),
        "modelType": "m" * 20,
        "tiedEmbeddings": False,
        "parameters": 671_000_000_000,
        "dtype": "bfloat16",
    },
}


def entries(count: int, name: int, rows: int | None) -> list[dict[str, Any]]:
    return [{"name": f"{n:02d}" + "x" * (name - 2), "revision": f"{n:040x}", "rows": rows} for n in range(count)]


@pytest.mark.parametrize(
    ("count", "name", "rows", "form", "others"),
    [
        (1, 10, 60_000, dict, dict),
        (12, 20, 60_000, dict, dict),
        (32, 63, 60_000, list, str),
        (32, 253, None, list, str),
        (32, 253, 9_007_199_254_740_991, str, str),
    ],
)
def test_every_revision_is_in_the_message_in_the_order_of_the_configuration(
    count: int, name: int, rows: int | None, form: type, others: type
) -> None:
    given = entries(count, name, rows)
    parts = {"sources": given, "benchmarks": given, "against": given[:8]}
    numbers = message.numbers(STUDENT, parts, ARTIFACT)

    said = Termination.succeeded(ARTIFACT, numbers).encode()

    assert len(said) <= MAX_BYTES
    found = json.loads(said)["numbers"]["resolved"]
    assert found["student"] == STUDENT
    for part, wanted in parts.items():
        form = form if part == "sources" else others
        assert {type(each) for each in found[part]} == {form}
        revisions = [each if form is str else each[0] if form is list else each["revision"] for each in found[part]]
        assert revisions == [each["revision"] for each in wanted]
