"""Backends over the clients of this package: one, or tiers of several."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Final, cast

from tiered.clients.base import ANY, CacheClient, Claim, Search
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.dogpile.mutexes import ClaimMutex
from tiered.entry import Entry
from tiered.errors import UnserializableValue
from tiered.region.api import (
    NO_VALUE,
    BackendArguments,
    BackendFormatted,
    BackendSetType,
    CacheBackend,
    CachedValue,
    CacheMutex,
    Deserializer,
    KeyType,
    SerializedReturnType,
)
from tiered.region.arguments import checked_flag, checked_seconds
from tiered.region.exception import ValidationError
from tiered.region.serialization import dumped, executes, parsed, serialization
from tiered.stats.reports import Reports
from tiered.typing import Key

__all__ = ["ClientBackend", "InprocBackend", "TieredBackend", "filling", "near_get", "near_store"]

_LOCK_TIMEOUT: Final = 10.0
"""Seconds, as for functions that are decorated with ``cached``."""

_YOUNGEST: Final = Search(ttl_skip=math.inf, farthest=True)
"""Asks all tiers: another process may have made a newer value than the nearest one has, and the
farthest one knows."""


_filled: ContextVar[Claim | None] = ContextVar("tiered.region.filled", default=None)


@contextmanager
def filling(claim: Claim | None) -> Iterator[None]:
    """What is set meanwhile for the key of *claim*, through whatever proxies, is its fill."""
    token = _filled.set(claim)
    try:
        yield
    finally:
        _filled.reset(token)


class ClientBackend(CacheBackend):
    """A region's values on a client of this package.

    On a client that keeps nothing but bytes, values are pickled if it signs them, and JSON if
    not; a region may have another serialiser. Proxies see the values themselves, unless it has.

    Args:
        arguments:

            - ``client``: the client.
            - ``distributed_lock``: whether a value is made once among all who share the client,
              not only among the threads of each process. By default it is so where the client
              is shared.
            - ``lock_timeout``: seconds after which a holder that has not finished is given up;
              10 by default, and for 0.
            - ``expire_time``: seconds for which the client keeps a value, also past the
              region's ``expiration_time``; 0, the default, for as long as it can.
            - ``recheck``: seconds for which it is believed that no other process has
              invalidated the region, where a near tier answers without asking a server; 1.

    Raises:
        ValidationError: an argument that cannot be right.

    Threads: safe.
    """

    arguments_known: ClassVar[frozenset[str]] = frozenset(
        {"client", "distributed_lock", "lock_timeout", "expire_time", "recheck"}
    )

    def __init__(self, arguments: BackendArguments) -> None:
        self.client: Final = self.made_client(arguments)
        self.capabilities: Final = self.client.capabilities
        self.clock: Final = self.client.clock
        self.distributed_lock: Final = checked_flag(
            arguments, "distributed_lock", self.locks_by_default()
        )
        self.lock_timeout: Final = checked_seconds(arguments, "lock_timeout", 0) or _LOCK_TIMEOUT
        self.life: Final = self.life_of(arguments) or math.inf
        self.recheck: Final = checked_seconds(arguments, "recheck", 1.0)
        self._reports = Reports("tiered.region", self.clock)
        if self.capabilities.bytes_only:
            self.serializer, self.deserializer = serialization(
                authentic=self.capabilities.authentic
            )

    # -- For subclasses ----------------------------------------------------------

    def made_client(self, arguments: BackendArguments) -> CacheClient:
        """The client that *arguments* ask for."""
        client = arguments.get("client")
        if not isinstance(client, CacheClient):
            raise ValidationError(f"client must be a client of tiered, not {client!r}")
        return client

    def locks_by_default(self) -> bool:
        """What ``distributed_lock`` is where nobody says."""
        return self.capabilities.shared

    def life_of(self, arguments: BackendArguments) -> float:
        """Seconds for which the client keeps a value; 0 for ever."""
        return checked_seconds(arguments, "expire_time", 0)

    # -- For regions -------------------------------------------------------------

    def check_deserializer(self, deserializer: Deserializer | None) -> None:
        """Raises ``ValidationError`` if *deserializer* would execute what anybody may write."""
        if not self.capabilities.authentic and executes(deserializer):
            raise ValidationError(
                f"deserializer {deserializer!r} executes what it reads, and whoever can reach the "
                f"servers of {self!r} can write it; give a checksum_key to sign values with, or "
                f"a deserializer that executes nothing, such as json.loads"
            )

    @property
    def asks_each_time(self) -> bool:
        """Whether every read asks another process anyway."""
        return self.capabilities.blocking and not self.capabilities.near

    def find(self, keys: Sequence[Key], *, youngest: bool = False) -> dict[Key, Entry]:
        """What the client holds, fresh or stale; the *youngest* of all tiers, or the nearest."""
        search = _YOUNGEST if youngest else ANY
        if len(keys) > 1:
            return self.client.find_many(keys, search)
        entry = self.client.find(keys[0], search)
        return {} if entry is None else {keys[0]: entry}

    def find_beside(
        self, keys: Sequence[Key], beside: Sequence[Key], *, youngest: bool = False
    ) -> tuple[dict[Key, Entry], dict[Key, Entry]]:
        """The same, and what the authority holds for *beside*; in one request, if it can be."""
        return self.client.find_beside(keys, _YOUNGEST if youngest else ANY, beside)

    def claim(self, key: KeyType) -> Claim | None:
        """The right to make the value of *key*; ``None`` while somebody has it."""
        return self.client.claim(key, self.lock_timeout)

    def lives(self, patience: float) -> tuple[float, float]:
        """For a value that is out of date after *patience* seconds: its ttl, and what follows."""
        ttl = min(patience, self.life)
        return ttl, (self.life - ttl if ttl < math.inf else 0.0)

    def put(self, mapping: Mapping[KeyType, BackendSetType], patience: float) -> None:
        """Keep values that are out of date after *patience* seconds."""
        ttl, keep = self.lives(patience)
        claim = _filled.get()
        if claim is not None and len(mapping) == 1 and claim.key in mapping:
            claim.fill(self.kept(mapping[cast(KeyType, claim.key)]), ttl, keep=keep)
            return
        if self.distributed_lock and not self.capabilities.fenced:
            for key in mapping:
                self.client.revoke(key)  # what is being made for the key is older than this
        if len(mapping) == 1:
            for key, value in mapping.items():
                self.client.put(key, self.kept(value), ttl, keep=keep)
        else:
            kept = {key: self.kept(value) for key, value in mapping.items()}
            self.client.put_multi(kept, ttl, keep=keep)

    def kept(self, value: BackendSetType) -> Any:
        """The form of *value* that the client holds."""
        # Plain containers: not every serialiser knows a class of ours.
        if self.capabilities.shared and type(value) is CachedValue:
            return [value.payload, dict(value.metadata)]
        return value

    # -- The backend -------------------------------------------------------------

    def has_lock_timeout(self) -> bool:
        return self.distributed_lock

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        if not self.distributed_lock:
            return None
        # By its methods it is one.
        return cast(CacheMutex, ClaimMutex(self.client, key, self.lock_timeout))

    def get(self, key: KeyType) -> BackendFormatted:
        return self.get_multi([key])[0]

    def get_multi(self, keys: Iterable[KeyType]) -> Sequence[BackendFormatted]:
        return [self._read(value) for value in self.get_serialized_multi(keys)]

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        return self.get_serialized_multi([key])[0]

    def get_serialized_multi(self, keys: Iterable[KeyType]) -> Sequence[SerializedReturnType]:
        wanted = list(keys)
        found = self.client.entries(wanted)
        return [given(found[key].value) if key in found else NO_VALUE for key in wanted]

    def set(self, key: KeyType, value: BackendSetType) -> None:
        self.set_multi({key: value})

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        try:
            self.put({key: self._written(value) for key, value in mapping.items()}, math.inf)
        except UnserializableValue:
            self.delete_multi(mapping)  # what was there before is not what was last set
            raise

    def _written(self, value: BackendSetType) -> BackendSetType:
        if self.serializer is None or not isinstance(value, CachedValue):
            return value
        return dumped(value, self.serializer)

    def _read(self, value: Any) -> Any:
        if self.deserializer is None or not isinstance(value, bytes):
            return value
        try:
            return parsed(value, self.deserializer)
        except Exception as error:  # whatever is in it, it is no reason to lose the other keys
            self._reports.warn(
                "read", "a value that cannot be read is a miss: %r (%r)", error, self
            )
            return NO_VALUE

    def delete(self, key: KeyType) -> None:
        self.client.delete(key)

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        self.client.delete_multi(keys)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.client!r}>"


class InprocBackend(ClientBackend):
    """A bounded store in the memory of this process.

    Args:
        arguments: those of :class:`ClientBackend` without ``client``, and

            - ``size``: how many values it holds; 10,000 by default.
            - ``policy``: which goes when it is full, as of ``InprocCacheClient``; "lru".
    """

    arguments_known: ClassVar[frozenset[str]] = ClientBackend.arguments_known - {"client"} | {
        "size",
        "policy",
    }

    def made_client(self, arguments: BackendArguments) -> CacheClient:
        try:
            return InprocCacheClient(
                arguments.get("size", 10_000), policy=arguments.get("policy", "lru")
            )
        except (TypeError, ValueError) as error:
            raise ValidationError(f"the arguments of {type(self).__name__}: {error}") from error


class TieredBackend(ClientBackend):
    """Several clients as one, the nearest first.

    Args:
        arguments: those of :class:`ClientBackend`, and

            - ``clients``: the tiers, instead of ``client``.
            - ``ttl_fractions``: as of ``TieredInclusiveClient``.
    """

    arguments_known: ClassVar[frozenset[str]] = ClientBackend.arguments_known | {
        "clients",
        "ttl_fractions",
    }

    def made_client(self, arguments: BackendArguments) -> CacheClient:
        if "clients" not in arguments:
            return super().made_client(arguments)
        clients = arguments["clients"]
        if isinstance(clients, CacheClient) or not isinstance(clients, Iterable):
            raise ValidationError(f"clients must be a list of clients, not {clients!r}")
        try:
            return TieredInclusiveClient(*clients, ttl_fractions=arguments.get("ttl_fractions"))
        except (TypeError, ValueError) as error:
            raise ValidationError(f"the arguments of {type(self).__name__}: {error}") from error


def given(value: Any) -> Any:
    """What was kept as *value*, in the form that a region knows."""
    if type(value) is list and len(value) == 2:
        return CachedValue(*value)
    return value


def near_get(client: CacheClient) -> Callable[[Any, Any], Any] | None:
    """``get(key, default)`` of the nearest tier, which never blocks; ``None`` if there is none."""
    if type(client) is TieredInclusiveClient:
        return near_get(client.clients[0])
    if type(client) is InprocCacheClient:
        return client.get
    if not client.capabilities.near:
        return None
    near, now = client.near, client.clock.monotonic

    def get(key: Any, default: Any) -> Any:
        entry = near(key)
        return entry.value if entry is not None and entry.deadline > now() else default

    return get


def near_store(client: CacheClient) -> Any:
    """The compiled store that :func:`near_get` looks into, or ``None``."""
    if type(client) is TieredInclusiveClient:
        return near_store(client.clients[0])
    path = client.hot_path() if type(client) is InprocCacheClient else None
    return None if path is None else path.store
