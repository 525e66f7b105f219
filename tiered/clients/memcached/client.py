"""The memcached client: canonical keys, signed values, one round trip where one is enough."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from tiered.clients.base import (
    ALWAYS,
    CacheClient,
    Capabilities,
    Claim,
    Condition,
    Entry,
)
from tiered.clients.explanation import Explanation
from tiered.clients.memcached.expiry import exptime
from tiered.clients.memcached.servers import Servers
from tiered.clients.memcached.transport import Connection, Stored
from tiered.clock import SYSTEM_CLOCK
from tiered.codec.values import Header, ValueCodec
from tiered.entry import admits
from tiered.errors import CodecError, CorruptValue
from tiered.keys.canonical import canonical
from tiered.keys.wire import wire_key
from tiered.routing.addresses import Address, parse_addresses
from tiered.stats.counters import ClientStats
from tiered.stats.reports import Reports
from tiered.typing import Clock, Key
from tiered.validation import check_count, check_number

__all__ = ["MemcachedClient", "MemcachedStats"]

T = TypeVar("T")

_SWAP_ATTEMPTS: Final = 8
_PREFIX: Final = re.compile(r"[\x21-\x7e]{0,64}")


@dataclass(frozen=True, slots=True)
class MemcachedStats(ClientStats):
    """The counts of a memcached client.

    Attributes:
        corrupt: stored values that were not what was written under their key
            (damaged, tampered with, moved, in an unknown format); read as misses.
        unstorable: values that could not be written: not serialisable, or too large.
    """

    corrupt: int = 0
    unstorable: int = 0


class _Name(NamedTuple):
    """A key in the two forms that matter outside the process.

    Attributes:
        signed: prefix and canonical key, as they are bound into the signature.
        wire: the server's key.
    """

    signed: bytes
    wire: bytes


class MemcachedClient(CacheClient):
    """A cache on one or more memcached servers, shared by everybody with the same key.

    A value read back is a copy. Servers that fail are misses and drops, and are left
    alone for a growing pause; see :attr:`stats`.

    Args:
        addresses: ``"host"``, ``"host:port"``, ``"[ipv6]:port"`` or ``"/path.sock"``
            each; the names decide which keys a server gets (ketama), so all clients
            must spell them alike.
        checksum_key: the secret that signs values, or several, newest first: values
            are signed with the first and accepted from any.
        serializer: ``"pickle"`` (the default, needs *checksum_key*), ``"json"``,
            ``"raw"``, ``"msgpack"`` or ``"msgspec"``.
        compress: ``True`` for zlib on values of a kilobyte and more, when it helps;
            ``"zstd"``, ``"lz4"`` or ``False``.
        max_value_size: bytes that a serialised value may have.
        prefix: put before every key on the server, up to 64 printable characters;
            keeps applications apart that share servers and secrets.
        connect_timeout, timeout: seconds.
        pool_size: connections to each server that may be in use at a time.
        pool_timeout: seconds to wait for one of them.
        strict: raise ``NoServersError`` instead of a miss when a server fails.
        clock: the source of time.

    Raises:
        TypeError, ValueError: an argument that cannot be right.
        MissingDependency: *serializer* or *compress* needs a package that is not there.

    Threads: safe, and in forked children: each process opens its own connections.
    """

    def __init__(
        self,
        addresses: Sequence[str | tuple[str, int] | Address],
        *,
        checksum_key: str | bytes | Sequence[str | bytes] | None = None,
        serializer: str = "pickle",
        compress: bool | str = True,
        max_value_size: int = 128 * 1024 * 1024,
        prefix: str = "",
        connect_timeout: float = 1.0,
        timeout: float = 0.5,
        pool_size: int = 16,
        pool_timeout: float = 1.0,
        strict: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.clock = clock
        self.addresses = parse_addresses(addresses)
        self._codec = ValueCodec(
            checksum_key=checksum_key,
            serializer=serializer,
            compress=compress,
            max_value_size=max_value_size,
        )
        self._prefix = _checked_prefix(prefix)
        self._strict = strict
        self._corrupt = 0
        self._unstorable = 0
        self._reports = Reports("tiered.memcached", clock)
        self._servers = Servers(
            self.addresses,
            connect_timeout=_seconds("connect_timeout", connect_timeout),
            timeout=_seconds("timeout", timeout),
            pool_size=check_count("pool_size", pool_size, low=1),
            pool_timeout=_seconds("pool_timeout", pool_timeout),
            strict=strict,
            clock=clock,
            counters=self.counters,
        )

    # -- Reading ---------------------------------------------------------------

    def entry(self, key: Key) -> Entry | None:
        name = self._name(key)
        stored = self._fetch(name)
        return None if stored is None else self._decoded(name, stored.data)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        names = {key: self._name(key) for key in keys}
        stored: dict[bytes, Stored] = {}
        wires = [name.wire for name in names.values()]
        for server, group in self._servers.grouped(wires).items():
            stored |= self._servers.ask(server, _reading(group), dict[bytes, Stored]())
        found: dict[Key, Entry] = {}
        for key, name in names.items():
            if name.wire in stored:
                entry = self._decoded(name, stored[name.wire].data)
                if entry is not None:
                    found[key] = entry
        return found

    def near(self, key: Key) -> Entry | None:
        return None

    def _fetch(self, name: _Name) -> Stored | None:
        return self._ask(name, _reading([name.wire]), dict[bytes, Stored]()).get(name.wire)

    def _decoded(self, name: _Name, data: bytes) -> Entry | None:
        try:
            value, header = self._codec.decode(name.signed, data)
        except CorruptValue as error:
            self._note_corrupt(error)
            return None
        return Entry(value, self._deadline_of(header))

    def _header(self, name: _Name, data: bytes) -> Header | None:
        try:
            return self._codec.header(name.signed, data)
        except CorruptValue as error:
            self._note_corrupt(error)
            return None

    def _note_corrupt(self, error: CorruptValue) -> None:
        self._corrupt += 1
        self.counters.errors += 1
        self._reports.warn("corrupt", "memcached: an unreadable value is a miss: %s", error)

    def _deadline_of(self, header: Header) -> float:
        """The envelope's wall-clock expiry on this process's monotonic clock."""
        return self.clock.monotonic() + (header.expires - self.clock.wall())

    # -- Writing ---------------------------------------------------------------

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        name = self._name(key)
        try:
            sealed, life = self._sealed(name, value, deadline, keep)
            if condition is ALWAYS:
                return self._ask(name, lambda server: _set(server, name.wire, sealed, life), False)
            return self._store_if(name, sealed, life, deadline, condition)
        except CodecError as error:
            self._drop(name, error, always=condition is ALWAYS)
            return False

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        return {key: self.store(key, value, deadline, keep=keep) for key, value in items.items()}

    def _sealed(self, name: _Name, value: Any, deadline: float, keep: float) -> tuple[bytes, int]:
        now = self.clock.wall()
        remaining = deadline - self.clock.monotonic()
        header = Header(now, now + remaining, keep)
        return self._codec.encode(name.signed, value, header), _life(remaining, keep)

    def _store_if(
        self, name: _Name, sealed: bytes, life: int, deadline: float, condition: Condition
    ) -> bool:
        def attempt(server: Connection) -> bool:
            for _ in range(_SWAP_ATTEMPTS):
                stored = server.read([name.wire]).get(name.wire)
                if stored is None:
                    if server.add(name.wire, sealed, life):
                        return True
                    continue  # somebody wrote in between: look again
                header = self._header(name, stored.data)
                present = None if header is None else Entry(None, self._deadline_of(header))
                if not admits(condition, present, deadline, self.clock.monotonic()):
                    return False
                if server.swap(name.wire, sealed, stored.token, life):
                    return True
            return False

        return self._ask(name, attempt, False)

    def touch(self, key: Key, deadline: float) -> bool:
        return self._redate(key, deadline, lambda present: present < deadline)

    def outdate(self, key: Key) -> bool:
        now = self.clock.monotonic()
        return self._redate(key, now, lambda present: present > now)

    def _redate(self, key: Key, deadline: float, due: Callable[[float], bool]) -> bool:
        """Give the item another deadline if *due* says so of the present one."""
        name = self._name(key)

        def attempt(server: Connection) -> bool:
            for _ in range(_SWAP_ATTEMPTS):
                stored = server.read([name.wire]).get(name.wire)
                header = None if stored is None else self._header(name, stored.data)
                if stored is None or header is None:
                    return False
                present = self._deadline_of(header)
                if not due(present):
                    return False
                remaining = deadline - self.clock.monotonic()
                # A stale reader may want it for as long as it would have lived.
                keep = max(header.keep, present - deadline) if remaining <= 0 else header.keep
                dated = self._codec.redate(name.signed, stored.data, self.clock.wall() + remaining)
                life = _life(remaining, keep)
                if server.swap(name.wire, dated, stored.token, life):
                    return True
            return False

        return self._ask(name, attempt, False)

    def discard(self, key: Key) -> bool:
        name = self._name(key)
        return self._ask(name, lambda server: server.delete(name.wire), False)

    def sweep(self, before: float | None) -> int:
        if before is None:
            self.clear()  # raises: the server is everybody's
        return 0  # the server forgets by itself

    def _drop(self, name: _Name, error: CodecError, *, always: bool) -> None:
        """A value that cannot be written must not leave the one before it in place."""
        self._unstorable += 1
        self.counters.errors += 1
        self._reports.warn("unstorable", "memcached: a value is not stored: %s", error)
        if always:
            self._ask(name, lambda server: server.delete(name.wire), False)
        if self._strict:
            raise error

    # -- Claims, over ``add`` until leases take their place ----------------------

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        life = check_number("ttl", ttl, low=0.0, hint="seconds, 0 or more")
        wire = self._claim_wire(key)
        token = secrets.token_hex(8)
        mark = token.encode()
        ends = self.clock.monotonic() + life
        server = self._servers.of(wire)
        if not self._servers.ask(
            server, lambda s: s.add(wire, mark, _life(max(life, 0.1), 0.0)), True
        ):
            return None

        def mine(server: Connection) -> Stored | None:
            stored = server.read([wire]).get(wire)
            return stored if stored is not None and stored.data == mark else None

        def use(action: Callable[[], bool]) -> bool:
            if self.clock.monotonic() >= ends:
                return False
            # A server that cannot be asked cannot have given the claim to another; what
            # is computed meanwhile still belongs into the tiers that can be reached.
            held = self._servers.ask(server, lambda server: mine(server) is not None, True)
            return held and action()

        def release() -> bool:
            def give_back(server: Connection) -> bool:
                stored = mine(server)
                # Only what is still ours, or a late holder would free its successor.
                return stored is not None and server.swap(wire, b"", stored.token, -1)

            return self._servers.ask(server, give_back, False)

        return Claim(self, key, token, use, release)

    def revoke(self, key: Key) -> None:
        wire = self._claim_wire(key)
        self._servers.ask(self._servers.of(wire), lambda server: server.delete(wire), False)

    def _claim_wire(self, key: Key) -> bytes:
        return wire_key(self._prefix + b"claim/", canonical(key))

    # -- What it is ------------------------------------------------------------

    def _name(self, key: Key) -> _Name:
        name = canonical(key)
        # The signature covers the prefix too: a value is not to be moved between those.
        signed = bytes([len(self._prefix)]) + self._prefix + name
        return _Name(signed, wire_key(self._prefix, name))

    def _ask(self, name: _Name, exchange: Callable[[Connection], T], fallback: T) -> T:
        return self._servers.ask(self._servers.of(name.wire), exchange, fallback)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(shared=True, near=False, blocking=True, clearable=False)

    @property
    def capacity(self) -> float:
        """Bytes of memory that the reachable servers have for items; asks them."""
        return self._summed("limit_maxbytes")

    @property
    def usage(self) -> float:
        """Bytes that the items on the reachable servers take; asks them."""
        return self._summed("bytes")

    def _summed(self, figure: str) -> float:
        return sum(_figure(stats.get(figure)) for stats in self.server_stats().values())

    def server_stats(self) -> dict[str, dict[str, Any]]:
        """The counters of each server, by its address; empty for one that does not answer."""
        return self._servers.each(Connection.server_stats, {})

    @property
    def stats(self) -> MemcachedStats:
        counts = self.counters.snapshot()
        return MemcachedStats(
            hits=counts.hits,
            misses=counts.misses,
            puts=counts.puts,
            drops=counts.drops,
            deletes=counts.deletes,
            errors=counts.errors,
            corrupt=self._corrupt,
            unstorable=self._unstorable,
        )

    def explain(self, key: Key) -> Explanation:
        name = self._name(key)
        stored = self._fetch(name)
        detail: tuple[tuple[str, object], ...] = (
            ("server", str(self._servers.of(name.wire).address)),
            ("wire_key", name.wire.decode()),
        )
        header = None
        if stored is not None:
            header = self._header(name, stored.data)
            detail += (("size", len(stored.data)),)
        if header is None:
            return Explanation(repr(self), key, False, None, detail)
        now = self.clock.wall()
        detail += (("age", now - header.created),)
        ttl = math.inf if math.isinf(header.expires) else header.expires - now
        return Explanation(repr(self), key, True, ttl, detail)

    def close(self) -> None:
        self._servers.close()

    def __repr__(self) -> str:
        return f"<MemcachedClient {', '.join(map(str, self.addresses))}>"


def _figure(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0  # a server that does not tell it, or tells nonsense


def _checked_prefix(prefix: Any) -> bytes:
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"prefix must be up to 64 printable characters without spaces, not {prefix!r}"
        )
    return prefix.encode()


def _seconds(name: str, value: float) -> float:
    seconds = check_number(name, value, low=0.0, hint="a positive number of seconds")
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name} must be a positive, finite number of seconds, not {value!r}")
    return seconds


def _life(remaining: float, keep: float) -> int:
    # The server's clock is a real one, whatever clock this client was given.
    return exptime(remaining, keep, SYSTEM_CLOCK.wall())


def _reading(wires: Sequence[bytes]) -> Callable[[Connection], dict[bytes, Stored]]:
    return lambda connection: connection.read(wires)


def _set(connection: Connection, wire: bytes, data: bytes, life: int) -> bool:
    return connection.set(wire, data, life)
