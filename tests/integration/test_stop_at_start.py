"""Being told to stop before it is ready: it ends at once, quietly, and leaves nothing behind."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ends import TIMEOUT, accept, address, black_hole, is_dialling, listening
from tests.support.poll import eventually
from tests.support.proxy import Gproxy, command_environ
from tests.support.servers import children

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {type: CHECK, timeout: 1h}
    backends: [{name: b1, address: "${B1}"}]
"""

DEMO = ("demo", "--port", "0", "--origin-port", "0", "--admin-port", "0")
both = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


class Command:
    """`gproxy` in a process group of its own, as a terminal would have it."""

    def __init__(self, directory: Path, *arguments: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gproxy", *arguments],
            cwd=directory, env=command_environ(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C; its exit status, and what it and all its children said until the last of them had ended."""
        os.killpg(self.process.pid, signal.SIGINT)
        said, _ = self.process.communicate(timeout=TIMEOUT)  # to the end of a pipe that each of them holds
        return self.process.returncode, said

    def ends_quietly(self) -> bool:
        status, said = self.interrupt()
        assert "Traceback" not in said, said
        assert "Exception" not in said, said
        return status == 0

    def has_loaded(self, part: str) -> bool:
        """Whether a shared library with this in its path is in its memory."""
        return part in Path(f"/proc/{self.process.pid}/maps").read_text()

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_error: object) -> None:
        with self.process:
            if self.process.poll() is None:
                self.process.kill()


@pytest.mark.parametrize("arguments", [DEMO, ("gproxy.yaml",)])
def test_ctrl_c_at_once(tmp_path, arguments):
    (tmp_path / "gproxy.yaml").write_text(CONFIG.replace("CHECK", "none").replace("${B1}", "127.0.0.1:1"))
    with Command(tmp_path, *arguments) as command:
        status, said = command.interrupt()
    # Python hardly comes to gproxy's main. Before, it dies of the signal, or fails to start and says where.
    assert status == 0 or "in main" not in said, said
    assert status in (0, 1, -signal.SIGINT), said


def test_ctrl_c_while_it_reads_its_configuration(tmp_path):
    os.mkfifo(tmp_path / "gproxy.yaml")
    with Command(tmp_path, "gproxy.yaml") as command, open(tmp_path / "gproxy.yaml", "w"):  # which waits for its reader
        assert command.ends_quietly()


@pytest.mark.parametrize("library", ["/gevent/", "/gevent/_gevent_c_hub_primitives", "/gevent/libev/", "/greenlet/"])
@pytest.mark.parametrize("arguments", [DEMO, ("gproxy.yaml",)])
def test_ctrl_c_while_it_loads_its_libraries(tmp_path, arguments, library):
    (tmp_path / "gproxy.yaml").write_text(CONFIG.replace("CHECK", "none").replace("${B1}", "127.0.0.1:1"))
    with Command(tmp_path, *arguments) as command:
        eventually(lambda: command.has_loaded(library), TIMEOUT, f"{library} is loaded")
        assert command.ends_quietly()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_ctrl_c_while_the_demo_starts_its_origins(tmp_path, count):
    with Command(tmp_path, *DEMO) as command:
        eventually(lambda: len(children(command.process.pid)) >= count, TIMEOUT, f"{count} origins are there")
        assert command.ends_quietly()


@both
@pytest.mark.parametrize("check", ["tcp", "http"])
def test_while_the_first_check_hangs(tmp_path, number, check):
    with contextlib.ExitStack() as stack:
        if check == "tcp":
            backend = stack.enter_context(black_hole())
        else:
            silent = stack.enter_context(listening())
            backend = address(silent)
        proxy = Gproxy(tmp_path, CONFIG.replace("CHECK", check), environ={"B1": backend})
        proxy.spawn()
        stack.push(proxy)
        if check == "tcp":
            port = int(backend.rpartition(":")[2])
            eventually(lambda: is_dialling(proxy, port), TIMEOUT, "the backend is dialled")
        else:
            stack.enter_context(accept(silent))
        proxy.signal(number)
        assert proxy.wait() == 0
        assert "is ready" not in proxy.log()
        assert "Traceback" not in proxy.log()
        assert proxy.log().splitlines()[-1].endswith("stopped before it was ready")
