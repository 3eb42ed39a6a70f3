"""ListeningSockets: what the master binds, and keeps open for as long as a configuration names its address.

    tcp     one socket per worker slot on the same address (SO_REUSEPORT): the kernel shares the clients out
    unix    one socket, which all workers share, and so does one that systemd has bound
    admin   one socket, which the steward serves

The master never accepts. It holds its copy of each socket, so that the backlog outlives the worker that served it:
the next worker of the slot finds the clients that came meanwhile. When there are fewer workers than sockets, some
serve several.
"""

from __future__ import annotations

from _socket import SOCK_STREAM, gaierror, getaddrinfo
from _socket import socket as Socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from os import chmod, unlink
from typing import Any, NamedTuple

from gproxy.core.address import Address
from gproxy.core.settings import AdminSettings, Config, ListenerSettings
from gproxy.errors import BindError
from gproxy.net.connection import Endpoint, format_sockaddr, set_stream_options
from gproxy.net.listener import bind, bind_error, bind_only
from gproxy.net.resolve import literal

BySlot = Mapping[str, Sequence[Socket]]  # a worker's sockets by the names of listeners


_ADMIN = "the admin API"  # no listener's name: those have no blanks
_ADMIN_BACKLOG = 16
_ADMIN_MODE = 0o660  # of a unix socket: our user and group


class Place(NamedTuple):
    """Where to listen."""

    name: str
    bind: Address
    backlog: int
    sockets: int  # where there may be several

    @property
    def key(self) -> str:
        """As the configuration names it; port 0 is another port for each."""
        return str(self.bind) if self.bind.port or self.bind.is_unix else f"{self.bind} of {self.name}"


def _of_listener(listener: ListenerSettings, workers: int) -> Place:
    return Place(listener.name, listener.bind, listener.backlog, workers)


def _of_admin(admin: AdminSettings) -> Place:
    return Place(_ADMIN, admin.bind, _ADMIN_BACKLOG, 1)


def _places(config: Config) -> list[Place]:
    found = [_of_listener(listener, config.workers) for listener in config.listeners]
    return found if config.admin is None else [*found, _of_admin(config.admin)]


class Held:
    """The sockets of one address."""

    def __init__(self, sockets: list[Socket], *, shared: bool, borrowed: bool = False):
        """`shared`: there can be no other, so that all workers share it; `borrowed`: a unix path is another's."""
        self.sockets = sockets
        self.shared = shared
        self.borrowed = borrowed

    @property
    def sockaddr(self) -> Any:
        return self.sockets[0].getsockname()

    def of(self, slot: int, workers: int) -> Sequence[Socket]:
        """Those that a worker serves."""
        if self.shared:
            return self.sockets
        return self.sockets[slot::workers]

    def close(self, *, keep_path: bool = False) -> None:
        path = self.sockaddr
        for sock in self.sockets:
            sock.close()
        if isinstance(path, str) and not self.borrowed and not keep_path:
            with suppress(FileNotFoundError):
                unlink(path)


