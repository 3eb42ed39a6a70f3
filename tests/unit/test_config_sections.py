"""What the sections mean, what they inherit, and what can't work together."""

from dataclasses import fields

import pytest

from gproxy.config import parse
from gproxy.config.http import HEADER_RULES, ROUTE
from gproxy.config.root import LISTENER, LOG, STATSD
from gproxy.config.upstreams import BACKEND, HEALTH_CHECK, PASSIVE_HEALTH, POOL, STICKY, UPSTREAM
from gproxy.core.address import Address
from gproxy.core.settings import (
    AdminSettings,
    AllDown,
    BackendSettings,
    BalanceSettings,
    Config,
    DownAction,
    HeaderRules,
    HealthCheckSettings,
    ListenerSettings,
    LogSettings,
    OnOverload,
    PassiveHealthSettings,
    PoolSettings,
    Probe,
    Reuse,
    RouteSettings,
    StatsdSettings,
    StickySettings,
    Timeouts,
    UpstreamSettings,
)
from gproxy.errors import ConfigError

TEMPLATE = """\
listeners:
  - bind: 127.0.0.1:9000
    upstream: app
{listener}
upstreams:
  app:
    backends: {backends}
{upstream}
{root}
"""


def text(root="", listener="", upstream="", backends="[127.0.0.1:9100, 127.0.0.1:9101]") -> str:
    return TEMPLATE.format(root=root, listener=listener, upstream=indent(upstream), backends=backends)


def indent(lines: str) -> str:
    return "\n".join("    " + line for line in lines.splitlines())


def read(**parts) -> Config:
    return parse(text(**parts), "f.yaml", {})


def app(**parts) -> UpstreamSettings:
    return read(**parts).upstream("app")


def problems(**parts) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(**parts)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_the_least_file_has_the_defaults():
    backends = tuple(
        BackendSettings(name=f"127.0.0.1:{port}", address=Address("127.0.0.1", port)) for port in (9100, 9101)
    )
    assert read() == Config(
        listeners=(ListenerSettings(name="listener1", bind=Address("127.0.0.1", 9000), upstream="app"),),
        upstreams=(UpstreamSettings(name="app", backends=backends),),
    )


@pytest.mark.parametrize(
    ("table", "settings"),
    [
        (POOL, PoolSettings), (HEALTH_CHECK, HealthCheckSettings), (PASSIVE_HEALTH, PassiveHealthSettings),
        (STICKY, StickySettings), (ROUTE, RouteSettings), (HEADER_RULES, HeaderRules),
        (BACKEND, BackendSettings), (STATSD, StatsdSettings), (LOG, LogSettings),
    ],
)  # fmt: skip
def test_every_setting_has_its_key(table, settings):
    assert list(table) == [setting.name for setting in fields(settings)]


def test_every_setting_of_a_listener_and_an_upstream_has_its_key():
    timeouts = {setting.name for setting in fields(Timeouts)}
    assert set(LISTENER) == {s.name for s in fields(ListenerSettings)} - {"overrides"} | timeouts
    assert set(UPSTREAM) == {s.name for s in fields(UpstreamSettings)} - {"name", "timeouts"} | timeouts


