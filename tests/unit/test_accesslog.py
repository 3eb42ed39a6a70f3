"""The access log's lines, field by field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gproxy.accesslog import AccessLog, timestamp
from gproxy.core.record import SessionRecord

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


DOCS = Path(__file__).parents[2] / "docs" / "access-log.md"


class Lines(list[str]):
    write = list.append


def logged(record: SessionRecord, format: str = "text") -> str:
    lines = Lines()
    AccessLog(format, lines).session(record)
    (line,) = lines
    return line


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
