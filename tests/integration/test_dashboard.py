"""The dashboard in a real browser: it shows what happens, and what its buttons do takes effect."""

import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest
from playwright.sync_api import expect

from tests.support.admin import Admin
from tests.support.browser import LIMIT, NARROW, WIDE, pages, violations
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

pytestmark = pytest.mark.xdist_group("browser")

TIMEOUT = 20.0  # seconds
REQUESTS = 12
TOKEN = "0123456789-abcdef"
CONFIG = """
load_balancer: {backend_check_interval: 0.2, backend_failure_threshold: 1}
workers: 2
admin: {bind: "127.0.0.1:0", token: "${TOKEN:-}"}
log: {access: off}
listeners: [{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams:
  app:
    backends:
      - {name: one, address: "${ONE}"}
      - {name: two, address: "${TWO}"}
      - {name: three, address: "${THREE}"}
"""
OPEN = CONFIG.replace(', token: "${TOKEN:-}"', "")
DRAIN = {"administrative": "drain"}
BACKEND = "/v1/upstreams/app/backends/"

expect.set_options(timeout=LIMIT * 1000)


@pytest.fixture(scope="module")
def browser():
    with pages() as found:
        yield found


@pytest.fixture
def origins():
    with Origin("http", "one") as one, Origin("http", "two") as two, Origin("http", "three") as three:
        yield {"one": one, "two": two, "three": three}


@pytest.fixture
def environ(origins):
    return {name.upper(): origin.address for name, origin in origins.items()}


@pytest.fixture
def proxy(tmp_path, environ):
    with Gproxy(tmp_path, OPEN, environ=environ) as proxy:
        yield proxy


@pytest.fixture
def admin(proxy):
    return Admin(proxy)


@pytest.fixture
def show(browser, proxy):
    """Opens the page, and at the end asks whether it had anything to complain of."""

    @contextmanager
    def show(*look):
        browser.complaints.clear()
        with browser.open(url_of(proxy), *look) as page:
            yield page
            assert browser.complaints == []

    return show


def url_of(proxy):
    host, port = Admin(proxy).address
    return f"http://{host}:{port}/"


def row(page, name):
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name))


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def served_by(proxy):
    """Who serves some clients, each over a connection of its own."""

    def fetch(_):
        connection = HTTPConnection(*proxy.address("web"), timeout=TIMEOUT)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode().strip()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        return set(pool.map(fetch, range(REQUESTS)))


def test_before_anything_has_happened_it_says_so(show):
    with show() as page:
        expect(page.get_by_role("heading", name="All 3 backends can serve")).to_be_visible()
        expect(page.locator("#connection")).to_have_text("Live")
        expect(page.get_by_text("No traffic yet").filter(visible=True)).to_have_count(2)
        expect(page.get_by_text("No decisions yet")).to_be_visible()
        expect(page.locator(".tile", has_text="Response time")).to_contain_text("no request in the last minute")
        expect(page.locator("#flips li")).to_have_count(4)


def test_traffic_is_shown(show, proxy):
    with show() as page:
        expect(page.locator("#connection")).to_have_text("Live")
        assert served_by(proxy) == {"one", "two", "three"}
        expect(page.get_by_text("No traffic yet").filter(visible=True)).to_have_count(0)
        expect(page.locator("#decisions tbody tr")).to_have_count(REQUESTS)
        expect(page.locator("#decisions tbody tr").first).to_contain_text("127.0.0.1")
        figure = page.get_by_role("figure").filter(has=page.get_by_role("heading", name="Traffic"))
        assert re.search(r"Requests: now .*, at most [1-9]", figure.get_by_role("img").get_attribute("aria-label"))
        figure.get_by_text("As a table").click()
        expect(figure.get_by_role("row")).to_have_count(11)
        expect(figure.get_by_role("row").nth(1)).to_contain_text("/s")


def test_a_killed_backend_is_shown_and_so_is_its_return(show, origins):
    with show() as page:
        expect(row(page, "two")).to_contain_text("up")
        origins["two"].kill()
        expect(page.get_by_role("heading", name="2 of 3 backends can serve: two is down")).to_be_visible()
        expect(row(page, "two")).to_contain_text("Connection refused")
        expect(row(page, "two").get_by_role("img")).to_have_attribute("aria-label", re.compile("down for"))
        expect(page.locator("#flips li").first).to_contain_text("app/two is down")
        expect(page).to_have_title(re.compile("two is down"))
        origins["two"].start()
        expect(page.get_by_role("heading", name="All 3 backends can serve")).to_be_visible()


def test_a_backend_is_drained_with_its_button_and_traffic_leaves_it(show, proxy, admin):
    with show() as page:
        dialog = page.get_by_role("dialog")
        button(page, "Drain two").click()
        expect(dialog).to_contain_text("one and three will serve in its place")
        button(page, "Cancel").click()
        expect(dialog).to_be_hidden()
        assert admin.backend("two")["administrative"] == "ready"

        button(page, "Drain two").click()
        button(page, "Drain").click()
        expect(dialog).to_be_hidden()
        expect(page.locator("#notice")).to_have_text("two is drained: it gets no new connections.")
        expect(row(page, "two")).to_contain_text("drained")
        assert admin.backend("two")["administrative"] == "drain"
        eventually(lambda: served_by(proxy) == {"one", "three"}, TIMEOUT)
        expect(page.locator("#decisions tbody tr").first).to_contain_text("two: draining")
        expect(page.locator("#flips li").first).to_contain_text("asked for by 127.0.0.1")

        button(page, "Make ready two").click()
        button(page, "Make ready").click()
        expect(row(page, "two")).not_to_contain_text("drained")
        eventually(lambda: served_by(proxy) == {"one", "two", "three"}, TIMEOUT)