def test_everything_at_once():
    config = read(
        root="statsd: {host: stats.example, port: 8126, prefix: team.lb}\n"
        "log: {level: debug, format: json, access: /var/log/a}\n"
        "load_balancer: {drain_timeout: 0, metrics_interval: 2s}\n"
        "workers: 1",
        listener="    name: front\n    mode: tcp\n    max_connections: 5\n    on_overload: reject\n    backlog: 6\n"
        "    stall_timeout: 7",
        upstream="balance: p2c\nretries: 0\nall_down: close\ndown_action: close_sessions\nresolve_interval: 9\n"
        "pool: {size: 4, reuse: quiescent, preconnect: 3, idle_timeout: 5, max_age: 6, max_uses: 7, quiescent_for: 0}\n"
        "health_check: {type: http, interval: 3, fast_interval: 3, timeout: 1, rise: 4, fall: 5, port: 81, path: /up,"
        " host: app, expect_status: [200, 300-302], expect_body: 'fine $$'}\n"
        "passive_health: {connect_failures: 0, eject_for: 1, max_eject_for: 1, max_ejected_percent: 100}",
        backends="[{name: b1, address: 'unix:/run/b', weight: 1000, max_connections: 3, backup: true}]".replace(
            "unix:/run/b", "[::1]:1"
        ),
    )
    assert config == Config(
        listeners=(
            ListenerSettings(
                name="front", bind=Address("127.0.0.1", 9000), upstream="app", max_connections=5,
                on_overload=OnOverload.REJECT, backlog=6,
                overrides=(("stall_timeout", 7.0),),
            ),
        ),
        upstreams=(
            UpstreamSettings(
                name="app", balance=BalanceSettings(kind="p2c"), retries=0, all_down=AllDown.CLOSE,
                down_action=DownAction.CLOSE_SESSIONS, resolve_interval=9.0,
                backends=(
                    BackendSettings(name="b1", address=Address("::1", 1), weight=1000, max_connections=3, backup=True),
                ),
                pool=PoolSettings(
                    size=4, reuse=Reuse.QUIESCENT, preconnect=3, idle_timeout=5.0, max_age=6.0, max_uses=7,
                    quiescent_for=0.0,
                ),
                health_check=HealthCheckSettings(
                    type=Probe.HTTP, interval=3.0, fast_interval=3.0, timeout=1.0, rise=4, fall=5, port=81, path="/up",
                    host="app", expect_status=((200, 200), (300, 302)), expect_body="fine $",
                ),
                passive_health=PassiveHealthSettings(
                    connect_failures=0, eject_for=1.0, max_eject_for=1.0, max_ejected_percent=100
                ),
            ),
        ),
        drain_timeout=0.0, metrics_interval=2.0,
        statsd=StatsdSettings(host="stats.example", port=8126, prefix="team.lb"),
        log=LogSettings(level="debug", format="json", access="/var/log/a"),
    )  # fmt: skip


# load_balancer and what is inherited


def test_load_balancer_speaks_for_every_upstream():
    upstream = app(
        root="load_balancer: {connection_pool_size: 20, backend_check_interval: 7, backend_failure_threshold: 4,"
        " connection_idle_timeout: 30, backend_connect_timeout: 2, retries: 1, resolve_interval: 8}"
    )
    assert (upstream.pool.size, upstream.pool.idle_timeout) == (20, 30.0)
    assert (upstream.health_check.interval, upstream.health_check.fall) == (7.0, 4)
    assert upstream.timeouts == Timeouts(connection_idle_timeout=30.0, backend_connect_timeout=2.0)
    assert (upstream.retries, upstream.resolve_interval) == (1, 8.0)


def test_an_upstream_s_own_keys_come_first():
    upstream = app(
        root="load_balancer: {connection_pool_size: 20, backend_check_interval: 7, backend_failure_threshold: 4,"
        " backend_connect_timeout: 2, queue_timeout: 9, retries: 1, resolve_interval: 8}",
        upstream="pool: {size: 3}\nhealth_check: {interval: 2, fall: 1}\nbackend_connect_timeout: 1\n"
        "retries: 5\nresolve_interval: 6",
    )
    assert (upstream.pool.size, upstream.health_check.interval, upstream.health_check.fall) == (3, 2.0, 1)
    assert upstream.timeouts == Timeouts(backend_connect_timeout=1.0, queue_timeout=9.0)
    assert (upstream.retries, upstream.resolve_interval) == (5, 6.0)


@pytest.mark.parametrize(
    ("root", "upstream", "idle"),
    [
        ("", "", 60.0),
        ("load_balancer: {connection_idle_timeout: 50}", "", 50.0),
        ("load_balancer: {connection_idle_timeout: 50}", "connection_idle_timeout: 40", 40.0),
        ("load_balancer: {connection_idle_timeout: 50}", "connection_idle_timeout: 40\npool: {idle_timeout: 30}", 30.0),
    ],
)
def test_how_long_a_pooled_connection_may_idle(root, upstream, idle):
    assert app(root=root, upstream=upstream).pool.idle_timeout == idle


@pytest.mark.parametrize("timeout", [setting.name for setting in fields(Timeouts)])
def test_every_timeout_stands_in_three_places(timeout):
    config = read(
        root=f"load_balancer: {{{timeout}: 11}}", listener=f"    {timeout}: 12", upstream=f"{timeout}: 13"
    )  # fmt: skip
    assert getattr(config.upstream("app").timeouts, timeout) == 13.0
    assert config.listeners[0].overrides == ((timeout, 12.0),)
    assert getattr(app(root=f"load_balancer: {{{timeout}: 11}}").timeouts, timeout) == 11.0


