"""Renderables as text."""

from __future__ import annotations

import pytest
from rich.console import Console, RenderableType


class Page:
    """What a terminal of a width would show, without colours."""

    def __call__(self, renderable: RenderableType, width: int = 140) -> str:
        console = Console(width=width, height=60, color_system=None, force_terminal=True, legacy_windows=False)
        with console.capture() as capture:
            console.print(renderable)
        return capture.get()


@pytest.fixture
def page() -> Page:
    return Page()
