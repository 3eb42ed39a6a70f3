"""The configuration of http listeners and of their upstreams."""

import os
from ipaddress import ip_network

import pytest

from gproxy.config import load, parse
from gproxy.config.http import HTTP_LISTENER, MAX_ERROR_FILE
from gproxy.config.walk import camel
from gproxy.core.http.end_to_end import HOP_BY_HOP
from gproxy.core.http.fields import FRAMING
from gproxy.core.http.options import forward_options
from gproxy.core.settings import (
    AllDown,
    BalanceSettings,
    Config,
    Forwarded,
    HeaderRules,
    ListenerSettings,
    Mode,
    Reuse,
    RouteSettings,
    StickySettings,
    UpstreamSettings,
)
from gproxy.errors import ConfigError

TEMPLATE = """\
listeners:
  - bind: 127.0.0.1:9000
    upstream: app
    mode: {mode}
{listener}
upstreams:
  app:
    backends: [127.0.0.1:9100]
{upstream}
  api:
    backends: [127.0.0.1:9200]
"""

HTTP_VALUES = {
    "forwarded": "off",
    "trusted_proxies": "[10.0.0.0/8]",
    "routes": "[{path: /v1, upstream: api}]",
    "request_headers": "{set: {X-A: b}}",
    "response_headers": "{remove: [Server]}",
    "max_request_line": "1KiB",
    "max_head": "16KiB",
    "max_fields": "64",
    "max_body": "1MiB",
    "error_files": "{503: sorry.html}",
    "explain_header": "true",
}


def text(listener="", upstream="", mode="http") -> str:
    return TEMPLATE.format(mode=mode, listener=indent(listener), upstream=indent(upstream))


def indent(lines: str) -> str:
    return "\n".join("    " + line for line in lines.splitlines())


def read(**parts) -> Config:
    return parse(text(**parts), "f.yaml", {})


def listener(keys: str) -> ListenerSettings:
    return read(listener=keys).listeners[0]


def app(keys: str = "", mode: str = "http") -> UpstreamSettings:
    return read(upstream=keys, mode=mode).upstream("app")


def problems_of(source: str, name: str = "f.yaml") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(source, name, {})
    return caught.value.lines()


def problems(**parts) -> list[str]:
    """Without the file's name and the line."""
    return [line.split(": ", 1)[1] for line in problems_of(text(**parts))]


def warnings(keys: str) -> list[str]:
    """Without those of the upstream that is there for routes."""
    return [line for line in read(listener=keys).warnings if "no listener uses" not in line]


# the listener


def test_an_http_listener_has_the_defaults():
    expected = read(mode="tcp").listeners[0]
    assert listener("") == ListenerSettings(name="listener1", bind=expected.bind, upstream="app", mode=Mode.HTTP)


def test_every_key_at_once(tmp_path):
    (tmp_path / "sorry.html").write_text("sorry")
    keys = "\n".join(f"{key}: {value}" for key, value in HTTP_VALUES.items())
    [found] = parse(text(keys), str(tmp_path / "f.yaml"), {}).listeners
    assert found == ListenerSettings(
        name="listener1", bind=found.bind, upstream="app", mode=Mode.HTTP,
        forwarded=Forwarded.OFF,
        trusted_proxies=(ip_network("10.0.0.0/8"),),
        routes=(RouteSettings(upstream="api", path="/v1"),),
        request_headers=HeaderRules(set=(("X-A", "b"),)),
        response_headers=HeaderRules(remove=("Server",)),
        max_request_line=1024, max_head=16384, max_fields=64, max_body=1 << 20,
        error_files=((503, str(tmp_path / "sorry.html")),),
        explain_header=True,
    )  # fmt: skip


def test_every_key_in_camel_case(tmp_path):
    (tmp_path / "sorry.html").write_text("sorry")
    snake = "\n".join(f"{key}: {value}" for key, value in HTTP_VALUES.items())
    camels = "\n".join(f"{camel(key)}: {value}" for key, value in HTTP_VALUES.items())
    source = str(tmp_path / "f.yaml")
    assert parse(text(camels), source, {}) == parse(text(snake), source, {})
    assert "maxRequestLine" in camels


