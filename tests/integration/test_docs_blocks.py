"""What the documents show of configurations, programs and logs is good: each block of README.md and docs/*.md."""

import json
import os
import subprocess

import pytest
import yaml

from gproxy import config
from tests.support.pages import blocks, copy_checkout
from tests.support.terminal import Terminal

# What a fragment stands in. Its lists and words replace what is here.
WHOLE = """
listeners: [{name: web, bind: "127.0.0.1:8080", mode: http, upstream: app}]
upstreams: {app: {backends: [127.0.0.1:9100]}}
"""
KNOWN = {"yaml", "json", "python", "sh", "text", "", "haproxy", "nginx"}


def completed(fragment: str, place: str) -> str:
    """The fragment at its place (`upstreams.app`, `listeners[0]`, `the file`) in a whole configuration."""
    whole = yaml.safe_load(WHOLE)
    within = whole
    for step in [] if place == "the file" else place.replace("[0]", ".0").split("."):
        within = within[int(step) if step.isdigit() else step]
    within.update(yaml.safe_load(fragment))
    return yaml.safe_dump(whole)


def test_every_block_says_its_language():
    assert {block.language for block in blocks()} <= KNOWN


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if b.mark != "prometheus"], ids=str)
def test_a_configuration_can_be_used(block, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # only root may name another user
    (tmp_path / "sorry.html").write_text("Sorry.")
    place = block.argument("fragment")
    text = block.text if place is None else completed(block.text, place.removeprefix("of "))
    config.parse(text, f"{tmp_path}/{block.page.replace('/', '-')}:{block.line}", {})


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if b.mark == "prometheus"], ids=str)
def test_prometheus_takes_what_is_for_it(block, tmp_path):
    (tmp_path / "prometheus.yml").write_text(block.text)
    subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], check=True, capture_output=True)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_can_be_read(block):
    for line in block.text.splitlines():
        json.loads(line)


@pytest.mark.parametrize("block", [b for b in blocks("python") if b.argument("file") is None], ids=str)
def test_a_program_runs(block, tmp_path):
    """Those that are files are run by the commands of their page."""
    copy_checkout(tmp_path)
    text = block.text
    if words := block.argument("run"):
        old, new = words.removeprefix("with ").split(" as ")
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "program.py").write_text(text)
    with Terminal(tmp_path) as terminal:
        terminal.enter("python program.py")
