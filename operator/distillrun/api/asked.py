"""What curation asks models besides the teacher: difficulty, domains, rewrite (docs/curation.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distillrun.api.base import SET, ApiModel, Decimal, Name, rules

Label = Annotated[str, Field(min_length=1, max_length=63, pattern=r"\S")]


class ScoreWindow(ApiModel):
    """Which ratings of a source's questions stay."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            ("self.min <= self.max", "difficulty.scores: min is above max, so that nothing stays: correct them"),
        )
    }

    source: Name = Field(description="Name of the source.")
    min: int = Field(default=1, ge=1, le=10, description="Lowest rating.")
    max: int = Field(default=10, ge=1, le=10, description="Highest rating.")


class Difficulty(ApiModel):
    """Weaker models answer the questions first; what is too easy or too hard for them is not asked of the teacher."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            ("double(self.temperature) <= 2.0", "difficulty.temperature must be from 0 to 2: correct it"),
            (
                "self.keep == 'PassRate' || !has(self.minPassRate) && !has(self.maxPassRate)",
                "difficulty.minPassRate and maxPassRate belong to keep: PassRate: set it or remove them",
            ),
            (
                "self.keep != 'PassRate' || has(self.minPassRate) || has(self.maxPassRate)",
                "difficulty.keep: PassRate needs minPassRate, maxPassRate or both: add one",
            ),
            (
                "(has(self.minPassRate) ? double(self.minPassRate) : 0.0)"
                " <= (has(self.maxPassRate) ? double(self.maxPassRate) : 1.0)"
                " && (!has(self.minPassRate) || double(self.minPassRate) <= 1.0)"
                " && (!has(self.maxPassRate) || double(self.maxPassRate) <= 1.0)",
                "difficulty.minPassRate and maxPassRate are shares from 0 to 1, the first not above the second: correct"
                " them",
            ),
            (
                "(self.keep == 'Score') == (has(self.scores) && self.scores.size() > 0)",
                "difficulty.scores belong to keep: Score, which needs them: set both or neither",
            ),
            (
                "self.keep != 'Score' || self.models.size() == 1 && self.samples == 1",
                "difficulty.keep: Score asks one model once: name one in models, and remove samples",
            ),
        )
    }

    models: list[Name] = Field(
        min_length=1, max_length=4, description="Names of the models that answer.", json_schema_extra=SET
    )
    samples: int = Field(default=1, ge=1, le=64, description="Answers of each model to each question.")
    temperature: Decimal = Field(default="0", description="Sampling temperature; 0: greedy.")
    max_tokens: int = Field(
        default=32768, ge=1, le=1_000_000, description="Longest answer; what is cut off there counts as wrong."
    )
    keep: Literal["Failed", "PassRate", "Score"] = Field(
        default="Failed",
        description="Questions that no model answers rightly, as s1; those whose share of right answers, of all models"
        " together, lies in a window; or, as Sky-T1, those that one model rates within a window of their source.",
    )
    min_pass_rate: Decimal | None = Field(
        default=None, description='PassRate: least share of right answers, "0" to "1"; unset: 0.'
    )
    max_pass_rate: Decimal | None = Field(default=None, description="PassRate: greatest share; unset: 1.")
    scores: list[ScoreWindow] = Field(
        default_factory=list,
        max_length=32,
        description="Score: ratings that stay, on the scale of competition problems from 1 to 10; questions of other"
        " sources stay unrated.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["source"]},
    )


class Domains(ApiModel):
    """Domains of questions, instead of their sources', by a model or out of a column."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.model) != has(self.column)",
                "domains needs exactly one of model and column: set one and remove the other",
            ),
            (
                "has(self.model) || !has(self.labels) || self.labels.size() == 0",
                "domains.labels belong to domains.model: remove them",
            ),
        )
    }

    model: Name | None = Field(default=None, description="Name of a model that is asked for one label a question.")
    labels: list[Label] = Field(
        default_factory=list,
        max_length=128,
        description="Labels to choose from; none: the Mathematics Subject Classification's classes and other sciences.",
        json_schema_extra=SET,
    )
    max_tokens: int = Field(default=2048, ge=1, le=1_000_000, description="Longest reply of the model.")
    column: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="Column of the sources' rows that holds the domain."
    )


class Rewrite(ApiModel):
    """Accepted traces are written anew, thought and solution apart, as Sky-T1 did; rejected where that changes
    the answer."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            ("double(self.temperature) <= 2.0", "rewrite.temperature must be from 0 to 2: correct it"),
        )
    }

    model: Name = Field(description="Name of the model that rewrites; its terms must permit training.")
    temperature: Decimal = Field(default="0.7", description="Sampling temperature.")
    max_tokens: int = Field(default=16384, ge=1, le=1_000_000, description="Longest rewriting.")
