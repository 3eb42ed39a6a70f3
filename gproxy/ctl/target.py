"""Where the admin API is, and with which token.

    address   --admin, else the configuration's of -c, else GPROXY_ADMIN, else 127.0.0.1:9901
    token     --token-file, else the configuration's of -c, else GPROXY_TOKEN, else none

A token is no option by itself: everybody on the machine can read the options of a process.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping

from gproxy.core.address import Address, parse_address
from gproxy.ctl.client import Client
from gproxy.errors import GproxyError

ADMIN, TOKEN = "GPROXY_ADMIN", "GPROXY_TOKEN"  # in the environment
DEFAULT = "127.0.0.1:9901"

_LONGEST_TOKEN = 4096  # bytes of a file that is meant to hold one


def add_options(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """`default` is for a subcommand of a parser that has them, too: argparse.SUPPRESS."""
    group = parser.add_argument_group("where gproxy is")
    group.add_argument(
        "--admin",
        metavar="ADDRESS",
        type=_address,
        default=default,
        help=f"its admin API: HOST:PORT or unix:/PATH (else the configuration's, else ${ADMIN}, else {DEFAULT})",
    )
    group.add_argument(
        "-c", "--config", metavar="CONFIG", default=default, help="its configuration, which has address and token"
    )
    group.add_argument(
        "--token-file", metavar="FILE", default=default,
        help=f"a file that holds the token (else the configuration's, else ${TOKEN})",
    )  # fmt: skip


def client_of(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Client:
    """For what add_options has read. GproxyError where a file or a variable is no good."""
    address, token = options.admin, environ.get(TOKEN) or None
    if options.config is not None:
        bind, configured = _configured(options.config, environ)
        address, token = address or bind, configured or token
    if options.token_file is not None:
        token = _token_in(options.token_file)
    if address is None:
        address = _from_environment(environ)
    if not address.is_unix and address.port == 0:
        raise GproxyError(f"{options.config} lets the kernel choose the admin API's port; say it with --admin")
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise GproxyError("the token has characters that no token has")
    return Client(address, token)


def _configured(path: str, environ: Mapping[str, str]) -> tuple[Address, str | None]:
    from gproxy import config  # late: it takes longer than all the rest

    admin = config.load(path, environ).admin
    if admin is None:
        raise GproxyError(f"{path} has no admin key, without which there is no admin API")
    return admin.bind, admin.token


def _token_in(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_LONGEST_TOKEN + 1)
    except OSError as error:
        raise GproxyError(f"{path}: can't be read: {error.strerror}") from None
    if len(data) > _LONGEST_TOKEN or not data.strip():
        raise GproxyError(f"{path}: holds no token")
    return data.decode("latin-1").strip()


def _from_environment(environ: Mapping[str, str]) -> Address:
    try:
        return parse_address(environ.get(ADMIN) or DEFAULT)
    except ValueError as error:
        raise GproxyError(f"{ADMIN}: {error}") from None


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None
