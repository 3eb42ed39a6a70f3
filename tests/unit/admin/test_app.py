"""From a request to an answer, without sockets."""

import json
from io import BytesIO
from types import SimpleNamespace

import pytest

from gproxy.admin import app as module
from gproxy.admin.answers import ApiError, document
from gproxy.admin.app import MAX_BODY, App, find
from gproxy.admin.openapi import openapi
from gproxy.admin.routes import ROUTES, Route
from gproxy.admin.schema import STRING, number, obj, one_of, or_null, problem_with
from gproxy.core.settings import AdminSettings


def ask(method, target, body=None, desk=None, **fields):
    """Status, header fields and body."""
    path, _, query = target.partition("?")
    environ = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "gproxy.path": path, "QUERY_STRING": query,
        "HTTP_HOST": "localhost:9901", "wsgi.input": BytesIO(body or b""), "gproxy.peer": "somebody",
    }  # fmt: skip
    if body is not None:
        environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
    answers = []
    parts = App(AdminSettings(), 9901, desk)(environ | fields, lambda status, found: answers.append((status, found)))
    [(status, found)] = answers
    return int(status.split()[0]), dict(found), b"".join(parts)


@pytest.fixture
def routes(monkeypatch):
    """One that says what it was asked, and one that fails."""

    def echo(_desk, request):
        return document([request.names, request.query, request.body, request.who])

    def fail(_desk, _request):
        raise RuntimeError("a secret")

    table = [
        Route("GET", "/a/{name}", "", None, handler=echo, query={"last": STRING}),
        Route("PUT", "/a/{name}", "", None, handler=echo, body=obj({"n": number("integer", 1, 3)})),
        Route("GET", "/fails", "", None, handler=fail),
    ]
    monkeypatch.setattr(module, "ROUTES", table)


@pytest.mark.usefixtures("routes")
def test_names_query_body_and_who_asks_reach_the_handler():
    asked = ask("GET", "/a/%C3%84%25%2F?last=%2B1")
    assert json.loads(asked[2]) == [{"name": "Ä%/"}, {"last": "+1"}, None, "somebody"]
    assert json.loads(ask("PUT", "/a/b", b'{"n":2}')[2])[2] == {"n": 2}


@pytest.mark.usefixtures("routes")
def test_head_is_get_without_a_body():
    get, head = ask("GET", "/a/b"), ask("HEAD", "/a/b")
    assert (head[0], head[1], head[2]) == (get[0], get[1], b"")
    assert get[1]["Content-Length"] == str(len(get[2]))


@pytest.mark.usefixtures("routes")
def test_a_defect_is_500_and_tells_nothing(caplog):
    status, fields, body = ask("GET", "/fails")
    assert (status, json.loads(body)) == (500, {"error": "a defect of gproxy's; its log says more"})
    assert fields["Cache-Control"] == "no-store"
    assert "a secret" in caplog.text


@pytest.mark.usefixtures("routes")
@pytest.mark.parametrize(
    ("status", "method", "target", "body", "fields"),
    [
        (404, "GET", "/b", None, {}),
        (404, "GET", "/a/b/c", None, {}),
        (404, "GET", "/a/", None, {}),
        (405, "POST", "/a/b", b"{}", {}),
        (405, "OPTIONS", "/a/b", None, {}),
        (406, "GET", "/a/b", None, {"HTTP_ACCEPT": "text/html, application/json;q=0"}),
        (421, "GET", "/nowhere", None, {"HTTP_HOST": "evil"}),
        (400, "GET", "/a/b?first=1", None, {}),
        (400, "GET", "/a/b?last=1&last=2", None, {}),
        (400, "GET", "/a/b?last=" + "1" * 2000, None, {}),
        (415, "PUT", "/a/b", None, {}),
        (400, "PUT", "/a/b", b"", {}),
        (400, "PUT", "/a/b", b"\xff", {}),
        (400, "PUT", "/a/b", b"[" * 50_000, {}),
        (400, "PUT", "/a/b", b'{"n":NaN}', {}),
        (400, "PUT", "/a/b", b'{"n":1,"n":2}', {}),
        (400, "PUT", "/a/b", b'{"n":4}', {}),
        (413, "PUT", "/a/b", b" " * (MAX_BODY + 1), {}),
        (413, "PUT", "/a/b", b" " * (MAX_BODY + 1), {"CONTENT_LENGTH": ""}),  # chunked
    ],
)
def test_what_is_refused(status, method, target, body, fields):
    found, answered, text = ask(method, target, body, **fields)
    assert found == status
    assert list(json.loads(text)) == ["error"]
    assert answered["Content-Type"] == "application/json"
    if status == 405:
        assert answered["Allow"] == "GET, HEAD, PUT"


@pytest.mark.usefixtures("routes")
@pytest.mark.parametrize("accept", ["*/*", "application/*", "text/html, application/json;q=0.1", "Application/JSON"])
def test_what_is_accepted(accept):
    assert ask("GET", "/a/b", HTTP_ACCEPT=accept)[0] == 200


def test_a_body_that_does_not_come_is_408(monkeypatch):
    import gevent

    monkeypatch.setattr(module, "BODY_TIMEOUT", 0.01)
    silent = SimpleNamespace(read=lambda _size: gevent.sleep(60))
    status, fields, _ = ask("PUT", "/v1/log", b"{}", **{"wsgi.input": silent})
    assert (status, fields["Connection"]) == (408, "close")


def test_the_table_and_its_description_are_one():
    described = openapi(ROUTES)
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    assert len(operations) == len(ROUTES)
    assert len({operation["operationId"] for operation in operations}) == len(ROUTES)
    for route in ROUTES:
        assert find(route.method, route.path)[0] is route
        assert (route.method == "GET") is (route.body is None)
    with pytest.raises(ApiError):
        find("GET", "/v1/states")


@pytest.mark.parametrize(
    ("value", "schema", "problem"),
    [
        ("a", STRING, None),
        (1, STRING, "the body must be a string"),
        (None, or_null(STRING), None),
        (None, STRING, "the body must be a string"),
        (True, number("integer", 0, 5), "the body must be a whole number"),
        (2.0, number("integer", 0, 5), None),
        (2.5, number("integer", 0, 5), "the body must be a whole number"),
        (2.5, number("number", 0, 2), "the body must be from 0 to 2"),
        (float("inf"), number("number", 0, 2), "the body must be from 0 to 2"),
        ("c", one_of("a", "b"), "the body must be one of a, b"),
        ([], obj({}), "the body must be an object"),
        ({}, obj({"a": STRING}), "the body must have the member a"),
        ({}, obj({"a": STRING}, optional=["a"]), None),
        ({"a": 1}, obj({"a": STRING}), "a must be a string"),
        ({"\n": 1}, obj({}), "the body may have the members none, and not '\\n'"),
    ],
)
def test_schemas(value, schema, problem):
    assert problem_with(value, schema) == problem
