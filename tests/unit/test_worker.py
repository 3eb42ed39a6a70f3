"""Worker: what no other part's tests see of it."""

from __future__ import annotations

import pytest

from tests.support.embedded import Embedded, backend


def test_a_second_of_lag_is_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    worker = Embedded(backend("127.0.0.1:1")).worker
    worker._lagged(0.99)
    assert not caplog.records
    worker._lagged(1.0)
    assert [record.getMessage() for record in caplog.records] == ["the event loop stood still for 1.0 s"]
