"""The access log's lines, field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gproxy.accesslog import AccessLog, timestamp
from gproxy.core.record import ExchangeRecord, RecordSink, SessionRecord

NOON = 1795435200.0  # 2026-11-23T12:00:00Z

RECORD = SessionRecord(
    client="127.0.0.1:51234",
    listener="web",
    upstream="app",
    backend="b1",
    started=NOON + 0.123,
    tw=0.0,
    tc=0.0019,
    tt=0.035,
    bytes_in=1234,
    bytes_out=5678,
    code="--",
    active=4,
    listener_active=3,
    upstream_active=2,
    backend_active=1,
    retries=0,
    reused=True,
)

EXCHANGE = ExchangeRecord(
    client="127.0.0.1:51234",
    listener="web",
    upstream="app",
    backend="b1",
    started=NOON + 0.123,
    tr=0.00099,
    tw=0.001,
    tc=0.0029,
    tresp=0.033,
    ta=1.0359,
    status=200,
    bytes_in=1234,
    bytes_out=5678,
    code="--",
    active=4,
    listener_active=3,
    upstream_active=2,
    backend_active=1,
    retries=5,
    reused=True,
    method=b"GET",
    target=b"/cart?id=7",
    version=b"HTTP/1.1",
    request_id=b"0af7651916cd43dd8448eb211c80319c",
)

DOCS = Path(__file__).parents[2] / "docs" / "access-log.md"


class Lines(list[str | bytes]):
    write = list.append


def logged(record: SessionRecord | ExchangeRecord, format: str = "text") -> str:
    lines = Lines()
    log = AccessLog(format, lines)  # which writes at once
    if isinstance(record, ExchangeRecord):
        log.exchange(record)
    else:
        log.session(record)
    (line,) = lines
    return line.decode("ascii") if isinstance(line, bytes) else line


def exchange(**fields: Any) -> str:
    """The text line of EXCHANGE with other fields."""
    return logged(EXCHANGE._replace(**fields))


def test_text_line_has_the_documented_fields_in_order() -> None:
    assert logged(RECORD) == (
        "127.0.0.1:51234 [2026-11-23T12:00:00.123Z] web app/b1 0/1/35 1234/5678 -- 4/3/2/1 0 reused"
    )


@pytest.mark.parametrize("format", ["text", "json"])
def test_examples_of_the_documentation_are_true(format: str) -> None:
    record = RECORD._replace(active=1, listener_active=1, upstream_active=1, backend_active=1)
    assert logged(record, format) in DOCS.read_text().splitlines()


def test_session_that_reached_no_backend() -> None:
    line = logged(RECORD._replace(backend="", tw=None, tc=None, code="SC", retries=2, reused=False))
    assert line.endswith("web app/<none> -1/-1/35 1234/5678 SC 4/3/2/1 2 -")


def test_dialled_connection_is_fresh() -> None:
    assert logged(RECORD._replace(reused=False)).endswith(" fresh")


def test_a_client_cannot_forge_a_line_or_a_field() -> None:
    line = logged(RECORD._replace(client='x\n::1 [y] "web\\\u2028\x9b\U0001f600'))
    assert line.split(" ")[0] == r"x\x0a::1\x20[y]\x20\x22web\x5c\u2028\x9b\U0001f600"
    assert line.isascii()
    assert line.isprintable()
    assert line.count(" ") == 9


def test_names_are_escaped_too() -> None:
    assert " my\\x20web a\\x0db/c\\x22d " in logged(RECORD._replace(listener="my web", upstream="a\rb", backend='c"d'))


def test_client_without_an_address_is_a_dash() -> None:
    assert logged(RECORD._replace(client="")).startswith("- [")


def test_json_has_the_same_fields_by_name() -> None:
    assert json.loads(logged(RECORD, "json")) == {
        "client": "127.0.0.1:51234",
        "listener": "web",
        "upstream": "app",
        "backend": "b1",
        "started": "2026-11-23T12:00:00.123Z",
        "tw": 0,
        "tc": 1,
        "tt": 35,
        "bytes_in": 1234,
        "bytes_out": 5678,
        "code": "--",
        "active": 4,
        "listener_active": 3,
        "upstream_active": 2,
        "backend_active": 1,
        "retries": 0,
        "connection": "reused",
    }


def test_json_without_a_backend() -> None:
    fields = json.loads(logged(RECORD._replace(backend="", tw=None, tc=None, reused=False), "json"))
    assert (fields["backend"], fields["tw"], fields["tc"], fields["connection"]) == (None, -1, -1, "-")


def test_json_is_one_ascii_line_whatever_the_names() -> None:
    line = logged(RECORD._replace(client="x\ny\u2028z"), "json")
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["client"] == "x\ny\u2028z"


def test_exchange_has_the_documented_fields_in_order() -> None:
    assert exchange() == (
        "127.0.0.1:51234 [2026-11-23T12:00:00.123Z] web app/b1 0/1/2/33/1035 200 1234/5678 -- 4/3/2/1 5 reused"
        ' "GET /cart?id=7 HTTP/1.1" 0af7651916cd43dd8448eb211c80319c'
    )


@pytest.mark.parametrize("format", ["text", "json"])
def test_examples_of_exchanges_in_the_documentation_are_true(format: str) -> None:
    example = EXCHANGE._replace(tw=0.0, tc=0.001, ta=0.035, retries=0, reused=False)
    record = example._replace(active=1, listener_active=1, upstream_active=1, backend_active=1)
    assert logged(record, format) in DOCS.read_text().splitlines()


def test_exchange_refused_before_its_head_was_read() -> None:
    line = exchange(
        upstream="", backend="", tr=None, tw=None, tc=None, tresp=None, status=408, code="cR", reused=None,
        method=b"", target=b"", version=b"", request_id=b"",
    )  # fmt: skip
    assert ' web -/<none> -1/-1/-1/-1/1035 408 1234/5678 cR 4/3/2/1 5 - "<BADREQ>" -' in line


def test_exchange_that_was_not_answered() -> None:
    assert " 1/2/-1/-1/-1 0 1234/5678 CH " in exchange(
        tr=0.001, tw=0.002, tc=None, tresp=None, ta=None, status=0, code="CH"
    )


@pytest.mark.parametrize(("reused", "word"), [(True, "reused"), (False, "fresh"), (None, "-")])
def test_connection_of_an_exchange(reused: bool | None, word: str) -> None:
    assert f' 5 {word} "GET' in exchange(reused=reused)
    assert json.loads(logged(EXCHANGE._replace(reused=reused), "json"))["connection"] == word


@pytest.mark.parametrize("part", ["method", "target", "version", "request_id"])
def test_a_request_cannot_forge_a_line_or_a_field(part: str) -> None:
    line = exchange(**{part: b'x\r\n::1 [y] "web"\\\x00\x7f\x9b\xc3\xa9'})
    assert r"x\x0d\x0a::1\x20[y]\x20\x22web\x22\x5c\x00\x7f\x9b\xc3\xa9" in line
    assert line.isprintable()
    assert line.count(" ") == exchange().count(" ")
    assert line.count('"') == 2


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_of_a_target_is_shown_or_escaped(byte: int) -> None:
    safe = 0x21 <= byte <= 0x7E and byte not in b'"\\'
    shown = chr(byte) if safe else f"\\x{byte:02x}"
    assert f'"GET /{shown} HTTP/1.1"' in exchange(target=b"/" + bytes([byte]))


def test_parts_of_a_request_that_are_missing_are_dashes() -> None:
    assert exchange(target=b"", version=b"", request_id=b"").endswith(' "GET - -" -')


def test_client_of_an_exchange_cannot_forge_a_field() -> None:
    assert exchange(client='x y"').startswith(r"x\x20y\x22 [")
    assert exchange(client="").startswith("- [")


def test_names_of_an_exchange_are_escaped_too() -> None:
    assert r" my\x20web a\x0db/c\x22d " in exchange(listener="my web", upstream="a\rb", backend='c"d')


def test_exchange_in_json_has_the_same_fields_by_name() -> None:
    assert json.loads(logged(EXCHANGE, "json")) == {
        "client": "127.0.0.1:51234",
        "listener": "web",
        "upstream": "app",
        "backend": "b1",
        "started": "2026-11-23T12:00:00.123Z",
        "tr": 0,
        "tw": 1,
        "tc": 2,
        "tresp": 33,
        "ta": 1035,
        "status": 200,
        "bytes_in": 1234,
        "bytes_out": 5678,
        "code": "--",
        "active": 4,
        "listener_active": 3,
        "upstream_active": 2,
        "backend_active": 1,
        "retries": 5,
        "connection": "reused",
        "method": "GET",
        "target": "/cart?id=7",
        "version": "HTTP/1.1",
        "request_id": "0af7651916cd43dd8448eb211c80319c",
    }


def test_exchange_in_json_without_what_was_never_reached() -> None:
    record = EXCHANGE._replace(upstream="", backend="", tr=None, tresp=None, method=b"", request_id=b"")
    fields = json.loads(logged(record, "json"))
    assert [fields[name] for name in ("upstream", "backend", "method", "request_id")] == [None] * 4
    assert (fields["tr"], fields["tresp"]) == (-1, -1)


def test_exchange_in_json_is_one_ascii_line_whatever_was_sent() -> None:
    line = logged(EXCHANGE._replace(target=b'/\n"\xe9\x00'), "json")
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["target"] == '/\n"\xe9\x00'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (NOON + 0.9999, "2026-11-23T12:00:00.999Z"),
        (NOON + 1, "2026-11-23T12:00:01.000Z"),
        (NOON, "2026-11-23T12:00:00.000Z"),
    ],
)
def test_timestamp(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text


# --- plain exchanges, which have a shorter way to the same line -----------------------------------


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("reused", [True, False])
@pytest.mark.parametrize(("target", "request_id"), [(b"/hi", b"abc"), (b'/"x', b"abc"), (b"/hi", b"a\\b")])
def test_a_plain_exchange_has_the_line_of_any(format: str, reused: bool, target: bytes, request_id: bytes) -> None:
    lines = Lines()
    log = AccessLog(format, lines)  # which writes at once
    told = ("1.2.3.4:5", "web", "app", "b1", 1795467719.123, 0.0024, 1.5, 200, 80, 146, 4, 3, 2, 1, reused)
    log.plain(*told, b"GET", target, request_id)
    RecordSink.plain(log, *told, b"GET", target, request_id)
    assert lines[0] == lines[1]
