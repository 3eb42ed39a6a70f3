"""Any text gives a Config or a ConfigError; what is valid means the same in every spelling."""

import json
from dataclasses import fields, replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gproxy.config import load, parse
from gproxy.config.http import HEADER_RULES, HTTP_LISTENER, ROUTE
from gproxy.config.root import ADMIN, LISTENER, LISTENER_ELSEWHERE, LOG, ROOT, STATSD
from gproxy.config.upstreams import BACKEND, HEALTH_CHECK, LOAD_BALANCER, PASSIVE_HEALTH, POOL, STICKY, UPSTREAM
from gproxy.config.walk import camel
from gproxy.core.settings import Config, Timeouts
from gproxy.errors import ConfigError

TABLES = (ROOT, ADMIN, LOAD_BALANCER, LISTENER, LISTENER_ELSEWHERE, UPSTREAM, POOL, HEALTH_CHECK, ROUTE)
KEYS = sorted({key for table in (*TABLES, PASSIVE_HEALTH, BACKEND, STATSD, LOG, STICKY, HEADER_RULES) for key in table})
YAML_PIECES = [
    *"{}[]:,-?!&*#|>%@`'\"\n\t \\~=$",
    ": ",
    "- ",
    "<<: ",
    "&a ",
    "*a",
    "!!",
    "---\n",
    "...\n",
    '"\\x',
    "${",
    ":-",
]


def config_or_error(text: str) -> None:
    try:
        found: Config | ConfigError = parse(text, "f", {"A": "1"})
    except ConfigError as error:
        found = error
    if isinstance(found, Config):
        assert found.listeners
        assert found.upstreams
        return
    assert found.problems
    assert all("\n" not in line for line in found.lines())


patiently = settings(deadline=None)  # the first example pays for imports, and machines are busy


def dump(data: object) -> str:
    return yaml.safe_dump(data, sort_keys=False)


@patiently
@given(st.text(st.characters()))
def test_any_text(text):
    config_or_error(text)


@given(st.lists(st.sampled_from([*YAML_PIECES, *KEYS, "a", "0", "b:1"])).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_text_of_yaml_s_own_characters(text):
    config_or_error(text)
    config_or_error("upstreams:\n  a: " + text)


@patiently
@given(data=st.binary())
def test_any_bytes(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError):  # no such bytes are a whole configuration
        load(str(path), {})


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
    | st.sampled_from(["127.0.0.1:9100", "unix:/a", "${A}", "${B}", "5s", "off", "http", "a", "010", "1:30"])
)  # fmt: skip
keys = st.sampled_from(KEYS) | st.sampled_from(KEYS).map(camel) | st.text()
structures = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=30)


def mapping_of(table) -> st.SearchStrategy:
    return st.dictionaries(st.sampled_from(sorted(table)), scalars | structures)


@patiently
@given(structures | mapping_of(ROOT))
def test_any_structure(data):
    config_or_error(dump(data))
    config_or_error(json.dumps(data, default=str))


@patiently
@given(
    mapping_of(LOAD_BALANCER),
    mapping_of(LISTENER),
    mapping_of(UPSTREAM),
    st.lists(mapping_of(BACKEND) | scalars, max_size=3),
    st.fixed_dictionaries({"pool": mapping_of(POOL), "health_check": mapping_of(HEALTH_CHECK)}),
)
def test_any_values_under_the_right_keys(load_balancer, listener, upstream, backends, sections):
    app = {**upstream, **sections, "backends": backends}
    data = {"load_balancer": load_balancer, "listeners": [listener], "upstreams": {"a": app}}
    config_or_error(dump(data))


header_rules = mapping_of(HEADER_RULES) | st.fixed_dictionaries(
    {"set": st.dictionaries(st.text() | st.sampled_from(["Host", "TE"]), scalars), "remove": st.lists(scalars)}
)


@patiently
@given(
    mapping_of(HTTP_LISTENER),
    st.fixed_dictionaries(
        {},
        optional={
            "routes": st.lists(mapping_of(ROUTE)),
            "request_headers": header_rules,
            "response_headers": header_rules,
            "trusted_proxies": st.lists(scalars | st.ip_addresses().map(str)),
            "error_files": st.dictionaries(st.sampled_from([503, 404, "a"]), scalars),
        },
    ),
    st.fixed_dictionaries({}, optional={"sticky": mapping_of(STICKY) | scalars, "balance": st.just({"hash": "path"})}),
)
def test_any_values_of_http(listener, sections, upstream):
    listeners = [{"bind": "a:1", "upstream": "a", **listener, **sections, "mode": "http"}]
    config_or_error(dump({"listeners": listeners, "upstreams": {"a": {**upstream, "backends": ["b:1"]}}}))


