"""Whether anybody has chosen the revision of an input, or the newest of the day was taken."""

from __future__ import annotations

import re

from distillrun.api.funnel import Against
from distillrun.api.stages import Benchmark
from distillrun.api.status import Resolved

_COMMIT = re.compile(r"[0-9a-f]{40}")
_IN_URI = re.compile(r"hf://(?:datasets/|models/)?[^/@]+/[^/@]+@([^/?]+)")


def unchecked(uri: str, revision: str | None) -> bool:
    """Whether a hub's repository is named without a commit (none, a branch or a tag): what lay there when the run was
    resolved is what it uses, and nobody has looked at exactly that before. Files count as what the author has."""
    if not uri.startswith("hf://"):
        return False
    within = _IN_URI.match(uri)
    return not _COMMIT.fullmatch(revision or (within[1] if within else ""))


def compared_with(each: Benchmark | Against, resolved: Resolved) -> str:
    """The revision that data which questions are compared with was resolved to, "" when it was not found."""
    return resolved.benchmark(each.name) if isinstance(each, Benchmark) else resolved.compared_with(each.name)
