"""The dashboard's files, and how they are served."""

import re
from pathlib import Path

import pytest

from gproxy.admin import page
from gproxy.admin.page import FILES
from tests.support.proxy import TOP
from tests.unit.admin.test_app import ask

STATIC = TOP / "gproxy/admin/static"
OURS = [path for path in STATIC.iterdir() if path.suffix in (".html", ".css", ".js")]


def test_every_file_is_served_and_packaged():
    """But licences, which are packaged alone."""
    there = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file()}
    assert there == {name for _, name, _ in FILES} | {"uplot/LICENSE", "uplot/README"}
    globs = re.search(r'"gproxy.admin": \[(.*?)\]', (TOP / "setup.py").read_text())[1]
    packaged = {path for glob in re.findall(r'"(.*?)"', globs) for path in (TOP / "gproxy/admin").glob(glob)}
    assert {path for path in packaged if path.is_file()} == {STATIC / name for name in there}


@pytest.mark.parametrize(("path", "name", "kind"), FILES)
def test_a_browser_gets_it_with_a_policy_and_not_twice(path, name, kind):
    status, fields, body = ask("GET", path, HTTP_ACCEPT=f"{kind},*/*;q=0.1")
    assert (status, body) == (200, (STATIC / name).read_bytes())
    assert fields["Content-Type"] == f"{kind}; charset=utf-8"
    assert (fields["Cache-Control"], fields["Content-Security-Policy"]) == ("no-cache", page.POLICY)
    again = ask("GET", path, HTTP_IF_NONE_MATCH=f'"other", W/{fields["ETag"]}')
    assert (again[0], again[2], again[1]["ETag"]) == (304, b"", fields["ETag"])
    assert "Content-Length" not in again[1]
    assert ask("GET", path, HTTP_IF_NONE_MATCH='"other"')[0] == 200


def test_it_is_refused_to_other_names_as_all_is():
    assert ask("GET", "/", HTTP_HOST="evil.example")[0] == 421
    assert ask("PUT", "/", b"{}")[0] == 405


def test_nothing_in_it_is_inline_or_from_elsewhere():
    html = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert re.findall(r"<script[^>]*>(.)", html.replace("></script>", ">\0")) == ["\0", "\0"]
    named = re.findall(r'(?:src|href)="([^"#][^"]*)"', html)
    assert set(named) <= {path.lstrip("/") for path, _, _ in FILES}
    imported = [name for path in OURS for name in re.findall(r'from "\./(.+?)"', path.read_text())]
    assert {f"/static/{name}" for name in imported} <= {path for path, _, _ in FILES}
    for path in OURS:
        assert not re.search(r"https?://(?!www\.w3\.org)|//cdn|@import|url\(", path.read_text()), path.name


@pytest.mark.parametrize("path", [path for path in OURS if path.suffix == ".js"], ids=lambda path: path.name)
def test_no_script_reads_names_as_html(path: Path):
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", path.read_text())