def test_keys_of_upstreams_in_camel_case():
    snake = "retry_after: 7\nsticky: {max_age: 1h}\nhealth_check: {type: http, use_pool: true}\n"
    camels = "retryAfter: 7\nsticky: {maxAge: 1h}\nhealthCheck: {type: http, usePool: true}\n"
    assert app(camels + "passiveHealth: {serverErrors: 3}") == app(snake + "passive_health: {server_errors: 3}")
    assert app(camels).retry_after == 7


@pytest.mark.parametrize("key", HTTP_LISTENER)
def test_keys_for_http_are_errors_in_mode_tcp(key, tmp_path):
    (tmp_path / "sorry.html").write_text("sorry")
    source = text(f"{key}: {HTTP_VALUES[key]}", mode="tcp")
    assert problems_of(source, str(tmp_path / "f.yaml")) == [
        f"{tmp_path}/f.yaml:5: listeners[0].{key}: only for mode: http"
    ]


def test_keys_for_http_are_errors_where_tcp_is_the_default():
    source = text("max_fields: 3").replace("    mode: http\n", "")
    assert problems_of(source) == ["f.yaml:4: listeners[0].max_fields: only for mode: http"]


def test_a_mode_that_was_refused_says_nothing_of_keys():
    keys = "sticky: a\npool: {reuse: safe}\nall_down: 503"
    assert problems(listener="max_fields: 3", upstream=keys, mode="htp") == [
        "listeners[0].mode: must be one of tcp, http, not 'htp'; did you mean 'http'?"
    ]


@pytest.mark.parametrize("key", HTTP_VALUES)
def test_null_is_absent(key):
    assert listener(f"{key}: ~") == listener("")
    assert read(listener=f"{key}: ~", mode="tcp").listeners[0].mode is Mode.TCP


# trusted proxies


@pytest.mark.parametrize(
    ("written", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ('"::1"', "::1/128"),
        ("fd00::/8", "fd00::/8"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ('"::ffff:10.0.0.1"', "10.0.0.1/32"),
        ('"::ffff:10.0.0.0/104"', "10.0.0.0/8"),
        ('"::/0"', "::/0"),
    ],
)
def test_trusted_proxies(written, network):
    assert listener(f"trusted_proxies: [{written}]").trusted_proxies == (ip_network(network),)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("10.0.0.1/8", "must be a network, not '10.0.0.1/8'; did you mean '10.0.0.0/8'?"),
        ("fd00::1/8", "must be a network, not 'fd00::1/8'; did you mean 'fd00::/8'?"),
        ("fe80::1%eth0", "must be a network, not 'fe80::1%eth0'; did you mean 'fe80::1/128'?"),
        ("proxy.example", "must be a network or an address, such as 10.0.0.0/8 or ::1, not 'proxy.example'"),
        ("10.0.0.0/33", "must be a network or an address"),
        ("127.0.0.1:80", "must be a network or an address"),
        ('""', "must be a network or an address"),
        ("1", "must be a network or an address"),
    ],
)
def test_proxies_that_cannot_be_trusted(written, problem):
    [found] = problems(listener=f"trusted_proxies: [10.0.0.0/8, {written}]")
    assert found.startswith(f"listeners[0].trusted_proxies[1]: {problem}")


@pytest.mark.parametrize("written", ["[::1]", "[10.0.0.1, ::1/128]", "[ ::/0]"])
def test_an_ipv6_proxy_without_quotes(written):
    [found] = problems_of(text(f"trusted_proxies: {written}"))
    assert found.startswith("f.yaml:5: ")
    assert found.endswith('; quote an IPv6 address, such as "::1"')


def test_trusted_proxies_are_a_list():
    assert "must be a list" in problems(listener="trusted_proxies: 10.0.0.0/8")[0]


# routes


