"""The student: fetched, checked, and its tokenizer made fit for training and serving alike.

What the server renders must be what was trained on. So everything that shapes the prompt is put into the tokenizer's
chat template before training, and that very tokenizer is saved with the final model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillstages.common import hub, modelcopy, modelfiles, reasons, traceformat
from distillstages.common.blocks import Student
from distillstages.common.exit import DataFault, Temporary
from distillstages.common.files import local_path
from distillstages.train.messages import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_PROBE = "distillrun probe 7f3a"
_HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "*.py")


@dataclass(frozen=True)
class Conversation:
    """The tokenizer with the facts about its chat template that training needs."""

    tokenizer: PreTrainedTokenizerBase
    end_of_turn: int
    """Token that ends an assistant's turn; the model learns to emit it, the server stops at it."""
    padding: int
    """Token that fills up a batch; never the end of turn."""
    _protected: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def prompt(self, question: str) -> str:
        """The text a server renders for one user message, up to where the assistant begins."""
        return _render(self.tokenizer, [{"role": "user", "content": question}], add_generation_prompt=True)

    def protected(self, trace_format: str) -> tuple[str, ...]:
        """The tokens that data must not turn into: all special ones, and those that mark the trace format's parts."""
        if trace_format not in self._protected:
            marks = "".join(traceformat.delimiters(trace_format))
            tokens = self.tokenizer.added_tokens_decoder.values()
            found = {token.content for token in tokens if token.special or token.content in marks}
            self._protected[trace_format] = tuple(sorted(token for token in found if len(token) > 1))
        return self._protected[trace_format]


def fetch(student: Student, *, check: bool = True) -> Path:
    """The local folder of the student's files; downloaded first for hf:// (pinned revision, hub cache) and s3://,
    or those of a mirror.

    `check`: files without a hub's revision are held against the content identity that was resolved (one rank is
    enough for a shared volume). Raises DataFault StudentNotFound (no such place, no config.json in it), InputChanged,
    and Temporary when the hub is away.
    """
    where = hub.located(student.uri, student.revision)
    if where.startswith("file://"):
        folder = local_path(where)
    elif where.startswith("hf://"):
        place = hub.place(student.uri)
        folder = _from_hub(place.repository, student.revision or place.revision or None)
    else:
        folder = modelcopy.local_copy("student", where, student.revision, missing=reasons.STUDENT_NOT_FOUND)
    if not folder.is_dir():
        raise DataFault(f"student {student.uri}: there is no such folder", reason=reasons.STUDENT_NOT_FOUND)
    if not (folder / "config.json").is_file():
        found = ", ".join(sorted(each.name for each in folder.iterdir())[:8]) or "nothing"
        raise DataFault(
            f"student {student.uri}: found {found}, expected a model folder with config.json",
            reason=reasons.STUDENT_NOT_FOUND,
        )
    if check and not student.uri.startswith("hf://"):
        modelfiles.check("student", student.uri, student.revision)
    return folder