def test_drain_timeout_is_for_the_whole_process():
    assert problems(listener="    drain_timeout: 1", upstream="drain_timeout: 1") == [
        "listeners[0].drain_timeout: stands under load_balancer only, it holds for the whole process",
        "upstreams.app.drain_timeout: stands under load_balancer only, it holds for the whole process",
    ]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("connection_pool_size", "stands under load_balancer; here it is `size` under `pool`"),
        ("backend_check_interval", "stands under load_balancer; here it is `interval` under `health_check`"),
        ("backend_failure_threshold", "stands under load_balancer; here it is `fall` under `health_check`"),
        ("metrics_interval", "stands under load_balancer only, it holds for the whole process"),
    ],
)
def test_a_key_of_load_balancer_in_an_upstream_says_where_to_put_it(key, hint):
    assert problems(upstream=f"{key}: 1") == [f"upstreams.app.{key}: {hint}"]


@pytest.mark.parametrize(
    ("interval", "fast"), [("0.5", 0.5), ("1", 1.0), ("10", 1.0)]
)  # fmt: skip
def test_fast_interval_is_a_second_and_never_above_interval(interval, fast):
    assert app(upstream=f"health_check: {{interval: {interval}}}").health_check.fast_interval == fast
    assert app(root=f"load_balancer: {{backend_check_interval: {interval}}}").health_check.fast_interval == fast


def test_max_eject_for_is_never_below_the_first_ejection():
    assert app(upstream="passive_health: {eject_for: 10m}").passive_health.max_eject_for == 600.0


# listeners


def test_names_of_listeners_are_counted():
    config = read(listener="  - {bind: 'a:0', upstream: app, name: x}\n  - {bind: 'a:0', upstream: app}")
    assert [listener.name for listener in config.listeners] == ["listener1", "x", "listener3"]


def test_two_listeners_of_one_name():
    assert problems(listener="  - {bind: 'a:0', upstream: app, name: listener1}") == [
        "listeners[1].name: 'listener1' is the name of another listener"
    ]


@pytest.mark.parametrize("bind", ["127.0.0.1:9000", "a:0"])
def test_two_listeners_of_one_address(bind):
    listener = f"  - {{bind: '{bind}', upstream: app}}\n  - {{bind: '{bind}', upstream: app}}"
    if bind == "a:0":
        assert len(read(listener=listener).listeners) == 3
    else:
        assert problems(listener=listener) == [
            f"listeners[{i}].bind: '127.0.0.1:9000' is taken by the listener on line 2 already" for i in (1, 2)
        ]


def test_two_listeners_of_one_socket_path():
    listener = "  - {bind: 'unix:/a', upstream: app}\n  - {bind: 'unix:/a', upstream: app}"
    assert "is taken by the listener on line 4 already" in problems(listener=listener)[0]


def test_a_listener_s_upstream_must_exist():
    assert problems(listener="  - {bind: 'a:1', upstream: appp}") == [
        "listeners[1].upstream: there is no upstream 'appp'; did you mean 'app'?"
    ]


def test_a_listener_needs_a_bind_and_an_upstream():
    assert problems(listener="  - {}") == [
        "listeners[1]: needs the key 'bind', such as 127.0.0.1:9000",
        "listeners[1]: needs the key 'upstream', such as app",
    ]


def test_a_listener_does_not_blame_upstreams_that_are_missing():
    with pytest.raises(ConfigError) as caught:
        parse("listeners: [{bind: 'a:1', upstream: app}]", "f", {})
    assert [problem.message.split(",")[0] for problem in caught.value.problems] == ["needs the key 'upstreams'"]


def test_a_listener_does_not_blame_upstreams_that_are_wrong_themselves():
    assert problems(upstream="retries: x") == [
        "upstreams.app.retries: must be a whole number from 0 to 100, not 'x'"
    ]  # fmt: skip


def test_a_listener_that_would_dial_itself():
    assert problems(backends="[127.0.0.1:9000]") == [
        "listeners[0].bind: '127.0.0.1:9000' is a backend of upstream 'app' too: it would dial itself"
    ]


def test_listeners_may_stand_in_a_row():
    config = read(listener="  - {bind: 'a:1', upstream: next}", root="  next: {backends: [127.0.0.1:9000]}")
    assert len(config.listeners) == 2


