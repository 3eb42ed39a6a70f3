"""Trailers that are forwarded, and those that only a head may hold. Heads: test_forward_*.py."""

from __future__ import annotations

import pytest

from gproxy.core.http.end_to_end import end_to_end_trailers
from gproxy.core.http.fields import Fields
from gproxy.core.http.options import ForwardOptions


def forwarded(*names: bytes, options: ForwardOptions | None = None) -> list[bytes]:
    trailers = Fields((name, b"x") for name in names)
    ruled = (options or ForwardOptions()).request_ruled
    return [name for name, _ in end_to_end_trailers(trailers, ruled).lines]


def test_trailers_are_forwarded_as_they_came() -> None:
    assert forwarded(b"Digest", b"grpc-status", b"Digest") == [b"Digest", b"grpc-status", b"Digest"]


@pytest.mark.parametrize(
    "name",
    [
        b"Content-Length", b"Transfer-Encoding", b"transfer_encoding", b"Host", b"Connection", b"Trailer", b"Expect",
        b"Authorization", b"Cookie", b"Set-Cookie", b"X-Forwarded-For", b"X_Forwarded_Proto", b"Forwarded",
        b"X-Request-ID", b"Content-Type", b"Content-Encoding", b"TE", b"Upgrade", b"Keep-Alive",
    ],
)  # fmt: skip
def test_what_only_a_head_may_hold_is_dropped(name: bytes) -> None:
    assert forwarded(b"A", name, b"B") == [b"A", b"B"]


def test_a_trailer_is_no_way_round_a_rule() -> None:
    rules = ForwardOptions(request_set=((b"X-User", b"nobody"),), request_remove=frozenset({b"x-role"}))
    assert forwarded(b"x-user", b"X_Role", b"Digest", options=rules) == [b"Digest"]
