"""Writes in the background: order, coalescing, what cannot wait, ends of all kinds."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FailingClient, RemoteFake, VersionedFake, inproc, together
from tests.integration.test_forked_children import in_child
from tests.opened import Opened
from tiered import AsyncWriteCacheClient, CacheMissError, TieredInclusiveClient, cached
from tiered.clients.base import ALWAYS, ANY, CacheClient, Claim, Condition
from tiered.clients.wrapper import Wrapper
from tiered.testing import ManualClock
from tiered.typing import Key

LATE = 20.0


def writers(opened: Opened) -> set[threading.Thread]:
    """Threads that came to write; what other tests have left may begin others."""
    return {thread for thread in opened.threads if thread.name.startswith("tiered-writes")}


class Slow(Wrapper):
    """A client whose writes wait for the test, and are written down."""

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.writes: list[Any] = []
        self.running: dict[Any, int] = {}
        self.clashes: list[Any] = []

    def store(
        self,
        key: Key,
        value: Any,
        deadline: float,
        *,
        keep: float = 0.0,
        condition: Condition = ALWAYS,
    ) -> bool:
        self.running[key] = self.running.get(key, 0) + 1
        if self.running[key] > 1:
            self.clashes.append(key)
        self.writes.append((key, value))
        self.started.set()
        assert self.gate.wait(LATE)
        try:
            return super().store(key, value, deadline, keep=keep, condition=condition)
        finally:
            self.running[key] -= 1


@pytest.fixture
def slow(clock: ManualClock) -> Iterator[Slow]:
    slow = Slow(inproc(clock))
    yield slow
    slow.gate.set()


def blocked(slow: Slow, **options: Any) -> AsyncWriteCacheClient:
    """A client whose one worker is busy with the key ``"busy"``."""
    client = AsyncWriteCacheClient(slow, workers=1, **options)
    slow.gate.clear()
    client.put("busy", 0, 60)
    assert slow.started.wait(LATE)
    return client


def test_a_put_returns_before_it_is_written_and_is_seen_at_once(slow: Slow) -> None:
    client = blocked(slow)
    assert client.put("k", 1, 60)
    assert client.get("k") == 1
    assert client.get_ttl("k") == (1, 60)
    assert client.get_multi(["k", "busy", "none"], None) == {"k": 1, "busy": 0, "none": None}
    assert client.near("k") is not None
    assert client.contains("k")
    assert slow.client.get("k", None) is None
    assert not client.wait("k", 0.001)
    assert client.is_async
    assert "queued=True" in repr(client.explain("k"))
    slow.gate.set()
    assert client.wait("k", LATE)
    assert client.wait("never put", 0)
    assert slow.client.get("k") == 1
    assert "queued" not in repr(client.explain("k"))


def test_the_last_write_of_a_key_wins_and_the_others_are_spared(slow: Slow) -> None:
    client = blocked(slow)
    for number in range(10):
        client.put("k", number, 60)
        client.put("busy", number + 1, 60)
    slow.gate.set()
    assert client.wait("k", LATE)
    assert client.wait("busy", LATE)
    assert slow.writes == [("busy", 0), ("k", 9), ("busy", 10)]
    assert client.get("busy") == 10
    stats = client.stats
    assert (stats.written, stats.coalesced, stats.queued, stats.failures) == (3, 18, 0, 0)


def test_a_keys_writes_never_run_together(slow: Slow) -> None:
    client = AsyncWriteCacheClient(slow, workers=4)

    def write(thread: int) -> None:
        for number in range(100):
            client.put(number % 5, (thread, number), 60)
            if number % 17 == 0:
                client.delete(number % 5)
            if number % 13 == 0:
                client.renew(number % 5, 100)

    together(write, 6)
    for key in range(5):
        assert client.wait(key, LATE)
        assert client.get(key, None) == slow.client.get(key, None)
    assert not slow.clashes


def test_an_expired_entry_is_stale_in_the_queue_too(slow: Slow, clock: ManualClock) -> None:
    client = blocked(slow)
    client.put("k", 1, 5)
    clock.advance(6)
    with pytest.raises(CacheMissError):
        client.get("k")
    assert client.get_ttl("k") == (1, -1)


# -- What cannot wait ------------------------------------------------------------------


def test_a_delete_takes_what_waits_with_it(slow: Slow) -> None:
    client = blocked(slow)
    client.put("k", 1, 60)
    assert client.delete("k")
    assert client.get("k", None) is None
    assert not client.delete("k")
    client.put("l", 1, 60)
    assert client.delete_multi(["l", "m"]) == {"l": True, "m": False}
    slow.gate.set()
    assert client.wait("busy", LATE)
    assert slow.writes == [("busy", 0)]


def test_a_delete_comes_after_the_write_that_is_running(slow: Slow) -> None:
    client = blocked(slow)
    client.put("busy", 1, 60)
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(client.delete("busy")))
    thread.start()
    assert not done
    slow.gate.set()
    thread.join(LATE)
    assert done == [True]
    assert client.get("busy", None) is None
    assert slow.client.get("busy", None) is None


def test_what_depends_on_a_queued_write_sees_it_done(slow: Slow, clock: ManualClock) -> None:
    client = blocked(slow)
    client.put("k", 1, 60)
    slow.gate.set()
    assert client.renew("k", 100)
    assert client.get_ttl("k") == (1, 100)
    client.put("k", 2, 60)
    assert not client.add("k", 3, 60)
    client.put("k", 4, 60)
    assert client.expire("k")
    assert client.get_ttl("k")[0] == 4
    assert client.get("k", None) is None
    assert client.add("k", 5, 60)
    assert slow.client.get("k") == 5


def test_clear_forgets_what_waits(slow: Slow) -> None:
    client = blocked(slow)
    client.put("k", 1, 60)
    thread = threading.Thread(target=client.clear)
    thread.start()
    while client.get("k", None) is not None:
        pass
    slow.gate.set()
    thread.join(LATE)
    assert slow.client.usage == 0
    assert slow.writes == [("busy", 0)]
    client.put("k", 1, 5)
    assert client.wait("k", LATE)
    assert client.purge() == 0


# -- Claims ----------------------------------------------------------------------------


def test_a_fill_is_queued_and_releases_its_claim_when_it_is_written(slow: Slow) -> None:
    client = blocked(slow)
    claim = client.claim("k", 60)
    assert claim is not None
    assert claim.fill("v", 60)
    assert not claim.release()
    assert client.get("k") == "v"
    assert client.claim("k", 60) is None  # until others can see the value
    slow.gate.set()
    assert client.wait("k", LATE)
    again = client.claim("k", 60)
    assert again is not None
    assert again.release()


@pytest.mark.parametrize("act", ["delete", "expire", "revoke"])
def test_a_fill_that_was_overtaken_is_not_written(slow: Slow, act: str) -> None:
    client = blocked(slow)
    claim = client.claim("k", 60)
    assert claim is not None
    assert claim.fill("v", 60)
    getattr(client, act)("k")
    assert client.get("k", None) is None
    slow.gate.set()
    assert client.wait("k", LATE)
    assert ("k", "v") not in slow.writes
    assert client.stats.failures == 0
    assert client.claim("k", 60) is not None


def test_a_claim_that_was_lost_elsewhere_loses_the_write(clock: ManualClock) -> None:
    server = inproc(clock)
    slow = Slow(server)
    client = blocked(slow)
    claim = client.claim("k", 60)
    assert claim is not None
    assert claim.fill("v", 60)
    server.revoke("k")  # by another process
    server.put("k", "newer", 60)
    slow.gate.set()
    assert client.wait("k", LATE)
    assert client.get("k") == "newer"
    late = client.claim("l", 60)
    assert late is not None
    server.revoke("l")
    assert not late.fill("v", 60)


def test_decorated_functions_store_in_the_background(clock: ManualClock) -> None:
    slow = Slow(RemoteFake(inproc(clock)))
    far = AsyncWriteCacheClient(slow)
    calls: list[int] = []

    @cached(TieredInclusiveClient(inproc(clock), far), 60, namespace="n")
    def f(x: int) -> int:
        calls.append(x)
        return x * 2

    slow.gate.clear()
    assert f(1) == f(1) == 2
    assert f.peek(1) == 2
    slow.gate.set()
    far.close()
    assert len(slow.writes) == 1

    @cached(TieredInclusiveClient(inproc(clock), slow), 60, namespace="n")
    def g(x: int) -> int:
        raise AssertionError("it was stored")

    assert g(1) == 2
    assert calls == [1]


# -- Limits and failures ---------------------------------------------------------------


def test_when_the_queue_is_full_the_caller_writes(slow: Slow) -> None:
    client = blocked(slow, queue_size=1)
    client.put("k", 1, 60)
    client.put("k", 2, 60)  # replaces, and needs no room
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(client.put("full", 1, 60)))
    thread.start()
    while ("full", 1) not in slow.writes:
        pass
    assert not results
    slow.gate.set()
    thread.join(LATE)
    assert results == [True]
    assert slow.client.get("full") == 1
    assert client.wait("k", LATE)
    assert client.stats.overflows == 1
    assert client.stats.failures == 0


def test_failures_are_counted_and_reported(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = FailingClient(inproc(clock), OSError("down"))
    client = AsyncWriteCacheClient(server)
    assert client.put("k", 1, 60)
    while client.stats.queued:  # the count of failures is raised before the log is written
        pass
    assert client.stats.failures == 1
    assert "a background write to" in caplog.text
    assert "OSError('down')" in caplog.text
    server.error = None
    assert client.get("k", None) is None

    class Refusing(Wrapper):
        def store(self, *args: Any, **options: Any) -> bool:
            return False

    client = AsyncWriteCacheClient(Refusing(inproc(clock)))
    client.put("k", 1, 60)
    assert not client.renew("k", 60)  # after the write, which was refused
    while client.stats.failures < 1:
        pass
    assert client.stats.written == 0


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"queue_size": 0}, ValueError, "queue_size must be a whole number, 1 or more, not 0"),
        ({"queue_size": 1.5}, TypeError, "queue_size must be a whole number"),
        ({"workers": -1}, ValueError, "workers must be a whole number, 1 or more, not -1"),
        ({"workers": "2"}, TypeError, "workers must be"),
        ({"close_timeout": -1}, ValueError, "close_timeout must be seconds, 0 or more"),
        ({"client": 5}, TypeError, "client must be a CacheClient, not 5"),
    ],
)
def test_what_cannot_be_right_is_refused(
    clock: ManualClock, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        AsyncWriteCacheClient(**{"client": inproc(clock), **options})


# -- Ends ------------------------------------------------------------------------------


def test_close_writes_what_is_queued(slow: Slow) -> None:
    opened = Opened()
    client = AsyncWriteCacheClient(slow, workers=3)
    assert not writers(opened)  # constructors do no work
    for key in range(50):
        client.put(key, key, 60)
    client.close()
    assert slow.client.usage == 50
    assert client.stats.written == 50
    for thread in writers(opened):
        thread.join(LATE)
    assert not writers(opened)
    client.put("again", 1, 60)
    client.close()
    assert slow.client.get("again") == 1
    assert client.stats.written == 51


def test_close_gives_up_at_its_deadline(slow: Slow, caplog: pytest.LogCaptureFixture) -> None:
    client = blocked(slow, close_timeout=0.01)
    for key in range(5):
        client.put(key, key, 60)
    client.close()
    assert client.stats.failures == 6
    assert "6 background writes to" in caplog.text
    slow.gate.set()


def test_a_client_that_is_dropped_is_still_written(slow: Slow) -> None:
    opened = Opened()
    client = blocked(slow)
    client.put("k", 1, 60)
    workers = writers(opened)
    assert workers
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    slow.gate.set()
    for thread in workers:
        thread.join(LATE)  # they end by themselves
    assert not writers(opened)
    assert slow.client.get("k") == 1


def test_at_exit_what_is_queued_is_written(tmp_path: Path) -> None:
    program = f"""
        import time
        from tiered import AsyncWriteCacheClient, InprocCacheClient
        from tiered.clients.wrapper import Wrapper

        class ToFile(Wrapper):
            def store(self, key, value, deadline, **options):
                time.sleep(0.01)
                with open({str(tmp_path / "out")!r}, "a") as out:
                    print(key, value, file=out)
                return True

        client = AsyncWriteCacheClient(ToFile(InprocCacheClient(100)), workers=1)
        for number in range(20):
            client.put(number, "x", 60)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=LATE)
    written = (tmp_path / "out").read_text().splitlines()
    assert [line.split()[0] for line in written] == [str(number) for number in range(20)]


