"""Rows of a data set repository on a hub (hf://datasets/owner/name), whose layout the `datasets` library knows.

A configuration is chosen with ?config=: hf://datasets/openai/gsm8k?config=main. A single file of a repository needs
none of this: hf://datasets/owner/name/path/to/file.parquet goes through fsspec like any other file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from distillstages.common import reasons
from distillstages.common.exit import ConfigFault, DataFault, Temporary

if TYPE_CHECKING:
    from distillstages.common.sources import SourceLike


def rows_of_repository(source: SourceLike) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """(repository and split, row number from 1, row), streamed. Raises DataFault, ConfigFault, Temporary."""
    try:
        import datasets
    except ImportError:
        raise ConfigFault(
            f"{source.uri}: this image has no `datasets` library to read a hub repository; name a file in it instead"
        ) from None
    name, _, query = source.uri.removeprefix("hf://datasets/").partition("?")
    repository, _, revision = name.strip("/").partition("@")
    config = parse_qs(query).get("config", [None])[0]
    where = f"hf://datasets/{name} split {source.split}"
    number = 0
    try:
        stream = datasets.load_dataset(
            repository, config, split=source.split, revision=revision or None, streaming=True
        )
        for number, row in enumerate(stream, 1):
            yield where, number, row
    except (ConnectionError, TimeoutError) as error:
        raise Temporary(f"{where}: the hub cannot be reached ({_brief(error)})") from error
    except (DataFault, Temporary, GeneratorExit):
        raise
    except Exception as error:
        kind = type(error).__name__
        if kind in ("DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError", "FileNotFoundError"):
            raise DataFault(f"{where}: not found ({_brief(error)})", reason=reasons.SOURCE_NOT_FOUND) from error
        if kind in (
            "HfHubHTTPError",
            "LocalEntryNotFoundError",
            "ConnectError",
            "ConnectTimeout",
            "OfflineModeIsEnabled",
        ):
            raise Temporary(f"{where}: the hub cannot be reached ({_brief(error)})") from error
        raise DataFault(
            f"{where} after row {number}: cannot be read ({kind}: {_brief(error)})", reason=reasons.SOURCE_UNREADABLE
        ) from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