def test_it_warns_before_the_last_one_is_drained(show, admin):
    for name in ("one", "three"):
        admin.change("PUT", BACKEND + name, DRAIN)
    with show() as page:
        button(page, "Drain two").click()
        expect(page.get_by_role("dialog")).to_contain_text("No other backend of app can serve")


def test_the_keyboard_is_enough(show, admin):
    with show() as page:
        drain = button(page, "Drain one")
        drain.focus()
        page.keyboard.press("Enter")
        expect(button(page, "Cancel")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(drain).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(button(page, "Make ready one")).to_be_focused()
        assert admin.backend("one")["administrative"] == "drain"


def test_a_pause_stops_it_and_it_goes_on_with_all_that_came_meanwhile(show, origins):
    with show() as page:
        expect(page.locator("#connection")).to_have_text("Live")
        button(page, "Pause").click()
        expect(page.locator("#connection")).to_have_text("Paused")
        origins["two"].kill()
        button(page, "Pause").click()
        expect(row(page, "two")).to_contain_text("down")
        expect(page.locator("#connection")).to_have_text("Live")


def test_a_reload_is_survived(show, admin, proxy):
    with show() as page:
        expect(page.locator("#facts")).to_contain_text("configuration 1")
        proxy.signal(signal.SIGHUP)
        expect(page.locator("#facts")).to_contain_text("configuration 2")
        expect(page.locator("#connection")).to_have_text("Live")
        expect(page.locator("#flips li").first).to_contain_text("configuration 2 is in effect")
        expect(page.locator("#flips li").last).to_contain_text("gproxy was started")
    assert admin.get("/v1/state")["generation"] == 2


def test_when_gproxy_is_gone_it_says_so(browser, proxy):
    with browser.open(url_of(proxy)) as page:
        expect(page.locator("#connection")).to_have_text("Live")
        proxy.stop()
        expect(page.locator("#connection")).to_contain_text("Lost at")
        expect(row(page, "one")).to_be_visible()


def test_names_are_text_and_nothing_else(browser, tmp_path, environ):
    name = "<b>'\"&amp;<script>"
    browser.complaints.clear()
    text = OPEN.replace("name: three", f"name: {quoted(name)}")
    with Gproxy(tmp_path, text, environ=environ) as proxy, browser.open(url_of(proxy)) as page:
        expect(row(page, name)).to_be_visible()
        button(page, f"Drain {name}").click()
        expect(page.get_by_role("dialog")).to_contain_text(name)
        assert browser.complaints == []


def quoted(text):
    """For YAML."""
    return "'" + text.replace("'", "''") + "'"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(show, proxy, admin, origins, scheme, size):
    origins["two"].kill()
    admin.change("PUT", BACKEND + "three", DRAIN)
    served_by(proxy)
    with show(scheme, size) as page:
        expect(row(page, "two")).to_contain_text("down")
        expect(page.locator("#decisions tbody tr")).not_to_have_count(0)
        assert violations(page) == []
        for summary in page.get_by_text("As a table").all():
            summary.click()
        assert violations(page) == []
        button(page, "Drain one").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]


def test_events_may_come_in_any_pieces(show):
    sent = ": a comment\n\nretry: 2000\nevent: news\ndata: {\ndata: }\n\ndata: more\n\nevent: none\n\n"
    script = """async (sent) => {
        const { parser } = await import("/static/api.js");
        return [...sent].map((_, at) => {
            const found = [];
            const feed = parser((kind, data) => found.push([kind, data]));
            [sent.slice(0, at), sent.slice(at)].forEach(feed);
            return found;
        });
    }"""
    with show() as page:
        for found in page.evaluate(script, sent):
            assert found == [["news", "{\n}"], ["message", "more"]]


def test_a_token_is_asked_for_and_kept_in_the_tab(browser, tmp_path, environ):
    with Gproxy(tmp_path, CONFIG, environ=environ | {"TOKEN": TOKEN}) as proxy, browser.open(url_of(proxy)) as page:
        expect(page.get_by_role("textbox", name="Token")).to_be_focused()
        assert violations(page) == []
        page.get_by_role("textbox", name="Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("That token was not accepted.")
        page.get_by_role("textbox", name="Token").fill(TOKEN)
        page.keyboard.press("Enter")
        button(page, "Drain one").click()
        button(page, "Drain").click()
        expect(row(page, "one")).to_contain_text("drained")
        page.reload()
        expect(row(page, "one")).to_contain_text("drained")
        assert page.url == url_of(proxy)  # it is in no address
        assert page.evaluate("[document.cookie, localStorage.length]") == ["", 0]
