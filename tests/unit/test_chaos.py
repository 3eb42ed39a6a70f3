"""What loadtest/chaos.py takes for wrong, and what not; its memory's verdict; its section of the manual."""

from collections import Counter
from importlib import import_module

import pytest

from tests.support.proxy import TOP


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(TOP / "loadtest"))


@pytest.fixture
def checks():
    return import_module("soak.checks")


@pytest.fixture
def entries():
    return import_module("soak.journal").Entries()


@pytest.fixture
def memory():
    return import_module("soak.memory")


def executed(entries, *lines):
    for line in lines:
        entries.add(line)
    return entries


@pytest.mark.parametrize(
    ("method", "told", "count", "wrong"),
    [
        (b"POST", "good", 1, ""),
        (b"POST", "failed", 0, ""),
        (b"POST", "failed", 1, ""),
        (b"POST", "failed", 2, "at most once"),
        (b"POST", "good", 0, "it was answered"),
        (b"TCP", "unknown", 2, "at most once"),
        (b"GET", "good", 2, ""),
        (b"GET", "failed", 3, "at most 2 times"),
        (b"GET", "incomplete", 1, "not all of it was sent"),
    ],
)
def test_the_ledger(checks, entries, method, told, count, wrong):
    executed(entries, *[b"X %s m1" % method] * count)
    found = checks.ledger({b"m1": (method, told)}, entries, 2)
    assert [each.rpartition(": ")[2] for each in found] == ([wrong] if wrong else [])


def test_what_nobody_asked_for_and_what_became_something_else(checks, entries):
    executed(entries, b"X GET m1", b"X GET m2", b"! http: a bare LF")
    found = checks.ledger({b"m1": (b"POST", "good")}, entries, 2)
    assert found == ["executed, and asked by nobody: m2", "POST m1 was executed as GET", "http: a bare LF"]


def test_while_calm_everything_is_executed_once_and_answered(checks, entries):
    executed(entries, b"X GET m1", b"X GET m2", b"X GET m2", b"X GET m3")
    book = dict.fromkeys((b"m1", b"m2"), (b"GET", "good")) | {b"m3": (b"GET", "failed")}
    assert len(checks.calm_ledger(book, entries)) == 2


def test_counters_that_differ(checks, entries):
    settings = import_module("soak.settings")
    traffic = {name: import_module("soak.stage").Traffic() for name in settings.LISTENERS}
    traffic["web"].good["2xx"] = 2
    traffic["web"].connections = 1
    traffic["web"].sent, traffic["web"].framing, traffic["web"].received = 120, 20, 300
    executed(entries, b"B http m1", b"B http m2")
    after = {
        'gproxy_http_requests_total{listener="web"}': 12.0,
        'gproxy_http_responses_total{listener="web",class="2xx"}': 2.0,
        "gproxy_connections_accepted_total": 1.0,
        'gproxy_sessions_closed_total{code="--"}': 1.0,
        'gproxy_transferred_bytes_total{direction="in"}': 100.0,
        'gproxy_transferred_bytes_total{direction="out"}': 300.0,
        'gproxy_backend_connects_total{upstream="app",backend="b1"}': 1.0,
        'gproxy_backend_reuses_total{upstream="app",backend="b1"}': 1.0,
    }
    before = {'gproxy_http_requests_total{listener="web"}': 10.0}
    plain = settings.Settings(
        {"upstreams": {name: {"pool": {}, "health_check": {}} for name in settings.LISTENERS.values()}}
    )

    assert checks.calm_counters(checks.Metrics(before, after), traffic, entries, plain) == []

    after['gproxy_http_requests_total{listener="web"}'] = 13.0
    after['gproxy_backend_connects_total{upstream="app",backend="b1"}'] = 2.0
    assert checks.calm_counters(checks.Metrics(before, after), traffic, entries, plain) == [
        "requests of web: 3 by gproxy, 2 by us",
        "http connections lent: 3 by gproxy, 2 by us",
    ]