@pytest.mark.parametrize(
    ("written", "route"),
    [
        ("host: app.example", RouteSettings(upstream="api", host="app.example")),
        ("host: '*.example'", RouteSettings(upstream="api", host="*.example")),
        ("host: '[::1]'", RouteSettings(upstream="api", host="[::1]")),
        ("host: a_b.example.", RouteSettings(upstream="api", host="a_b.example.")),
        ("path: /", RouteSettings(upstream="api", path="/")),
        ("path: /v1/a%20b", RouteSettings(upstream="api", path="/v1/a%20b")),
        ("path: /.well-known/x..y", RouteSettings(upstream="api", path="/.well-known/x..y")),
        ("host: a, path: /b", RouteSettings(upstream="api", host="a", path="/b")),
    ],
)
def test_routes(written, route):
    assert listener(f"routes: [{{upstream: api, {written}}}]").routes == (route,)


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ("{path: /a}", ": needs the key 'upstream', such as app"),
        ("{upstream: api}", ": needs a host or a path, such as {host: api.example, path: /v1/, upstream: api}"),
        ("{upstream: api, hots: a}", ".hots: unknown key 'hots'; did you mean 'host'?"),
        ("{path: /a, upstream: apii}", ".upstream: there is no upstream 'apii'; did you mean 'api'?"),
        ("/a", ": must be a mapping of keys to values, not '/a'"),
        ("{upstream: api, host: 'a:80'}", ".host: must be a host without a port, not 'a:80'"),
        ("{upstream: api, host: '[::1]:80'}", ".host: must be a host without a port, not '[::1]:80'"),
        ("{upstream: api, host: '::1'}", ".host: must be a host such as app.example, *.example or [::1], not '::1'"),
        ("{upstream: api, host: '*'}", ".host: has a '*' that is not a whole first label: '*'; leave it out"),
        ("{upstream: api, host: '*a.b'}", ".host: has a '*' that is not a whole first label: '*a.b'; write *.example"),
        ("{upstream: api, host: '*.*.b'}", ".host: has a '*' that is not a whole first label"),
        ("{upstream: api, host: '*.'}", ".host: must be a host such as"),
        ("{upstream: api, host: '*.[::1]'}", ".host: must be a host such as"),
        ("{upstream: api, host: 'a b'}", ".host: must be a host such as"),
        ("{upstream: api, host: 'é.example'}", ".host: must be a host such as"),
        ("{upstream: api, host: 'http://a/'}", ".host: must be a host"),
        ("{upstream: api, host: ''}", ".host: must be a host such as"),
        ("{upstream: api, path: v1}", ".path: must start with '/', such as /v1/, not 'v1'"),
        ("{upstream: api, path: ''}", ".path: must start with '/'"),
        ("{upstream: api, path: '/a?b'}", ".path: must be a path without a query or a fragment"),
        ("{upstream: api, path: '/a#b'}", ".path: must be a path without a query or a fragment"),
        ("{upstream: api, path: '/a b'}", ".path: must be a path of at most 1024 characters, encoded as in a URL"),
        ("{upstream: api, path: '/é'}", ".path: must be a path of at most 1024 characters, encoded as in a URL"),
        ("{upstream: api, path: '/%4'}", ".path: must be a path of at most 1024 characters, encoded as in a URL"),
        (f"{{upstream: api, path: '/{'a' * 1024}'}}", ".path: must be a path of at most 1024 characters"),
        ("{upstream: api, path: /a/../b}", ".path: must be a path without '.' and '..' for segments"),
        ("{upstream: api, path: /a/.}", ".path: must be a path without '.' and '..' for segments"),
        ("{upstream: api, path: '/%2e%2E/b'}", ".path: must be a path without '.' and '..' for segments"),
    ],
)
def test_routes_that_make_no_sense(route, problem):
    [found] = problems(listener=f"routes: [{route}]")
    assert found.startswith(f"listeners[0].routes[0]{problem}")


@pytest.mark.parametrize("routes", ["[{host: *.example, upstream: api}]", "\n- host: *.example\n  upstream: api"])
def test_a_wildcard_without_quotes(routes):
    assert '; quote a host that begins with a star, such as "*.example"' in problems_of(text(f"routes: {routes}"))[0]


def test_a_problem_of_a_route_has_its_line():
    source = text("routes:\n  - path: /a\n    upstream: api\n  - path: b\n    upstream: nobody")
    assert [line.split(": ")[0] for line in problems_of(source)] == ["f.yaml:8", "f.yaml:9"]


