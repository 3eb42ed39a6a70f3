"""The example files are good, and the reference has every key with its true default."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from gproxy.config import load, parse
from gproxy.config.root import LISTENER, LOG, ROOT, STATSD
from gproxy.config.upstreams import BACKEND, HEALTH_CHECK, LOAD_BALANCER, PASSIVE_HEALTH, POOL, TIMEOUTS, UPSTREAM
from gproxy.config.walk import Report, Value
from gproxy.core.settings import (
    BackendSettings,
    Config,
    HealthCheckSettings,
    ListenerSettings,
    LogSettings,
    PassiveHealthSettings,
    PoolSettings,
    StatsdSettings,
    Timeouts,
    UpstreamSettings,
)

TOP = Path(__file__).parents[2]
REFERENCE = (TOP / "docs/configuration.md").read_text()
FOR_HTTP = {"request_head_timeout", "client_idle_timeout", "response_timeout", "tunnel_timeout"}

SECTIONS = [
    ("The file", ROOT, Config, set()),
    ("load_balancer", LOAD_BALANCER, Config, set(TIMEOUTS)),
    ("timeouts", TIMEOUTS, Timeouts, FOR_HTTP),
    ("listeners", LISTENER, ListenerSettings, set(TIMEOUTS)),
    ("upstreams", UPSTREAM, UpstreamSettings, set(TIMEOUTS)),
    ("backends", BACKEND, BackendSettings, set()),
    ("pool", POOL, PoolSettings, set()),
    ("health_check", HEALTH_CHECK, HealthCheckSettings, set()),
    ("passive_health", PASSIVE_HEALTH, PassiveHealthSettings, set()),
    ("statsd", STATSD, StatsdSettings, set()),
    ("log", LOG, LogSettings, set()),
]


def rows(title: str) -> dict[str, str]:
    """The keys of a section's table of keys, each with its default."""
    table = REFERENCE.split(f"\n## {title}\n")[1].split("\n## ")[0].split("| key |")[1].split("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*?) ?\|", table, re.MULTILINE))


@pytest.mark.parametrize(("title", "table", "_settings", "told_elsewhere"), SECTIONS)
def test_the_reference_has_every_key(title, table, _settings, told_elsewhere):
    assert set(rows(title)) == set(table) - told_elsewhere


@pytest.mark.parametrize(("title", "table", "settings", "_told_elsewhere"), SECTIONS)
def test_the_reference_has_the_true_defaults(title, table, settings, _told_elsewhere):
    defaults = {setting.name: setting.default for setting in fields(settings)}
    for key, told in rows(title).items():
        literal = re.fullmatch("`([^`]*)`", told)
        if literal and key in defaults and literal[1] != "connection_idle_timeout":
            value = Value(yaml.compose(literal[1] if literal[1] != "-" else '"-"'), 1, key, Report("f", {}))
            assert table[key](value) == defaults[key], key


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", REFERENCE, re.DOTALL))
def test_the_reference_s_examples_are_good(example):
    parse(whole_file(example), "reference", {})


def whole_file(example: str) -> str:
    """The example with as little around it as makes a configuration."""
    [(key, value)] = list(yaml.safe_load(example).items())[:1]
    app: dict[str, object] = {"backends": ["127.0.0.1:1"]}
    data: dict[str, object] = {"listeners": [{"bind": "a:1", "upstream": "app"}], "upstreams": {"app": app}}
    if key in ROOT:
        data |= yaml.safe_load(example)
    else:
        app[key] = value
    return yaml.safe_dump(data)


def test_the_examples_say_the_same():
    config = load(str(TOP / "etc/gproxy.yaml"), {})
    assert config == load(str(TOP / "etc/gproxy.json"), {})
    assert [str(backend.address) for backend in config.upstream("app").backends] == [
        f"127.0.0.1:{port}" for port in (9100, 9101, 9102)
    ]
    assert (str(config.listeners[0].bind), config.statsd, config.warnings) == ("0.0.0.0:9000", None, ())


def test_the_statsd_section_of_the_example_only_waits_for_its_comment_to_go():
    text = (TOP / "etc/gproxy.yaml").read_text()
    uncommented = re.sub(r"^# (statsd:|  (?:host|port|prefix):)", r"\1", text, flags=re.MULTILINE)
    assert parse(uncommented, "f", {}).statsd == StatsdSettings()