def test_totals_allow_what_a_crash_may_lose_and_no_more(checks):
    told = Counter(
        {r"requests\.(web|plain)": 1000, r"upstream\.(app|even)\.backend\.[^.]+\.(connects|reuses)": 1000,
         "connections_accepted": 100, r"sessions_closed\..*": 100}
    )  # fmt: skip
    seen = checks.Totals(asked=1000, begun=1000, executed=1000, connections=100)
    assert checks.totals(seen, told.__getitem__, 100) == []

    seen.executed = seen.begun = 1000 + checks.LOST_BY_A_KILL
    assert len(checks.totals(seen, told.__getitem__, 100)) == 2
    seen.worker_kills = 1
    assert checks.totals(seen, told.__getitem__, 100) == []

    told["requests\\.(web|plain)"] = 1001
    seen.asked = 1000
    assert checks.totals(seen, told.__getitem__, 100) == ["1001 requests, but clients sent 1000"]


def readings(memory, sizes):
    return [memory.Reading(30.0 * i, "worker0", 7, size, 20) for i, size in enumerate(sizes)]


MB = 1_000_000


@pytest.mark.parametrize(
    ("sizes", "leaks"),
    [
        ([30 * MB] * 20, False),
        ([20 * MB, 25 * MB, 28 * MB, 30 * MB, 31 * MB] + [32 * MB] * 15, False),  # it warms up
        ([30 * MB + i * MB // 2 for i in range(20)] + [40 * MB] * 20, False),  # for ten minutes
        ([30 * MB + i * MB // 2 for i in range(50)], True),
        ([30 * MB + i * MB // 2 + (i % 3) * 5 * MB for i in range(50)], True),  # and hides it
        ([30 * MB] * 10 + [60 * MB] + [30 * MB] * 9, False),  # an odd one
        ([30 * MB + i * 5 * MB for i in range(5)], False),  # too few to tell
    ],
)
def test_a_leak_is_a_trend(memory, sizes, leaks):
    assert bool(memory.leaks(readings(memory, sizes))) is leaks


def test_what_is_held_at_rest_must_not_grow():
    held = import_module("soak.holdings")
    baseline = held.Baseline()

    def now(sockets, pipes=0, watchers=3):
        return {"worker0": (7, held.Held(Counter(socket=sockets), pipes, watchers))}

    assert baseline.grown(now(9), 0) == []
    assert baseline.grown(now(8, pipes=4), 0) == []
    assert baseline.grown(now(10), 1) == []
    assert baseline.grown(now(10, watchers=4), 0) == [
        "worker0 (7): 10 descriptors of kind socket, not 9",
        "worker0 (7): 4 watchers, not 3",
    ]


def test_the_section_of_the_manual(tmp_path):
    document = import_module("soak.document")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n")
    curve = [
        [
            {"seconds": 5.0 * i, "name": name, "pid": 1, "resident": 30 * MB + i, "files": 9}
            for name in ("master", "drain0")
        ]
        for i in range(3)
    ]
    report = {
        "seed": 4711, "seconds": 120.0, "cycles": 5, "requests": {"GET good": 1200, "POST failed": 3},
        "faults": {"origin killed": 4}, "actions": {"half_close": 7, "answered": 1200}, "checked": {"ledger": 10},
        "violations": [], "curve": curve, "judged": 2,
    }  # fmt: skip

    document.write(report, page)

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    for each in ("Seed 4711, 2 minutes", "1,203 requests", "| origin killed | 4 |", "| half close | 7 |", "workers 30"):
        assert each in text
    assert (tmp_path / document.PICTURE).read_text().count("<polyline") == 3

    page.write_text("without marks")
    with pytest.raises(ValueError, match="has no lines"):
        document.write(report, page)


def test_processes_live_long_enough_in_a_long_run_for_a_verdict(memory):
    program = import_module("soak.program")
    left_alone = program.ERA_SECONDS * 0.7 - memory.WARM_UP_SECONDS  # by default
    assert left_alone / (program.ROUGH_SECONDS + program.CALM_SECONDS + 10) > memory.LEAST_READINGS
