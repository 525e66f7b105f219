"""Namespaces: kept apart, and cleared for everybody by one write."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from tests.fakes import RecordingClient, RemoteFake, VersionedFake, inproc
from tiered.clients.base import CacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.namespace import NamespaceMirrorWrapper, NamespaceWrapper
from tiered.clients.tiered import TieredInclusiveClient
from tiered.sentinels import FOREVER
from tiered.testing import ManualClock
from tiered.typing import Key


class Fleet:
    """One server, and clients of it as several processes would have them."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.server = inproc(clock, 1000)

    def remote(self) -> RemoteFake:
        return RemoteFake(self.server)

    def tiered(self) -> TieredInclusiveClient:
        return TieredInclusiveClient(inproc(self.clock), self.remote())


@pytest.fixture
def fleet(clock: ManualClock) -> Fleet:
    return Fleet(clock)


def test_namespaces_do_not_meet(clock: ManualClock) -> None:
    client = inproc(clock)
    one, other = NamespaceWrapper("one", client), NamespaceWrapper("other", client)
    one.put("k", 1, 100)
    other.put("k", 2, 100)
    client.put("k", 3, 100)
    assert (one.get("k"), other.get("k"), client.get("k")) == (1, 2, 3)
    one.clear()
    assert one.get("k", None) is None
    assert (other.get("k"), client.get("k")) == (2, 3)


def test_nested_namespaces_do_not_meet(clock: ManualClock) -> None:
    client = inproc(clock)
    nested = NamespaceWrapper("b", NamespaceWrapper("a", client))
    flat = NamespaceWrapper("b", client)
    nested.put("k", "nested", 100)
    assert flat.get("k", None) is None
    flat.put("k", "flat", 100)
    assert nested.get("k") == "nested"


def test_every_holder_in_the_process_sees_a_clear_at_once(clock: ManualClock) -> None:
    client = inproc(clock)
    holders = [NamespaceWrapper("ns", client) for _ in range(3)]
    holders[0].put("k", "v", 100)
    assert [holder.get("k") for holder in holders] == ["v"] * 3
    holders[1].clear()
    assert [holder.get("k", None) for holder in holders] == [None] * 3
    holders[2].put("k", "w", 100)
    assert [holder.get("k") for holder in holders] == ["w"] * 3


def test_holders_at_a_server_see_a_clear_at_once(fleet: Fleet) -> None:
    ours = NamespaceWrapper("ns", fleet.remote())
    theirs = NamespaceWrapper("ns", fleet.remote())
    ours.put("k", "v", 100)
    assert theirs.get("k") == "v"
    theirs.clear()
    assert ours.get("k", None) is None
    assert ours.get_ttl("k", None) == (None, -1)
    assert ours.get_multi(["k"], None) == {"k": None}
    ours.put("k", "w", 100)
    assert theirs.get("k") == ours.get("k") == "w"


def test_a_read_asks_for_key_and_revision_together(clock: ManualClock) -> None:
    server = RecordingClient(inproc(clock))
    client = NamespaceWrapper("ns", RemoteFake(server))
    client.put("k", "v", 100)
    server.calls.clear()
    assert client.get("k") == "v"
    assert [call[0] for call in server.calls] == ["entries"]
    assert len(server.calls[0]) == 3  # and the name of the call


def test_holders_with_a_near_tier_see_a_clear_within_the_interval(fleet: Fleet) -> None:
    ours = NamespaceWrapper("ns", fleet.tiered())
    theirs = NamespaceWrapper("ns", fleet.tiered())
    ours.put("k", "v", 1000)
    assert theirs.get("k") == "v"
    theirs.clear()
    assert theirs.get("k", None) is None
    fleet.clock.advance(1.01)
    assert ours.get("k", None) is None


