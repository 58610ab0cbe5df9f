"""The filters of curation as the user writes them: decontaminate, deduplicate, select (docs/curation.md)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distillrun.api.base import ATOMIC, MAP_BY_NAME, ApiModel, ArtifactUri, Column, Decimal, Name, rules


class QuestionFields(ApiModel):
    """How rows are laid out of which only the question counts (docs/data.md)."""

    layout: Literal["Columns", "ShareGPT", "Messages"] = Field(
        default="Columns",
        description="A column of the question, or conversations of {from, value} or of {role, content}.",
    )
    question: Column | None = Field(
        default=None,
        description="Column of the question, or of the conversation; unset: question, and by layout conversations or"
        " messages.",
    )


class Against(ApiModel):
    """A dataset whose questions curation leaves out; the run does not evaluate on it."""

    name: Name = Field(description="Name of the dataset, unique among them.")
    uri: ArtifactUri = Field(description="Its questions: as a source's uri.")
    revision: str | None = Field(
        default=None, max_length=128, description="Revision of a hub dataset: a commit is best; unset: the newest."
    )
    split: str = Field(default="test", max_length=64, description="Split of a hub dataset.")
    fields: QuestionFields = Field(default_factory=QuestionFields, description="Where a row has its question.")
    secret_name: str = Field(
        default="", max_length=253, description="Secret whose keys become environment variables for reading it."
    )


class Decontaminate(ApiModel):
    """Questions that share words with the run's benchmarks, or other datasets, are left out before anybody is asked."""

    benchmarks: bool = Field(
        default=True, description="Compare with the questions of every benchmark of evaluate, whole files of them."
    )
    against: list[Against] = Field(
        default_factory=list,
        max_length=8,
        description="Compare with the questions of these datasets, too, all of them.",
        json_schema_extra=MAP_BY_NAME,
    )
    words: int = Field(
        default=8, ge=1, le=64, description="So many words in a row are too many; shorter questions count as a whole."
    )


class Deduplicate(ApiModel):
    """Questions that repeat an earlier one are left out before anybody is asked."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "!has(self.near) || double(self.near) > 0.0 && double(self.near) <= 1.0",
                "deduplicate.near must be above 0 up to 1: 0.8 is common, unset compares whole questions only",
            ),
        )
    }

    exact: bool = Field(default=True, description="The same words, whatever their case and the white space.")
    near: Decimal | None = Field(
        default=None,
        description="Also those whose runs of three words have this Jaccard index or more: 0.8; unset: not.",
    )


class Preselect(ApiModel):
    """Traces that S1 takes before it draws: right answers to questions of a source."""

    source: Name = Field(description="Name of the source.")
    min_tokens: int = Field(
        default=0, ge=0, le=100_000_000, description="Only traces of at least so many tokens of the teacher."
    )


class Select(ApiModel):
    """Which of the accepted traces become the dataset."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.size) == (self.strategy != 'All')",
                "select.size belongs to every strategy but All: set it, or remove it",
            ),
            (
                "self.strategy == 'S1' || !has(self.preselect) || self.preselect.size() == 0",
                "select.preselect belongs to strategy S1: remove it",
            ),
        )
    }

    strategy: Literal["All", "Random", "Longest", "S1"] = Field(
        default="All",
        description="S1: what is preselected, then domains drawn alike and long traces rather than short.",
    )
    size: int | None = Field(default=None, ge=1, le=100_000_000, description="Traces of the dataset at most.")
    variant: Literal["Paper", "Notebook"] = Field(
        default="Paper",
        description="S1: domains are drawn alike throughout; Notebook: from 70 % of the size as often as preselected.",
    )
    preselect: list[Preselect] = Field(
        default_factory=list, max_length=32, description="What S1 takes first.", json_schema_extra=ATOMIC
    )
