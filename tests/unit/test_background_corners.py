"""Writes in the background where two things meet: operations, tiers, claims, ends."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import RemoteFake, inproc
from tests.unit.test_background_client import LATE, Slow, blocked
from tests.unit.test_background_client import slow as slow  # noqa: PLC0414 - a fixture
from tiered import AsyncWriteCacheClient, TieredInclusiveClient
from tiered.clients.base import CacheClient, Claim
from tiered.clients.wrapper import Wrapper
from tiered.errors import UnsupportedOperation
from tiered.testing import ManualClock
from tiered.typing import Key


def background(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def renewing(slow: Slow) -> tuple[AsyncWriteCacheClient, threading.Thread]:
    """A client where a renew is just writing the queued value 1 of ``"k"``."""
    client = blocked(slow)
    client.put("k", 1, 60)
    thread = background(lambda: client.renew("k", 100))
    while ("k", 1) not in slow.writes:
        pass
    return client, thread


def test_a_value_is_seen_while_another_operation_writes_it(slow: Slow) -> None:
    client, thread = renewing(slow)
    assert client.get("k", "lost") == 1
    slow.gate.set()
    thread.join(LATE)


def test_a_delete_of_many_waits_for_what_another_operation_writes(slow: Slow) -> None:
    client, thread = renewing(slow)
    deleting = background(lambda: client.delete_multi(["k"]))
    deleting.join(0.2)
    slow.gate.set()
    thread.join(LATE)
    deleting.join(LATE)
    assert client.get("k", "gone") == "gone"


def test_a_value_is_seen_while_a_worker_takes_it(clock: ManualClock) -> None:
    client = AsyncWriteCacheClient(inproc(clock), workers=1)
    seen: list[Any] = []

    class Peeking(dict[Any, Any]):
        """Lets another thread read between the two steps of taking a job."""

        def pop(self, key: Any, *default: Any) -> Any:
            job = super().pop(key, *default)
            reader = background(lambda: seen.append(client.get(key, "lost")))
            reader.join(0.2)  # or it waits for our lock
            return job

    client._backlog.queue._waiting = Peeking()
    client.put("k", 1, 60)
    assert client.wait("k", LATE)
    while not seen:
        pass
    assert seen == [1]


def test_a_refused_clear_drops_nothing(clock: ManualClock) -> None:
    class Shared(Slow):
        def clear(self) -> None:
            raise UnsupportedOperation("others use it")

        def sweep(self, before: float | None) -> int:
            if before is None:
                self.clear()
            return 0

    slow = Shared(RemoteFake(inproc(clock)))
    client = blocked(slow)
    client.put("k", 1, 60)

    def refused() -> None:
        for operation in (client.clear, lambda: client.sweep(None)):
            with pytest.raises(UnsupportedOperation):
                operation()

    thread = background(refused)
    thread.join(0.2)
    slow.gate.set()
    thread.join(LATE)
    assert client.wait("k", LATE)
    assert client.get("k", "lost") == 1


def test_a_view_of_the_first_tiers_shares_the_queue(slow: Slow, clock: ManualClock) -> None:
    tiers = TieredInclusiveClient(slow, inproc(clock))
    client = AsyncWriteCacheClient(tiers, workers=1)
    slow.gate.clear()
    client.put("busy", 0, 60)
    assert slow.started.wait(LATE)
    client.put("k", 1, 60)
    assert client.get("k", "lost", max_tiers=1) == 1
    client.delete("k")
    thread = background(lambda: client.put("k", 2, 60, max_tiers=1))
    while ("k", 2) not in slow.writes:
        pass  # it is to come before the delete
    deleting = background(lambda: client.delete("k"))
    deleting.join(0.2)
    slow.gate.set()
    thread.join(LATE)
    deleting.join(LATE)
    assert client.wait("k", LATE)
    assert client.get("k", "gone") == "gone"
    assert not slow.clashes


def test_a_write_to_some_tiers_does_not_replace_one_to_all(slow: Slow, clock: ManualClock) -> None:
    far = inproc(clock)
    client = AsyncWriteCacheClient(TieredInclusiveClient(slow, far), workers=1)
    slow.gate.clear()
    client.put("busy", 0, 60)
    assert slow.started.wait(LATE)
    client.put("k", "everywhere", 60)
    thread = background(lambda: client.put("k", "near", 60, max_tiers=1))
    thread.join(0.2)
    slow.gate.set()
    thread.join(LATE)
    assert client.wait("k", LATE)
    assert far.get("k") == "everywhere"
    assert slow.get("k") == "near"


@pytest.mark.parametrize(
    "delete", [lambda client: client.delete("busy"), lambda client: client.delete_multi(["busy"])]
)
def test_what_close_gave_up_does_not_overtake_what_comes_later(
    slow: Slow, delete: Callable[[CacheClient], object]
) -> None:
    client = blocked(slow, close_timeout=0)
    client.close()
    thread = background(lambda: delete(client))
    thread.join(0.2)
    slow.gate.set()
    thread.join(LATE)
    while slow.running["busy"]:
        pass
    assert client.get("busy", "gone") == "gone"
    stats = client.stats
    assert (stats.failures, stats.written) == (1, 0)  # given up is given up, though it ended


def test_writes_after_close_do_not_run_beside_given_up_ones(slow: Slow) -> None:
    client = blocked(slow, close_timeout=0)
    client.close()
    client.put("busy", 1, 60)
    assert not client.wait("busy", 0.2)
    slow.gate.set()
    assert client.wait("busy", LATE)
    assert not slow.clashes
    assert client.get("busy") == 1


def test_a_fill_that_is_revoked_leaves_the_put_before_it(slow: Slow) -> None:
    slow.client.put("k", "oldest", 60)
    client = blocked(slow)
    claim = client.claim("k", 60)
    assert claim is not None
    assert client.put("k", "put", 60)
    assert claim.fill("computed", 60)
    client.revoke("k")
    assert client.get("k") != "oldest"
    slow.gate.set()
    assert client.wait("k", LATE)
    assert client.get("k") == "put"


def test_a_fill_whose_claim_is_lost_leaves_the_put_before_it(clock: ManualClock) -> None:
    server = inproc(clock)
    server.put("k", "oldest", 60)
    slow = Slow(server)
    client = blocked(slow)
    claim = client.claim("k", 10)
    assert claim is not None
    assert client.put("k", "put", 60)
    assert claim.fill("computed", 60)
    clock.advance(11)  # the claim ends by itself
    slow.gate.set()
    assert client.wait("k", LATE)
    assert client.get("k") == "put"
    assert client.stats.written == 2  # "busy" and the put; a lost fill is not written


class Interrupted(Wrapper):
    """Runs a function right after a claim was asked whether it holds."""

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self.after: Callable[[], object] = lambda: None

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        inner = self.client.claim(key, ttl)
        assert inner is not None

        def use(action: Callable[[], bool]) -> bool:
            held = inner.use(action)
            self.after()
            return held

        return Claim(self, key, inner.token, use, inner.release)


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.delete("k"),
        lambda client: client.clear(),
        lambda client: client.revoke("k"),
    ],
)
def test_a_fill_is_not_seen_if_it_is_overtaken_while_its_claim_is_checked(
    clock: ManualClock, act: Callable[[CacheClient], object]
) -> None:
    slow = Slow(inproc(clock))
    wrapped = Interrupted(slow)
    client = AsyncWriteCacheClient(wrapped, workers=1)
    slow.gate.clear()
    client.put("busy", 0, 60)
    assert slow.started.wait(LATE)
    claim = client.claim("k", 60)
    assert claim is not None

    def interrupt() -> None:
        wrapped.after = lambda: None
        act(client)

    wrapped.after = interrupt
    slow.gate.set()  # clear() waits for what runs
    assert client.wait("busy", LATE)
    slow.gate.clear()
    assert not claim.fill("computed before", 60)
    assert client.get("k", "gone") == "gone"
    slow.gate.set()
    assert client.wait("k", LATE)
    assert client.get("k", "gone") == "gone"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_a_write_that_raises_more_than_an_exception_is_counted(
    clock: ManualClock, error: BaseException
) -> None:
    class Fatal(Wrapper):
        def store(self, key: Key, *args: Any, **options: Any) -> bool:
            if key == "fatal":
                raise error
            return super().store(key, *args, **options)

    client = AsyncWriteCacheClient(Fatal(inproc(clock)), workers=1)
    client.put("fatal", 1, 60)
    assert client.wait("fatal", LATE)
    client.put("k", 1, 60)
    assert client.wait("k", LATE)
    assert client.stats.failures == 1


def test_a_thread_that_cannot_be_started_loses_no_write(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = AsyncWriteCacheClient(inproc(clock))

    usual, ours = threading.Thread.start, threading.current_thread()

    def start(thread: threading.Thread) -> None:
        if threading.current_thread() is not ours:
            usual(thread)  # what another test has left may need one just now
            return
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        assert client.put("k", 1, 60)  # in this thread
    assert client.client.get("k") == 1
    client.put("l", 1, 60)
    assert client.wait("l", LATE)


def test_near_keeps_to_the_capabilities(clock: ManualClock) -> None:
    slow = Slow(RemoteFake(inproc(clock)))
    client = blocked(slow)
    client.put("k", 1, 60)
    assert client.near("k") is None or client.capabilities.near
    slow.gate.set()


def test_purge_takes_what_waits_too(slow: Slow, clock: ManualClock) -> None:
    client = blocked(slow)
    client.put("stale", 1, -50, keep=100)
    client.put("fresh", 1, 60)
    swept: list[int] = []
    thread = background(lambda: swept.append(client.purge(10)))
    while ("stale", 1) not in slow.writes:
        pass
    slow.gate.set()
    thread.join(LATE)
    assert swept == [1]
    assert client.wait("stale", LATE)
    assert client.wait("fresh", LATE)
    assert client.get_ttl("stale", "gone") == ("gone", -1)
    assert client.get("fresh") == 1


def test_purge_waits_for_a_stale_value_that_is_being_written(clock: ManualClock) -> None:
    class Lingering(Wrapper):
        written = threading.Event()
        go = threading.Event()

        def store(self, *args: Any, **options: Any) -> bool:
            stored = super().store(*args, **options)
            self.written.set()
            assert self.go.wait(LATE)
            return stored

    slow = Lingering(inproc(clock))
    client = AsyncWriteCacheClient(slow, workers=1)
    client.put("stale", 1, -50, keep=100)
    assert slow.written.wait(LATE)
    swept: list[int] = []
    thread = background(lambda: swept.append(client.purge(10)))
    thread.join(0.2)
    assert swept == []  # or readers would see for a while what was swept already
    slow.go.set()
    thread.join(LATE)
    assert swept == [1]
    assert client.get_ttl("stale", "gone") == ("gone", -1)


def test_a_delete_in_progress_shows_no_older_value(clock: ManualClock) -> None:
    class SlowToDelete(Slow):
        deleting = threading.Event()
        go = threading.Event()

        def discard(self, key: Key) -> bool:
            self.deleting.set()
            assert self.go.wait(LATE)
            return super().discard(key)

    slow = SlowToDelete(inproc(clock))
    slow.client.put("k", "oldest", 60)
    client = blocked(slow)
    client.put("k", "newer", 60)
    thread = background(lambda: client.delete("k"))
    assert slow.deleting.wait(LATE)
    assert client.get("k", "gone") in ("newer", "gone")
    slow.go.set()
    slow.gate.set()
    thread.join(LATE)
    assert client.get("k", "gone") == "gone"


def test_what_is_put_by_a_late_exit_handler_is_written(tmp_path: Path) -> None:
    program = f"""
        import atexit

        @atexit.register
        def last_words():
            client.put("late", 1, 60)

        import time
        from tiered import AsyncWriteCacheClient, InprocCacheClient
        from tiered.clients.wrapper import Wrapper

        class ToFile(Wrapper):
            def store(self, key, value, deadline, **options):
                time.sleep(0.2)
                with open({str(tmp_path / "out")!r}, "a") as out:
                    print(key, file=out)
                return True

        client = AsyncWriteCacheClient(ToFile(InprocCacheClient(100)), workers=1)
        client.put("early", 1, 60)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=LATE)
    assert (tmp_path / "out").read_text().split() == ["early", "late"]


