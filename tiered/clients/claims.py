"""Claims: the right to compute a key."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tiered.concurrency.generations import Generations, Watch
from tiered.concurrency.holdings import Holdings
from tiered.typing import Key
from tiered.validation import check_number, check_ttl

if TYPE_CHECKING:
    from tiered.clients.base import CacheClient
    from tiered.clients.offloop import OffLoop

__all__ = ["AsyncClaim", "Claim", "ClaimTable"]


class Claim:
    """The right to compute one key, with an owner token and an end.

    A context manager: leaving the block releases it. A holder whose claim has
    ended, or whose key was deleted meanwhile, loses the write and nothing else:
    :meth:`fill` returns ``False`` and the holder still has its value.

    Attributes:
        key: the claimed key, as given.
        token: names the holder; nobody else can release or fill with it.
        lease: what the client that gave it knows it by, where a server keeps it; its
            fills are judged in :meth:`CacheClient.fill`, in one step with the write.
        lost: whether a fill was refused because the claim had ended.
        cost: seconds that the value took to compute, if the holder says so; kept with it.
        version: of what a fill has written, if the client that gave the claim tells.
        refreshes: whether what it brings is to replace fresh copies that other processes have.

    Threads: one holder; not shared.
    """

    __slots__ = (
        "_client",
        "_over",
        "_release",
        "_use",
        "cost",
        "key",
        "lease",
        "lost",
        "refreshes",
        "token",
        "version",
    )

    def __init__(
        self,
        client: CacheClient,
        key: Key,
        token: str,
        use: Callable[[Callable[[], bool]], bool],
        release: Callable[[], bool],
        *,
        lease: object = None,
    ) -> None:
        self.key = key
        self.token = token
        self.lease = lease
        self.lost = False
        self.cost = 0.0
        self.refreshes = False
        self.version: object | None = None
        self._client = client
        self._use = use
        self._release = release
        self._over = False

    def through(self, client: CacheClient, key: Key) -> Claim:
        """The same right, filled through *client*, which knows the key as *key*."""
        return Claim(client, key, self.token, self._use, self._release, lease=self.lease)

    def ending(self, then: Callable[[], object]) -> Claim:
        """The same right; *then* is called once it was given back."""

        def release() -> bool:
            try:
                return self._release()
            finally:
                then()

        return Claim(self._client, self.key, self.token, self._use, release, lease=self.lease)

    def provided(self, holds: Callable[[], bool]) -> Claim:
        """The same right, which has ended too once *holds* says so."""

        def use(action: Callable[[], bool]) -> bool:
            return holds() and self._use(action)

        return Claim(self._client, self.key, self.token, use, self._release, lease=self.lease)

    def fill(self, value: Any, ttl: float, *, keep: float = 0.0) -> bool:
        """``put`` the value if the claim still holds, and release it; whether it was written."""
        try:
            return self._filled(value, ttl, keep)
        finally:
            self.release()

    def _filled(self, value: Any, ttl: float, keep: float) -> bool:
        client = self._client
        deadline = client.clock.monotonic() + check_ttl("ttl", ttl)
        check_number("keep", keep, low=0.0, hint="seconds, 0 or more")
        written = client.fill(self.key, value, deadline, keep=keep, claim=self)
        client.counters.puts += written
        client.counters.drops += not written
        return written

    def use(self, action: Callable[[], bool]) -> bool:
        """Run *action*, which must be quick, if the claim still holds; its answer, else false."""
        holds = False

        def held() -> bool:
            nonlocal holds
            holds = True
            return action()

        done = self._use(held)
        self.lost |= not holds
        return done

    @property
    def released(self) -> bool:
        """Whether it was filled or given back; a claim that has ended may not know it."""
        return self._over

    def release(self) -> bool:
        """Give the claim back; whether it was still held. A second call asks nobody."""
        if self._over:
            return False
        self._over = True
        return self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Claim {self.token} of {self.key!r}>"


class AsyncClaim:
    """A claim for event loops; see :class:`Claim`.

    An asynchronous context manager: leaving the block releases it.

    Attributes:
        key: the claimed key, as given.
        token: names the holder.

    Threads: one holder; not shared.
    """

    __slots__ = ("_claim", "_off")

    def __init__(self, claim: Claim, off: OffLoop) -> None:
        self._claim = claim
        self._off = off

    @property
    def key(self) -> Key:
        return self._claim.key

    @property
    def token(self) -> str:
        return self._claim.token

    @property
    def released(self) -> bool:
        """Whether it was filled or given back; a claim that has ended may not know it."""
        return self._claim.released

    @property
    def version(self) -> object | None:
        """Of what a fill has written, if the client that gave the claim tells."""
        return self._claim.version

    async def fill(self, value: Any, ttl: float, *, keep: float = 0.0) -> bool:
        """``put`` the value if the claim still holds, and release it; whether it was written."""
        return await self._off.done(partial(self._claim.fill, value, ttl, keep=keep))

    async def release(self) -> bool:
        """Give the claim back; whether it was still held. A second call asks nobody.

        A task that is cancelled meanwhile does not wait for it; it is given back all the same.
        """
        return await self._off.done_anyway(self._claim.release)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.release()

    def __repr__(self) -> str:
        return f"<AsyncClaim {self.token} of {self.key!r}>"


class ClaimTable:
    """The claims that the threads of this process hold on one client's keys.

    Attributes:
        used: whether there has ever been one, or a watch; else there is nothing to revoke.
    """

    __slots__ = ("_holdings", "_made", "_watches", "used")

    def __init__(self) -> None:
        self.used = False
        # Made on first use: most clients are never asked for a claim.
        self._holdings: Holdings | None = None
        self._watches: Generations | None = None
        self._made: dict[type, Any] = {}

    def take(self, client: CacheClient, key: Key, until: float) -> Claim | None:
        """A claim on *key* of *client*, or ``None`` while somebody holds one."""
        if self._holdings is None:
            # Atomic: of several first callers all get the same one.
            self.used = True  # before anybody can have one
            self._holdings = self._made.setdefault(Holdings, Holdings())
        holdings = self._holdings
        now = client.clock.monotonic
        token = holdings.take(key, until, now())
        if token is None:
            return None
        return Claim(
            client,
            key,
            token,
            lambda action: holdings.use(key, token, now(), action),
            lambda: holdings.release(key, token),
        )

    def watching(self, key: Key) -> Watch:
        """To be entered by who computes *key* without a claim: it ends as one would."""
        if self._watches is None:
            self.used = True
            self._watches = self._made.setdefault(Generations, Generations())
        return self._watches.reading(key)

    def revoke(self, key: Key) -> None:
        """End the claim on *key*: what its holder computed is out of date."""
        if self._holdings is not None:
            self._holdings.revoke(key)
        if self._watches is not None:
            self._watches.passed(key)

    def revoke_all(self) -> None:
        """End every claim."""
        if self._holdings is not None:
            self._holdings.revoke_all()
        if self._watches is not None:
            self._watches.passed_all()
