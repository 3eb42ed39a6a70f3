"""What is known of the commands in the documents, beyond that each is run as it stands and ends with status 0.

A command is known by its words, without its comment. A test says when one of these stands in no page any more.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

# Not run here, and why. "tests/...: what is seen there" is for what a test of its own runs.
SKIPPED = {
    "sh etc/bootstrap.sh": "it installs; .ci/run does the same",
    "sh etc/bootstrap.sh graphite": "it installs; .ci/run does the same",
    "sh etc/bootstrap.sh test": "it is what runs this test",
    "sh etc/bootstrap.sh compile": "the tests would go on with other modules; .ci/run does the same",
    '.venv/bin/python -m pip install ".[load]"': "it installs from the network",
    ".venv/bin/python -m pip install -e '.[load]'": "it installs from the network",
    "/opt/gproxy/bin/pip install --upgrade /path/to/gproxy": "tests/integration/test_upgrade.py",
    "systemctl reload gproxy": "tests/integration/test_systemd.py",
    "ssh -L 9901:127.0.0.1:9901 THAT_MACHINE": "it needs another machine",
    ".venv/bin/python loadtest/graphite_demo.py": "tests/integration/test_graphite_demo.py",
    ".venv/bin/python loadtest/scenarios.py browser": "tests/integration/test_scenarios.py",
    ".venv/bin/python loadtest/scenarios.py steady --users 50 --seconds 30": "tests/integration/test_scenarios.py",
    ".venv/bin/python loadtest/scenarios.py failover --seconds 30 --max-errors 0 --p95 100":
        "tests/integration/test_scenarios.py",
    ".venv/bin/python loadtest/scenarios.py steady --worker &": "tests/integration/test_scenarios.py",
    ".venv/bin/python loadtest/scenarios.py steady --master --expect-workers 2 --users 200":
        "tests/integration/test_scenarios.py",
    ".venv/bin/python loadtest/compare.py --write docs/performance.md": "tests/integration/test_compare.py",
    ".venv/bin/python loadtest/chaos.py": "tests/integration/test_chaos.py",
    ".venv/bin/python loadtest/chaos.py --minutes 60 --report report.json": "tests/integration/test_chaos.py",
    ".venv/bin/python loadtest/chaos.py --from report.json --document docs/reliability.md":
        "tests/integration/test_chaos.py",
    ".venv/bin/pytest tests/faults": "a test runs no others",
    ".venv/bin/pytest --write-docs tests/faults": "a test runs no others",
    ".venv/bin/pytest tests/integration/test_http_differential.py": "a test runs no others",
    ".venv/bin/pytest --write-docs tests/integration/test_http_differential.py": "a test runs no others",
    ".venv/bin/pytest --write-docs tests/unit/test_reference.py": "a test runs no others",
}  # fmt: skip

# Those that do not end by themselves, and what they print once they serve. One takes the place of the one before.
SERVED = {
    ".venv/bin/gproxy demo": "Ctrl-C",
    ".venv/bin/gproxy etc/http.yaml": "is ready",
    "gproxy gproxy.yaml": "is ready",
    "curl -N http://127.0.0.1:9901/v1/stream": "event: snapshot",
}

# Those that only print what they should after a moment.
PRINTED = {
    "curl http://127.0.0.1:9000/": "b1 answered",
    "for i in 1 2 3 4; do curl http://127.0.0.1:9000/; done": r"(b\d answered.*\n){4}",
    "curl http://127.0.0.1:8080/health; curl http://127.0.0.1:8080/api/": "ok\napi\n",
    'ps -o pid,comm --ppid "$(cat gproxy.pid)"': r"gproxy-steward\n(.*\n)*.*gproxy-worker1",
}

# Looks that are repeated until they print what the page shows behind them.
LOOKS = {"gproxy ctl status app/one"}

# Mistakes that a page shows: their exit status.
FAILS = {"gproxy -t wrong.yaml": 2}

# Words that a reader replaces, too: by page.
REPLACED = {
    ("README.md", "PID_OF_B2"): '"$(pgrep -f "gproxy.demo b2")"',
    ("docs/ctl.md", "gproxy top"): "gproxy top --once",
    ("docs/explain.md", "10.0.0.7"): "127.0.0.1",
    ("docs/operations.md", "/etc/gproxy/"): "./",
    ("docs/operations.md", "/run/gproxy/"): "./",
    ("docs/operations.md", "/var/log/gproxy/"): "./",
}

_ADMIN = """cat >gproxy.yaml <<END
pid_file: gproxy.pid
admin: {bind: 127.0.0.1:9901}
listeners: [{name: web, bind: "127.0.0.1:8080", mode: http, upstream: app}]
upstreams:
  app:
    backends: [{name: b1, address: "127.0.0.1:9100"}, {name: b2, address: "127.0.0.1:9101"}]
END
for port in 9100 9101; do python3 -m http.server -b 127.0.0.1 $port & done
"""

# What the reader of a page has before its first command, while `gproxy gproxy.yaml` runs.
GIVEN = {
    "docs/admin.md": _ADMIN,
    "docs/ctl.md": f"{_ADMIN}deploy-to() {{ true; }}",
    "docs/explain.md": _ADMIN,
    "docs/operations.md": f"{_ADMIN}echo 'log: {{access: access.log}}' >>gproxy.yaml",
}

# What a command is about: entered before it.
BEFORE = {
    'ps -o pid,comm --ppid "$(cat gproxy.pid)"': "printf 'workers: 2\\npid_file: gproxy.pid\\n' >>etc/http.yaml",
    "gproxy explain 97c405f222e7ed3d00000001":
        "curl --fail -H X-Request-ID:97c405f222e7ed3d00000001 http://127.0.0.1:8080/",
}  # fmt: skip
# And what is started anew by then.
RESTARTED = {'ps -o pid,comm --ppid "$(cat gproxy.pid)"': ".venv/bin/gproxy etc/http.yaml"}


def statements(block: str) -> Iterator[str]:
    """One after another, each as long as the shell says that it is."""
    lines: list[str] = []
    for line in block.splitlines():
        lines.append(line)
        if not line.endswith("\\") and _is_whole("\n".join(lines)):
            yield "\n".join(lines)
            lines = []
    assert not lines, f"no command of the shell's: {lines}"


def _is_whole(text: str) -> bool:
    return subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False).returncode == 0


def words_of(statement: str) -> str:
    """Without the comment at its end."""
    return re.sub(r"\s+#.*$", "", statement).strip()
