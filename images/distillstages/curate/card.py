"""README.md of a dataset: what it was made of and by which steps, for whoever meets it without its run."""

from __future__ import annotations

from collections.abc import Mapping

from distillstages.common.blocks import Curate
from distillstages.curate.dataset import cell
from distillstages.curate.funnel import Funnel, by_frequency
from distillstages.curate.pool import Pool


def card(title: str, config: Curate, seed: int, pool: Pool, domains: Mapping[str, int]) -> str:
    """The card as Markdown; `domains` counts the dataset's rows by domain."""
    teacher = config.teacher
    assert teacher is not None
    drawn = {each["source"]: each for each in pool.mixture}
    lines = [
        f"# {_inline(title)}",
        "",
        "Made by DistillRun. `dataset/` is what is trained on, `rejected/` every other answer with its reason,",
        "`filtered/` the questions that the teacher was not asked, with the step that left them out.",
        "",
        "## Teacher",
        "",
        f"- Model: {_inline(teacher.model)} ({_inline(teacher.name)})",
        f"- Terms: {_inline(teacher.terms_reference or 'none given')}",
        f"- Samples a question: {config.generate.samples}; temperature {config.generate.temperature:g}, top_p"
        f" {config.generate.top_p:g}, at most {config.generate.max_tokens:,} tokens",
        f"- Wrong answers: {'kept' if config.verify.wrong == 'Keep' else 'rejected'}",
        f"- Seed: {seed}",
        *_others(config),
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
    return "\n".join([*lines, *_steps(config, pool.funnel), *_domains(pool, domains)]) + "\n"


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


def _others(config: Curate) -> list[str]:
    """What other models were asked, and how."""
    models, lines = config.endpoints, []

    def who(*names: str) -> str:
        return ", ".join(_inline(f"{models[name].model} ({name})") for name in names)

    if (hard := config.difficulty) is not None:
        windows = ", ".join(f"{each.source} {each.min:g} to {each.max:g}" for each in hard.scores)
        kept = {
            "Failed": "questions that none of them answers rightly",
            "PassRate": f"questions with {hard.min_pass_rate:g} to {hard.max_pass_rate:g} of the answers right",
            "Score": f"questions by their rating, {_inline(windows)}",
        }[hard.keep]
        lines.append(
            f"- Difficulty by {who(*hard.models)}, {hard.samples} answers each at temperature {hard.temperature:g}, at"
            f" most {hard.max_tokens:,} tokens; kept: {kept}"
        )
    if config.domains is not None and config.domains.model is not None:
        lines.append(f"- Domains by {who(config.domains.model)}")
    if config.rewrite is not None:
        terms = models[config.rewrite.model].terms_reference or "none given"
        lines.append(
            f"- Traces written anew by {who(config.rewrite.model)} at temperature {config.rewrite.temperature:g};"
            f" terms: {_inline(terms)}; the originals are in `rewrite/`"
        )
    return lines


def _domains(pool: Pool, domains: Mapping[str, int]) -> list[str]:
    """The table of domains, nothing where there are none."""
    if not any(domains):
        return []
    rows = [f"| {_inline(name or '–')} | {number:,} |" for name, number in by_frequency(domains).items()]
    unread = (
        ["", f"Labels that could not be read: {pool.unreadable_labels:,} (these questions have their source's domain)."]
        if pool.unreadable_labels
        else []
    )
    return ["", "## Domains", "", "| domain | traces |", "| --- | ---: |", *rows, *unread]


def _inline(text: str) -> str:
    return cell(text).replace("<", "&lt;")
