"""Servers that die, freeze and come back under load, and clients that are interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.fakes import together
from tests.integration.downgraded import downgraded
from tests.integration.faults import Frozen, flipped, impatient
from tests.integration.ledger import ACTS, Ledger
from tests.integration.proxy import Exchange, Proxy, honest
from tests.integration.test_fork import in_child
from tests.ports import free_port
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.memcached import MemcachedClient
from tiered.decorators import cached
from tiered.testing import ManualClock

PAUSE_IS_OVER = 20.0
PATIENCE = 20.0
TTL = 100_000.0

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(params=["modern", "text"])
def proxy(request: pytest.FixtureRequest, memcached: PrivateMemcached) -> Iterator[Proxy]:
    with downgraded(memcached.address, request.param) as proxy:
        yield proxy


def client_of(address: str, clock: ManualClock, **options: Any) -> MemcachedClient:
    return MemcachedClient(
        [address], checksum_key=SECRET, prefix=unique_prefix(), clock=clock, **options
    )


# -- Load ------------------------------------------------------------------------------


class Load:
    """Threads that use a client in every way, each with keys of its own; a context manager."""

    def __init__(self, client: MemcachedClient, threads: int, *, late: bool = False) -> None:
        self.done = [0] * threads
        self._late = late
        self._client = client
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(threads)
        ]

    def _run(self, number: int) -> None:
        # A claim that was given up may be granted late, and then ends by itself only.
        f = cached(self._client, TTL, namespace=f"load {number}", claim_ttl=1)(
            lambda x: (x, number)
        )
        ledger = Ledger(self._client, late=self._late)
        try:
            while not self._over.is_set():
                for act in ACTS.values():
                    act.run(ledger, f"{number}/held", f"{number}/free")
                ledger.check(self._client)
                ledger.deleted(f"{number}/free")
                self._client.delete(f"{number}/free")
                turn = self.done[number] % 10
                assert f(turn) == (turn, number)
                assert f.multi([turn, turn + 1])[turn + 1] == (turn + 1, number)
                self.done[number] += 1
        except BaseException as error:
            self._errors.append(error)

    def more(self, rounds: int) -> None:
        """Wait until each thread has done so many rounds more."""
        aims = [done + rounds for done in self.done]
        deadline = time.monotonic() + PATIENCE
        while any(done < aim for done, aim in zip(self.done, aims, strict=True)):
            assert not self._errors, "".join(traceback.format_exception(self._errors[0]))
            assert time.monotonic() < deadline, "a thread is stuck"
            time.sleep(0.005)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a thread is stuck"
        assert not self._errors, "".join(traceback.format_exception(self._errors[0]))


def works(client: MemcachedClient, clock: ManualClock) -> None:
    """Whether the client reaches its server again once its pause is over."""
    clock.advance(PAUSE_IS_OVER)
    client.get("the probe", None)
    assert client.put("afterwards", "there", TTL)
    assert client.get("afterwards", None) == "there"


@pytest.mark.usefixtures("memcached")  # skips where none is installed
def test_a_server_that_is_killed_and_started_again_under_load(clock: ManualClock) -> None:
    server = PrivateMemcached().start(free_port())
    try:
        with client_of(server.address, clock) as client:
            with Load(client, 6) as load:
                for _ in range(3):
                    load.more(2)
                    os.kill(server.pid, signal.SIGKILL)
                    server.stop()
                    load.more(2)
                    clock.advance(PAUSE_IS_OVER)
                    load.more(2)
                    server.start(server.port)
                    clock.advance(PAUSE_IS_OVER)
            assert client.stats.errors > 0
            works(client, clock)
    finally:
        server.stop()


@pytest.mark.usefixtures("memcached")  # skips where none is installed
def test_a_server_that_freezes_for_two_seconds_under_load(clock: ManualClock) -> None:
    server = PrivateMemcached().start()
    try:
        with client_of(server.address, clock, timeout=PATIENCE) as client:
            with impatient(client, 0.2), Load(client, 4, late=True) as load:
                load.more(2)
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    thaw = time.monotonic() + 2.0
                    while time.monotonic() < thaw:
                        load.more(1)
                        clock.advance(PAUSE_IS_OVER)
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                load.more(2)
            assert client.stats.errors > 0
            works(client, clock)
    finally:
        server.stop()


def test_a_proxy_that_flips_a_byte_of_every_answer_under_load(
    proxy: Proxy, clock: ManualClock
) -> None:
    with client_of(proxy.address, clock, timeout=PATIENCE) as client:
        with impatient(client, 2.0), Load(client, 4) as load:
            for place in (0, 5, -4):
                proxy.fault = flipped(place)
                load.more(1)
                proxy.fault = honest
                clock.advance(PAUSE_IS_OVER)
        works(client, clock)


def test_a_hundred_threads_share_four_connections(proxy: Proxy, clock: ManualClock) -> None:
    with client_of(proxy.address, clock, pool_size=4, pool_timeout=PATIENCE, timeout=5) as client:
        f = cached(client, TTL, namespace="f")(lambda x: ("computed", x))

        def use(number: int) -> Any:
            ledger = Ledger(client)
            for act in ACTS.values():
                act.run(ledger, f"{number}/held", f"{number}/free")
            ledger.check(client)
            return f(number % 7)

        assert together(use, 100) == [("computed", number % 7) for number in range(100)]
        assert client.stats.errors == 0
        assert proxy.accepted <= 4


def test_who_gets_no_connection_in_time_has_a_counted_miss(
    proxy: Proxy, clock: ManualClock
) -> None:
    with client_of(proxy.address, clock, pool_size=4, pool_timeout=0.01, timeout=20) as client:
        f = cached(client, TTL, namespace="f")(lambda x: ("computed", x))
        assert client.put("k", "there", TTL)
        frozen = proxy.fault = Frozen()
        inside = threading.Semaphore(0)

        def noted(exchange: Exchange) -> Any:
            inside.release()
            return frozen(exchange)

        proxy.fault = noted
        holders = [threading.Thread(target=lambda: client.get("k", None)) for _ in range(4)]
        for holder in holders:
            holder.start()
        for _ in holders:
            assert inside.acquire(timeout=PATIENCE)
        try:
            assert together(lambda n: f(n), 20) == [("computed", n) for n in range(20)]
            assert together(lambda n: client.get("k", "miss"), 20) == ["miss"] * 20
            assert client.stats.errors >= 40
        finally:
            proxy.fault = honest
            frozen.thaw()
            for holder in holders:
                holder.join(PATIENCE)
        assert client.get("k") == "there"  # the server is not to blame, and is asked at once
        assert proxy.accepted <= 4


def test_servers_that_refuse_connections_are_asked_for_one_now_and_then(
    proxy: Proxy, clock: ManualClock
) -> None:
    with client_of(proxy.address, clock) as client:
        assert client.put("k", "there", TTL)
        proxy.refuse()
        assert together(lambda _: client.get("k", "miss"), 20) == ["miss"] * 20
        assert client.stats.misses == 20
        proxy.listen()
        clock.advance(PAUSE_IS_OVER)
        assert client.get("k") == "there"


# -- Interruptions ---------------------------------------------------------------------


def test_a_fork_in_the_middle_of_a_pipelined_read(proxy: Proxy, clock: ManualClock) -> None:
    with client_of(proxy.address, clock, timeout=20) as client:
        values = {f"k{number}": ("value", number) for number in range(100)}
        assert all(client.put_multi(values, TTL).values())
        frozen, inside = Frozen(), threading.Event()

        def noted(exchange: Exchange) -> Any:
            inside.set()
            proxy.fault = honest  # the child's exchanges pass
            return frozen(exchange)

        proxy.fault = noted
        read: list[Any] = []
        thread = threading.Thread(target=lambda: read.append(client.get_multi(values, None)))
        thread.start()
        assert inside.wait(PATIENCE)

        def child() -> None:
            ledger = Ledger(client)
            for act in ACTS.values():
                act.run(ledger, "child's", "child's free one")
            ledger.check(client)
            assert client.get_multi(values, None) == values

        try:
            in_child(child)
        finally:
            frozen.thaw()
            thread.join(PATIENCE)
        assert read == [values]
        assert client.get_multi(values, None) == values
        assert client.stats.errors == 0


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Has a KeyboardInterrupt raised in the main thread, where it waits."""
    previous = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None
    yield lambda: signal.pthread_kill(main, signal.SIGINT)
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("name", ACTS)
def test_an_interrupt_between_question_and_answer(
    proxy: Proxy, clock: ManualClock, interrupt: Callable[[], None], name: str
) -> None:
    with client_of(proxy.address, clock, timeout=20, pool_size=1, pool_timeout=0.01) as client:
        for place in range(3):
            ledger = Ledger(client)
            key, free = f"{place}/held", f"{place}/free"
            assert ledger.put(key)
            assert ledger.put(f"{key}/2")
            frozen = Frozen()
            asked = 0

            def late(exchange: Exchange, place: int = place, frozen: Frozen = frozen) -> Any:
                nonlocal asked
                asked += 1
                if asked != place + 1:
                    return exchange.answer
                interrupt()
                return frozen(exchange)

            proxy.fault = late
            interrupted = False
            try:
                ACTS[name].run(ledger, key, free)
            except KeyboardInterrupt:
                interrupted = True
            finally:
                proxy.fault = honest
                frozen.thaw()
            assert interrupted == (asked > place)
            # Nothing is known of what was interrupted, but that no answer is taken for another.
            assert client.get("another", None) is None
            assert client.put("another", "there", TTL)
            assert client.get_multi(["another", "none"], None) == {
                "another": "there",
                "none": None,
            }
            for one in (key, free, f"{key}/2"):
                value = client.get(one, None)
                assert value is None or value[0] == one
            client.delete_multi([key, free, f"{key}/2", "another"])
            assert client.get_multi([key, free], None) == {key: None, free: None}


