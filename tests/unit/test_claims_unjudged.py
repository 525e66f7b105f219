"""Claims that no server can judge: what was deleted meanwhile, as is known here, is not kept."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.coherent import Cluster, Node
from tests.fakes import Held, RemoteFake, inproc
from tiered import AsyncWriteCacheClient, NamespaceWrapper, TieredInclusiveClient
from tiered.clients.base import CacheClient, Claim
from tiered.testing import ManualClock
from tiered.typing import Key

LEASE = object()
CHANGES: dict[str, Callable[[CacheClient], object]] = {
    "delete": lambda client: client.delete("k"),
    "delete_multi": lambda client: client.delete_multi(["k"]),
    "expire": lambda client: client.expire("k"),
    "put": lambda client: client.put("k", "newer", 600),
}


class Unreachable(RemoteFake):
    """Gives claims without asking a server, or gets no answer to what it writes under them."""

    raises = False
    lost = False

    def claim(self, key: Key, ttl: float = 10.0) -> Claim | None:
        if self.raises:
            raise ConnectionError
        token = secrets.token_hex(8)
        return Claim(self, key, token, lambda action: action(), lambda: True, lease=LEASE)

    def fill(self, key: Key, value: Any, deadline: float, *, keep: float, claim: Claim) -> bool:
        claim.lost = self.lost
        return False


@pytest.fixture
def server(clock: ManualClock) -> Unreachable:
    return Unreachable(inproc(clock, 10_000))


@pytest.fixture(params=["bare", "namespace", "nested", "background", "three"])
def client(clock: ManualClock, server: Unreachable, request: pytest.FixtureRequest) -> CacheClient:
    far = AsyncWriteCacheClient(server) if request.param == "background" else server
    middle = [inproc(clock)] if request.param == "three" else []
    tiers: CacheClient = TieredInclusiveClient(inproc(clock), *middle, far)
    if request.param == "nested":
        tiers = TieredInclusiveClient(inproc(clock), tiers)
    return NamespaceWrapper("ns", tiers) if request.param == "namespace" else tiers


def claimed(client: CacheClient) -> Claim:
    claim = client.claim("k")
    assert claim is not None
    return claim


@pytest.mark.parametrize("raises", [False, True])
def test_it_fills_the_nearer_tiers(client: CacheClient, server: Unreachable, raises: bool) -> None:
    server.raises = raises
    claim = claimed(client)
    assert claim.fill("v", 600)
    assert not claim.lost
    assert client.get("k") == "v"
    assert server.entry("k") is None


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_not_if_the_key_was_changed_meanwhile(
    client: CacheClient, server: Unreachable, change: str, raises: bool
) -> None:
    server.raises = raises
    claim = claimed(client)
    CHANGES[change](client)
    held = client.get("k", None)
    assert not claim.fill("v", 600)
    assert claim.lost
    assert client.get("k", None) == held != "v"
    assert claimed(client).fill("v", 600)
    assert client.get("k") == "v"


def test_nor_if_it_is_called_otherwise_by_now(clock: ManualClock, server: Unreachable) -> None:
    client = NamespaceWrapper("ns", TieredInclusiveClient(inproc(clock), server))
    claim = claimed(client)
    client.clear()
    assert not claim.fill("v", 600)
    assert claim.lost
    assert client.get("k", None) is None


def test_what_a_server_refuses_is_refused(client: CacheClient, server: Unreachable) -> None:
    server.lost = True
    if client.is_async:
        return  # it is asked later
    assert not claimed(client).fill("v", 600)
    assert client.get("k", None) is None


def test_who_changes_a_key_does_not_wait_for_a_slow_tier_that_is_filled(
    clock: ManualClock, server: Unreachable
) -> None:
    held = Held()

    class Slow(RemoteFake):
        def store(self, *args: Any, **how: Any) -> bool:
            held()
            return super().store(*args, **how)

    client = TieredInclusiveClient(inproc(clock), Slow(inproc(clock)), server)
    claim = claimed(client)
    with ThreadPoolExecutor(2) as threads:
        filled = threads.submit(claim.fill, "v", 600)
        assert held.started.wait(20)
        threads.submit(client.drop_near, "k").result(20)
        held.go.set()
        assert not filled.result(20)
    assert claim.lost
    assert client.get("k", None) is None


def test_a_claim_that_nobody_releases_is_forgotten_after_its_end(
    clock: ManualClock, server: Unreachable
) -> None:
    client = TieredInclusiveClient(inproc(clock), server)
    for number in range(2_000):
        client.claim(number, 1.0)
        clock.advance(0.01)
    assert len(client._claimed) < 600
    assert len(client._generations) < 600


def test_one_that_was_given_before_a_fork_fills_nothing_in_the_child(
    clock: ManualClock, server: Unreachable
) -> None:
    client = TieredInclusiveClient(inproc(clock), server)
    claim = claimed(client)
    client._generations.after_fork()
    client._claimed.after_fork()
    client.drop_near("k")
    assert not claim.fill("v", 600)
    assert client.get("k", None) is None


def test_no_watch_is_left(clock: ManualClock, server: Unreachable) -> None:
    client = TieredInclusiveClient(inproc(clock), server)
    for raises in (False, True):
        server.raises = raises
        claimed(client).fill("v", 600)
        claimed(client).release()
        with claimed(client) as claim:
            pass
        assert not claim.release()
    claimed(client)
    assert client.claim("k") is None
    server.claim = lambda key, ttl=10.0: None  # type: ignore[method-assign]
    assert client.claim("m") is None
    assert list(client._generations.states) == ["k"]


def unreachable(node: Node) -> None:
    shared: Any = node.shared
    shared.claim = lambda key, ttl=10.0: Claim(
        shared, key, "token", lambda action: action(), lambda: True, lease=LEASE
    )
    shared.fill = lambda key, value, deadline, *, keep, claim: False


@pytest.mark.parametrize("by", ["another process", "this one"])
def test_a_delete_that_is_heard_of_ends_it(by: str) -> None:
    cluster = Cluster(synchronous=True)
    a, c = cluster.node(), cluster.node()
    ours, theirs = NamespaceWrapper("ns", c.client), NamespaceWrapper("ns", a.client)
    unreachable(c)
    claim = claimed(ours)
    (theirs if by == "another process" else ours).delete("k")
    assert a.manager.stats.unsettled == 0
    assert not claim.fill("v", 600)
    assert ours.get("k", None) is None
    assert claimed(ours).fill("v", 600)
    assert ours.get("k") == "v"
