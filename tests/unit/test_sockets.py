"""The listening sockets that the master holds for its workers."""

from __future__ import annotations

import contextlib
import os
import socket
from _socket import socket as Socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.core.settings import Config
from gproxy.errors import BindError
from gproxy.net.connection import Endpoint
from gproxy.net.listener import listen
from gproxy.sockets import Held, ListeningSockets
from tests.support.child import in_child
from tests.support.configs import make_config
from tests.support.loopback import descriptors

LOCAL = "127.0.0.1:0"


@pytest.fixture
def sockets() -> Iterator[ListeningSockets]:
    sockets = ListeningSockets()
    yield sockets
    sockets.close()


def serve(sockets: ListeningSockets, *binds: str, workers: int = 1) -> Config:
    """Open for a configuration that comes into effect."""
    config = make_config(binds=binds, workers=workers)
    sockets.open(config)
    sockets.listen(config)
    sockets.close_unused(config)
    return config


def by_slot(sockets: ListeningSockets, config: Config, name: str = "web0") -> list[list[int]]:
    """Each worker's descriptors."""
    return [[sock.fileno() for sock in sockets.of(config, slot)[name]] for slot in range(config.workers)]


def accepts(address: object) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as client:
        return client.connect_ex(address) == 0  # type: ignore[arg-type]