def test_an_upstream_that_only_a_route_uses_is_used():
    assert read(listener="routes: [{path: /a, upstream: api}]").warnings == ()
    assert read().warnings == ("f.yaml:10: upstreams.api: no listener uses this upstream",)


def test_a_route_that_would_lead_back():
    source = text("routes: [{path: /a, upstream: api}, {path: /b, upstream: api}]").replace(":9200", ":9000")
    assert problems_of(source) == [
        "f.yaml:2: listeners[0].bind: '127.0.0.1:9000' is a backend of upstream 'api' too: it would dial itself"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("path: /", "path: /a"),
        ("path: /", "host: a"),
        ("path: /v1", "path: /v1/"),
        ("path: /v1/", "path: /v1"),
        ("path: /v1", "path: /v1/a"),
        ("path: //v1", "path: /%761/x"),
        ("host: A.example", "host: a.example."),
        ("host: '*.example'", "host: a.b.example"),
        ("host: '*.Example.'", "host: '*.b.example'"),
        ("host: '*.example', path: /a", "host: a.example, path: /a/b"),
        ("path: /a", "host: '*.example', path: /a"),
        ("host: '[::1]'", "host: '[::1]', path: /a"),
    ],
)
def test_a_route_that_an_earlier_one_covers_is_a_warning(first, second):
    routes = f"routes:\n- {{upstream: api, {first}}}\n- {{upstream: app, {second}}}"
    assert warnings(routes) == [
        "f.yaml:7: listeners[0].routes[1]: never matches: the route on line 6 takes all of its requests"
    ]


def test_a_covered_route_is_told_of_the_first_that_covers_it():
    routes = "routes:\n- {upstream: api, path: /a}\n- {upstream: api, path: /}\n- {upstream: api, path: /a/b}"
    assert warnings(routes) == [
        "f.yaml:8: listeners[0].routes[2]: never matches: the route on line 6 takes all of its requests"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("path: /a", "path: /"),
        ("path: /v1", "path: /v10"),
        ("path: /V1", "path: /v1"),
        ("host: a", "path: /a"),
        ("host: '*.example'", "host: example"),
        ("host: '*.example'", "host: anexample"),
        ("host: '*.b.example'", "host: '*.example'"),
        ("host: a.example", "host: '*.example'"),
        ("host: a, path: /a", "host: a"),
        ("host: a, path: /a", "host: a, path: /b"),
        ("path: /a", "host: a, path: /b"),
        ("host: '[::1]'", "host: '[::2]'"),
    ],
)
def test_a_route_with_something_left_is_no_warning(first, second):
    assert warnings(f"routes: [{{upstream: api, {first}}}, {{upstream: api, {second}}}]") == []


def test_many_routes_take_no_time():
    routes = "\n".join(f"- {{upstream: app, host: h{i}.{'a.' * 90}example, path: /{'b/' * 90}{i}}}" for i in range(300))
    assert len(listener("routes:\n" + routes).routes) == 300


# header fields


def test_header_rules_keep_what_is_written():
    found = listener("request_headers: {set: {X-B: 'a b', x_A: '', Host: 'app:80'}, remove: [Cookie, 'Te-a']}")
    assert found.request_headers == HeaderRules(
        set=(("X-B", "a b"), ("x_A", ""), ("Host", "app:80")), remove=("Cookie", "Te-a")
    )
    assert forward_options(found).request_remove == {b"cookie", b"te-a"}


def test_values_of_fields_are_text():
    found = listener("response_headers: {set: {X-A: 010, X-B: off, X-C: '${N:-1}'}}")
    assert found.response_headers.set == (("X-A", "010"), ("X-B", "off"), ("X-C", "1"))


@pytest.mark.parametrize("section", ["request_headers", "response_headers"])
@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | FRAMING | {b"trailer"}))
def test_rules_for_fields_that_gproxy_decides(section, name):
    field = name.decode().title()
    for rule, place in ((f"{{set: {{{field}: a}}}}", f"set.{field}"), (f"{{remove: [{field}]}}", "remove[0]")):
        [found] = problems(listener=f"{section}: {rule}")
        assert found.startswith(f"listeners[0].{section}.{place}: no rule can be made for '{field}': it ")