def test_a_task_that_is_cancelled_while_the_server_is_asked(
    proxy: Proxy, clock: ManualClock
) -> None:
    with client_of(proxy.address, clock, timeout=20) as client:
        f = cached(client, TTL, namespace="f")(lambda x: ("computed", x))
        assert f(1) == ("computed", 1)
        frozen, inside = Frozen(), threading.Event()

        def noted(exchange: Exchange) -> Any:
            inside.set()
            return frozen(exchange)

        proxy.fault = noted

        async def main() -> None:
            cancelled = asyncio.create_task(f.aio(1))
            waiting = asyncio.create_task(f.aio(1))
            assert await asyncio.to_thread(inside.wait, PATIENCE)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            proxy.fault = honest
            frozen.thaw()
            assert await waiting == ("computed", 1)
            assert await f.aio(2) == ("computed", 2)
            assert await asyncio.gather(*(f.aio(x) for x in (1, 2, 1, 2))) == [
                ("computed", x) for x in (1, 2, 1, 2)
            ]

        asyncio.run(main())
        assert f.peek(1) == ("computed", 1)
        assert client.stats.errors == 0


# -- Words that nobody asked for ------------------------------------------------------


def test_nothing_is_read_from_a_connection_that_says_something_unasked(
    proxy: Proxy, clock: ManualClock
) -> None:
    with client_of(proxy.address, clock, pool_size=1) as client:
        assert client.put("k", "there", TTL)
        assert client.get("k") == "there"
        proxy.say(proxy.exchanges[-1].answer)
        client.delete("k")
        assert client.get("k", None) is None
        clock.advance(PAUSE_IS_OVER)
        assert client.get("k", None) is None


def test_the_proxy_itself_is_transparent_and_counts(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", int(proxy.address.rpartition(":")[2])), 5) as one:
        file = one.makefile("rb")
        one.sendall(b"set transparent 0 0 5\r\n\r\nOK\n\r\nget transparent\r\nversion\r\n")
        assert file.readline() == b"STORED\r\n"
        assert file.readline() == b"VALUE transparent 0 5\r\n"
        assert file.read(7) == b"\r\nOK\n\r\n"
        assert file.readline() == b"END\r\n"
        assert file.readline().startswith(b"VERSION 1.")
        file.close()
    assert proxy.accepted == 1
    assert len(proxy.requests) == 3
