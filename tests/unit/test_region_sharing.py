"""Regions of several processes on shared clients: locks, invalidation, what nobody must see."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.fakes import FailingClient, RemoteFake
from tests.regions import PATIENCE, HeldUp, entered, in_threads
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.tiered import TieredInclusiveClient
from tiered.region import (
    NO_VALUE,
    CacheRegion,
    ProxyBackend,
    SharedInvalidationStrategy,
    make_region,
)
from tiered.testing import ManualClock


class Cluster:
    """Processes that share a server: each has clients and regions of its own."""

    def __init__(self, clock: ManualClock, *, tiers: bool) -> None:
        self.clock = clock
        self.server = InprocCacheClient(1000, clock=clock)
        self.tiers = tiers

    def client(self) -> Any:
        # Attachments are what the users of a client share in one process.
        remote = RemoteFake(self.server)
        if not self.tiers:
            return remote
        return TieredInclusiveClient(InprocCacheClient(100, clock=self.clock), remote)

    def region(self, name: str = "users", expiration: float | None = 10, **options: Any) -> Any:
        # The pauses of those who wait move the clock: no claim is to end through that.
        options = {"lock_timeout": 10**9, **options}
        return make_region(name).configure(self.client(), expiration, options)


@pytest.fixture(params=["remote", "tiers"])
def cluster(request: pytest.FixtureRequest, clock: ManualClock) -> Cluster:
    return Cluster(clock, tiers=request.param == "tiers")


def failing() -> Any:
    raise OSError("the source is down")


def test_values_are_shared(cluster: Cluster) -> None:
    ours, theirs = cluster.region(), cluster.region()
    assert ours.get_or_create("k", lambda: (1, "two")) == (1, "two")
    assert theirs.get_or_create("k", failing) == (1, "two")
    found = theirs.get_value_metadata("k")
    assert found is not None
    assert found.cached_time == cluster.clock.wall()


def test_one_process_creates_and_the_others_wait(cluster: Cluster) -> None:
    regions = [cluster.region(expiration=10**9) for _ in range(4)]
    creator = HeldUp()
    join = in_threads(*[lambda one=one: one.get_or_create("k", creator) for one in regions])
    assert creator.began.wait(PATIENCE)
    assert any(region.key_is_locked("k") for region in regions)
    creator.go.set()
    assert join() == ["made"] * 4
    assert creator.calls == 1


def test_without_the_distributed_lock_each_process_creates(cluster: Cluster) -> None:
    regions = [cluster.region(distributed_lock=False) for _ in range(2)]
    together = threading.Barrier(2)
    creator = lambda: together.wait(PATIENCE) >= 0
    assert in_threads(*[lambda one=one: one.get_or_create("k", creator) for one in regions])() == [
        True,
        True,
    ]


def test_while_one_process_creates_the_others_get_the_old_value(cluster: Cluster) -> None:
    ours, theirs = cluster.region(), cluster.region()
    ours.set("k", "old")
    cluster.clock.advance(11)
    creator = HeldUp("new")
    join = in_threads(lambda: ours.get_or_create("k", creator))
    assert creator.began.wait(PATIENCE)
    assert theirs.get_or_create("k", failing) == "old"
    assert theirs.get_or_create_multi(["k"], failing) == ["old"]
    creator.go.set()
    assert join() == ["new"]
    assert theirs.get_or_create("k", failing) == "new"


class Noting(ProxyBackend):
    """Writes down what is set through it."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def set(self, key: str, value: Any) -> None:
        self.noted.append(key)
        super().set(key, value)


@pytest.mark.parametrize("loop", [False, True])
def test_proxies_see_fills_that_are_refused_all_the_same(cluster: Cluster, loop: bool) -> None:
    ours, theirs = (cluster.region(expiration=10**9) for _ in range(2))
    proxy = Noting()
    ours.wrap(proxy)
    creator = HeldUp("from before")

    def ask() -> Any:
        if loop:
            return asyncio.run(ours.aio.get_or_create("k", creator))
        return ours.get_or_create("k", creator)

    join = in_threads(ask)
    assert creator.began.wait(PATIENCE)
    assert theirs.key_is_locked("k")
    theirs.delete("k")
    creator.go.set()
    assert join() == ["from before"]
    assert proxy.noted == ["k"]
    assert theirs.get("k") is NO_VALUE
    assert ours.get_or_create_multi(["k", "l"], lambda *keys: list(keys)) == ["k", "l"]
    assert proxy.noted == ["k", "k", "l"]
    assert theirs.get_multi(["k", "l"]) == ["k", "l"]
    assert not ours.key_is_locked("k")


