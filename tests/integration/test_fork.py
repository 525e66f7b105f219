"""Forks in the middle of things: locks held, sockets asked, values being computed."""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.fakes import Held
from tests.integration.peers import Peer, honest
from tests.integration.test_forked_children import fork
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.base import CacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.synced import ReadWriteSyncAdapter, SyncAdapter
from tiered.clients.tiered import TieredInclusiveClient
from tiered.concurrency.generations import Generations
from tiered.concurrency.pool import WorkerPool
from tiered.decorators import cached

# Python 3.12 and later warn of what is done here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

PATIENCE = 10.0
"""Seconds after which a child hangs."""


def in_child(work: Callable[[], object], patience: float = PATIENCE) -> None:
    """Run *work* in a forked child; fail if it raises there, or hangs."""
    told, tell = os.pipe()
    pid = fork()
    if not pid:
        status = 1
        try:
            # Where it hangs is more of a help than that it does. (A watchdog thread would
            # hang by itself in a child's child.)
            faulthandler.register(signal.SIGUSR2, file=tell, chain=False)
            work()
            status = 0
        except BaseException:
            os.write(tell, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(tell)
    watched = os.pidfd_open(pid)
    try:
        if not wait([watched], patience):
            os.kill(pid, signal.SIGUSR2)
            wait([watched], 0.5)  # while it writes
            os.kill(pid, signal.SIGKILL)
        _, result = os.waitpid(pid, 0)
        words = os.read(told, 100_000).decode() if wait([told], 0) else ""
    finally:
        os.close(watched)
        os.close(told)
    assert os.waitstatus_to_exitcode(result) == 0, f"in the child: {words}"


def everything(client: CacheClient) -> None:
    """Each operation on each lock, on a key that nobody else uses."""
    key = ("child", os.getpid())
    assert client.put(key, 1, 100)
    assert client.get(key) == 1
    assert not client.add(key, 2, 100)
    assert client.renew(key, 200)
    assert client.get_multi([key, "nothing"], None) == {key: 1, "nothing": None}
    assert client.expire(key)
    claim = client.claim(key)
    assert claim is not None
    assert claim.fill(3, 100)
    assert client.get(key) == 3
    assert client.delete(key)
    client.purge()
    assert client.get(key, None) is None


class Slow:
    """A key whose comparison waits in one thread, inside whatever lock it is compared in."""

    def __init__(self, held: Held) -> None:
        self.held = held

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if threading.current_thread().name == "slow":
            self.held()
        return self is other


class InTheMeantime:
    """Runs *work* in a thread, to its middle; and to its end when the block is left."""

    def __init__(self, held: Held, work: Callable[[], object]) -> None:
        self.held = held
        self.thread = threading.Thread(target=work, name="slow")

    def __enter__(self) -> None:
        self.thread.start()
        assert self.held.started.wait(10)

    def __exit__(self, *_: object) -> None:
        self.held.go.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


IN_MEMORY: dict[str, Callable[[], CacheClient]] = {
    "lru": lambda: InprocCacheClient(100),
    "lfu": lambda: InprocCacheClient(100, policy="lfu"),
    "a dict": lambda: InprocCacheClient(100, store={}),
    "synced": lambda: SyncAdapter(InprocCacheClient(100)),
    "read-write synced": lambda: ReadWriteSyncAdapter(InprocCacheClient(100)),
    "namespaced": lambda: NamespaceWrapper("ns", InprocCacheClient(100)),
    "tiers": lambda: TieredInclusiveClient(InprocCacheClient(50), InprocCacheClient(100)),
}


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_a_lock_that_a_thread_holds_is_free_in_the_child(kind: str) -> None:
    client, held = IN_MEMORY[kind](), Held()
    client.put(Slow(held), "there", 100)
    with InTheMeantime(held, lambda: client.put(Slow(held), "slow", 100)):
        in_child(lambda: everything(client))
        in_child(lambda: in_child(lambda: everything(client), PATIENCE / 2))  # and in its child
    everything(client)


def test_the_table_of_running_operations_is_empty_and_free_in_the_child() -> None:
    generations, held = Generations(), Held()

    def enter() -> None:
        with generations.reading(Slow(held)):  # compared, under the table's lock
            pass

    def child() -> None:
        assert len(generations) == 0  # none of those goes on here
        with generations.writing("k") as writer, generations.reading("k") as reader:
            writer.passed()
            assert not reader.publish(list)
        generations.passed_all()

    with generations.reading(Slow(held)), InTheMeantime(held, enter):
        in_child(child)
    assert len(generations) == 0


def test_claims_can_be_made_in_the_child_while_a_thread_makes_one() -> None:
    client, held = InprocCacheClient(100), Held()
    assert client.claim(Slow(held), 100) is not None
    assert client.claim("parent's", 100) is not None

    def child() -> None:
        everything(client)
        assert client.claim("parent's", 100) is None  # its holder may be at work

    with InTheMeantime(held, lambda: client.claim(Slow(held), 100)):
        in_child(child)
    everything(client)


def test_the_table_of_computations_is_empty_and_free_in_the_child() -> None:
    computing, held = Held(), Held()
    parent = os.getpid()

    @cached(InprocCacheClient(100), 60, namespace="f")
    def f(x: Any) -> Any:
        return computing() if os.getpid() == parent and not held.started.is_set() else "computed"

    slow = Slow(held)
    running = threading.Thread(target=lambda: f(slow))
    running.start()
    assert computing.started.wait(10)
    try:
        # Compared with the call that runs, under the table's lock.
        with InTheMeantime(held, lambda: f(Slow(held))):
            in_child(lambda: [f(1), f(slow), f(2)])
    finally:
        computing.go.set()
        running.join(10)
    assert f(slow) == "done"


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


def remote(peer: Peer, **options: Any) -> MemcachedClient:
    return MemcachedClient([peer.address], checksum_key=SECRET, timeout=20, **options)


class Stall:
    """Lets the first request that holds *what* wait for its answer, and no other."""

    def __init__(self, peer: Peer, what: bytes) -> None:
        self.held = Held()
        self.what = what
        peer.spoil = self

    def __call__(self, request: bytes, answer: bytes) -> bytes:
        if self.what in request and not self.held.started.is_set():
            self.held()
        return answer


def test_a_child_opens_sockets_of_its_own_and_the_parent_keeps_its(peer: Peer) -> None:
    with remote(peer) as client:
        client.put("k", "value", 100)
        assert peer.accepted == 1

        def child() -> None:
            for _ in range(3):
                assert client.get("k") == "value"
            client.close()  # closes its own; the parent's are not touched

        for number in range(1, 4):
            in_child(child)
            assert peer.accepted == 1 + number  # one for each child
            assert client.get("k") == "value"
            assert peer.accepted == 1 + number  # and none for the parent
        assert client.stats.errors == 0


def test_a_pool_that_is_exhausted_in_the_parent_is_whole_in_the_child(peer: Peer) -> None:
    with remote(peer, pool_size=1, pool_timeout=1) as client:
        client.put("k", "value", 100)
        stall = Stall(peer, b"s4:slow")
        with InTheMeantime(stall.held, lambda: client.get("slow", None)):
            in_child(lambda: everything(client))
            assert peer.accepted == 2
        assert client.get("k") == "value"
        assert peer.accepted == 2
        assert client.stats.errors == 0


@pytest.mark.parametrize("act", ["read", "write", "delete"])
def test_tiers_in_the_middle_of_an_operation_go_on_in_the_child(peer: Peer, act: str) -> None:
    client = TieredInclusiveClient(InprocCacheClient(100), remote(peer, pool_size=1))
    with client:
        client.put("k", "value", 100)
        client.clients[0].delete("k")
        stall = Stall(peer, b"s1:k")
        work: dict[str, Callable[[], object]] = {
            "read": lambda: client.get("k"),
            "write": lambda: client.put("k", "value", 100),
            "delete": lambda: client.delete("k"),
        }

        def child() -> None:
            # The same key: the parent's thread is in the table of those who work on it.
            assert client.put("k", "the child's", 100)
            assert client.get("k") == "the child's"
            everything(client)

        with InTheMeantime(stall.held, work[act]):
            in_child(child)
        peer.spoil = honest
        assert client.delete("k") in (True, False)
        client.put("k", "value", 100)
        assert client.get("k") == "value"
        everything(client)


def test_a_namespace_whose_revision_is_being_asked_for_is_asked_for_anew(peer: Peer) -> None:
    near = InprocCacheClient(100)
    # With a near tier the revision is asked for under the namespace's own lock.
    space = NamespaceWrapper("ns", TieredInclusiveClient(near, remote(peer)), recheck=0)
    with space:
        space.put("k", "value", 100)
        stall = Stall(peer, b"tiered.namespace")
        with InTheMeantime(stall.held, lambda: space.get("k")):
            in_child(lambda: everything(space))

            def clears() -> None:
                space.clear()
                assert space.get("k", None) is None

            in_child(clears)
        assert space.get("k", "cleared by the child") == "cleared by the child"
        everything(space)


# -- Cached functions ------------------------------------------------------------------


def test_a_child_waits_for_its_parents_value_and_does_not_compute_it_again(peer: Peer) -> None:
    held = Held()
    with remote(peer) as client:

        @cached(client, 60, namespace="f")
        def f(x: int) -> Any:
            return held(), os.getpid()

        def second_claim(request: bytes, answer: bytes) -> bytes:
            if b" N" in request and answer.rstrip().endswith(b" Z"):
                held.go.set()  # the child waits by now
            return answer

        peer.spoil = second_claim
        parent = os.getpid()
        with InTheMeantime(held, lambda: f(1)):

            def child() -> None:
                assert f(1) == ("done", parent)
                assert f.stats.computations == 1  # the parent's, which the child has inherited

            in_child(child)
        assert f(1) == ("done", parent)


def test_a_child_that_dies_while_it_computes_is_replaced(memcached: PrivateMemcached) -> None:
    client = MemcachedClient(
        [memcached.address], checksum_key=SECRET, prefix=unique_prefix(), pool_size=2
    )
    parent = os.getpid()

    @cached(client, 60, namespace="f", claim_ttl=0.5)
    def f(x: int) -> int:
        if os.getpid() != parent:
            os._exit(0)  # with the claim in its hands
        return x * 2

    with client:
        in_child(lambda: f(1))
        values: list[int] = []
        waiting = threading.Thread(target=lambda: values.append(f(1)), daemon=True)
        waiting.start()
        waiting.join(PATIENCE)
        assert values == [2]
        assert f.stats.computations == 1
        assert f.peek(1) == 2


@pytest.mark.parametrize("mode", ["bg", "future", "plain"])
def test_a_cached_function_computes_in_the_child_whatever_the_parents_workers_do(
    mode: str,
) -> None:
    held, pool = Held(), WorkerPool(1)
    parent = os.getpid()

    @cached(InprocCacheClient(100), 60, pool=pool)
    def f(x: int) -> int:
        if os.getpid() == parent and not held.go.is_set():
            held()
        return x * 2

    calls: dict[str, Callable[[int], int]] = {
        "bg": lambda x: f.bg()(x),
        "future": lambda x: f.future()(x).result(PATIENCE),
        "plain": f,
    }

    def child() -> None:
        # The one that the parent's only worker computes, one that is queued there, a new one.
        assert [calls[mode](x) for x in (1, 2, 3)] == [2, 4, 6]
        f.bg().refresh(1)
        assert f.future()(4).result(PATIENCE) == 8

    running = f.future()(1)
    assert held.started.wait(10)
    queued = f.future()(2)
    in_child(child)
    held.go.set()
    assert running.result(10) == 2
    assert queued.result(10) == 4
    assert pool.close(10)


def test_a_pool_is_dropped_in_the_child_whatever_its_parents_threads_hold() -> None:
    held = Held()
    pools = [WorkerPool(1)]
    pools[0].submit(lambda: None).result(10)
    changed = pools[0]._jobs.changed

    def hold() -> None:
        with changed:
            held()

    def child() -> None:
        assert pools[0].submit(lambda: 5).result(PATIENCE) == 5
        pools.clear()
        gc.collect()

    with InTheMeantime(held, hold):
        in_child(child)
    assert pools[0].submit(lambda: 5).result(10) == 5
    assert pools[0].close(10)


def test_many_children_compute_each_key_once_between_them(
    memcached: PrivateMemcached, tmp_path: Path
) -> None:
    notes = tmp_path / "computed"
    tiers = TieredInclusiveClient(
        InprocCacheClient(100),
        MemcachedClient([memcached.address], checksum_key=SECRET, prefix=unique_prefix()),
    )

    @cached(tiers, 60, namespace="f")
    def f(x: int) -> int:
        with notes.open("a") as file:
            file.write(f"{x}\n")
        return x * 2

    def child(barrier: Any) -> None:
        barrier.wait(PATIENCE)
        assert [f(x) for x in range(20)] == [x * 2 for x in range(20)]

    with tiers:
        assert f(0) == 0  # so that the parent has a socket
        context = multiprocessing.get_context("fork")
        barrier = context.Barrier(6)
        children = [context.Process(target=child, args=(barrier,)) for _ in range(6)]
        for process in children:
            process.start()
        for process in children:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
        assert [process.exitcode for process in children] == [0] * 6
        assert sorted(map(int, notes.read_text().split())) == list(range(20))
        assert f.stats.computations == 1
        assert tiers.stats.errors == 0


def test_a_child_leaves_by_the_front_door() -> None:
    program = """
        import os, sys, threading, warnings
        from tiered import InprocCacheClient, cached

        warnings.simplefilter("ignore", DeprecationWarning)
        started, never = threading.Event(), threading.Event()

        @cached(InprocCacheClient(100), 60)
        def f(x):
            if x < 0:
                started.set()
                never.wait()
            return x * 2

        f.future()(-1)
        started.wait()
        child = os.fork()
        if child:
            print("parent:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            os._exit(0)
        print("child:", f.future()(2).result(5), f(3), flush=True)
        sys.exit(7)  # with everything that runs at the end of an interpreter
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("child: 4 6\nparent: 7\n", "")