def test_a_child_starts_with_an_empty_queue(slow: Slow) -> None:
    client = blocked(slow)
    client.put("k", 1, 60)

    def child() -> bool:
        # A new one: the lock of the other may have been held at the moment of the fork.
        slow.gate = threading.Event()
        slow.gate.set()
        assert client.stats.queued == 0
        assert client.get("k", None) is None
        assert client.put("mine", 1, 60)
        assert client.wait("mine", LATE)
        client.close()
        return ("k", 1) not in slow.writes and slow.client.get("mine") == 1

    in_child(child)
    slow.gate.set()
    assert client.wait("k", LATE)
    assert slow.client.get("k") == 1


def test_what_is_queued_has_no_version_yet(clock: ManualClock) -> None:
    slow = Slow(VersionedFake(inproc(clock)))
    client = AsyncWriteCacheClient(slow)
    client.put("k", "old", 100)
    assert client.wait("k", LATE)
    assert client.version("k") == client.versioned("k").version is not None
    slow.gate.clear()
    client.put("k", "new", 100)
    assert client.version("k") is None
    queued = client.versioned("k")
    assert queued.entry is not None
    assert (queued.entry.value, queued.version) == ("new", None)
    slow.gate.set()
    assert client.wait("k", LATE)
    assert client.version("k") is not None
    client.close()


