"""Packaging; see tox.ini for the tools' settings."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
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
