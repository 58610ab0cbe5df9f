"""Reads the curated dataset: the Parquet files that the curate stage's result.json names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from distillstages.common import reasons
from distillstages.common.artifacts import RESULT
from distillstages.common.exit import DataFault
from distillstages.common.result import Result

COLUMNS = ("id", "question", "thinking", "response")


def read_rows(uri: str) -> Iterator[dict[str, Any]]:
    """The rows (COLUMNS as strings) of a complete curate output folder, in the files' order.

    Raises DataFault DatasetNotFound (no folder, no result.json), FieldMissing, RowBroken (a file that is no Parquet),
    SourceEmpty.
    """
    import fsspec
    import pyarrow
    import pyarrow.parquet

    store, base = fsspec.core.url_to_fs(uri.rstrip("/"))
    try:
        result = Result.decode(store.cat_file(f"{base}/{RESULT}"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataFault(
            f"dataset {uri}: there is no {RESULT}, so no curation has completed there",
            reason=reasons.DATASET_NOT_FOUND,
        ) from None
    except ValueError as error:
        raise DataFault(f"dataset {uri}/{RESULT}: {error}", reason=reasons.DATASET_NOT_FOUND) from None
    folder = f"{base}/{result.outputs.get('dataset', 'dataset/')}".rstrip("/")
    paths = sorted(path for path in store.glob(f"{folder}/*.parquet"))
    if not paths:
        raise DataFault(f"dataset {uri}: {folder} holds no .parquet file", reason=reasons.DATASET_NOT_FOUND)
    for path in paths:
        try:
            with store.open(path, "rb") as file:
                parquet = pyarrow.parquet.ParquetFile(file)
                missing = [name for name in COLUMNS if name not in parquet.schema_arrow.names]
                if missing:
                    found = ", ".join(parquet.schema_arrow.names)
                    raise DataFault(
                        f"{path}: there is no column {missing[0]}, found {found}", reason=reasons.FIELD_MISSING
                    )
                for batch in parquet.iter_batches(columns=list(COLUMNS)):
                    yield from batch.to_pylist()
        except pyarrow.ArrowInvalid as error:
            raise DataFault(f"{path}: not a Parquet file: {error}", reason=reasons.ROW_BROKEN) from error
