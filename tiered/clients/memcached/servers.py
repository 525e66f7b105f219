"""Asking the servers: routing, failover, and many at once.

A failure of a server is an answer here, not an exception: callers get the fallback that
they named, and the failure is counted and logged once per interval.

While a key's home is not up, the next server on the ring stands in, for values of a short
life only. So that neither serves what a delete was to remove: a delete goes to both; who
cannot be told is *owed* the delete, and told before it serves again; and a write to the
stand-in is owed to the home as a delete. Processes may differ in whom they hold for dead;
that is why deletes go to both always, and even to a dead home if it refuses quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final, TypeAlias, TypeVar

from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.fleet import Fleet
from tiered.clients.memcached.replies import Written
from tiered.clients.memcached.server import Server, deleting
from tiered.clients.memcached.stream import Patience
from tiered.errors import (
    BackendError,
    DiscoveryError,
    NoServersError,
    PoolTimeout,
    ServerRefusal,
)
from tiered.stats.counters import Counters
from tiered.stats.reports import Reports

__all__ = ["Servers", "owe"]

T = TypeVar("T")
Exchange = Callable[[Connection], T]
Turns = Callable[[Connection], Generator[None, None, T]]


class Servers:
    """The servers of one client.

    Args:
        fleet: who they are.
        strict: raise ``NoServersError`` instead of answering with the fallback.
        counters: where failures are counted.
        reports: where they are told.

    Threads: safe.
    """

    def __init__(self, fleet: Fleet, *, strict: bool, counters: Counters, reports: Reports) -> None:
        self.fleet: Final = fleet
        self._strict = strict
        self.counters: Final = counters
        self._reports = reports

    # -- One key -----------------------------------------------------------------

    def read(self, key: bytes, exchange: Exchange[T | None]) -> T | None:
        """What *exchange* finds on the server of *key*; ``None`` if no server answers."""
        reached = self._reach(key, lambda connection, away: exchange(connection))
        if reached is None:
            return None
        server, _, found = reached
        if found is None:
            server.misses += 1
        else:
            server.hits += 1
        return found

    def write(self, key: bytes, exchange: Callable[[Connection, bool], T], fallback: T) -> T:
        """What ``exchange(connection, away)`` comes to; *away* says that it is not the home.

        Raises:
            ValueTooLarge: the server refused the size of a value.
        """
        reached = self._reach(key, exchange, writes=True)
        return fallback if reached is None else reached[2]

    def locate(self, key: bytes, exchange: Exchange[T]) -> tuple[Server, Server | None, T] | None:
        """Who answers for *key*, for whom it stands in if it is not the home, and the answer."""
        return self._reach(key, lambda connection, away: exchange(connection))

    def inspect(self, key: bytes, exchange: Exchange[T]) -> tuple[Server, Server | None, T] | None:
        """The same; a strict client, too, is told by ``None`` that nobody answers."""
        try:
            return self.locate(key, exchange)
        except NoServersError:
            return None

    def reserve(self, key: bytes, exchange: Exchange[T]) -> tuple[Server, Server | None, T] | None:
        """The same for an *exchange* that may leave a stub under *key*."""
        return self._reach(key, lambda connection, away: exchange(connection), reserves=True)

    def on(self, server: Server, exchange: Exchange[T], fallback: T, *, quietly: bool = False) -> T:
        """What *exchange* comes to on just that *server*; *quietly* raises nothing, ever."""
        try:
            if server.up or server.ready():
                return server.ask(exchange)
            error: BackendError = _left_alone(server)
        except BackendError as caught:
            error = caught
        return self._failed(server, error, fallback, quietly=quietly)

    def _reach(
        self,
        key: bytes,
        exchange: Callable[[Connection, bool], T],
        *,
        writes: bool = False,
        reserves: bool = False,
    ) -> tuple[Server, Server | None, T] | None:
        try:
            home, spare = self.fleet.ring().pair(key)
        except DiscoveryError as error:
            return self._failed(None, error, None)
        server: Server | None = home
        failure: BackendError | None = None
        while server is not None:
            away = server is not home
            try:
                if server.up or server.ready():
                    answer = server.ask(_bound(exchange, away))
                    return server, home if away else None, answer
            except (PoolTimeout, ServerRefusal) as error:
                return self._failed(server, error, None)
            except BackendError as error:
                self._report(server, error)
                failure = error
                if reserves:
                    server.suspect(key)
            if writes:
                # Whatever it holds is out of date now; also if it wrote before it failed.
                owe(server, key)
            server = None if away else spare
        return self._failed(None, failure or _left_alone(home), None)

    # -- Many keys ---------------------------------------------------------------

    def read_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The data under those of *keys* that are there, each server asked once."""
        found: dict[bytes, bytes] = {}

        def read(
            connection: Connection, part: Sequence[bytes], away: bool
        ) -> Generator[None, None, None]:
            items = yield from connection.dialect.get_many(connection.stream, part)
            found.update(items)

        for server, asked in self._spread(keys, read):
            there = sum(map(found.__contains__, asked))
            server.hits += there
            server.misses += len(asked) - there
        return found

    def write_many(
        self,
        items: Mapping[bytes, bytes],
        life: Callable[[Connection, bool], int],
        away_data: Callable[[bytes], bytes] | None = None,
    ) -> dict[bytes, Written]:
        """Write *items*; what became of those whose server answered.

        Args:
            life: ``life(connection, away)`` gives the seconds that a server is told.
            away_data: gives the data for a server that is not the key's home, where that
                is another.
        """
        written: dict[bytes, Written] = {}

        def write(
            connection: Connection, part: Sequence[bytes], away: bool
        ) -> Generator[None, None, None]:
            data_of = away_data if away and away_data is not None else items.__getitem__
            pairs = [(key, data_of(key)) for key in part]
            seconds = life(connection, away)
            done = yield from connection.dialect.set_many(connection.stream, pairs, seconds)
            written.update(zip(part, done, strict=True))

        self._spread(list(items), write, writes=True)
        return written

    def forget_away(self, key: bytes) -> None:
        """Delete *key* on the server that would stand in for its home."""
        try:
            _, spare = self.fleet.ring().pair(key)
        except DiscoveryError:
            return  # who asked for it has been told
        if spare is not None and self.on(spare, _removal(key), None, quietly=True) is None:
            owe(spare, key)

    def delete_many(self, keys: Iterable[bytes]) -> dict[bytes, bool]:
        """Delete *keys* wherever they may be; which were there."""
        gone = dict.fromkeys(keys, False)
        try:
            ring = self.fleet.ring()
            places = {key: ring.pair(key) for key in gone}
        except DiscoveryError as error:
            self.fleet.missed()
            self._failed(None, error, None)
            return gone
        parts: dict[Server, list[bytes]] = {}
        for key, (home, spare) in places.items():
            parts.setdefault(home, []).append(key)
            if spare is not None:
                parts.setdefault(spare, []).append(key)
        # Noted first: then a refusal to connect, if that is how the attempt to get it back ends,
        # proves that the server was gone when it was to be told.
        noted = {
            server: all(server.owe(key) for key in part)
            for server, part in parts.items()
            if not server.up
        }
        ready = {server: self._is_ready(server, at_once=True) for server in parts}
        failures = {server: _left_alone(server) for server in parts if not ready[server]}
        asked = {server: part for server, part in parts.items() if ready[server]}
        deleted, failed = self._together({server: deleting(part) for server, part in asked.items()})
        for server, answers in deleted.items():
            for key, was_there in zip(asked[server], answers, strict=True):
                gone[key] |= was_there
        for server, trouble in failed.items():
            _owe_all(server, parts[server])
            self._report(server, trouble)
            # It may only have been restarted, and be there again: then it is told now.
            if not self._is_ready(server, at_once=True):
                failures[server] = trouble
        for server in failures.keys() - failed.keys():
            if not noted.get(server):
                _owe_all(server, parts[server])
        homes = {home for home, _ in places.values()}
        # Told in the end, or owed: it has failed once in any case.
        self.counters.errors += len(homes & failed.keys() - failures.keys())
        for server in homes & failures.keys():
            self._failed(None, failures[server], None)
        return gone

    def _spread(
        self,
        keys: Sequence[bytes],
        talk: Callable[[Connection, Sequence[bytes], bool], Generator[None, None, None]],
        *,
        writes: bool = False,
    ) -> list[tuple[Server, list[bytes]]]:
        """Talk to the servers of *keys* at once; who answered, and about which.

        The keys of a server that fails are given to their stand-ins, once.
        """
        answered: list[tuple[Server, list[bytes]]] = []
        left: Sequence[bytes] = keys
        failure: BackendError | None = None
        for _ in range(2):
            try:
                parts, deserted = self._parted(left, writes=writes)
            except DiscoveryError as error:
                self._failed(None, error, None)
                return answered
            turns = {server: _talking(talk, part) for server, part in parts.items()}
            done, failures = self._together(turns)
            asked = {server: [*part[False], *part[True]] for server, part in parts.items()}
            answered += [(server, asked[server]) for server in done]
            left = []
            for server in [*failures]:
                if not isinstance(failures[server], PoolTimeout | ServerRefusal):
                    failure = failures.pop(server)
                    self._report(server, failure)
                    left += asked[server]
                    if writes:
                        # Also if it wrote before it failed: see _reach.
                        _owe_all(server, asked[server])
            for server, trouble in failures.items():
                self._failed(server, trouble, None)
            if deserted is not None:
                self._failed(None, failure or _left_alone(deserted), None)
            if not left:
                break
        else:
            assert failure is not None
            self._failed(None, failure, None)
        return answered

    def _parted(
        self, keys: Sequence[bytes], *, writes: bool
    ) -> tuple[dict[Server, _Part], Server | None]:
        """*keys* by who can be asked, at home and away; and a home that nobody stands in for."""
        ring = self.fleet.ring()
        if ring.only is not None and self._is_ready(ring.only):
            return {ring.only: (list(keys), [])}, None
        parts: dict[Server, _Part] = {}
        deserted: Server | None = None
        ready: dict[Server, bool] = {}
        for key in keys:
            home, spare = ring.pair(key)
            if home not in ready:
                ready[home] = self._is_ready(home)
            if ready[home]:
                if home not in parts:
                    parts[home] = [], []
                parts[home][False].append(key)
                continue
            if writes:
                owe(home, key)
            if spare is not None and spare not in ready:
                ready[spare] = self._is_ready(spare)
            if spare is not None and ready[spare]:
                parts.setdefault(spare, ([], []))[True].append(key)
                continue
            deserted = home
            if writes and spare is not None:
                owe(spare, key)
        return parts, deserted

    def _together(
        self, turns: Mapping[Server, Turns[T]]
    ) -> tuple[dict[Server, T], dict[Server, BackendError]]:
        """Have all conversations at once: every question is sent before an answer is read."""
        answers: dict[Server, T] = {}
        failures: dict[Server, BackendError] = {}
        if len(turns) == 1:  # the usual case, without what it takes to wait for many
            [(server, turn)] = turns.items()
            try:
                answers[server] = _finished(server.converse(turn))
            except BackendError as error:
                failures[server] = error
            return answers, failures
        patience = Patience()
        with ExitStack() as ends:
            # In one order for all threads: each takes a connection and waits for the next.
            running = []
            for server in sorted(turns, key=lambda server: str(server.address)):
                talk = server.converse(turns[server], patience)
                ends.callback(talk.close)
                running.append((server, talk))
            while running:
                going_on = []
                patience.exhausted = False
                for server, talk in running:
                    try:
                        next(talk)
                    except StopIteration as end:
                        answers[server] = end.value
                    except BackendError as error:
                        failures[server] = error
                        # The others have had the same time to answer.
                        patience.exhausted |= isinstance(error.__cause__, TimeoutError)
                    else:
                        going_on.append((server, talk))
                running = going_on
        return answers, failures

    # -- All servers -------------------------------------------------------------

    def each(self, exchange: Exchange[T], fallback: T) -> dict[str, T]:
        """*exchange* with every server, by address."""
        try:
            servers = self.fleet.servers
        except DiscoveryError as error:
            self._failed(None, error, None)
            return {}
        return {str(one.address): self.on(one, exchange, fallback, quietly=True) for one in servers}

    def close(self) -> None:
        """Close idle connections; who is owed deletes, and there again, is told of them first."""
        for server in self.fleet.known:
            if len(server.journal) and not self._is_ready(server, at_once=True):
                self._reports.warn(
                    ("owed", server.address),
                    "memcached: closed while %s was still to be told of %d deletes",
                    server.address,
                    len(server.journal),
                )
            server.pool.close()

    def trusts(self, key: bytes, created: float) -> bool:
        """Whether what was *created* (wall time) under *key* is to be believed."""
        return not self.fleet.doubts or self.fleet.trusts(key, created)

    # -- Failures ----------------------------------------------------------------

    def _is_ready(self, server: Server, *, at_once: bool = False) -> bool:
        try:
            return server.ready(at_once=at_once)
        except BackendError as error:
            self._report(server, error)
            return False

    def _failed(
        self, server: Server | None, error: BackendError, fallback: T, *, quietly: bool = False
    ) -> T:
        if server is not None:
            self._report(server, error)
        self.counters.errors += 1
        if self._strict and not quietly:
            raise NoServersError(str(error)) from error
        return fallback

    def _report(self, server: Server, error: BackendError) -> None:
        self._reports.warn(server.address, "memcached: %s", error)


