"""What the processes of a configuration share: the board, the rows of counters, and what StatsD was told of them."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.health import Administrative, Operational
from gproxy.metrics import Slot, Snapshot, changes
from gproxy.shared import Shared, Totals, merged
from tests.support.child import in_child
from tests.support.configs import make_config

ONE, TWO = "127.0.0.1:1", "127.0.0.1:2"


def shared(workers: int = 2, **backends: str) -> Shared:
    """Of an upstream `app`."""
    return Shared(make_config({"app": backends or {"b1": ONE}}, workers=workers))


def told(totals: Totals) -> dict[str, float]:
    """One push: what StatsD hears."""
    snapshot = totals.snapshot()
    samples = changes(totals.before, snapshot)
    totals.told(snapshot)
    return {sample.name: sample.value for sample in samples}


# --- the board ------------------------------------------------------------------------


def test_at_first_nothing_is_known() -> None:
    line = shared().line("app", "b1")
    assert (line.operational, line.administrative) == (Operational.UNKNOWN, Administrative.READY)
    assert (line.weight, line.idle_limit) == (None, None)


def test_a_line_keeps_each_of_its_values_apart() -> None:
    board = shared(b1=ONE, b2=TWO)
    line = board.line("app", "b1")
    line.operational, line.administrative = Operational.DOWN, Administrative.MAINT
    line.weight, line.idle_limit = 7, 4.5
    assert (line.operational, line.administrative) == (Operational.DOWN, Administrative.MAINT)
    assert (line.weight, line.idle_limit) == (7, 4.5)
    assert repr(board.line("app", "b2")) == "<BackendLine unknown ready weight=None>"
    assert not board.checked


def test_an_operator_s_weight_can_be_taken_back() -> None:
    line = shared().line("app", "b1")
    line.weight = 7
    line.weight = None
    assert line.weight is None


def test_each_change_has_a_version_of_its_own() -> None:
    board = shared()
    versions = [board.version]
    for _ in range(2):
        board.changed()
        versions.append(board.version)
    assert len(set(versions)) == 3


def test_the_end_of_the_first_checks_is_no_change_of_the_board() -> None:
    board = shared()
    version = board.version
    board.checked = True
    assert board.checked
    assert board.version == version


def test_what_a_child_writes_its_parent_reads() -> None:
    board = shared()

    def work() -> None:
        board.line("app", "b1").operational = Operational.UP
        board.changed()
        board.checked = True
        board.alive(1)
        board.row(1).count(Slot.BYTES_IN, 5)

    in_child(work)
    assert board.line("app", "b1").operational is Operational.UP
    assert (board.version, board.checked) == (1, True)
    assert board.seen_alive(1) > board.seen_alive(0) == 0
    assert board.row(1).view[Slot.BYTES_IN] == 5


def test_what_the_parent_writes_a_child_reads_that_lives_already() -> None:
    line = shared().line("app", "b1")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reader, 1)
        os._exit(line.weight or 0)
    line.weight = 7
    os.write(writer, b"!")
    _, status = os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert os.waitstatus_to_exitcode(status) == 7


# --- learning from an earlier configuration ------------------------------------------------


def test_a_backend_that_stays_is_known() -> None:
    earlier, later = shared(b1=ONE, b2=TWO), shared(b0=TWO, b1=ONE)
    line = earlier.line("app", "b1")
    line.operational, line.administrative = Operational.DOWN, Administrative.DRAIN
    line.weight, line.idle_limit = 7, 4.5
    later.learn(earlier)
    learnt = later.line("app", "b1")
    assert (learnt.operational, learnt.administrative) == (Operational.DOWN, Administrative.DRAIN)
    assert (learnt.weight, learnt.idle_limit) == (7, 4.5)
    assert later.line("app", "b0").operational is Operational.UNKNOWN


@pytest.mark.parametrize(
    "upstreams",
    [{"app": {"b1": TWO}}, {"app": {"b2": ONE}}, {"api": {"b1": ONE}}],
    ids=["another address", "another name", "another upstream"],
)
def test_another_backend_is_not_taken_for_it(upstreams: dict[str, dict[str, str]]) -> None:
    earlier = shared(b1=ONE)
    earlier.line("app", "b1").operational = Operational.DOWN
    later = Shared(make_config(upstreams))
    later.learn(earlier)
    ((upstream, (backend,)),) = [(u, list(b)) for u, b in upstreams.items()]
    assert later.line(upstream, backend).operational is Operational.UNKNOWN


def test_a_backend_that_is_checked_no_more_is_not_down_for_ever() -> None:
    earlier, later = shared(), Shared(make_config(check="{type: none}"))
    line = earlier.line("app", "b1")
    line.operational, line.administrative = Operational.DOWN, Administrative.DRAIN
    later.learn(earlier)
    assert later.line("app", "b1").operational is Operational.UNKNOWN
    assert later.line("app", "b1").administrative is Administrative.DRAIN


def test_learning_leaves_the_earlier_one_s_board_alone() -> None:
    earlier, later = shared(), shared()
    later.learn(earlier)
    later.line("app", "b1").operational = Operational.DOWN
    assert earlier.line("app", "b1").operational is Operational.UNKNOWN


# --- rows of counters --------------------------------------------------------------------


def test_rows_add_up() -> None:
    both = shared(workers=2)
    for slot, n in ((0, 1), (1, 2)):
        row = both.row(slot)
        row.count(Slot.BYTES_IN, n)
        row.count(Slot.ACTIVE, 10 * n)
        row.session_closed("--")
        row.backend("app", "b1").connects += 100 * n
        row.backend("app", "b1").active += n
        row.listener("web0").requests += n
        row.connect_time.record(0.01)
    both.steward_row().count(Slot.LOG_DROPPED, 4)
    total = both.total().snapshot()
    assert total.counters["bytes_in"] == 3
    assert total.gauges["active_connections_total"] == both.active() == 30
    assert total.counters["sessions_closed.normal"] == 2
    assert total.counters["upstream.app.backend.b1.connects"] == 300
    assert total.gauges["connections_per_backend.app.b1"] == 3
    assert total.counters["requests.web0"] == 3
    assert total.counters["log_dropped"] == 4
    assert sum(total.histograms["connect_time"]) == 2


def test_of_the_workers_lags_the_largest_counts() -> None:
    both = shared(workers=3)
    for slot, lag in enumerate((0.001, 0.005, 0.002)):
        both.row(slot).hub_lag(lag)
    assert both.total().snapshot().gauges["hub_lag"] == 5.0


def test_a_backend_that_several_workers_have_ejected_is_ejected_once() -> None:
    both = shared(workers=3, b1=ONE, b2=TWO)
    for slot in (1, 2):
        both.row(slot).backend("app", "b1").ejected = 1
    gauges = both.total().snapshot().gauges
    assert gauges["upstream.app.backend.b1.ejected"] == 1
    assert gauges["upstream.app.backend.b2.ejected"] == 0


@pytest.mark.parametrize("up", [0, 1])
def test_of_health_the_steward_s_word_counts(up: int) -> None:
    both = shared(workers=2)
    for slot in range(2):
        both.row(slot).backend("app", "b1").healthy = 1 - up
    both.steward_row().backend("app", "b1").healthy = up
    assert both.total().snapshot().gauges["backend_health_status.app.b1"] == up


def test_the_total_is_a_copy() -> None:
    both = shared()
    both.total().count(Slot.BYTES_IN, 5)
    assert both.total().view[Slot.BYTES_IN] == 0


@pytest.mark.parametrize(("own", "others"), [(0, 6), (1, 5), (2, 3)])
def test_what_the_other_workers_hold(own: int, others: int) -> None:
    three = shared(workers=3)
    for slot in range(3):
        three.row(slot).count(Slot.ACTIVE, slot + 1 + (slot == 2))
    three.steward_row().count(Slot.ACTIVE, 100)
    assert three.elsewhere(own, Slot.ACTIVE) == others


# --- processes that end ------------------------------------------------------------------


def test_a_dead_worker_s_gauges_are_forgotten_and_its_counters_are_not() -> None:
    both = shared(workers=2)
    for slot in range(2):
        row = both.row(slot)
        row.count(Slot.ACTIVE, 3)
        row.count(Slot.BYTES_OUT, 5)
        row.hub_lag(0.001)
        row.listener("web0").active, row.listener("web0").rejected = 2, 1
        stats = row.backend("app", "b1")
        stats.active = stats.pool_idle = stats.queue = stats.connects = 1
        both.alive(slot)
    both.forget(0)
    total = both.total().snapshot()
    assert total.gauges["active_connections_total"] == 3
    assert total.gauges["active_connections.web0"] == 2
    assert total.gauges["upstream.app.backend.b1.pool_idle"] == 1
    assert both.row(0).view[Slot.HUB_LAG] == 0
    assert total.counters["bytes_out"] == 10
    assert total.counters["connections_rejected.web0"] == 2
    assert total.counters["upstream.app.backend.b1.connects"] == 2
    assert both.seen_alive(1) > both.seen_alive(0) == 0


def test_the_next_process_of_a_slot_counts_on() -> None:
    both = shared(workers=2)
    for _ in range(2):
        in_child(lambda: both.row(0).count(Slot.BYTES_IN, 5))
        both.forget(0)
    assert both.total().view[Slot.BYTES_IN] == 10


def test_the_worst_lag_starts_anew_with_each_snapshot() -> None:
    both = shared(workers=2)
    totals = Totals(both)
    both.row(1).hub_lag(0.005)
    assert totals.snapshot().gauges["hub_lag"] == 5.0
    assert totals.snapshot().gauges["hub_lag"] == 0


# --- what StatsD is told -----------------------------------------------------------------


def test_growth_is_told_once() -> None:
    both = shared()
    totals = Totals(both)
    both.row(0).count(Slot.BYTES_IN, 5)
    assert [told(totals)["bytes_in"], told(totals)["bytes_in"]] == [5, 0]


def test_what_did_not_leave_is_told_with_the_next_snapshot() -> None:
    both = shared()
    totals = Totals(both)
    both.row(0).count(Slot.BYTES_IN, 5)
    totals.snapshot()
    both.row(0).count(Slot.BYTES_IN, 2)
    assert told(totals)["bytes_in"] == 7


def test_another_steward_tells_on() -> None:
    both = shared()
    both.row(0).count(Slot.BYTES_IN, 5)
    both.row(0).connect_time.record(0.01)
    in_child(lambda: told(Totals(both)))
    both.row(0).count(Slot.BYTES_IN, 2)
    after = told(Totals(both))
    assert after["bytes_in"] == 2
    assert "connect_time.p50" not in after


def test_sessions_of_an_earlier_configuration_are_counted_while_they_last_and_told_once() -> None:
    earlier, later = shared(), shared()
    earlier.row(0).count(Slot.BYTES_IN, 5)
    earlier.row(0).count(Slot.ACTIVE, 1)
    told(Totals(earlier))
    totals = Totals(later, [earlier])
    earlier.row(0).count(Slot.BYTES_IN, 2)
    later.row(0).count(Slot.BYTES_IN, 10)
    later.row(0).count(Slot.ACTIVE, 1)
    now = told(totals)
    assert (now["bytes_in"], now["active_connections_total"]) == (12, 2)
    earlier.forget(0)
    earlier.row(0).count(Slot.BYTES_IN, 1)  # it was not pushed before its end
    totals.over(earlier)
    now = told(totals)
    assert (now["bytes_in"], now["active_connections_total"]) == (1, 1)
    assert told(totals)["bytes_in"] == 0
    assert told(Totals(later))["bytes_in"] == 0


def test_names_that_vanish_are_told_while_they_last() -> None:
    earlier, later = shared(b1=ONE, b2=TWO), shared(b1=ONE)
    totals = Totals(later, [earlier])
    name = "upstream.app.backend.b2.connects"
    earlier.row(0).backend("app", "b2").connects += 3
    assert told(totals)[name] == 3
    totals.over(earlier)
    assert name not in told(totals)


def test_names_that_appear_begin_at_zero() -> None:
    earlier, later = shared(b1=ONE), shared(b0=TWO, b1=ONE)
    earlier.row(0).backend("app", "b1").connects += 5
    told(Totals(earlier))
    totals = Totals(later, [earlier])
    later.row(0).backend("app", "b0").connects += 2
    totals.over(earlier)
    now = told(totals)
    assert now["upstream.app.backend.b0.connects"] == 2
    assert now["upstream.app.backend.b1.connects"] == 0


def test_a_chain_of_configurations_forgets_nothing() -> None:
    first, second, third = shared(), shared(), shared()
    for each in (first, second, third):
        each.row(0).count(Slot.BYTES_IN, 5)
    Totals(second, [first]).over(first)
    totals = Totals(third, [second])
    totals.over(second)
    assert told(totals)["bytes_in"] == 15


def test_of_health_the_present_configuration_s_word_counts() -> None:
    """The earlier one's steward has ended: what it said last is not true any more."""
    earlier, later = shared(), shared()
    earlier.steward_row().backend("app", "b1").healthy = 1
    assert told(Totals(later, [earlier]))["backend_health_status.app.b1"] == 0


