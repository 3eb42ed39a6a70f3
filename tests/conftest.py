"""For all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.support.compiled import stale
from tests.support.reliability import Collector

settings.register_profile("gproxy", deadline=None)  # machines are busy: a test never asserts a time
settings.load_profile("gproxy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-docs", action="store_true", help="write the tables in docs/ that come of tests")


def pytest_configure(config: pytest.Config) -> None:
    if old := stale():
        raise pytest.UsageError(f"compiled before its source was changed: {old[0]}; run sh etc/bootstrap.sh compile")
    if config.getoption("write_docs") and not hasattr(config, "workerinput"):  # not in xdist's workers
        config.pluginmanager.register(Collector())
