"""Changes of plain tiers that break off: what was not reached must not serve what was before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import Interposed, inproc
from tiered import InprocCacheClient, TieredInclusiveClient
from tiered.clients.base import CacheClient
from tiered.entry import Entry
from tiered.errors import KeyEncodingError
from tiered.testing import ManualClock
from tiered.typing import Key


class Interrupted(KeyboardInterrupt):
    """Ctrl-C."""


class TimeLimit(Exception):
    """What a worker's time limit raises, out of a signal's handler."""


def filled(client: CacheClient) -> None:
    claim = client.claim("k")
    assert claim is not None
    with claim:
        client.fill("k", "new", client.clock.monotonic() + 60, keep=0.0, claim=claim)


CHANGES: dict[str, tuple[str, Callable[[CacheClient], object]]] = {
    "delete": ("discard", lambda client: client.delete("k")),
    "delete_multi": ("discard_many", lambda client: client.delete_multi(["k"])),
    "expire": ("outdate", lambda client: client.expire("k")),
    "renew": ("touch", lambda client: client.renew("k", 90)),
    "put": ("store", lambda client: client.put("k", "new", 60)),
    "put_versioned": ("store", lambda client: client.store_versioned("k", "new", 60)),
    "put_multi": ("store_many", lambda client: client.put_multi({"k": "new"}, 60)),
    "fill": ("store", filled),
    "clear": ("clear", lambda client: client.clear()),
}


class Three:
    """Tiers of which one will be interrupted after it was written."""

    def __init__(self, clock: ManualClock) -> None:
        self.near, self.middle, self.far = (inproc(clock) for _ in range(3))
        self.client = TieredInclusiveClient(self.near, self.middle, self.far)
        self.client.put("k", "old", 60)

    def interrupt(self, tier: InprocCacheClient, name: str, patch: pytest.MonkeyPatch) -> None:
        """Do the change with this *name*, and be interrupted once *tier* is written."""
        method, change = CHANGES[name]
        write = getattr(tier, method)

        def interrupted(*args: Any, **kwargs: Any) -> None:
            patch.undo()
            write(*args, **kwargs)
            raise Interrupted

        patch.setattr(tier, method, interrupted)
        with pytest.raises(Interrupted):
            change(self.client)


@pytest.fixture
def three(clock: ManualClock) -> Three:
    return Three(clock)


@pytest.mark.parametrize("name", CHANGES)
def test_who_is_interrupted_after_the_farthest_tier_was_written_leaves_no_older_copy(
    three: Three, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    three.interrupt(three.far, name, monkeypatch)
    now = three.far.get_ttl("k", None)
    assert three.near.get_ttl("k", None)[0] is None
    assert three.middle.get_ttl("k", None)[0] is None
    assert three.client.get_ttl("k", None) == now


@pytest.mark.parametrize("name", CHANGES)
def test_and_none_in_the_nearest_if_the_next_was_written(
    three: Three, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    three.interrupt(three.middle, name, monkeypatch)
    assert three.near.get_ttl("k", None)[0] is None


def test_what_is_read_meanwhile_is_not_copied_after_the_interruption(clock: ManualClock) -> None:
    asked, go = threading.Event(), threading.Event()

    class Slow(Interposed):
        def entry(self, key: Key) -> Entry | None:
            found = self.client.entry(key)
            if threading.current_thread() is reader:
                asked.set()
                assert go.wait(30)
            return found

        def discard(self, key: Key) -> bool:
            self.client.discard(key)
            raise Interrupted

    near, far = inproc(clock), Slow(inproc(clock))
    client = TieredInclusiveClient(near, far)
    far.put("k", "old", 60)
    reader = threading.Thread(target=lambda: client.get("k", None))
    reader.start()
    assert asked.wait(30)
    with pytest.raises(Interrupted):
        client.delete("k")
    go.set()
    reader.join(30)
    assert near.get("k", None) is None


def test_an_error_between_two_tiers_is_as_an_interruption(
    three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = three.client._pass_over

    def limited(*args: Any) -> None:
        passed(*args)
        raise TimeLimit

    def failing(key: Key) -> bool:
        type(three.far).discard(three.far, key)
        raise ConnectionError

    monkeypatch.setattr(three.client, "_pass_over", limited)
    monkeypatch.setattr(three.far, "discard", failing)
    with pytest.raises(TimeLimit):
        three.client.delete("k")
    monkeypatch.undo()
    assert three.client.get("k", None) is None


def test_a_key_that_nobody_can_encode_drops_nothing_and_is_told_of_once(
    three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[Key] = []
    monkeypatch.setattr(three.client, "drop_near", dropped.append)

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise KeyEncodingError("no")

    for name in ("delete", "delete_multi", "expire", "put", "put_multi"):
        method, change = CHANGES[name]
        with monkeypatch.context() as patch:
            patch.setattr(three.far, method, refused)
            with pytest.raises(KeyEncodingError):
                change(three.client)
    assert dropped == []
