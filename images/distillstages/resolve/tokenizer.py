"""The student's tokenizer and chat template, looked at without transformers: do they load, does the template render a
conversation with this run's system prompt?
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from distillstages.common import reasons
from distillstages.common.exit import DataFault

FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_TEMPLATE: Final = "chat_template.jinja"
_CONFIG: Final = "tokenizer_config.json"

Read = Callable[[str], bytes | None]
"""The content of a file of the model's folder by its name, None where there is none."""


def check(read: Read, names: set[str], system_prompt: str | None) -> None:
    """Raises DataFault StudentNoTokenizer or NoChatTemplate, naming the file and what is wrong with it."""
    if not names.intersection(FILES):
        raise DataFault(
            f"it has no tokenizer (none of {', '.join(FILES[:3])}); add the files of the tokenizer that the model was "
            "trained with",
            reason=reasons.STUDENT_NO_TOKENIZER,
        )
    if "tokenizer.json" in names:
        _load(read("tokenizer.json") or b"")
    config = _json(read(_CONFIG), _CONFIG)
    template = _template(read, names, config)
    if not template:
        raise DataFault(
            f"its tokenizer has no chat template (no {_TEMPLATE}, no chat_template in {_CONFIG}), so nobody could say "
            "what a conversation looks like to it; use an instruct model or add a template",
            reason=reasons.NO_CHAT_TEMPLATE,
        )
    _render(template, config, system_prompt)


def _load(data: bytes) -> None:
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises Exception itself
        raise DataFault(
            f"tokenizer.json cannot be loaded: {_brief(error)}; copy it anew", reason=reasons.STUDENT_NO_TOKENIZER
        ) from None


def _json(data: bytes | None, name: str) -> Mapping[str, Any]:
    if data is None:
        return {}
    try:
        document = json.loads(data)
        assert isinstance(document, dict)
        return document
    except (ValueError, AssertionError, RecursionError):
        raise DataFault(f"{name} is not a JSON object; copy it anew", reason=reasons.STUDENT_NO_TOKENIZER) from None


def _template(read: Read, names: set[str], config: Mapping[str, Any]) -> str:
    """The template that counts, as transformers chooses it: the file before the field, "default" of several."""
    if _TEMPLATE in names:
        return (read(_TEMPLATE) or b"").decode("utf-8", "replace")
    if "chat_template.json" in names:
        config = _json(read("chat_template.json"), "chat_template.json")
    found = config.get("chat_template")
    if isinstance(found, list):  # [{"name", "template"}, …]
        found = {str(e.get("name")): e.get("template") for e in found if isinstance(e, dict)}
    if isinstance(found, dict):
        found = found.get("default") or next(iter(found.values()), None)
    return found if isinstance(found, str) else ""


def _render(template: str, config: Mapping[str, Any], system_prompt: str | None) -> None:
    """Render a conversation as training will. The template is someone else's program: it runs in jinja2's sandbox."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _generation_blocks()]
    )

    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False)
    messages = [{"role": "user", "content": "1+1=?"}, {"role": "assistant", "content": "2"}]
    if system_prompt:
        messages.insert(0, {"role": "system", "content": system_prompt})
    tokens = {name: _token(config.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    try:
        environment.from_string(template).render(messages=messages, add_generation_prompt=False, **tokens)
    except Exception as error:  # whatever the template does
        prompt = " with this run's system prompt" if system_prompt else ""
        raise DataFault(
            f"its chat template does not render a conversation{prompt}: {_brief(error)}; correct the template",
            reason=reasons.NO_CHAT_TEMPLATE,
        ) from None


def _generation_blocks() -> Any:
    """{% generation %}…{% endgeneration %}, which transformers adds to jinja2: its content is rendered as it is."""
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012  (jinja2's interface)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    return Generation


def _token(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
