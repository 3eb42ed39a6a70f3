"""Whether a connection may carry another request after an exchange."""

from __future__ import annotations

from itertools import product

import pytest

from gproxy.core.reuse import ExchangeEnd, safe_objection

CLEAN = ExchangeEnd(
    response_done=True, request_done=True, leftover=False, backend_keeps=True, until_close=False, upgraded=False
)


def test_a_clean_end_has_nothing_against_it() -> None:
    assert safe_objection(CLEAN) is None


@pytest.mark.parametrize(
    ("change", "objection"),
    [
        ({"response_done": False}, "the response is not complete"),
        ({"request_done": False}, "the request was not sent whole"),
        ({"leftover": True}, "bytes came after the response"),
        ({"backend_keeps": False}, "the backend wants to close it"),
        ({"until_close": True}, "its end was the response's end"),
        ({"upgraded": True}, "it was upgraded"),
    ],
)
def test_each_thing_against_it_suffices(change: dict[str, bool], objection: str) -> None:
    assert safe_objection(CLEAN._replace(**change)) == objection


def test_only_the_clean_end_is_safe() -> None:
    ends = [ExchangeEnd(*values) for values in product([True, False], repeat=6)]
    assert [end for end in ends if safe_objection(end) is None] == [CLEAN]