@pytest.mark.parametrize("rule", ["{set: {Content_Length: 5}}", "{remove: [transfer_encoding]}"])
def test_another_spelling_does_not_help(rule):
    assert "it says how the body is sent" in problems(listener=f"request_headers: {rule}")[0]


@pytest.mark.parametrize("name", ["Expect", "X-Request-ID"])
def test_fields_that_gproxy_relies_on_in_requests(name):
    assert problems(listener=f"request_headers: {{remove: [{name}]}}") == [
        f"listeners[0].request_headers.remove[0]: no rule can be made for '{name}': gproxy relies on it"
    ]
    assert listener(f"response_headers: {{remove: [{name}]}}").response_headers.remove == (name,)


def test_host_is_not_removed():
    assert problems(listener="request_headers: {remove: [X-A, hOst]}") == [
        "listeners[0].request_headers.remove[1]: every request needs Host, which can be set but not removed"
    ]


@pytest.mark.parametrize("value", ["a b", "a/b", "''", "'[::1'", "'a:99999'", "'user@a'"])
def test_host_is_set_to_a_host(value):
    [found] = problems(listener=f"request_headers: {{set: {{host: {value}}}}}")
    assert found.startswith("listeners[0].request_headers.set.host: must be a host with or without a port")


@pytest.mark.parametrize("name", ["X A", "''", "'X:A'", "X-É", "'X-A\\r\\n'", '"X\\r\\nY"', "'(x)'"])
def test_names_of_fields(name):
    for rules in (f"{{set: {{? {name} : a}}}}", f"{{remove: [{name}]}}"):
        assert (
            "must be the name of a header field, such as X-Team, not "
            in problems(listener=f"request_headers: {rules}")[0]
        )


@pytest.mark.parametrize("value", [r'"a\r\nX-B: c"', r'"a\nb"', r'"a\tb"', r'"a\x7f"', "é", r'"a\u2028b"'])
def test_values_of_fields_are_printable(value):
    [found] = problems(listener=f"response_headers: {{set: {{X-A: {value}}}}}")
    assert found.startswith("listeners[0].response_headers.set.X-A: must be printable ASCII text on one line, not ")


def test_a_variable_cannot_bring_another_field():
    source = text("request_headers: {set: {X-A: '${A}'}}")
    with pytest.raises(ConfigError, match="must be printable ASCII text on one line"):
        parse(source, "f", {"A": "a\r\nX-B: c"})


@pytest.mark.parametrize("value", ["' a'", "'a '"])
def test_values_of_fields_have_no_blanks_around_them(value):
    assert "must not begin or end with a blank" in problems(listener=f"request_headers: {{set: {{X-A: {value}}}}}")[0]


def test_a_field_without_a_value():
    assert problems(listener="request_headers: {set: {X-A: }}") == [
        "listeners[0].request_headers.set.X-A: must have a value"
    ]


@pytest.mark.parametrize("name", ["X-A", "x-a", "X_A"])
def test_a_field_is_set_or_removed(name):
    assert problems(listener=f"request_headers: {{set: {{X-A: b}}, remove: [X-B, {name}]}}") == [
        f"listeners[0].request_headers.remove[1]: '{name}' is set on line 5, which replaces what came; "
        "it needs no removal"
    ]


@pytest.mark.parametrize("name", ["x-a", "X_A"])
def test_a_field_is_set_once(name):
    assert problems(listener=f"request_headers: {{set: {{X-A: b, {name}: c}}}}") == [
        f"listeners[0].request_headers.set.{name}: '{name}' is the field that line 5 sets already"
    ]
    assert "duplicate key 'X-A'" in problems(listener="request_headers: {set: {X-A: b, X-A: c}}")[0]


def test_unknown_rules():
    assert problems(listener="request_headers: {add: {X-A: b}, sett: {}}") == [
        "listeners[0].request_headers.add: unknown key 'add'",
        "listeners[0].request_headers.sett: unknown key 'sett'; did you mean 'set'?",
    ]


# limits


