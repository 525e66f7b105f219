"""The memcached client: canonical keys, signed values, one round trip where one is enough."""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tiered.clients.base import (
    ALWAYS,
    CacheClient,
    Capabilities,
    Claim,
    Condition,
    Entry,
    Versioned,
)
from tiered.clients.explanation import Explanation
from tiered.clients.memcached.agreements import Agreements
from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.dial import Terms
from tiered.clients.memcached.fleet import Fleet
from tiered.clients.memcached.items import Item, lives, told
from tiered.clients.memcached.leases import Lease
from tiered.clients.memcached.leasing import UNFOUNDED, Leasing
from tiered.clients.memcached.options import (
    checked_context,
    checked_prefix,
    checked_seconds,
    credentials_of,
    discovery_of,
)
from tiered.clients.memcached.paging import Paging
from tiered.clients.memcached.probe import ask_stats
from tiered.clients.memcached.replies import Stored
from tiered.clients.memcached.server import Server, ServerStats
from tiered.clients.memcached.servers import Servers, owe
from tiered.clients.memcached.values import Values
from tiered.clients.memcached.versions import UNANSWERED, UNWRITTEN, Versions, filling, writing
from tiered.clock import SYSTEM_CLOCK
from tiered.codec.values import Header, ValueCodec
from tiered.concurrency.listeners import Listeners
from tiered.entry import admits
from tiered.errors import CodecError, ServerRefusal, ValueTooLarge
from tiered.keys.wire import KeyName, key_names
from tiered.routing.addresses import Address
from tiered.routing.discovery import Discovery, StaticDiscovery
from tiered.routing.watch import Watch
from tiered.stats.counters import ClientStats
from tiered.stats.reports import Reports
from tiered.typing import Clock, Key
from tiered.validation import check_count, check_number

__all__ = ["MemcachedClient", "MemcachedStats"]

T = TypeVar("T")

_SWAP_ATTEMPTS: Final = 8
_USUAL_LONGEST: Final = 64 * 1024 * 1024
"""Bytes of an item that is read whatever the client's own limit is: a miss, and no failure."""


@dataclass(frozen=True, slots=True)
class MemcachedStats(ClientStats):
    """The counts of a memcached client.

    Attributes:
        corrupt: stored values that were not what was written under their key
            (damaged, tampered with, moved, in an unknown format); read as misses.
        unstorable: values that could not be written: not serialisable, or too large.
        servers: what each server has contributed.
    """

    corrupt: int = 0
    unstorable: int = 0
    servers: tuple[ServerStats, ...] = ()