class ListeningSockets:
    """By the addresses that the configuration names."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._before: dict[str, Held] = {}
        self._adopted: set[str] = set()  # another master's, until it ends

    def adopt(self, key: str, held: Held) -> None:
        """Take sockets that the master before us has bound, by the address that the configuration names."""
        self._held[key] = held
        self._adopted.add(key)

    def adopt_inherited(self, config: Config, inherited: Sequence[Socket]) -> list[Socket]:
        """Take sockets that somebody else has bound, for the places of their addresses; those that nobody names."""
        left = list(inherited)
        for place in _places(config):
            mine = [sock for sock in left if sock.getsockname() == _endpoint(place).sockaddr]
            if mine:
                if not place.bind.is_unix:
                    for sock in mine:
                        set_stream_options(sock)
                self._held[place.key] = Held(mine, shared=True, borrowed=True)
                left = [sock for sock in left if sock not in mine]
        return left

    def open(self, config: Config) -> None:
        """Have a socket for every listener and worker slot, and for the admin API. BindError, and then nothing is new.

        New ones don't listen yet, so that no client waits on them in vain should the configuration fail.
        """
        new: list[Socket] = []
        opened: dict[str, Held] = {}
        try:
            for place in _places(config):
                opened[place.key] = self._opened(place, new)
        except BindError:
            for sock in new:
                Held([sock], shared=True).close()
            raise
        self._before = dict(self._held)
        self._held.update(opened)

    def listen(self, config: Config) -> None:
        """Let clients come; they wait until a worker accepts. BindError where somebody else was quicker."""
        for place in _places(config):
            for sock in self._held[place.key].sockets:
                try:
                    sock.listen(place.backlog)
                except OSError as error:
                    raise bind_error(Endpoint(sock.family, sock.getsockname()), error) from error

    def undo(self) -> None:
        """Close what the last `open` has opened."""
        kept = {sock for held in self._before.values() for sock in held.sockets}
        for held in self._held.values():
            new = [sock for sock in held.sockets if sock not in kept]
            if new:
                Held(new, shared=held.shared).close(keep_path=len(new) < len(held.sockets))
        self._held = self._before

    def close_unused(self, config: Config) -> None:
        """Close what the configuration does not name."""
        wanted = {place.key for place in _places(config)}
        for key in self._held.keys() - wanted:
            self._held.pop(key).close()

    def of(self, config: Config, slot: int) -> BySlot:
        """A worker's."""
        places = [_of_listener(listener, config.workers) for listener in config.listeners]
        return {place.name: self._held[place.key].of(slot, place.sockets) for place in places}

    def of_admin(self, config: Config) -> BySlot:
        """The steward's; one, but all that a listener had there before."""
        return {} if config.admin is None else {_ADMIN: self._held[_of_admin(config.admin).key].sockets}

    def addresses(self, config: Config) -> dict[str, Any]:
        """Where each listener really listens, as getsockname() has it."""
        return {x.name: self._held[_of_listener(x, 1).key].sockaddr for x in config.listeners}

    def admin_address(self, config: Config) -> Any:
        """Where the admin API listens; None without one."""
        return None if config.admin is None else self._held[_of_admin(config.admin).key].sockaddr

    def descriptors(self) -> dict[str, tuple[list[int], bool, bool]]:
        """All of them, for a process that takes over: by address, with what `Held` wants to know."""
        return {
            key: ([sock.fileno() for sock in held.sockets], held.shared, held.borrowed)
            for key, held in self._held.items()
        }

    def keep_only(self, mine: BySlot) -> None:
        """In a child: an address is free once everybody who has a socket of it has closed it."""
        kept = {sock for sockets in mine.values() for sock in sockets}
        for held in self._held.values():
            for sock in held.sockets:
                if sock not in kept:
                    sock.close()

    def own_all(self) -> None:
        """The master before us has no part in them any more."""
        self._adopted.clear()

    def close(self, *, keep_paths: bool = False) -> None:
        """Close all; with `keep_paths` somebody else serves on the unix sockets."""
        for key, held in self._held.items():
            held.close(keep_path=keep_paths or key in self._adopted)
        self._held.clear()

    def _opened(self, place: Place, new: list[Socket]) -> Held:
        held = self._held.get(place.key)
        if held is None:
            endpoint = _endpoint(place)
            if endpoint.is_unix or place.name == _ADMIN:
                new.append(bind(endpoint))
                if endpoint.is_unix and place.name == _ADMIN:
                    chmod(endpoint.sockaddr, _ADMIN_MODE)  # nobody could connect so far: it does not listen
                return Held(new[-1:], shared=True)
            bind_only(endpoint)  # with SO_REUSEPORT, a second gproxy would quietly get a part of the clients
            held = Held([], shared=False)
        else:
            held = Held(list(held.sockets), shared=held.shared, borrowed=held.borrowed)
        while len(held.sockets) < place.sockets and not held.shared:
            new.append(_one_more(place, held))
            held.sockets.append(new[-1])
        return held

    def __repr__(self) -> str:
        return f"<ListeningSockets {', '.join(format_sockaddr(held.sockaddr) for held in self._held.values())}>"


def _one_more(place: Place, held: Held) -> Socket:
    endpoint = _endpoint(place)
    if held.sockets:
        endpoint = endpoint.with_port(held.sockaddr[1])  # the kernel's choice, for port 0
    return bind(endpoint, shared=True)


def _endpoint(place: Place) -> Endpoint:
    """BindError where a host name has no address. May wait for the resolver."""
    known = literal(place.bind)
    if known:
        return known[0]
    try:
        family, _, _, _, sockaddr = getaddrinfo(place.bind.host, place.bind.port, 0, SOCK_STREAM)[0]
    except (gaierror, UnicodeError) as error:
        raise BindError(f"cannot listen on {place.bind}: {getattr(error, 'strerror', None) or error}") from error
    return Endpoint(family, sockaddr)
