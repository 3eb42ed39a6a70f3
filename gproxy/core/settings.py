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


def key(default: Any, doc: str) -> Any:
    """A field that stands in the configuration file under its own name."""
    return field(default=default, metadata={"doc": doc})


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
    reuse: Reuse = key(Reuse.NEVER, "what a returned connection is good for: never, quiescent (tcp), safe (http)")
    preconnect: int = key(0, "fresh connections kept ready per backend")
    idle_timeout: float = key(60.0, "how long an idle connection is kept")
    max_age: float = key(3600.0, "how long after its dial a connection may still be lent")
    max_uses: int = key(10000, "how many times a connection may be lent")
    quiescent_for: float = key(0.1, "quiescent: how long the backend must have been silent before a return")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckSettings:
    type: Probe = key(Probe.TCP, "tcp connects, http asks, none trusts")
    interval: float = key(5.0, "between two checks of one backend, jittered by a tenth")
    fast_interval: float = key(1.0, "between checks while the last one disagreed with the state; never above interval")
    timeout: float = key(2.0, "for one check")
    rise: int = key(2, "successes in a row that bring a backend up")
    fall: int = key(3, "failures in a row that take a backend down")
    port: int | None = key(None, "another port to check than the backend's own")
    path: str = key("/", "http: the path to ask for")
    host: str | None = key(None, "http: the Host header; the backend's address by default")
    expect_status: tuple[tuple[int, int], ...] = key(((200, 399),), "http: statuses that are healthy, such as 200-399")
    expect_body: str | None = key(None, "http: text that the first 64 KiB of the body must contain")
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
    name: str = key("", "its name in logs and metrics; the address by default")
    address: Address = key(Address(), "host:port, [v6]:port or unix:/path")
    weight: int = key(1, "its share of the load beside the others, 1 to 1000")
    max_connections: int | None = key(None, "borrowed and idle connections together; no limit by default")
    backup: bool = key(False, "serves only while no other backend can")


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceSettings:
    """A policy by its name, and what it needs: a dotted path (``python``) or a source (``hash``)."""

    kind: str = "round_robin"
    argument: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StickySettings:
    """A client stays with the backend that a cookie of gproxy's names."""

    cookie: str = key("gproxy", "the cookie's name")
    max_age: float | None = key(None, "how long browsers keep it; for their session by default")
    secure: bool = key(False, "whether browsers send it over https only")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRules:
    """What is done to the fields of a message before it is forwarded: first remove, then set."""

    set: tuple[tuple[str, str], ...] = key((), "fields to set, in the place of any of that name")
    remove: tuple[str, ...] = key((), "fields to remove")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """Requests that match both go to another upstream."""

    upstream: str
    host: str = key("", "a host name, or *.suffix for every name below one; any by default")
    path: str = key("", "a path prefix of whole segments, such as /v1/; any by default")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    name: str
    backends: tuple[BackendSettings, ...]
    balance: BalanceSettings = key(BalanceSettings(), "how a backend is chosen")
    retries: int = key(2, "further backends tried when a dial fails")
    all_down: AllDown = key(AllDown.RESET, "when no backend can serve: reset or close for tcp, 503 for http")
    retry_after: float = key(5.0, "http: what a 503 tells clients to wait")
    sticky: StickySettings | None = key(None, "http: keep a client on one backend by a cookie")
    down_action: DownAction = key(DownAction.KEEP, "sessions of a backend that goes down: keep or close_sessions")
    resolve_interval: float = key(30.0, "between two look-ups of the backends' host names")
    pool: PoolSettings = key(PoolSettings(), "idle backend connections")
    health_check: HealthCheckSettings = key(HealthCheckSettings(), "active checks")
    passive_health: PassiveHealthSettings = key(PassiveHealthSettings(), "ejection of backends that fail sessions")
    timeouts: Timeouts = Timeouts()  # load_balancer's, overridden by those that the upstream names


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    name: str
    bind: Address
    upstream: str
    mode: Mode = key(Mode.TCP, "tcp or http")
    max_connections: int = key(10000, "sessions at once, of all processes; what becomes of more says on_overload")
    on_overload: OnOverload = key(OnOverload.WAIT, "wait in the kernel's backlog, or reject: 503 in http, RST in tcp")
    backlog: int = key(1024, "connections that the kernel holds until they are accepted")
    forwarded: Forwarded = key(Forwarded.X_FORWARDED, "http: x-forwarded, forwarded or off")
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = key((), "http: whose forwarding fields are believed")
    routes: tuple[RouteSettings, ...] = key((), "http: requests for other upstreams, the first match wins")
    request_headers: HeaderRules = key(HeaderRules(), "http: fields set in and removed from requests")
    response_headers: HeaderRules = key(HeaderRules(), "http: fields set in and removed from responses")
    max_request_line: int = key(8192, "http: bytes of a request line")
    max_head: int = key(65536, "http: bytes of a head")
    max_fields: int = key(128, "http: field lines of a head")
    max_body: int | None = key(None, "http: bytes of a request body; no limit by default")
    error_files: tuple[tuple[int, str], ...] = key((), "http: bodies in the place of gproxy's own, by status")
    explain_header: bool = key(False, "http: tell clients in X-Gproxy-Explain how their backend was chosen")
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
    level: str = key("info", "debug, info, warning or error")
    format: str = key("text", "text or json")
    access: str = key("-", "access log: off, - for standard output, or a path")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    bind: Address = key(Address("127.0.0.1", 9901), "where the admin API listens: host:port or unix:/path")
    token: str | None = field(default=None, repr=False, metadata={"doc": "what its clients must know"})


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a process runs as: ``user`` and ``group``, looked up."""

    uid: int
    gid: int
    name: str  # the user's, or its id where it has no name


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    listeners: tuple[ListenerSettings, ...]
    upstreams: tuple[UpstreamSettings, ...]
    workers: int = 1
    max_connections: int | None = None  # sessions of all listeners; None: what descriptors suffice for
    identity: Identity | None = None  # None: stay who we are
    pid_file: str | None = None
    hub_watchdog: float = HUB_WATCHDOG
    worker_timeout: float = WORKER_TIMEOUT
    start_timeout: float = 30.0
    drain_timeout: float = 30.0
    metrics_interval: float = 10.0
    statsd: StatsdSettings | None = None
    admin: AdminSettings | None = None
    log: LogSettings = LogSettings()
    warnings: tuple[str, ...] = ()  # what can run but was hardly meant, a line each with its place

    def upstream(self, name: str) -> UpstreamSettings:
        """KeyError for a name that config.py would have refused."""
        for upstream in self.upstreams:
            if upstream.name == name:
                return upstream
        raise KeyError(name)
