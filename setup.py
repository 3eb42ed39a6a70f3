"""Packaging; see tox.ini for the tools' settings.

The modules that have a .pxd file beside them are compiled, where Cython and a C compiler are there; else they are
installed as they are and do the same, slower. All of them or none: a compiled one needs its compiled neighbours.
An editable install is never compiled: it would run code of yesterday. GPROXY_PURE=1 asks for none.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "gproxy/__init__.py").read_text()).group(1)
COMPILING = {"build", "build_ext", "bdist_wheel", "install"}  # commands


def extensions():
    """What to compile; nothing where that can't be done."""
    if os.environ.get("GPROXY_PURE") or not COMPILING & set(sys.argv):
        return []
    for old in HERE.glob("build/lib*"):  # or what was compiled once would be installed for ever
        shutil.rmtree(old)
    sources = [path.relative_to(HERE).with_suffix(".py") for path in sorted(HERE.glob("gproxy/**/*.pxd"))]
    try:
        from Cython.Build import cythonize

        return cythonize(
            [
                Extension(".".join(source.with_suffix("").parts), [str(source)], extra_compile_args=["-g0"])
                for source in sources
            ],
            build_dir="build/cython",
            compiler_directives={"language_level": 3, "nonecheck": True},
        )
    except Exception as error:  # noqa: BLE001  # whatever Cython has against it
        not_compiled(error)
        return []


def not_compiled(error):
    print(f"gproxy is not compiled, which it can do without: {error!r}", file=sys.stderr)


class AllOrNone(build_ext):
    """Compiles all extensions, or leaves none."""

    def run(self):
        try:
            super().run()
        except Exception as error:  # noqa: BLE001  # whatever the compiler has against it
            not_compiled(error)
            for path in self.get_outputs():
                Path(path).unlink(missing_ok=True)
            self.extensions = []
            self.distribution.ext_modules = []


setup(
    name="gproxy",
    version=VERSION,
    description="A TCP and HTTP/1.1 load balancer in Python on gevent",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["gproxy", "gproxy.*"]),
    ext_modules=extensions(),
    cmdclass={"build_ext": AllOrNone},
    options={"build_ext": {"parallel": min(os.cpu_count() or 1, 4)}},
    package_data={"": ["*.pxd"], "gproxy": ["py.typed"], "gproxy.admin": ["static/*", "static/uplot/*"]},
    install_requires=["gevent>=24.2", "httptools>=0.6", "PyYAML>=6.0", "rich>=13", "statsd>=4.0,<5"],
    extras_require={
        "test": [
            "Cython>=3.3",
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
            "setuptools>=68",
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
