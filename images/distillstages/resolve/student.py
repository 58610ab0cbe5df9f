"""The student: pinned, its folder complete, its tokenizer and template in order, its dimensions read."""

from __future__ import annotations

import json
from typing import Any, Final

from distillstages.common import hub, identity, modelfiles, reasons, traceformat
from distillstages.common.blocks import Resolve
from distillstages.common.exit import DataFault, StageError, Temporary
from distillstages.resolve import tokenizer, weights
from distillstages.resolve.dimensions import Weights, dimensions
from distillstages.resolve.pins import pin

_MOST_TEXT_BYTES: Final = 256 << 20


class Folder:
    """The files directly in a model's folder, wherever it is, at one revision."""

    def __init__(self, uri: str, revision: str | None) -> None:
        import fsspec

        self.uri = uri
        self.revision = revision
        try:
            self.filesystem, path = fsspec.core.url_to_fs(hub.located(uri, revision))
            self.paths = modelfiles.paths(self.filesystem, path.rstrip("/"))
        except Exception as error:
            raise self.meaning(error) from error

    def read(self, name: str) -> bytes | None:
        """The content of a file, None where there is none. Raises StageError."""
        if name not in self.paths:
            return None
        try:
            with self.filesystem.open(self.paths[name], "rb") as file:
                data: bytes = file.read(_MOST_TEXT_BYTES)
            return data
        except Exception as error:
            raise self.meaning(error) from error

    def object(self, name: str) -> dict[str, Any] | None:
        """A file's JSON object, None where there is no file. Raises StageError."""
        data = self.read(name)
        if data is None:
            return None
        try:
            document = json.loads(data)
            assert isinstance(document, dict)
        except (ValueError, AssertionError, RecursionError):
            raise DataFault(f"{name} is not a JSON object; copy it anew", reason=reasons.STUDENT_NOT_FOUND) from None
        return document

    def meaning(self, error: Exception) -> StageError:
        """What an error of the storage means for the user."""
        if isinstance(error, StageError):
            return error
        if is_hub(self.uri):
            return hub.hub_error(self.uri, self.revision, error)
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return DataFault("there is no such folder", reason=reasons.STUDENT_NOT_FOUND)
        if isinstance(error, PermissionError):
            return DataFault("reading is not permitted", reason=reasons.STUDENT_NOT_FOUND)
        return Temporary(f"the storage cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})")


def is_hub(uri: str) -> bool:
    """Whether a URI names a repository of the hub."""
    return uri.startswith("hf://")


def resolve(block: Resolve) -> dict[str, Any]:
    """{"revision", "dimensions"} of the student. Raises DataFault (StudentNotFound, StudentNoTokenizer, NoChatTemplate,
    InputChanged), ConfigFault, Temporary; the sentence names the student."""
    student = block.student
    try:
        commit = pin(student.uri, student.revision, student.pinned) if is_hub(student.uri) else None
        folder = Folder(student.uri, commit)
        config = folder.object("config.json")
        if config is None:
            found = ", ".join(sorted(folder.paths)[:8]) or "nothing"
            raise DataFault(
                f"found {found}, expected a model folder with config.json", reason=reasons.STUDENT_NOT_FOUND
            )
        prompt = block.system_prompt
        if prompt is None:
            prompt = traceformat.default_system_prompt(block.trace_format)
        tokenizer.check(folder.read, set(folder.paths), prompt or None)
        found_weights = _weights(folder, config)
        if commit is None:
            paths = list(folder.paths.values())
            for expected in (student.pinned, student.revision):
                identity.check("student", student.uri, expected, folder.filesystem, paths)
            commit = student.pinned or student.revision or identity.of_files(folder.filesystem, paths)
        return {"revision": commit, "dimensions": dimensions(config, found_weights)}
    except StageError as error:
        if student.uri not in error.message:
            error.message = f"student {student.uri}: {error.message}"
        raise


def _weights(folder: Folder, config: dict[str, Any]) -> Weights | None:
    names = weights.shards(list(folder.paths), folder.object(weights.INDEX))
    if not names:
        if not is_hub(folder.uri) and any(name.endswith(".bin") for name in folder.paths):
            return None
        raise DataFault("it has no weights, expected *.safetensors", reason=reasons.STUDENT_NOT_FOUND)
    try:
        headers = [weights.header(folder.filesystem, folder.paths[name]) for name in names]
    except Exception as error:
        raise folder.meaning(error) from error
    if "quantization_config" in config:
        return None  # one element of a packed tensor is several parameters
    tied = dimensions(config, None).get("tiedEmbeddings", False)
    return weights.count(headers, tied=tied)
