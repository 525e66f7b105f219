"""``client.aio``: the operations of a client as coroutines.

What is in memory is answered in the event loop's own thread. What may block runs in a
thread of a bounded pool (:mod:`tiered.clients.offloop`), and the loop goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tiered.clients.claims import AsyncClaim, Claim
from tiered.clients.explanation import Explanation
from tiered.clients.offloop import OffLoop
from tiered.concurrency.pool import WorkerPool
from tiered.entry import Entry, time_left
from tiered.sentinels import MISSING
from tiered.typing import Key, PromoteCallback

if TYPE_CHECKING:
    from tiered.clients.base import CacheClient

__all__ = ["AsyncView"]


class AsyncView:
    """A client for event loops; made by ``client.aio``.

    Each operation is that of :class:`tiered.clients.base.CacheClient` by the same name: the
    same arguments, answers and errors. A fresh entry in a near tier is answered at once,
    by ``get``, ``get_ttl`` and ``contains``, and by ``get_multi`` and ``get_ttl_multi`` where
    all keys have one; it counts as a hit of the client. All else of a client that may block
    runs in threads, and so do the callbacks that it is given.

    A task that is cancelled stops waiting. What had not begun is not done; what had begun
    ends in its thread, and its answer is dropped.

    Args:
        client: what to ask.
        pool: whose threads to use; by default one of 32 that all views share.
        concurrency: threads that this view may have at a time, 1 or more. By default it
            shares with all others over the same servers: eight, or as many as there are
            connections, if these are fewer.

    Raises:
        TypeError, ValueError: an argument that cannot be right, such as a pool without
            threads for a client that may block.
        PoolRefuses: from every operation that needs a thread, once the pool is closed, as
            it is when the interpreter exits.

    Threads: safe. One view serves any number of loops, each in its own thread, and forked
    children.
    """

    __slots__ = ("_client", "_off")

    def __init__(
        self,
        client: CacheClient,
        *,
        pool: WorkerPool | None = None,
        concurrency: int | None = None,
    ) -> None:
        self._client = client
        if pool is None and concurrency is None:
            self._off: OffLoop = client.attachments.get(OffLoop) or OffLoop.shared(client)
        else:
            self._off = OffLoop.own(client, pool, concurrency)

    # -- Reading ---------------------------------------------------------------

    async def get(
        self,
        key: Key,
        default: Any = MISSING,
        *,
        ttl_skip: float | None = None,
        promote_callback: PromoteCallback | None = None,
        max_tiers: int | None = None,
    ) -> Any:
        """The fresh value of *key*, else *default*; raises ``CacheMissError`` without one."""
        client = self._client
        if ttl_skip is None and promote_callback is None and max_tiers is None:
            if not self._off.blocking:
                return client.get(key, default)
            entry = self._near(key)
            if entry is not None:
                client.counters.hits += 1
                return entry.value
        return await self._off.done(
            partial(
                client.get,
                key,
                default,
                ttl_skip=ttl_skip,
                promote_callback=promote_callback,
                max_tiers=max_tiers,
            )
        )

    async def get_ttl(
        self,
        key: Key,
        default: Any = MISSING,
        *,
        ttl_skip: float | None = None,
        promote_callback: PromoteCallback | None = None,
        max_tiers: int | None = None,
    ) -> tuple[Any, float]:
        """``(value, seconds left)``, negative for a stale one; a miss is ``(default, -1)``."""
        client = self._client
        if (
            ttl_skip is None
            and promote_callback is None
            and max_tiers is None
            and self._off.blocking
        ):
            entry = self._near(key)
            if entry is not None:
                client.counters.hits += 1
                return entry.value, time_left(entry, client.clock.monotonic())
        return await self._off.done(
            partial(
                client.get_ttl,
                key,
                default,
                ttl_skip=ttl_skip,
                promote_callback=promote_callback,
                max_tiers=max_tiers,
            )
        )

    async def get_multi(
        self,
        keys: Iterable[Key],
        default: Any = MISSING,
        *,
        ttl_skip: float | None = None,
        promote_callback: PromoteCallback | None = None,
        max_tiers: int | None = None,
    ) -> dict[Key, Any]:
        """The fresh values of *keys*, in their order; *default* stands for each that has none."""
        wanted = list(dict.fromkeys(keys))
        if ttl_skip is None and promote_callback is None and max_tiers is None:
            near = self._all_near(wanted)
            if near is not None:
                return {key: entry.value for key, entry in near.items()}
        return await self._off.done(
            partial(
                self._client.get_multi,
                wanted,
                default,
                ttl_skip=ttl_skip,
                promote_callback=promote_callback,
                max_tiers=max_tiers,
            )
        )

    async def get_ttl_multi(
        self,
        keys: Iterable[Key],
        default: Any = MISSING,
        *,
        ttl_skip: float | None = None,
        promote_callback: PromoteCallback | None = None,
        max_tiers: int | None = None,
    ) -> dict[Key, tuple[Any, float]]:
        """``(value, ttl)`` for each of *keys*, in their order; misses as in :meth:`get_ttl`."""
        wanted = list(dict.fromkeys(keys))
        if ttl_skip is None and promote_callback is None and max_tiers is None:
            near = self._all_near(wanted)
            if near is not None:
                now = self._client.clock.monotonic()
                return {key: (entry.value, time_left(entry, now)) for key, entry in near.items()}
        return await self._off.done(
            partial(
                self._client.get_ttl_multi,
                wanted,
                default,
                ttl_skip=ttl_skip,
                promote_callback=promote_callback,
                max_tiers=max_tiers,
            )
        )

    async def contains(
        self, key: Key, ttl: float | None = None, *, max_tiers: int | None = None
    ) -> bool:
        """Whether a fresh value is there, with more than *ttl* seconds left."""
        if ttl is None and max_tiers is None and self._off.blocking and self._near(key) is not None:
            return True
        return await self._off.done(partial(self._client.contains, key, ttl, max_tiers=max_tiers))

    async def promote(
        self,
        key: Key,
        *,
        ttl_skip: float | None = None,
        promote_callback: PromoteCallback | None = None,
        max_tiers: int | None = None,
    ) -> None:
        """Copy what a farther tier holds to the nearer ones, without returning it."""
        await self._off.done(
            partial(
                self._client.promote,
                key,
                ttl_skip=ttl_skip,
                promote_callback=promote_callback,
                max_tiers=max_tiers,
            )
        )

    async def entry(self, key: Key) -> Entry | None:
        """What is held for *key*, fresh or stale; never raises for a miss."""
        return await self._off.done(partial(self._client.entry, key))

    async def explain(self, key: Key) -> Explanation:
        """What is known about *key* here and now."""
        return await self._off.done(partial(self._client.explain, key))

    # -- Writing ---------------------------------------------------------------

    async def put(
        self,
        key: Key,
        value: Any,
        ttl: float,
        *,
        keep: float = 0.0,
        max_tiers: int | None = None,
    ) -> bool:
        """Hold *value* for *ttl* seconds; whether it was written."""
        return await self._off.done(
            partial(self._client.put, key, value, ttl, keep=keep, max_tiers=max_tiers)
        )

    async def put_multi(
        self,
        items: Mapping[Any, Any],
        ttl: float,
        *,
        keep: float = 0.0,
        max_tiers: int | None = None,
    ) -> dict[Key, bool]:
        """:meth:`put` each of *items*, as they are now; which were written."""
        return await self._off.done(
            partial(self._client.put_multi, dict(items), ttl, keep=keep, max_tiers=max_tiers)
        )

    async def add(self, key: Key, value: Any, ttl: float, *, keep: float = 0.0) -> bool:
        """Hold *value* only if nothing fresh is there; whether it was written."""
        return await self._off.done(partial(self._client.add, key, value, ttl, keep=keep))

    async def renew(self, key: Key, ttl: float) -> bool:
        """Let the entry live *ttl* seconds from now, if that is longer than it would."""
        return await self._off.done(partial(self._client.renew, key, ttl))

    async def expire(self, key: Key) -> bool:
        """Make the entry stale now, kept for readers of stale values; whether it was fresh."""
        return await self._off.done(partial(self._client.expire, key))

    async def delete(self, key: Key) -> bool:
        """Forget *key*; whether it was there."""
        return await self._off.done(partial(self._client.delete, key))

    async def delete_multi(self, keys: Iterable[Key]) -> dict[Key, bool]:
        """:meth:`delete` each of *keys*; which were there."""
        return await self._off.done(partial(self._client.delete_multi, list(keys)))

    async def purge(self, timeout: float = 0.0) -> int:
        """Drop what has been stale for more than *timeout* seconds; how many."""
        return await self._off.done(partial(self._client.purge, timeout))

    async def clear(self) -> None:
        """Forget everything; raises ``UnsupportedOperation`` where others share the server."""
        await self._off.done(self._client.clear)

    async def invalidate_tag(self, tag: Key) -> None:
        """Have all values with *tag* count as absent from now on."""
        await self._off.done(partial(self._client.invalidate_tag, tag))

    async def wait(self, key: Key, timeout: float | None = None) -> bool:
        """Until a pending background write of *key* is done; ``False`` on timeout."""
        client = self._client
        # The one operation that waits for threads of this process, however near the client.
        if client.is_async and not client.wait(key, 0):
            return await self._off.in_thread(partial(client.wait, key, timeout))
        return True

    async def claim(self, key: Key, ttl: float = 10.0) -> AsyncClaim | None:
        """The right to compute *key* for *ttl* seconds, or ``None`` while another has it."""
        take = partial(self._client.claim, key, ttl)
        if not self._off.blocking:
            claim = take()
        else:
            claim = await self._off.in_thread(take, unwanted=_release)
        return None if claim is None else AsyncClaim(claim, self._off)

    async def close(self) -> None:
        """Close the client: sockets, threads and files are given back."""
        client = self._client
        if client.is_async:
            await self._off.in_thread(client.close)
        else:
            await self._off.done(client.close)

    def __repr__(self) -> str:
        return f"<AsyncView of {self._client!r}>"

    # -- Where it is done ------------------------------------------------------

    def _near(self, key: Key) -> Entry | None:
        """What is fresh and can be had here, of a client that may block."""
        if not self._off.blocking:
            return None
        client = self._client
        try:
            entry = client.near(key)
        except Exception:
            return None  # what is wrong, the general way finds and tells
        if entry is not None and entry.deadline > client.clock.monotonic():
            return entry
        return None

    def _all_near(self, keys: list[Key]) -> dict[Key, Entry] | None:
        """The same for all of *keys*; ``None`` if one is missing."""
        if not keys:
            return None
        found: dict[Key, Entry] = {}
        for key in keys:
            entry = self._near(key)
            if entry is None:
                return None
            found[key] = entry
        self._client.counters.hits += len(found)
        return found


def _release(claim: Claim | None) -> None:
    if claim is not None:
        claim.release()
