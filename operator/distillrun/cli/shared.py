"""What all commands share: options, and how one fails."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

Name = Annotated[str, typer.Argument(help="Name of the DistillRun.")]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Its namespace.", show_default="the context's")
]
Context = Annotated[str | None, typer.Option(help="The kubeconfig's context.", show_default="the current one")]


def missing(namespace: str, name: str) -> str:
    """The sentence for a run that is not there."""
    return (
        f"there is no DistillRun {name!r} in namespace {namespace!r}: `kubectl distill list -A` lists those there are"
    )


def fail(words: str, code: int = 1) -> NoReturn:
    """End with a sentence on standard error."""
    typer.echo(words, err=True)
    raise typer.Exit(code)
