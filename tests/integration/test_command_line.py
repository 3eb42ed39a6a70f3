"""What the command says before it serves: checks, help, and errors without a traceback."""

import os
import subprocess
import sys

import pytest

from gproxy import __version__
from gproxy.build import build
from tests.support.proxy import TOP, gproxy

GOOD = "listeners: [{bind: '127.0.0.1:0', upstream: app}]\nupstreams: {app: {backends: ['127.0.0.1:9100']}}\n"

BAD = """\
listeners:
  - {bind: "127.0.0.1:0", upstream: ap}
upstreams:
  app:
    retires: 2
    retries: many
    backends: [127.0.0.1]
"""


def refused(directory, *arguments: str) -> str:
    """What it says on standard error, with exit status 2 and no traceback."""
    done = gproxy(directory, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "Traceback" not in done.stderr
    return done.stderr


def refused_config(directory, text: str) -> str:
    (directory / "config.yaml").write_text(text)
    said = refused(directory, "config.yaml")
    assert refused(directory, "-t", "config.yaml") == said
    return said


def test_a_good_configuration_passes_the_check(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)
    done = gproxy(tmp_path, "-t", "good.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "good.yaml: the configuration is good\n", "")


def test_all_errors_of_a_bad_one_are_listed_with_line_and_path(tmp_path):
    lines = refused_config(tmp_path, BAD).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["config.yaml:2", "listeners[0].upstream"],
        ["config.yaml:5", "upstreams.app.retires"],
        ["config.yaml:6", "upstreams.app.retries"],
        ["config.yaml:7", "upstreams.app.backends[0]"],
    ]
    assert "'app'" in lines[0]
    assert "'retries'" in lines[1]


@pytest.mark.parametrize("option", ["--help", "--version"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_said(option, unbuffered):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gproxy", option],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert (done.returncode, done.stderr) == (1, "gproxy: standard output: No space left on device\n")


def test_version_and_help(tmp_path):
    version, help_ = gproxy(tmp_path, "--version"), gproxy(tmp_path, "--help")
    assert (version.returncode, version.stdout) == (0, f"gproxy {__version__}, {build()}\n")
    assert help_.returncode == 0
    assert "usage: gproxy" in help_.stdout
    assert "gproxy demo" in help_.stdout
    assert gproxy(tmp_path, "demo", "--help").returncode == 0


def test_without_arguments_it_says_what_it_wants(tmp_path):
    assert "required: CONFIG" in refused(tmp_path)


@pytest.mark.parametrize("arguments", [["missing.yaml"], ["-t", "missing.yaml"]])
def test_a_missing_file(tmp_path, arguments):
    assert refused(tmp_path, *arguments) == "missing.yaml: can't be read: No such file or directory\n"


def test_a_misspelt_command(tmp_path):
    wanted = "gproxy: error: 'explian' is neither a file nor a command; did you mean 'explain'?\n"
    assert refused(tmp_path, "explian").endswith(wanted)


def test_a_directory_for_a_file(tmp_path):
    assert refused(tmp_path, "-t", ".") == ".: can't be read: Is a directory\n"


@pytest.mark.parametrize("name", ["gproxy.yaml", "gproxy.json", "http.yaml"])
def test_the_examples_pass_the_check(tmp_path, name):
    done = gproxy(tmp_path, "-t", str(TOP / "etc" / name))
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_mode_is_refused(tmp_path):
    said = refused_config(tmp_path, GOOD.replace("upstream: app", "upstream: app, mode: htp"))
    assert said == "config.yaml:1: listeners[0].mode: must be one of tcp, http, not 'htp'; did you mean 'http'?\n"


def test_a_number_of_workers_that_cannot_be(tmp_path):
    said = refused_config(tmp_path, GOOD + "workers: 0\n")
    assert "workers: must be a whole number from 1 to 256, not '0'; auto is one for each core" in said


@pytest.mark.parametrize("option", ["--port", "--origin-port", "--admin-port"])
def test_a_wrong_port_of_the_demo(tmp_path, option):
    assert "'65536' is not a port" in refused(tmp_path, "demo", option, "65536")
