"""Which upstream a request is for."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.http.messages import Malformed
from gproxy.core.http.routes import Routes, comparable_path
from gproxy.core.settings import RouteSettings


def route(upstream: str = "api", host: str = "", path: str = "") -> RouteSettings:
    return RouteSettings(upstream=upstream, host=host, path=path)


def by_host(pattern: str, host: bytes | None) -> bool:
    return Routes([route(host=pattern)], "app").match(host, b"/x") == "api"


def by_path(prefix: str, target: bytes) -> bool:
    return Routes([route(path=prefix)], "app").match(b"a", target) == "api"


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("api.example.com", b"api.example.com"),
        ("api.example.com", b"API.Example.com:8080"),
        ("API.example.com.", b"api.example.com"),
        ("api.example.com", b"api.example.com.:80"),
        ("[2001:DB8::1]", b"[2001:db8::1]:80"),
        ("*.example.com", b"api.example.com"),
        ("*.Example.com", b"a.b.EXAMPLE.com.:80"),
        ("", b"anything"),
        ("", None),
    ],
)
def test_a_host_that_matches(pattern: str, host: bytes) -> None:
    assert by_host(pattern, host)


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("example.com", b"api.example.com"),
        ("example.com", b"example.com.evil.test"),
        ("example.com", b"example.co"),
        ("*.example.com", b"example.com"),
        ("*.example.com", b"notexample.com"),
        ("*.example.com", b"api.example.com.evil.test"),
        ("[::1]", b"[::2]"),
        ("example.com", None),
        ("*.example.com", None),
    ],
)
def test_a_host_that_does_not_match(pattern: str, host: bytes | None) -> None:
    assert not by_host(pattern, host)


@pytest.mark.parametrize("prefix", ["/v1", "/v1/"])
@pytest.mark.parametrize(
    "target",
    [
        b"/v1", b"/v1/", b"/v1/x", b"/v1/x/", b"/v1?x=1", b"/v1/?x", b"/v1/x?y=/../..", b"/v1/..x", b"/v1/x..",
        b"/%76%31/x", b"/v%31", b"//v1/x", b"/v1//x", b"/./v1/x", b"/v2/../v1/x", b"/v2/%2e%2E/v1", b"/v1/x/..",
        b"/v1/.", b"/v1/..%2Fx", b"/v1/%zz",
    ],
)  # fmt: skip
def test_a_path_below_the_prefix(prefix: str, target: bytes) -> None:
    assert by_path(prefix, target)


@pytest.mark.parametrize("prefix", ["/v1", "/v1/"])
@pytest.mark.parametrize(
    "target",
    [
        b"/", b"/v10", b"/v10/", b"/v", b"/V1", b"/x/v1", b"/x?/v1/", b"/?/v1", b"/v1/../x", b"/v1/..", b"/v1/%2e%2e/x",
        b"/v1/x/../../y", b"/v1/.%2e", b"/v1%2Fx", b"/v1%3Fx", b"/%2576%31", b"/v1;a=b/x", b"*",
    ],
)  # fmt: skip
def test_a_path_beside_the_prefix(prefix: str, target: bytes) -> None:
    assert not by_path(prefix, target)


def test_every_path_is_below_the_root() -> None:
    assert by_path("/", b"/")
    assert by_path("/", b"/x/y")


def test_a_prefix_of_several_segments() -> None:
    assert by_path("/a/b/", b"/a/b/c")
    assert not by_path("/a/b/", b"/a/c/b")


def test_a_prefix_is_compared_as_paths_are() -> None:
    assert by_path("/a%2fb/%63", b"/%61%2Fb/c/d")


@pytest.mark.parametrize("target", [b"/..", b"/../v1", b"/%2e%2e/", b"/a/../../b", b"/..?x", b"/v1/../../v1/"])
def test_a_path_that_climbs_above_the_root_is_refused(target: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        by_path("/v1", target)
    assert refused.value.status == 400


def test_host_and_path_have_to_match_both() -> None:
    routes = Routes([route(host="a", path="/v1")], "app")
    assert routes.match(b"a", b"/v1/x") == "api"
    assert routes.match(b"b", b"/v1/x") == "app"
    assert routes.match(b"a", b"/v2/x") == "app"


def test_the_first_route_that_matches_wins() -> None:
    routes = Routes([route("one", path="/a/b"), route("two", path="/a"), route("three", path="/a/b/c")], "app")
    assert [routes.match(b"h", target) for target in (b"/a/b/c", b"/a/c", b"/b")] == ["one", "two", "app"]


def test_without_routes_everything_is_for_the_default() -> None:
    assert Routes([], "app").trivial
    assert Routes([], "app").match(b"a", b"/x") == "app"
    assert not Routes([route()], "app").trivial


SEGMENTS = [b"a", b"b", b"", b".", b"..", b"%2e", b"%2E.", b"a%2Fb", b"%61", b"%41", b"c.d"]
targets = st.lists(st.sampled_from(SEGMENTS)).map(lambda path: b"/" + b"/".join(path))


@given(targets)
def test_a_comparable_path_has_nothing_left_to_resolve(target: bytes) -> None:
    with suppress(Malformed):
        once = comparable_path(target)
        assert comparable_path(once) == once
        assert not set(once[1:-1].split(b"/")) & {b".", b".."}
        assert b"//" not in once


@given(targets, st.data())
def test_encoding_a_letter_changes_no_route(target: bytes, data: st.DataObject) -> None:
    target = b"/c/c/c/c/c/c/c/c/c/c" + target  # so that nothing climbs above the root
    at = data.draw(st.sampled_from([at for at in range(len(target)) if target[at - 1 : at + 1] == b"/c"]))
    encoded = target[:at] + b"%63" + target[at + 1 :]
    with suppress(Malformed):
        assert comparable_path(target) == comparable_path(encoded)


@given(st.binary(max_size=60))
def test_any_target_goes_somewhere_or_is_refused(target: bytes) -> None:
    with suppress(Malformed):
        assert Routes([route(path="/v1")], "app").match(b"a", target) in ("api", "app")