def test_a_near_hit_asks_the_server_once_an_interval(clock: ManualClock) -> None:
    server = RecordingClient(inproc(clock))
    tiers = TieredInclusiveClient(inproc(clock), RemoteFake(server))
    client = NamespaceWrapper("ns", tiers, recheck=5)
    client.put("k", "v", 1000)
    server.calls.clear()
    for _ in range(10):
        assert client.get("k") == "v"
    assert server.calls == []
    clock.advance(6)
    for _ in range(10):
        assert client.get("k") == "v"
    assert [call[0] for call in server.calls] == ["entry"]


def test_a_lost_revision_clears_and_brings_nothing_back(fleet: Fleet) -> None:
    ours = NamespaceWrapper("ns", fleet.tiered())
    theirs = NamespaceWrapper("ns", fleet.tiered())
    ours.put("k", "before the clear", 1000)
    theirs.clear()
    fleet.server.delete(theirs.state.revision_key)  # evicted, say
    fleet.clock.advance(2)
    assert ours.get("k", None) is None
    assert theirs.get("k", None) is None
    ours.put("k", "v", 100)
    assert theirs.get("k") == "v"


def test_two_who_make_up_a_revision_agree(fleet: Fleet) -> None:
    server = fleet.server

    class Late(RemoteFake):
        """The other process adds its revision between our look and our add."""

        def add(self, key: Any, value: Any, ttl: float, *, keep: float = 0.0) -> bool:
            server.put(key, "theirs", FOREVER)
            return super().add(key, value, ttl, keep=keep)

    client = NamespaceWrapper("ns", Late(server))
    client.put("k", "v", 100)
    assert client.state.prefix == "ns@theirs"


def test_without_the_server_the_known_revision_goes_on(fleet: Fleet) -> None:
    class Dead(RemoteFake):
        dead = False

        def entry(self, key: Any) -> Any:
            return None if self.dead else super().entry(key)

        def store(self, *args: Any, **options: Any) -> bool:
            return False if self.dead else super().store(*args, **options)

    remote = Dead(fleet.server)
    client = NamespaceWrapper("ns", TieredInclusiveClient(inproc(fleet.clock), remote))
    client.put("k", "v", 1000)
    remote.dead = True
    for _ in range(3):
        fleet.clock.advance(2)
        assert client.get("k") == "v"


def test_clearing_while_others_clear_is_a_miss(fleet: Fleet) -> None:
    theirs = NamespaceWrapper("ns", fleet.remote())

    class Contended(RemoteFake):
        def entries(self, keys: Any) -> Any:
            theirs.clear()
            return super().entries(keys)

    ours = NamespaceWrapper("ns", Contended(fleet.server))
    ours.put("k", "v", 100)
    assert ours.get("k", None) is None


def test_a_mirror_follows_its_reference(fleet: Fleet) -> None:
    shared = NamespaceWrapper("ns", fleet.remote())
    private = inproc(fleet.clock)
    mirror = NamespaceMirrorWrapper(shared, private)
    mirror.put("k", "v", 100)
    assert mirror.get("k") == "v"
    assert shared.get("k", None) is None
    shared.clear()
    assert mirror.get("k", None) is None
    mirror.put("k", "w", 100)
    mirror.clear()
    assert mirror.get("k", None) is None
    assert "mirror" in repr(mirror).lower()
    assert mirror.get_multi(["k"], None) == {"k": None}


def test_a_version_of_what_others_have_cleared_confirms_nothing(clock: ManualClock) -> None:
    server = inproc(clock)
    one, other = (NamespaceWrapper("ns", VersionedFake(server)) for _ in range(2))
    one.put("k", "v", 100)
    version = one.versioned("k").version
    assert version is not None
    assert other.version("k") == version
    other.clear()
    assert one.version("k") is None
    assert one.versioned("k") == (None, None)
    other.put("k", "v", 100)
    assert one.version("k") not in (None, version)


def test_clearing_is_one_write_whatever_the_size(clock: ManualClock) -> None:
    server = RecordingClient(inproc(clock, 10_000))
    client = NamespaceWrapper("ns", RemoteFake(server))
    client.put_multi(dict.fromkeys(range(1000)), 100)
    server.calls.clear()
    client.clear()
    assert [call[0] for call in server.calls] == ["store", "entry"]  # and a look, who has heard
    assert client.sweep(None) == 0


