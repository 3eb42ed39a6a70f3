"""What many unit tests begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clock import FakeClock
from tests.support.loopback import PlayedBackend


@pytest.fixture
def played() -> Iterator[PlayedBackend]:
    """A backend whose every byte the test sends and reads itself."""
    with PlayedBackend() as played:
        yield played


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
