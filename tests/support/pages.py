"""The fenced blocks of README.md and docs/*.md, which tests load and run.

A comment before a block says what it is, where it does not stand by itself:

    <!-- test: fragment of upstreams.app -->    YAML that stands there in a configuration
    <!-- test: file NAME -->                    is saved under that name, for the commands that follow
    <!-- test: run with A as B -->              a program in which one word is another
    <!-- test: prometheus -->                   YAML for Prometheus, not for gproxy; haproxy and nginx likewise
    <!-- test: skip, because ... -->            nothing can be done with it
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.proxy import TOP

_FENCE = re.compile(r"```(\w*)$")
_MARK = re.compile(r"<!-- test: (.+) -->$")


@dataclass(frozen=True)
class Block:
    page: str
    line: int  # of its first line
    language: str
    text: str
    mark: str  # "" for none

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def argument(self, kind: str) -> str | None:
        """What the mark says behind this word, or None where it is another mark."""
        return self.mark.removeprefix(kind).strip() if self.mark.split(" ")[0].rstrip(",") == kind else None

    @property
    def skipped(self) -> bool:
        return self.mark.startswith("skip")


def pages() -> list[str]:
    return ["README.md", *sorted(f"docs/{path.name}" for path in (TOP / "docs").glob("*.md"))]


def blocks(language: str = "") -> list[Block]:
    """All of a language, or all, page by page."""
    found = [block for page in pages() for block in blocks_of(page)]
    return [block for block in found if language in ("", block.language)]


def blocks_of(page: str) -> list[Block]:
    return list(_blocks(page, (TOP / page).read_text()))


def _blocks(page: str, text: str) -> Iterator[Block]:
    lines = enumerate(text.splitlines(), 1)
    mark = ""
    for number, line in lines:
        if found := _MARK.match(line):
            mark = found[1]
        elif fence := _FENCE.match(line):
            yield Block(page, number + 1, fence[1], _rest(lines), mark)
            mark = ""
        else:
            assert not (mark and line), f"{page}:{number}: the mark before it is for a block"


def _rest(lines: Iterator[tuple[int, str]]) -> str:
    inside = []
    for _, line in lines:
        if line == "```":
            break
        inside.append(line + "\n")
    return "".join(inside)


def copy_checkout(directory: Path) -> None:
    """What a checkout has after etc/bootstrap.sh, to run commands in."""
    for name in ("etc", "gproxy", "loadtest", "docs", "tests", "setup.py", "tox.ini", "README.md"):
        source = TOP / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(source, directory)
    (directory / ".venv").symlink_to(sys.prefix)
