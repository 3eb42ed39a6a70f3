"""Who may ask."""

import pytest

from gproxy.admin.answers import ApiError
from gproxy.admin.guard import check, check_host, check_type
from gproxy.core.address import parse_address
from gproxy.core.settings import AdminSettings

TOKEN = "0123456789abcdef"
LOCAL = AdminSettings(bind=parse_address("127.0.0.1:9901"))
GUARDED = AdminSettings(bind=parse_address("127.0.0.1:9901"), token=TOKEN)


def refused(settings=LOCAL, *, open_to_all=False, own_site=False, **fields):
    """The status, or None where it may."""
    fields = {"HTTP_HOST": "localhost:9901"} | {f"HTTP_{name}": value for name, value in fields.items()}
    try:
        check(settings, 9901, fields, open_to_all=open_to_all, own_site=own_site)
    except ApiError as error:
        return 500 if TOKEN in error.message else error.status
    return None


@pytest.mark.parametrize(
    ("bind", "good", "bad"),
    [
        ("127.0.0.1:9901", ["127.0.0.1:9901", "LOCALHOST:9901"], ["localhost", "evil:9901", "", "[::1]:1"]),
        ("127.1.1.1:9901", ["127.1.1.1:9901", "localhost:9901"], ["127.1.1.2:9901"]),
        ("localhost:9901", ["127.0.0.1:9901", "localhost:9901"], ["localhost:9901,evil:9901"]),
        ("[::1]:9901", ["[::1]:9901", "localhost:9901"], ["::1:9901"]),
        ("10.0.0.1:9901", ["10.0.0.1:9901"], ["localhost:9901", "10.0.0.1"]),
        ("proxy.example:9901", ["proxy.example:9901", "Proxy.Example:9901"], ["localhost:9901"]),
        ("0.0.0.0:9901", ["anything", ""], []),
        ("[::]:9901", ["anything", ""], []),
        ("unix:/run/admin.sock", ["anything", ""], []),
    ],
)  # fmt: skip
def test_the_host_is_ours(bind, good, bad):
    for host in good:
        check_host(parse_address(bind), 9901, host)
    for host in bad:
        with pytest.raises(ApiError) as caught:
            check_host(parse_address(bind), 9901, host)
        assert caught.value.status == 421


def test_the_port_that_needs_no_mention():
    check_host(parse_address("127.0.0.1:80"), 80, "localhost")
    check_host(parse_address("127.0.0.1:80"), 80, "localhost:80")


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer  {TOKEN} "])
def test_who_knows_the_token_may(given):
    assert refused(GUARDED, AUTHORIZATION=given) is None


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}0", "Bearer \xe9"])
def test_who_does_not_may_not(given):
    assert refused(GUARDED, AUTHORIZATION=given) == 401
    assert refused(GUARDED, AUTHORIZATION=given, open_to_all=True) is None


def test_pages_of_other_sites_change_nothing():
    assert refused(own_site=True) is None
    assert refused(own_site=True, SEC_FETCH_SITE="same-origin", ORIGIN="http://localhost:9901") is None
    assert refused(own_site=True, SEC_FETCH_SITE="none") is None
    for fields in ({"SEC_FETCH_SITE": "cross-site"}, {"SEC_FETCH_SITE": "same-site"}, {"ORIGIN": "http://evil"},
                   {"ORIGIN": "null"}, {"ORIGIN": "https://localhost:9901"}, {"ORIGIN": ""}):  # fmt: skip
        assert refused(own_site=True, **fields) == 403
        assert refused(**fields) is None


def test_the_page_may_come_by_way_of_a_proxy_with_tls():
    """Which asks us under our name. A browser says for itself that the page is of that site."""
    assert refused(own_site=True, SEC_FETCH_SITE="same-origin", ORIGIN="https://gproxy.example") is None
    assert refused(own_site=True, SEC_FETCH_SITE="none", ORIGIN="https://gproxy.example") == 403
    assert refused(own_site=True, SEC_FETCH_SITE="same-origin,cross-site") == 403


@pytest.mark.parametrize("given", ["application/json", "Application/JSON; charset=utf-8"])
def test_a_body_is_json(given):
    check_type({"CONTENT_TYPE": given})


@pytest.mark.parametrize("given", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_another_body_is_none_of_ours(given):
    with pytest.raises(ApiError) as caught:
        check_type({"CONTENT_TYPE": given})
    assert caught.value.status == 415