def test_an_upstream_that_nobody_uses_is_a_warning():
    config = read(root="  spare: {backends: [a:1]}")
    assert config.warnings == ("f.yaml:9: upstreams.spare: no listener uses this upstream",)


# what does not work, or not yet


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"listener": "    mode: udp"}, "listeners[0].mode: must be one of tcp, http, not 'udp'"),
    ],
)
def test_what_does_not_work_or_not_yet(parts, problem):
    assert problems(**parts) == [problem]


# upstreams and backends


@pytest.mark.parametrize("kind", ["round_robin", "least_connections", "p2c", "random", "source_hash"])
def test_balancing_by_a_word(kind):
    assert app(upstream=f"balance: {kind}").balance == BalanceSettings(kind=kind)


def test_balancing_by_a_function():
    found = app(upstream='balance: {python: "pkg.mod:choose"}').balance
    assert found == BalanceSettings(kind="python", argument="pkg.mod:choose")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("roundrobin", "balance: must be one of round_robin, least_connections, p2c, random, source_hash, "
         "not 'roundrobin'; did you mean 'round_robin'?"),
        ("python", "balance: must be one of round_robin"),
        ("{}", 'balance: needs a policy, such as round_robin or {python: "package.module:choose"}'),
        ("{python: }", "balance: needs a policy"),
        ("{python: choose}", "balance.python: must be a function such as package.module:choose, not 'choose'"),
        ("{pyton: 'a:b'}", "balance.pyton: unknown key 'pyton'; did you mean 'python'?"),
        ("[p2c]", "balance: must be a single value, not a list"),
    ],
)  # fmt: skip
def test_balancing_that_makes_no_sense(value, problem):
    assert problems(upstream=f"balance: {value}")[0].startswith(f"upstreams.app.{problem}")


@pytest.mark.parametrize("backends", ["[]", "~"])
def test_an_upstream_needs_a_backend(backends):
    assert "needs" in problems(backends=backends)[0]


@pytest.mark.parametrize("name", ['"a b"', "a/b", '""', '"a\\tb"', "x" * 101])
def test_names_of_upstreams(name):
    found = problems(root=f"  {name}: {{backends: [a:1], retries: x}}")
    assert len(found) == 2  # the name, and what is inside
    assert "must be a name" in "".join(found)


def test_upstreams_that_statsd_cannot_tell_apart():
    assert problems(root="  a.b: {backends: [a:1]}\n  a_b: {backends: [a:1]}") == [
        "upstreams.a_b: 'a_b' is to StatsD the same as 'a.b', the name of another upstream"
    ]


def test_a_backend_needs_an_address():
    assert problems(backends="[{weight: 0}]") == [
        "upstreams.app.backends[0]: needs the key 'address', such as 127.0.0.1:9100",
        "upstreams.app.backends[0].weight: must be a whole number from 1 to 1000, not '0'",
    ]


def test_a_backend_s_name_is_its_address_or_its_own():
    names = [backend.name for backend in app(backends="['[::1]:1', 'unix:/a/b', {address: 'c:1', name: c}]").backends]
    assert names == ["[::1]:1", "unix:/a/b", "c"]


def test_two_backends_of_one_name():
    assert problems(backends="[{name: a, address: 'a:1'}, {name: a, address: 'b:1'}]") == [
        "upstreams.app.backends[1]: 'a' is the name of another backend of this upstream"
    ]


def test_two_backends_that_statsd_cannot_tell_apart():
    assert problems(backends="[127.0.0.1:1, {name: 127_0_0_1_1, address: 'b:1'}]") == [
        "upstreams.app.backends[1]: '127_0_0_1_1' is to StatsD the same as '127.0.0.1:1', "
        "the name of another backend of this upstream"
    ]


def test_two_backends_of_one_address():
    assert problems(backends="[{name: a, address: 'H:1'}, {name: b, address: 'h:1'}]") == [
        "upstreams.app.backends[1]: 'h:1' is the address of the backend on line 7 already"
    ]