def is_open(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(os.fstat(descriptor))
    return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# --- opening --------------------------------------------------------------------------


def test_port_0_is_one_port_for_all_slots(sockets: ListeningSockets) -> None:
    config = serve(sockets, LOCAL, LOCAL, workers=3)
    addresses = sockets.addresses(config)
    for name, address in addresses.items():
        slots = [sockets.of(config, slot)[name] for slot in range(3)]
        assert [sock.getsockname() for mine in slots for sock in mine] == [address] * 3
    assert addresses["web0"][1] != addresses["web1"][1]


def test_port_0_stays_the_port_that_it_became(sockets: ListeningSockets) -> None:
    before = sockets.addresses(serve(sockets, LOCAL))
    assert sockets.addresses(serve(sockets, LOCAL, workers=2)) == before


def test_nobody_connects_before_it_listens(sockets: ListeningSockets) -> None:
    config = make_config(binds=[LOCAL])
    sockets.open(config)
    address = sockets.addresses(config)["web0"]
    assert not accepts(address)
    sockets.listen(config)
    assert accepts(address)


@pytest.mark.parametrize("others", [False, True], ids=["a socket of its own", "another gproxy"])
def test_an_address_in_use_is_refused(sockets: ListeningSockets, others: bool) -> None:
    """Though the kernel would let us share it with another gproxy."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port), reuse_port=others), pytest.raises(BindError, match=f":{port}"):
        sockets.open(make_config(binds=[f"127.0.0.1:{port}"]))


def test_a_family_that_the_machine_does_not_have_is_refused(
    sockets: ListeningSockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: int) -> Socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr("gproxy.net.listener.Socket", lacking)
    with pytest.raises(BindError, match="family not supported"):
        sockets.open(make_config(binds=["[::1]:0"]))


def test_an_open_that_fails_changes_nothing(sockets: ListeningSockets, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    config = serve(sockets, LOCAL, f"unix:{old}")
    before = descriptors(), by_slot(sockets, config), repr(sockets)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        binds = [LOCAL, f"unix:{old}", f"unix:{new}", LOCAL, f"127.0.0.1:{taken.getsockname()[1]}"]
        with pytest.raises(BindError):
            sockets.open(make_config(binds=binds, workers=3))
    assert (descriptors(), by_slot(sockets, config), repr(sockets)) == before
    assert old.exists()
    assert not new.exists()
    assert accepts(str(old))


def test_undone_is_what_the_last_open_did(sockets: ListeningSockets, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    config = serve(sockets, LOCAL, f"unix:{old}")
    before = descriptors(), by_slot(sockets, config), repr(sockets)
    sockets.open(make_config(binds=[LOCAL, f"unix:{old}", f"unix:{new}", LOCAL], workers=3))
    sockets.undo()
    assert (descriptors(), by_slot(sockets, config), repr(sockets)) == before
    assert old.exists()
    assert not new.exists()


# --- who serves on what -----------------------------------------------------------------


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_however_the_workers_change_each_socket_has_exactly_one(counts: list[int]) -> None:
    sockets = ListeningSockets()
    try:
        for workers in counts:
            config = serve(sockets, LOCAL, workers=workers)
            slots = by_slot(sockets, config)
            ((held, *_),) = sockets.descriptors().values()
            assert Counter(fd for mine in slots for fd in mine) == Counter(held)
            assert all(slots)
            sizes = [len(mine) for mine in slots]
            assert max(sizes) - min(sizes) <= 1
    finally:
        sockets.close()


def test_a_slot_keeps_its_socket_when_workers_are_added(sockets: ListeningSockets) -> None:
    before = by_slot(sockets, serve(sockets, LOCAL, workers=2))
    assert by_slot(sockets, serve(sockets, LOCAL, workers=3))[:2] == before


def test_a_unix_socket_is_shared(sockets: ListeningSockets, tmp_path: Path) -> None:
    config = serve(sockets, f"unix:{tmp_path / 'sock'}", workers=3)
    one, *others = by_slot(sockets, config)
    assert len(one) == 1
    assert others == [one, one]


# --- sockets of others ----------------------------------------------------------------------


def inherited(bind: str | tuple[str, int]) -> Socket:
    family = socket.AF_UNIX if isinstance(bind, str) else socket.AF_INET
    return listen(Endpoint(family, bind), 10)


def test_inherited_sockets_go_to_the_listeners_of_their_addresses(sockets: ListeningSockets, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    ours = [inherited(("127.0.0.1", 0)), inherited(str(path))]
    stranger = inherited(("127.0.0.1", 0))
    port = ours[0].getsockname()[1]
    config = make_config(binds=[LOCAL, f"unix:{path}", f"127.0.0.1:{port}"], workers=2)
    assert sockets.adopt_inherited(config, [stranger, *ours]) == [stranger]
    sockets.open(config)
    assert by_slot(sockets, config, "web1") == [[ours[1].fileno()]] * 2
    assert by_slot(sockets, config, "web2") == [[ours[0].fileno()]] * 2
    assert sockets.addresses(config)["web0"] not in [sock.getsockname() for sock in (*ours, stranger)]
    stranger.close()


def test_all_sockets_of_one_address_are_taken_over(sockets: ListeningSockets) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as one:
        address = one.getsockname()
        with socket.create_server(address, reuse_port=True) as other:
            pair = [Socket(fileno=sock.detach()) for sock in (one, other)]
    config = make_config(binds=[f"127.0.0.1:{address[1]}"])
    assert sockets.adopt_inherited(config, pair) == []
    assert by_slot(sockets, config) == [[sock.fileno() for sock in pair]]


def test_an_inherited_path_is_its_owner_s_to_remove(sockets: ListeningSockets, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    config = make_config(binds=[f"unix:{path}"])
    sockets.adopt_inherited(config, [inherited(str(path))])
    sockets.open(config)
    sockets.open(make_config(binds=[f"unix:{path}"], workers=2))  # a reload does not make it ours
    sockets.close()
    assert path.exists()
    assert not accepts(str(path))


def test_an_open_that_fails_leaves_inherited_paths_alone(sockets: ListeningSockets, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = make_config(binds=[f"unix:{path}", f"127.0.0.1:{taken.getsockname()[1]}"])
        sockets.adopt_inherited(config, [inherited(str(path))])
        with pytest.raises(BindError):
            sockets.open(config)
    assert accepts(str(path))


def test_another_master_takes_over_what_is_described_to_it(sockets: ListeningSockets, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    binds = [LOCAL, f"unix:{ours}", f"unix:{theirs}"]
    sockets.adopt_inherited(make_config(binds=binds), [inherited(str(theirs))])
    config = serve(sockets, *binds, workers=2)
    after = ListeningSockets()
    for key, (fds, shared, borrowed) in sockets.descriptors().items():
        copies = [Socket(fileno=os.dup(fd)) for fd in fds]
        after.adopt(key, Held(copies, shared=shared, borrowed=borrowed))
    before = descriptors()
    after.open(config)
    assert descriptors() == before
    assert after.addresses(config) == sockets.addresses(config)
    assert [len(mine) for mine in by_slot(after, config)] == [1, 1]
    sockets.close(keep_paths=True)
    assert accepts(str(ours))
    after.own_all()
    after.close()
    assert not ours.exists()
    assert theirs.exists()


# --- closing ------------------------------------------------------------------------------


def test_closed_is_what_the_configuration_does_not_name(sockets: ListeningSockets, tmp_path: Path) -> None:
    path, port = tmp_path / "sock", free_port()
    old = sockets.addresses(serve(sockets, f"127.0.0.1:{port}", f"unix:{path}", workers=2))
    new = sockets.addresses(serve(sockets, f"127.0.0.1:{port}"))
    assert new == {"web0": old["web0"]}
    assert accepts(old["web0"])
    assert not path.exists()
    sockets.close()
    assert not accepts(old["web0"])


def test_a_path_that_is_gone_already_is_no_error(sockets: ListeningSockets, tmp_path: Path) -> None:
    serve(sockets, f"unix:{tmp_path / 'sock'}")
    (tmp_path / "sock").unlink()
    before = len(descriptors())
    sockets.close()
    assert len(descriptors()) == before - 1


def test_a_child_keeps_its_own_alone(sockets: ListeningSockets, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    config = serve(sockets, LOCAL, f"unix:{path}", workers=3)
    mine = [fd for name in ("web0", "web1") for fd in by_slot(sockets, config, name)[1]]
    everybody = [fd for fds, *_ in sockets.descriptors().values() for fd in fds]

    def still_open() -> list[int]:
        sockets.keep_only(sockets.of(config, 1))
        return [fd for fd in everybody if is_open(fd)]

    assert in_child(still_open) == mine
    assert path.exists()
    assert accepts(str(path))
    assert len(everybody) == 4


def test_repr_tells_where(sockets: ListeningSockets) -> None:
    port = free_port()
    serve(sockets, f"127.0.0.1:{port}", workers=2)
    assert repr(sockets) == f"<ListeningSockets 127.0.0.1:{port}>"


def test_a_takeover_that_fails_removes_its_own_paths_and_leaves_the_other_master_s(
    sockets: ListeningSockets, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    serve(sockets, f"unix:{old}")
    after = ListeningSockets()
    for key, (fds, shared, borrowed) in sockets.descriptors().items():
        after.adopt(key, Held([Socket(fileno=os.dup(fd)) for fd in fds], shared=shared, borrowed=borrowed))
    after.open(make_config(binds=[f"unix:{old}", f"unix:{new}"]))
    after.close()
    assert accepts(str(old))
    assert not new.exists()


def test_an_address_that_somebody_else_listens_on_by_now_is_an_error(sockets: ListeningSockets) -> None:
    config = make_config(binds=[LOCAL])
    sockets.open(config)
    ((_, port),) = sockets.addresses(config).values()
    with socket.socket() as quicker:
        quicker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        quicker.bind(("127.0.0.1", port))
        quicker.listen()
        with pytest.raises(BindError, match="address already in use"):
            sockets.listen(config)
