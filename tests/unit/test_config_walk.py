"""Keys, their spellings and places, and variables."""

import pytest
import yaml

from gproxy.config import parse
from gproxy.config.scalars import whole
from gproxy.config.walk import Report, Value, camel, expand, scalar, walk
from gproxy.errors import ConfigError

GOOD = """\
listeners:
  - bind: 127.0.0.1:9000
    upstream: app
upstreams:
  app:
    backends:
      - 127.0.0.1:9100
      - address: 127.0.0.1:9101
        weight: 2
"""


def problems(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml", environ or {})
    return caught.value.lines()


def test_a_problem_has_its_line_and_path():
    assert problems(GOOD.replace("weight: 2", "weight: many")) == [
        "f.yaml:9: upstreams.app.backends[1].weight: must be a whole number from 1 to 1000, not 'many'"
    ]


def test_an_unknown_key_comes_with_a_suggestion():
    assert problems(GOOD.replace("weight", "wieght")) == [
        "f.yaml:9: upstreams.app.backends[1].wieght: unknown key 'wieght'; did you mean 'weight'?"
    ]


def test_an_unknown_key_in_snake_case_is_answered_in_snake_case():
    assert "; did you mean 'connection_pool_size'?" in problems("load_balancer: {conection_pool_size: 3}\n" + GOOD)[0]


def test_an_unknown_key_in_camel_case_is_answered_in_camel_case():
    assert problems("loadBalancer: {conectionPoolSize: 3}\n" + GOOD) == [
        "f.yaml:1: loadBalancer.conectionPoolSize: "
        "unknown key 'conectionPoolSize'; did you mean 'connectionPoolSize'?"
    ]  # fmt: skip


def test_a_key_like_no_other_has_no_suggestion():
    assert problems(GOOD + "zzz: 1\n") == ["f.yaml:10: zzz: unknown key 'zzz'"]


def test_all_problems_at_once_in_the_order_of_the_file():
    text = GOOD.replace("9000", "x").replace("9100", "y").replace("weight: 2", "weight: 0\n        backup: 7")
    assert [line.split(": ")[0] for line in problems("workers: 0\n" + text)] == [
        "f.yaml:1", "f.yaml:3", "f.yaml:8", "f.yaml:10", "f.yaml:11"
    ]  # fmt: skip


def test_camel_case_is_the_same_key():
    text = "loadBalancer: {connectionPoolSize: 7, drainTimeout: 3}\n" + GOOD
    config = parse(text, "f", {})
    assert config == parse("load_balancer: {connection_pool_size: 7, drain_timeout: 3}\n" + GOOD, "f", {})
    assert config.upstream("app").pool.size == 7


@pytest.mark.parametrize(
    "key", ["ConnectionPoolSize", "connection_PoolSize", "connection-pool-size", "connectionpoolsize"]
)
def test_other_spellings_are_unknown(key):
    assert "unknown key" in problems(f"load_balancer: {{{key}: 7}}\n{GOOD}")[0]


def test_camel_case_of_keys():
    assert [camel("bind"), camel("connection_pool_size")] == ["bind", "connectionPoolSize"]


def test_names_of_upstreams_are_left_alone():
    text = GOOD.replace("app", "my_app") + "  myApp: {backends: [a:1]}\n"
    assert [upstream.name for upstream in parse(text, "f", {}).upstreams] == ["my_app", "myApp"]


def test_a_key_given_twice():
    assert problems(GOOD.replace("weight: 2", "weight: 2\n        weight: 3")) == [
        "f.yaml:10: upstreams.app.backends[1].weight: duplicate key 'weight'; 'weight' stands on line 9 already"
    ]


def test_a_key_given_in_both_spellings():
    text = "load_balancer:\n  drain_timeout: 1\n  drainTimeout: 1\n" + GOOD
    assert problems(text) == [
        "f.yaml:3: load_balancer.drainTimeout: duplicate key 'drainTimeout'; 'drain_timeout' stands on line 2 already"
    ]


def test_an_upstream_given_twice():
    assert problems(GOOD + "  app: {backends: [a:1]}\n") == [
        "f.yaml:10: upstreams.app: duplicate key 'app'; the first stands on line 5"
    ]


@pytest.mark.parametrize("key", ["? [a]\n: 1", "? {a: 1}\n: 1"])
def test_a_key_that_is_no_word(key):
    assert "a key is a word" in problems(f"{key}\n{GOOD}")[0]


def test_merge_keys_are_named_for_what_they_are():
    assert "merge keys are not supported" in problems(GOOD + "    <<: {}\n")[0]


def test_an_unprintable_key_stays_readable():
    assert problems('"a\\nb\\e": 1\n' + GOOD) == [r"f.yaml:1: 'a\nb\x1b': unknown key 'a\nb\x1b'"]


@pytest.mark.parametrize("section", ["load_balancer", "statsd", "log", "workers", "admin"])
def test_null_is_absent(section):
    assert parse(f"{section}:\n{GOOD}", "f", {}) == parse(GOOD, "f", {})


@pytest.mark.parametrize("section", ["pool", "health_check", "passive_health", "balance", "retries", "stall_timeout"])
def test_null_is_absent_in_an_upstream(section):
    assert parse(f"{GOOD}    {section}: ~\n", "f", {}) == parse(GOOD, "f", {})


def test_null_is_absent_for_what_is_needed_too():
    assert problems(GOOD.replace("bind: 127.0.0.1:9000", "bind:")) == [
        "f.yaml:2: listeners[0]: needs the key 'bind', such as 127.0.0.1:9000"
    ]


def test_null_is_no_backend():
    assert problems(GOOD + "      - \n") == ["f.yaml:10: upstreams.app.backends[2]: must have a value"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pool", "[]", "must be a mapping of keys to values, not a list"),
        ("pool", "5", "must be a mapping of keys to values, not '5'"),
        ("retries", "[]", "must be a single value, not a list"),
        ("retries", "{}", "must be a single value, not a mapping"),
        ("retries", "!mine 2", "has the unknown tag '!mine'"),
        ("pool", "!!set {}", "not something tagged"),
        ("pool", "!mine {}", "not something tagged"),
    ],
)
def test_the_wrong_shape_of_value(key, value, message):
    [line] = problems(f"{GOOD}    {key}: {value}\n")
    assert line.startswith(f"f.yaml:10: upstreams.app.{key}: ")
    assert message in line


