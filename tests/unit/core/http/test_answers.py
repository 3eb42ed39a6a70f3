"""The proxy's own responses, byte by byte."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from gproxy.core.http.answers import REASONS, Answers, http_date, wants_json

NOON = 1795435200  # 2026-11-23T12:00:00Z
DATE = b"Mon, 23 Nov 2026 12:00:00 GMT"
JSON = b"application/json"


def answer(status: int = 503, answers: Answers | None = None, **changed: Any) -> bytes:
    """A plain refusal, but for what is changed."""
    plain = {
        "reason": "no backend can serve",
        "accept": None,
        "request_id": b"id-1",
        "retry_after": None,
        "date": DATE,
        "head_only": False,
        "keep_alive": False,
    }
    return (answers or Answers({})).bytes(status, **(plain | changed))


def parts(data: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status line, fields by name, and body. A field that comes twice is an error."""
    head, body = data.split(b"\r\n\r\n", 1)
    status_line, *lines = head.split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines)
    assert len(fields) == len(lines)
    return status_line, fields, body


def body_of(data: bytes) -> bytes:
    return parts(data)[2]


def field(name: bytes, data: bytes) -> bytes | None:
    return parts(data)[1].get(name)


def test_answer_in_full() -> None:
    assert answer(retry_after=5.0) == (
        b"HTTP/1.1 503 Service Unavailable\r\n"
        b"Date: Mon, 23 Nov 2026 12:00:00 GMT\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 63\r\n"
        b"Cache-Control: no-store\r\n"
        b"X-Request-ID: id-1\r\n"
        b"Retry-After: 5\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"503 Service Unavailable: no backend can serve\n"
        b"request id: id-1\n"
    )


def test_connection_that_is_kept_has_no_connection_field() -> None:
    assert field(b"Connection", answer(keep_alive=True)) is None


@pytest.mark.parametrize(("seconds", "value"), [(0.0, b"0"), (0.2, b"1"), (5.0, b"5"), (5.001, b"6")])
def test_retry_after_is_in_whole_seconds_rounded_up(seconds: float, value: bytes) -> None:
    assert field(b"Retry-After", answer(retry_after=seconds)) == value


def test_retry_after_is_left_out() -> None:
    assert field(b"Retry-After", answer()) is None


@pytest.mark.parametrize("status", REASONS)
def test_each_status_has_its_phrase(status: int) -> None:
    status_line, _, body = parts(answer(status, reason="x"))
    assert status_line == b"HTTP/1.1 %d %b" % (status, REASONS[status].encode())
    assert body.startswith(b"%d %b: x\n" % (status, REASONS[status].encode()))


def test_statuses_that_we_use() -> None:
    assert set(REASONS) == {400, 408, 413, 414, 417, 421, 429, 431, 500, 501, 502, 503, 504, 505}


def test_status_without_a_phrase_is_answered_too() -> None:
    assert answer(418).startswith(b"HTTP/1.1 418 Error\r\n")


def test_json_for_a_client_that_asks_for_it() -> None:
    _, fields, body = parts(answer(accept=JSON))
    assert fields[b"Content-Type"] == b"application/json"
    assert json.loads(body) == {
        "status": 503,
        "error": "Service Unavailable",
        "message": "no backend can serve",
        "request_id": "id-1",
    }


@pytest.mark.parametrize(
    "accept",
    [
        b"application/json",
        b"Application/JSON",
        b"application/problem+json",
        b"application/vnd.api+json; charset=utf-8",
        b"application/json, text/plain, */*",
        b"text/html;q=0.5 ,\tapplication/json ; q=0.8",
        b"application/json;q=0.9, */*;q=0.8",
        b"application/xml, application/json",
        b"application/json;Q=1.000",
    ],
)
def test_json_is_preferred(accept: bytes) -> None:
    assert wants_json(accept)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        b"",
        b",",
        b"*/*",
        b"text/plain",
        b"text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
        b"text/html, application/json;q=0.9",
        b"application/json;q=0.5, */*",
        b"application/json;q=0",
        b"application/json;q=0.000, image/png",
        b"application/json;q=nan",
        b"application/json;q=1e3",
        b"application/json;q=",
        b"application/jsonx",
        b"image/svg+json, application/xml",
        b"text/plain, application/json;q=0.9",
        b"application/xml",
    ],
)
def test_text_is_preferred(accept: bytes | None) -> None:
    assert not wants_json(accept)


@pytest.mark.parametrize("accept", [None, JSON])
@pytest.mark.parametrize("status", [400, 503])
def test_head_has_the_same_fields_and_no_body(status: int, accept: bytes | None) -> None:
    whole, head = answer(status, accept=accept), answer(status, accept=accept, head_only=True)
    assert head + body_of(whole) == whole
    assert body_of(head) == b""


