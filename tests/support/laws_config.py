"""The law of configurations: any bytes are a Config or a ConfigError that says where, and nothing else."""

from __future__ import annotations

from gproxy.config import parse
from gproxy.core.settings import Config
from gproxy.errors import ConfigError

ENVIRON = {"A": "1", "B": "127.0.0.1:9"}


def config_law(data: bytes) -> str:
    """`refused` or `accepted`; bytes that are no UTF-8 are refused when the file is read."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "refused"
    return check_text(text)


def check_text(text: str) -> str:
    try:
        config = parse(text, "f", ENVIRON)
    except ConfigError as error:
        _check_problems(error, text)
        return "refused"
    _check_config(config)
    return "accepted"


def _check_problems(error: ConfigError, text: str) -> None:
    """Each has a message, and stands on a line that there is."""
    assert error.problems
    assert all(problem.message for problem in error.problems)
    assert all(0 <= problem.line <= _lines(text) for problem in error.problems), error
    assert all(line.isprintable() for line in error.lines()), error.lines()
    assert all(problem.line for problem in error.problems if problem.path), error


def _lines(text: str) -> int:
    """At most: YAML ends lines by more than LF, and an error may stand behind the last one."""
    return len((text + "x").splitlines()) + 1


def _check_config(config: Config) -> None:
    """What is accepted can be looked at: it has what every part of gproxy relies on."""
    names = {upstream.name for upstream in config.upstreams}
    assert config.listeners
    assert names
    assert all(upstream.backends for upstream in config.upstreams)
    for listener in config.listeners:
        assert listener.upstream in names
        assert {route.upstream for route in listener.routes} <= names
