"""Where ctl finds the API, and with which token."""

import argparse

import pytest

from gproxy.core.address import Address
from gproxy.ctl import target
from gproxy.errors import ConfigError, GproxyError

CONFIG = """
admin: {bind: "127.0.0.1:7001", token: "${T:-0123456789abcdef}"}
listeners: [{bind: "127.0.0.1:0", upstream: app}]
upstreams: {app: {backends: ["127.0.0.1:1"]}}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "gproxy.yaml"
    path.write_text(CONFIG)
    return path


def found(*arguments, **environ):
    """Address and token."""
    parser = argparse.ArgumentParser()
    target.add_options(parser)
    client = target.client_of(parser.parse_args(list(map(str, arguments))), environ)
    return str(client.address), client._token


def test_options_go_before_the_configuration_and_that_before_the_environment(tmp_path, config):
    secret = tmp_path / "token"
    secret.write_text("from-a-file\n")
    environ = {"GPROXY_ADMIN": "unix:/run/admin", "GPROXY_TOKEN": "from-the-environment"}

    assert found() == ("127.0.0.1:9901", None)
    assert found(**environ) == ("unix:/run/admin", "from-the-environment")
    assert found("-c", config, **environ) == ("127.0.0.1:7001", "0123456789abcdef")
    assert found("-c", config, **environ, T="another-token-here") == ("127.0.0.1:7001", "another-token-here")
    assert found("-c", config, "--admin", "[::1]:7002") == ("[::1]:7002", "0123456789abcdef")
    assert found("-c", config, "--token-file", secret, **environ) == ("127.0.0.1:7001", "from-a-file")
    assert found("--admin", "localhost:7003", **environ) == ("localhost:7003", "from-the-environment")


def refusal(*arguments, **environ):
    with pytest.raises(GproxyError) as error:
        found(*arguments, **environ)
    return str(error.value)


def test_what_can_not_be_is_said(tmp_path, config):
    assert refusal(GPROXY_ADMIN="9901") == "GPROXY_ADMIN: needs a port, such as 9901:9100"
    assert refusal("--token-file", tmp_path / "none").endswith("none: can't be read: No such file or directory")
    (tmp_path / "empty").touch()
    assert refusal("--token-file", tmp_path / "empty").endswith("empty: holds no token")
    assert refusal(GPROXY_TOKEN="two words") == "the token has characters that no token has"
    config.write_text(CONFIG.replace("7001", "0"))
    assert "lets the kernel choose the admin API's port; say it with --admin" in refusal("-c", config)
    config.write_text(CONFIG.replace("admin", "#"))
    assert "has no admin key, without which there is no admin API" in refusal("-c", config)
    config.write_text("listener: []")
    with pytest.raises(ConfigError):
        found("-c", config)


def test_an_address_that_is_none_is_a_usage_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        found("--admin", "somewhere")
    assert "'somewhere' needs a port, such as somewhere:9100" in capsys.readouterr().err


def test_all_addresses_are_asked_at_loopback():
    client = target.Client(Address("0.0.0.0", 7001))
    assert client._connection().host == "127.0.0.1"
    assert target.Client(Address("::", 7001))._connection().host == "::1"
