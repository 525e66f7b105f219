"""Servers from DNS: the addresses of a name, or SRV records. The only user of dnspython.

The system's ``getaddrinfo`` tells no ttl, so the name servers are asked directly, with
the search list of ``/etc/resolv.conf``. Nothing is cached here: each ``find`` asks.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias

from tiered.clock import SYSTEM_CLOCK
from tiered.errors import DiscoveryError, MissingDependency
from tiered.routing.addresses import Address, is_ip_address, parse_address
from tiered.routing.discovery import Found
from tiered.routing.hosts import HOSTS_FILE, HOSTS_TTL, listed_addresses
from tiered.sentinels import FOREVER
from tiered.validation import check_number

__all__ = ["DnsDiscovery", "Family", "SrvDiscovery"]

Family: TypeAlias = Literal["any", "ipv4", "ipv6"]
"""Which addresses of a name to use."""

_KINDS: Final[dict[Family, dict[str, int]]] = {
    "any": {"A": 4, "AAAA": 6},
    "ipv4": {"A": 4},
    "ipv6": {"AAAA": 6},
}
"""The record types of each family, and the version of IP that they hold."""

_DNS_PORT: Final = 53
_TRIES: Final = 3
"""How often a question is put within the timeout, since a lost packet tells nobody."""

_MAX_ALIASES: Final = 8
"""Answers that only name another name, one after another; dnspython bounds those in one answer."""

_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


class DnsDiscovery:
    """A name whose every address is a server.

    A server is called by its IP address, since nothing else tells one from another: a
    server that comes back under another address is another server to the ring.

    Args:
        name: a host name. One without a dot is looked up with the search list, too.
        port: of all the servers.
        nameservers: IP addresses, each with ``:port`` if it is not 53; without it,
            those of ``/etc/resolv.conf``.
        timeout: seconds for all questions of one ``find`` together.
        family: one of them where each server has addresses of both; a server with two
            addresses counts as two.
        hosts_file: is looked at first; ``None`` for not at all.

    Raises:
        TypeError, ValueError: an argument that can never be right.

    Threads: safe.
    """

    def __init__(
        self,
        name: str,
        port: int = 11211,
        *,
        nameservers: Iterable[str] | None = None,
        timeout: float = 2.0,
        family: Family = "any",
        hosts_file: str | None = HOSTS_FILE,
    ) -> None:
        self._name = _checked_name(name)
        self._port = parse_address((name, port)).port
        self._nameservers = _parse_nameservers(nameservers)
        self._timeout = _checked_timeout(timeout)
        if family not in _KINDS:
            raise ValueError(f"family must be 'any', 'ipv4' or 'ipv6', not {family!r}")
        self._kinds = _KINDS[family]
        self._hosts_file = hosts_file

    def find(self) -> Found:
        """The addresses of now; good for the shortest ttl among the records.

        Raises:
            DiscoveryError: the name servers did not answer in time, or not properly, or
                the name has no addresses. A question of either family that fails is enough:
                half of the servers would be missing.
            MissingDependency: there is no dnspython.
        """
        if listed := self._listed():
            return Found(self._servers(listed), HOSTS_TTL)
        inquiry = _Inquiry(self._nameservers, self._timeout)
        hosts: set[str] = set()
        shortest = FOREVER
        for kind in self._kinds:
            records, ttl = inquiry.ask(self._name, kind)
            hosts.update(record.address for record in records)
            shortest = min(shortest, ttl)
        if not hosts:
            raise DiscoveryError(f"{self._name!r} has no addresses ({', '.join(self._kinds)})")
        return Found(self._servers(hosts), shortest)

    def _listed(self) -> list[str]:
        if self._hosts_file is None:
            return []
        versions = self._kinds.values()
        return [
            host
            for host in listed_addresses(self._name, self._hosts_file)
            if ipaddress.ip_address(host).version in versions
        ]

    def _servers(self, hosts: Iterable[str]) -> tuple[Address, ...]:
        return tuple(sorted((Address(host, self._port) for host in hosts), key=str))

    def __repr__(self) -> str:
        return f"DnsDiscovery({self._name!r}, {self._port})"


class SrvDiscovery:
    """SRV records, whose every target is a server with a port and a weight.

    A server is called by the name of the target, so that no key moves when that name
    gets another address. Only targets of the lowest priority number are used.

    Args:
        name: such as ``_memcached._tcp.example.com``.
        nameservers, timeout: as for :class:`DnsDiscovery`.

    Raises:
        TypeError, ValueError: an argument that can never be right.

    Threads: safe.
    """

    def __init__(
        self, name: str, *, nameservers: Iterable[str] | None = None, timeout: float = 2.0
    ) -> None:
        self._name = _checked_name(name)
        self._nameservers = _parse_nameservers(nameservers)
        self._timeout = _checked_timeout(timeout)

    def find(self) -> Found:
        """The targets of now; good for the ttl of the records.

        Raises:
            DiscoveryError: the name servers did not answer in time, or not properly, or
                there are no records, or one names no server.
            MissingDependency: there is no dnspython.
        """
        records, ttl = _Inquiry(self._nameservers, self._timeout).ask(self._name, "SRV")
        if not records:
            raise DiscoveryError(f"{self._name!r} has no SRV records")
        first = min(record.priority for record in records)
        shares: dict[Address, int] = {}
        for record in records:
            if record.priority == first:
                target = self._target(record)
                shares[target] = shares.get(target, 0) + record.weight
        addresses = tuple(sorted(shares, key=str))
        return Found(addresses, ttl, _weights([shares[address] for address in addresses]))

    def _target(self, record: Any) -> Address:
        host = record.target.to_text(omit_final_dot=True).lower()
        # The target "." says that the service is not to be had; port 0 says nothing.
        if not _HOST.fullmatch(host) or not record.port:
            raise DiscoveryError(f"{self._name!r} has an SRV record for {host}:{record.port}")
        return Address(host, record.port)

    def __repr__(self) -> str:
        return f"SrvDiscovery({self._name!r})"


def _weights(shares: Sequence[int]) -> tuple[int, ...] | None:
    """None for equal shares; a weight of 0, "a very small chance" in RFC 2782, becomes 1."""
    return tuple(max(share, 1) for share in shares) if len(set(shares)) > 1 else None


class _Inquiry:
    """Questions to name servers, all of them within *timeout* seconds.

    Raises:
        MissingDependency: there is no dnspython.
        DiscoveryError: the machine has no name servers.
    """

    def __init__(self, nameservers: Sequence[Address], timeout: float) -> None:
        try:
            import dns.nameserver
            import dns.resolver
        except ImportError as error:
            raise MissingDependency(
                "servers from DNS need dnspython: pip install 'dnspython>=2.4'"
            ) from error
        self._deadline = SYSTEM_CLOCK.monotonic() + timeout
        with _failures_told("the name servers of this machine"):
            # A resolver of its own, read anew each time: resolv.conf changes under laptops
            # and containers, and dnspython's shared one may have been given a cache.
            self._resolver = dns.resolver.Resolver(configure=not nameservers)
        self._resolver.timeout = timeout / _TRIES
        if nameservers:
            # Without a configuration, dnspython would try the domain of this machine's name.
            self._resolver.domain = dns.name.root
        port = self._resolver.port
        places = [(one.host, one.port) for one in nameservers] or [
            (str(host), port) for host in self._resolver.nameservers
        ]
        self._servers = [dns.nameserver.Do53Nameserver(*place) for place in places]
        self._prefer(None, None)

    def ask(self, name: str, kind: str) -> tuple[tuple[Any, ...], float]:
        """The records of *name*, none if it has none of that kind, and their ttl in seconds.

        Raises:
            DiscoveryError: no answer in time, no proper one, or no such name.
        """
        import dns.flags

        about = f"{kind} records of {name!r}"
        shortest = FOREVER
        asked: Any = name
        for _ in range(_MAX_ALIASES):
            left = self._deadline - SYSTEM_CLOCK.monotonic()  # less than 0 is a timeout as well
            with _failures_told(about):
                answer = self._resolver.resolve(
                    asked, kind, search=True, raise_on_no_answer=False, lifetime=left
                )
            self._prefer(answer.nameserver, answer.port)
            if answer.response.flags & dns.flags.TC:
                raise DiscoveryError(f"{about}: the answer was cut short, over TCP as well")
            chain = answer.chaining_result
            if chain.answer is not None:
                return tuple(chain.answer), float(min(shortest, chain.minimum_ttl))
            if not chain.cnames:
                return (), FOREVER
            # An alias, without the records of what it stands for: ask for those.
            shortest = min(shortest, *(alias.ttl for alias in chain.cnames))
            asked = chain.canonical_name
        raise DiscoveryError(f"{about}: more than {_MAX_ALIASES} aliases, one of another")

    def _prefer(self, host: str | None, port: int | None) -> None:
        """Ask the name server that has answered first, or each question waits for the dead."""
        self._servers.sort(key=lambda one: (one.address, one.port) != (host, port))
        # All tries in one round: dnspython sleeps between rounds, even past the timeout.
        self._resolver.nameservers = self._servers * _TRIES


@contextmanager
def _failures_told(about: str) -> Iterator[None]:
    """dnspython's failures, as ours."""
    import dns.exception

    try:
        yield
    except (dns.exception.DNSException, OSError, ValueError) as error:
        # A ValueError is a resolv.conf with something else than addresses, or than text.
        raise DiscoveryError(f"{about}: {error}") from error


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name must be a host name such as 'cache.example.com', not {name!r}")
    labels = name.removesuffix(".").split(".")
    if (
        len(name) > 254
        or not all(0 < len(label) < 64 for label in labels)
        or any(character.isspace() or character in "/,;:[]\\" for character in name)
    ):
        raise ValueError(f"name must be a host name such as 'cache.example.com', not {name!r}")
    if is_ip_address(name):
        raise ValueError(f"name {name!r} is an IP address; it can be given as a server itself")
    return name


def _checked_timeout(timeout: Any) -> float:
    return check_number("timeout", timeout, low=0.001, hint="a number of seconds, 0.001 or more")


def _parse_nameservers(nameservers: Any) -> tuple[Address, ...]:
    """Name servers with their ports; none for those of the machine."""
    if nameservers is None:
        return ()
    if isinstance(nameservers, (str, bytes)) or not isinstance(nameservers, Iterable):
        raise TypeError(f"nameservers must be a list such as ['10.0.0.2'], not {nameservers!r}")
    parsed = tuple(_parse_nameserver(text) for text in nameservers)
    if not parsed:
        raise ValueError("nameservers must name at least one, not []")
    return parsed


def _parse_nameserver(text: Any) -> Address:
    if isinstance(text, str):
        alone = text.removeprefix("[").removesuffix("]")
        if is_ip_address(alone):
            return Address(alone, _DNS_PORT)
    address = parse_address(text)
    if not is_ip_address(address.host):
        raise ValueError(f"nameservers must be IP addresses, not {text!r}")
    return address