def test_a_request_line_is_never_longer_than_a_head():
    assert listener("max_head: 4KiB").max_request_line == 4096
    assert listener("max_head: 4KiB\nmax_request_line: 4KiB").max_request_line == 4096
    assert listener("max_head: 8193").max_request_line == 8192


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("max_head: 4KiB\nmax_request_line: 4097", "max_request_line: is 4097 bytes, above the max_head of 4096 bytes"),
        ("max_request_line: 65537", "max_request_line: is 65537 bytes, above the max_head of 65536 bytes"),
        ("max_head: 63", "max_head: must be a size from 64B to 1MiB, not '63'"),
        ("max_head: 2MiB", "max_head: must be a size from 64B to 1MiB, not '2MiB'"),
        ("max_request_line: 0", "max_request_line: must be a size from 1 byte"),
        ("max_request_line: x\nmax_head: 64", "max_request_line: must be a size such as"),
        ("max_request_line: 1MiB\nmax_head: x", "max_head: must be a size such as"),
        ("max_fields: 0", "max_fields: must be a whole number from 1 to 10000, not '0'"),
        ("max_body: 0", "max_body: must be a size from 1 byte to 1024GiB, not '0'"),
        ("forwarded: on", "forwarded: must be one of x-forwarded, forwarded, off, not 'on'"),
        ("forwarded: x_forwarded", "forwarded: must be one of x-forwarded, forwarded, off, not 'x_forwarded'; did you"),
    ],
)  # fmt: skip
def test_limits_that_cannot_work(keys, problem):
    [found] = problems(listener=keys)
    assert found.startswith(f"listeners[0].{problem}")


# error files


def error_files(directory, keys: str):
    return parse(text(f"error_files: {keys}"), str(directory / "f.yaml"), {}).listeners[0].error_files


def error_file_problems(directory, keys: str) -> list[str]:
    return problems_of(text(f"error_files: {keys}"), str(directory / "f.yaml"))


def test_error_files_are_found_beside_the_configuration(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "sorry.html").write_text("sorry")
    (tmp_path / "conf" / "f.yaml").write_text(text("error_files: {503: sorry.html}"))
    monkeypatch.chdir(tmp_path)
    expected = ((503, f"{tmp_path}/conf/sorry.html"),)
    assert load("conf/f.yaml", {}).listeners[0].error_files == expected
    assert load(f"{tmp_path}/conf/f.yaml", {}).listeners[0].error_files == expected


def test_an_absolute_path_of_an_error_file(tmp_path):
    (tmp_path / "a").write_text("")
    assert error_files(tmp_path / "elsewhere", f"{{502: {tmp_path}/a}}") == ((502, str(tmp_path / "a")),)


def test_error_files_are_in_order(tmp_path):
    (tmp_path / "a").write_text("a")
    assert [status for status, _ in error_files(tmp_path, "{503: a, 400: a, '502': a}")] == [400, 502, 503]


@pytest.mark.parametrize("status", ["200", "404", "5xx", "0503", "600", "'503 '"])
def test_statuses_that_gproxy_does_not_answer(tmp_path, status):
    (tmp_path / "a").write_text("a")
    [found] = error_file_problems(tmp_path, f"{{{status}: a}}")
    assert "must stand under a status that gproxy itself answers (400, 408, " in found
    assert ":5: listeners[0].error_files." in found


def test_a_missing_error_file_has_its_line(tmp_path):
    source = text("error_files:\n  502: none.html\n  503: none.html")
    assert problems_of(source, f"{tmp_path}/f.yaml") == [
        f"{tmp_path}/f.yaml:{line}: listeners[0].error_files.{status}: "
        "'none.html' can't be read: No such file or directory"
        for line, status in ((6, 502), (7, 503))
    ]


