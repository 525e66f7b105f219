"""What may be found under each key, by what was written, and every way of using a client."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tiered.clients.base import CacheClient

__all__ = ["ACTS", "Act", "Ledger"]

TTL: Final = 100_000.0

Value = tuple[str, int]
"""The key that it belongs to, and its version."""


class Ledger:
    """Uses one client, and knows what it may find: no other key's value, and none that is gone.

    A write that is said to have been made is the only one that may be found; one that is not
    may be found or not, as nobody knows how far it got. What was deleted is gone, also where
    the delete could not be made at once: the client has to remember that.

    Args:
        client: the one that is used.
        late: whether the server may carry out writes long after they were given up, as one
            does that was stopped and has them in its buffers.
    """

    def __init__(self, client: CacheClient, *, late: bool = False) -> None:
        self.client = client
        self._late = late
        self._given_up: dict[str, set[Value]] = {}
        self._versions = itertools.count(1)
        self._allowed: dict[str, set[Value]] = {}
        self._outdated: dict[str, set[Value]] = {}

    def next(self, key: str) -> Value:
        """A value that was never written."""
        return key, next(self._versions)

    def wrote(self, key: str, value: Value, done: object) -> None:
        """*value* was to be written."""
        assert done in (True, False)
        if done:
            self._outdated[key] = set()
            self._allowed[key] = {value} | self._given_up.get(key, set())
            return
        self._allowed[key] = self._allowed.get(key, set()) | {value}
        if self._late:
            self._given_up.setdefault(key, set()).add(value)

    def deleted(self, key: str) -> None:
        """It was deleted, or was to be."""
        self._allowed[key] = set(self._given_up.get(key, ()))
        self._outdated[key] = set()

    def expired(self, key: str, done: object) -> None:
        """It was to be made stale."""
        assert done in (True, False)
        if done:
            self._outdated[key] = self._allowed[key]
            self._allowed[key] = set(self._given_up.get(key, ()))

    def found(self, key: str, value: Any) -> None:
        """A read gave *value*; ``None`` is a miss."""
        assert value is None or value in self._allowed.get(key, set()), (
            f"{value!r} was found for {key!r}, where {self._allowed.get(key)} may be"
        )

    def found_ttl(self, key: str, value: Any, ttl: float) -> None:
        """A read gave *value* with *ttl* seconds left."""
        assert ttl <= TTL + 1, f"{key!r} has {ttl} s left"
        if ttl <= 0 and value in self._outdated.get(key, set()):
            return
        self.found(key, value)

    def said(self, key: str, there: bool) -> bool:
        """*key* was said to be there, or not to be; the same."""
        assert not there or self._allowed.get(key), f"{key!r} is said to be there"
        return there

    def check(self, client: CacheClient) -> None:
        """Read every key with *client*, in all ways."""
        for key in self._allowed:
            self.found(key, client.get(key, None))
            self.found_ttl(key, *client.get_ttl(key, None))
            self.said(key, client.contains(key))
        values = client.get_multi(self._allowed, None)
        for key in self._allowed:
            self.found(key, values[key])

    def put(self, key: str) -> bool:
        """Write a new value."""
        value = self.next(key)
        done = self.client.put(key, value, TTL)
        self.wrote(key, value, done)
        return done


class Act(NamedTuple):
    """A way of using a client.

    Attributes:
        run: uses the client of a ledger with two keys, and returns what came of it.
        done: that, where nothing goes wrong. The first key is there, the second is not.
        reads: how many keys are read.
    """

    run: Callable[[Ledger, str, str], Any]
    done: Any
    reads: int = 0


def _get(ledger: Ledger, key: str, free: str) -> bool:
    value = ledger.client.get(key, None)
    ledger.found(key, value)
    return value is not None


def _get_ttl(ledger: Ledger, key: str, free: str) -> bool:
    value, ttl = ledger.client.get_ttl(key, None)
    ledger.found_ttl(key, value, ttl)
    return value is not None


def _get_multi(ledger: Ledger, key: str, free: str) -> list[bool]:
    values = ledger.client.get_multi([key, free, f"{key}/2"], None)
    assert list(values) == [key, free, f"{key}/2"]
    for one, value in values.items():
        ledger.found(str(one), value)
    return [value is not None for value in values.values()]


def _contains(ledger: Ledger, key: str, free: str) -> bool:
    ledger.said(free, ledger.client.contains(free))
    return ledger.said(key, ledger.client.contains(key))


def _put(ledger: Ledger, key: str, free: str) -> bool:
    return ledger.put(key)


def _put_multi(ledger: Ledger, key: str, free: str) -> list[bool]:
    values = {one: ledger.next(one) for one in (key, free, f"{key}/2")}
    written = ledger.client.put_multi(values, TTL)
    assert list(written) == list(values)
    for one, value in values.items():
        ledger.wrote(one, value, written[one])
    return list(written.values())


def _delete(ledger: Ledger, key: str, free: str) -> bool:
    ledger.deleted(key)
    return ledger.client.delete(key)


def _delete_multi(ledger: Ledger, key: str, free: str) -> list[bool]:
    keys = [key, free, f"{key}/2"]
    for one in keys:
        ledger.deleted(one)
    return list(ledger.client.delete_multi(keys).values())


def _add(ledger: Ledger, key: str, free: str) -> bool:
    value = ledger.next(free)
    done = ledger.client.add(free, value, TTL)
    ledger.wrote(free, value, done)
    return done


def _add_in_vain(ledger: Ledger, key: str, free: str) -> bool:
    value, failures = ledger.next(key), ledger.client.stats.errors
    done = ledger.client.add(key, value, TTL)
    if done or ledger.client.stats.errors != failures:
        # What was there could not be read, or was lost.
        ledger.wrote(key, value, done)
    return done


def _renew(ledger: Ledger, key: str, free: str) -> bool:
    ledger.said(free, ledger.client.renew(free, TTL + 1))
    return ledger.said(key, ledger.client.renew(key, TTL + 1))


def _expire(ledger: Ledger, key: str, free: str) -> bool:
    done = ledger.client.expire(key)
    ledger.expired(key, done)
    return done


def _fill(ledger: Ledger, key: str, free: str) -> bool | None:
    claim = ledger.client.claim(free, 60)
    if claim is None:
        return None
    value = ledger.next(free)
    done = claim.fill(value, TTL)
    ledger.wrote(free, value, done)
    assert claim.released
    return done


def _release(ledger: Ledger, key: str, free: str) -> bool | None:
    claim = ledger.client.claim(free, 60)
    return None if claim is None else claim.release()


ACTS: Final = {
    "get": Act(_get, True, reads=1),
    "get_ttl": Act(_get_ttl, True, reads=1),
    "get_multi": Act(_get_multi, [True, False, True], reads=3),
    "contains": Act(_contains, True),
    "put": Act(_put, True),
    "put_multi": Act(_put_multi, [True, True, True]),
    "delete": Act(_delete, True),
    "delete_multi": Act(_delete_multi, [True, False, True]),
    "add": Act(_add, True),
    "add in vain": Act(_add_in_vain, False),
    "renew": Act(_renew, True),
    "expire": Act(_expire, True),
    "claim and fill": Act(_fill, True),
    "claim and release": Act(_release, True),
}
