"""The graphs of etc/graphite/graphs.yaml: as pictures of graphite-web's, as a page, as a Grafana dashboard.

python loadtest/graphite_graphs.py     writes etc/graphite/grafana.json anew, after a change of graphs.yaml
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlencode

import yaml

DIRECTORY = Path(__file__).resolve().parent.parent / "etc" / "graphite"
GRAFANA = DIRECTORY / "grafana.json"
PICTURE = {"width": 640, "height": 320, "bgcolor": "white", "fgcolor": "#334155", "majorGridLineColor": "#cbd5e1",
           "minorGridLineColor": "#f1f5f9", "fontName": "DejaVu Sans", "fontSize": 11, "lineWidth": 2, "yMin": 0,
           "hideLegend": "false", "lineMode": "connected"}  # fmt: skip
PALETTE = ("#2563eb", "#16a34a", "#f59e0b", "#dc2626", "#7c3aed", "#0891b2", "#db2777", "#65a30d", "#475569")
AXIS = {"reqps": "per second", "cps": "per second", "Bps": "bytes per second", "ms": "ms"}  # by unit


@dataclass(frozen=True)
class Graph:
    title: str
    about: str
    unit: str  # as Grafana calls it
    targets: list[str]  # with $prefix
    stacked: bool = False
    steps: bool = False
    colors: dict[str, str] = field(default_factory=dict)  # by what a line is called

    def picture(self, prefix: str, minutes: int) -> str:
        """The query of /render that draws it."""
        colors = ",".join(self.colors.values() or PALETTE)
        options: dict[str, Any] = PICTURE | {"title": self.title, "colorList": colors, "from": f"-{minutes}min"}
        if self.unit in AXIS:
            options |= {"vtitle": AXIS[self.unit]}
        if self.stacked:
            options |= {"areaMode": "stacked", "lineWidth": 0}
        if self.steps:
            options |= {"lineMode": "staircase"}
        targets = [("target", Template(target).substitute(prefix=prefix)) for target in self.targets]
        return urlencode([*targets, *options.items()])


def load() -> dict[str, list[Graph]]:
    """The graphs by the heading under which they stand."""
    rows = yaml.safe_load((DIRECTORY / "graphs.yaml").read_text())
    return {row["row"]: [Graph(**graph) for graph in row["graphs"]] for row in rows}


def all_graphs() -> Iterator[Graph]:
    for graphs in load().values():
        yield from graphs


# --- a page ---------------------------------------------------------------------------

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>gproxy in Graphite</title>
<link rel="icon" href="data:,">
<style>
  body { background: #f1f5f9; color: #0f172a; font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 84rem;
         padding: 1rem }
  h1, h2 { font-size: 1.25rem; margin: 1rem 0 .5rem }
  h1 { font-size: 1.75rem }
  section { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)) }
  figure { background: #fff; border-radius: .4rem; margin: 0; padding: .75rem }
  img { aspect-ratio: 2; display: block; width: 100% }
  figcaption { color: #475569; font-size: .875rem }
</style>
<h1>gproxy in Graphite</h1>
<p>The last $minutes minutes, drawn anew every $seconds seconds. Times are UTC's.</p>
$rows
<script>
  setInterval(() => document.querySelectorAll("img").forEach((picture) => {
    if (picture.complete) picture.src = picture.src.replace(/&at=.*|$$/, "&at=" + Date.now())
  }), $seconds * 1000)
</script>
</html>
""")


def page(graphite: str, prefix: str, minutes: int, seconds: int) -> str:
    """All graphs, of what the graphite-web with the URL `graphite` has, drawn every `seconds`."""
    rows = "\n".join(_row(heading, graphs, graphite, prefix, minutes) for heading, graphs in load().items())
    return _PAGE.substitute(rows=rows, minutes=minutes, seconds=seconds)


def _row(heading: str, graphs: Sequence[Graph], graphite: str, prefix: str, minutes: int) -> str:
    figures = []
    for graph in graphs:
        link = escape(f"{graphite}/render?{graph.picture(prefix, minutes)}")
        figures.append(
            f'<figure><img src="{link}" alt="{escape(graph.title)}"><figcaption>{escape(graph.about)}</figcaption>'
            "</figure>"
        )
    return f"<h2>{escape(heading)}</h2>\n<section>\n" + "\n".join(figures) + "\n</section>"


# --- Grafana --------------------------------------------------------------------------

WIDTH, HEIGHT, COLUMNS = 8, 8, 3  # of a panel, on Grafana's grid of 24 columns
_DATASOURCE = {"type": "graphite", "uid": "${datasource}"}


def grafana() -> dict[str, Any]:
    """The dashboard. Who imports it chooses the data source and gproxy's prefix at its top."""
    return {
        "title": "gproxy",
        "uid": "gproxy",
        "tags": ["gproxy"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one cross-hair in all panels
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": list(_panels()),
    }


def _variables() -> list[dict[str, Any]]:
    default = {"text": "gproxy", "value": "gproxy"}
    return [
        {"name": "datasource", "label": "Graphite", "type": "datasource", "query": "graphite"},
        {"name": "prefix", "label": "statsd.prefix", "type": "textbox", "query": "gproxy", "current": default},
    ]


def _panels() -> Iterator[dict[str, Any]]:
    y, number = 0, 0
    for heading, graphs in load().items():
        number += 1
        yield {"id": number, "type": "row", "title": heading, "collapsed": False, "panels": [],
               "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}  # fmt: skip
        for i, graph in enumerate(graphs):
            number += 1
            row, column = divmod(i, COLUMNS)
            place = {"x": column * WIDTH, "y": y + 1 + row * HEIGHT, "w": WIDTH, "h": HEIGHT}
            yield _panel(number, graph, place)
        y += 1 + -(-len(graphs) // COLUMNS) * HEIGHT


def _panel(number: int, graph: Graph, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + i), "datasource": _DATASOURCE, "target": target, "textEditor": True}
        for i, target in enumerate(graph.targets)
    ]
    custom = {
        "drawStyle": "bars" if graph.steps else "line",
        "stacking": {"mode": "normal" if graph.stacked else "none"},
        "fillOpacity": 60 if graph.stacked or graph.steps else 0,
        "spanNulls": False,
        "showPoints": "never",
    }
    colors = [
        {"matcher": {"id": "byName", "options": name},
         "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}
        for name, color in graph.colors.items()
    ]  # fmt: skip
    return {
        "id": number,
        "type": "timeseries",
        "title": graph.title,
        "description": graph.about,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": graph.unit, "min": 0, "custom": custom}, "overrides": colors},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def grafana_text() -> str:
    return json.dumps(grafana(), indent=1) + "\n"


# --- names ----------------------------------------------------------------------------


def names(target: str) -> list[str]:
    """The metrics that a target draws: `c requests.*` is a counter with any one node for the star, `g` a gauge."""
    found = re.findall(r"stats\.(counters|gauges)\.\$prefix\.([^,()]+)", target)
    return [f"{kind[0]} {path.removesuffix('.count') if kind == 'counters' else path}" for kind, path in found]


if __name__ == "__main__":
    GRAFANA.write_text(grafana_text())
