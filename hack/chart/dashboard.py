"""Writes Grafana's dashboard into the chart: ``python3 -m hack.chart.dashboard --write`` (or ``--check``).

Standard library only. What is on it: panels.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hack.chart.panels import ROWS, Panel

TARGET = Path(__file__).resolve().parents[2] / "charts/distillrun/files/dashboard.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 8, 8
"""A panel's size in Grafana's grid, which is 24 wide."""


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row, members in ROWS.items():
        place = {"x": 0, "y": top, "w": 24, "h": 1}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": row, "collapsed": False, "gridPos": place, "panels": []}
        )
        top += 1
        for number, panel in enumerate(members):
            column, line = number % (24 // WIDTH), number // (24 // WIDTH)
            place = {"x": column * WIDTH, "y": top + line * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append({"id": len(panels) + 1, "gridPos": place, **drawn(panel)})
        top += -(-len(members) // (24 // WIDTH)) * HEIGHT
    return {
        "title": "DistillRun",
        "uid": "distillrun",
        "tags": ["distillrun"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": variables()},
        "panels": panels,
    }


def drawn(panel: Panel) -> dict[str, Any]:
    """A panel, less its place."""
    custom = {"stacking": {"mode": "normal" if panel.stacked else "none"}, "fillOpacity": 20 if panel.stacked else 0}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, **({"custom": custom} if panel.kind == "timeseries" else {})},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }


def variables() -> list[dict[str, Any]]:
    """What the reader chooses: where the metrics are, and which namespaces' runs."""
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {
            "name": "namespace",
            "type": "query",
            "label": "Namespace",
            "datasource": SOURCE,
            "query": {"query": "label_values(distillrun_runs, namespace)", "refId": "namespaces"},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        },
    ]


def main(argv: list[str]) -> int:
    """The exit code: 1 when --check finds that the file is not what this program would write."""
    text = json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"
    if argv == ["--write"]:
        TARGET.write_text(text)
        return 0
    if argv == ["--check"]:
        if TARGET.exists() and TARGET.read_text() == text:
            return 0
        print(f"{TARGET} is out of date: run `make generate`", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