def test_the_whole_of_a_wait_is_within_its_timeout(slow: Slow) -> None:
    asked: list[float | None] = []

    class Waiting(Wrapper):
        def wait(self, key: Key, timeout: float | None = None) -> bool:
            asked.append(timeout)
            return True

    outer = AsyncWriteCacheClient(Waiting(slow))
    wait = outer._backlog.queue.wait

    def waited(key: Key, timeout: float | None = None) -> bool:
        # Not before: what passes until the wait begins is no part of it.
        threading.Timer(0.3, slow.gate.set).start()
        return wait(key, timeout)

    outer._backlog.queue.wait = waited  # type: ignore[method-assign]
    slow.gate.clear()
    outer.put("k", 1, 60)
    assert outer.wait("k", LATE)
    assert asked[0] is not None
    assert asked[0] <= LATE - 0.25


def test_closing_twice_at_a_time_counts_once(slow: Slow) -> None:
    client = AsyncWriteCacheClient(slow)
    client.put("k", 1, 60)
    barrier = threading.Barrier(2)
    drain = client._backlog.queue.drain

    def both(timeout: float) -> None:
        drain(timeout)
        barrier.wait(LATE)

    client._backlog.queue.drain = both  # type: ignore[method-assign]
    thread = background(client.close)
    client.close()
    thread.join(LATE)
    assert client.stats.written == 1
