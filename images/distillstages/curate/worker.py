"""The worker of the curate stage; `python -m distillstages.curate` starts and watches it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from distillstages.common.worker import Context, run
from distillstages.curate.curation import Curation


def body(context: Context) -> Mapping[str, Any]:
    """Curate; returns the headline numbers. Raises StageError."""
    return asyncio.run(Curation(context).run())


if __name__ == "__main__":
    run("curate", body, graceful=True)
