"""The interface of every client: six primitives, and all that follows from them.

A client implements the six abstract methods of :class:`CacheClient`; the public
operations are derived here, once, so that no two clients differ in a rule. The
methods under "Extension points" have working defaults; a client overrides one
only where it can do better than a sequence of primitives (one round trip for
many keys, an atomic step on a server).
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from tiered.clients.aio import AsyncView
from tiered.clients.claims import Claim, ClaimTable
from tiered.clients.explanation import Explanation
from tiered.clients.tagtable import TagTable
from tiered.clock import SYSTEM_CLOCK
from tiered.entry import ALWAYS, IF_ABSENT, IF_OLDER, Condition, Entry, Versioned, time_left
from tiered.errors import CacheMissError, UnsupportedOperation
from tiered.sentinels import FOREVER, MISSING
from tiered.stats.counters import ClientStats, Counters
from tiered.typing import Clock, Following, HotPath, Key, KeyWatch, OnChange, PromoteCallback
from tiered.validation import check_number, check_ttl

__all__ = [
    "ALWAYS",
    "ANY",
    "FOREVER",
    "IF_ABSENT",
    "IF_OLDER",
    "CacheClient",
    "CacheMissError",
    "Capabilities",
    "Claim",
    "Condition",
    "Entry",
    "HotPath",
    "Search",
    "Versioned",
]


class Capabilities(NamedTuple):
    """What a client is, as data.

    Attributes:
        shared: other processes see what is written.
        near: some entries can be read without blocking (``near`` may answer).
        blocking: a read may have to wait for another process.
        clearable: ``clear()`` harms nobody else.
        fenced: a ``discard`` or ``outdate`` ends the claims on its key by itself.
        bytes_only: only ``bytes`` can be kept.
        authentic: what is read was written by somebody who has the client's secret, or by
            this process.
    """

    shared: bool = False
    near: bool = True
    blocking: bool = False
    clearable: bool = True
    fenced: bool = False
    bytes_only: bool = False
    authentic: bool = True


class Search(NamedTuple):
    """How to look through tiers.

    Attributes:
        ttl_skip: pass over copies with no more than this many seconds left while a
            farther tier may hold a younger one; ``None`` for "any fresh copy will do".
        on_promote: called after a copy was made in a nearer tier.
        farthest: of several copies, take that of the farthest tier that has one, not the one
            that lives longest. For who must have what others have written meanwhile, with a
            *ttl_skip* that no copy passes.
        afresh: only what the farthest tier holds counts; it replaces the nearer copies.
        on_copy: called with the version of what is copied to the nearest tier, or ``None`` if
            that is not known, in one step with the copy: nobody writes in between. Quick, and
            does not raise.
        on_copies: the same for many keys: called with the key, and ``None``.
    """

    ttl_skip: float | None = None
    on_promote: PromoteCallback | None = None
    farthest: bool = False
    afresh: bool = False
    on_copy: Callable[[object | None], object] | None = None
    on_copies: Callable[[Key, object | None], object] | None = None


ANY: Final = Search()
"""Any fresh copy will do, and nobody wants to hear of promotions: the usual search."""


class CacheClient(ABC):
    """A mapping from keys to values with deadlines.

    Every ttl and timeout is in seconds, every deadline on ``self.clock``'s
    monotonic clock. Keys are any hashable objects; a client that leaves the
    process raises ``KeyEncodingError`` for one that others could not recognise.
    Failures of servers and codecs are misses and drops, counted in :attr:`stats`.

    Threads: every method of every client may be called from any thread at any
    time, and in a forked child.
    """

    clock: Clock = SYSTEM_CLOCK
    counters: Counters
    attachments: dict[object, Any]
    """What all users of this client in this process share, e.g. a namespace's revision."""
    _claims: ClaimTable

    def __new__(cls, *_args: Any, **_options: Any) -> Self:
        # Here and not in __init__, so that a client of six methods needs no super() call.
        self = super().__new__(cls)
        self.counters = Counters()
        self._claims = ClaimTable()
        self.attachments = {}
        return self

    # -- The six primitives ----------------------------------------------------

    @abstractmethod
    def entry(self, key: Key) -> Entry | None:
        """What is held for *key*, fresh or stale; never raises for a miss."""

    @abstractmethod
    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        """The same for many keys; holds the found ones only."""

    @abstractmethod
    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        """Hold *value* until *deadline*, and *keep* seconds more for readers of stale values.

        Returns whether it was written. A deadline that has passed stores a stale entry.
        """

    @abstractmethod
    def touch(self, key: Key, deadline: float) -> bool:
        """Lengthen a life to *deadline*, atomically; whether it did. Never shortens."""

    @abstractmethod
    def discard(self, key: Key) -> bool:
        """Remove; whether there was one."""

    @abstractmethod
    def sweep(self, before: float | None) -> int:
        """Forget what has a deadline before *before*, or with ``None`` all; how many.

        Raises:
            UnsupportedOperation: *before* is ``None`` and that would harm others.
        """

    # -- Extension points ------------------------------------------------------

    def find(self, key: Key, search: Search) -> Entry | None:
        """``entry(key)``, with a say in how tiers are searched."""
        return self.entry(key)

    def find_many(self, keys: Iterable[Key], search: Search) -> dict[Key, Entry]:
        """``entries(keys)``, with a say in how tiers are searched."""
        return self.entries(keys)

    def find_beside(
        self, keys: Collection[Key], search: Search, beside: Collection[Key]
    ) -> tuple[dict[Key, Entry], dict[Key, Entry]]:
        """``find_many(keys)``, and what the authority holds for *beside*; in one request, if that
        is asked for both."""
        if self.authority is not self:
            return self.find_many(keys, search), self.authority.entries(beside)
        found = self.find_many([*keys, *beside], search)
        return _part(found, keys), _part(found, beside)

    def store_many(
        self, items: Mapping[Key, Any], deadline: float, *, keep: float = 0.0
    ) -> dict[Key, bool]:
        """``store`` each of *items*; which were written."""
        return {key: self.store(key, value, deadline, keep=keep) for key, value in items.items()}

    def discard_many(self, keys: Iterable[Key]) -> dict[Key, bool]:
        """``discard`` each of *keys*; which were there."""
        return {key: self.discard(key) for key in keys}

    def outdate(self, key: Key) -> bool:
        """Make the entry stale now but keep it; whether there was a fresh one.

        This default reads and writes in two steps, and may lose a write that comes
        between them; the package's own clients do it in one.
        """
        now = self.clock.monotonic()
        entry = self.entry(key)
        return entry is not None and entry.deadline > now and self.store(key, entry.value, now)

    def revoke(self, key: Key) -> None:
        """End the claim on *key*: what its holder is computing is out of date."""
        if self._claims.used:
            self._claims.revoke(key)

    def watching(self, key: Key) -> KeyWatch:
        """For who computes *key* without a claim, in a client of this process.

        To be entered before: what ends a claim keeps it from publishing.
        """
        return self._claims.watching(key)

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        """``store`` under a claim on *key* that this client gave, if it still holds.

        ``claim.lost`` tells a claim that had ended from a store that failed.
        """
        return claim.use(lambda: self.store(key, value, deadline, keep=keep))

    def agree(self, key: Key, proposal: Any) -> Entry | None:
        """What all users of this client hold for *key*, for good; *proposal* if that is nothing.

        ``None`` if nobody can be asked. Clients of several servers see to it that the loss
        of one does not lose it: what was agreed on before must not come back.
        """
        known = self.entry(key)
        if known is None and self.add(key, proposal, FOREVER):
            return Entry(proposal, math.inf)
        return known or self.entry(key)

    def decree(self, key: Key, value: Any) -> Any:
        """Make *value* what :meth:`agree` gives, to everybody, from now on.

        Returns what it gives then: *value*. Only a client that has no place to keep it may do
        otherwise, if it has forgotten all that could depend on it.
        """
        self.store(key, value, math.inf)
        return value

    def versioned(self, key: Key) -> Versioned:
        """``entry(key)``, and the version of what was found, where the client can tell."""
        return Versioned(self.entry(key))

    def version(self, key: Key) -> object | None:
        """The version of what is held for *key*, without its value, where that is cheaper.

        It equals that of an earlier :meth:`versioned` only if the entry is the same still: then
        a copy that was kept since is as good as what would be read now. ``None`` if nothing is
        held, nobody answers, or the client cannot tell.
        """
        return None

    def follow(self, key: Key, changed: OnChange) -> Following | None:
        """Have *changed* called when others do something to *key*; ``None`` if nobody would.

        Others are those who use the same servers from other processes. ``changed(how)`` is told
        ``"changed"`` when what lies under *key* is not what it was: deleted, made stale, written,
        cleared, agreed on anew; or perhaps not, as nobody can tell. It is told ``"done"`` when a
        claim has ended, because its holder has filled it or has given up. It is called when that
        can be read, in any thread; it has to be quick, and not to raise.

        What is read after this call is up to date until *changed* says otherwise, as long as
        the lease of the answer lasts. Whether a client answers ``None`` is constant over its
        life. Who is not closed is held as long as the client. In a forked child nobody follows
        any more.
        """
        return None

    def follow_all(self, changed: OnChange) -> Following | None:
        """The same for whatever others do to any key, at the price of being called often.

        ``None`` also from a client that tells of single keys.
        """
        return None

    def announce(self, key: Key) -> None:
        """Tell those who follow *key* that something else was agreed on.

        Whoever made the agreement tells them too, but perhaps later than what this process is
        about to tell them.
        """

    def drop_near(self, key: Key) -> None:
        """Forget the copies that lie nearer than the authority: another process has changed *key*.

        What was read before now is not copied any more either. Clients that have no copies have
        nothing to do.
        """

    def store_versioned(
        self, key: Key, value: Any, deadline: float, *, keep: float = 0.0
    ) -> tuple[bool, object | None]:
        """``store``, and the version of what was written, if that comes with the answer.

        A :meth:`fill` leaves it in ``claim.version``.
        """
        return self.store(key, value, deadline, keep=keep), None

    def when_late(self, told: Callable[[], object]) -> None:
        """Call *told*, a bound method, which is held weakly, whenever deletes come late.

        That is when they reach a server that could not be told of them at their time: what
        others have read there meanwhile, and hold copies of, may be out of date. It is called
        by any thread, is to be quick, and not to raise.
        """

    def near(self, key: Key) -> Entry | None:
        """An entry if one can be had without blocking; remote clients answer ``None``."""
        return None if self.capabilities.blocking else self.entry(key)

    def hot_path(self) -> HotPath | None:
        """The leanest form of :meth:`near`, fetched once; ``None`` where it never answers."""
        return HotPath(self.near) if self.capabilities.near else None

    def first_tiers(self, count: int) -> CacheClient:
        """The client without the tiers past the first *count*."""
        return self

    @property
    def authority(self) -> CacheClient:
        """The client that decides what is true: the farthest tier, or this one."""
        return self

    @property
    def capabilities(self) -> Capabilities:
        """What this client is; constant over its life."""
        return Capabilities()

    @property
    def concurrency(self) -> float:
        """How many calls can be under way at once; more would wait for one another, or fail."""
        return math.inf

    def wait(self, key: Key, timeout: float | None = None) -> bool:
        """Until a pending background write of *key* is done; ``False`` on timeout."""
        return True

    @property
    def is_async(self) -> bool:
        """Whether writes happen in the background, so that :meth:`wait` has a meaning."""
        return False

    @property
    def capacity(self) -> float:
        """How much fits, in the client's own unit; ``inf`` if unbounded or unknown."""
        return math.inf

    @property
    def usage(self) -> float:
        """How much is held, in the unit of :attr:`capacity`; 0 if unknown."""
        return 0

    @property
    def stats(self) -> ClientStats:
        """A frozen snapshot of what was counted."""
        return self.counters.snapshot()

    @property
    def coherence(self) -> Any:
        """How a bus keeps the private tier in step, a ``CoherenceStats``; ``None`` if none does."""
        return None

    def explain(self, key: Key) -> Explanation:
        """What is known about *key* here and now; for people, not for programs' hot paths."""
        return Explanation.of(self, key)

    def close(self) -> None:
        """Give back sockets, threads and files. A closed client may be used again."""

    # -- Reading ---------------------------------------------------------------

    def get(
        self,
        key: Key,
        default: Any = MISSING,
        *,
        ttl_skip: float | None = None,
        promote_callback: PromoteCallback | None = None,
        max_tiers: int | None = None,
    ) -> Any:
        """The fresh value of *key*, else *default*.

        Raises:
            CacheMissError: there is none, and no *default* was given.
        """
        if ttl_skip is None and promote_callback is None and max_tiers is None:
            entry = self.entry(key)
        else:
            entry = self._limited(max_tiers).find(key, _search(ttl_skip, promote_callback))
        if entry is not None and entry.deadline > self.clock.monotonic():
            self.counters.hits += 1
            return entry.value
        self.counters.misses += 1
        if default is MISSING:
            raise CacheMissError(key)
        return default

    def get_ttl(
        self,
        key: Key,
        default: Any = MISSING,
        *,
        ttl_skip: float | None = None,
        promote_callback: PromoteCallback | None = None,
        max_tiers: int | None = None,
    ) -> tuple[Any, float]:
        """``(value, seconds left)``; a stale entry has a negative ttl.

        A miss is ``(default, -1)``.

        Raises:
            CacheMissError: nothing is held, not even stale, and no *default* was given.
        """
        entry = self._limited(max_tiers).find(key, _search(ttl_skip, promote_callback))
        answer = self._judged(entry)
        if answer is None:
            if default is MISSING:
                raise CacheMissError(key)
            return default, -1
        return answer

    def get_multi(
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
        found = self._limited(max_tiers).find_many(wanted, _search(ttl_skip, promote_callback))
        now = self.clock.monotonic()
        answers: dict[Key, Any] = {}
        misses = 0
        for key in wanted:
            entry = found.get(key)
            if entry is not None and entry.deadline > now:
                answers[key] = entry.value
            else:
                answers[key] = default
                misses += 1
        self.counters.misses += misses
        self.counters.hits += len(wanted) - misses
        return answers

    def get_ttl_multi(
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
        found = self._limited(max_tiers).find_many(wanted, _search(ttl_skip, promote_callback))
        answers: dict[Key, tuple[Any, float]] = {}
        for key in wanted:
            answer = self._judged(found.get(key))
            answers[key] = (default, -1) if answer is None else answer
        return answers

    def contains(self, key: Key, ttl: float | None = None, *, max_tiers: int | None = None) -> bool:
        """Whether a fresh value is there, with more than *ttl* seconds left."""
        margin = 0.0 if ttl is None else check_ttl("ttl", ttl)
        entry = self._limited(max_tiers).find(key, _search(ttl, None))
        return entry is not None and entry.deadline > self.clock.monotonic() + max(margin, 0.0)

    def promote(
        self,
        key: Key,
        *,
        ttl_skip: float | None = None,
        promote_callback: PromoteCallback | None = None,
        max_tiers: int | None = None,
    ) -> None:
        """Copy what a farther tier holds to the nearer ones, without returning it."""
        self._limited(max_tiers).find(key, _search(ttl_skip, promote_callback))

    # -- Writing ---------------------------------------------------------------

    def put(
        self,
        key: Key,
        value: Any,
        ttl: float,
        *,
        keep: float = 0.0,
        max_tiers: int | None = None,
    ) -> bool:
        """Hold *value* for *ttl* seconds; whether it was written.

        A *ttl* of zero or less stores an entry that is stale already; ``FOREVER``
        never expires. *keep* is for how long past that readers of stale values want it.
        """
        client = self._limited(max_tiers)
        written = client.store(key, value, self._deadline(ttl), keep=_keep(keep))
        self._count_put(written)
        return written

    def put_multi(
        self,
        items: Mapping[Any, Any],  # Mapping[Key, ...] would refuse a dict[str, ...]
        ttl: float,
        *,
        keep: float = 0.0,
        max_tiers: int | None = None,
    ) -> dict[Key, bool]:
        """:meth:`put` each of *items*; which were written."""
        written = self._limited(max_tiers).store_many(items, self._deadline(ttl), keep=_keep(keep))
        for one in written.values():
            self._count_put(one)
        return written

    def add(self, key: Key, value: Any, ttl: float, *, keep: float = 0.0) -> bool:
        """Hold *value* only if nothing fresh is there; whether it was written."""
        written = self.store(key, value, self._deadline(ttl), keep=_keep(keep), condition=IF_ABSENT)
        self.counters.puts += written
        return written

    def renew(self, key: Key, ttl: float) -> bool:
        """Let the entry live *ttl* seconds from now, if that is longer than it would."""
        return self.touch(key, self._deadline(ttl))

    def expire(self, key: Key) -> bool:
        """Make the entry stale now, kept for readers of stale values; whether it was fresh."""
        self._end_claims((key,))
        return self.outdate(key)

    def delete(self, key: Key) -> bool:
        """Forget *key*; whether it was there."""
        if not self.capabilities.fenced:
            self.revoke(key)
        elif self._claims.used:
            self._claims.revoke(key)
        found = self.discard(key)
        self.counters.deletes += found
        return found

    def delete_multi(self, keys: Iterable[Key]) -> dict[Key, bool]:
        """:meth:`delete` each of *keys*; which were there."""
        wanted = list(dict.fromkeys(keys))
        self._end_claims(wanted)
        found = self.discard_many(wanted)
        self.counters.deletes += sum(found.values())
        return found

    def purge(self, timeout: float = 0.0) -> int:
        """Drop what has been stale for more than *timeout* seconds; how many."""
        patience = check_number("timeout", timeout, low=0.0, hint="seconds, 0 or more")
        return self.sweep(self.clock.monotonic() - patience)

    def clear(self) -> None:
        """Forget everything.

        Raises:
            UnsupportedOperation: others share the server; clear a namespace instead.
        """
        if not self.capabilities.clearable:
            raise UnsupportedOperation(
                f"clear() of {self!r} would take the entries of everybody else who uses the "
                f"server; wrap the client in a NamespaceWrapper and clear that"
            )
        self._claims.revoke_all()
        self.sweep(None)

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        """The right to compute *key* for *ttl* seconds, or ``None`` while another has it.

        It reaches as far as the client does: the threads of this process for clients
        in memory, all clients of the servers for remote ones.
        """
        ends = self._deadline(check_number("ttl", ttl, low=0.0, hint="seconds, 0 or more"))
        return self._claims.take(self, key, ends)

    def invalidate_tag(self, tag: Key) -> None:
        """Have all values with *tag* count as absent from now on: one write, however many.

        That is the values of all functions that are cached with ``tags=...`` on clients with the
        same authority, in every process. Here it is seen at once; see :mod:`tiered.clients.tags`
        for when others do.

        Raises:
            KeyEncodingError: *tag* is no key that other processes could recognise.
        """
        TagTable.of(self).invalidate(tag)

    @property
    def aio(self) -> AsyncView:
        """The same operations as coroutines: ``await client.aio.get(key)``."""
        return AsyncView(self)

    # -- chorde's spellings ----------------------------------------------------

    def getTtl(  # noqa: N802 - chorde's name
        self, key: Key, default: Any = MISSING, **options: Any
    ) -> tuple[Any, float]:
        """:meth:`get_ttl` under chorde's name."""
        return self.get_ttl(key, default, **options)

    def getMulti(  # noqa: N802 - chorde's name
        self, keys: Iterable[Key], default: Any = MISSING, **options: Any
    ) -> Iterator[tuple[Key, Any]]:
        """:meth:`get_multi` as pairs."""
        return iter(self.get_multi(keys, default, **options).items())

    def getTtlMulti(  # noqa: N802 - chorde's name
        self, keys: Iterable[Key], default: Any = MISSING, **options: Any
    ) -> Iterator[tuple[Key, tuple[Any, float]]]:
        """:meth:`get_ttl_multi` as pairs."""
        return iter(self.get_ttl_multi(keys, default, **options).items())

    # -- Lifetime --------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- Shared by the operations above ----------------------------------------

    def _end_claims(self, keys: Iterable[Key]) -> None:
        fenced = self.capabilities.fenced
        for key in keys:
            if fenced:
                self._claims.revoke(key)
            else:
                self.revoke(key)

    def _deadline(self, ttl: float) -> float:
        return self.clock.monotonic() + check_ttl("ttl", ttl)

    def _limited(self, max_tiers: int | None) -> CacheClient:
        if max_tiers is None:
            return self
        if isinstance(max_tiers, bool) or not isinstance(max_tiers, int):
            raise TypeError(f"max_tiers must be a positive int, not {max_tiers!r}")
        if max_tiers < 1:
            raise ValueError(f"max_tiers must be a positive int, not {max_tiers!r}")
        return self.first_tiers(max_tiers)

    def _judged(self, entry: Entry | None) -> tuple[Any, float] | None:
        if entry is None:
            self.counters.misses += 1
            return None
        ttl = time_left(entry, self.clock.monotonic())
        if ttl > 0:
            self.counters.hits += 1
        else:
            self.counters.misses += 1
        return entry.value, ttl

    def _announce(self, search: Search, key: Key, entry: Entry) -> None:
        """Tell of a copy that was made in a nearer tier, if anybody wants to hear of it."""
        if search.on_promote is None:
            return
        try:
            search.on_promote(key, entry.value, entry.deadline - self.clock.monotonic())
        except Exception:
            self.counters.errors += 1
            logging.getLogger("tiered.clients").exception("promote_callback failed for %r", key)

    def _count_put(self, written: bool) -> None:
        if written:
            self.counters.puts += 1
        else:
            self.counters.drops += 1


def _part(found: Mapping[Key, Entry], keys: Iterable[Key]) -> dict[Key, Entry]:
    return {key: found[key] for key in keys if key in found}


def _search(ttl_skip: float | None, on_promote: PromoteCallback | None) -> Search:
    if ttl_skip is None and on_promote is None:
        return ANY
    return Search(None if ttl_skip is None else check_ttl("ttl_skip", ttl_skip), on_promote)


def _keep(keep: float) -> float:
    if keep == 0.0:
        return 0.0
    return check_number("keep", keep, low=0.0, hint="seconds, 0 or more")
