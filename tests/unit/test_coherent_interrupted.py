"""Changes that break off, or come to nothing, and clients that share a private tier: none of them
leaves a copy that is served for true."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.coherent import Cluster, Node
from tests.fakes import Interposed, VersionedFake
from tiered import InprocCacheClient, TieredInclusiveClient, coherent_cached
from tiered.clients.base import CacheClient, Capabilities
from tiered.coherence import CoherenceManager, CoherentWrapperClient
from tiered.entry import IF_OLDER, Versioned
from tiered.errors import UnsupportedOperation
from tiered.testing.buses import LocalBus, LocalHub
from tiered.typing import Key


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


class Interrupted(KeyboardInterrupt):
    """Ctrl-C."""


CHANGES: dict[str, tuple[str, Callable[[CacheClient], object]]] = {
    "delete": ("discard", lambda client: client.delete("k")),
    "delete_multi": ("discard_many", lambda client: client.delete_multi(["k"])),
    "expire": ("outdate", lambda client: client.expire("k")),
    "put": ("store_versioned", lambda client: client.put("k", "new", 60)),
    "put_multi": ("store_many", lambda client: client.put_multi({"k": "new"}, 60)),
    "clear": ("clear", lambda client: client.clear()),
}


def clearable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else uses the servers."""
    capabilities = Capabilities(shared=True, near=False, blocking=True, clearable=True)
    monkeypatch.setattr(VersionedFake, "capabilities", capabilities)


@pytest.mark.parametrize("name", CHANGES)
def test_who_is_interrupted_after_the_server_was_written_serves_no_copy(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    clearable(monkeypatch)
    a, b = cluster.node(), cluster.node()
    a.client.put("k", "old", 60)
    assert b.client.get("k") == "old"
    method, change = CHANGES[name]
    write = getattr(a.shared, method)

    def interrupted(*args: Any, **kwargs: Any) -> None:
        write(*args, **kwargs)
        raise Interrupted

    monkeypatch.setattr(a.shared, method, interrupted)
    with pytest.raises(Interrupted):
        change(a.client)
    now = cluster.server.get("k", None)
    assert now != "old"
    assert a.manager.verified
    assert a.client.get("k", None) == now
    assert b.client.get("k", None) == now


def test_a_clear_that_is_refused_takes_no_copies(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    with pytest.raises(UnsupportedOperation):
        a.client.clear()
    assert a.private.get("k") == b.private.get("k") == 1


def test_who_is_interrupted_adding_tells_of_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", "old", 1)
    assert b.client.get("k") == "old"
    b.private.put("k", "old", 60)  # its clock is behind
    cluster.clock.advance(2)
    assert a.shared is not None
    store = a.shared.store

    def interrupted(*args: Any, **kwargs: Any) -> None:
        store(*args, **kwargs)
        raise Interrupted

    monkeypatch.setattr(a.shared, "store", interrupted)
    with pytest.raises(Interrupted):
        a.client.add("k", "new", 60)
    assert b.private.get("k", None) is None


# -- Stale copies after events were missed ------------------------------------------------


def missed(cluster: Cluster, node: Node, change: Callable[[], object]) -> None:
    """*change* while *node* hears nothing."""
    node.bus.cut = True
    cluster.hub.kill()
    cluster.hub.begin()
    cluster.settle()
    change()
    cluster.advance(1)
    node.bus.cut = False
    cluster.settle()
    assert node.manager.verified


def test_what_was_stale_when_its_delete_was_missed_is_not_served_as_stale(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", "old", 1, keep=1000)
    assert b.client.get("k") == "old"
    cluster.advance(2)
    assert b.client.get_ttl("k")[0] == "old"
    missed(cluster, b, lambda: a.client.delete("k"))
    assert b.client.get_ttl("k", None)[0] is None


def test_a_change_that_comes_to_nothing_leaves_no_suspect_copy(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put_multi({"k": "old", "l": "old"}, 100)
    assert set(b.client.get_multi(["k", "l"]).values()) == {"old"}
    missed(cluster, b, lambda: a.client.delete_multi(["k", "l"]))
    assert not b.client.renew("k", 100)
    assert b.client.get_ttl("k", None)[0] is None


def test_nor_does_a_change_of_the_first_tiers_alone(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", "old", 100)
    assert b.client.get("k") == "old"
    missed(cluster, b, lambda: a.client.delete("k"))
    first = b.client.first_tiers(1)
    long_over = cluster.clock.monotonic() - 100
    first.store("k", "older", long_over, condition=IF_OLDER)
    assert b.client.get_ttl("k", None)[0] != "old"


def test_what_is_stale_in_both_is_still_served_as_stale(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", "old", 1, keep=1000)
    assert b.client.get("k") == "old"
    cluster.advance(2)
    missed(cluster, b, lambda: None)
    assert b.client.get_ttl("k")[0] == "old"


# -- Several clients ----------------------------------------------------------------------


class Gated(Interposed):
    """A server that is slow to answer who reads a version."""

    def __init__(self, client: CacheClient) -> None:
        super().__init__(client)
        self.asked, self.go = threading.Event(), threading.Event()

    def versioned(self, key: Key) -> Versioned:
        answer = self.client.versioned(key)
        self.asked.set()
        assert self.go.wait(30)
        return answer


@pytest.mark.parametrize("change", ["delete", "clear"])
def test_what_one_client_promotes_while_another_deletes_it_is_not_kept(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    clearable(monkeypatch)
    node = cluster.node()
    assert node.shared is not None
    slow = Gated(node.shared)
    other = CoherentWrapperClient(TieredInclusiveClient(node.private, slow), node.manager)
    node.client.put("k", "old", 60)
    node.private.delete("k")
    reader = threading.Thread(target=lambda: other.get("k", None))
    reader.start()
    assert slow.asked.wait(30)
    if change == "delete":
        node.client.delete("k")
    else:
        node.client.clear()
    slow.go.set()
    reader.join(30)
    assert node.manager.verified
    assert node.client.get("k", None) is None
    assert other.get("k", None) is None


def test_a_shared_tier_that_does_not_say_so_is_shared_all_the_same() -> None:
    hub, source = LocalHub(), ["old"]
    shared = InprocCacheClient(100, clock=hub.clock)  # as a client of the user's own

    def made() -> Any:
        private = InprocCacheClient(100, clock=hub.clock)
        return coherent_cached(private, shared, LocalBus(hub), 3600, namespace="n")(
            lambda x: source[0]
        )

    one, another = made(), made()
    for _ in range(3):
        assert one(1) == another(1) == "old"
        hub.advance(2)
    source[0] = "new"
    one.invalidate(1)
    assert one(1) == another(1) == "new"


# -- Signals ------------------------------------------------------------------------------


def test_a_signals_handler_may_change_something_while_the_bus_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = LocalHub()
    private, shared = (InprocCacheClient(10, clock=hub.clock) for _ in "12")
    bus = LocalBus(hub)
    manager = CoherenceManager("n", private, shared, bus)
    client = CoherentWrapperClient(TieredInclusiveClient(private, shared), manager)
    shared.put("k", 1, 60)
    start, calls = bus.start, []

    def interrupted() -> None:
        start()
        calls.append(1)
        if len(calls) == 1:
            client.delete("k")

    monkeypatch.setattr(bus, "start", interrupted)
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(client.get("k", None)), daemon=True)
    caller.start()
    caller.join(20)
    assert answers == [None]
    assert manager.started
