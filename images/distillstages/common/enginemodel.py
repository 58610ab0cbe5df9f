"""Which model vLLM is to load, and which of vLLM's arguments a user may give.

A model in a local folder is looked at before anything is started, so that a folder without a tokenizer costs a second
and not the minutes of a start that fails.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from distillstages.common import hub, modelcopy, modelfiles, reasons
from distillstages.common.exit import ConfigFault, DataFault
from distillstages.common.files import local_path, storage_errors

# Options of ours, with what to set instead. Their abbreviations are refused as well.
_OWNED: Final = {
    "--host": "the stage binds it",
    "--port": "it is part of the run's endpoint",
    "--uds": "the run's endpoint is a port",
    "--fd": "the run's endpoint is a port",
    "--grpc": "the run's endpoint is OpenAI's HTTP interface",
    "--headless": "the run's endpoint is this server",
    "--root-path": "it would move the run's endpoint",
    "--ssl-keyfile": "TLS ends before the pod",
    "--ssl-certfile": "TLS ends before the pod",
    "--ssl-ca-certs": "TLS ends before the pod",
    "--ssl-cert-reqs": "TLS ends before the pod",
    "--model": "the run decides what is served",
    "--model-tag": "the run decides what is served",
    "--revision": "the run pins it",
    "--served-model-name": "the run's name is the model's name",
    "--api-key": "arguments are not secret, and the run's own requests would be refused",
    "--config": "a file could hold any of the other options; write them here",
    "--tensor-parallel-size": "set engine.tensorParallel",
    "-tp": "set engine.tensorParallel",
    "--max-model-len": "set engine.maxModelLength",
    "--shutdown-timeout": "the stage sets it by the pod's grace period",
}
_TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "tiktoken.model")
_TEMPLATE_FILES: Final = ("chat_template.jinja", "chat_template.json")


@dataclass(frozen=True)
class EngineModel:
    """What vLLM is given: a folder or a hub id, and the revision of the latter."""

    argument: str
    revision: str | None = None
    is_local: bool = True


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse a user's vLLM arguments that would take the server away from the run.

    Raises ConfigFault naming the argument and what to do instead."""
    for index, argument in enumerate(arguments):
        option = argument.partition("=")[0]
        if not option.startswith("-"):
            if index == 0:
                raise ConfigFault(
                    f"engine.vllmArgs[0] is {argument!r}, expected an option: the model is given by the run. Remove it"
                )
            continue
        if option == "--":
            raise ConfigFault("engine.vllmArgs holds '--', after which a word would be taken for the model. Remove it")
        plain = option.replace("_", "-").partition(".")[0]
        # vLLM's parser accepts any unambiguous beginning of an option.
        owned = [name for name in _OWNED if name.startswith(plain)]
        if owned:
            raise ConfigFault(f"engine.vllmArgs holds {argument!r}, which is {owned[0]}: {_OWNED[owned[0]]}. Remove it")


def resolve(name: str, uri: str, revision: str | None) -> EngineModel:
    """The model at a URI, checked as far as it can be without loading it. `name` is for messages.

    One at s3:// is copied first. Raises DataFault (ModelNotFound, StudentNoTokenizer, NoChatTemplate, InputChanged,
    SourceUnreadable, DiskFull), ConfigFault for a URI that vLLM cannot load from, Temporary."""
    where = hub.located(uri, revision)
    if where.startswith("hf://"):
        place = hub.place(uri)
        return EngineModel(place.repository, revision or place.revision or None, is_local=False)
    if not where.startswith(("file://", "s3://")):
        raise ConfigFault(
            f"model {name!r}: {uri} cannot be served, expected file:// or s3:// (a folder) or hf:// (a hub id)"
        )
    what = f"model {name!r}"
    folder = local_path(where) if where.startswith("file://") else modelcopy.local_copy(what, where, revision)
    _check_folder(name, folder)
    if not uri.startswith("hf://"):
        with storage_errors(str(folder)):
            modelfiles.check(what, uri, revision)
    return EngineModel(str(folder))


def _check_folder(name: str, folder: Path) -> None:
    if not folder.is_dir():
        raise DataFault(f"model {name!r}: there is no folder {folder}", reason=reasons.MODEL_NOT_FOUND)
    there = {path.name for path in folder.iterdir()}
    if "config.json" not in there:
        raise DataFault(
            f"model {name!r}: {folder} holds no config.json, expected a folder that transformers can load; found "
            f"{_listed(there)}",
            reason=reasons.MODEL_NOT_FOUND,
        )
    if not any(file.endswith((".safetensors", ".bin", ".pt")) for file in there):
        raise DataFault(
            f"model {name!r}: {folder} holds no weights, expected *.safetensors; found {_listed(there)}",
            reason=reasons.MODEL_NOT_FOUND,
        )
    if not there.intersection(_TOKENIZER_FILES):
        raise DataFault(
            f"model {name!r}: {folder} holds no tokenizer, expected one of {', '.join(_TOKENIZER_FILES)}; found "
            f"{_listed(there)}",
            reason=reasons.STUDENT_NO_TOKENIZER,
        )
    if not there.intersection(_TEMPLATE_FILES) and not _template_in_config(folder / "tokenizer_config.json"):
        raise DataFault(
            f"model {name!r}: the tokenizer in {folder} has no chat template, expected chat_template.jinja or "
            "chat_template in tokenizer_config.json",
            reason=reasons.NO_CHAT_TEMPLATE,
        )


def _template_in_config(path: Path) -> bool:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and bool(document.get("chat_template"))


def _listed(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:12]) or "nothing"
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")
