"""The pool of connections: bounded, the warmest first, anew after a fork, given back at the end."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from tests.fakes import Held, together
from tiered.clients.memcached.pool import ConnectionPool
from tiered.clients.memcached.transport import Connection
from tiered.errors import PoolTimeout
from tiered.routing.addresses import Address


class Idle(Connection):
    """A connection that goes nowhere and says whether it was closed."""

    def __init__(self) -> None:
        super().__init__(Address("127.0.0.1", 1), connect_timeout=1, timeout=1)
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


def test_connections_are_made_on_demand_and_used_again() -> None:
    made = Made()
    pool = pool_of(3, made)
    assert not made.all
    for _ in range(5):
        with pool.connection() as connection:
            assert connection is made.all[0]
    with pool.connection(), pool.connection():
        assert len(made.all) == 2


def test_the_connection_used_last_is_used_next() -> None:
    made = Made()
    pool = pool_of(3, made)
    with pool.connection() as first, pool.connection() as second:
        pass
    # The inner block ended first.
    with pool.connection() as warmest, pool.connection() as next_one:
        assert (warmest, next_one) == (first, second)


def test_a_full_pool_refuses_after_its_patience_and_says_how_full() -> None:
    pool = pool_of(2, Made(), patience=0.001)
    with (
        pool.connection(),
        pool.connection(),
        pytest.raises(PoolTimeout, match=r"all 2 connections were in use for 0\.001 s"),
        pool.connection(),
    ):
        pass
    with pool.connection(), pool.connection():
        pass


def test_who_waits_gets_the_first_connection_that_comes_free() -> None:
    made, held = Made(), Held()
    pool = pool_of(1, made, patience=20)

    def hold() -> None:
        with pool.connection():
            held()

    def wait() -> None:
        held.go.set()
        with pool.connection() as connection:
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
        with pytest.raises(error), pool.connection():
            raise error
    with pool.connection() as connection:
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
        with pytest.raises(error), pool.connection():
            pass
    with pool.connection():
        pass


def test_no_more_than_the_size_are_ever_in_use() -> None:
    made = Made()
    pool = pool_of(4, made, patience=30)
    lock, now, most = threading.Lock(), 0, 0

    def use(_number: int) -> None:
        nonlocal now, most
        for _ in range(20):
            with pool.connection():
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
    with pool.connection(), pool.connection():
        pass
    pool.close()
    pool.close()
    assert [connection.closed for connection in made.all] == [1, 1]
    with pool.connection():
        assert len(made.all) == 3


def test_a_dropped_pool_closes_what_is_idle() -> None:
    made = Made()
    pool = pool_of(3, made)
    with pool.connection():
        pass
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    assert made.all[0].closed == 1


def test_a_child_uses_none_of_its_parents_connections() -> None:
    made = Made()
    pool = pool_of(2, made)
    with pool.connection(), pool.connection():
        pass
    pool.after_fork()
    assert [connection.closed for connection in made.all] == [1, 1]
    with pool.connection(), pool.connection():
        assert len(made.all) == 4


def test_a_child_has_all_places_whatever_the_parents_threads_hold() -> None:
    made, held = Made(), Held()
    pool = pool_of(1, made)
    places: list[Any] = []

    def hold() -> None:
        with pool.connection():
            held()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.started.wait(10)
    places.append(pool._places)
    pool.after_fork()  # as in a child; the thread is only there to hold the place
    with pool.connection() as connection:
        assert connection is made.all[1]
    held.go.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_block_that_forks_does_not_hand_the_parents_connection_on() -> None:
    made = Made()
    pool = pool_of(1, made)
    with pool.connection() as before:
        pool.after_fork()
    assert made.all[0].closed == 1
    with pool.connection() as after:
        assert after is not before