def test_upstreams_may_share_a_backend():
    assert read(root="  b: {backends: [127.0.0.1:9100]}").upstream("b")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("pool: {size: 0}", "pool.size: must be a whole number from 1"),
        ("pool: {size: 2, preconnect: 3}", "pool.preconnect: is 3, above the pool's size of 2"),
        ("pool: {preconnect: 11}", "pool.preconnect: is 11, above the pool's size of 10"),
        ("pool: {max_uses: 0}", "pool.max_uses: must be a whole number from 1"),
        ("pool: {max_age: 0}", "pool.max_age: must be a duration from 1ms to 365d"),
        ("pool: {idle_timeout: .inf}", "pool.idle_timeout: must be a duration such as"),
        ("stall_timeout: .nan", "stall_timeout: must be a duration such as"),
        ("stall_timeout: true", "stall_timeout: must be a duration such as"),
        ("retries: -1", "retries: must be a whole number from 0 to 100"),
        ("health_check: {rise: 0}", "health_check.rise: must be a whole number from 1 to 1000"),
        ("health_check: {fall: 0}", "health_check.fall: must be a whole number from 1 to 1000"),
        (
            "health_check: {interval: 2, fast_interval: 3}",
            "health_check.fast_interval: is 3 s, above the interval of 2 s",
        ),
        ("health_check: {fast_interval: 6}", "health_check.fast_interval: is 6 s, above the interval of 5 s"),
        ("health_check: {path: /x}", "health_check.path: only for a health check of type: http"),
        (
            "health_check: {type: tcp, expect_body: x}",
            "health_check.expect_body: only for a health check of type: http",
        ),
        ("health_check: {type: http, expect_status: []}", "health_check.expect_status: needs at least one status"),
        ("health_check: {type: http, expect_status: [200, x]}", "health_check.expect_status[1]: must be statuses"),
        ("health_check: {type: http, expect_body: ''}", "health_check.expect_body: must not be empty"),
        ("health_check: {port: 0}", "health_check.port: must be a whole number from 1 to 65535"),
        ("passive_health: {max_ejected_percent: 101}", "passive_health.max_ejected_percent: must be a whole number"),
        ("passive_health: {max_eject_for: 9}", "passive_health.max_eject_for: is 9 s, below 10 s, the first ejection"),
    ],
)
def test_values_that_cannot_work(line, problem):
    [found] = problems(upstream=line)
    assert found.startswith(f"upstreams.app.{problem}")


def test_a_pool_may_be_full_of_fresh_connections():
    assert app(upstream="pool: {size: 2, preconnect: 2}").pool.preconnect == 2


def test_preconnect_within_every_backend_s_limit():
    backends = "[{address: 'a:1', max_connections: 4}, {address: 'b:1', max_connections: 5}]"
    assert app(backends=backends, upstream="pool: {preconnect: 4}")
    assert problems(backends=backends, upstream="pool: {preconnect: 5}") == [
        "upstreams.app.pool.preconnect: is 5, above the max_connections of backend 'a:1', 4"
    ]


def test_another_port_of_a_unix_socket():
    assert problems(backends="['unix:/a']", upstream="health_check: {port: 1}") == [
        "upstreams.app.health_check.port: can't be another port where a backend is a unix socket"
    ]


def test_a_check_may_be_turned_off_and_keep_its_keys():
    assert app(upstream="health_check: {type: none, path: /x}").health_check.type is Probe.NONE


def test_http_checks_take_statuses_in_any_form():
    def found(value: str):
        return app(upstream=f"health_check: {{type: http, expect_status: {value}}}").health_check.expect_status

    assert found("200") == found("[200]") == ((200, 200),)
    assert found("'200-299,404'") == found("[200-299, '404']") == ((200, 299), (404, 404))


@pytest.mark.parametrize(
    ("root", "upstream"),
    [
        ("load_balancer: {connection_pool_size: x}", "pool: {preconnect: 11}"),
        ("load_balancer: {backend_check_interval: x}", "health_check: {fast_interval: 6}"),
        ("", "pool: {preconnect: 11, size: x}"),
        ("", "health_check: {fast_interval: 6, interval: x}"),
        ("", "health_check: {path: /x, type: htp}"),
        ("", "passive_health: {max_eject_for: 9, eject_for: x}"),
    ],
)
def test_a_value_that_was_refused_is_not_compared(root, upstream):
    assert len(problems(root=root, upstream=upstream)) == 1


# statsd and log


def test_an_empty_statsd_section_turns_it_on():
    assert read(root="statsd: {}").statsd == StatsdSettings()
    assert read().statsd is None