def test_what_is_queued_is_found_beside_others(clock: ManualClock) -> None:
    slow = Slow(RemoteFake(inproc(clock)))
    client = AsyncWriteCacheClient(slow)
    client.put("beside", "b", 100)
    assert client.wait("beside", LATE)
    slow.gate.clear()
    client.put("k", "queued", 100)
    found, beside = client.find_beside(["k"], ANY, ["beside"])
    assert [entry.value for entry in (*found.values(), *beside.values())] == ["queued", "b"]
    slow.gate.set()
    client.close()


def test_none_is_a_key_like_others(slow: Slow) -> None:
    client = blocked(slow)
    for key in ("before", None, "after"):
        assert client.put(key, 1, 60)
    slow.gate.set()
    for key in ("before", None, "after"):
        assert client.wait(key, LATE)
    assert slow.writes == [("busy", 0), ("before", 1), (None, 1), ("after", 1)]


def test_a_fill_that_refreshes_does_so_when_it_is_written(clock: ManualClock) -> None:
    refreshed: list[bool] = []

    class Noting(RemoteFake):
        def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
            refreshed.append(claim.refreshes)
            return super().fill(key, value, deadline, keep=keep, claim=claim)

    client = AsyncWriteCacheClient(Noting(inproc(clock)))
    for refreshes in (True, False):
        claim = client.claim("k")
        assert claim is not None
        claim.refreshes = refreshes
        assert claim.fill("v", 100)
        assert client.wait("k", 20)
    assert refreshed == [True, False]
    client.close()