def load_conversation(folder: Path, uri: str, system_prompt: str | None) -> Conversation:
    """The tokenizer of a model folder, its template extended by the run's default system prompt (None: left as it is).

    Raises DataFault StudentNoTokenizer and NoChatTemplate; `uri` names the student in messages.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise DataFault(
            f"student {uri}: the folder has no tokenizer (none of {', '.join(_TOKENIZER_FILES[:3])}); copy the files "
            "of the tokenizer that the model was trained with into it",
            reason=reasons.STUDENT_NO_TOKENIZER,
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise DataFault(
            f"student {uri}: its tokenizer cannot be loaded: {first_line(error)}",
            reason=reasons.STUDENT_NO_TOKENIZER,
        ) from error
    if not tokenizer.chat_template:
        raise DataFault(
            f"student {uri}: its tokenizer has no chat template (no chat_template.jinja, no chat_template in "
            "tokenizer_config.json), so nobody could say what a conversation looks like to it; use an instruct model "
            "or add a template to the folder",
            reason=reasons.NO_CHAT_TEMPLATE,
        )
    if isinstance(tokenizer.chat_template, dict):  # several named templates: servers use "default"
        tokenizer.chat_template = tokenizer.chat_template.get("default") or next(iter(tokenizer.chat_template.values()))
    if system_prompt is not None:
        tokenizer.chat_template = with_default_system_prompt(tokenizer.chat_template, system_prompt)
    end_of_turn = find_end_of_turn(tokenizer, uri)
    return Conversation(tokenizer, end_of_turn, _choose_padding(tokenizer, end_of_turn))


def with_default_system_prompt(template: str, system_prompt: str) -> str:
    """A chat template that puts the system prompt first whenever a conversation brings none of its own."""
    # JSON's string syntax is valid in Jinja, and "{{" inside a string literal is no expression there.
    message = f"[{{'role': 'system', 'content': {json.dumps(system_prompt, ensure_ascii=False)}}}]"
    return (
        "{%- if not messages or messages[0]['role'] != 'system' %}"
        f"{{%- set messages = {message} + messages %}}"
        "{%- endif %}" + template
    )


def find_end_of_turn(tokenizer: PreTrainedTokenizerBase, uri: str) -> int:
    """The token that the template puts after an assistant's message: the first added token there, else the
    tokenizer's end-of-sequence token. Raises DataFault NoChatTemplate when there is neither."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
    _, found, after = _render(tokenizer, turns, add_generation_prompt=False).partition(_PROBE)
    if found:
        added = tokenizer.get_added_vocab()
        for token in tokenizer.encode(after, add_special_tokens=False):
            if tokenizer.convert_ids_to_tokens(token) in added:
                return int(token)
    if tokenizer.eos_token_id is None:
        raise DataFault(
            f"student {uri}: neither its chat template nor its tokenizer has a token that ends a turn; set eos_token "
            "in tokenizer_config.json",
            reason=reasons.NO_CHAT_TEMPLATE,
        )
    return int(tokenizer.eos_token_id)


def generation_settings(conversation: Conversation, existing: Any) -> dict[str, Any]:
    """eos and pad token ids for generation_config.json: the end of turn first, then whatever ended a turn before."""
    before = existing if isinstance(existing, list) else [] if existing is None else [existing]
    ends = [conversation.end_of_turn, *(token for token in before if token != conversation.end_of_turn)]
    return {"eos_token_id": ends if len(ends) > 1 else ends[0], "pad_token_id": conversation.padding}


def _choose_padding(tokenizer: PreTrainedTokenizerBase, end_of_turn: int) -> int:
    """The tokenizer's padding token, or where that is missing or ends turns, another special token that it has.

    Padding is masked in attention and loss, so any token will do except the end of turn, whose id is often what
    other programs mask by. A new token would enlarge the embedding; so the tokenizer's own are tried first.
    """
    candidates = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id]
    candidates += sorted(tokenizer.all_special_ids) + sorted(tokenizer.get_added_vocab().values())
    for token in (*candidates, 0, 1):
        if token is not None and token != end_of_turn:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(token)
            return int(token)
    raise AssertionError("0 and 1 cannot both end a turn")


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, tokenize=False)
    assert isinstance(text, str)
    return text


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_HUB_FILES)))
    except GatedRepoError as error:
        raise DataFault(
            f"student hf://{name}: the hub wants its terms accepted; accept them with the account whose token is used "
            "(HF_TOKEN)",
            reason=reasons.STUDENT_NOT_FOUND,
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise DataFault(
            f"student hf://{name}, revision {revision or 'main'}: the hub knows no such model; check the spelling, and "
            "the token (HF_TOKEN) if it is private",
            reason=reasons.STUDENT_NOT_FOUND,
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise Temporary(f"student hf://{name}: the hub does not answer: {first_line(error)}") from error
