"""A listener's settings as the forwarding code reads them."""

from __future__ import annotations

import pytest

from gproxy.core.address import Address
from gproxy.core.http.options import ForwardOptions, forward_options
from gproxy.core.settings import Forwarded, HeaderRules, ListenerSettings

NOTHING = HeaderRules()


def options(request: HeaderRules = NOTHING, response: HeaderRules = NOTHING) -> ForwardOptions:
    return forward_options(
        ListenerSettings(
            name="web",
            bind=Address("127.0.0.1", 0),
            upstream="app",
            forwarded=Forwarded.FORWARDED,
            request_headers=request,
            response_headers=response,
        )
    )


def test_the_settings_become_bytes() -> None:
    request = HeaderRules(set=(("X-Env", "pr\xfcfung"),), remove=("X-Debug", "X_Trace"))
    response = HeaderRules(set=(("Server", "shop"),), remove=("X-Powered-By",))
    assert options(request, response) == ForwardOptions(
        forwarded=Forwarded.FORWARDED,
        request_set=((b"X-Env", "pr\xfcfung".encode()),),
        request_remove=frozenset({b"x-debug", b"x-trace"}),
        response_set=((b"Server", b"shop"),),
        response_remove=frozenset({b"x-powered-by"}),
    )


@pytest.mark.parametrize("name", ["Content-Length", "transfer_encoding", "Connection", "Upgrade", "TE", "Keep-Alive"])
def test_no_rule_is_made_for_what_delimits_messages_and_connections(name: str) -> None:
    for rules in (HeaderRules(set=((name, "x"),)), HeaderRules(remove=(name,))):
        with pytest.raises(ValueError, match=name.lower().replace("_", "-")):
            options(request=rules)
        with pytest.raises(ValueError, match=name.lower().replace("_", "-")):
            options(response=rules)


@pytest.mark.parametrize("name", ["Expect", "X-Request-ID"])
def test_no_request_rule_is_made_for_what_the_session_answers_for(name: str) -> None:
    for rules in (HeaderRules(set=((name, "x"),)), HeaderRules(remove=(name,))):
        with pytest.raises(ValueError, match=name.lower()):
            options(request=rules)
        options(response=rules)


def test_host_can_be_set_but_not_removed() -> None:
    assert options(HeaderRules(set=(("Host", "app"),))).request_set == ((b"Host", b"app"),)
    with pytest.raises(ValueError, match="host"):
        options(HeaderRules(remove=("Host",)))
