"""For all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("gproxy", deadline=None)  # machines are busy: a test never asserts a time
settings.load_profile("gproxy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-docs", action="store_true", help="write the tables in docs/ that come of tests")
