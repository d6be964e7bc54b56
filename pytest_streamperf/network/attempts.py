"""Attempts to reach the network, as plain values, and the rules that allow them. Pure functions.

`Attempt` describes one attempt: its kind, its target, and the line, task and thread that made it.
`is_allowed` compares an attempt with the hosts that a user allows. The kinds are:

    connect    a stream socket connects
    datagram   a datagram socket connects, or sends to an address
    resolve    a host name is looked up
    ring       the process creates an io_uring, which can connect without further system calls
    spawn      a process is started
    library    native code is loaded
    unix       a socket of this machine connects

The first four may reach the network, so they count in a verdict. The others only explain them.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from pytest_streamperf._runtime.context import Line

Kind = Literal["connect", "datagram", "resolve", "ring", "spawn", "library", "unix"]
COUNT: frozenset[Kind] = frozenset({"connect", "datagram", "resolve", "ring"})

STARTUP, SESSION = "<startup>", "<session>"
"""The origins of attempts that no test started: during import and collection, or later in a run."""

_DNS_PORT = 53
_LOCAL_NAMES = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to reach the network: its target, and the code that made it.

    `host` is the host name and `address` its IP address, each "" where it is unknown. `origin`
    names the test or guard that the attempt belongs to. `line` is the user's innermost line, and
    `started` the line that started the thread or task of the attempt. `time` is in seconds of the
    monotonic clock. `process` and `thread` are the numbers of the operating system. `seen_by` is
    the layer that observed the attempt.
    """

    kind: Kind
    host: str = ""
    address: str = ""
    port: int | None = None
    origin: str = SESSION
    line: Line | None = None
    started: Line | None = None
    request: str = ""
    task: str = ""
    thread_name: str = ""
    process: int = 0
    thread: int = 0
    time: float = 0.0
    seen_by: Literal["audit", "kernel"] = "audit"
    allowed: bool = False
    blocked: bool = False

    @property
    def target(self) -> str:
        """The host, or else the address, with the port: "huggingface.co:443"."""
        host = self.host or self.address or "an unknown address"
        if ":" in host and self.port is not None:
            host = f"[{host}]"
        return host if self.port is None else f"{host}:{self.port}"

    def plain(self) -> dict[str, Any]:
        """Return the attempt as values that can be written as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Attempt":
        """Return the attempt that `Attempt.plain` made this value from."""
        lines = {key: Line(*plain[key]) for key in ("line", "started") if plain.get(key)}
        return cls(**(plain | lines))


class Allowed(NamedTuple):
    """The hosts that may be reached: names, with all their subdomains, and networks."""

    names: frozenset[str] = frozenset()
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()


ALL_HOSTS = Allowed(frozenset("*"))
"""Allows every host; "*" is no valid host name, so no user can write this."""


def allowed_hosts(hosts: Iterable[str]) -> Allowed:
    """Parse the setting `allow_hosts`, a list of names, IP addresses and networks.

    Raises `ValueError` for an entry of another kind.

    >>> allowed_hosts(["example.org", "10.0.0.0/8"]).names
    frozenset({'example.org'})
    """
    names, networks = set(), []
    for host in [hosts] if isinstance(hosts, str) else hosts:
        if not isinstance(host, str):
            raise _host_error(host)
        try:
            networks.append(ipaddress.ip_network(host, strict=False))
        except ValueError:
            if not _is_name(host):
                raise _host_error(host) from None
            names.add(host.lower().rstrip("."))
    return Allowed(frozenset(names), tuple(networks))


def _host_error(host: object) -> ValueError:
    return ValueError(
        "allow_hosts takes names, addresses and networks, as 'example.org' or '10.0.0.0/8', not "
        f"{host!r}"
    )


def _is_name(host: str) -> bool:
    labels = host.rstrip(".").split(".")
    return all(label and label.replace("-", "").replace("_", "").isalnum() for label in labels)


def is_local(host: str) -> bool:
    """Return whether a host is this machine: loopback, unspecified, "localhost" or empty.

    >>> is_local("127.0.0.53"), is_local("::1"), is_local("example.org")
    (True, True, False)
    """
    if host.lower().rstrip(".") in _LOCAL_NAMES or host.lower().endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, not a name.

    >>> is_address("fe80::1%eth0"), is_address("example.org")
    (True, False)
    """
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def stays_here(kind: Kind, host: str, port: int | None) -> bool:
    """Return whether an attempt stays on this machine.

    A question to a resolver on loopback does not: the resolver sends it on.

    >>> stays_here("connect", "127.0.0.1", 8000), stays_here("datagram", "127.0.0.53", 53)
    (True, False)
    """
    if kind == "resolve":
        return is_local(host) and not is_address(host)
    return kind in COUNT and is_local(host) and not (kind == "datagram" and port == _DNS_PORT)


def is_allowed(
    attempt: Attempt, allowed: Allowed, listening: Iterable[tuple[str, int]] = ()
) -> bool:
    """Return whether an attempt is allowed.

    `listening` holds the address and port pairs that the test itself serves. An attempt without a
    known address is never allowed.
    """
    if attempt.kind not in COUNT or allowed == ALL_HOSTS:
        return True
    return (
        stays_here(attempt.kind, attempt.address or attempt.host or "unknown", attempt.port)
        or (attempt.address, attempt.port) in set(listening)
        or _matches_name(attempt.host, allowed)
        or _is_in_network(attempt.address or attempt.host, allowed)
    )


def _matches_name(host: str, allowed: Allowed) -> bool:
    host = host.lower().rstrip(".")
    return bool(host) and any(host == name or host.endswith(f".{name}") for name in allowed.names)


def _is_in_network(address: str, allowed: Allowed) -> bool:
    try:
        ip_address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(ip_address in network for network in allowed.networks)


def of_origin(attempts: Iterable[Attempt], origin: str) -> list[Attempt]:
    """Return the attempts of an origin, and of the guards that are nested in it."""
    return [attempt for attempt in attempts if _belongs_to(attempt.origin, origin)]


def nested_origin(outer: str, name: str) -> str:
    """Return the origin of a guard that is nested in another origin."""
    return f"{outer}{_NESTED}{name}"


def outer_origins(origin: str) -> Iterator[str]:
    """Yield an origin, and then the origins that it is nested in, innermost first.

    >>> list(outer_origins("test / guard 1"))
    ['test / guard 1', 'test']
    """
    while origin:
        yield origin
        origin = origin.rpartition(_NESTED)[0]


_NESTED = " / "


def _belongs_to(origin: str, outer: str) -> bool:
    return origin == outer or origin.startswith(outer + _NESTED)
