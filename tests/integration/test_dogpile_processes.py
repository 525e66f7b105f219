"""Mutexes between processes: killed holders, forked children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.integration.test_forked_children import fork, in_child
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.memcached import MemcachedClient
from tiered.concurrency.rwlock import ReadWriteLock
from tiered.dogpile import (
    FileMutex,
    MemcachedMutex,
    ReadWriteMutex,
    SyncReaderDogpile,
    ThreadMutex,
)

TTL = 2
"""Seconds of a mutex whose holder is killed."""


def holder(setup: str) -> subprocess.Popen[str]:
    """A process that holds the *mutex* that *setup* makes, and says so."""
    program = textwrap.dedent(setup) + textwrap.dedent(
        """
        mutex.acquire()
        print("held", flush=True)
        input()
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def file_holder(path: Path) -> subprocess.Popen[str]:
    return holder(f"from tiered.dogpile import FileMutex\nmutex = FileMutex({str(path)!r})")


def test_a_file_mutex_excludes_other_processes(tmp_path: Path) -> None:
    process = file_holder(tmp_path / "lock")
    mutex = FileMutex(tmp_path / "lock")
    assert not mutex.acquire(False)
    assert mutex.locked()
    process.communicate("\n", timeout=20)
    assert mutex.acquire(False)


def test_a_killed_holder_frees_its_file(tmp_path: Path) -> None:
    process = file_holder(tmp_path / "lock")
    process.send_signal(signal.SIGKILL)
    assert FileMutex(tmp_path / "lock").acquire()  # waits for the kernel at most
    process.communicate(timeout=20)


def test_a_child_that_outlives_a_killed_holder_does_not_hold_its_file(tmp_path: Path) -> None:
    program = """
        import os, sys, time
        from tiered.dogpile import FileMutex
        mutex = FileMutex(sys.argv[1])
        mutex.acquire()
        if not os.fork():
            print("forked", flush=True)
            os.read(0, 1)
            os._exit(0)
        time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == b"forked\n"
        assert not FileMutex(tmp_path / "lock").acquire(False)
        process.kill()
        process.wait(20)
        assert FileMutex(tmp_path / "lock").acquire(False)
    finally:
        process.kill()
        process.stdin.close()  # the child ends
        process.stdout.close()
        process.wait(20)


def test_a_block_that_forks_ends_in_both_processes() -> None:
    dogpile = SyncReaderDogpile(None, init=True)
    pid = -1
    try:
        with dogpile.acquire(lambda: None):
            pid = fork()
            with dogpile.acquire(lambda: None):
                pass
        with dogpile.acquire_write_lock():  # nobody reads, in either of them
            pass
    finally:
        if not pid:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_killed_holder_on_memcached_is_replaced_when_its_time_ends(
    memcached: PrivateMemcached,
) -> None:
    prefix = unique_prefix()
    began = time.monotonic()
    process = holder(
        f"""
        from tiered import MemcachedClient
        from tiered.dogpile import MemcachedMutex
        options = dict(checksum_key={SECRET!r}, prefix={prefix!r}, timeout=20, connect_timeout=20)
        client = MemcachedClient([{memcached.address!r}], **options)
        mutex = MemcachedMutex(client, "k", ttl={TTL})
        """
    )
    client = MemcachedClient([memcached.address], checksum_key=SECRET, prefix=prefix)
    mutex = MemcachedMutex(client, "k", ttl=TTL)
    held = mutex.acquire(False)
    assert not held or time.monotonic() - began > TTL  # or its time has ended meanwhile
    process.kill()
    process.communicate(timeout=20)
    started = time.monotonic()
    assert held or mutex.acquire()
    assert time.monotonic() - started < 15  # the server counts whole seconds, and machines stall


def test_a_child_does_not_hold_what_its_parent_holds(
    tmp_path: Path, memcached: PrivateMemcached
) -> None:
    client = MemcachedClient([memcached.address], checksum_key=SECRET, prefix=unique_prefix())
    of_file, of_server = FileMutex(tmp_path / "lock"), MemcachedMutex(client, "k")
    of_threads, rw = ThreadMutex(), ReadWriteMutex()
    assert of_file.acquire()
    assert of_server.acquire()
    assert of_threads.acquire()
    assert rw.acquire_write_lock()

    def child() -> bool:
        assert not of_file.release()
        assert not of_server.release()
        assert not of_file.acquire(False)
        assert not of_server.acquire(False)
        assert of_threads.acquire(False)
        assert rw.acquire_read_lock(False)
        return True

    in_child(child)
    assert not FileMutex(tmp_path / "lock").acquire(False)
    assert of_file.release()
    assert of_server.release()


def test_a_child_does_not_prolong_its_parents_lock(tmp_path: Path) -> None:
    mutex = FileMutex(tmp_path / "lock")
    assert mutex.acquire()
    told, tell = os.pipe()
    go, let = os.pipe()
    pid = fork()
    if not pid:
        os.write(tell, b"x")
        os.read(go, 1)
        os._exit(0 if mutex.acquire(False) else 1)  # by then it can have it itself
    try:
        assert os.read(told, 1) == b"x"
        assert mutex.release()
        with FileMutex(tmp_path / "lock") as other:
            assert not mutex.acquire(False)
        assert not other.release()
    finally:
        os.write(let, b"x")
        result = os.waitpid(pid, 0)[1]
        for end in (told, tell, go, let):
            os.close(end)
    assert os.waitstatus_to_exitcode(result) == 0


@pytest.mark.parametrize("section", ["reading", "writing"])
def test_a_read_write_lock_of_another_thread_is_free_in_the_child(section: str) -> None:
    lock = ReadWriteLock()
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with getattr(lock, section)():
            holding.set()
            done.wait(20)

    def child() -> bool:
        with lock.writing(), lock.reading():
            return True

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(20)
    try:
        in_child(child)
    finally:
        done.set()
        thread.join(20)


def test_a_thread_that_forks_while_it_writes_goes_on_writing_in_the_child() -> None:
    lock = ReadWriteLock()
    pid = -1
    try:
        with lock.writing():
            pid = fork()
            if not pid:
                assert lock._writer == threading.get_ident()
        with lock.reading():
            pass
    finally:
        if not pid:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
