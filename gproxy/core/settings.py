"""The configuration as running code sees it: frozen values, checked once by config.py.

Every duration is in seconds, every size in bytes. The metadata of a field is its line
in the reference of keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from gproxy.core.address import Address

HUB_WATCHDOG = 1.0  # the default
WORKER_TIMEOUT = 30.0  # the default


def key(default: Any, doc: str, told: str = "") -> Any:
    """A field that stands in the configuration file under its own name.

    `told` is what the reference says of a default that depends on other keys.
    """
    return field(default=default, metadata=line(doc, told))


def line(doc: str, told: str = "required") -> dict[str, str]:
    """The metadata of a field without a default, which mypy knows by `field` alone."""
    return {"doc": doc, "told": told}


class Mode(Enum):
    TCP = "tcp"
    HTTP = "http"


class Reuse(Enum):
    """What a returned connection is good for."""

    NEVER = "never"
    QUIESCENT = "quiescent"
    SAFE = "safe"


class AllDown(Enum):
    """What a client sees when no backend can serve it."""

    RESET = "reset"
    CLOSE = "close"
    HTTP_503 = "503"


class OnOverload(Enum):
    """What becomes of a client for whom there is no room."""

    WAIT = "wait"
    REJECT = "reject"


class Forwarded(Enum):
    """Which fields tell a backend of an http client."""

    X_FORWARDED = "x-forwarded"
    FORWARDED = "forwarded"
    OFF = "off"


class DownAction(Enum):
    """What happens to the sessions of a backend that goes down."""

    KEEP = "keep"
    CLOSE_SESSIONS = "close_sessions"


class Probe(Enum):
    TCP = "tcp"
    HTTP = "http"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """All finite, all on the monotonic clock."""

    backend_connect_timeout: float = key(5.0, "one dial of a backend")
    connection_idle_timeout: float = key(60.0, "a tcp session without a byte either way; an idle pooled connection")
    request_head_timeout: float = key(10.0, "http: a client slow to send its head")
    client_idle_timeout: float = key(60.0, "http: a keep-alive client between requests")
    response_timeout: float = key(60.0, "http: a backend silent after the request was sent")
    stall_timeout: float = key(60.0, "a peer that takes no more bytes")
    half_close_timeout: float = key(30.0, "the other side's silence after one side's FIN")
    queue_timeout: float = key(5.0, "waiting for a connection slot of a backend")
    tunnel_timeout: float = key(3600.0, "http: an upgraded connection without a byte either way")

    def override(self, named: tuple[tuple[str, float], ...]) -> Timeouts:
        """These, with the named ones replaced."""
        return replace(self, **dict(named)) if named else self


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    size: int = key(10, "idle connections kept per backend; the oldest is closed when one more comes")
    reuse: Reuse = key(Reuse.NEVER, "what a returned connection is good for", "`never` in tcp, `safe` in http")
    preconnect: int = key(0, "fresh connections kept ready per backend")
    idle_timeout: float = key(60.0, "how long an idle connection is kept", "`connection_idle_timeout`")
    max_age: float = key(3600.0, "how long after its dial a connection may still be lent")
    max_uses: int = key(10000, "how many times a connection may be lent")
    quiescent_for: float = key(0.1, "quiescent: how long the backend must have been silent before a return")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckSettings:
    type: Probe = key(Probe.TCP, "tcp connects, http asks for a path, none takes every backend for healthy")
    interval: float = key(5.0, "between two checks of one backend, jittered by a tenth")
    fast_interval: float = key(1.0, "between checks while the last one disagreed with the state; never above interval")
    timeout: float = key(2.0, "for one check")
    rise: int = key(2, "successes in a row that bring a backend up")
    fall: int = key(3, "failures in a row that take a backend down")
    port: int | None = key(None, "another port to check than the backend's own", "the backend's")
    path: str = key("/", "http: the path to ask for")
    host: str | None = key(None, "http: the Host header", "the backend's address")
    expect_status: tuple[tuple[int, int], ...] = key(((200, 399),), "http: statuses that are healthy", "`200-399`")
    expect_body: str | None = key(None, "http: text that the first 64 KiB of the body must contain", "any")
    use_pool: bool = key(False, "http: ask over an idle pooled connection where there is one")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassiveHealthSettings:
    connect_failures: int = key(3, "failed dials in a row that eject a backend; 0 turns ejection off")
    server_errors: int = key(0, "http: 5xx responses in a row that eject a backend; 0 turns this off")
    eject_for: float = key(10.0, "the first ejection; each one after it is longer by as much")
    max_eject_for: float = key(300.0, "the longest ejection")
    max_ejected_percent: int = key(50, "share of an upstream's backends that may be ejected at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    name: str = key("", "its name in logs and metrics", "its address")
    address: Address = key(Address(), "where it listens", "required")
    weight: int = key(1, "its share of the load beside the others")
    max_connections: int | None = key(None, "connections to it at once, idle ones included", "no limit")
    backup: bool = key(False, "serves only while no other backend can")


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceSettings:
    """A policy by its name, and what it needs: a dotted path (``python``) or a source (``hash``)."""

    kind: str = key("round_robin", "http: by a field, a cookie or the path: the same value, the same backend", "none")
    argument: str = key("", "a function of yours, `choose(candidates, request)`", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class StickySettings:
    """A client stays with the backend that a cookie of gproxy's names."""

    cookie: str = key("gproxy", "the cookie's name")
    max_age: float | None = key(None, "how long browsers keep it", "a browser's session")
    secure: bool = key(False, "whether browsers send it over https only")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRules:
    """What is done to the fields of a message before it is forwarded: first remove, then set."""

    set: tuple[tuple[str, str], ...] = key((), "fields to set, in the place of any of that name")
    remove: tuple[str, ...] = key((), "fields to remove")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """Requests that match both go to another upstream."""

    upstream: str = field(metadata=line("where matching requests go"))
    host: str = key("", "a host name, or `*.suffix` for every name below one", "any")
    path: str = key("", "the start of the path, in whole segments, such as `/v1/`", "any")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    name: str
    backends: tuple[BackendSettings, ...] = field(metadata=line("the servers, at least one"))
    balance: BalanceSettings = key(BalanceSettings(), "how a backend is chosen", "`round_robin`")
    retries: int = key(2, "further backends tried when a dial fails")
    all_down: AllDown = key(
        AllDown.RESET, "what a client sees when no backend can serve", "`reset` in tcp, `503` in http"
    )
    retry_after: float = key(5.0, "http: what a 503 tells clients to wait")
    sticky: StickySettings | None = key(None, "http: keep a client on one backend by a cookie", "off")
    down_action: DownAction = key(DownAction.KEEP, "what happens to the sessions of a backend that goes down")
    resolve_interval: float = key(30.0, "between two look-ups of the backends' host names")
    pool: PoolSettings = key(PoolSettings(), "idle backend connections")
    health_check: HealthCheckSettings = key(HealthCheckSettings(), "active checks")
    passive_health: PassiveHealthSettings = key(PassiveHealthSettings(), "ejection of backends that fail sessions")
    timeouts: Timeouts = Timeouts()  # load_balancer's, overridden by those that the upstream names


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    name: str = field(metadata=line("its name in logs and metrics", "`listener1`, ..."))
    bind: Address = field(metadata=line("where to accept; port 0 lets the kernel choose"))
    upstream: str = field(metadata=line("the upstream that serves the clients"))
    mode: Mode = key(Mode.TCP, "tcp moves bytes, http reads requests")
    max_connections: int = key(10000, "sessions at once, of all workers; `on_overload` says what becomes of more")
    on_overload: OnOverload = key(
        OnOverload.WAIT, "further clients wait in the backlog, or are turned away: 503 in http, RST in tcp"
    )
    backlog: int = key(1024, "connections that the kernel holds until they are accepted")
    forwarded: Forwarded = key(Forwarded.X_FORWARDED, "http: which fields tell a backend of the client")
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = key((), "http: whose forwarding fields are believed")
    routes: tuple[RouteSettings, ...] = key((), "http: requests for other upstreams; the first match wins")
    request_headers: HeaderRules = key(HeaderRules(), "http: fields set in and removed from requests", "none")
    response_headers: HeaderRules = key(HeaderRules(), "http: fields set in and removed from responses", "none")
    max_request_line: int = key(8192, "http: bytes of a request line, else 414; at most `max_head`")
    max_head: int = key(65536, "http: bytes of a head, else 431, or 502 for a response's")
    max_fields: int = key(128, "http: field lines of a head, else the same")
    max_body: int | None = key(None, "http: bytes of a request body, else 413", "no limit")
    error_files: tuple[tuple[int, str], ...] = key((), "http: bodies in the place of gproxy's own, by status")
    explain_header: bool = key(False, "http: tell clients in `X-Gproxy-Explain` how their backend was chosen")
    overrides: tuple[tuple[str, float], ...] = ()  # the timeouts that the listener names for itself

    @property
    def targets(self) -> tuple[str, ...]:
        """Every upstream that it may use, its own first."""
        return tuple(dict.fromkeys((self.upstream, *(route.upstream for route in self.routes))))


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsdSettings:
    host: str = key("127.0.0.1", "where StatsD listens, over UDP")
    port: int = key(8125, "its port")
    prefix: str = key("gproxy", "before every name")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    level: str = key("info", "the least important messages that are written")
    format: str = key("text", "of the log and the access log")
    access: str = key("-", "the access log: nowhere, standard output (`-`), or a file")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    bind: Address = key(Address("127.0.0.1", 9901), "where the admin API and the dashboard listen")
    token: str | None = field(default=None, repr=False, metadata=line("what its clients must know", "none"))


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a process runs as: ``user`` and ``group``, looked up."""

    uid: int = field(metadata=line("whom the workers run as", "who starts it"))
    gid: int = field(metadata=line("their group", "the user's primary group"))
    name: str  # the user's, or its id where it has no name


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    listeners: tuple[ListenerSettings, ...] = field(metadata=line("where clients connect"))
    upstreams: tuple[UpstreamSettings, ...] = field(metadata=line("groups of backends, by name"))
    workers: int = key(1, "processes that serve; auto is one for each core that gproxy may run on")
    max_connections: int | None = key(
        None, "sessions at once, of all listeners and workers", "what descriptors suffice for"
    )
    identity: Identity | None = None  # None: stay who we are
    pid_file: str | None = key(None, "where the master process writes its id")
    hub_watchdog: float = key(HUB_WATCHDOG, "a Python policy that holds the event loop for longer is reported")
    worker_timeout: float = key(WORKER_TIMEOUT, "a worker without a sign of life for so long is killed and replaced")
    start_timeout: float = key(30.0, "what new workers get to become ready")
    drain_timeout: float = key(30.0, "what sessions get to finish at a shutdown, a reload or an upgrade")
    metrics_interval: float = key(10.0, "between two pushes to StatsD")
    statsd: StatsdSettings | None = key(None, "where metrics go", "off")
    admin: AdminSettings | None = key(None, "the admin API, the dashboard, and metrics for Prometheus", "off")
    log: LogSettings = key(LogSettings(), "the log and the access log")
    warnings: tuple[str, ...] = ()  # what can run but was hardly meant, a line each with its place

    def upstream(self, name: str) -> UpstreamSettings:
        """KeyError for a name that config.py would have refused."""
        for upstream in self.upstreams:
            if upstream.name == name:
                return upstream
        raise KeyError(name)
