"""stage.yaml: the one file a stage is told by. The operator writes every field, defaults filled in; by hand on a laptop
only what has no default is needed. Unknown fields are refused: none is accepted that does nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from distillstages.common.blocks import Curate, Evaluate, Model, Resolve, Serve, Train
from distillstages.common.exit import ConfigFault, UsageFault

API_VERSION: Final = "distillrun.dev/stage/v1"
BLOCKS: Final = ("resolve", "curate", "train", "evaluate", "serve")
StageName = Literal["resolve", "curate", "train", "evaluate", "serve"]


class Run(Model):
    """Which run this stage belongs to: for logs and messages only."""

    namespace: str = "default"
    name: str
    uid: str = ""


class StageConfig(Model):
    """stage.yaml as a whole: who, where to, and exactly the one block named like the stage.

    `attempt` counts from 1; 0 is a probe's. `stall_timeout_seconds`: progress may stand still for so long (stall.py);
    null: as the stage sees fit. `mirror`: where hf:// is read instead of the hub (mirror.py)."""

    api_version: Literal["distillrun.dev/stage/v1"] = API_VERSION
    stage: StageName
    run: Run
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    attempt: Annotated[int, Field(ge=0)] = 1
    output: Annotated[str, Field(pattern=r"^(file:///|s3://).+", max_length=2048)]
    seed: int = 42
    stall_timeout_seconds: Annotated[float, Field(gt=0)] | None = None
    mirror: Annotated[str, Field(pattern=r"^(https?://|file:///|s3://).+", max_length=1024)] | None = None
    resolve: Resolve | None = None
    curate: Curate | None = None
    train: Train | None = None
    evaluate: Evaluate | None = None
    serve: Serve | None = None

    @model_validator(mode="after")
    def _one_block(self) -> Self:
        given = [n for n in BLOCKS if getattr(self, n) is not None]
        if given != [self.stage]:
            raise ValueError(f"stage is {self.stage!r}, the blocks given are {given}, expected [{self.stage!r}] alone")
        return self


def load(path: str | Path, *, stage: str | None = None) -> StageConfig:
    """Read and check a stage.yaml. Raises UsageFault when there is no such file, ConfigFault (naming field, value and
    what was expected) when its content is wrong or it is meant for another `stage`."""
    try:
        text = Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigFault(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise UsageFault(f"--config {path}: {error.strerror}; give the path of a stage.yaml") from None
    config = parse(text, origin=str(path))
    if stage is not None and config.stage != stage:
        raise ConfigFault(f"{path}: stage is {config.stage!r}, this program is {stage!r}")
    return config


def parse(text: str, *, origin: str = "stage.yaml") -> StageConfig:
    """Check the text of a stage.yaml. Raises ConfigFault."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigFault(f"{origin}:{where} not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise ConfigFault(f"{origin}: found {kind} at the top, expected a mapping with apiVersion, stage, …")
    try:
        return StageConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigFault(f"{origin}: {explain(error)}") from None


def explain(error: ValidationError, *, limit: int = 5) -> str:
    """A pydantic error as sentences: field, value found, what was expected. At most `limit` of them."""
    found = error.errors(include_url=False)
    sentences = []
    for item in found[:limit]:
        field = ".".join(str(part) for part in item["loc"]) or "the document"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            sentences.append(f"{field} is missing, expected a value")
        elif item["type"] == "extra_forbidden":
            sentences.append(f"{field} is not a known field, remove it or correct its spelling")
        elif item["type"] == "value_error":
            sentences.append(f"{field}: {message}")
        else:
            sentences.append(f"{field} is {_short(item['input'])}, expected: {message[:1].lower() + message[1:]}")
    if len(found) > limit:
        sentences.append(f"and {len(found) - limit} more")
    return "; ".join(sentences)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
