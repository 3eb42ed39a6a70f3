"""Cookies as browsers send them, the cookie of a sticky session, and the keys of `balance: hash`."""

from __future__ import annotations

import pytest

from gproxy.core.http.cookies import cookie_value, hash_key, set_cookie, sticky_token
from gproxy.core.http.fields import Fields
from gproxy.core.settings import StickySettings


def cookies(*lines: bytes) -> Fields:
    return Fields((b"Cookie", line) for line in lines)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"sid=1", b"1"),
        (b"a=0; sid=1; b=2", b"1"),
        (b"a=0;sid=1;b=2", b"1"),
        (b"a=0;\tsid = 1 ;", b"1"),
        (b'sid="1"', b"1"),
        (b'sid="', b'"'),
        (b"sid=a=b", b"a=b"),
        (b"sid=", b""),
        (b"sid=1; sid=2", b"1"),
        (b"xsid=0; sid=1", b"1"),
    ],
)
def test_a_cookie_is_found(line: bytes, value: bytes) -> None:
    assert cookie_value(cookies(line), b"sid") == value


@pytest.mark.parametrize("line", [b"", b"sid", b"sidx=1", b"xsid=1", b"SID=1", b"a=sid=1", b"; ;"])
def test_another_cookie_is_not_taken_for_it(line: bytes) -> None:
    assert cookie_value(cookies(line), b"sid") is None


def test_a_request_without_cookies_has_none() -> None:
    assert cookie_value(Fields([(b"Host", b"sid=1")]), b"sid") is None


def test_all_cookie_lines_are_searched_and_the_first_wins() -> None:
    assert cookie_value(cookies(b"a=0", b"sid=1", b"sid=2"), b"sid") == b"1"


def test_a_token_is_the_same_everywhere_and_tells_no_name() -> None:
    # A literal: workers, restarts and releases have to agree, or clients lose their backend.
    assert sticky_token("app", "127.0.0.1:9100") == b"1615aca0198813d5"


def test_tokens_differ_by_upstream_and_backend() -> None:
    pairs = [("a", "b"), ("a", "c"), ("b", "b"), ("ab", ""), ("", "ab")]
    assert len({sticky_token(*pair) for pair in pairs}) == len(pairs)


def test_the_sticky_cookie_lasts_for_the_browsers_session() -> None:
    assert set_cookie(StickySettings(), b"t0") == b"Set-Cookie: gproxy=t0; Path=/; HttpOnly; SameSite=Lax\r\n"


def test_the_sticky_cookie_as_configured() -> None:
    line = set_cookie(StickySettings(cookie="srv", max_age=3600.5, secure=True), b"t0")
    assert line == b"Set-Cookie: srv=t0; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure\r\n"


def test_a_sticky_cookie_comes_back_as_its_token() -> None:
    line = set_cookie(StickySettings(), sticky_token("app", "a"))
    sent_back = line.removeprefix(b"Set-Cookie: ").partition(b";")[0]
    assert cookie_value(cookies(sent_back), b"gproxy") == sticky_token("app", "a")


REQUEST = Fields([(b"X-User", b"ann"), (b"x-user", b"bob"), (b"Cookie", b"a=0; sid=7"), (b"X-Name", b"Zo\xeb")])


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("header:X-User", "ann"),
        ("header:x-USER", "ann"),
        ("header:X-Name", "Zo\xeb"),
        ("cookie:sid", "7"),
        ("path", "/a/b"),
        ("header:X-Other", ""),
        ("cookie:other", ""),
    ],
)
def test_a_hash_key_is_what_its_source_names(source: str, key: str) -> None:
    assert hash_key(source, REQUEST, b"/a/b?c=d?e") == key


def test_a_long_hash_key_is_kept_short_and_its_own() -> None:
    keys = {hash_key("path", REQUEST, b"/" + b"x" * 60_000 + end) for end in (b"a", b"b")}
    assert len(keys) == 2
    assert {key[:64] for key in keys} == {"/" + "x" * 63}
    assert all(len(key) < 100 for key in keys)
    assert hash_key("path", REQUEST, b"/" + b"x" * 255) == "/" + "x" * 255


def test_an_unknown_source_of_a_hash_key_is_refused() -> None:
    with pytest.raises(ValueError, match="query"):
        hash_key("query:q", REQUEST, b"/")
