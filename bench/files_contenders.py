"""Caches in the files of a host, ours and others': how each is opened, and called.

All are as they are without options, but for their size: ``tiered`` pickles and signs with a plain
digest, ``diskcache`` keeps what is small in SQLite, ``dogpile.cache`` opens its dbm file for each
call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from bench.loops import TTL, Loop, one_argument
from bench.peers import peer
from bench.stampede_contenders import Call, Create
from bench.timing import Contender
from tiered import FilesCacheClient, cached

__all__ = [
    "DBM",
    "DISKCACHE",
    "FANOUT",
    "KEYS",
    "OURS",
    "Kind",
    "crowd",
    "dbm_module",
    "filled",
    "getters",
    "kinds",
    "name",
    "new_key_putters",
    "putters",
    "shared_kinds",
]

OURS = "tiered files"
DISKCACHE = "diskcache"
FANOUT = "diskcache FanoutCache"
DBM = "dogpile.cache dbm"

KEYS = 10_000
SIZE = 2_000_000_000
KILOBYTE = os.urandom(1000)
_DUMB = 10_000
"""Times that ``dbm.dumb``, which reads and writes all keys for each call, is slower."""

_numbers = count()


@dataclass(frozen=True)
class Kind:
    """A kind of cache.

    Attributes:
        open: the one in a directory, which may hold so many bytes.
        put: the name of its method; *putting* is the loop for it.
        put_many: puts a kilobyte for each of many keys, where that is faster by far.
        bounded: whether it evicts.
        slower: as in a contender.
    """

    open: Callable[[Path, int], Any]
    put: str
    putting: Loop
    putting_new: Loop
    put_many: Callable[[Any, list[str]], Any] | None = None
    bounded: bool = True
    slower: int = 1

    def fill(self, cache: Any) -> None:
        """Put all keys into an open cache."""
        keys = [name(number) for number in range(KEYS)]
        if self.put_many is None:
            self.putting(getattr(cache, self.put), keys)
        else:
            self.put_many(cache, keys)
        assert cache.get(keys[0]) == KILOBYTE


def name(number: int) -> str:
    """A key as applications have them; a new object each time."""
    return f"user:{number}"


# -- Loops -----------------------------------------------------------------------------


def putting_with_ttl(put: Any, keys: Sequence[Any]) -> None:
    """``put(key, value, seconds)``."""
    for key in keys:
        put(key, KILOBYTE, TTL)


def putting(put: Any, keys: Sequence[Any]) -> None:
    """``put(key, value)``."""
    for key in keys:
        put(key, KILOBYTE)


def putting_new_with_ttl(put: Any, keys: Sequence[Any]) -> None:
    """The same with as many keys that were never there."""
    putting_with_ttl(put, _new_keys(len(keys)))


def putting_new(put: Any, keys: Sequence[Any]) -> None:
    """The same."""
    putting(put, _new_keys(len(keys)))


def _new_keys(number: int) -> list[str]:
    return [f"new:{next(_numbers)}" for _ in range(number)]


# -- Kinds -----------------------------------------------------------------------------


def kinds() -> dict[str, Kind]:
    """All that are installed, by name; they can be opened in any process."""
    with_ttl = "put", putting_with_ttl, putting_new_with_ttl
    found = {OURS: Kind(lambda path, size: FilesCacheClient(size, path), *with_ttl)}
    if diskcache := peer("diskcache"):
        found[DISKCACHE] = Kind(
            lambda path, size: diskcache.Cache(str(path), size_limit=size),
            "set",
            *with_ttl[1:],
            slower=4,
        )
    if dogpile := peer("dogpile.cache"):
        found[DBM] = Kind(
            lambda path, size: _region(dogpile, path),
            "set",
            putting,
            putting_new,
            _set_multi,
            bounded=False,
            slower=20 if dbm_module() != "dbm.dumb" else _DUMB,
        )
    return found


def shared_kinds() -> dict[str, Kind]:
    """The same, and what is made for many writers."""
    found = kinds()
    if diskcache := peer("diskcache"):
        found[FANOUT] = Kind(
            lambda path, size: diskcache.FanoutCache(str(path), shards=8, size_limit=size),
            "set",
            putting_with_ttl,
            putting_new_with_ttl,
        )
    return found


def dbm_module() -> str:
    """Which of Python's modules opens new dbm files here."""
    return next(
        (one for one, c in (("dbm.gnu", "_gdbm"), ("dbm.ndbm", "_dbm")) if find_spec(c)), "dbm.dumb"
    )


