"""Writes the table of values in the chart's README: ``python3 hack/chart/values_table.py --write`` (or ``--check``).

Standard library only. The comment above a value in values.yaml is its documentation and the README's; a value
without one is an error.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

CHART = Path(__file__).resolve().parents[2] / "charts" / "distillrun"
BEGIN, END = "<!-- values: made from values.yaml -->", "<!-- end of values -->"
_KEY = re.compile(r"(?P<indent> *)(?P<name>[A-Za-z0-9_]+):(?: (?P<value>.+))?")


@dataclass(frozen=True)
class Value:
    """One setting: dotted path, default as written in YAML, and the comment above it ("" if there is none)."""

    path: str
    default: str
    comment: str


def read(text: str) -> list[Value]:
    """The settings of a values.yaml of plain maps whose leaves are on one line each, in their order."""
    values: list[Value] = []
    parents: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
        elif match := _KEY.fullmatch(line):
            depth = len(match["indent"]) // 2
            parents = [*parents[:depth], match["name"]]
            if match["value"] is not None:
                values.append(Value(".".join(parents), match["value"], " ".join(comment)))
            comment = []
        elif line.strip():
            raise ValueError(f"values.yaml: one setting a line, please: {line!r}")
        else:
            comment = []
    return values


def table(values: list[Value]) -> str:
    """The settings as a Markdown table. Raises ValueError for a setting without a comment."""
    rows = ["| value | default | what it does |", "| --- | --- | --- |"]
    for value in values:
        if not value.comment:
            raise ValueError(f"values.yaml: {value.path} has no comment above it: say what it does")
        rows.append(f"| `{value.path}` | `{value.default}` | {value.comment.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def renew(readme: str, values: list[Value]) -> str:
    """The README with the table of these values between its two marks. Raises ValueError if it has no marks."""
    before, found, rest = readme.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"README.md: put the lines {BEGIN!r} and {END!r} where the table belongs")
    return f"{before}{BEGIN}\n{table(values)}\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Command line of this module; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python3 hack/chart/values_table.py", description=__doc__.splitlines()[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the README")
    action.add_argument("--check", action="store_true", help="only say whether it is up to date")
    options = parser.parse_args(arguments)
    readme = CHART / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = renew(before, read((CHART / "values.yaml").read_text(encoding="utf-8")))
    if options.write:
        readme.write_text(after, encoding="utf-8")
    elif before != after:
        print(f"{readme.name} is out of date: run python3 hack/chart/values_table.py --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
