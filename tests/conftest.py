"""How the tests are shared out over pytest-xdist's workers (`--dist loadgroup`): a file stays on one of them.

So what a module's tests share is made once. All that needs the machine's one node is one group, and so is what trains:
its first test compiles DeepSpeed's CPU Adam for the others. The longest groups come first, else the last of them would
run alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
FIRST = ("node", "tests/stages/train", "tests/cluster/faults", "tests/cluster")
"""Groups, or how the names of groups begin, that take longest."""


def group(item: pytest.Item, on_the_node: set[Path]) -> str:
    """The group of a test."""
    if item.path in on_the_node or HERE / "e2e" in item.path.parents:
        return "node"
    if HERE / "stages/train" in item.path.parents:
        return "tests/stages/train"
    return item.path.relative_to(HERE.parent).as_posix()


def rank(name: str) -> int:
    """Where a group belongs in the order."""
    return next((place for place, start in enumerate(FIRST) if name.startswith(start)), len(FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its group and sort the groups; within a group the order stays."""
    on_the_node = {item.path for item in items if item.get_closest_marker("node")}
    groups = {item: group(item, on_the_node) for item in items}
    for item, name in groups.items():
        item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: rank(groups[item]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Stop when xdist did not take the groups: tests of the one node would tear it down for each other."""
    lost = [name for name in ids if "@" not in name]
    if node.config.getvalue("dist") == "loadgroup" and lost:
        message = f"pytest {pytest.__version__} and pytest-xdist lose groups ({lost[0]}): see requirements/dev.in"
        pytest.exit(message, returncode=4)
