"""Documents of the API as tables."""

from gproxy.ctl import tables
from tests.support.states import backend, listener, state


def test_numbers_stand_to_the_right_and_nothing_trails():
    assert tables.table(("NAME", "N"), [("a", 1), ("long", 22)]) == "NAME   N\na      1\nlong  22"


def test_what_comes_from_outside_stays_one_line_and_moves_no_cursor():
    assert tables.table(("NAME",), [("a\nb\x1b[2J",)]) == "NAME\na\\nb\\x1b[2J"


def test_the_overview_tells_what_there_is():
    found = state(
        [backend("b1", active=3, max_connections=9, connects=12), backend("b2", operational="down", backup=True)],
        [listener("web", requests=7), listener("raw", mode="tcp")],
        max_connections=50, sessions=2, connections_accepted=8,
    )  # fmt: skip

    process, workers, listeners, upstreams, backends = tables.overview(found).split("\n\n")

    assert process.splitlines() == [
        "gproxy 1.2.3, process 4711, for 2 h 1 min: generation 1, log level info",
        "sessions: 2/50, accepted since its start: 8",
    ]
    assert workers.splitlines()[1].split() == ["0", "0.1", "s", "ago", "0"]
    assert [line.split()[5] for line in listeners.splitlines()[1:]] == ["7", "-"]
    assert upstreams.splitlines()[1].split() == ["app", "round_robin", "yes"]
    assert backends.splitlines()[1].split() == ["app/b1", "10.0.0.1:9102", "up", "1", "3/9", "0", "0", "12", "0", "0"]
    assert "down (backup)" in backends.splitlines()[2]


def test_the_overview_tells_what_an_operator_must_know():
    reload = {"number": 2, "outcome": "failed", "why": "line one\nline two", "ago": 3.0}
    text = tables.overview(state([], ending=True, reload=reload))
    assert "It is about to stop" in text
    assert "last reload: failed 3.0 s ago: line one\\nline two\n" in text
    running = {"number": 3, "outcome": "running", "why": None, "ago": 3.0}
    assert "last reload: on its way for 3.0 s\n" in tables.overview(state([], reload=running))


def test_processes_and_what_could_not_be_found_out():
    steward = {"process": "steward", "pid": 12, "sessions": 0, "resident_bytes": 40_000_000, "open_files": None,
               "greenlets": 5, "watchers": 7}  # fmt: skip
    text = tables.processes({"processes": [steward], "workers": 1, "answered": 0})
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["steward", "12", "0", "40000000", "-", "5", "7"],
        ["Of", "1", "workers", "1", "did", "not", "answer", "in", "time."],
    ]


def test_decisions_tell_who_was_left_out_and_why():
    decision = {
        "worker": 1, "ago": 0.5, "upstream": "app", "listener": "web", "client": "10.0.0.9", "key": "", "sticky": "",
        "candidates": ["b1"], "excluded": [{"backend": "b2", "reason": "down"}, {"backend": "b3", "reason": "full"}],
        "backend": "b1", "queued": False,
    }  # fmt: skip
    nobody = decision | {"backend": None, "excluded": []}
    waits = nobody | {"queued": True}

    text = tables.decisions({"decisions": [decision, nobody, waits], "workers": 2, "answered": 1})

    _, *rows, note = text.splitlines()
    assert [row.split("web")[1].split(maxsplit=1) for row in rows] == [
        ["app/b1", "b2: down, b3: full"], ["app/(none)", "-"], ["app/(waits)", "-"],
    ]  # fmt: skip
    assert note == "Of 2 workers 1 did not answer in time."
