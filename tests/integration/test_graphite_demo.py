"""loadtest/graphite_demo.py: one command, a page of pictures, and nothing is left after it."""

import re
import signal
import subprocess
import sys
from html import unescape
from urllib.request import urlopen

import pytest

from tests.support.ends import TIMEOUT
from tests.support.family import family
from tests.support.poll import eventually
from tests.support.proxy import TOP, command_environ

pytestmark = pytest.mark.xdist_group("graphite")

START = 60.0  # seconds
PNG = b"\x89PNG\r\n"


@pytest.fixture
def demo(tmp_path):
    deaf = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]  # as after & in a script
    command = [
        *deaf,
        sys.executable,
        str(TOP / "loadtest/graphite_demo.py"),
        "--port=0",
        "--origin-port=0",
        "--admin-port=0",
        "--page-port=0",
    ]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=command_environ({"TMPDIR": str(tmp_path)}), stdin=subprocess.DEVNULL,
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    with process:
        eventually(lambda: process.poll() is not None or "has the graphs" in (tmp_path / "out").read_text(), START)
        yield process
        if process.poll() is None:
            process.kill()


def fetch(url):
    with urlopen(url, timeout=TIMEOUT) as answer:
        return answer.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_it_shows_pictures_and_leaves_no_process_behind(demo, tmp_path, number):
    greeting = (tmp_path / "out").read_text()
    page = fetch(re.search(r"(http://127\.0\.0\.1:\d+/)  has the graphs", greeting)[1]).decode()
    pictures = [unescape(link) for link in re.findall(r'<img src="([^"]+)"', page)]
    assert len(pictures) > 15
    assert fetch(pictures[0]).startswith(PNG)
    numbers = re.sub(r"&width=.*", "&format=json&from=-5min", pictures[0])
    eventually(lambda: b'"target": "demo"' in fetch(numbers), TIMEOUT, "requests of the listener in Graphite")

    assert len(family(tmp_path)) > 6
    demo.send_signal(number)
    assert demo.wait(TIMEOUT) == (0 if number == signal.SIGINT else -number)
    eventually(lambda: not family(tmp_path), TIMEOUT, "every process ends")
    if number == signal.SIGINT:
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