def test_of_several_configurations_lags_and_ejections_the_largest_counts() -> None:
    earlier, later = shared(), shared()
    for each, lag in ((earlier, 0.005), (later, 0.002)):
        each.row(0).hub_lag(lag)
        each.row(0).backend("app", "b1").ejected = 1
    now = told(Totals(later, [earlier]))
    assert (now["hub_lag"], now["upstream.app.backend.b1.ejected"]) == (5.0, 1)


def test_snapshots_are_merged_by_names() -> None:
    kinds = frozenset(["most"]), frozenset(["health"])
    first = Snapshot({"sum": 1, "most": 1, "health": 0}, {"n": 1}, {"h": [1, 0]}, *kinds)
    second = Snapshot({"sum": 2, "most": 2, "health": 1, "gone": 1}, {"n": 2, "past": 3}, {"h": [1, 1]})
    merge = Snapshot({"sum": 3, "most": 2, "health": 0}, {"n": 3, "past": 3}, {"h": [2, 1]}, *kinds)
    assert merged([first, second]) == merge


# What happens to a chain of configurations, told by its steps: growth of a backend's counter in the present
# configuration or the one before, a push, a push of which the news is lost, a reload, the end of the earlier one,
# the death of a worker and of the steward.
STEPS = st.one_of(
    st.tuples(st.sampled_from(["count", "count earlier"]), st.sampled_from(["b1", "b2", "b3"]), st.integers(0, 1)),
    st.tuples(st.sampled_from(["push", "lose", "reload", "over", "replace steward", "replace worker"])),
)


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_what_was_told_is_what_was_counted(steps: list[tuple[object, ...]]) -> None:
    layouts = [{"b1": ONE, "b2": TWO}, {"b3": TWO, "b1": ONE}]  # b1 lives on, the others come and go
    present, number = shared(**layouts[0]), 0
    earlier: list[Shared] = []
    totals = Totals(present)
    counted: Counter[str] = Counter()
    heard: Counter[str] = Counter()

    def push() -> None:
        for name, value in told(totals).items():
            heard[name] += int(value)

    def count(where: Shared, backend: str, slot: int) -> None:
        row = where.row(slot)
        row.count(Slot.BYTES_IN)
        counted["bytes_in"] += 1
        if backend in {b.name for u in where.config.upstreams for b in u.backends}:
            row.backend("app", backend).connects += 1
            counted[f"upstream.app.backend.{backend}.connects"] += 1

    for step in steps:
        match step:
            case ("count", str(backend), int(slot)):
                count(present, backend, slot)
            case ("count earlier", str(backend), int(slot)) if earlier:
                count(earlier[0], backend, slot)
            case ("push",):
                push()
            case ("lose",):
                totals.snapshot()
            case ("reload",):
                number += 1
                earlier.append(present)
                present = shared(**layouts[number % 2])
                totals = Totals(present, earlier)
            case ("over",) if earlier:
                push()  # as the steward does: some names may not live on
                totals.over(earlier.pop(0))
            case ("replace steward",):
                totals = Totals(present, earlier)
            case ("replace worker",):
                present.forget(0)
    push()
    assert heard["bytes_in"] == counted["bytes_in"]
    for backend in ("b1", "b2", "b3"):
        name = f"upstream.app.backend.{backend}.connects"
        assert heard[name] == counted[name]


@given(st.lists(STEPS, max_size=60))
def test_names_that_live_on_need_no_push_before_a_configuration_is_over(steps: list[tuple[object, ...]]) -> None:
    present = shared()
    earlier: list[Shared] = []
    totals = Totals(present)
    counted = heard = 0
    for step in [*steps, ("push",)]:
        match step:
            case ("count" | "count earlier" as where, _, int(slot)):
                (earlier[-1] if earlier and where == "count earlier" else present).row(slot).count(Slot.BYTES_IN)
                counted += 1
            case ("push",):
                heard += int(told(totals)["bytes_in"])
            case ("reload",):
                earlier.append(present)
                present = shared()
                totals = Totals(present, earlier)
            case ("over",) if earlier:
                totals.over(earlier.pop(0))
            case ("replace steward",):
                totals = Totals(present, earlier)
    assert heard == counted


def test_repr_tells_the_state() -> None:
    board = shared(workers=2, b1=ONE, b2=TWO)
    board.changed()
    assert repr(board) == "<Shared 2 workers, 2 backends, version 1>"
