"""ListeningSockets: what the master binds, and keeps open for as long as a configuration names its address.

    tcp     one socket per worker slot on the same address (SO_REUSEPORT): the kernel shares the clients out
    unix    one socket, which all workers share, and so does one that systemd has bound

The master never accepts. It holds its copy of each socket, so that the backlog outlives the worker that served it:
the next worker of the slot finds the clients that came meanwhile. When there are fewer workers than sockets, some
serve several.
"""

from __future__ import annotations

from _socket import SOCK_STREAM, gaierror, getaddrinfo
from _socket import socket as Socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from os import unlink
from typing import Any

from gproxy.core.settings import Config, ListenerSettings
from gproxy.errors import BindError
from gproxy.net.connection import Endpoint, format_sockaddr, set_stream_options
from gproxy.net.listener import bind, bind_error, bind_only
from gproxy.net.resolve import literal

BySlot = Mapping[str, Sequence[Socket]]  # a worker's sockets by the names of listeners


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
        """Take sockets that somebody else has bound, for the listeners of their addresses; those that nobody names."""
        left = list(inherited)
        for listener in config.listeners:
            mine = [sock for sock in left if sock.getsockname() == _endpoint(listener).sockaddr]
            if mine:
                if not listener.bind.is_unix:
                    for sock in mine:
                        set_stream_options(sock)
                self._held[_key(listener)] = Held(mine, shared=True, borrowed=True)
                left = [sock for sock in left if sock not in mine]
        return left

    def open(self, config: Config) -> None:
        """Have a socket for every listener and worker slot. BindError, and then nothing has changed.

        New ones don't listen yet, so that no client waits on them in vain should the configuration fail.
        """
        new: list[Socket] = []
        opened: dict[str, Held] = {}
        try:
            for listener in config.listeners:
                opened[_key(listener)] = self._opened(listener, config.workers, new)
        except BindError:
            for sock in new:
                Held([sock], shared=True).close()
            raise
        self._before = dict(self._held)
        self._held.update(opened)

    def listen(self, config: Config) -> None:
        """Let clients come; they wait until a worker accepts. BindError where somebody else was quicker."""
        for listener in config.listeners:
            for sock in self._held[_key(listener)].sockets:
                try:
                    sock.listen(listener.backlog)
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
        wanted = {_key(listener) for listener in config.listeners}
        for key in self._held.keys() - wanted:
            self._held.pop(key).close()

    def of(self, config: Config, slot: int) -> BySlot:
        """A worker's."""
        return {x.name: self._held[_key(x)].of(slot, config.workers) for x in config.listeners}

    def addresses(self, config: Config) -> dict[str, Any]:
        """Where each listener really listens, as getsockname() has it."""
        return {listener.name: self._held[_key(listener)].sockaddr for listener in config.listeners}

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

    def _opened(self, listener: ListenerSettings, workers: int, new: list[Socket]) -> Held:
        held = self._held.get(_key(listener))
        if held is None:
            endpoint = _endpoint(listener)
            if endpoint.is_unix:
                new.append(bind(endpoint))
                return Held(new[-1:], shared=True)
            bind_only(endpoint)  # with SO_REUSEPORT, a second gproxy would quietly get a part of the clients
            held = Held([], shared=False)
        else:
            held = Held(list(held.sockets), shared=held.shared, borrowed=held.borrowed)
        while len(held.sockets) < workers and not held.shared:
            new.append(_one_more(listener, held))
            held.sockets.append(new[-1])
        return held

    def __repr__(self) -> str:
        return f"<ListeningSockets {', '.join(format_sockaddr(held.sockaddr) for held in self._held.values())}>"


def _one_more(listener: ListenerSettings, held: Held) -> Socket:
    endpoint = _endpoint(listener)
    if held.sockets:
        endpoint = endpoint.with_port(held.sockaddr[1])  # the kernel's choice, for port 0
    return bind(endpoint, shared=True)


def _key(listener: ListenerSettings) -> str:
    bind = listener.bind
    return str(bind) if bind.port or bind.is_unix else f"{bind} of {listener.name}"


def _endpoint(listener: ListenerSettings) -> Endpoint:
    """BindError where a host name has no address. May wait for the resolver."""
    known = literal(listener.bind)
    if known:
        return known[0]
    try:
        family, _, _, _, sockaddr = getaddrinfo(listener.bind.host, listener.bind.port, 0, SOCK_STREAM)[0]
    except (gaierror, UnicodeError) as error:
        raise BindError(f"cannot listen on {listener.bind}: {getattr(error, 'strerror', None) or error}") from error
    return Endpoint(family, sockaddr)