class MemcachedClient(CacheClient):
    """A cache on one or more memcached servers, shared by everybody with the same key.

    A value read back is a copy. Servers that fail are misses and drops, and are left
    alone for a growing pause; see :attr:`stats`. Meanwhile the next server on the ring
    stands in, for values of no more than ten seconds.

    Args:
        addresses: ``"host"``, ``"host:port"``, ``"[ipv6]:port"`` or ``"/path.sock"``
            each; the names decide which keys a server gets (ketama), so all clients
            must spell them alike. Or a function that returns such a list, asked again
            every half minute; or a :class:`tiered.routing.discovery.Discovery`.
        weights: the share of each address, 1 or more; equal by default.
        checksum_key: the secret that signs values, or several, newest first: values
            are signed with the first and accepted from any.
        serializer: ``"pickle"`` (the default, needs *checksum_key*), ``"json"``,
            ``"raw"``, ``"msgpack"`` or ``"msgspec"``.
        compress: ``True`` for zlib on larger values, when it helps; ``"zstd"``, ``"lz4"`` or
            ``False``.
        compress_from: bytes of a serialised value from which on it is compressed.
        max_value_size: bytes that a serialised value may have.
        prefix: put before every key on the server, up to 64 printable characters;
            keeps applications apart that share servers and secrets.
        connect_timeout, timeout: seconds; the second for sending, and for each 256 KB
            of an answer.
        pool_size: connections to each server that may be in use at a time.
        pool_timeout: seconds to wait for one of them.
        tls_context: for servers that speak TLS.
        username, password: for servers that were started with ``-Y``.
        strict: raise ``NoServersError`` instead of a miss when a server fails.
        clock: the source of time.

    Raises:
        TypeError, ValueError: an argument that cannot be right.
        MissingDependency: *serializer* or *compress* needs a package that is not there.

    Threads: safe, and in forked children: each process opens its own connections.
    """

    def __init__(
        self,
        addresses: Sequence[str | tuple[str, int] | Address]
        | Callable[[], Iterable[str | tuple[str, int] | Address]]
        | Discovery,
        *,
        weights: Sequence[int] | None = None,
        checksum_key: str | bytes | Sequence[str | bytes] | None = None,
        serializer: str = "pickle",
        compress: bool | str = True,
        compress_from: int = 1024,
        max_value_size: int = 128 * 1024 * 1024,
        prefix: str = "",
        connect_timeout: float = 1.0,
        timeout: float = 0.5,
        pool_size: int = 16,
        pool_timeout: float = 1.0,
        tls_context: ssl.SSLContext | None = None,
        username: str | None = None,
        password: str | None = None,
        strict: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.clock = clock
        self._monotonic = clock.monotonic
        self._discovery = discovery_of(addresses, weights)
        self._codec = ValueCodec(
            checksum_key=checksum_key,
            serializer=serializer,
            compress=compress,
            compress_from=compress_from,
            max_value_size=max_value_size,
        )
        self._prefix = checked_prefix(prefix)
        self._name = key_names(self._prefix)
        self._strict = strict
        self._unstorable = 0
        self._reports = Reports("tiered.memcached", clock)
        terms = Terms(
            connect_timeout=checked_seconds("connect_timeout", connect_timeout),
            timeout=checked_seconds("timeout", timeout),
            tls_context=checked_context(tls_context),
            credentials=credentials_of(username, password),
            longest=max(max_value_size, _USUAL_LONGEST) + ValueCodec.OVERHEAD,
        )
        self._late = late = Listeners()
        self._pool_size = size = check_count("pool_size", pool_size, low=1)
        patience = checked_seconds("pool_timeout", pool_timeout)

        def server(address: Address) -> Server:
            return Server(
                address,
                terms,
                pool_size=size,
                pool_timeout=patience,
                clock=clock,
                late=late.tell,
            )

        reports = self._reports
        watch = Watch(
            self._discovery,
            clock,
            report=lambda trouble: reports.warn("discovery", "memcached: %s", trouble),
        )
        self._servers = Servers(
            Fleet(watch, server, clock), strict=strict, counters=self.counters, reports=reports
        )
        self._leasing = Leasing(self._servers, self._prefix, clock)
        self._agreements = Agreements(self._servers, self._codec)
        paging = Paging(self._servers, self._codec, self._prefix)
        self._values = Values(self._codec, self._servers, paging, clock, reports)
        self._versions = Versions(self._servers, self._values)

    # -- Reading ---------------------------------------------------------------

    def entry(self, key: Key) -> Entry | None:
        name = self._name(key)
        wire = name.wire
        data = self._servers.read(
            wire, lambda connection: connection.dialect.get(connection.stream, wire)
        )
        return None if data is None else self._values.entry(name, data)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        return self._values.entries(self._name, keys)

    def versioned(self, key: Key) -> Versioned:
        return self._versions.read(self._name(key))

    def version(self, key: Key) -> object | None:
        """The version of what is held for *key*: of the server's own making, and not verified.

        Whoever can write to the server can make it look as if nothing had changed, and so keep
        us on a copy that is out of date. He cannot make us take another value: the copy was
        verified when it was read.
        """
        return self._versions.current(self._name(key))

    def when_late(self, told: Callable[[], object]) -> None:
        self._late.add(told)

    def near(self, key: Key) -> Entry | None:
        return None

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
        if condition is ALWAYS:
            return self._stored(key, Entry(value, deadline), keep, lambda item: item.set, False)
        name = self._name(key)
        try:
            item = self._values.item(name, value, deadline, keep)
            return self._store_if(name, item, deadline, condition)
        except CodecError as error:
            self._drop(name, error, always=False)
            return False

    def store_versioned(
        self, key: Key, value: Any, deadline: float, *, keep: float = 0.0
    ) -> tuple[bool, object | None]:
        return self._stored(key, Entry(value, deadline), keep, writing, UNWRITTEN)

    def _stored(
        self,
        key: Key,
        entry: Entry,
        keep: float,
        writing: Callable[[Item], Callable[[Connection, bool], T]],
        fallback: T,
    ) -> T:
        """What an unconditional write of *entry* comes to, which *writing* makes of an item."""
        name = self._name(key)
        try:
            item = self._values.item(name, entry.value, entry.deadline, keep)
            try:
                return self._servers.write(name.wire, writing(item), fallback)
            except ValueTooLarge:
                # Only now is it known how much the server takes.
                item = self._values.paging.write(name.signed, item)
                return self._servers.write(name.wire, writing(item), fallback)
        except CodecError as error:
            self._drop(name, error, always=True)
            return fallback

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        now, remaining = self._values.wall(), deadline - self._monotonic()
        header = Header(now, now + remaining, keep)
        names = self._name.index(items)
        sealed: dict[bytes, bytes] = {}
        apart: dict[Key, bool] = {}
        unfit: CodecError | None = None
        room, encode = self._values.paging.room, self._codec.encode
        for wire, (key, name) in names.items():
            try:
                data = encode(name[0], items[key], header)
            except CodecError as error:
                unfit = error
                self._forget(name, error)
                apart[key] = False
                continue
            if len(data) <= room:
                sealed[wire] = data
                continue
            try:
                apart[key] = self.store(key, items[key], deadline, keep=keep)
            except CodecError as error:
                unfit = error
                apart[key] = False

        def short_lived(wire: bytes) -> bytes:
            key, name = names[wire]
            life, kept = lives(remaining, keep, away=True)
            return encode(name.signed, items[key], Header(now, now + life, kept))

        written = self._servers.write_many(
            sealed,
            lambda connection, away: told(connection, *lives(remaining, keep, away)),
            short_lived,
        )
        for wire, (_, name) in names.items():
            outcome = written.get(wire)
            if isinstance(outcome, CodecError):
                unfit = outcome
                self._forget(name, outcome, always=False)  # the server has dropped what was there
            elif isinstance(outcome, ServerRefusal):
                self.counters.errors += 1
                self._reports.warn("refused", "memcached: a value is not stored: %s", outcome)
        if self._strict and unfit is not None:
            raise unfit  # the others have been written
        return {key: written.get(wire) is True for wire, (key, _) in names.items()} | apart

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        lease, name = claim.lease, self._name(key)
        if lease is UNFOUNDED:
            return False
        if not isinstance(lease, Lease):
            return super().fill(key, value, deadline, keep=keep, claim=claim)
        if lease.key != name.wire or self.clock.monotonic() >= lease.ends:
            claim.lost = True  # ended, or of what the key was called before a clear()
            return False
        try:
            item = self._values.item(name, value, deadline, keep, claim.cost)
            away = lease.home is not None
            if lease.home is not None:
                owe(lease.home, name.wire)  # what it holds will be out of date
            written, claim.version = self._servers.on(
                lease.server, filling(lease, item, away), UNANSWERED
            )
        except CodecError as error:
            self._drop(name, error, always=True)
            return False
        if written is False:
            claim.lost = True
        return written is True

    def _store_if(self, name: KeyName, item: Item, deadline: float, condition: Condition) -> bool:
        def attempt(connection: Connection, away: bool) -> bool:
            dialect, stream = connection.dialect, connection.stream
            data, life = item.at(connection, away)
            for _ in range(_SWAP_ATTEMPTS):
                stored = dialect.fetch(stream, name.wire)
                if stored is None:
                    if dialect.add(stream, name.wire, data, life):
                        return True
                    continue  # somebody wrote in between: look again
                header = self._values.header(name, stored)
                present = None if header is None else Entry(None, self._values.deadline(header))
                if not admits(condition, present, deadline, self.clock.monotonic()):
                    return False
                if dialect.set(stream, name.wire, data, life, stored.token):
                    return True
            return False

        return self._servers.write(name.wire, attempt, False)

    def touch(self, key: Key, deadline: float) -> bool:
        return self._redate(key, deadline, lambda present: present < deadline)

    def outdate(self, key: Key) -> bool:
        now = self.clock.monotonic()
        outdated = self._redate(key, now, lambda present: present > now, ends=True)
        self.revoke(key)
        self._servers.forget_away(self._name(key).wire)
        return outdated

    def _redate(
        self, key: Key, deadline: float, due: Callable[[float], bool], *, ends: bool = False
    ) -> bool:
        """Give the item another deadline if *due* says so of the present one.

        What cannot be read, others may read; if it *ends*, it has to go.
        """
        name = self._name(key)
        paged: list[tuple[bytes, float]] = []

        def attempt(connection: Connection, away: bool) -> bool:
            dialect, stream = connection.dialect, connection.stream
            for _ in range(_SWAP_ATTEMPTS):
                stored = dialect.fetch(stream, name.wire)
                header = self._values.header(name, stored)
                if stored is None or header is None:
                    if ends and stored is not None and stored.data:
                        dialect.delete(stream, name.wire, stored.token)
                    return False
                present = self._values.deadline(header)
                if not due(present):
                    return False
                remaining = deadline - self.clock.monotonic()
                # A stale reader may want it for as long as it would have lived.
                keep = max(header.keep, present - deadline) if remaining <= 0 else header.keep
                remaining, keep = lives(remaining, keep, away)
                expires = self._values.wall() + remaining
                dated = self._codec.redate(name.signed, stored.data, expires)
                life = told(connection, remaining, keep)
                if dialect.set(stream, name.wire, dated, life, stored.token):
                    if self._codec.is_manifest(dated):
                        paged.append((dated, max(remaining, 0.0) + keep))
                    return True
            return False

        try:
            done = self._servers.write(name.wire, attempt, False)
        except ValueTooLarge as error:
            self._drop(name, error, always=False)  # the server has dropped what was there
            return False
        for manifest, life in paged:
            self._values.paging.touch(name.signed, manifest, life)
        return done

    def discard(self, key: Key) -> bool:
        wire = self._name(key).wire
        return self._servers.delete_many((wire,))[wire]

    def discard_many(self, keys: Iterable[Key]) -> dict[Key, bool]:
        wires = {key: self._name(key).wire for key in keys}
        gone = self._servers.delete_many(wires.values())
        return {key: gone[wire] for key, wire in wires.items()}

    def agree(self, key: Key, proposal: Any) -> Entry | None:
        name = self._name(key)
        value = self._agreements.agree(name, self._values.lasting(name, proposal))
        return None if value is None else self._values.entry(name, value)

    def decree(self, key: Key, value: Any) -> Any:
        name = self._name(key)
        self._agreements.decree(name, self._values.lasting(name, value))
        return value

    def sweep(self, before: float | None) -> int:
        if before is None:
            self.clear()  # raises: the server is everybody's
        return 0  # the server forgets by itself

    def _drop(self, name: KeyName, error: CodecError, *, always: bool) -> None:
        """:meth:`_forget`, and tell a caller who wants to know."""
        self._forget(name, error, always=always)
        if self._strict:
            raise error

    def _forget(self, name: KeyName, error: CodecError, *, always: bool = True) -> None:
        """A value that cannot be written must not leave the one before it in place."""
        self._unstorable += 1
        self.counters.errors += 1
        self._reports.warn("unstorable", "memcached: a value is not stored: %s", error)
        if always:
            self._servers.delete_many((name.wire,))

    # -- Claims ----------------------------------------------------------------

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        life = check_number("ttl", ttl, low=0.0, hint="seconds, 0 or more")
        return self._leasing.claim(self, key, self._name(key).wire, life)

    def revoke(self, key: Key) -> None:
        self._leasing.revoke(key, self._name(key).wire)

    # -- What it is ------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            shared=True,
            near=False,
            blocking=True,
            clearable=False,
            fenced=True,
            bytes_only=self._codec.bytes_only,
            authentic=self._codec.authentic,
        )

    @property
    def concurrency(self) -> float:
        return self._pool_size

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

    def server_stats(self) -> dict[str, dict[str, str]]:
        """The counters of each server, by its address; empty for one that does not answer."""
        return self._servers.each(lambda connection: ask_stats(connection.stream), {})

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
            corrupt=self._values.corrupt,
            unstorable=self._unstorable,
            servers=tuple(server.stats for server in self._servers.fleet.known),
        )

    def explain(self, key: Key) -> Explanation:
        name, mark_key = self._name(key), self._leasing.mark_key(key)

        def look(connection: Connection) -> tuple[Stored | None, bool]:
            stored = connection.dialect.fetch(connection.stream, name.wire)
            marked = connection.dialect.fetch(connection.stream, mark_key) is not None
            return stored, marked or (stored is not None and not stored.data)

        reached = self._servers.inspect(name.wire, look)
        detail: tuple[tuple[str, object], ...] = (("wire_key", name.wire.decode()),)
        if reached is None:
            return Explanation(repr(self), key, False, None, (("server", None), *detail))
        server, home, (stored, claimed) = reached
        detail = (("server", str(server.address)), *detail, ("claimed", claimed))
        if home is not None:
            detail += (("stands_in_for", str(home.address)),)
        header = self._values.header(name, stored)
        if stored is None or header is None:
            return Explanation(repr(self), key, False, None, detail)
        now = self._values.wall()
        detail += (
            ("size", self._values.size(name, stored.data)),
            ("compressed", self._codec.is_compressed(stored.data)),
            ("paged", self._codec.is_manifest(stored.data)),
            ("age", now - header.created),
            ("cost", header.cost),
        )
        ttl = math.inf if math.isinf(header.expires) else header.expires - now
        return Explanation(repr(self), key, True, ttl, detail)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The servers, as last found; none before the first use of a discovery."""
        if isinstance(self._discovery, StaticDiscovery):
            return self._discovery.find().addresses
        return tuple(server.address for server in self._servers.fleet.known)

    def close(self) -> None:
        self._servers.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._discovery_text()}>"

    def _discovery_text(self) -> str:
        known = self._discovery
        if isinstance(known, StaticDiscovery):
            return ", ".join(map(str, self.addresses))
        return repr(known)


def _figure(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0  # a server that does not tell it, or tells nonsense
