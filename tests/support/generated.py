"""Tables in the documents that tests write: `pytest --write-docs` puts them there, any other run compares.

A table stands between two lines of a page:

    <!-- NAME: written by TEST -->
    <!-- end of NAME -->
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.support.proxy import TOP


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def read_section(page: str, name: str) -> str:
    """What stands there now."""
    return _find((TOP / page).read_text(), page, name)[2]


def write_section(page: str, name: str, text: str) -> None:
    path: Path = TOP / page
    before = path.read_text()
    found = _find(before, page, name)
    path.write_text(before[: found.start(2)] + text + before[found.end(2) :])


def _find(text: str, page: str, name: str) -> re.Match[str]:
    found = re.search(rf"(?s)(<!-- {name}: [^\n]*-->\n)(.*?)(<!-- end of {name} -->)", text)
    assert found, f"{page} has no place for {name}"
    return found