def test_a_holder_that_died_is_replaced(cluster: Cluster) -> None:
    ours, theirs = cluster.region(lock_timeout=3), cluster.region(lock_timeout=3)
    mutex = ours.backend.get_mutex("k")
    assert mutex is not None
    assert mutex.acquire()
    # Its pauses move the clock, so that the claim ends while it waits.
    assert theirs.get_or_create("k", lambda: "replaced") == "replaced"
    assert ours.backend.has_lock_timeout()


def test_what_another_process_deletes_is_not_kept(cluster: Cluster) -> None:
    ours, theirs = cluster.region(), cluster.region()
    creator = HeldUp("from before")
    join = in_threads(lambda: ours.get_or_create("k", creator))
    assert creator.began.wait(PATIENCE)
    theirs.delete("k")
    creator.go.set()
    assert join() == ["from before"]
    assert theirs.get("k") is NO_VALUE
    assert ours.get("k") is NO_VALUE


def test_what_another_process_sets_stays(cluster: Cluster) -> None:
    ours, theirs = cluster.region(), cluster.region()
    creator = HeldUp("from before")
    join = in_threads(lambda: ours.get_or_create("k", creator))
    assert creator.began.wait(PATIENCE)
    theirs.set("k", "set")
    creator.go.set()
    assert join() == ["from before"]
    assert theirs.get("k") == "set"


@pytest.mark.parametrize("hard", [True, False])
def test_invalidation_reaches_the_others(cluster: Cluster, hard: bool) -> None:
    ours, theirs = cluster.region(), cluster.region()
    ours.set("k", "old")
    assert theirs.get("k") == "old"
    ours.invalidate(hard=hard)
    assert ours.get("k") is NO_VALUE
    if cluster.tiers:
        cluster.clock.advance(1)  # for so long, what is near is believed
    assert theirs.get("k") is NO_VALUE
    assert theirs.get("k", ignore_expiration=True) == "old"
    creator = HeldUp("new")
    join = in_threads(lambda: theirs.get_or_create("k", creator))
    assert creator.began.wait(PATIENCE)
    if not hard:
        assert ours.get_or_create("k", failing) == "old"
    creator.go.set()
    assert join() == ["new"]
    assert ours.get("k") == "new"


def test_what_is_set_after_an_invalidation_elsewhere_is_there(cluster: Cluster) -> None:
    ours, theirs = cluster.region(), cluster.region()
    assert theirs.get("k") is NO_VALUE
    ours.invalidate()
    theirs.set("k", "new")
    assert theirs.get("k") == "new"
    assert ours.get("k") == "new"
    theirs.set_multi({"a": 1, "b": 2})
    ours.invalidate()
    assert ours.get_multi(["a", "b", "k"]) == [NO_VALUE] * 3


def test_what_was_begun_before_an_invalidation_elsewhere_is_not_served(cluster: Cluster) -> None:
    ours, theirs = cluster.region(), cluster.region()
    creator = HeldUp("from before")
    join = in_threads(lambda: theirs.get_or_create("k", creator))
    assert creator.began.wait(PATIENCE)
    # Whatever the clocks of their hosts say: tokens are compared.
    ours.invalidate()
    creator.go.set()
    assert join() == ["from before"]
    assert ours.get("k") is NO_VALUE
    if cluster.tiers:
        cluster.clock.advance(1)
    assert theirs.get("k") is NO_VALUE
    assert theirs.get_or_create("k", lambda: "from after") == "from after"
    assert ours.get("k") == "from after"


