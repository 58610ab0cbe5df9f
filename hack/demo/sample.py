"""The sample's files, made ready for a cluster: our image references, a random key for the teacher."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[2] / "manifests" / "samples"
NAMESPACE, RUN = "distillrun-demo", "additions"
PLACEHOLDER_KEY = "any-text-since-both-sides-read-it-here"
_IMAGE = re.compile(r"(?m)^(\s+image: )distillrun/(\w+):\S+$")


def world(images: dict[str, str]) -> str:
    """demo-world.yaml with these images and a key of its own. Raises KeyError for an image that there is none of."""
    text = (SAMPLES / "demo-world.yaml").read_text(encoding="utf-8")
    if PLACEHOLDER_KEY not in text:
        raise ValueError("demo-world.yaml has lost the placeholder of the teacher's key")
    text = text.replace(PLACEHOLDER_KEY, secrets.token_hex(16))
    return _IMAGE.sub(lambda match: match[1] + images[match[2]], text)


def run() -> str:
    """demo.yaml."""
    return (SAMPLES / "demo.yaml").read_text(encoding="utf-8")
