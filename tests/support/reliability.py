"""The table of faults in docs/reliability.md: each test of a fault reports what it saw, `--write-docs` writes it down.

@pytest.mark.fault("a backend is killed")
def test_killed(reliability_row, ...):
    ...
    reliability_row(sees="...", took=0.5, bound="`response_timeout` 0.5 s", others=bystander.verdict(), heals="...")
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.generated import read_section, table, write_section
from tests.support.proxy import TOP

PAGE, SECTION = "docs/reliability.md", "faults"
HEADS = ("fault", "the client sees", "after", "who else suffers", "how it heals")
_MARK = re.compile(r'^@pytest\.mark\.fault\("(.+)"\)$', re.MULTILINE)
_ROW = re.compile(r"^\| (.+?) \|", re.MULTILINE)
_PROPERTY = "reliability"


def fault_names() -> list[str]:
    """Of all tests, in their order."""
    files = sorted((TOP / "tests/faults").glob("test_*.py"))
    return [name for file in files for name in _MARK.findall(file.read_text())]


def names_on_the_page() -> list[str]:
    return _ROW.findall(read_section(PAGE, SECTION))[2:]  # without the head of the table


class Reporter:
    """What a test calls with its row."""

    def __init__(self, node: pytest.Item):
        marker = node.get_closest_marker("fault")
        assert marker, "a test of a fault has a mark with its name"
        self._name = marker.args[0]
        self._node = node
        self.reported = False

    def __call__(self, *, sees: str, took: float | str, bound: str = "", others: str, heals: str) -> None:
        """`took` in seconds, as the client saw it; `bound`: which timeout says so."""
        after = took if isinstance(took, str) else _seconds(took)
        row = [self._name, sees, f"{after} ({bound})" if bound else after, others, heals]
        self._node.user_properties.append((_PROPERTY, json.dumps(row)))
        self.reported = True


def _seconds(took: float) -> str:
    return f"{took:.1f} s" if took >= 0.095 else f"{max(took, 0.001) * 1000:.0f} ms"


class Collector:
    """A plug-in of pytest's main process: it gathers the rows of all tests, and writes the table at the end."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == _PROPERTY:
                    row = json.loads(str(value))
                    self._rows[row[0]] = row

    def pytest_sessionfinish(self) -> None:
        """Rows of faults that were not tried this time stay as they are."""
        if self._rows:
            old = dict(_old_rows())
            found = [self._rows.get(name) or old.get(name) for name in fault_names()]
            write_section(PAGE, SECTION, table(HEADS, [row for row in found if row]))


def _old_rows() -> Iterator[tuple[str, list[str]]]:
    for line in read_section(PAGE, SECTION).splitlines()[2:]:
        cells = [cell.replace(r"\|", "|") for cell in re.split(r"(?<!\\) ?\| ?", line)[1:-1]]
        yield cells[0], cells
