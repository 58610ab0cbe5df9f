"""Which code a response gives: the last fenced block of Python in it.

A fence is a line of three or more backticks or tildes; the line that closes it has as many, or more, and nothing else
(CommonMark 0.31, 4.5). Blocks labelled `python`, `python3` or `py` count; only where there is none, blocks without a
label do. A block that nobody closes, or without code in it, is none. Text outside of blocks is never code.
"""

from __future__ import annotations

import re
from typing import Final

_FENCE: Final = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([^`]*)")
_LABELS: Final = ("python", "python3", "py")


def last_block(response: str) -> str | None:
    """The code, with a line feed at its end, or None. Code that is indented as its fence is loses that indentation."""
    labelled = unlabelled = None
    fence, label, indent = "", "", 0
    lines: list[str] = []
    for line in response.replace("\r\n", "\n").split("\n"):
        match = _FENCE.fullmatch(line)
        if not fence:
            if match:
                indent, fence, label = len(match[1]), match[2], _label(match[3])
                lines = []
        elif match and not match[3].strip() and match[2].startswith(fence):
            fence = ""
            code = "\n".join(lines) + "\n"
            if code.strip() and label in _LABELS:
                labelled = code
            elif code.strip() and not label:
                unlabelled = code
        else:
            lines.append(line[min(indent, len(line) - len(line.lstrip(" \t"))) :])
    return labelled or unlabelled


def _label(info: str) -> str:
    """The language of an info string: `python`, `{python}`, `Python title="x"`."""
    words = info.split()
    return words[0].strip("{.}").lower() if words else ""