@pytest.mark.parametrize("accept", [None, JSON])
def test_length_is_that_of_the_body(accept: bytes | None) -> None:
    data = answer(accept=accept, reason="caf\u00e9 <b> \u20ac")
    assert field(b"Content-Length", data) == b"%d" % len(body_of(data))


def test_text_without_a_reason_or_a_request_id() -> None:
    _, fields, body = parts(answer(reason="", request_id=b""))
    assert body == b"503 Service Unavailable\n"
    assert b"X-Request-ID" not in fields


# The operator's files.

PAGE = (b"<h1>Down for tea</h1>\n", b"text/html; charset=utf-8")


@pytest.mark.parametrize("accept", [None, JSON, b"image/png"])
def test_file_replaces_the_body_whatever_is_accepted(accept: bytes | None) -> None:
    status_line, fields, body = parts(answer(answers=Answers({503: PAGE}), accept=accept, retry_after=5.0))
    assert status_line == b"HTTP/1.1 503 Service Unavailable"
    assert (body, fields[b"Content-Type"], fields[b"Content-Length"]) == (*PAGE, b"22")
    assert (fields[b"X-Request-ID"], fields[b"Retry-After"]) == (b"id-1", b"5")


def test_file_is_for_its_own_status_alone() -> None:
    assert body_of(answer(502, Answers({503: PAGE}))).startswith(b"502 Bad Gateway")


def test_empty_file_is_an_empty_body() -> None:
    data = answer(answers=Answers({503: (b"", b"text/plain")}))
    assert (field(b"Content-Length", data), body_of(data)) == (b"0", b"")


def test_head_of_a_file() -> None:
    data = answer(answers=Answers({503: PAGE}), head_only=True)
    assert (field(b"Content-Length", data), body_of(data)) == (b"22", b"")


# What a client sent is never given back as it was.

NASTY = '<script>&"\\\r\nSet-Cookie: a=b\x00\u00e9\u20ac\ud800'


def test_reason_is_escaped_in_text() -> None:
    assert body_of(answer(reason=NASTY)).splitlines()[0] == (
        rb'503 Service Unavailable: \x3cscript\x3e\x26"\x5c\x0d\x0aSet-Cookie: a=b\x00\xc3\xa9\xe2\x82\xac\x5cud800'
    )


def test_reason_is_escaped_in_json() -> None:
    body = body_of(answer(reason=NASTY, accept=JSON))
    assert body.isascii()
    assert body.splitlines() == [body[:-1]]
    assert json.loads(body)["message"] == NASTY


@pytest.mark.parametrize("accept", [None, JSON])
def test_reason_stays_in_the_body(accept: bytes | None) -> None:
    assert parts(answer(reason=NASTY, accept=accept))[1].keys() == parts(answer())[1].keys()


def test_request_id_with_syntax_of_json_and_html() -> None:
    request_id = b'a"},{\\<b>'
    text, as_json = answer(request_id=request_id), answer(request_id=request_id, accept=JSON)
    assert field(b"X-Request-ID", text) == field(b"X-Request-ID", as_json) == request_id
    assert body_of(text).splitlines()[1] == rb'request id: a"},{\x5c\x3cb\x3e'
    assert json.loads(body_of(as_json))["request_id"] == request_id.decode()


def test_request_id_cannot_add_a_field() -> None:
    data = answer(request_id=b"a\r\nb: c\x00\xff")
    assert field(b"X-Request-ID", data) == b"a__b:_c__"
    assert body_of(data).splitlines()[1] == rb"request id: a\x0d\x0ab: c\x00\xff"


# Dates.


@pytest.mark.parametrize("month", range(12))
def test_date_is_an_imf_fixdate(month: int) -> None:
    seconds = NOON + month * 30.5 * 86400 + 12345
    assert http_date(seconds) == formatdate(seconds, usegmt=True).encode()


@pytest.mark.parametrize(
    ("seconds", "date"),
    [(0.0, b"Thu, 01 Jan 1970 00:00:00 GMT"), (784111777.0, b"Sun, 06 Nov 1994 08:49:37 GMT"), (NOON + 0.999, DATE)],
)
def test_dates_that_are_known(seconds: float, date: bytes) -> None:
    assert http_date(seconds) == date


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process runs there."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("tokyo")
def test_date_is_in_gmt_wherever_we_are() -> None:
    assert http_date(NOON + 30) == b"Mon, 23 Nov 2026 12:00:30 GMT"


def test_date_of_one_second_is_made_once() -> None:
    assert http_date(NOON + 0.1) is http_date(NOON + 0.9)
    assert http_date(NOON + 1.0) == b"Mon, 23 Nov 2026 12:00:01 GMT"


def test_repr_tells_which_files_there_are() -> None:
    assert repr(Answers({503: PAGE, 404: PAGE})) == "<Answers files=[404, 503]>"
