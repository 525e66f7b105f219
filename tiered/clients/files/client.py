"""The client of a directory: shared by the processes of a host, and there after a restart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

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
from tiered.clients.files import claims
from tiered.clients.files.access import Access
from tiered.clients.files.byname import ByName
from tiered.clients.files.claiming import UNFOUNDED, Claiming
from tiered.clients.files.claims import Ticket
from tiered.clients.files.eviction import Evictor
from tiered.clients.files.layout import Layout
from tiered.clients.files.names import Place
from tiered.clients.files.scan import Findings, Progress, cleared, scan, swept
from tiered.clients.files.tree import Tree
from tiered.clients.files.values import Item, Values
from tiered.clock import SYSTEM_CLOCK
from tiered.codec.values import ValueCodec
from tiered.entry import admits
from tiered.errors import CodecError, StorageError
from tiered.keys.wire import key_names
from tiered.sentinels import MISSING
from tiered.stats.counters import ClientStats
from tiered.typing import Clock, Key, PromoteCallback
from tiered.validation import check_count, check_number

__all__ = ["FilesCacheClient", "FilesStats"]


@dataclass(frozen=True, slots=True)
class FilesStats(ClientStats):
    """The counts of a client of files.

    Attributes:
        corrupt: files that were not what was written under their key; read as misses.
        unstorable: values that could not be written: not serialisable, or too large.
        evicted: values that this client removed to make room.
    """

    corrupt: int = 0
    unstorable: int = 0
    evicted: int = 0


class FilesCacheClient(CacheClient):
    """A cache in a directory, shared by all processes of a host that name the same one.

    There is no server: each process reads and writes the files itself, and any of them may be
    killed at any moment. A value read back is a copy; but large arrays, and ``memoryview``
    objects, come back as read-only views of the file, without a copy, also from inside of other
    values, and stay good when the value is replaced or deleted. What fails is a miss or a drop,
    counted in :attr:`stats`.

    Args:
        size_bytes: bytes that the files may take together, in blocks of 4 KB; a twentieth more
            for moments. When it is full, values go that were not used for long.
        path: of the directory, on a local file system; made with mode 0700 if it is not there.
        checksum_key: the secret that signs values, or several, newest first. Without one,
            values are checked for damage only.
        serializer: ``"pickle"`` (the default; without *checksum_key* it is used only in a
            directory that belongs to this user, and that nobody else can write), ``"json"``,
            ``"raw"``, ``"msgpack"`` or ``"msgspec"``.
        fsync: wait for the disk on each write: what was written is there after a power cut.
        strict: raise ``StorageError`` instead of a miss when files cannot be used.
        clock: the source of time.

    Raises:
        TypeError, ValueError: an argument that cannot be right.
        MissingDependency: *serializer* needs a package that is not there.

    Threads: safe, and in forked children: each process opens its own files.
    """

    def __init__(
        self,
        size_bytes: int,
        path: str | os.PathLike[str],
        *,
        checksum_key: str | bytes | Sequence[str | bytes] | None = None,
        serializer: str = "pickle",
        fsync: bool = False,
        strict: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.clock = clock
        self._capacity = check_count("size_bytes", size_bytes, low=1)
        self._pickles = pickles = serializer == "pickle"
        self._codec = ValueCodec(
            checksum_key=checksum_key,
            serializer=serializer,
            compress=False,
            max_value_size=self._capacity,
            # As pickles are refused where others write; other serialisers are not.
            guarded=pickles,
            more=Layout.serializers,
            light=True,
        )
        self._access = access = Access(
            _checked_path(path),
            self._capacity,
            # What others can write there is only ever parsed, or was signed.
            private=pickles and not self._codec.authentic,
            strict=strict,
            clock=clock,
            counters=self.counters,
        )
        self._evictor = Evictor(self._capacity)
        self._opener = self._codec.opener
        self._monotonic = clock.monotonic
        layout = Layout(self._codec, pickles=pickles, limit=self._capacity)
        self._values = Values(layout, access, self._evictor, clock, sync=fsync)
        self._claiming = Claiming(access, clock)
        self._name = key_names(b"").sign
        self._unstorable = 0

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
        if ttl_skip is None and promote_callback is None and max_tiers is None:
            # A call less, for a small value where nothing has changed: most gets.
            tree = self._access.opened
            if tree is not None and (fast := tree.packs.fast) is not None:
                now = self._monotonic()
                entry = fast.entry(self._name(key), self._opener, tree.counts.base, now)
                if entry is not None and entry.deadline > now:
                    self.counters.hits += 1
                    return entry.value
        return super().get(
            key,
            default,
            ttl_skip=ttl_skip,
            promote_callback=promote_callback,
            max_tiers=max_tiers,
        )

    def entry(self, key: Key) -> Entry | None:
        name = self._name(key)
        tree = self._access.opened
        if tree is not None and (fast := tree.packs.fast) is not None:
            entry = fast.entry(name, self._opener, tree.counts.base, self._monotonic())
            if entry is not None:
                return entry
        return self._access.read(lambda tree: self._values.find(tree, name), None)

    def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
        found = ((key, self.entry(key)) for key in keys)
        return {key: entry for key, entry in found if entry is not None}

    def versioned(self, key: Key) -> Versioned:
        name = self._name(key)
        return self._access.read(lambda tree: self._values.versioned(tree, name), Versioned(None))

    def version(self, key: Key) -> object | None:
        """The version of what is held for *key*: not verified, as without a read it cannot be."""
        name = self._name(key)
        return self._access.read(lambda tree: self._values.version(tree, name), None)

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
        name = self._name(key)

        def allows(tree: Tree, place: Place) -> bool:
            if condition is not ALWAYS:
                present = self._values.present(tree, name, place)
                if not admits(condition, present, deadline, self.clock.monotonic()):
                    return False
            claims.drop(tree, place)  # what is being computed is older than this
            return True

        return self._write(name, Item(value, deadline, keep), allows, always=condition is ALWAYS)

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        ticket = claim.lease
        if ticket is UNFOUNDED:
            return False
        if not isinstance(ticket, Ticket):
            return super().fill(key, value, deadline, keep=keep, claim=claim)
        name = self._name(key)
        if ticket.name != name:
            claim.lost = True  # of what the key was called before a clear()
            return False

        def allows(tree: Tree, place: Place) -> bool:
            claim.lost = not self._claiming.spend(tree, ticket, place)
            return not claim.lost

        return self._write(name, Item(value, deadline, keep, claim.cost), allows, always=False)

    def _write(
        self, name: bytes, item: Item, allows: Callable[[Tree, Place], bool], *, always: bool
    ) -> bool:
        try:
            if self._access.change(
                lambda tree: self._values.write(tree, name, item, partial(allows, tree))
            ):
                return True
            self._forget(name, always)  # there is no room
        except CodecError as error:
            self._unstorable += 1
            self._access.failed("unstorable", "a value is not stored", error)
            self._forget(name, always)
            if self._access.strict:
                raise
        except StorageError:
            self._forget(name, always)
            if self._access.strict:
                raise
        return False

    def _forget(self, name: bytes, always: bool) -> None:
        """Remove what is there, which is not what was last put *always*, if that can be done."""
        if not always:
            return
        try:
            self._values.remove(self._access.tree(), name)
        except (OSError, StorageError):
            pass  # the failure before this one was told

    def touch(self, key: Key, deadline: float) -> bool:
        name = self._name(key)
        return self._access.attempt(lambda tree: self._values.lengthen(tree, name, deadline), False)

    def outdate(self, key: Key) -> bool:
        name, now = self._name(key), self.clock.monotonic()
        return self._access.attempt(lambda tree: self._values.end(tree, name, now), False)

    def discard(self, key: Key) -> bool:
        name = self._name(key)
        return self._access.attempt(lambda tree: self._values.remove(tree, name), False)

    def sweep(self, before: float | None, *, progress: Progress | None = None) -> int:
        """As in :meth:`CacheClient.sweep`; ``progress(done, all)`` is called now and then."""

        def sweep(tree: Tree) -> int:
            now = self._values.now(tree)
            if before is None:
                return cleared(tree, now, progress)
            return swept(tree, now, before, progress)

        return self._access.attempt(sweep, 0)

    # -- Claims ----------------------------------------------------------------

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        life = check_number("ttl", ttl, low=0.0, hint="seconds, 0 or more")
        return self._claiming.claim(self, key, self._name(key), life)

    def revoke(self, key: Key) -> None:
        self._claiming.revoke(self._name(key))

    # -- What it is ------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            shared=True,
            # The disk may take its time, which an event loop has not.
            near=False,
            blocking=True,
            fenced=True,
            bytes_only=self._codec.bytes_only,
            # Pickles that are not signed are read only where nobody else can write.
            authentic=self._codec.authentic or self._pickles,
        )

    @property
    def by_name(self) -> ByName:
        """For who hears of changes of keys, and keeps the directory in step with them."""
        return ByName(self._access, self._values, self.clock)

    @property
    def path(self) -> str:
        """Of the directory."""
        return self._access.path

    @property
    def capacity(self) -> float:
        return self._capacity

    @property
    def usage(self) -> float:
        return self._access.read(lambda tree: max(tree.used, 0), 0)

    @property
    def stats(self) -> FilesStats:
        counted = self.counters.snapshot()
        return FilesStats(
            counted.hits,
            counted.misses,
            counted.puts,
            counted.drops,
            counted.deletes,
            counted.errors,
            self._values.corrupt,
            self._unstorable,
            self._evictor.evicted,
        )

    def verify(
        self, *, repair: bool = True, contents: bool = True, progress: Progress | None = None
    ) -> Findings:
        """Read all files, and put right what is wrong with them and with what was counted.

        Nobody can write meanwhile; readers do not notice.

        Args:
            repair: remove what cannot be read, and what processes that were killed have left.
            contents: read the values; without, files are counted, and no more.
            progress: ``progress(done, all)`` is called now and then.

        Raises:
            StorageError: the directory cannot be used.
        """

        def verify(tree: Tree) -> Findings:
            with tree.locks.purging():
                return scan(
                    tree,
                    self._values.now(tree),
                    repair=repair,
                    is_sound=partial(self._values.is_sound, tree) if contents else None,
                    is_sound_record=self._values.is_sound_record if contents else None,
                    progress=progress,
                )

        return self._access.change(verify)

    def explain(self, key: Key) -> Explanation:
        name = self._name(key)

        def explain(tree: Tree) -> Explanation:
            ttl, facts = self._values.described(tree, name)
            return Explanation(repr(self), key, ttl is not None, ttl, tuple(facts.items()))

        return self._access.read(explain, Explanation(repr(self), key, False))

    def close(self) -> None:
        self._access.close()

    def __repr__(self) -> str:
        return f"<FilesCacheClient {self.path!r}>"


def _checked_path(path: Any) -> str:
    if not isinstance(path, str | os.PathLike) or not isinstance(text := os.fspath(path), str):
        raise TypeError(f"path must be the path of a directory, as text, not {path!r}")
    if not text or "\0" in text:
        raise ValueError(f"path must be the path of a directory, not {path!r}")
    return os.path.abspath(text)
