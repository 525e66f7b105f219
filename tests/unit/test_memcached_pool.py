"""The pool of connections: bounded, the warmest first, anew after a fork, given back at the end."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes import Held, together
from tiered.clients.memcached.connection import Connection
from tiered.clients.memcached.dial import Terms
from tiered.clients.memcached.pool import ConnectionPool
from tiered.clients.memcached.probe import Knowledge
from tiered.clients.memcached.stream import Traffic
from tiered.errors import PoolTimeout
from tiered.routing.addresses import Address


class Idle(Connection):
    """A connection that goes nowhere and says whether it was closed."""

    def __init__(self) -> None:
        super().__init__(Address("127.0.0.1", 1), Terms(1, 1), Traffic(), Knowledge())
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Made:
    """Makes connections and remembers them."""

    def __init__(self) -> None:
        self.all: list[Idle] = []

    def __call__(self) -> Connection:
        self.all.append(Idle())
        return self.all[-1]


def pool_of(size: int, made: Made, patience: float = 0.001) -> ConnectionPool:
    return ConnectionPool(made, size=size, patience=patience)


@contextmanager
def using(pool: ConnectionPool) -> Iterator[Connection]:
    """As servers use a pool."""
    connection = pool.take()
    try:
        yield connection
    finally:
        pool.give(connection)


def test_connections_are_made_on_demand_and_used_again() -> None:
    made = Made()
    pool = pool_of(3, made)
    assert not made.all
    for _ in range(5):
        with using(pool) as connection:
            assert connection is made.all[0]
    with using(pool), using(pool):
        assert len(made.all) == 2


def test_the_connection_used_last_is_used_next() -> None:
    made = Made()
    pool = pool_of(3, made)
    with using(pool) as first, using(pool) as second:
        pass
    # The inner block ended first.
    with using(pool) as warmest, using(pool) as next_one:
        assert (warmest, next_one) == (first, second)


def test_a_full_pool_refuses_after_its_patience_and_says_how_full() -> None:
    pool = pool_of(2, Made(), patience=0.001)
    with (
        using(pool),
        using(pool),
        pytest.raises(PoolTimeout, match=r"all 2 connections were in use for 0\.001 s"),
        using(pool),
    ):
        pass
    with using(pool), using(pool):
        pass


def test_who_waits_gets_the_first_connection_that_comes_free() -> None:
    made, held = Made(), Held()
    pool = pool_of(1, made, patience=20)

    def hold() -> None:
        with using(pool):
            held()

    def wait() -> None:
        held.go.set()
        with using(pool) as connection:
            assert connection is made.all[0]

    threads = [threading.Thread(target=hold), threading.Thread(target=wait)]
    threads[0].start()
    assert held.started.wait(10)
    threads[1].start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(made.all) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_a_block_that_fails_gives_its_place_and_its_connection_back(
    error: type[BaseException],
) -> None:
    made = Made()
    pool = pool_of(1, made)
    for _ in range(3):
        with pytest.raises(error), using(pool):
            raise error
    with using(pool) as connection:
        assert connection is made.all[0]
    assert len(made.all) == 1


def test_a_connection_that_cannot_be_made_gives_its_place_back() -> None:
    failures = [OSError("no more sockets"), KeyboardInterrupt()]
    made = Made()

    def connect() -> Connection:
        if failures:
            raise failures.pop(0)
        return made()

    pool = ConnectionPool(connect, size=1, patience=0.001)
    for error in (OSError, KeyboardInterrupt):
        with pytest.raises(error), using(pool):
            pass
    with using(pool):
        pass


def test_no_more_than_the_size_are_ever_in_use() -> None:
    made = Made()
    pool = pool_of(4, made, patience=30)
    lock, now, most = threading.Lock(), 0, 0

    def use(_number: int) -> None:
        nonlocal now, most
        for _ in range(20):
            with using(pool):
                with lock:
                    now += 1
                    most = max(most, now)
                with lock:
                    now -= 1

    assert together(use, 100) == [None] * 100
    assert most <= 4
    assert len(made.all) <= 4


def test_closing_closes_what_is_idle_and_the_pool_goes_on() -> None:
    made = Made()
    pool = pool_of(3, made)
    with using(pool), using(pool):
        pass
    pool.close()
    assert [connection.closed for connection in made.all] == [1, 1]
    pool.close()
    # They are opened again on use: the places are still theirs.
    with using(pool), using(pool), using(pool):
        assert len(made.all) == 3


def test_closing_leaves_what_is_in_use_alone() -> None:
    made = Made()
    pool = pool_of(2, made)
    with using(pool), using(pool):
        pass
    with using(pool) as connection:
        pool.close()
        assert [other.closed for other in made.all if other is connection] == [0]
        assert [other.closed for other in made.all if other is not connection] == [1]


def test_a_connection_that_nobody_gives_back_gives_its_place_back_when_it_is_gone() -> None:
    made = Made()
    pool = pool_of(1, made)
    pool.take()  # an interruption came before the taker could even note it
    made.all.clear()
    gc.collect()
    with using(pool) as connection:
        assert connection is made.all[0]


def test_who_is_interrupted_while_waiting_takes_no_place_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = pool_of(1, Made(), patience=20)

    def interrupted(_left: float) -> bool:
        raise KeyboardInterrupt

    with using(pool):
        monkeypatch.setattr(pool._lock, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.take()
    assert pool._waiting == 0
    with using(pool):
        pass


def test_a_dropped_pool_closes_what_is_idle() -> None:
    made = Made()
    pool = pool_of(3, made)
    with using(pool):
        pass
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    assert made.all[0].closed == 1


def test_a_child_uses_none_of_its_parents_connections() -> None:
    made = Made()
    pool = pool_of(2, made)
    with using(pool), using(pool):
        pass
    pool.after_fork()
    assert [connection.closed for connection in made.all] == [1, 1]
    with using(pool), using(pool):
        assert len(made.all) == 4


def test_a_child_has_all_places_whatever_the_parents_threads_hold() -> None:
    made, held = Made(), Held()
    pool = pool_of(1, made)

    def hold() -> None:
        with using(pool):
            held()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.started.wait(10)
    pool.after_fork()  # as in a child; the thread is only there to hold the place
    with using(pool) as connection:
        assert connection is made.all[1]
    held.go.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_block_that_forks_does_not_hand_the_parents_connection_on() -> None:
    made = Made()
    pool = pool_of(1, made)
    with using(pool) as before:
        pool.after_fork()
    assert made.all[0].closed == 1
    with using(pool) as after:
        assert after is not before