def _set_multi(region: Any, keys: list[str]) -> None:
    region.set_multi(dict.fromkeys(keys, KILOBYTE))


def _region(dogpile: Any, path: Path) -> Any:
    path.mkdir(parents=True, exist_ok=True)
    filename = str(path / "values.dbm")
    return dogpile.make_region().configure(
        "dogpile.cache.dbm", TTL, arguments={"filename": filename}
    )


def filled(kind: Kind, path: Path) -> Any:
    """An open cache with a kilobyte for each key."""
    cache = kind.open(path, SIZE)
    kind.fill(cache)
    return cache


# -- Contenders ------------------------------------------------------------------------


def _named(label: str, path: Path) -> Path:
    return path / label.replace(" ", "-")


def getters(path: Path) -> list[Contender]:
    """``get`` of each, from a cache with all keys."""
    return [
        Contender(label, filled(kind, _named(label, path)).get, one_argument, kind.slower)
        for label, kind in kinds().items()
    ]


def putters(path: Path) -> list[Contender]:
    """``put`` of each, into a cache that has all keys."""
    return [
        Contender(
            label,
            getattr(filled(kind, _named(label, path)), kind.put),
            kind.putting,
            kind.slower,
        )
        for label, kind in kinds().items()
    ]


def new_key_putters(path: Path, size: int = SIZE) -> list[Contender]:
    """``put`` of keys that were never there; those that are full evict, and only those run then."""
    found = []
    for label, kind in kinds().items():
        if size == SIZE or kind.bounded:
            cache = kind.open(_named(label, path), size)
            put = getattr(cache, kind.put)
            if size != SIZE:
                kind.putting_new(put, range(size // len(KILOBYTE)))
            found.append(Contender(label, put, kind.putting_new, kind.slower))
    return found


def crowd(create: Create, path: str) -> dict[str, Call]:
    """Functions whose calls are computed once, as each has it, by name."""
    ours = FilesCacheClient(SIZE, Path(path, "ours"))
    found: dict[str, Call] = {
        f"{OURS}, @cached": cached(ours, 3600, namespace="crowd")(create),
    }
    if diskcache := peer("diskcache"):
        theirs = diskcache.Cache(str(Path(path, "theirs")))
        memoized = diskcache.memoize_stampede(theirs, 3600, name="crowd")
        found["diskcache memoize_stampede"] = memoized(_plain(create))
        found["diskcache barrier"] = _behind_a_barrier(diskcache, theirs, create)
    dogpile = peer("dogpile.cache")
    # Threads that parse the files of the other one at a time crash Python 3.11.
    if dogpile and dbm_module() != "dbm.dumb":
        region = _region(dogpile, Path(path, "dbm"))
        found[DBM] = lambda key: region.get_or_create(str(key), create, creator_args=((key,), {}))
    return found


def _plain(create: Create) -> Call:
    def by_key(key: int) -> Any:
        return create(key)

    return by_key


def _behind_a_barrier(diskcache: Any, cache: Any, create: Create) -> Call:
    """One lock around the function, and within it a look whether another one has computed."""

    def compute(key: int) -> Any:
        found = cache.get(("barrier", key))
        if found is None:
            found = create(key)
            cache.set(("barrier", key), found, 3600)
        return found

    locked = diskcache.barrier(cache, diskcache.Lock, name="crowd")(compute)

    def by_key(key: int) -> Any:
        found = cache.get(("barrier", key))
        return locked(key) if found is None else found

    return by_key
