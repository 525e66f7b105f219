"""Forked children: they use what the parent made, on sockets of their own, and never hang."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.fakes import Held
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.base import CacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.tiered import TieredInclusiveClient
from tiered.concurrency.pool import WorkerPool
from tiered.decorators import cached

CHILD_PATIENCE = 15.0


def fork() -> int:
    """``os.fork()`` without the tracer of a coverage run.

    That one has a lock, which a thread of the parent may hold at the moment of the fork;
    the child would hang in it, and that is not what is tested here.
    """
    tracer = sys.gettrace()
    sys.settrace(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
        pid = os.fork()
    if pid:
        sys.settrace(tracer)
    else:
        threading.settrace(None)
    return pid


def in_child(work: Callable[[], Any]) -> None:
    """Run *work* in a forked child; fail if it raises, returns false, or hangs."""
    pid = fork()
    if not pid:
        status = 1
        try:
            status = 0 if work() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    deadline = time.monotonic() + CHILD_PATIENCE
    while time.monotonic() < deadline:
        done, result = os.waitpid(pid, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(result) == 0
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pytest.fail("the child hangs")


def remote(server: PrivateMemcached) -> MemcachedClient:
    return MemcachedClient([server.address], checksum_key=SECRET, prefix=unique_prefix())


CLIENTS: dict[str, Callable[[PrivateMemcached], CacheClient]] = {
    "lru": lambda server: InprocCacheClient(100),
    "lfu": lambda server: InprocCacheClient(100, policy="lfu"),
    "memcached": remote,
    "tiered": lambda server: TieredInclusiveClient(InprocCacheClient(100), remote(server)),
    "namespaced": lambda server: NamespaceWrapper(
        "ns", TieredInclusiveClient(InprocCacheClient(100), remote(server))
    ),
}


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_child_reads_and_writes(kind: str, memcached: PrivateMemcached) -> None:
    with CLIENTS[kind](memcached) as client:
        client.put("before", 1, 100)

        def child() -> bool:
            seen = client.get("before", None)
            client.put("from the child", 2, 100)
            return bool(seen == 1 and client.get("from the child") == 2)

        for _ in range(3):
            in_child(child)
        assert client.get("before") == 1
        if client.capabilities.shared:
            assert client.get("from the child") == 2
        assert client.stats.errors == 0


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_child_of_a_busy_parent_does_not_hang(kind: str, memcached: PrivateMemcached) -> None:
    client = CLIENTS[kind](memcached)
    stop = threading.Event()

    def work(number: int) -> None:
        step = 0
        while not stop.is_set():
            step += 1
            client.put((number, step % 50), step, 100)
            client.get((number, step % 50), None)
            client.delete((number, step % 7))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()

    def child() -> bool:
        for step in range(100):
            client.put(("child", step), step, 100)
            if client.get(("child", step)) != step:
                return False
        return client.stats.errors == 0

    try:
        for _ in range(10):
            in_child(child)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
        client.close()


def test_children_and_parent_do_not_read_each_others_answers(
    memcached: PrivateMemcached,
) -> None:
    with remote(memcached) as client:
        for number in range(50):
            client.put(number, f"value {number}", 100)

        def reader() -> bool:
            return all(client.get(number) == f"value {number}" for number in range(50))

        pids = []
        for _ in range(4):
            pid = fork()
            if not pid:
                os._exit(0 if all(reader() for _ in range(5)) else 1)
            pids.append(pid)
        assert all(reader() for _ in range(5))
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 4


def test_a_child_computes_what_a_thread_of_the_parent_was_computing() -> None:
    held = Held()

    @cached(InprocCacheClient(10), 60)
    def f(x: int) -> Any:
        return held() if x == 1 and not in_the_child else x * 2

    in_the_child = False
    thread = threading.Thread(target=lambda: f(1))
    thread.start()
    assert held.started.wait(10)

    def child() -> bool:
        nonlocal in_the_child
        in_the_child = True
        return bool(f(1) == 2 and f.bg()(2) == 4 and f.future()(3).result(10) == 6)

    try:
        in_child(child)
    finally:
        held.go.set()
        thread.join(10)
    assert f(1) == "done"


def test_a_child_starts_workers_of_its_own() -> None:
    pool = WorkerPool(2)
    assert pool.submit(os.getpid).result(10) == os.getpid()
    in_child(lambda: pool.submit(os.getpid).result(10) == os.getpid())
    assert pool.submit(os.getpid).result(10) == os.getpid()
    assert pool.close(10)


def test_a_fork_inside_the_function_lands_in_both(memcached: PrivateMemcached) -> None:
    """A flight whose leader forks is led in the child too."""

    @cached(InprocCacheClient(10), 60)
    def f(x: int) -> int:
        in_child(lambda: f(x + 1) == x + 2 if x == 1 else True)
        return x + 1

    assert f(1) == 2
    assert f(2) == 3


def test_a_lock_held_by_a_thread_is_free_in_the_child() -> None:
    client = InprocCacheClient(10, policy="lfu")
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with client._store._lock:  # type: ignore[attr-defined]
            holding.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(10)
    try:
        in_child(lambda: client.put("k", 1, 10) and client.get("k") == 1)
    finally:
        done.set()
        thread.join(10)
