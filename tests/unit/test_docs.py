"""The documents say what the code does."""

import re

import pytest

from gproxy.core.termination import SENTENCES
from gproxy.metrics import MetricsCollector, changes
from tests.support.proxy import TOP


@pytest.mark.parametrize("code", SENTENCES)
def test_every_termination_code_is_documented(code):
    assert f"| `{code}` | {SENTENCES[code]} |" in (TOP / "docs/access-log.md").read_text()


def test_every_metric_is_documented():
    text = (TOP / "docs/metrics.md").read_text()
    collector = MetricsCollector([("UPSTREAM", "BACKEND")])
    collector.session_closed("CD")
    for histogram in (collector.connect_time, collector.session_time):
        histogram.record(0.1)

    for sample in changes(None, collector.snapshot()):
        name = re.sub(r"^upstream\.UPSTREAM\.backend\.BACKEND", "upstream.U.backend.B", sample.name)
        name = re.sub(r"^sessions_closed\..*", "sessions_closed.CODE", name)
        name = re.sub(r"\.(p95|p99|max)$", ".p50", name)
        assert f"`{name}`" in text, sample


def test_every_link_leads_somewhere():
    for page in (TOP / "README.md", *(TOP / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
