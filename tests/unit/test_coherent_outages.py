"""What a process believes that reaches the bus, and no server that could tell what is agreed on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.coherent import Cluster, Node
from tests.unit.test_coherent_tags import Process
from tiered import NamespaceWrapper
from tiered.clients.base import CacheClient
from tiered.coherence.messages import Kind
from tiered.region import SharedInvalidationStrategy


class Deaf:
    """No server answers *client* any more, until it is over."""

    def __init__(self, client: CacheClient) -> None:
        self._client: Any = client
        client.agree = lambda key, proposal: None  # type: ignore[method-assign]
        client.decree = lambda key, value: value  # type: ignore[method-assign]
        client.entries = lambda keys: {}  # type: ignore[method-assign]
        client.entry = lambda key: None  # type: ignore[method-assign]
        client.store_versioned = lambda *_args, **_how: (False, None)  # type: ignore[method-assign]
        client.store = lambda *_args, **_how: False  # type: ignore[method-assign]
        client.discard = lambda key: False  # type: ignore[method-assign]

    def over(self) -> None:
        for name in ("agree", "decree", "entries", "entry", "store_versioned", "store", "discard"):
            delattr(self._client, name)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(synchronous=True)


def in_namespace(node: Node) -> NamespaceWrapper:
    return NamespaceWrapper("ns", node.client)


def two_of(cluster: Cluster) -> tuple[Node, Node, NamespaceWrapper, NamespaceWrapper]:
    """Two nodes, and the namespace in each."""
    ours, theirs = cluster.node(), cluster.node()
    return ours, theirs, in_namespace(ours), in_namespace(theirs)


def deaf(node: Node) -> Deaf:
    assert node.shared is not None
    return Deaf(node.shared)


def test_the_last_revision_goes_on_while_nobody_has_told_of_another(cluster: Cluster) -> None:
    _, c, ours, theirs = two_of(cluster)
    ours.put("k", 1, 600)
    assert theirs.get("k") == 1
    deaf(c)
    cluster.advance(30.0)
    assert theirs.get("k") == 1
    ours.delete("k")
    assert theirs.get("k", None) is None


def test_a_revision_that_was_lost_is_not_believed_where_nobody_answers(cluster: Cluster) -> None:
    """A server was restarted, and we still leave it alone."""
    a, c, ours, theirs = two_of(cluster)
    ours.put("k", 1, 600)
    assert theirs.get("k") == 1
    outage = deaf(c)
    cluster.server.clear()
    ours.delete("k")  # under another revision
    assert a.manager.stats.unsettled == 0
    assert c.manager.verified
    assert theirs.get("k", None) is None
    outage.over()
    cluster.advance(1.0)
    ours.put("k", 2, 600)
    assert theirs.get("k") == 2


def test_a_clear_reaches_those_whom_no_server_answers(cluster: Cluster) -> None:
    _, c, ours, theirs = two_of(cluster)
    ours.put("k", 1, 600)
    assert theirs.get("k") == 1
    deaf(c)
    ours.clear()
    for _ in range(3):
        assert theirs.get("k", None) is None
        cluster.advance(1.0)


def test_copies_under_a_name_of_ones_own_live_until_others_change_anything(
    cluster: Cluster,
) -> None:
    a, c, ours, theirs = two_of(cluster)
    theirs.get("k", None)
    deaf(c)
    ours.clear()
    theirs.put("k", 1, 600)
    prefix = theirs.state.prefix
    for _ in range(15):
        cluster.advance(1.0)
        assert theirs.get("k") == 1
    assert theirs.state.prefix == prefix
    ours.delete("k")
    assert theirs.get("k", None) is None
    theirs.put("k", 2, 600)
    assert theirs.get("k") == 2
    cluster.advance(1.5)
    a.client.put("other", 1, 600)
    assert theirs.get("k", None) is None


def test_who_never_had_an_answer_hears_of_what_others_delete(cluster: Cluster) -> None:
    a, c = cluster.node(), cluster.node()
    ours = in_namespace(a)
    ours.put("k", 1, 600)
    outage = deaf(c)
    theirs = in_namespace(c)
    theirs.put("k", 1, 600)
    assert theirs.get("k") == 1
    ours.delete("k")
    assert theirs.get("k", None) is None
    outage.over()
    cluster.advance(1.0)
    ours.put("k", 2, 600)
    assert theirs.get("k") == 2
    theirs.put("m", 1, 600)
    a.client.put("other", 1, 600)  # of no consequence any more
    prefix = theirs.state.prefix
    assert theirs.get("m") == 1
    assert theirs.state.prefix == prefix


def test_what_was_deleted_under_a_name_of_ones_own_is_gone_when_it_is_over(
    cluster: Cluster,
) -> None:
    _, c, ours, theirs = two_of(cluster)
    theirs.get("k", None)
    outage = deaf(c)
    ours.clear()
    ours.put("k", 1, 600)
    theirs.delete("k")
    outage.over()
    cluster.advance(3.0)
    assert theirs.get("k", None) is None
    assert ours.get("k", None) is None


def test_a_clear_that_nobody_heard_is_made_good(cluster: Cluster) -> None:
    _, c, ours, theirs = two_of(cluster)
    ours.put("k", 1, 600)
    assert theirs.get("k") == 1
    outage = deaf(c)
    theirs.clear()
    assert theirs.get("k", None) is None
    outage.over()
    cluster.advance(3.0)
    assert theirs.get("k", None) is None
    assert ours.get("k", None) is None


def test_nor_does_an_outage_lose_it_that_goes_on_in_between(cluster: Cluster) -> None:
    _, c, ours, theirs = two_of(cluster)
    theirs.get("k", None)
    outage = deaf(c)
    ours.clear()
    ours.put("k", 1, 600)
    theirs.delete("k")
    outage.over()
    shared: Any = c.shared
    agree = shared.agree

    def once(key: Any, proposal: Any) -> Any:
        if key == theirs.state.revision_key:
            shared.decree = lambda key, value: value  # not heard
            shared.agree = lambda key, proposal: None
        return agree(key, proposal)

    shared.agree = once
    cluster.advance(1.5)
    theirs.get("other", None)
    cluster.advance(1.5)
    del shared.agree, shared.decree
    assert theirs.get("k", None) is None
    assert ours.get("k", None) is None


def test_a_delete_while_nobody_answers_clears_nothing_if_its_name_was_right(
    cluster: Cluster,
) -> None:
    _, c, ours, theirs = two_of(cluster)
    ours.put_multi({"k": 1, "m": 1}, 600)
    assert theirs.get("k") == 1
    outage = deaf(c)
    theirs.delete("k")
    outage.over()
    cluster.advance(15.0)
    assert theirs.get("m") == ours.get("m") == 1


def test_nor_if_the_server_forgets_all_after_that(cluster: Cluster) -> None:
    """Whoever had a copy was told, and what is made under the next revision is younger."""
    a, _, ours, theirs = two_of(cluster)
    ours.put("k", 1, 600)
    assert theirs.get("k") == 1
    outage = deaf(a)
    ours.delete("k")
    cluster.server.clear()
    assert theirs.get("k", None) is None
    outage.over()
    cluster.advance(11.0)
    theirs.put("m", 1, 600)
    cluster.advance(11.0)
    assert ours.get("m") == theirs.get("m") == 1


def test_a_revision_that_is_told_to_be_old_is_believed_at_no_moment(cluster: Cluster) -> None:
    _, c, ours, theirs = two_of(cluster)
    ours.put("k", 1, 600)
    assert theirs.get("k") == 1
    assert c.shared is not None
    horizons: list[float] = []

    class Noted(type(theirs.state)):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "horizon":
                horizons.append(value)
            super().__setattr__(name, value)

    agree = c.shared.agree

    def overtaken(key: Any, proposal: Any) -> Any:
        answer = agree(key, proposal)
        if key == theirs.state.revision_key and not horizons:
            ours.clear()
            theirs.state.__class__ = Noted
        return answer

    c.shared.agree = overtaken  # type: ignore[method-assign]
    cluster.advance(11.0)
    theirs.state._belief.renew(theirs.state._confirm, anew=True)
    assert horizons
    assert max(horizons) < cluster.clock.monotonic()


def while_it_has_not_told(node: Node, meanwhile: Any) -> None:
    """Have *meanwhile* called when *node* is about to tell of a new revision."""
    publish = node.manager.publish

    def late(kind: Kind, names: Any, **options: Any) -> bool:
        if kind is Kind.CHANGED:
            node.manager.publish = publish  # type: ignore[method-assign]
            meanwhile()
        return publish(kind, names, **options)

    node.manager.publish = late  # type: ignore[method-assign]


@pytest.mark.parametrize("delete", ["delete", "delete_multi", "expire"])
@pytest.mark.parametrize("made", ["by clear", "after a loss"])
def test_a_delete_under_a_revision_that_others_were_not_told_of_yet(
    cluster: Cluster, made: str, delete: str
) -> None:
    a, b, c = (cluster.node() for _ in range(3))
    ours, makers, theirs = map(in_namespace, (a, b, c))
    ours.put("k", 1, 600)
    assert makers.get("k") == theirs.get("k") == 1
    seen: list[Any] = []

    def meanwhile() -> None:
        if delete == "delete_multi":
            ours.delete_multi(["k"])
        else:
            getattr(ours, delete)("k")
        seen.append(theirs.get("k", None))

    while_it_has_not_told(b, meanwhile)
    if made == "by clear":
        makers.clear()
    else:
        cluster.server.clear()
        makers.delete("other")
    assert seen == [None]
    assert a.manager.stats.unsettled == 0
    assert c.manager.verified


def test_others_are_told_once_by_each_who_deletes(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    ours, theirs = in_namespace(a), in_namespace(b)
    theirs.delete("k")
    ours.delete("k")
    published = a.manager.stats.published
    for _ in range(3):
        ours.delete("k")
    assert a.manager.stats.published == published + 3


def test_tags_that_others_have_invalidated_where_nobody_answers(cluster: Cluster) -> None:
    a, c = Process(cluster, alone=False), Process(cluster, alone=False)
    cluster.advance(3.0)
    assert c.f(1) == c.f(1) == (1, 0)
    a.source = c.source = 1
    tiers: Any = c.client
    while not hasattr(tiers, "clients"):
        tiers = tiers.client
    Deaf(tiers.clients[1])
    a.f.client.invalidate_tag("all")
    assert c.f(1) == (1, 1)
    assert c.manager.verified
    c.source = 2
    cluster.advance(3.0)
    assert c.f(1) == (1, 1)
    a.f.client.invalidate_tag("all")
    assert c.f(1) == (1, 2)


def test_a_version_that_was_read_before_a_tag_was_invalidated(cluster: Cluster) -> None:
    """And heard of only then; the server is out of reach from then on."""
    a, c = Process(cluster, alone=False), Process(cluster, alone=False)
    cluster.advance(3.0)
    assert c.f(1) == a.f(1) == (1, 0)
    a.source = c.source = 1
    tiers: Any = c.client
    while not hasattr(tiers, "clients"):
        tiers = tiers.client
    server = tiers.clients[1]
    entries = server.entries
    outages: list[Deaf] = []

    def overtaken(keys: Any) -> Any:
        found = entries(keys)
        if not outages and any("tiered.tag" in str(key) for key in keys):
            a.f.client.invalidate_tag("all")
            outages.append(Deaf(server))
        return found

    cluster.advance(11.0)
    server.entries = overtaken
    for _ in range(3):
        assert c.f(1) == (1, 1)
        cluster.advance(2.0)
    assert outages


def test_a_region_without_a_server_forgets_once(cluster: Cluster) -> None:
    a, c = cluster.node(alone=True), cluster.node(alone=True)
    ours, theirs = (SharedInvalidationStrategy.of("r", node.client) for node in (a, c))
    c.client.put("k", 1, 600)
    assert ours.current() == theirs.current()
    ours.invalidate()
    assert c.client.get("k", None) is None
    c.client.put("k", 2, 600)
    for _ in range(3):
        cluster.advance(2.0)
        ours.current()
        assert c.client.get("k") == 2


def test_a_region_that_others_have_invalidated_where_nobody_answers(cluster: Cluster) -> None:
    a, c = cluster.node(), cluster.node()
    ours, theirs = (SharedInvalidationStrategy.of("r", node.client) for node in (a, c))
    known = theirs.current()
    assert ours.current() == known
    deaf(c)
    cluster.advance(30.0)
    assert theirs.current() == known
    ours.invalidate()
    own = theirs.current()
    assert own != known
    cluster.advance(30.0)
    assert theirs.current() == own
    ours.invalidate()
    assert theirs.current() not in (own, known)


def silent_about(client: Any, mark: str) -> None:
    """The servers of such keys answer *client* no more; those of the others do."""
    agree, entries, entry = client.agree, client.entries, client.entry

    def others(keys: Any) -> list[Any]:
        return [key for key in keys if mark not in str(key)]

    client.agree = lambda key, proposal: agree(key, proposal) if others([key]) else None
    client.entries = lambda keys: entries(others(keys))
    client.entry = lambda key: entry(key) if others([key]) else None


def cut_off_from(process: Process, cluster: Cluster, mark: str) -> None:
    process.bus.cut = True
    cluster.advance(1.5)
    tiers: Any = process.client
    while not hasattr(tiers, "clients"):
        tiers = tiers.client
    silent_about(tiers.clients[1], mark)


@pytest.mark.parametrize("mark", ["tiered.tag", "tiered.namespace"])
def test_who_hears_of_nothing_and_cannot_ask_what_is_agreed_on_serves_nothing_old(
    cluster: Cluster, mark: str
) -> None:
    """Several servers: the one of the value answers, so the copy itself can be confirmed."""
    a, c = Process(cluster, alone=False), Process(cluster, alone=False)
    cluster.advance(3.0)
    assert a.f(1) == c.f(1) == (1, 0)
    cut_off_from(c, cluster, mark)
    a.source = c.source = 1
    if mark == "tiered.tag":
        a.client.invalidate_tag("all")
    else:
        a.f.client.clear()
    cluster.advance(2.0)
    assert c.f(1) == (1, 1)
    c.source = 2  # nor is that kept: the next change would not be heard of either
    assert c.f(1) == (1, 2)
    c.bus.cut = False
    cluster.advance(3.0)
    assert c.f(1) in ((1, 1), (1, 2))
    assert a.f(1) == (1, 1)


def test_nor_does_a_region_that_hears_of_nothing_and_cannot_ask(cluster: Cluster) -> None:
    a, c = cluster.node(), cluster.node()
    ours, theirs = (SharedInvalidationStrategy.of("region", node.client) for node in (a, c))
    revision = ours.current()
    assert theirs.current() == revision
    c.bus.cut = True
    cluster.advance(1.5)
    silent_about(c.shared, "tiered.region")
    ours.invalidate()
    cluster.advance(2.0)
    assert theirs.current() != revision