@pytest.mark.parametrize("value", ["127.0.0.1:9100", "{a: 1}", "!!omap []"])
def test_the_wrong_shape_of_list(value):
    text = "listeners: [{bind: 'a:1', upstream: app}]\nupstreams: {app: {backends: %s}}"
    assert "upstreams.app.backends: must be a list" in problems(text % value)[0]


def test_what_was_refused_is_not_sure():
    report = Report("f", {})
    section = walk(Value(yaml.compose("{a: 1, b: x}"), 1, "", report), {k: scalar(whole(1, 9)) for k in "abc"})
    assert section.good == {"a": 1}
    assert [section.sure("a", "c"), section.sure("a", "b")] == [True, False]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plain $5 {x} $", "plain $5 {x} $"),
        ("${A}", "one"),
        ("x${A}y${B}z", "xoney${A}z"),  # what comes in is not looked at again
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("$${A}", "${A}"),
        ("$$${A}", "$one"),
        ("$$$$", "$$"),
    ],
)
def test_variables(text, found):
    assert expand(text, {"A": "one", "B": "${A}", "EMPTY": ""}) == found


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${1A}", "${A-b}", "${A:b}", "${ A }", "${é}"])
def test_variables_written_wrongly(text):
    with pytest.raises(ValueError, match="neither"):
        expand(text, {"A": "1"})


def test_a_variable_that_is_not_set():
    assert problems(GOOD.replace("127.0.0.1:9000", "${BIND}")) == [
        "f.yaml:2: listeners[0].bind: needs the environment variable BIND, which is not set; ${BIND:-...} has a default"
    ]


def test_variables_have_the_type_of_their_key():
    text = GOOD.replace("9100", "${PORT}").replace("weight: 2", "weight: ${WEIGHT:-3}")
    backends = parse(text, "f", {"PORT": "77"}).upstream("app").backends
    assert (backends[0].address.port, backends[1].weight) == (77, 3)


def test_a_variable_cannot_bring_structure():
    environ = {"B": "127.0.0.1:1\n    mode: http"}
    assert "listeners[0].bind: must be an address" in problems(GOOD.replace("127.0.0.1:9000", "${B}"), environ)[0]


def test_a_variable_that_says_null_is_text():
    assert "must be a whole number" in problems(GOOD.replace("weight: 2", "weight: ${W}"), {"W": "null"})[0]


def test_a_variable_with_bytes_that_are_no_text():
    assert "is not Unicode text" in problems(GOOD.replace("127.0.0.1:9000", "unix:/${W}"), {"W": "\udcff"})[0]


def test_variables_are_for_values_only():
    assert "unknown key '${A}'" in problems(GOOD + '"${A}": 1\n', {"A": "workers"})[0]


def test_the_environment_is_the_process_s_by_default(monkeypatch):
    monkeypatch.setenv("GPROXY_TEST_PORT", "4321")
    config = parse(GOOD.replace("127.0.0.1:9000", "127.0.0.1:${GPROXY_TEST_PORT}"), "f")
    assert config.listeners[0].bind.port == 4321
