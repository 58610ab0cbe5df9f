"""The worker of the curate stage; `python -m distillstages.curate` starts and watches it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from distillstages.common.worker import Context, run
from distillstages.curate.conversion import Conversion
from distillstages.curate.curation import Curation


def body(context: Context) -> Mapping[str, Any]:
    """Curate; returns the headline numbers. Raises StageError."""
    assert context.config.curate is not None
    if context.config.curate.dataset is not None:
        return Conversion(context).run()
    return asyncio.run(Curation(context).run())


if __name__ == "__main__":
    run("curate", body, graceful=True)