def some(**keys: st.SearchStrategy) -> st.SearchStrategy:
    return st.fixed_dictionaries({}, optional=keys)


durations = (
    st.integers(1, 10**6) | st.floats(0.001, 1e6).map(lambda x: round(x, 3)) | st.sampled_from(["1ms", "2m", "1d"])
)
timeouts = {timeout.name: durations for timeout in fields(Timeouts)}
names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)

backend_keys = some(weight=st.integers(1, 1000), backup=st.booleans(), max_connections=st.integers(5, 100))
upstream_keys = some(
    **timeouts,
    balance=st.sampled_from(["round_robin", "p2c", {"python": "a.b:c"}]),
    retries=st.integers(0, 9),
    all_down=st.sampled_from(["reset", "close"]),
    pool=some(size=st.integers(5, 9), preconnect=st.integers(0, 5), max_age=durations),
    health_check=some(type=st.sampled_from(["tcp", "none", "http"]), interval=durations, rise=st.integers(1, 9)),
    passive_health=some(connect_failures=st.integers(0, 9), eject_for=durations),
)


http_listener_keys = some(
    forwarded=st.sampled_from(["x-forwarded", "forwarded", "off"]),
    trusted_proxies=st.lists(st.ip_addresses().map(str), max_size=2),
    request_headers=some(set=some(my_field=st.just("a b"), Host=st.just("app")), remove=st.just(["my_other"])),
    max_request_line=st.integers(64, 8192),
    max_fields=st.integers(1, 99),
    max_body=st.sampled_from(["1MiB", 5]),
)
http_upstream_keys = some(
    retry_after=st.integers(1, 99),
    sticky=st.just("sid") | some(max_age=st.integers(1, 99), secure=st.booleans()),
    all_down=st.just("503"),
    pool=some(reuse=st.just("safe"), max_age=durations),
)


def upstream_of(keys: dict, backends: list[dict]) -> dict:
    return {
        **keys,
        "backends": [{**backend, "address": f"127.0.0.1:{port}"} for port, backend in enumerate(backends, 1)],
    }


upstreams = st.builds(upstream_of, upstream_keys, st.lists(backend_keys, min_size=1, max_size=4))


@st.composite
def valid(draw: st.DrawFn) -> dict:
    found = draw(st.dictionaries(names, upstreams, min_size=1, max_size=3))
    listeners = draw(st.lists(some(**timeouts, max_connections=st.integers(1, 99)), min_size=1, max_size=3))
    name = st.sampled_from(sorted(found))
    if draw(st.booleans()):
        found = {key: {**upstream, **draw(http_upstream_keys)} for key, upstream in found.items()}
        routes = st.lists(st.builds(lambda upstream: {"path": "/a", "upstream": upstream}, name), max_size=2)
        listeners = [{**each, **draw(http_listener_keys), "routes": draw(routes), "mode": "http"} for each in listeners]
    return {
        "load_balancer": draw(some(**timeouts, connection_pool_size=st.integers(5, 9), drain_timeout=durations)),
        "listeners": [
            {**listener, "bind": f"[::]:{port}", "upstream": draw(name)} for port, listener in enumerate(listeners, 1)
        ],
        "upstreams": found,
        **draw(some(statsd=some(port=st.integers(1, 9)), log=some(level=st.just("debug")))),
    }


def camel_keys(data: object, own_names: bool = False) -> object:
    if isinstance(data, list):
        return [camel_keys(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        key if own_names else camel(key): camel_keys(inner, key in ("upstreams", "set")) for key, inner in data.items()
    }


@patiently
@given(valid())
def test_every_spelling_means_the_same(data):
    config = parse(json.dumps(data), "f", {})
    for text in (json.dumps(camel_keys(data), indent="\t"), dump(data), dump(camel_keys(data))):
        assert replace(parse(text, "f", {}), warnings=()) == replace(config, warnings=())  # those name lines


@patiently
@given(valid())
def test_what_is_written_is_what_is_read(data):
    config = parse(dump(data), "f", {})
    assert [listener.upstream for listener in config.listeners] == [item["upstream"] for item in data["listeners"]]
    for name, written in data["upstreams"].items():
        found = config.upstream(name)
        pool = {"size": data["load_balancer"].get("connection_pool_size", 10), **written.get("pool", {})}
        assert (found.pool.size, found.retries) == (pool["size"], written.get("retries", 2))
        assert [backend.weight for backend in found.backends] == [b.get("weight", 1) for b in written["backends"]]