@pytest.mark.parametrize("then", ["nothing", "deleted", "invalidated"])
@pytest.mark.parametrize("many", [False, True])
def test_who_asks_after_an_invalidation_elsewhere_does_not_get_what_was_begun_before(
    cluster: Cluster, many: bool, then: str
) -> None:
    ours, theirs = (cluster.region(expiration=10**9, recheck=0) for _ in range(2))
    creator = HeldUp("from before")
    before = in_threads(lambda: ours.get_or_create("k", creator))
    assert creator.began.wait(PATIENCE)
    theirs.invalidate()
    asked = entered(ours, 1)
    after = in_threads(
        lambda: (
            ours.get_or_create_multi(["k"], lambda *_: ["from after"])[0]
            if many
            else ours.get_or_create("k", lambda: "from after")
        )
    )
    assert asked.wait(PATIENCE)
    if then == "deleted":
        ours.delete("k")
    elif then == "invalidated":
        ours.invalidate()
    creator.go.set()
    assert before() == ["from before"]
    assert after() == ["from after"]
    assert ours.get("k") == theirs.get("k") == "from after"


def test_a_hard_and_a_soft_invalidation_at_once_are_both_kept(cluster: Cluster) -> None:
    ours, theirs = cluster.region(), cluster.region()
    ours.set("k", "old")
    theirs.get("k")
    ours.invalidate(hard=True)
    theirs.invalidate(hard=False)
    cluster.clock.advance(1)
    for region in (ours, theirs):
        with pytest.raises(OSError, match="the source is down"):
            region.get_or_create("k", failing, stale_if_error=True)


def test_an_answer_from_before_an_invalidation_does_not_undo_it(clock: ManualClock) -> None:
    region = Cluster(clock, tiers=False).region()
    region.set("k", "old")
    strategy = region.region_invalidator
    ticket = strategy.ticket()
    before = region.backend.find(strategy.keys)
    region.invalidate()
    strategy.adopt(before, ticket)  # of a thread that was asking meanwhile
    found = region.backend.find(["k"])["k"].value
    assert strategy.validity(found[1]).name == "HARD"


def test_the_order_of_answers_is_not_that_of_questions(clock: ManualClock) -> None:
    server = RemoteFake(InprocCacheClient(100, clock=clock))
    ours, theirs = (SharedInvalidationStrategy("users", RemoteFake(server)) for _ in range(2))
    for orders in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)):
        theirs.confirm()
        ours.confirm()
        tickets = [ours.ticket() for _ in orders]
        answers = []
        for _ in orders:
            answers.append(server.entries(ours.keys))
            theirs.invalidate()
        answers[-1] = server.entries(ours.keys)
        for asked, answered in enumerate(orders):
            ours.adopt(answers[answered], tickets[asked])
            if answered == 2:
                assert ours.revision == theirs.revision
        assert ours.revision == theirs.revision


def test_an_invalidation_that_another_one_overtakes_does_not_come_back(clock: ManualClock) -> None:
    server = InprocCacheClient(100, clock=clock)

    class Overtaken(RemoteFake):
        def decree(self, key: Any, value: Any) -> None:
            super().decree(key, value)
            meanwhile.pop()()  # before it is looked whether the server has heard

    ours, theirs = (
        make_region("users").configure(client) for client in (Overtaken(server), RemoteFake(server))
    )

    def overtake() -> None:
        theirs.set("k", "between the two")
        assert theirs.get("k") == "between the two"
        theirs.invalidate()

    meanwhile: list[Any] = [lambda: None, overtake]
    ours.invalidate()
    assert ours.get("another") is NO_VALUE  # what the server has not heard, it is told
    assert theirs.get("k") is NO_VALUE
    assert ours.get("k") is NO_VALUE


def test_a_lost_revision_invalidates_and_brings_nothing_back(cluster: Cluster) -> None:
    ours, theirs = cluster.region(), cluster.region()
    ours.set("k", "old")
    ours.invalidate()
    for kind in ("hard", "soft"):
        cluster.server.delete(("tiered.region", "users", kind))
    cluster.clock.advance(1)
    assert ours.get("k") is NO_VALUE
    assert theirs.get("k") is NO_VALUE
    theirs.set("k", "new")
    assert ours.get("k") == "new"