@pytest.mark.parametrize(
    ("root", "problem"),
    [
        ("statsd: off", "statsd: must be a mapping of keys to values, not 'off'"),
        ("statsd: {host: 'a:1'}", "statsd.host: must be a host without a port, not 'a:1'"),
        ("statsd: {port: 0}", "statsd.port: must be a whole number from 1 to 65535, not '0'"),
        ("statsd: {prefix: 'a b'}", "statsd.prefix: must be of letters, digits"),
        (
            "log: {level: warn}",
            "log.level: must be one of debug, info, warning, error, not 'warn'; did you mean 'warning'?",
        ),
        ("log: {format: xml}", "log.format: must be one of text, json, not 'xml'"),
        ("log: {access: on}", "log.access: must be off, - for standard output, or the path of a file, not 'on'"),
        ("load_balancer: {metrics_interval: 0}", "load_balancer.metrics_interval: must be a duration from 1ms"),
        ("load_balancer: {backend_failure_threshold: 0}", "load_balancer.backend_failure_threshold: must be a whole"),
        ("load_balancer: []", "load_balancer: must be a mapping"),
    ],
)
def test_sections_for_the_process(root, problem):
    [found] = problems(root=root)
    assert found.startswith(problem)


def test_off_is_a_word():
    assert read(root="log: {access: off}").log.access == "off"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("workers: 1", "needs the key 'listeners'"),
        ("workers: 1", "needs the key 'upstreams'"),
        ("listeners: []", "needs at least one listener"),
        ("upstreams: {}", "needs at least one upstream"),
        ("upstreams: []", "must be a mapping"),
        ("listeners: {}", "must be a list"),
        ("upstreams: {a: }", "upstreams.a: must be a mapping of keys to values, not nothing"),
        ("listeners: [~]", "listeners[0]: must be a mapping of keys to values, not nothing"),
    ],
)
def test_files_without_the_essentials(source, message):
    with pytest.raises(ConfigError) as caught:
        parse(source, "f", {})
    assert message in str(caught.value)


# admin


SECRET = "s3cret-s3cret-s3cret"


def test_without_the_section_there_is_no_admin_api():
    assert read().admin is None


@pytest.mark.parametrize("bind", ["127.0.0.1:9901", "127.1.2.3:1", "'[::1]:9901'", "localhost:9901", "unix:/run/admin"])
def test_who_is_on_this_machine_needs_no_token(bind):
    admin = read(root=f"admin: {{bind: {bind}}}").admin
    assert (str(admin.bind), admin.token) == (bind.strip("'"), None)


def test_an_empty_admin_section_turns_it_on():
    assert read(root="admin: {}").admin == AdminSettings()


@pytest.mark.parametrize("bind", ["0.0.0.0:9901", "'[::]:9901'", "10.0.0.1:1", "proxy.example:9901"])
def test_who_comes_from_elsewhere_needs_a_token(bind):
    assert read(root=f"admin: {{bind: {bind}, token: {SECRET}}}").admin.token == SECRET
    assert problems(root=f"admin: {{bind: {bind}}}") == [
        f"admin.bind: {bind if bind[0] == chr(39) else repr(bind)} can be reached from elsewhere: "
        "needs the key 'token' beside it"
    ]


@pytest.mark.parametrize("token", ["short", "'has blanks in its middle'", "'fifteen-and-n\u00f6n-ascii'", "x" * 201])
def test_a_bad_token_is_not_shown(token):
    assert problems(root=f"admin: {{token: {token}}}") == [
        "admin.token: must be 16 to 200 letters, digits and any of -._~+/="
    ]


def test_a_token_stays_out_of_logs():
    assert SECRET not in repr(read(root=f"admin: {{token: {SECRET}}}"))


def test_the_admin_api_does_not_listen_where_a_listener_does():
    taken = read().listeners[0].bind
    [problem] = problems(root=f"admin: {{bind: '{taken}', token: {SECRET}}}")
    assert problem.startswith(f"admin.bind: '{taken}' is taken by the listener on line")


def test_nor_where_one_listens_already_that_is_its_default():
    text = "listeners: [{bind: '127.0.0.1:9901', upstream: app}]\nupstreams: {app: {backends: ['b:1']}}\nadmin: {}\n"
    with pytest.raises(ConfigError, match=r"admin: '127.0.0.1:9901' is taken by the listener on line 1 already"):
        parse(text, "f.yaml", {})
