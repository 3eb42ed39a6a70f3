"""What top prints."""

import io

import pytest
from rich.console import Console

from gproxy.ctl.rates import Look, view_of
from gproxy.ctl.view import SORTS, Screen, render
from tests.support.states import backend, listener, state

BEFORE = state([backend("b1"), backend("b2"), backend("b3")])
NOW = state(
    [backend("b1", active=2, connects=1), backend("b2", operational="down", connect_failures=4),
     backend("b3", administrative="drain", connects=7, reuses=1200, active=1)],
    [listener("web", requests=1500, responses_2xx=1490, responses_5xx=10), listener("raw", mode="tcp")],
    bytes_out=31_400_000, durations={"response": [{"seconds": 0.002, "count": 10}], "connect": [], "session": []},
)  # fmt: skip
VIEW = view_of([Look(1.0, BEFORE), Look(2.0, NOW)])


def lines(screen, view=VIEW, address="127.0.0.1:9901", **more):
    out = io.StringIO()
    console = Console(file=out, width=screen.width, highlight=False, markup=False, emoji=False, **more)
    console.print(render(view, screen, address))
    return out.getvalue().splitlines()


def names(shown):
    return [line.split()[0].removeprefix("app/") for line in shown if line.startswith("app/")]


def test_it_fits_80_columns_and_cuts_no_number():
    long = "a-backend-with-a-name-that-is-longer-than-any-terminal-would-like-it-to-be"
    busy = backend(long, active=10_000, max_connections=10_000, idle=1000, queue=999, weight=1000, ejected=1,
                   connects=10**6, reuses=10**9, connect_failures=12_345, retries=1_234_567, ejections=123)  # fmt: skip
    view = view_of([Look(1.0, state([backend(long)])), Look(2.0, state([busy]))])
    shown = lines(Screen(80), view)
    assert max(map(len, shown)) <= 80
    row = next(line for line in shown if line.startswith("app/a-"))
    assert row.split()[-9:] == ["1000", "10000/10000", "1000", "999", "1G", "1M", "12.3k", "1.23M", "123"]


def test_it_says_what_goes_on():
    text = "\n".join(lines(Screen(80)))
    assert "gproxy 1.2.3, at 127.0.0.1:9901, process 4711" in text
    assert "out 31.4 MB/s" in text
    assert "requests 1.5k/s   2xx 1.49k/s   3xx 0/s   4xx 0/s   5xx 10/s" in text
    assert "response time  p50 2 ms" in text
    row = next(line for line in lines(Screen(80)) if line.startswith("app/b3"))
    assert row.split() == ["app/b3", "up,", "drain", "1", "1", "0", "0", "1.21k", "7.0", "0", "0", "0"]


def test_where_there_is_room_it_has_the_addresses():
    assert "10.0.0.1:9102" in "\n".join(lines(Screen(120)))
    assert "10.0.0.1:9102" not in "\n".join(lines(Screen(80)))


@pytest.mark.parametrize(
    ("key", "order"),
    [("o", ["b1", "b2", "b3"]), ("u", ["b3", "b1", "b2"]), ("a", ["b1", "b3", "b2"]), ("f", ["b2", "b1", "b3"]),
     ("t", ["b2", "b3", "b1"])],
)  # fmt: skip
def test_what_a_key_sorts_by(key, order):
    sort = next(sort for sort in SORTS if sort.key == key)
    assert names(lines(Screen(80, sort=sort))) == order


def test_what_does_not_fit_is_on_another_page():
    height = len(lines(Screen(80, 100)))
    first, second, again = (lines(Screen(80, height - 1, page=page)) for page in (0, 1, 2))
    assert (names(first), names(second), names(again)) == (["b1", "b2"], ["b3"], ["b1", "b2"])
    assert first[-1].endswith("page 1 of 2 (space)")
    assert len(first) <= height - 1


def test_many_listeners_leave_room_for_backends_and_say_so():
    many = state([backend("b1")], [listener(f"l{n}") for n in range(60)])
    shown = lines(Screen(100, 24), view_of([Look(1.0, many)]))
    assert len(shown) <= 24
    assert names(shown) == ["b1"]
    assert "listeners not shown: 5" in shown[-1]


def test_trouble_stands_above_what_was_seen_last():
    shown = lines(Screen(80, trouble="no gproxy answers; trying again"))
    assert shown[0] == "no gproxy answers; trying again"
    assert names(shown) == ["b1", "b2", "b3"]
    assert lines(Screen(80, trouble="gone"), None) == ["gone", "gproxy at 127.0.0.1:9901"]


def test_what_an_operator_must_know():
    reload = {"number": 2, "outcome": "failed", "why": "line one\nline two", "ago": 3.0}
    workers = [{"slot": 0, "seen": None, "sessions": 0}, {"slot": 1, "seen": 7.0, "sessions": 3}]
    text = "\n".join(lines(Screen(80), view_of([Look(1.0, state([], ending=True, reload=reload, workers=workers))])))
    assert "about to stop" in text
    assert "the last reload failed 3.0 s ago: line one\n" in text
    assert "workers 2   0: 0 sessions not seen   1: 3 sessions silent for 7.0 s" in text


def test_without_colours_it_says_the_same(monkeypatch):
    coloured = lines(Screen(80), force_terminal=True, color_system="standard")
    assert any("\x1b[31m" in line for line in coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = lines(Screen(80), force_terminal=True)
    assert not any("\x1b[3" in line for line in plain)
    assert any("down" in line for line in plain)


def test_names_are_no_markup():
    odd = view_of([Look(1.0, state([backend("[red]:100:[::1]")]))])
    assert names(lines(Screen(80), odd)) == ["[red]:100:[::1]"]
