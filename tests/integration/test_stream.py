"""The stream of the admin API, which the dashboard shows: history, changes, state, and what outlives what."""

import json
import os
import signal
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest

from tests.support.admin import Admin
from tests.support.origin import Origin
from tests.support.proxy import Gproxy

TIMEOUT = 20.0  # seconds
CONFIG = """
load_balancer: {backend_check_interval: 0.2, backend_failure_threshold: 1}
workers: 2
admin: {bind: "127.0.0.1:0"}
log: {access: off}
listeners: [{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams:
  app:
    backends: [{name: one, address: "${ONE}"}, {name: two, address: "${TWO}"}]
"""
DRAIN = {"administrative": "drain"}


@pytest.fixture
def origins():
    with Origin("http", "one") as one, Origin("http", "two") as two:
        yield one, two


@pytest.fixture
def proxy(tmp_path, origins):
    one, two = origins
    with Gproxy(tmp_path, CONFIG, environ={"ONE": one.address, "TWO": two.address}) as proxy:
        yield proxy


@pytest.fixture
def admin(proxy):
    return Admin(proxy)


@contextmanager
def stream(admin):
    """Its events, one after the other: kind and document."""
    connection = HTTPConnection(*admin.address, timeout=TIMEOUT)
    try:
        connection.request("GET", "/v1/stream")
        yield events(connection.getresponse())
    finally:
        connection.close()


def events(response):
    assert (response.status, response.getheader("Content-Type")) == (200, "text/event-stream")
    fields = {}
    for line in response:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif fields:
            yield fields["event"], json.loads(fields["data"])
            fields = {}


def snapshot(admin):
    with stream(admin) as told:
        kind, document = next(told)
        assert kind == "snapshot"
        return document


def first(told, wanted):
    """What is wanted of the first news that have it."""
    return next(found for _, news in told if (found := wanted(news)))


def flips(news):
    return [(flip["backend"], flip["what"]) for flip in news["flips"]]


def ask(proxy, times):
    connection = HTTPConnection(*proxy.address("web"), timeout=TIMEOUT)
    for _ in range(times):
        connection.request("GET", "/")
        assert connection.getresponse().read()
    connection.close()


def test_requests_are_in_the_samples_and_in_the_state(proxy, admin):
    with stream(admin) as told:
        _, snapshot = next(told)
        at = snapshot["columns"].index
        next(news for _, news in told if news["samples"])  # from now on there is something to measure from
        ask(proxy, 40)
        sample = first(told, lambda news: next((s for s in news["samples"] if s[at("requests")]), None))
        assert sample[at("response_time_p99")] >= sample[at("response_time_p50")] > 0
        assert sample[at("able")] == 2
        assert snapshot["strips"].keys() == {"app"}
        state = first(told, lambda news: news["state"])
        assert state.keys() == admin.get("/v1/state").keys()


def test_health_and_orders_are_told_at_once(admin, origins):
    with stream(admin) as told:
        assert [what for _, what in flips(next(told)[1])] == ["gproxy was started", "is up", "is up"]
        origins[1].kill()
        [flip] = first(told, lambda news: news["flips"])
        assert (flip["upstream"], flip["backend"], flip["kind"], flip["who"]) == ("app", "two", "down", "")
        assert flip["why"].startswith("check failed: ")
        admin.change("PUT", "/v1/upstreams/app/backends/one", DRAIN)
        flip = first(told, lambda news: next((f for f in news["flips"] if f["kind"] == "asked"), None))
        assert (flip["backend"], flip["what"]) == ("one", "administrative drain")
        assert flip["who"].startswith("127.0.0.1:")


def test_the_past_outlives_a_reload_and_the_steward(proxy, admin):
    admin.change("PUT", "/v1/upstreams/app/backends/one", DRAIN)
    with stream(admin) as told:
        first(told, lambda news: len(news["samples"]))
        admin.change("POST", "/v1/reload", {})
        for _ in told:  # up to its end, which comes in order
            pass
    after = snapshot(admin)
    assert after["state"]["generation"] == 2
    assert after["samples"]
    assert [what for _, what in flips(after)[-3:]] == [
        "administrative drain", "reload", "configuration 2 is in effect"
    ]  # fmt: skip

    os.kill(proxy.processes()["steward"], signal.SIGKILL)
    later = snapshot(admin)
    assert flips(later) == [*flips(after), ("", "the steward was replaced")]


def test_a_reload_that_fails_is_told(proxy, admin):
    with stream(admin) as told:
        next(told)
        proxy.config.write_text("nonsense: 1")
        admin.change("POST", "/v1/reload", {})
        flip = first(told, lambda news: next((f for f in news["flips"] if f["kind"] == "failed"), None))
        assert "nonsense" in flip["why"]


def test_a_stream_that_stands_open_keeps_no_gproxy_from_its_end(proxy, admin):
    with stream(admin) as told:
        next(told)
        assert proxy.stop() == 0
        assert [kind for kind, _ in told if kind == "snapshot"] == []
