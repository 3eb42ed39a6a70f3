"""etc/gproxy.service gives gproxy the time that its own defaults take."""

import re

import pytest

from gproxy.config import parse
from tests.support.proxy import TOP

CONFIG = parse("listeners: [{bind: 'a:1', upstream: app}]\nupstreams: {app: {backends: ['b:1']}}\n", "f", {})


def seconds(key: str) -> int:
    [found] = re.findall(rf"^{key}=(\d+)$", (TOP / "etc/gproxy.service").read_text(), re.MULTILINE)
    return int(found)


@pytest.mark.parametrize(
    ("key", "least"), [("TimeoutStartSec", CONFIG.start_timeout), ("TimeoutStopSec", CONFIG.drain_timeout)]
)
def test_systemd_waits_longer_than_gproxy_itself(key, least):
    assert seconds(key) > least
