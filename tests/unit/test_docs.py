"""The documents say what the code does."""

import re
from types import SimpleNamespace

import pytest

from gproxy.admin.explaining import QUERY
from gproxy.admin.processes import PROCESS
from gproxy.admin.prometheus import exposition
from gproxy.admin.routes import ROUTES
from gproxy.admin.state import BACKEND, STATE, more_families
from gproxy.admin.stories import SCHEMA as STORY
from gproxy.core.termination import SENTENCES
from gproxy.ctl.program import ACTIONS
from gproxy.ctl.view import SORTS
from gproxy.metrics import MetricsCollector, changes
from gproxy.upstream import Exclusion
from tests.support.proxy import TOP

TRY = STORY["properties"]["tries"]["items"]["properties"]


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


def test_every_request_of_the_admin_api_is_documented():
    section = (TOP / "docs/admin.md").read_text().split("\n## What there is\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([A-Z]+ \S+)` \|", section, re.M) == [f"{r.method} {r.path}" for r in ROUTES]
    for route, row in zip(ROUTES, re.findall(r"^\| `[A-Z]+ .*", section, re.M), strict=True):
        body = row.split("|")[2]
        assert set(re.findall(r'"(\w+)":', body)) == set((route.body or {}).get("properties", ()))
        assert bool(body.strip()) is (route.body is not None)


def test_every_member_of_the_state_is_documented():
    section = (TOP / "docs/admin.md").read_text().split("\n## The state\n")[1].split("\n## ")[0]
    state, backend = section.split("A backend has:")
    for text, schema in ((state, STATE), (backend, BACKEND)):
        for member in schema["properties"]:
            assert f"`{member}`" in text, member


def test_every_member_of_a_process_is_documented():
    section = (TOP / "docs/admin.md").read_text().split("\n## Processes\n")[1].split("\n## ")[0]
    for member in PROCESS["properties"].keys() - {"process"}:
        assert f"`{member}`" in section, member


def test_every_command_of_ctl_is_documented():
    section = (TOP / "docs/ctl.md").read_text().split("\n## ctl\n")[1].split("\n## ")[0]
    told = re.findall(r"^\| `gproxy ctl (\S+)([^`]*)` \|", section, re.M)
    assert [name for name, _ in told] == list(ACTIONS)
    for name, arguments in told:
        wanted = [a.named.get("metavar") if a.flags[0][0] != "-" else a.flags[0] for a in ACTIONS[name].arguments]
        assert [word for word in re.findall(r"--[a-z]+|[A-Z/]+", arguments) if word not in ("DURATION", "N")] == wanted


def test_every_key_of_top_is_documented():
    section = (TOP / "docs/ctl.md").read_text().split("\n## top\n")[1]
    told = "".join(re.findall(r"^\| (`\w`(?:, `\w`)*)", section, re.M))
    assert re.findall(r"`(\w)`", told) == ["q", *(sort.key for sort in SORTS)]


def test_every_member_of_a_story_is_documented():
    section = (TOP / "docs/admin.md").read_text().split("\n## Explain\n")[1].split("\n## ")[0]
    query, document = section.split("A story has:")
    story, each = document.split("A try has:")
    connection = TRY["connection"]["properties"]
    for text, members in ((query, QUERY), (story, STORY["properties"]), (each, TRY), (each, connection)):
        for member in members:
            assert f"`{member}`" in text, member


def test_every_exclusion_is_documented():
    text = (TOP / "docs/explain.md").read_text()
    for exclusion in Exclusion:
        assert f"`{exclusion.value}`" in text
        assert f"`{exclusion.name.lower()}`" in text


def test_every_metric_for_prometheus_is_documented():
    section = (TOP / "docs/metrics.md").read_text().split("\n## Prometheus\n")[1]
    told = re.findall(r"^\| `(gproxy_\w+)` \| (\w+)", section, re.M)
    desk = SimpleNamespace(
        config=SimpleNamespace(workers=1), upstreams={}, instance=SimpleNamespace(began=0.0, generation=1), clock=float
    )
    text = exposition(MetricsCollector([]), more_families(desk))
    assert sorted(told) == sorted(re.findall(r"^# TYPE (\S+) (\S+)", text, re.M))


def test_every_link_leads_somewhere():
    for page in (TOP / "README.md", *(TOP / "docs").glob("*.md")):
        for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", page.read_text()):
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(there), f"{page.name}: {target}#{anchor}"


def anchors(page):
    """What its headings are called by in links, as GitHub has it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
