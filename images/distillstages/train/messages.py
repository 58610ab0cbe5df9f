"""Other people's errors inside our sentences."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something, or the error's name; at most 300 characters."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]
