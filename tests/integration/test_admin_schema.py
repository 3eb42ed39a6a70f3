"""The admin API is what its OpenAPI document says, for whatever schemathesis comes up with."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.admin import Admin
from tests.support.origin import Origin
from tests.support.proxy import Gproxy

CONFIG = """
workers: 2
admin: {bind: "127.0.0.1:0"}
log: {access: off}
listeners: [{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams: {app: {backends: [{name: b1, address: "${B1}"}]}}
"""
# Names that there are, or hardly anything but 404 would be seen.
NAMES = '[parameters]\n"path.upstream" = "app"\n"path.backend" = "b1"\n'


@pytest.mark.parametrize("names", [NAMES, ""], ids=["names that there are", "any names"])
def test_every_answer_is_as_described(tmp_path, names):
    (tmp_path / "schemathesis.toml").write_text(names)
    with Origin("http", "one") as origin, Gproxy(tmp_path, CONFIG, environ={"B1": origin.address}) as proxy:
        host, port = Admin(proxy).address
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "--config-file", "schemathesis.toml",
            "run", f"http://{host}:{port}/v1/openapi.json", "--max-examples", "10", "--seed", "1", "--no-color",
            "--phases", "examples,coverage,fuzzing", "--generation-database", "none",
            "--exclude-path", "/v1/reload",  # reloads without end
            "--exclude-path", "/v1/stream",  # has no end: see test_stream.py
            "--exclude-checks", "not_a_server_error",  # a 503 of health's is none, and others are not described
        ]  # fmt: skip
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "a defect of the admin API" not in proxy.log()
        assert Admin(proxy).get("/v1/state")["generation"] == 1
