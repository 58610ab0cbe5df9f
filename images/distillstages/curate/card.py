"""README.md of a dataset: what it was made of and by which steps, for whoever meets it without its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distillstages.common.blocks import Curate
from distillstages.curate.dataset import cell
from distillstages.curate.funnel import Funnel


def card(title: str, config: Curate, seed: int, mixture: Sequence[Mapping[str, Any]], funnel: Funnel) -> str:
    """The card as Markdown."""
    teacher = config.teacher
    assert teacher is not None
    drawn = {each["source"]: each for each in mixture}
    lines = [
        f"# {_inline(title)}",
        "",
        "Made by DistillRun. `dataset/` is what is trained on, `rejected/` every other answer with its reason,",
        "`filtered/` the questions that nobody was asked, with the step that left them out.",
        "",
        "## Teacher",
        "",
        f"- Model: {_inline(teacher.model)} ({_inline(teacher.name)})",
        f"- Terms: {_inline(teacher.terms_reference or 'none given')}",
        f"- Samples a question: {config.generate.samples}; temperature {config.generate.temperature:g}, top_p"
        f" {config.generate.top_p:g}, at most {config.generate.max_tokens:,} tokens",
        f"- Wrong answers: {'kept' if config.verify.wrong == 'Keep' else 'rejected'}",
        f"- Seed: {seed}",
        "",
        "## Sources",
        "",
        "| source | where | revision | domain | questions | of |",
        "| --- | --- | --- | --- | ---: | ---: |",
    ]
    for source in config.sources:
        revision = (source.revision or "not pinned") + (" (unchecked)" if source.unchecked else "")
        counts = drawn.get(source.name, {"questions": 0, "of": 0})
        cells = (
            source.name,
            source.uri,
            revision,
            source.domain or "–",
            f"{counts['questions']:,}",
            f"{counts['of']:,}",
        )
        lines.append(f"| {' | '.join(_inline(cell) for cell in cells)} |")
    return "\n".join([*lines, *_steps(config, funnel)]) + "\n"


def card_of_published(title: str, config: Curate, seed: int, counts: Mapping[str, int], funnel: Funnel) -> str:
    """The card of a published dataset that was converted, as Markdown. `counts`: what there is of it, by name."""
    published = config.dataset
    assert published is not None
    revision = (published.revision or "not pinned") + (" (unchecked)" if published.unchecked else "")
    lines = [
        f"# {_inline(title)}",
        "",
        "Converted by DistillRun from a published dataset: nobody was asked, and no answer was checked. `dataset/` is",
        "what is trained on, `rejected/` every other row with its reason. Its licence, and the terms of the teacher",
        "whose traces it holds, are its publisher's to tell.",
        "",
        "## Origin",
        "",
        f"- Dataset: {_inline(published.uri)}, split {_inline(published.split)}",
        f"- Revision: {_inline(revision)}",
        f"- Rows: {f'the first {published.take:,}' if published.take else 'all'}, layout {published.fields.layout}",
        f"- Seed: {seed}",
        *(f"- {name}: {number:,}" for name, number in counts.items()),
    ]
    return "\n".join([*lines, *_steps(config, funnel)]) + "\n"


def _steps(config: Curate, funnel: Funnel) -> list[str]:
    """What was left out, and by which steps."""
    against = ", ".join(f"{each.name} ({each.uri})" for each in config.decontaminate.against) or "nothing"
    return [
        "",
        f"Decontaminated against: {_inline(against)}; {config.decontaminate.words} words in a row.",
        "",
        "## Funnel",
        "",
        *funnel.table(),
    ]


def _inline(text: str) -> str:
    return cell(text).replace("<", "&lt;")
