"""Writes a comparison into a page: tables and plots between two markers, and all else beside it.

docs/performance.md gets docs/performance/costs.svg and so on, and docs/performance/configurations.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plots
from processes import MissingToolError
from report import RowResult, latency_table, markdown, workers_table

BEGIN = "<!-- Between these marks compare.py --write has the word. -->"
END = "<!-- The word is yours again. -->"


def check_page(page: Path) -> None:
    """Before the hour of measuring: MissingToolError unless the page has the two markers."""
    try:
        text = page.read_text()
    except OSError as error:
        raise MissingToolError(f"can't read {page}: {error}") from error
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise MissingToolError(f"{page} needs two lines between which to write: {BEGIN} and {END}")


def write(page: Path, results: Sequence[RowResult], facts: dict[str, str], configurations: str) -> None:
    beside = page.with_suffix("")
    beside.mkdir(exist_ok=True)
    (beside / "configurations.md").write_text(configurations)
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{generated(beside, results, facts)}\n\n{END}{after}")


def generated(beside: Path, results: Sequence[RowResult], facts: dict[str, str]) -> str:
    costs = [each for each in results if not each.row.of_latency and each.row.workers is None]
    latencies = [each for each in results if each.row.of_latency]
    timed = [each for each in results if each.has_figures]
    workers = [each for each in results if each.row.workers is not None]
    parts = [
        "\n".join(f"- {name}: {value}" for name, value in facts.items()),
        f"The exact [configurations]({beside.name}/configurations.md) of all.",
    ]
    if costs:
        parts += ["### Costs", *picture(beside, "costs", plots.costs(costs)), markdown(costs)]
    if timed:
        parts += ["### Latency", *picture(beside, "latency", plots.latencies(latencies)), latency_table(timed)]
    if workers:
        parts += ["### More workers", *picture(beside, "workers", plots.workers(workers)), workers_table(workers)]
    return "\n\n".join(parts)


def picture(beside: Path, name: str, svg: str | None) -> list[str]:
    """The file, and the line that shows it."""
    if svg is None:
        return []
    (beside / f"{name}.svg").write_text(svg)
    return [f"![{name}]({beside.name}/{name}.svg)"]