_Part: TypeAlias = tuple[list[bytes], list[bytes]]
"""The keys that a server is asked for as their home, and as a stand-in."""


def _talking(
    talk: Callable[[Connection, Sequence[bytes], bool], Generator[None, None, None]], part: _Part
) -> Turns[None]:
    def turns(connection: Connection) -> Generator[None, None, None]:
        for away in (False, True):
            if part[away]:
                yield from talk(connection, part[away], away)

    return turns


def _finished(talk: Generator[None, None, T]) -> T:
    """What *talk* returns in the end."""
    while True:
        try:
            next(talk)
        except StopIteration as end:
            answer: T = end.value
            return answer


def _removal(key: bytes) -> Exchange[bool | None]:
    return lambda connection: connection.dialect.delete(connection.stream, key)


def _bound(exchange: Callable[[Connection, bool], T], away: bool) -> Exchange[T]:
    return lambda connection: exchange(connection, away)


def owe(server: Server, key: bytes) -> None:
    """See to it that *server* deletes *key* before it serves again."""
    # It is up if it came back in this very moment, or was only too busy to be told.
    if not server.owe(key):
        server.suspend(key)


def _owe_all(server: Server, keys: Iterable[bytes]) -> None:
    for key in keys:
        owe(server, key)


def _left_alone(server: Server) -> BackendError:
    return NoServersError(f"{server.address} failed a moment ago and is left alone")