def test_an_error_file_without_permission(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("a")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything
    assert "'a' can't be read: Permission denied" in error_file_problems(tmp_path, "{503: a}")[0]


def test_error_files_are_bounded(tmp_path):
    (tmp_path / "most").write_bytes(b"x" * MAX_ERROR_FILE)
    (tmp_path / "more").write_bytes(b"x" * (MAX_ERROR_FILE + 1))
    assert error_files(tmp_path, "{503: most}")
    assert "'more' is larger than 65536 bytes" in error_file_problems(tmp_path, "{503: more}")[0]


def test_an_error_file_is_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("pipe", ".", "/dev/zero"):
        assert "is not a regular file" in error_file_problems(tmp_path, f"{{503: {path}}}")[0]


@pytest.mark.parametrize(
    ("path", "problem"), [("''", "must not be empty"), ("a/", "must be the path of a file"), ("[a]", "a single value")]
)
def test_paths_that_no_error_file_has(tmp_path, path, problem):
    assert problem in error_file_problems(tmp_path, f"{{503: {path}}}")[0]


# upstreams


def test_what_an_upstream_of_http_listeners_does_by_default():
    http, tcp = app(), app(mode="tcp")
    assert (http.pool.reuse, http.all_down) == (Reuse.SAFE, AllDown.HTTP_503)
    assert (tcp.pool.reuse, tcp.all_down) == (Reuse.NEVER, AllDown.RESET)


def test_the_upstream_of_a_route_has_the_defaults_of_http():
    found = read(listener="routes: [{path: /a, upstream: api}]").upstream("api")
    assert (found.pool.reuse, found.all_down) == (Reuse.SAFE, AllDown.HTTP_503)


def test_an_http_upstream_s_own_pool_keys_keep_the_default_reuse():
    found = app("pool: {size: 3}")
    assert (found.pool.size, found.pool.reuse) == (3, Reuse.SAFE)


@pytest.mark.parametrize("all_down", AllDown)
def test_every_way_to_be_down_is_for_http(all_down):
    assert app(f"all_down: {all_down.value}").all_down is all_down


@pytest.mark.parametrize("reuse", ["safe", "never"])
def test_reuse_for_http(reuse):
    assert app(f"pool: {{reuse: {reuse}}}").pool.reuse.value == reuse


def test_quiescent_is_for_tcp():
    assert problems(upstream="pool: {reuse: quiescent}") == [
        "upstreams.app.pool.reuse: quiescent is only for mode: tcp, and line 3 uses this upstream in mode http; "
        "did you mean 'safe'?"
    ]


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ("retry_after: 5", "retry_after: "),
        ("sticky: a", "sticky: "),
        ("passive_health: {server_errors: 0}", "passive_health.server_errors: "),
        ("health_check: {type: http, use_pool: false}", "health_check.use_pool: "),
        ("pool: {reuse: safe}", "pool.reuse: safe is "),
        ("all_down: 503", "all_down: 503 is "),
        ("balance: {hash: path}", "balance: hash is "),
    ],
)
def test_what_is_for_upstreams_of_http_listeners(keys, place):
    assert problems(upstream=keys, mode="tcp") == [
        f"upstreams.app.{place}only for mode: http, and line 3 uses this upstream in mode tcp"
    ]
    assert app(keys)


def test_an_upstream_that_nobody_uses_may_be_for_either_mode():
    source = text() + "    sticky: a\n    pool: {reuse: safe}\n  tcp: {backends: ['a:1'], pool: {reuse: quiescent}}"
    assert len(parse(source, "f", {}).warnings) == 2


def test_an_upstream_serves_one_mode():
    other = "  - {bind: 'a:1', upstream: app, mode: tcp}\nupstreams:\n"
    assert problems_of(text(upstream="sticky: a").replace("upstreams:\n", other)) == [
        "f.yaml:8: upstreams.app: serves both modes, tcp on line 6 and http on line 3; give each its own upstream"
    ]


def test_an_upstream_of_both_modes_is_told_of_the_first_listener_of_each():
    others = "".join(f"  - {{bind: '{i}.a:1', upstream: app, mode: {m}}}\n" for i, m in enumerate(["tcp", "http"] * 2))
    [found] = problems_of(text().replace("upstreams:\n", others + "upstreams:\n"))
    assert "serves both modes, tcp on line 6 and http on line 3;" in found


def test_a_route_and_a_tcp_listener_do_not_share_an_upstream():
    other = "  - {bind: 'a:1', upstream: api}\nupstreams:\n"
    source = text("routes: [{path: /a, upstream: app}, {path: /b, upstream: api}]").replace("upstreams:\n", other)
    assert problems_of(source) == [
        "f.yaml:11: upstreams.api: serves both modes, tcp on line 6 and http on line 5; give each its own upstream"
    ]