def test_purging_reaches_the_client(clock: ManualClock) -> None:
    client = NamespaceWrapper("ns", inproc(clock))
    client.put("k", "v", 1)
    clock.advance(2)
    assert client.purge() == 1


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (("", None), ValueError, "namespace must not be empty"),
        ((3, None), TypeError, "namespace must be a str, not 3"),
        (("ns", {}), TypeError, "client must be a CacheClient, not {}"),
    ],
)
def test_what_cannot_be_right_is_refused(
    clock: ManualClock, arguments: Any, error: type[Exception], match: str
) -> None:
    namespace, client = arguments
    with pytest.raises(error, match=match):
        NamespaceWrapper(namespace, inproc(clock) if client is None else client)


def test_a_recheck_must_be_a_time(clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="recheck must be"):
        NamespaceWrapper("ns", inproc(clock), recheck=-1)
    with pytest.raises(TypeError, match="reference must be a NamespaceWrapper"):
        NamespaceMirrorWrapper(inproc(clock), inproc(clock))  # type: ignore[arg-type]


def test_a_namespace_does_not_keep_its_client_alive() -> None:
    client: CacheClient = InprocCacheClient(1)
    NamespaceWrapper("ns", client).put("k", "v", 1)
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None


def test_a_forked_child_finds_the_lock_free(clock: ManualClock) -> None:
    client = NamespaceWrapper("ns", RemoteFake(inproc(clock)))
    lock = client.state._belief.asking
    lock.acquire()
    client.state._belief.after_fork()
    assert client.state._belief.asking is not lock


@pytest.mark.parametrize("bulk", [False, True])
def test_a_clear_is_seen_through_tiers_that_are_all_asked_each_time(
    clock: ManualClock, bulk: bool
) -> None:
    """The first of them may have a copy of the revision."""
    middle, far = inproc(clock, 1000), inproc(clock, 1000)
    ours, theirs = (
        NamespaceWrapper("ns", TieredInclusiveClient(RemoteFake(middle), RemoteFake(far)))
        for _ in range(2)
    )

    def read(client: CacheClient) -> object:
        return client.get_multi(["k"], None)["k"] if bulk else client.get("k", None)

    ours.put("k", "old", 1000)
    assert read(ours) == read(theirs) == "old"
    theirs.clear()
    assert read(theirs) is read(ours) is None
    ours.put("k", "new", 1000)
    assert read(theirs) == "new"
    theirs.delete("k")
    assert read(ours) is None


# -- A client that raises while its server is down ---------------------------------------------


class Raising(RemoteFake):
    """A stranger's, which raises where ours would miss."""

    down = False

    def inner_key(self, key: Key) -> Key:
        if self.down:
            raise ConnectionError("down")
        return key


def test_tiers_serve_and_delete_while_the_revision_cannot_be_asked_for(clock: ManualClock) -> None:
    shared = Raising(inproc(clock))
    client = NamespaceWrapper("n", TieredInclusiveClient(inproc(clock), shared))
    client.put("k", 1, 600)
    shared.down = True
    clock.advance(5)
    assert client.get("k") == 1
    client.delete("k")
    assert client.get("k", None) is None
    assert client.put("k", 2, 600)
    assert client.get("k") == 2


def test_a_clear_that_nobody_could_be_told_of_is_true_here_and_made_up_for(
    clock: ManualClock,
) -> None:
    server = inproc(clock)
    shared = Raising(server)
    client = NamespaceWrapper("n", TieredInclusiveClient(inproc(clock), shared))
    client.put("k", 1, 600)
    shared.down = True
    with pytest.raises(ConnectionError):
        client.clear()
    assert client.get("k", None) is None
    shared.down = False
    clock.advance(5)
    assert client.get("k", None) is None
    other = NamespaceWrapper("n", TieredInclusiveClient(inproc(clock), RemoteFake(server)))
    assert other.get("k", None) is None
