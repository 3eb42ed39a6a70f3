"""The example files are good, and docs/configuration.md has every key with its true default."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from gproxy.config import load, parse
from gproxy.config.http import HEADER_RULES, ROUTE
from gproxy.config.root import ADMIN, LISTENER, LOG, ROOT, STATSD
from gproxy.config.upstreams import (
    BACKEND,
    HEALTH_CHECK,
    LOAD_BALANCER,
    PASSIVE_HEALTH,
    POOL,
    STICKY,
    TIMEOUTS,
    UPSTREAM,
)
from gproxy.config.walk import Report, Value
from gproxy.core.http.answers import REASONS
from gproxy.core.settings import (
    AdminSettings,
    BackendSettings,
    Config,
    HeaderRules,
    HealthCheckSettings,
    ListenerSettings,
    LogSettings,
    Mode,
    PassiveHealthSettings,
    PoolSettings,
    RouteSettings,
    StatsdSettings,
    StickySettings,
    Timeouts,
    UpstreamSettings,
)

TOP = Path(__file__).parents[2]
REFERENCE = (TOP / "docs/configuration.md").read_text()

SECTIONS = [
    ("The file", ROOT, Config, set()),
    ("load_balancer", LOAD_BALANCER, Config, set(TIMEOUTS)),
    ("timeouts", TIMEOUTS, Timeouts, set()),
    ("listeners", LISTENER, ListenerSettings, set(TIMEOUTS)),
    ("routes", ROUTE, RouteSettings, set()),
    ("request_headers and response_headers", HEADER_RULES, HeaderRules, set()),
    ("upstreams", UPSTREAM, UpstreamSettings, set(TIMEOUTS)),
    ("backends", BACKEND, BackendSettings, set()),
    ("sticky", STICKY, StickySettings, set()),
    ("pool", POOL, PoolSettings, set()),
    ("health_check", HEALTH_CHECK, HealthCheckSettings, set()),
    ("passive_health", PASSIVE_HEALTH, PassiveHealthSettings, set()),
    ("admin", ADMIN, AdminSettings, set()),
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


def test_the_reference_has_every_status_with_an_error_file():
    section = REFERENCE.split("\n## error_files\n")[1].split("\n## ")[0]
    listed = section.split("The statuses are ")[1].split(". ")[0]
    assert [int(status) for status in re.findall(r"\d+", listed)] == list(REASONS)


def test_the_http_example_is_good():
    config = load(str(TOP / "etc/http.yaml"), {})
    assert (config.warnings, config.listeners[0].mode) == ((), Mode.HTTP)
    assert config.listeners[0].targets == ("app", "api")


def test_the_error_file_of_the_http_example_only_waits_for_its_comment_to_go(tmp_path):
    text = (TOP / "etc/http.yaml").read_text()
    (tmp_path / "sorry.html").write_text("sorry")
    config = parse(text.replace("# error_files:", "error_files:"), str(tmp_path / "f.yaml"), {})
    assert config.listeners[0].error_files == ((503, str(tmp_path / "sorry.html")),)


def test_what_the_http_example_has_for_operators_only_waits_for_its_comments_to_go(tmp_path):
    text = re.sub(r"^# (?=admin:|workers:|pid_file:)", "", (TOP / "etc/http.yaml").read_text(), flags=re.M)
    config = parse(text, str(tmp_path / "f.yaml"), {})
    assert (str(config.admin.bind), config.pid_file) == ("127.0.0.1:9901", "gproxy.pid")


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
