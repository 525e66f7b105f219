"""The coherent client: copies go when others change what they are of, or are confirmed first."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterable

import pytest

from tests.coherent import Cluster, Node, drain, idle
from tests.fakes import Interposed, VersionedFake
from tiered import MISSING, InprocCacheClient, TieredInclusiveClient
from tiered.clients.decorating import DecoratedWrapper
from tiered.clients.wrapper import Wrapper
from tiered.coherence import CoherenceManager, CoherentWrapperClient
from tiered.coherence.messages import NodeMessage, Publish
from tiered.coherence.names import name_of
from tiered.entry import Entry, Versioned
from tiered.testing.buses import LocalBus
from tiered.typing import Key


def delete(node: Node) -> None:
    node.client.delete("k")


def verified(node: Node) -> bool:
    return node.manager.verified


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def errors_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Those of coherence; threads that other tests have left may tell of others."""
    return [
        record.message
        for record in caplog.records
        if record.levelname == "ERROR" and record.name.startswith("tiered.coherence")
    ]


def test_a_delete_elsewhere_takes_the_copy_here(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    assert b.private.get("k") == 1
    a.client.delete("k")
    assert b.private.get("k", None) is None
    assert b.client.get("k", None) is None


def test_what_is_replaced_elsewhere_is_read_anew(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    a.client.put("k", 2, 60)
    assert b.client.get("k") == 2
    assert a.private.get("k") == 2  # its own echo takes nothing


def test_expire_elsewhere_makes_stale_and_keeps(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    a.client.expire("k")
    assert b.client.get("k", None) is None
    value, ttl = b.client.get_ttl("k")
    assert value == 1
    assert ttl <= 0


def test_many_at_once(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put_multi({"k": 1, "l": 2}, 60)
    assert b.client.get_multi(["k", "l", "m"]) == {"k": 1, "l": 2, "m": MISSING}
    a.client.delete_multi(["k", "l"])
    assert len(b.private._store) == 0


def test_a_value_read_before_the_delete_is_not_copied_after_it(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 60)
    assert b.shared is not None

    class Slow(Interposed):
        def versioned(self, key: Key) -> Versioned:
            found = super().versioned(key)
            self.after_read()
            return found

    slow = Slow(b.shared, lambda: delete(a))
    tiers = TieredInclusiveClient(b.private, slow)
    client = CoherentWrapperClient(tiers, b.manager)
    assert client.get("k") == 1
    assert b.private.get("k", None) is None


def test_while_the_lease_is_over_a_copy_is_confirmed_without_its_value(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    b.bus.cut = True
    cluster.advance(1.1)
    assert not verified(b)
    assert b.client.get("k") == 1
    assert b.manager.stats.confirmed == 1
    a.client.delete("k")
    assert b.client.get("k", None) is None
    assert b.manager.stats.refetched == 1
    b.bus.cut = False
    cluster.settle()
    assert verified(b)
    assert b.private.get("k", None) is None


def test_a_missed_event_is_replayed(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    b.bus.deaf = 1
    a.client.delete("k")
    assert b.private.get("k") == 1
    cluster.advance(0.3)
    assert b.private.get("k", None) is None
    assert b.bus.stats.gaps == 1
    assert b.bus.stats.replays == 1


def test_after_a_new_broker_all_is_confirmed_and_nothing_flushed(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    for key in range(10):
        a.client.put(key, key, 60)
        assert b.client.get(key) == key
    cluster.hub.kill()
    a.client.delete(3)
    cluster.hub.begin()
    cluster.settle()
    assert b.manager.verified
    assert b.private.get(4, None) is None  # suspect, not on the hot path
    assert b.client.get(4) == 4
    assert b.private.get(4) == 4  # confirmed
    assert b.client.get(3, None) is None
    assert b.manager.stats.confirmed == 1


def test_a_suspect_copy_keeps_its_own_deadline(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 60)
    _, ttl = b.client.get_ttl("k")
    b.manager.distrust("test")
    drain(b)
    _, again = b.client.get_ttl("k")
    assert again == pytest.approx(ttl)
    assert b.client.get_ttl("k")[1] == pytest.approx(ttl)


def test_own_writes_are_confirmed_by_their_version(cluster: Cluster) -> None:
    a = cluster.node()
    a.client.put("k", 1, 60)
    a.manager.distrust("test")
    drain(a)
    assert a.client.get("k") == 1


def test_clear_reaches_everybody_without_a_shared_tier(cluster: Cluster) -> None:
    a, b = cluster.node(alone=True), cluster.node(alone=True)
    a.client.put("k", 1, 60)
    b.client.put("l", 1, 60)
    assert b.client.get("l") == 1
    a.client.clear()
    assert b.client.get("l", None) is None


def test_without_a_shared_tier_what_cannot_be_believed_is_a_miss(cluster: Cluster) -> None:
    a, b = cluster.node(alone=True), cluster.node(alone=True)
    b.client.put("k", 1, 60)
    b.bus.cut = True
    cluster.advance(1.1)
    assert b.client.get("k", None) is None
    assert b.client.get_multi(["k"], None) == {"k": None}
    a.client.delete("k")
    b.bus.cut = False
    cluster.settle()
    assert b.client.get("k", None) is None


def test_one_claim_in_the_cluster(cluster: Cluster) -> None:
    a, b = cluster.node(alone=True), cluster.node(alone=True)
    claim = a.client.claim("k")
    assert claim is not None
    assert b.client.claim("k") is None
    assert claim.fill(1, 60)
    again = b.client.claim("k")
    assert again is not None
    again.release()


def test_a_delete_elsewhere_ends_a_claim_here(cluster: Cluster) -> None:
    a, b = cluster.node(alone=True), cluster.node(alone=True)
    claim = a.client.claim("k")
    assert claim is not None
    b.client.delete("k")
    assert not claim.fill(1, 60)
    assert a.client.get("k", None) is None


def test_followers_hear_of_changes_and_of_ends_of_computations(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    heard: list[str] = []
    follow = b.client.follow("k", heard.append)
    assert follow is not None
    a.client.delete("k")
    claim = a.client.claim("k")
    assert claim is not None
    claim.release()
    claim = a.client.claim("k")
    assert claim is not None
    claim.fill(1, 60)
    assert heard == ["changed", "done", "done"]
    follow.close()
    a.client.delete("k")
    assert len(heard) == 3


def test_quick_refresh_takes_older_copies(cluster: Cluster) -> None:
    a, b = cluster.node(quick_refresh=True), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    claim = a.client.claim("k")
    assert claim is not None
    claim.fill(2, 60)
    assert b.client.get("k") == 2


def test_managers_of_one_process_hear_each_other(cluster: Cluster) -> None:
    a = cluster.node()
    private = InprocCacheClient(100, clock=cluster.clock)
    manager = CoherenceManager("test", private, a.shared, a.bus)
    assert a.shared is not None
    client = CoherentWrapperClient(TieredInclusiveClient(private, a.shared), manager)
    a.client.put("k", 1, 60)
    assert client.get("k") == 1
    a.client.delete("k")
    assert private.get("k", None) is None


def test_the_ledger_stays_as_small_as_the_tier(cluster: Cluster) -> None:
    a = cluster.node()
    for key in range(10_000):
        a.client.put(key, key, 60)
    assert len(a.manager.copies.ledger) <= 2 * 1_000 + 1_024


def test_clients_that_do_not_belong_together(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    with pytest.raises(ValueError, match="nearest"):
        CoherentWrapperClient(b.client.client, a.manager)
    with pytest.raises(TypeError, match="manager"):
        CoherentWrapperClient(a.private, object())  # type: ignore[arg-type]
    assert a.shared is not None
    with pytest.raises(ValueError, match="private"):
        CoherenceManager("test", a.shared, a.shared, LocalBus(cluster.hub))


def test_synchronous_waits_for_all_live_nodes(cluster: Cluster) -> None:
    a, b = cluster.node(synchronous=True, timeout=0.0), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    assert a.client.delete("k")
    assert a.manager.stats.unsettled == 0
    b.bus.cut = True
    a.client.delete("k")
    assert a.manager.stats.unsettled == 1


def test_changes_that_are_not_known_to_all_are_logged_once(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = cluster.node(synchronous=True, timeout=0.0), cluster.node()
    a.client.put("k", 1, 60)
    b.client.get("k")
    b.bus.cut = True
    for _ in range(20):
        a.client.delete("k")
    assert a.manager.stats.unsettled == 20
    assert caplog.text.count("not known to all nodes after 0.0 s") == 1


def probed(cluster: Cluster, a: Node, b: Node) -> None:
    """*a* asks about its last change, and *b* has answered."""
    before = b.manager.probes
    cluster.advance(1.3)
    while b.manager.probes == before:
        os.sched_yield()
    cluster.advance(0.6)


def test_the_meter_finds_copies_right(cluster: Cluster) -> None:
    a, b = cluster.node(sample=1), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    probed(cluster, a, b)
    meter = a.manager.stats.meter
    assert (meter.asked, meter.right, meter.wrong) == (1, 1, 0)
    assert meter.share == 1.0
    assert meter.nines == math.inf


def missed(a: Node, b: Node, change: Callable[[], object]) -> None:
    """*change* by *a*, which *b* hears of and drops nothing, as a flaw of ours would have it."""
    b.manager.copies.ledger.get(name_of("k")).key = "another"  # type: ignore[union-attr]
    change()
    b.manager.copies.ledger.get(name_of("k")).key = "k"  # type: ignore[union-attr]
    assert b.client.get("k") == 1


def test_the_meter_finds_a_copy_that_was_missed(cluster: Cluster) -> None:
    a, b = cluster.node(sample=1), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    probed(cluster, a, b)
    missed(a, b, lambda: a.client.put("k", 2, 60))
    probed(cluster, a, b)
    meter = a.manager.stats.meter
    assert (meter.asked, meter.right, meter.wrong) == (2, 1, 1)
    assert meter.share == 0.5
    assert meter.nines == pytest.approx(0.301, abs=0.001)


def test_the_meter_finds_a_delete_that_was_missed(cluster: Cluster) -> None:
    a, b = cluster.node(sample=1), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    probed(cluster, a, b)
    missed(a, b, lambda: a.client.delete("k"))
    probed(cluster, a, b)
    cluster.advance(1.0)
    meter = a.manager.stats.meter
    assert (meter.asked, meter.right, meter.wrong, meter.unknown) == (2, 1, 1, 0)


def test_the_meter_does_not_take_a_server_that_is_down_for_one_without_the_value(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = cluster.node(sample=1), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    assert b.shared is not None
    down: dict[str, Callable[..., None]] = {"version": lambda key: None}
    down["agree"] = lambda *_: None
    for name, answer in down.items():
        monkeypatch.setattr(b.shared, name, answer)
    probed(cluster, a, b)
    for _ in range(20):
        cluster.advance(0.2)
    meter = a.manager.stats.meter
    assert (meter.asked, meter.right, meter.wrong, meter.unknown) == (1, 0, 0, 1)


def test_of_two_brokers_the_shared_tier_believes_one(cluster: Cluster) -> None:
    a = cluster.node(sole=False)
    b = cluster.node(sole=False, hub=cluster.another_hub())
    together = longest = 0
    for _ in range(100):
        cluster.advance(0.1)
        together = together + 1 if a.manager.verified and b.manager.verified else 0
        longest = max(longest, together)
    assert longest <= 11  # when one takes over, what the other was told holds for a second


def test_what_one_side_of_a_split_deletes_the_other_does_not_serve_for_long(
    cluster: Cluster,
) -> None:
    a = cluster.node(sole=False)
    a.client.put("k", 1, 600)
    b = cluster.node(sole=False, hub=cluster.another_hub())
    for deleter, reader in ((a, b), (b, a)):
        deleter.client.put("k", 1, 600)
        cluster.advance(2.5)
        assert reader.client.get("k") == 1
        deleter.client.delete("k")
        cluster.advance(2.5)
        assert reader.client.get("k", None) is None


def test_two_buses_that_are_each_said_to_be_the_only_one_are_found_out(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a loopback address is used on two hosts."""
    a = cluster.node()
    a.client.put("k", 1, 600)
    b = cluster.node(hub=cluster.another_hub())
    cluster.advance(5.0)
    for deleter, reader in ((a, b), (b, a)) * 2:
        deleter.client.put("k", 1, 600)
        assert reader.client.get("k") == 1
        deleter.client.delete("k")
        cluster.advance(2.5)
        assert reader.client.get("k", None) is None
    errors = errors_of(caplog)
    assert len(errors) == 2  # each process says it once
    assert all(error.startswith("two buses share test's tier") for error in errors)


def test_what_is_deleted_before_two_buses_are_found_out_is_not_served_for_long(
    cluster: Cluster,
) -> None:
    a = cluster.node()
    cluster.advance(20.0)
    a.client.put("k", 1, 600)
    b = cluster.node(hub=cluster.another_hub())
    c = cluster.node(hub=b.bus.hub)
    assert b.client.get("k") == c.client.get("k") == 1
    a.client.delete("k")
    cluster.advance(5.0)
    assert b.client.get("k", None) is c.client.get("k", None) is None


def test_an_ordinary_takeover_is_not_taken_for_two_buses(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = cluster.node(), cluster.node()
    for _ in range(5):
        a.client.put("k", 1, 600)
        cluster.hub.kill()
        cluster.advance(0.3)
        cluster.hub.begin()
        cluster.advance(4.0)
        a.client.delete("k")
        assert b.client.get("k", None) is None
    assert a.manager.verified
    assert b.manager.verified
    assert not errors_of(caplog)


def test_who_is_cut_off_from_the_bus_and_deletes_makes_all_confirm(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 600)
    assert b.client.get("k") == 1
    a.bus.cut = True
    a.client.delete("k")
    assert b.client.get("k") == 1
    cluster.advance(2.0)
    assert b.client.get("k", None) is None
    assert b.manager.verified
    a.bus.cut = False
    cluster.advance(2.0)
    assert a.manager.verified
    assert a.bus.stats.owed == 0


def test_what_is_put_into_the_first_tier_alone_is_kept_in_step_too(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    b.client.put("k", 1, 60, max_tiers=1)
    assert b.client.get("k", max_tiers=1) == 1
    a.client.delete("k")
    assert b.client.get("k", None, max_tiers=1) is None
    b.client.put_multi({"k": 1}, 60, max_tiers=1)
    b.bus.cut = True
    cluster.advance(1.1)
    assert b.client.get("k", None, max_tiers=1) is None
    assert b.client.get_multi(["k"], None, max_tiers=1) == {"k": None}
    assert b.client.get("k", None) is None


def test_deletes_that_come_late_to_the_server_make_all_confirm(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 600)
    assert b.client.get("k") == 1
    cluster.server.delete("k")  # by the journal of a's client, when the server is back
    assert b.client.get("k") == 1
    a.manager._late()
    cluster.advance(1.0)
    assert b.client.get("k", None) is None


def test_a_transport_that_is_held_up_is_noticed_by_who_publishes(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 600)
    assert b.client.get("k") == 1
    pumping = a.bus.pump
    a.bus.pump = lambda now: None  # type: ignore[method-assign]
    a.client.delete("k")
    cluster.advance(0.6)
    a.client.delete("l")
    cluster.advance(1.0)
    assert b.client.get("k", None) is None
    a.bus.pump = pumping  # type: ignore[method-assign]
    cluster.advance(1.0)
    assert a.bus.stats.owed == 0


def test_much_that_is_owed_is_told_in_few_messages(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.bus.cut = True
    for key in range(3000):
        a.client.delete(key)
    cluster.advance(2.0)
    sent: list[object] = []
    send = a.bus._send

    def noted(message: NodeMessage) -> None:
        sent.append(message)
        send(message)

    a.bus._send = noted  # type: ignore[method-assign]
    heard = b.bus.stats.received
    a.bus.cut = False
    cluster.advance(1.0)
    assert a.bus.stats.owed == 0
    assert b.bus.stats.received - heard >= 3000
    assert sum(isinstance(message, Publish) for message in sent) < 20


def test_who_deletes_after_his_bus_was_closed_makes_all_confirm(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 600)
    assert b.client.get("k") == 1
    a.bus.close()
    a.client.delete("k")
    cluster.advance(1.5)
    assert b.client.get("k", None) is None
    assert b.manager.verified


def test_a_tier_of_this_process_that_nobody_keeps_in_step_is_refused(cluster: Cluster) -> None:
    a = cluster.node()
    middle = InprocCacheClient(100, clock=cluster.clock)
    assert a.shared is not None
    with pytest.raises(ValueError, match="in step"):
        CoherentWrapperClient(TieredInclusiveClient(a.private, middle, a.shared), a.manager)


def test_what_many_reads_copy_has_no_version_of_others(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    assert b.shared is not None

    class Slow(Interposed):
        def entries(self, keys: Iterable[Key]) -> dict[Key, Entry]:
            found = Wrapper.entries(self, keys)
            self.after_read()
            return found

    def meanwhile() -> None:
        a.shared.store("k", 2, cluster.clock.monotonic() + 600)  # type: ignore[union-attr]
        assert client.get("k") == 2

    a.client.put("k", 1, 600)
    client = CoherentWrapperClient(
        TieredInclusiveClient(b.private, Slow(b.shared, meanwhile)), b.manager
    )
    client.get_multi(["k"])
    b.manager.distrust("test")
    drain(b)
    cluster.advance(1.0)
    assert client.get("k") == 2


def test_without_a_shared_tier_nothing_doubtful_lives_longer(cluster: Cluster) -> None:
    a = cluster.node(alone=True)
    a.client.put("k", 1, 60)
    a.manager.distrust("test")
    drain(a)
    cluster.advance(0.5)
    assert not a.client.renew("k", 600)
    assert a.client.get("k", None) is None


def test_copies_from_before_a_fork_are_confirmed_although_the_bus_is_in_step(
    cluster: Cluster,
) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    # Another manager of the same process has the bus join before this one is used.
    b.bus.leave(b.manager)
    b.manager.after_fork()
    a.client.delete("k")
    b.manager.start()
    cluster.settle()
    assert verified(b)
    assert b.client.get("k", None) is None


@pytest.mark.parametrize(
    "read",
    [
        lambda client: client.get("k", None, max_tiers=1, ttl_skip=0.0),
        lambda client: client.get("k", None, max_tiers=1, promote_callback=print),
        lambda client: client.get_ttl("k", None, max_tiers=1, ttl_skip=0.0)[0],
        lambda client: client.get_multi(["k"], None, max_tiers=1, ttl_skip=0.0)["k"],
        lambda client: client.contains("k", 1.0, max_tiers=1) or None,
    ],
)
def test_the_first_tiers_hold_nothing_unverified_however_they_are_searched(
    cluster: Cluster, read: Callable[[CoherentWrapperClient], object]
) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 60)
    assert b.client.get("k") == 1
    assert read(b.client)
    b.bus.cut = True
    cluster.advance(2.0)
    a.client.delete("k")
    assert not b.manager.verified
    assert read(b.client) is None


def test_the_first_tiers_do_not_show_what_is_suspect_as_stale(cluster: Cluster) -> None:
    a, b = cluster.node(), cluster.node()
    a.client.put("k", 1, 600)
    assert b.client.get("k") == 1
    cluster.server.delete("k")
    b.manager.distrust("events may be missing")
    drain(b)
    assert b.manager.verified
    assert b.client.get_ttl("k", None, max_tiers=1) == (None, -1)
    assert b.client.first_tiers(1).near("k") is None


@pytest.mark.parametrize("many", [False, True])
def test_a_copy_that_the_first_tiers_make_goes_when_others_delete_it(
    cluster: Cluster, many: bool
) -> None:
    middle = InprocCacheClient(1_000, clock=cluster.clock)

    def node() -> tuple[CoherenceManager, CoherentWrapperClient]:
        private = InprocCacheClient(100, clock=cluster.clock)
        shared = VersionedFake(cluster.server)
        manager = CoherenceManager("test", private, shared, LocalBus(cluster.hub))
        tiers = TieredInclusiveClient(private, VersionedFake(middle), shared)
        client = CoherentWrapperClient(tiers, manager)
        manager.start()
        return manager, client

    (first, a), (second, b) = node(), node()
    for _ in range(10):
        cluster.advance(0.2)
        idle(first, second)
    a.put("k", 1, 600)
    assert (b.get_multi(["k"], max_tiers=2) if many else {"k": b.get("k", max_tiers=2)}) == {"k": 1}
    assert second.private.get("k") == 1
    a.delete("k")
    assert second.verified
    assert b.get("k", None) is None


def test_wrappers_within_show_values_as_they_do_without_a_bus(cluster: Cluster) -> None:
    private, shared = InprocCacheClient(100, clock=cluster.clock), VersionedFake(cluster.server)
    manager = CoherenceManager("test", private, shared, LocalBus(cluster.hub))
    tiers = TieredInclusiveClient(private, shared)
    within = DecoratedWrapper(tiers, lambda key: ("w", key), lambda x: ("in", x), lambda x: x[1])
    client = CoherentWrapperClient(within, manager)
    manager.start()
    for _ in range(10):
        cluster.advance(0.2)
        idle(manager)
    client.put("k", 5, 600)
    assert manager.stats.verified
    assert private.get(("w", "k")) == ("in", 5)
    assert client.get("k") == 5
    assert client.get_ttl("k")[0] == 5
    near = client.near("k")
    assert near is not None
    assert near.value == 5
    cluster.hub.kill()
    cluster.advance(2.0)
    assert [client.get("k"), client.get("k")] == [5, 5]
    assert manager.stats.confirmed == 1  # the first one was fetched, with its version


def test_claims_that_nobody_releases_leave_nothing_behind(cluster: Cluster) -> None:
    a = cluster.node()
    for number in range(3_000):
        claim = a.client.claim(("left", number), 0.01)
        assert claim is not None
        deadline = cluster.clock.monotonic() + 0.01
        assert a.client.fill(("left", number), 1, deadline, keep=0, claim=claim)
        cluster.clock.advance(0.1)
    for number in range(3_000):  # the private tier forgets the others
        a.client.put(("kept", number), 1, 600)
    assert sum(held.uses for _, held in a.manager.copies.ledger.all()) <= 256
    assert a.manager.stats.known <= 2_500
    assert len(a.client._given) <= 256


def test_a_child_that_ends_a_claim_of_its_parents_leaves_no_record(cluster: Cluster) -> None:
    a = cluster.node()
    claim = a.client.claim("k", 60)
    assert claim is not None
    a.manager.copies.ledger.after_fork()
    a.client._given.after_fork()
    claim.release()
    held = a.manager.copies.ledger.get(name_of("k"))
    assert held is not None
    assert held.uses == 0


@pytest.mark.parametrize("when", ["meanwhile", "later"])
@pytest.mark.parametrize("overlap", [False, True])
def test_what_one_client_left_in_the_private_tier_the_next_keeps_in_step(
    cluster: Cluster, when: str, overlap: bool
) -> None:
    a = cluster.node()
    bus, private = LocalBus(cluster.hub), InprocCacheClient(100, clock=cluster.clock)
    shared = VersionedFake(cluster.server)

    def begun() -> CoherentWrapperClient:
        manager = CoherenceManager("test", private, shared, bus)
        client = CoherentWrapperClient(TieredInclusiveClient(private, shared), manager)
        manager.start()
        for _ in range(30):
            cluster.advance(0.1)
            idle(manager)
        return client

    first = begun()
    a.client.put("k", 1, 600)
    assert first.get("k") == 1
    if overlap:
        second = begun()
    del first
    gc.collect()
    if when == "meanwhile":
        a.client.delete("k")
    if not overlap:
        second = begun()
    for _ in range(10):
        cluster.advance(0.1)
        idle(second.manager)
    if when == "later":
        assert second.get("k") == 1
        a.client.delete("k")
    assert second.manager.verified
    assert second.get("k", None) is None
