"""The API's documents as tables for people. Pure: from documents to text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Document = dict[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need; those of which all values are numbers stand to the right."""
    lines = [tuple(head), *(tuple(map(str, row)) for row in rows)]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [len(column) > 1 and all(cell.isdigit() for cell in column[1:]) for column in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def state(document: Document) -> str:
    return backends((upstream["name"], b) for upstream in document["upstreams"] for b in upstream["backends"])


def backends(found: Iterable[tuple[str, Document]]) -> str:
    head = ("BACKEND", "ADDRESS", "STATE", "WEIGHT", "ACTIVE", "IDLE", "QUEUE")
    return table(
        head,
        (
            (f"{up}/{b['name']}", b["address"], standing(b), b["weight"], b["active"], b["idle"], b["queue"])
            for up, b in found
        ),
    )


def standing(backend: Document) -> str:
    words = [backend["operational"]]
    if backend["administrative"] != "ready":
        words.append(backend["administrative"])
    if backend["ejected"]:
        words.append("ejected")
    return ", ".join(words)


def backend_line(backend: Document) -> str:
    return f"{standing(backend)}; connections in use: {backend['active']}"


def decisions(document: Document) -> str:
    return table(
        ("AGO", "CLIENT", "LISTENER", "UPSTREAM", "BACKEND"),
        ((f"{d['ago']:.1f} s", d["client"], d["listener"], d["upstream"], d["backend"] or "-")
         for d in document["decisions"]),
    )  # fmt: skip
