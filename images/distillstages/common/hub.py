"""What a hf:// URI names, the commit behind a revision, and the rows of a data set repository.

hf://owner/name and hf://models/owner/name are models, hf://datasets/owner/name data sets; `@revision` after the name,
then a path in the repository. Of a data set repository as a whole the `datasets` library knows the layout, and a
configuration is chosen with ?config=: hf://datasets/openai/gsm8k?config=main. A single file needs none of this:
hf://datasets/owner/name/path/to/file.parquet goes through fsspec like any other file. With a mirror that is a folder
(mirror.py) all of it is read there, and the hub is never asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qs

from distillstages.common import mirror, reasons
from distillstages.common.exit import ConfigFault, DataFault, StageError, Temporary

if TYPE_CHECKING:
    from distillstages.common.sources import Located

_NOT_FOUND: Final = frozenset(
    {"DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError", "FileNotFoundError"}
)
_AWAY: Final = frozenset(
    {"HfHubHTTPError", "LocalEntryNotFoundError", "ConnectError", "ConnectTimeout", "ReadTimeout", "ReadError"}
    | {"OfflineModeIsEnabled", "RemoteProtocolError", "ConnectionError", "TimeoutError"}
    | {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError"}  # of an object store with a mirror
)


@dataclass(frozen=True)
class Place:
    """A hf:// URI in parts. `revision` and `path` are "" where the URI names none."""

    kind: Literal["model", "dataset"]
    repository: str
    revision: str = ""
    path: str = ""
    config: str | None = None

    @property
    def is_whole(self) -> bool:
        """The repository as a whole, not a path in it."""
        return not self.path

    def at(self, revision: str | None) -> str:
        """The URI for fsspec, at a revision (None: the URI's own)."""
        folder = "datasets/" if self.kind == "dataset" else ""
        chosen = revision or self.revision
        # A branch may hold a slash, which fsspec wants quoted.
        version = "@" + chosen.replace("/", "%2F") if chosen else ""
        return f"hf://{folder}{self.repository}{version}" + (f"/{self.path}" if self.path else "")


def place(uri: str) -> Place:
    """The parts of a hf:// URI. Raises ConfigFault when it names no repository."""
    name, _, query = uri.removeprefix("hf://").partition("?")
    kind: Literal["model", "dataset"] = "dataset" if name.startswith("datasets/") else "model"
    match = re.fullmatch(r"([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?", _without_kind(name).strip("/"))
    if not match:
        raise ConfigFault(f"{uri}: expected hf://owner/name (a model) or hf://datasets/owner/name")
    config = parse_qs(query).get("config", [None])[0]
    return Place(kind, match[1], (match[2] or "").replace("%2F", "/"), match[3] or "", config)


def _without_kind(name: str) -> str:
    return name.removeprefix("datasets/").removeprefix("models/")


def pin(uri: str, revision: str | None) -> str:
    """The commit (40 hex digits) that a revision of a repository is now; the URI's own or main for None.

    Raises DataFault SourceNotFound (hub or mirror know no such repository or revision, or the hub wants its terms
    accepted), and Temporary when it is away."""
    where = place(uri)
    wanted = revision or where.revision or None
    root = mirror.folder()
    if root is not None:
        return _commit_in(root, where, uri, wanted)
    try:
        from huggingface_hub import HfApi

        api = HfApi()
        info = api.dataset_info if where.kind == "dataset" else api.model_info
        commit = info(where.repository, revision=wanted, timeout=60).sha
    except Exception as error:
        raise hub_error(uri, wanted, error) from error
    if not commit or not mirror.COMMIT.match(commit):
        raise Temporary(f"{uri}: the hub named {commit!r} as the commit of {wanted or 'main'}, expected 40 hex digits")
    return commit


def _commit_in(root: str, where: Place, uri: str, wanted: str | None) -> str:
    try:
        return mirror.commit(root, where.kind, where.repository, wanted or "main")
    except DataFault as fault:
        fault.message = f"{uri}: {fault.message}"
        raise
    except Exception as error:  # stores raise their clients' own kinds
        raise hub_error(f"{uri} in {root}", wanted, error) from error


def located(uri: str, revision: str | None) -> str:
    """Where a URI is read: of hf:// the URI for fsspec at a revision (None: its own), or the place in the mirror; any
    other URI is its own place. Raises as `pin`."""
    if not uri.startswith("hf://"):
        return uri
    where, root = place(uri), mirror.folder()
    if root is None:
        return where.at(revision)
    found = mirror.snapshot(root, where.kind, where.repository, pin(uri, revision))
    return f"{found}/{where.path}" if where.path else found


def hub_error(uri: str, revision: str | None, error: Exception, after: str = "") -> StageError:
    """What an error of the hub's libraries means for the user. `after` says how far reading had come."""
    kinds = {each.__name__ for each in type(error).__mro__}
    where = uri if revision is None else f"{uri}, revision {revision}"
    if "GatedRepoError" in kinds:
        return DataFault(
            f"{where}: the hub wants its terms accepted; accept them with the account whose token is used (HF_TOKEN)",
            reason=reasons.SOURCE_NOT_FOUND,
        )
    if kinds & _NOT_FOUND:
        return DataFault(
            f"{where}: not found; check the spelling, and the token (HF_TOKEN) if it is private ({_brief(error)})",
            reason=reasons.SOURCE_NOT_FOUND,
        )
    if kinds & _AWAY:
        return Temporary(f"{where}: the hub cannot be reached ({_brief(error)})")
    kind = type(error).__name__
    return DataFault(f"{where}{after}: cannot be read ({kind}: {_brief(error)})", reason=reasons.SOURCE_UNREADABLE)


def rows_of_repository(source: Located) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """(repository and split, row number from 1, row), streamed. Raises DataFault, ConfigFault, Temporary."""
    try:
        import datasets
    except ImportError:
        raise ConfigFault(
            f"{source.uri}: this image has no `datasets` library to read a hub repository; name a file in it instead"
        ) from None
    repository = place(source.uri)
    revision = source.revision or repository.revision or None
    where = f"{source.uri} split {source.split}"
    found = located(source.uri, source.revision)
    number = 0
    try:
        name = repository.repository
        if not found.startswith("hf://"):
            name, revision = str(mirror.local_copy(found)), None
        stream = datasets.load_dataset(name, repository.config, split=source.split, revision=revision, streaming=True)
        for number, row in enumerate(stream, 1):
            yield where, number, row
    except (StageError, GeneratorExit):
        raise
    except Exception as error:
        raise hub_error(where, source.revision, error, f" after row {number}") from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