class Deaf(RemoteFake):
    """A client whose server takes no writes, for a while."""

    deaf = False
    raises = False

    def store(self, key: Any, *args: Any, **options: Any) -> bool:
        if self.deaf:
            if self.raises:
                raise OSError("no connection")
            return False
        return super().store(key, *args, **options)


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("hard", [True, False])
def test_an_invalidation_that_the_server_has_not_heard_is_told_later(
    clock: ManualClock, hard: bool, raises: bool
) -> None:
    server = InprocCacheClient(100, clock=clock)
    deaf = Deaf(server)
    ours, theirs = (make_region("users").configure(one, 10) for one in (deaf, RemoteFake(server)))
    ours.set("k", "old")
    deaf.deaf, deaf.raises = True, raises
    ours.invalidate(hard=hard)
    for _ in range(3):
        assert ours.get("k") is NO_VALUE
        assert theirs.get("k") == "old"
        clock.advance(1)
    deaf.deaf = False
    assert ours.get("k") is NO_VALUE
    assert theirs.get("k") is NO_VALUE
    theirs.set("k", "new")
    assert ours.get("k") == "new"


def test_of_two_invalidations_at_once_one_is_enough(clock: ManualClock) -> None:
    server = InprocCacheClient(100, clock=clock)

    class Overtaken(RemoteFake):
        decreed = 0

        def decree(self, key: Any, value: Any) -> None:
            super().decree(key, value)
            self.decreed += 1
            if self.decreed == 1:
                theirs.invalidate()

    ours = make_region("users").configure(overtaken := Overtaken(server), 10)
    theirs = make_region("users").configure(RemoteFake(server), 10)
    ours.set("k", "old")
    ours.invalidate()
    for region in (ours, theirs):
        assert region.get("k") is NO_VALUE
    ours.set("k", "new")
    assert theirs.get("k") == "new"
    assert ours.get("k") == "new"
    assert overtaken.decreed == 1


def test_regions_of_other_names_are_left_alone(cluster: Cluster) -> None:
    users, posts = cluster.region("users"), cluster.region("posts")
    users.set("k", "user")
    posts.invalidate()
    cluster.clock.advance(1)
    assert users.get("k") == "user"


def test_a_value_of_a_region_of_another_name_is_judged_by_its_time(cluster: Cluster) -> None:
    users, posts = cluster.region("users"), cluster.region("posts")
    users.set("k", "of users")
    assert posts.get("k") == "of users"
    assert posts.get_or_create("k", failing) == "of users"
    cluster.clock.advance(1)
    posts.invalidate()
    assert posts.get("k") is NO_VALUE
    assert users.get("k") == "of users"


def test_regions_of_one_name_in_one_process_hear_at_once(cluster: Cluster) -> None:
    client = cluster.client()
    one, two = (make_region("users").configure(client, 10) for _ in range(2))
    one.set("k", "old")
    assert two.get("k") == "old"
    one.invalidate()
    assert two.get("k") is NO_VALUE


def test_another_process_s_soft_invalidation_is_a_hard_one_without_an_expiration_time(
    cluster: Cluster,
) -> None:
    ours, theirs = cluster.region(expiration=None), cluster.region(expiration=None)
    ours.set("k", "old")
    ours.invalidate(hard=False)
    cluster.clock.advance(1)
    assert theirs.get_or_create("k", lambda: "new") == "new"


def test_a_value_that_knows_no_revisions_is_judged_by_its_time(cluster: Cluster) -> None:
    region = cluster.region()
    made = cluster.clock.wall()
    region.get("k")
    cluster.server.put("k", ["theirs", {"ct": made, "v": 2}], 100)
    assert region.get("k") == "theirs"
    cluster.clock.advance(1)
    region.invalidate()
    assert region.get("k") is NO_VALUE


def test_a_value_made_anew_elsewhere_is_found_behind_an_old_near_one(clock: ManualClock) -> None:
    cluster = Cluster(clock, tiers=True)
    ours, theirs = cluster.region(), cluster.region()
    ours.set("k", "old")
    assert theirs.get("k") == "old"
    clock.advance(5)
    ours.set("k", "new")
    clock.advance(6)
    # Theirs is too old by now; ours is not.
    assert theirs.get_or_create("k", failing) == "new"
    assert theirs.near.hit("k", 10) is not None


@pytest.mark.parametrize("expiration", [10, None])
def test_after_an_invalidation_the_new_value_replaces_the_near_one(
    clock: ManualClock, expiration: float | None
) -> None:
    cluster = Cluster(clock, tiers=True)
    ours, theirs = cluster.region(expiration=expiration), cluster.region(expiration=expiration)
    ours.set("k", "old")
    assert theirs.get("k") == "old"
    ours.invalidate()
    ours.set("k", "new")
    clock.advance(1)
    assert theirs.get_or_create("k", failing) == "new"
    assert theirs.near.hit("k", 10) is not None


