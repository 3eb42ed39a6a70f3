"""The configurations that a comparison has used, as it used them, but with names in the place of ports and folders."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from processes import BenchError
from proxies import REPOSITORY, Direct, Kind

PORT = re.compile(r"(?<=:)\d{4,5}\b|(?<=\bb)\d{4,5}\b")  # HAProxy's servers are named after theirs
EMPTY = re.compile(r"^\s*\n", re.MULTILINE)
HEADING = """\
# Configurations of the comparison

Written by `loadtest/compare.py --write`. `DIR` is a folder in memory, `P1` and so on are ports. What the proxies have
in common is said in [loadtest/configs.py](../../loadtest/configs.py).
"""


class Configurations:
    """Each different one, and the rows that it was for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._rows: dict[tuple[str, str], list[str]] = {}  # by title and text
        self._command: dict[str, str] = {}

    def note(self, row: str, kind: Kind) -> None:
        """After the kind has run for the row: its file is there."""
        path = self._directory / f"{kind.name}.conf"
        if isinstance(kind, Direct) or not path.exists():
            return
        self._command[kind.name] = self._named(shlex.join(kind.command(path)))
        rows = self._rows.setdefault((kind.name, self._named(path.read_text())), [])
        if row not in rows:
            rows.append(row)

    def note_origin(self) -> None:
        try:
            text = (self._directory / "origin.conf").read_text()
        except OSError as error:
            raise BenchError(f"the origin has no configuration: {error}") from error
        self._rows["the origin (nginx)", self._named(text)] = ["all but idle"]

    def markdown(self) -> str:
        parts = [HEADING]
        for name in dict.fromkeys(title for title, _ in self._rows):
            parts.append(f"## {name}\n")
            if name in self._command:
                parts.append(f"    {self._command[name]}\n")
            parts += [
                f"{', '.join(rows)}:\n\n```text\n{text.strip()}\n```\n"
                for (title, text), rows in self._rows.items()
                if title == name
            ]
        return "\n".join(parts)

    def _named(self, text: str) -> str:
        for path, name in ((self._directory, "DIR"), (REPOSITORY, "."), (sys.executable, "python")):
            text = text.replace(str(path), name)
        ports = {port: f"P{number}" for number, port in enumerate(dict.fromkeys(PORT.findall(text)), 1)}
        return PORT.sub(lambda found: ports[found[0]], EMPTY.sub("", text))
