"""The three pictures of a comparison: costs beside HAProxy, latencies, and what more workers bring."""

from __future__ import annotations

from collections.abc import Sequence

from report import RowResult
from svg import Scale, around, legend, line, mark, number, page, path, text

WIDTH = 820.0
LABELS = 290.0  # for the names of the rows
ROW_HEIGHT = 24.0
LEAST_RATIO = 0.2  # what is below stands at the edge: nearly nothing would leave no place for the others
PANEL = (190.0, 170.0)  # width and height
SHOWN = {"p50": "50", "p90": "90", "p99": "99", "p999": "99.9", "max": "max"}


def names_in(results: Sequence[RowResult]) -> list[str]:
    return list(dict.fromkeys(proxy for result in results for proxy in result.rounds))


def costs(results: Sequence[RowResult]) -> str | None:
    """Each row a line, each proxy a mark at its ratio to the row's baseline. None without such rows."""
    ratios = [ratios_of(result) for result in results]
    values = [ratio for row in ratios for ratio in row.values()]
    if not values:
        return None
    height = 96 + ROW_HEIGHT * len(results)
    scale = around([max(LEAST_RATIO, value) for value in (*values, 0.5, 2.0)], LABELS, WIDTH - 20)
    parts = [
        text(16, 24, "Cost as a ratio to HAProxy's (where it says against Caddy, to Caddy's): less is better", "title")
    ]
    parts += legend(22, 48, names_in(results))
    parts += [line(WIDTH - 145, 38, WIDTH - 145, 52, "budget"), text(WIDTH - 138, 48, "gproxy's budget")]
    for tick in scale.ticks((1, 2, 5)):
        parts.append(line(scale(tick), 60, scale(tick), height - 30, "base" if tick == 1 else "grid"))
        parts.append(text(scale(tick), height - 14, number(tick), "soft", "middle"))
    for index, (result, row) in enumerate(zip(results, ratios, strict=True)):
        y = 76 + ROW_HEIGHT * index
        parts.append(text(LABELS - 12, y + 4, result.row.title, anchor="end"))
        if result.row.must:
            parts.append(line(scale(result.row.must), y - 8, scale(result.row.must), y + 8, "budget"))
        parts += [mark(scale(ratio), y, name, f"{name}: {ratio:.2f}") for name, ratio in row.items()]
    return page(WIDTH, height, parts)


def ratios_of(result: RowResult) -> dict[str, float]:
    found = {name: result.ratio(name) for name in result.rounds}
    return {name: ratio for name, ratio in found.items() if ratio}


def latencies(results: Sequence[RowResult]) -> str | None:
    """A panel for each row: the percentiles from left to right, the time upwards. None without such rows."""
    values = [figure for result in results for figures in figures_of(result).values() for figure in figures]
    if not values:
        return None
    columns = min(4, len(results))
    lines = -(-len(results) // columns)
    width, height = 60 + (PANEL[0] + 10) * columns, 70 + (PANEL[1] + 70) * lines
    width = max(width, 700.0)
    parts = [text(16, 24, "Latency in ms, by percentile: less is better", "title"), *legend(22, 48, names_in(results))]
    for index, result in enumerate(results):
        left = 50 + (PANEL[0] + 10) * (index % columns)
        top = 90 + (PANEL[1] + 70) * (index // columns)
        parts += panel(result, left, around(values, top + PANEL[1], top), labelled=index % columns == 0)
    return page(width, height, parts)


def panel(result: RowResult, left: float, scale: Scale, labelled: bool) -> list[str]:
    right, step = left + PANEL[0] - 20, (PANEL[0] - 40) / (len(SHOWN) - 1)
    parts = [text(left, scale.end - 10, result.row.title)]
    for tick in scale.ticks((1,)):
        parts.append(line(left, scale(tick), right, scale(tick)))
        if labelled:
            parts.append(text(left - 6, scale(tick) + 4, f"{tick / 1000:g}", "soft", "end"))
    for place, label in enumerate(SHOWN.values()):
        parts.append(text(left + 10 + step * place, scale.start + 16, label, "soft", "middle"))
    for name, figures in figures_of(result).items():
        points = [(left + 10 + step * place, scale(value)) for place, value in enumerate(figures)]
        parts.append(path(points, name))
        hints = zip(points, SHOWN.values(), figures, strict=True)
        parts += [mark(x, y, name, f"{name}, {label}: {value / 1000:.2f} ms") for (x, y), label, value in hints]
    return parts


def figures_of(result: RowResult) -> dict[str, list[float]]:
    """Microseconds, in the order of SHOWN."""
    found = {name: [result.figure(name, percentile) for percentile in SHOWN] for name in result.rounds}
    return {name: [value for value in row if value] for name, row in found.items() if all(row)}


def workers(results: Sequence[RowResult]) -> str | None:
    """Requests per second by workers. None without such rows."""
    rates = {name: rates_of(name, results) for name in names_in(results)}
    values = [rate for row in rates.values() for _, rate in row]
    if not values:
        return None
    counts = [result.row.workers or 1 for result in results]
    across = Scale(min(counts) * 0.9, max(counts) * 1.1, 70, 400)
    scale = around(values, 230, 70)
    parts = [text(16, 24, "Requests per second, by workers", "title"), *legend(22, 48, names_in(results))]
    for tick in scale.ticks((1, 2, 3, 5, 7)):
        parts += [line(70, scale(tick), 400, scale(tick)), text(62, scale(tick) + 4, number(tick), "soft", "end")]
    parts += [text(across(count), 250, str(count), "soft", "middle") for count in counts]
    for name, row in rates.items():
        points = [(across(count), scale(rate)) for count, rate in row]
        parts.append(path(points, name))
        parts += [mark(x, y, name, f"{name}: {rate:.0f}/s") for (x, y), (_, rate) in zip(points, row, strict=True)]
    return page(420, 264, parts)


def rates_of(name: str, results: Sequence[RowResult]) -> list[tuple[int, float]]:
    found = [(result.row.workers or 1, result.rate(name)) for result in results if name in result.rounds]
    return [(count, rate) for count, rate in found if rate]
