"""What was tried, and whether that is allowed. Pure functions on plain values.

An attempt is one of these kinds. The first four reach for the network, or may, and count; the
others are noted to explain them.

    connect    a stream socket is connected
    datagram   a datagram socket is connected, or sends to an address
    resolve    a name is looked up; a resolver on loopback asks others in turn
    ring       an io_uring is asked for, by which all of these can be done without asking the kernel
    spawn      a process is started
    library    native code is loaded, which may do what nobody here sees
    unix       a socket of this machine's own
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from pytest_streamperf._runtime.context import Line

Kind = Literal["connect", "datagram", "resolve", "ring", "spawn", "library", "unix"]
COUNT: frozenset[Kind] = frozenset({"connect", "datagram", "resolve", "ring"})

STARTUP, SESSION = "<startup>", "<session>"
"""The origins of what no test started: import and collection, and all the rest of a run."""

_DNS = 53
_LOCAL_NAMES = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to reach the network: where to, who tried, and who started that.

    `host` is the name that was asked for, `address` what it came to, where they are known; `line`
    is the user's innermost line, `started` the line that started the thread or task it runs in.
    `time` is in seconds of the system's monotonic clock; `thread` is the system's number for it.
    `seen_by` is the layer that saw it.
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
        """Where to, as text: "huggingface.co:443"."""
        host = self.host or self.address or "an unknown address"
        if ":" in host and self.port is not None:
            host = f"[{host}]"
        return host if self.port is None else f"{host}:{self.port}"

    def plain(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Attempt":
        """The attempt that `plain` was made of."""
        lines = {key: Line(*plain[key]) for key in ("line", "started") if plain.get(key)}
        return cls(**(plain | lines))


class Allowed(NamedTuple):
    """Who may be reached: names, which allow the hosts below them too, and networks."""

    names: frozenset[str] = frozenset()
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()


EVERYBODY = Allowed(frozenset("*"))
"""For who is not held to anything; no name is like this."""


def allowed_hosts(hosts: Iterable[str]) -> Allowed:
    """Read `allow_hosts`: names, addresses and networks.

    Raises `ValueError` for what is none of them.

    >>> allowed_hosts(["example.org", "10.0.0.0/8"]).names
    frozenset({'example.org'})
    """
    names, networks = set(), []
    for host in [hosts] if isinstance(hosts, str) else hosts:
        if not isinstance(host, str):
            raise _no_host(host)
        try:
            networks.append(ipaddress.ip_network(host, strict=False))
        except ValueError:
            if not _is_name(host):
                raise _no_host(host) from None
            names.add(host.lower().rstrip("."))
    return Allowed(frozenset(names), tuple(networks))


def _no_host(host: object) -> ValueError:
    return ValueError(
        "allow_hosts takes names, addresses and networks, as 'example.org' or '10.0.0.0/8', not "
        f"{host!r}"
    )


def _is_name(host: str) -> bool:
    labels = host.rstrip(".").split(".")
    return all(label and label.replace("-", "").replace("_", "").isalnum() for label in labels)


def is_local(host: str) -> bool:
    """Whether an address or name is this machine's own: loopback, unspecified, "localhost".

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
    """Whether a host is an address, and not a name.

    >>> is_address("fe80::1%eth0"), is_address("example.org")
    (True, False)
    """
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def stays_here(kind: Kind, host: str, port: int | None) -> bool:
    """Whether an attempt does not leave the machine; a question to a resolver does, in the end.

    >>> stays_here("connect", "127.0.0.1", 8000), stays_here("datagram", "127.0.0.53", 53)
    (True, False)
    """
    if kind == "resolve":
        return is_local(host) and not is_address(host)
    return kind in COUNT and is_local(host) and not (kind == "datagram" and port == _DNS)


def is_allowed(
    attempt: Attempt, allowed: Allowed, listening: Iterable[tuple[str, int]] = ()
) -> bool:
    """Whether an attempt may be made; `listening` are addresses that the test itself serves.

    One whose address the kernel could not read is not.
    """
    if attempt.kind not in COUNT or allowed == EVERYBODY:
        return True
    return (
        stays_here(attempt.kind, attempt.address or attempt.host or "unknown", attempt.port)
        or (attempt.address, attempt.port) in set(listening)
        or _named(attempt.host, allowed)
        or _within(attempt.address or attempt.host, allowed)
    )


def _named(host: str, allowed: Allowed) -> bool:
    host = host.lower().rstrip(".")
    return bool(host) and any(host == each or host.endswith(f".{each}") for each in allowed.names)


def _within(address: str, allowed: Allowed) -> bool:
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(known in network for network in allowed.networks)


def of_origin(attempts: Iterable[Attempt], origin: str) -> list[Attempt]:
    """Those that one origin started, or a guard within it."""
    return [each for each in attempts if _is_of(each.origin, origin)]


def within(outer: str, name: str) -> str:
    """The origin of what a guard within another origin sees."""
    return f"{outer}{_WITHIN}{name}"


def outer_origins(origin: str) -> Iterator[str]:
    """An origin, and those that it is within, innermost first.

    >>> list(outer_origins("test / guard 1"))
    ['test / guard 1', 'test']
    """
    while origin:
        yield origin
        origin = origin.rpartition(_WITHIN)[0]


_WITHIN = " / "


def _is_of(origin: str, outer: str) -> bool:
    return origin == outer or origin.startswith(outer + _WITHIN)
