"""A namespace that is made coherent, instead of one in which something coherent is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.coherent import Cluster, Node
from tiered import (
    AsyncWriteCacheClient,
    InprocCacheClient,
    NamespaceMirrorWrapper,
    NamespaceWrapper,
)
from tiered.clients.wrapper import Wrapper
from tiered.coherence.client import CoherentWrapperClient
from tiered.coherence.namespaced import CoherentNamespaceClient


@pytest.fixture(params=[1, 2])
def depth(request: pytest.FixtureRequest) -> int:
    depth: int = request.param
    return depth


@pytest.fixture(params=[False, True], ids=["shared tier", "no shared tier"])
def nodes(request: pytest.FixtureRequest) -> list[Node]:
    cluster = Cluster(synchronous=True)
    return [cluster.node(alone=request.param) for _ in range(3)]


def in_namespaces(node: Node, depth: int) -> CoherentWrapperClient:
    client = node.client.client
    for number in range(depth):
        client = NamespaceWrapper(f"ns{number}", client)
    return CoherentWrapperClient(client, node.manager)


def test_changes_reach_everybody(nodes: list[Node], depth: int) -> None:
    a, b, c = (in_namespaces(node, depth) for node in nodes)
    changes: list[Callable[[], object]] = [
        lambda: a.delete("k"),
        lambda: a.expire("k"),
        lambda: a.delete_multi(["k"]),
        a.clear,
    ]
    for change in changes:
        for client in (a, b, c):
            client.put("k", 1, 600)
        assert c.get("k") == 1
        change()
        for client in (a, b, c):
            assert client.get("k", None) is None
    assert nodes[0].manager.stats.unsettled == 0


def test_so_do_those_after_a_clear_that_not_all_have_noticed(depth: int) -> None:
    cluster = Cluster(synchronous=True)
    a, b, c = (in_namespaces(cluster.node(), depth) for _ in range(3))
    a.put("k", 1, 600)
    assert b.get("k") == c.get("k") == 1
    b.clear()
    assert a.get("k", None) is c.get("k", None) is None
    b.put("k", 2, 600)
    assert c.get("k") == 2
    a.delete("k")
    assert c.get("k", None) is None


def test_values_beside_the_namespace_are_others(nodes: list[Node], depth: int) -> None:
    inside = in_namespaces(nodes[0], depth)
    nodes[0].client.put("k", "beside", 600)
    inside.put("k", "inside", 600)
    inside.clear()
    assert inside.get("k", None) is None
    if nodes[0].shared is not None:  # else all that this process has is forgotten
        assert nodes[0].client.get("k") == "beside"


def test_what_it_tells_of_itself(nodes: list[Node], depth: int) -> None:
    client = in_namespaces(nodes[0], depth)
    assert isinstance(client, CoherentWrapperClient)
    assert client.manager is nodes[0].manager
    assert client.coherence.verified
    client.put("k", 1, 600)
    assert client.get("k") == 1
    assert client.stats.hits == 1
    assert ("verified", True) in _details(client.explain("k"))


def _details(explanation: Any) -> list[tuple[str, object]]:
    return [*explanation.detail, *(one for tier in explanation.tiers for one in _details(tier))]


def test_who_waits_for_a_computation_is_told(nodes: list[Node], depth: int) -> None:
    ours, theirs = (in_namespaces(node, depth) for node in nodes[:2])
    heard: list[str] = []
    following = ours.follow("k", heard.append)
    assert following is not None
    claim = theirs.claim("k")
    assert claim is not None
    heard.clear()
    claim.fill(1, 600)
    assert heard == ["done"]
    theirs.clear()
    assert "changed" in heard
    following.close()


def test_a_mirrored_namespace_follows_its_own() -> None:
    cluster = Cluster(synchronous=True)
    node = cluster.node()
    reference = NamespaceWrapper("ns", node.client)
    mirror = NamespaceMirrorWrapper(reference, node.client.client)
    client = CoherentWrapperClient(mirror, node.manager)
    client.put("k", 1, 600)
    assert client.get("k") == reference.get("k") == 1
    reference.clear()
    assert client.get("k", None) is None


def test_all_that_a_coherent_client_does_is_done_beneath_the_namespace() -> None:
    own = {name for name in vars(CoherentWrapperClient) if name in vars(Wrapper)}
    inherited = {name for name in own if name not in vars(CoherentNamespaceClient)}
    assert inherited <= {"__doc__", "__module__", "__new__", "coherence"}


def test_a_namespace_within_other_wrappers_is_refused() -> None:
    node = Cluster().node()
    within = AsyncWriteCacheClient(NamespaceWrapper("ns", node.client.client))
    with pytest.raises(ValueError, match="must not have a namespace within other wrappers"):
        CoherentWrapperClient(within, node.manager)


def test_arguments_that_cannot_be_right() -> None:
    node = Cluster().node()
    with pytest.raises(TypeError, match="manager must be a CoherenceManager"):
        CoherentWrapperClient(NamespaceWrapper("ns", node.client.client), "no")  # type: ignore[arg-type]
    other = InprocCacheClient(10, clock=node.private.clock)
    with pytest.raises(ValueError, match="client must be tiers"):
        CoherentWrapperClient(NamespaceWrapper("ns", other), node.manager)