@pytest.mark.parametrize("source", ["header:X-User", "cookie:sid", "path"])
def test_balancing_by_hash(source):
    assert app(f"balance: {{hash: '{source}'}}").balance == BalanceSettings(kind="hash", argument=source)


@pytest.mark.parametrize(
    "source", ["''", "X-User", "header", "'header:'", "'header:a b'", "'query:a'", "'path:a'", "Path"]
)
def test_a_hash_of_nothing(source):
    [found] = problems(upstream=f"balance: {{hash: {source}}}")
    assert found.startswith('upstreams.app.balance.hash: must be path, "header:NAME" or "cookie:NAME", such as ')


def test_balancing_in_two_ways():
    assert problems(upstream="balance: {hash: path, python: 'a:b'}") == [
        "upstreams.app.balance: has 2 policies; give one"
    ]


@pytest.mark.parametrize(
    ("written", "sticky"),
    [
        ("sid", StickySettings(cookie="sid")),
        ("{}", StickySettings(cookie="gproxy")),
        ("{max_age: 1h}", StickySettings(max_age=3600.0)),
        ("{cookie: __Host-a, secure: true}", StickySettings(cookie="__Host-a", secure=True)),
        ("~", None),
    ],
)
def test_sticky_sessions(written, sticky):
    assert app(f"sticky: {written}").sticky == sticky


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("'a b'", ": must be the name of a cookie, such as gproxy, not 'a b'"),
        ("'a=b'", ": must be the name of a cookie"),
        ("''", ": must be the name of a cookie"),
        ("true", ": must be the name of a cookie, such as gproxy, not 'true'; leave it out for none"),
        ("off", ": must be the name of a cookie, such as gproxy, not 'off'; leave it out for none"),
        ("[a]", ": must be a single value, not a list"),
        ("{cookie: 'a;b'}", ".cookie: must be the name of a cookie"),
        ("{max_age: 0}", ".max_age: must be a duration from 1ms to 365d"),
        ("{max_age: 1500ms}", ".max_age: must be whole seconds, from 1s to 365d, not '1500ms'"),
        ("{secure: 1}", ".secure: must be true or false, not '1'"),
        ("{path: /}", ".path: unknown key 'path'"),
        ("{cookie: __host-a}", ".cookie: browsers take a cookie '__host-a' only with secure: true"),
        ("{cookie: __Secure-a, secure: no}", ".cookie: browsers take a cookie '__Secure-a' only with secure: true"),
        ("{cookie: __Secure-a, secure: x}", ".secure: must be true or false, not 'x'"),
        ("__Host-a", ": browsers take a cookie '__Host-a' only with secure: true"),
    ],
)
def test_cookies_that_would_not_stick(written, problem):
    [found] = problems(upstream=f"sticky: {written}")
    assert found.startswith(f"upstreams.app.sticky{problem}")


@pytest.mark.parametrize("value", ["500ms", "1.5"])
def test_retry_after_is_whole_seconds(value):
    assert problems(upstream=f"retry_after: {value}") == [
        f"upstreams.app.retry_after: must be whole seconds, from 1s to 365d, not '{value}'"
    ]


def test_server_errors():
    assert app("passive_health: {server_errors: 5}").passive_health.server_errors == 5
    assert "must be a whole number from 0 to 1000" in problems(upstream="passive_health: {server_errors: 1001}")[0]


def test_checks_over_the_pool_are_http_checks():
    assert app("health_check: {type: http, use_pool: true}").health_check.use_pool
    assert problems(upstream="health_check: {use_pool: true}") == [
        "upstreams.app.health_check.use_pool: only for a health check of type: http"
    ]


def test_checks_over_the_pool_go_to_the_backend_s_own_port():
    assert app("health_check: {type: http, port: 81, use_pool: false}")
    assert problems(upstream="health_check: {type: http, port: 81, use_pool: true}") == [
        "upstreams.app.health_check.use_pool: can't be used with another port: "
        "the pool's connections lead to the backend's own"
    ]
