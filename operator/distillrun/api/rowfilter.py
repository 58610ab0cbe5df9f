"""Which rows of a source are questions for the teacher at all (docs/curation.md)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from distillrun.api.base import SET, ApiModel, rules

Text = Annotated[str, Field(min_length=1, max_length=64)]


def _texts(description: str) -> Any:
    return Field(default=None, min_length=1, max_length=8, description=description, json_schema_extra=SET)


class RowFilter(ApiModel):
    """Keeps the rows whose column is as wanted."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "[has(self.oneOf), has(self.contains), has(self.lacks)].filter(given, given).size() == 1",
                "a filter needs exactly one of oneOf, contains and lacks: set one, and write another filter for more",
            )
        )
    }

    column: str = Field(min_length=1, max_length=64, description="Column that decides.")
    one_of: list[Text] | None = _texts("Keep rows where it is one of these.")
    contains: list[Text] | None = _texts("Keep rows where it contains each of these.")
    lacks: list[Text] | None = _texts("Keep rows where it contains none of these.")
