"""From samples to medians, ratios, verdicts, a Markdown table and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from measure import Row, Sample

JUDGED = "gproxy"

Outcome = Sample | str  # a str says why there is no sample


@dataclass
class RowResult:
    """One row: by proxy, the outcome of each round, in order."""

    row: Row
    rounds: dict[str, list[Outcome]] = field(default_factory=dict)

    def add(self, proxy: str, outcome: Outcome) -> None:
        self.rounds.setdefault(proxy, []).append(outcome)

    def cost(self, proxy: str) -> float | None:
        costs = [each.cost for each in self.rounds[proxy] if isinstance(each, Sample)]
        return statistics.median(costs) if costs else None

    def spread(self, proxy: str) -> tuple[float, float] | None:
        costs = [each.cost for each in self.rounds[proxy] if isinstance(each, Sample)]
        return (min(costs), max(costs)) if costs else None

    def figure(self, proxy: str, name: str) -> float | None:
        """The median over the rounds."""
        found = [each.figures[name] for each in self.rounds[proxy] if isinstance(each, Sample) and name in each.figures]
        return statistics.median(found) if found else None

    def rate(self, proxy: str) -> float | None:
        """Units of work per second, the median over the rounds."""
        rates = [each.work / each.seconds for each in self.rounds[proxy] if isinstance(each, Sample)]
        return statistics.median(rates) if rates else None

    @property
    def has_figures(self) -> bool:
        return any(self.figure(proxy, "p50") is not None for proxy in self.rounds)

    def ratio(self, proxy: str) -> float | None:
        """Median of the ratios within each round: neighbours in time share the machine's mood."""
        pairs = zip(self.rounds[proxy], self.rounds.get(self.row.baseline, []), strict=False)
        ratios = [a.cost / b.cost for a, b in pairs if isinstance(a, Sample) and isinstance(b, Sample) and b.cost > 0]
        return statistics.median(ratios) if ratios else None

    def invalid(self, proxy: str) -> list[str]:
        return [each for each in self.rounds[proxy] if isinstance(each, str)]

    def verdict(self, proxy: str) -> str:
        """Budgets are gproxy's; a round that failed fails the row, however good the others were."""
        if self.invalid(proxy):
            return "INVALID"
        ratio = self.ratio(proxy)
        if proxy != JUDGED or ratio is None:
            return "-"
        if self.row.must is None or self.row.goal is None:
            return "-"
        if ratio <= self.row.goal:
            return "goal"
        return "must" if ratio <= self.row.must else "OVER"


def _number(value: float | None, pattern: str = "{:.1f}") -> str:
    return "-" if value is None else pattern.format(value)


def _line(result: RowResult, proxy: str) -> str:
    spread = result.spread(proxy)
    cells = (
        result.row.title,
        result.row.unit,
        proxy,
        _number(result.cost(proxy)),
        f"{spread[0]:.1f}-{spread[1]:.1f}" if spread else "-",
        _number(result.ratio(proxy), "{:.2f}"),
        _number(result.row.must, "{:.2f}"),
        _number(result.row.goal, "{:.2f}"),
        result.verdict(proxy),
    )
    return f"| {' | '.join(cells)} |"


def markdown(results: Sequence[RowResult]) -> str:
    """The table, and below it each measurement that doesn't count, with its reason."""
    lines = [
        "| work | unit | proxy | median | min-max | ratio | must | goal | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(result, proxy) for result in results for proxy in result.rounds]
    return "\n".join([*lines, *_notes(results)])


def _notes(results: Sequence[RowResult]) -> list[str]:
    notes = [
        f"- {result.row.name}, {proxy}, {reason}"
        for result in results
        for proxy in result.rounds
        for reason in dict.fromkeys(result.invalid(proxy))
    ]
    return ["", "Invalid measurements:", "", *notes] if notes else []


def latency_table(results: Sequence[RowResult]) -> str:
    """Milliseconds; and below it each measurement that doesn't count."""
    lines = [
        "| load | proxy | p50 | p90 | p99 | p99.9 | max | of the p99, the generator's own lateness |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for proxy in result.rounds:
            figures = [result.figure(proxy, name) for name in ("p50", "p90", "p99", "p999", "max", "late")]
            cells = [_number(None if each is None else each / 1000, "{:.2f}") for each in figures]
            lines.append(f"| {result.row.title} | {proxy} | {' | '.join(cells)} |")
    return "\n".join([*lines, *_notes([each for each in results if each.row.of_latency])])


def workers_table(results: Sequence[RowResult]) -> str:
    lines = ["| workers | proxy | requests/s | CPU us/request |", "|---|---|---|---|"]
    for result in results:
        for proxy in result.rounds:
            rate, cost = _number(result.rate(proxy), "{:.0f}"), _number(result.cost(proxy))
            lines.append(f"| {result.row.workers} | {proxy} | {rate} | {cost} |")
    return "\n".join([*lines, *_notes(results)])


def as_json(results: Sequence[RowResult]) -> list[dict[str, Any]]:
    return [
        {
            "row": result.row.name,
            "unit": result.row.unit,
            "baseline": result.row.baseline,
            "must": result.row.must,
            "goal": result.row.goal,
            "proxies": {proxy: _proxy_json(result, proxy) for proxy in result.rounds},
        }
        for result in results
    ]


def _proxy_json(result: RowResult, proxy: str) -> dict[str, Any]:
    return {
        "median": result.cost(proxy),
        "ratio": result.ratio(proxy),
        "verdict": result.verdict(proxy),
        "rounds": [asdict(each) if isinstance(each, Sample) else {"invalid": each} for each in result.rounds[proxy]],
    }


def passed(results: Sequence[RowResult]) -> bool:
    """No row over its must, and no measurement invalid."""
    return all(result.verdict(proxy) not in ("OVER", "INVALID") for result in results for proxy in result.rounds)
