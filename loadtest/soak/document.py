"""A report as a section of the manual: what was done, what was checked, and the memory curve as a picture."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- from a report of loadtest/chaos.py -->", "<!-- end of the report -->"
PICTURE = "chaos-memory.svg"
_WIDTH, _HEIGHT, _MARGIN = 720, 260, 44  # pixels
_ROLES = {"workers": "#1f77b4", "steward": "#2ca02c", "master": "#d62728"}
_INVARIANTS = {
    "clients": "no answer was anybody else's, no connection was refused, nobody waited for ever",
    "ledger": "executed was what was asked, as a whole, POST and tcp once at most; what was answered was executed",
    "exactly once while calm": "while nothing was broken, all was executed exactly once, and answered",
    "counters": "gproxy's counters agreed exactly with those of clients and backends",
    "totals": "what StatsD was told in the whole run agrees with the ledger, but for what a crash may lose",
    "at rest": "sessions, queues and old processes had gone; every backend served",
    "holdings": "descriptors, watchers and greenlets of each process were what they had been",
    "memory": "no process grew from rest to rest",
    "log": "no traceback, nothing hung",
    "end": "SIGTERM ended all of it in time",
}


def section(report: Mapping[str, Any], picture: str) -> str:
    """Markdown. `picture`: where the memory curve is, as a link."""
    requests, faults = report["requests"], report["faults"]
    answered = sum(count for told, count in requests.items() if told.endswith(" good"))
    lines = [
        f"Seed {report['seed']}, {report['seconds'] / 60:.0f} minutes, {report['cycles']} cycles: "
        f"{sum(requests.values()):,} requests, of which {answered:,} were answered in full and "
        f"{sum(requests.values()) - answered:,} met a fault or a client that left; {sum(faults.values()):,} faults; "
        f"{sum(report['checked'].values()):,} checks, {len(report['violations'])} violations.",
        "",
        *_table(("fault", "times"), sorted(faults.items(), key=lambda pair: -pair[1])),
        "",
        *_table(("what clients did", "times"), _actions(report["actions"])),
        "",
        *_table(("invariant", "checked"), _checked(report["checked"])),
        "",
        f"![Resident memory of gproxy's processes over the run]({picture})",
        "",
        f"Resident memory, every few seconds: {'; '.join(_spans(report['curve']))}. "
        f"{report['judged']} processes lived long enough for a verdict on their trend.",
    ]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[tuple[str, int]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---|---|"
    for name, count in rows:
        yield f"| {name} | {count:,} |"


def _actions(actions: Mapping[str, int]) -> list[tuple[str, int]]:
    moves = {name.replace("_", " "): count for name, count in actions.items() if "answered" not in name}
    return sorted(moves.items(), key=lambda pair: -pair[1])


def _checked(checked: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(_INVARIANTS[name], checked[name]) for name in _INVARIANTS if name in checked]


# The memory curve.


def role_of(name: str) -> str:
    """Workers that drain are workers."""
    return name if name in _ROLES else "workers"


def largest(curve: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[tuple[float, int]]]:
    """By role: seconds, and the resident bytes of its largest process."""
    found: dict[str, list[tuple[float, int]]] = {role: [] for role in _ROLES}
    for point in curve:
        by_role: dict[str, int] = {}
        for each in point:
            role = role_of(each["name"])
            by_role[role] = max(by_role.get(role, 0), each["resident"])
        for role, resident in by_role.items():
            found[role].append((point[0]["seconds"], resident))
    return found


def _spans(curve: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    for role, points in largest(curve).items():
        sizes = [size / 1e6 for _, size in points]
        if sizes:
            yield f"{role} {min(sizes):.0f} to {max(sizes):.0f} MB, at the end {sizes[-1]:.0f} MB"


def svg(curve: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """The largest process of each role, over minutes."""
    lines = largest(curve)
    ends = [points[-1][0] for points in lines.values() if points]
    width, height = max(ends, default=1.0), max((s for points in lines.values() for _, s in points), default=1) * 1.1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        *_axes(width, height),
    ]
    for number, (role, points) in enumerate(lines.items()):
        path = " ".join(f"{_x(second, width):.1f},{_y(size, height):.1f}" for second, size in points)
        parts.append(f'<polyline fill="none" stroke="{_ROLES[role]}" stroke-width="1.2" points="{path}"/>')
        label = f"largest of the {role}" if role == "workers" else role
        parts.append(f'<text x="{_MARGIN + 8 + number * 130}" y="14" fill="{_ROLES[role]}">{label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes(seconds: float, size: float) -> Iterator[str]:
    bottom, right = _HEIGHT - _MARGIN / 2, _WIDTH - _MARGIN / 2
    for step in range(5):
        value = size * step / 4
        y = _y(value, size)
        yield f'<line x1="{_MARGIN}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{_MARGIN - 4}" y="{y + 4:.1f}" text-anchor="end">{value / 1e6:.0f} MB</text>'
    for step in range(7):
        x = _x(seconds * step / 6, seconds)
        minutes = round(seconds * step / 360, 1)
        yield f'<text x="{x:.1f}" y="{bottom + 14:.1f}" text-anchor="middle">{minutes:g} min</text>'


def _x(second: float, width: float) -> float:
    return _MARGIN + (_WIDTH - 1.5 * _MARGIN) * second / width


def _y(size: float, height: float) -> float:
    return _HEIGHT - _MARGIN / 2 - (_HEIGHT - _MARGIN) * size / height


def write(report: Mapping[str, Any], page: Path) -> None:
    """Put the section between its marks in the page, and the picture beside it. ValueError where there are no marks."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r}")
    new = f"{BEGIN}\n\n{section(report, PICTURE)}\n\n{END}"
    page.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _match: new, text, flags=re.DOTALL))
    page.with_name(PICTURE).write_text(svg(report["curve"]))