def test_a_hit_in_a_near_tier_asks_no_server(clock: ManualClock) -> None:
    cluster = Cluster(clock, tiers=True)
    region = cluster.region()

    @region.cache_on_arguments()  # type: ignore[untyped-decorator]
    def double(number: int) -> int:
        return number * 2

    assert double(2) == 4
    remote = region.backend.client.clients[1]
    remote.entry = remote.entries = remote.store = failing
    assert double(2) == 4
    assert region.stats.near_hits == 1
    clock.advance(1)
    assert double(2) == 4  # the server cannot be asked; what was right is right


def test_revisions_are_proposed_once_also_where_keys_have_other_names(clock: ManualClock) -> None:
    class Asked(RemoteFake):
        proposals = 0

        def agree(self, key: Any, proposal: Any) -> Any:
            self.proposals += 1
            return super().agree(key, proposal)

    server = Asked(InprocCacheClient(100, clock=clock))
    region = make_region("users").configure(NamespaceWrapper("n", server))
    region.set("k", 1)
    known = server.proposals
    assert region.get("k") == 1
    assert region.get_or_create("k", failing) == 1
    assert server.proposals == known
    make_region("users").configure(NamespaceWrapper("n", server)).invalidate()
    assert region.get("k") is NO_VALUE


def test_a_server_that_fails_keeps_nobody_from_the_value(clock: ManualClock) -> None:
    client = FailingClient(RemoteFake(InprocCacheClient(10, clock=clock)))
    region = make_region().configure(client, 10)
    client.error = OSError("no connection")
    assert region.get_or_create("k", lambda: 1) == 1
    assert region.get_or_create_multi(["k", "l"], lambda *keys: [2, 3]) == [2, 3]
    region.set("k", 4)
    assert region.get("k") is NO_VALUE
    assert not region.key_is_locked("k")
    client.error = None
    region.set("k", 5)
    assert region.get("k") == 5


def test_the_strategy_of_a_shared_region() -> None:
    clock = ManualClock()
    region: CacheRegion = Cluster(clock, tiers=False).region()
    strategy = region.region_invalidator
    assert isinstance(strategy, SharedInvalidationStrategy)
    made = clock.wall()
    assert not strategy.is_invalidated(made)
    assert not strategy.was_hard_invalidated()
    assert not strategy.was_soft_invalidated()
    clock.advance(1)
    region.invalidate(hard=False)
    assert strategy.was_soft_invalidated()
    assert strategy.is_soft_invalidated(made)
    assert not strategy.is_hard_invalidated(made)
    clock.advance(1)
    region.invalidate()
    assert strategy.was_hard_invalidated()
    assert strategy.is_hard_invalidated(made)
    assert not strategy.is_soft_invalidated(made)
    assert strategy.is_invalidated(made)
    assert not strategy.is_invalidated(clock.wall())


def test_a_value_lives_on_the_server_as_long_as_is_asked_for(clock: ManualClock) -> None:
    cluster = Cluster(clock, tiers=False)
    region = cluster.region(expire_time=30)
    region.set("k", 1)
    assert region.backend.lives(10) == (10, 20)
    assert region.backend.lives(60) == (30, 0)
    assert cluster.region().backend.lives(10) == (10, float("inf"))
    clock.advance(11)
    assert region.get("k", ignore_expiration=True) == 1
    assert region.get_or_create("k", failing, 60) == 1


def test_an_invalidation_is_seen_through_tiers_that_are_all_asked_each_time(
    clock: ManualClock,
) -> None:
    """The first of them may have copies of the revisions."""
    middle, far = (InprocCacheClient(1000, clock=clock) for _ in range(2))

    def region() -> Any:
        clients = [RemoteFake(middle), RemoteFake(far)]
        return make_region("users").configure("tiered", arguments={"clients": clients})

    ours, theirs = region(), region()
    ours.set("k", "old")
    assert ours.get("k") == theirs.get("k") == theirs.get("k") == "old"
    ours.invalidate()
    for _ in range(5):
        assert ours.get("k") is NO_VALUE
        assert theirs.get("k") is NO_VALUE
        clock.advance(0.4)
