"""Packaging; see tox.ini for the tools' settings.

GPROXY_COMPILE=1 in the environment compiles the data path, from the same Python source (docs/performance.md); then a
C compiler and Python's headers must be there. The sources are installed all the same: a Python that the compiled
modules were not made for does not see them.
"""

import os
import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
BUILDING = {"bdist_wheel", "build", "build_ext", "editable_wheel"}
COMPILE = os.environ.get("GPROXY_COMPILE") == "1"

# What a session or a request runs through. Left out is what gains nothing: net/relay.py, whose callbacks do little
# but call C, is faster as bytecode; net/listener.py's class is gevent's, compiled by another compiler.
COMPILED = """
    accesslog.py router.py search.py service.py stories.py tcp.py timeouts.py upstream.py
    core/balance.py core/ejection.py core/health.py core/histogram.py core/idle_limit.py core/record.py core/retry.py
    core/reuse.py core/scoring.py
    core/http/authority.py core/http/bodies.py core/http/client_lines.py core/http/cookies.py core/http/end_to_end.py
    core/http/forward.py core/http/forward_request.py core/http/forward_response.py core/http/framing.py
    core/http/heads.py core/http/messages.py core/http/options.py core/http/routes.py core/http/targets.py
    http/client.py http/context.py http/download.py http/exchange.py http/explain.py http/plain.py http/record.py
    http/service.py http/session.py http/tally.py http/tunnel.py http/upload.py
    net/connection.py net/dial.py net/greenlets.py net/limit.py net/pool.py net/queue.py net/splice.py net/stream.py
"""


def compiled():
    """The extensions, by mypyc, where something is built: not while it is asked what that takes."""
    if not COMPILE or not BUILDING & set(sys.argv):
        return []
    from mypyc.build import mypycify

    # Without mypy.ini, which is for checking: libraries are not at hand here, and count as Any.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    return mypycify([*options, *(f"gproxy/{name}" for name in COMPILED.split())], opt_level="3", group_name="gproxy")


VERSION = re.search(r'__version__ = "(.+)"', (HERE / "gproxy/__init__.py").read_text()).group(1)

setup(
    name="gproxy",
    version=VERSION,
    description="A TCP and HTTP/1.1 load balancer in Python on gevent",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["gproxy", "gproxy.*"]),
    package_data={"gproxy": ["py.typed"], "gproxy.admin": ["static/*", "static/uplot/*"]},
    ext_modules=compiled(),
    setup_requires=["mypy>=2.4,<3"] if COMPILE else [],
    install_requires=["gevent>=24.2", "httptools>=0.6", "PyYAML>=6.0", "rich>=13", "statsd>=4.0,<5"],
    extras_require={
        "test": [
            "aiohttp>=3.9",
            "gunicorn>=22",
            "h11>=0.14",
            "hypothesis>=6.100",
            "locust>=2.47,<3",
            "mypy>=1.10",
            "playwright>=1.50",
            "proxy.py>=2.4.10,<3",
            "pytest>=8,<9.2",  # 9.2 keeps xdist 3.8 from seeing its groups
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "requests>=2.31",
            "ruff>=0.5",
            "schemathesis>=4.2,<5",
            "types-PyYAML",
            "uvicorn>=0.35",
            "websocket-client>=1.8",
            "websockets>=15",
        ],
        "fuzz": ["atheris>=3"],
        "load": ["aiohttp>=3.9", "locust>=2.47,<3", "proxy.py>=2.4.10,<3", "websocket-client>=1.8"],
    },
    entry_points={"console_scripts": ["gproxy = gproxy.cli:main"]},
)
