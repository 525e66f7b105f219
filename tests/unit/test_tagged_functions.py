"""Functions with tags: what an invalidation reaches, when, and what it leaves alone."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.fakes import (
    FailingClient,
    Held,
    Interposed,
    RecordingClient,
    RemoteFake,
    TellingFake,
    inproc,
    together,
    waiting,
)
from tiered import (
    NO_NAMESPACE,
    AsyncWriteCacheClient,
    CacheMissError,
    InprocCacheClient,
    NamespaceWrapper,
    TieredInclusiveClient,
    WorkerPool,
    cached,
)
from tiered.clients.base import CacheClient, Capabilities
from tiered.clients.tagged import Stamped, TaggedView
from tiered.clients.tags import tag_names
from tiered.clients.wrapper import Wrapper
from tiered.sentinels import MISSING
from tiered.testing import ManualClock

LATE = 20.0


class Source:
    """What functions read from: counts its readers, and what they read changes each time."""

    def __init__(self) -> None:
        self.reads: list[Any] = []
        self.error: Exception | None = None
        self.held: Held | None = None

    def __call__(self, *key: Any) -> str:
        self.reads.append(key)
        number = len(self.reads)
        if self.held is not None:
            self.held()
        if self.error is not None:
            raise self.error
        return f"{number}: {key}"


@pytest.fixture
def source() -> Source:
    return Source()


class Hosts:
    """The clients of several processes that share one server, or of one that shares none."""

    def __init__(self, clock: ManualClock, kind: str) -> None:
        self.clock = clock
        self.kind = kind
        self.server = inproc(clock, 1000)

    def client(self) -> CacheClient:
        if self.kind == "private":
            return self.server
        remote = TellingFake(self.server) if "told" in self.kind else RemoteFake(self.server)
        if "tiers" not in self.kind:
            return remote
        return TieredInclusiveClient(inproc(self.clock), remote)


@pytest.fixture(params=["private", "remote", "tiers", "told tiers"])
def hosts(clock: ManualClock, request: pytest.FixtureRequest) -> Hosts:
    return Hosts(clock, request.param)


@pytest.fixture(params=["remote", "tiers", "told tiers"])
def shared(clock: ManualClock, request: pytest.FixtureRequest) -> Hosts:
    return Hosts(clock, request.param)


@pytest.fixture
def client(hosts: Hosts) -> CacheClient:
    return hosts.client()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def user_tags(user: int, *_: Any) -> list[Any]:
    return [("user", user)]


# -- What it reaches ---------------------------------------------------------------------


def test_one_invalidation_reaches_every_function_whose_tags_name_it(
    client: CacheClient, source: Source
) -> None:
    name = cached(client, 60, namespace="name", tags=user_tags)(lambda user: source("name", user))
    posts = cached(
        client, 60, namespace="posts", tags=lambda user, page: [("user", user), "posts"]
    )(lambda user, page: source("posts", user, page))
    rest = cached(client, 60, namespace="rest")(lambda user: source("rest", user))

    def read() -> list[str]:
        return [name(1), name(2), posts(1, 1), posts(1, 2), posts(2, 1), rest(1)]

    first = read()
    assert read() == first
    client.invalidate_tag(("user", 1))
    second = read()
    assert read() == second
    assert [a == b for a, b in zip(first, second, strict=True)] == [
        False,
        True,
        False,
        False,
        True,
        True,
    ]
    client.invalidate_tag("posts")
    third = read()
    assert [a == b for a, b in zip(second, third, strict=True)] == [
        True,
        True,
        False,
        False,
        False,
        True,
    ]
    client.invalidate_tag("nobody's")
    assert read() == third


def test_tags_are_keys_of_any_kind(client: CacheClient, source: Source) -> None:
    kinds: list[Any] = ["text", b"bytes", 7, (1, ("a", None)), None, frozenset({1})]
    f = cached(client, 60, namespace="f", tags=lambda number: (kinds[number],))(source)
    for number, tag in enumerate(kinds):
        first = [f(other) for other in range(len(kinds))]
        client.invalidate_tag(tag)
        second = [f(other) for other in range(len(kinds))]
        assert [a != b for a, b in zip(first, second, strict=True)] == [
            other == number for other in range(len(kinds))
        ]
    first_of_seven = f(2)
    client.invalidate_tag(7.0)
    assert f(2) != first_of_seven


def test_many_tags_and_none(client: CacheClient, source: Source) -> None:
    f = cached(client, 60, namespace="f", tags=range)(source)
    held = {number: f(number) for number in (0, 1, 5, 50)}
    client.invalidate_tag(4)
    assert {number: f(number) == value for number, value in held.items()} == {
        0: True,
        1: True,
        5: False,
        50: False,
    }


def test_tags_are_given_the_arguments_as_the_function_is(
    client: CacheClient, source: Source
) -> None:
    seen: list[Any] = []

    def tags(*args: Any, **kwargs: Any) -> list[str]:
        seen.append((args, kwargs))
        return []

    class Users:
        @cached(client, 60, namespace="f", tags=tags, ignore=("self",))
        def find(self, user: int, *more: int, page: int = 1, **rest: int) -> str:
            return source(user, more, page, rest)

    users = Users()
    users.find(1, 2, 3, page=4, extra=5)
    users.find(7)
    assert seen == [((users, 1, 2, 3), {"page": 4, "extra": 5}), ((users, 7), {"page": 1})]


OPTIONS: list[dict[str, Any]] = [
    {"namespace": "f"},
    {"namespace": NO_NAMESPACE},
    {"namespace": "f", "async_ttl": 5},
    {"namespace": "f", "typed": True},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("more", [[], [("x", 1)], ["u", "v", "w"]])
def test_a_hit_does_not_ask_for_tags_and_goes_by_the_front_door(
    hosts: Hosts, options: dict[str, Any], more: list[Any]
) -> None:
    asked: list[int] = []

    def tags(x: int) -> list[Any]:
        asked.append(x)
        return ["t", *more]

    client = hosts.client()
    f = cached(client, 60, tags=tags, **options)(lambda x: (x, x))
    assert f(1) == (1, 1)
    asked.clear()
    assert [f(1), f(x=1)] == [(1, 1)] * 2
    assert f.stats.hits == 2
    if client.capabilities.near:
        assert f.stats.near_hits == 2
        assert asked == []

    @cached(client, 60, tags=tags, **options)
    async def g(x: int) -> int:
        return x

    async def use() -> None:
        assert [await g(2), await g(2), await g(x=2)] == [2, 2, 2]

    asyncio.run(use())
    assert g.stats.near_hits == (2 if client.capabilities.near else 0)


def test_a_revision_that_is_not_believed_is_asked_for(clock: ManualClock, source: Source) -> None:
    client = TieredInclusiveClient(inproc(clock), TellingFake(inproc(clock)))
    f = cached(client, 60, namespace="f", tags=user_tags)(source)
    assert [f(1), f(1)] == ["1: (1,)"] * 2
    space = f._core.space.namespace
    assert space is not None
    near_hits = f.stats.near_hits
    space.state.horizon = clock.monotonic()
    path = f.client.hot_path()
    assert path is not None
    assert path.lookup(f.callkey(1)) is None
    assert f(1) == "1: (1,)"
    assert f.stats.near_hits == near_hits


@pytest.mark.parametrize("policy", ["lru", "s3fifo", "lfu", "fifo"])
def test_a_hit_counts_as_a_use(clock: ManualClock, policy: str) -> None:
    client = InprocCacheClient(40, policy=policy, clock=clock)
    f = cached(client, 60, namespace="f", tags=lambda x: ["t"])(lambda x: x)
    f(1)
    for number in range(2, 400):
        f(1)
        f(number)
    assert f.stats.near_hits >= 390 or policy == "fifo"
    if client.hot_path().counts:
        node: Any = client.entry((f._core.space.namespace.state.prefix, ("tagged", 1)))
        node.uses = 0
        f(1)
        assert node.uses == 1


def test_a_namespace_in_a_namespace_and_tags_over_both(client: CacheClient, source: Source) -> None:
    inner = NamespaceWrapper("b", NamespaceWrapper("a", client))
    f = cached(inner, 60, namespace="f", tags=lambda x: ["t"])(source)
    assert f(1) == f(1)
    assert f.stats.hits == 1
    client.invalidate_tag("t")
    assert f(1) != "1: (1,)"
    inner.invalidate_tag("t")
    assert f(1) == "3: (1,)"


# -- Computations under way ----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["call", "refresh", "future", "bg refresh", "multi", "aio"])
def test_what_was_computed_before_an_invalidation_is_never_fresh_after_it(
    hosts: Hosts, source: Source, mode: str, threads: ThreadPoolExecutor
) -> None:
    client = hosts.client()
    f = cached(client, 60, namespace="f", tags=user_tags)(source)
    calls: dict[str, Callable[[], Any]] = {
        "call": lambda: f(1),
        "refresh": lambda: f.refresh(1),
        "future": lambda: f.future()(1).result(LATE),
        "bg refresh": lambda: f.bg().refresh(1),
        "multi": lambda: f.multi([1])[1],
        "aio": lambda: asyncio.run(f.aio(1)),
    }
    source.held = held = Held()
    answer = threads.submit(calls[mode])
    assert held.started.wait(LATE)
    client.invalidate_tag(("user", 1))
    source.held = None
    held.go.set()
    assert answer.result(LATE) in ("1: (1,)", None)
    while f.explain(1).detail[-2] != ("computing", False):
        time.sleep(0.001)
    with pytest.raises(CacheMissError):
        f.peek(1)
    with pytest.raises(CacheMissError):
        f.get_ttl(1)
    assert f(1) == f(1) == "2: (1,)"


@pytest.mark.parametrize("began", ["call", "refresh"])
@pytest.mark.parametrize("mode", ["call", "multi", "future", "aio", "bg"])
def test_who_calls_after_an_invalidation_does_not_join_what_began_before(
    hosts: Hosts, source: Source, mode: str, began: str, threads: ThreadPoolExecutor
) -> None:
    client = hosts.client()
    f = cached(client, 60, namespace="f", tags=user_tags, claim_ttl=LATE)(source)
    calls: dict[str, Callable[[], Any]] = {
        "call": lambda: f(1),
        "multi": lambda: f.multi([1, 2])[1],
        "future": lambda: f.future()(1).result(LATE),
        "aio": lambda: asyncio.run(f.aio(1)),
        "bg": lambda: f.bg()(1),
    }
    source.held = held = Held()
    first = threads.submit(f if began == "call" else f.refresh, 1)
    assert held.started.wait(LATE)
    joined = threads.submit(f, 1)
    while not waiting(f):
        time.sleep(0.001)
    source.held = None
    client.invalidate_tag(("user", 2))
    client.invalidate_tag(("user", 1))
    assert threads.submit(calls[mode]).result(LATE) == "2: (1,)"
    held.go.set()
    assert first.result(LATE) == joined.result(LATE) == "1: (1,)"
    assert f(1) == "2: (1,)"


def test_who_calls_after_another_tag_was_invalidated_joins(
    client: CacheClient, source: Source, threads: ThreadPoolExecutor
) -> None:
    f = cached(client, 60, namespace="f", tags=user_tags)(source)
    source.held = held = Held()
    first = threads.submit(f, 1)
    assert held.started.wait(LATE)
    client.invalidate_tag(("user", 2))
    joined = threads.submit(f, 1)
    while not waiting(f):
        time.sleep(0.001)
    held.go.set()
    assert first.result(LATE) == joined.result(LATE) == "1: (1,)"


def test_of_what_others_invalidated_a_joiner_hears_in_time(
    shared: Hosts, clock: ManualClock, source: Source, threads: ThreadPoolExecutor
) -> None:
    one, other = shared.client(), shared.client()
    f = cached(other, 60, namespace="f", tags=user_tags, claim_ttl=LATE)(source)
    source.held = held = Held()
    first = threads.submit(f, 1)
    assert held.started.wait(LATE)
    one.invalidate_tag(("user", 1))
    if "told" not in shared.kind:
        clock.advance(1.1)
    source.held = None
    assert threads.submit(f, 1).result(LATE) == "2: (1,)"
    held.go.set()
    assert first.result(LATE) == "1: (1,)"


def test_a_flight_that_found_the_old_value_is_not_joined_after_an_invalidation(
    clock: ManualClock, source: Source
) -> None:
    client = Interposed(inproc(clock))
    f = cached(client, 60, namespace="f", tags=user_tags)(source)
    f(1)
    engine = f._core.engine
    call = f._core.reading.tagged((1,), {})
    assert call is not None
    flight, new = engine.flights.enter(call.key)
    assert new
    tagging = f._core.reading.tagging
    assert tagging is not None
    tagging.entered(flight)
    flight.begin()  # it has found the value, and is about to land with it
    client.invalidate_tag(("user", 1))
    assert f(1) == "2: (1,)"


def test_claims_are_waited_for_and_what_they_bring_is_judged(
    shared: Hosts, source: Source, threads: ThreadPoolExecutor
) -> None:
    # Who waits moves the clock on by that: it must end neither the claim nor the value.
    one, other = (
        cached(shared.client(), 1e9, namespace="f", tags=user_tags, claim_ttl=1e9)(source)
        for _ in range(2)
    )
    source.held = held = Held()
    first = threads.submit(one, 1)
    assert held.started.wait(LATE)
    second = threads.submit(other, 1)
    while not other.stats.misses:
        time.sleep(0.001)
    source.held = None
    held.go.set()
    assert first.result(LATE) == second.result(LATE) == "1: (1,)"
    assert other.stats.shared == 1


# -- Several processes -----------------------------------------------------------------------


def test_others_see_an_invalidation_within_a_second_or_at_once(
    shared: Hosts, clock: ManualClock, source: Source
) -> None:
    here, there = shared.client(), shared.client()
    one, other = (cached(c, 600, namespace="f", tags=user_tags)(source) for c in (here, there))
    assert one(1) == other(1) == "1: (1,)"
    clock.advance(5)
    assert other(1) == "1: (1,)"
    here.invalidate_tag(("user", 1))
    assert one(1) == "2: (1,)"
    if "told" not in shared.kind:
        assert other(1) in ("1: (1,)", "2: (1,)")
        clock.advance(1.1)
    assert other(1) == "2: (1,)"
    assert len(source.reads) == 2  # it was found behind the copy that is out of date
    there.invalidate_tag(("user", 1))
    assert other(1) == "3: (1,)"


def test_who_knows_less_does_not_take_the_newer_value_for_an_old_one(
    shared: Hosts, source: Source
) -> None:
    here, there = shared.client(), shared.client()
    one, other = (cached(c, 600, namespace="f", tags=user_tags)(source) for c in (here, there))
    other(2)
    there.invalidate_tag(("user", 1))  # known there from now on
    here.invalidate_tag(("user", 1))
    assert one(1) == "2: (1,)"
    assert other(1) == "2: (1,)"


def test_a_near_copy_is_replaced_by_the_newer_one(clock: ManualClock, source: Source) -> None:
    server = inproc(clock, 1000)
    near = inproc(clock)
    here = RemoteFake(server)
    there = TieredInclusiveClient(near, RemoteFake(server))
    one, other = (cached(c, 600, namespace="f", tags=user_tags)(source) for c in (here, there))
    other(1)
    here.invalidate_tag(("user", 1))
    one(1)
    clock.advance(1.1)
    assert other(1) == "2: (1,)"
    hits = other.stats.near_hits
    assert other(1) == "2: (1,)"
    assert other.stats.near_hits == hits + 1


def test_the_due_tags_are_asked_for_together_with_the_value(
    clock: ManualClock, source: Source
) -> None:
    server = inproc(clock)

    class Remote(RecordingClient):
        authority = property(lambda self: self)
        capabilities = property(
            lambda self: Capabilities(shared=True, near=False, blocking=True, clearable=False)
        )
        near = hot_path = lambda *_: None  # type: ignore[assignment]

    client = Remote(server)

    def requests(call: Callable[[], object]) -> list[Any]:
        client.calls.clear()
        call()
        return [len(keys) for name, *keys in client.calls if name == "entries"]

    f = cached(client, 60, namespace="f", tags=lambda *xs: [*xs, "all"])(source)
    values_and_revision = 1 + 1
    f(1, 2)
    f(2, 3)
    assert requests(lambda: f(1, 2)) == [values_and_revision]  # the tags are believed
    clock.advance(2)
    assert requests(lambda: f(1, 2)) == [values_and_revision + 3]
    clock.advance(2)
    assert requests(lambda: f.multi([(1, 2), (2, 3)])) == [values_and_revision + 1 + 4]
    clock.advance(2)
    assert requests(lambda: f.peek(1, 2)) == [values_and_revision + 3]
    other = Remote(server)
    other.invalidate_tag("all")
    clock.advance(2)

    def missed() -> None:
        with pytest.raises(CacheMissError):
            f.peek(1, 2)

    assert requests(missed) == [values_and_revision + 3]  # and nobody is asked twice


def test_beside_tiers_the_due_tags_are_one_request_more(clock: ManualClock, source: Source) -> None:
    server = RecordingClient(inproc(clock))
    client = TieredInclusiveClient(inproc(clock), RemoteFake(server))
    f = cached(client, 60, namespace=NO_NAMESPACE, tags=lambda x: [x, "all"])(source)
    f(1)
    clock.advance(2)
    server.calls.clear()
    f(1)
    assert [name for name, *_ in server.calls] == ["entries"]
    assert len(server.calls[0]) == 1 + 2


def test_a_process_that_starts_finds_the_values_and_their_versions(
    shared: Hosts, source: Source
) -> None:
    old = cached(shared.client(), 60, namespace="f", tags=user_tags)(source)
    old(1)
    new = cached(shared.client(), 60, namespace="f", tags=user_tags)(source)
    assert new(1) == "1: (1,)"
    assert new.peek(1) == "1: (1,)"
    assert len(source.reads) == 1


# -- Modes -------------------------------------------------------------------------------


def test_every_mode_answers_with_what_is_up_to_date_only(
    client: CacheClient, source: Source
) -> None:
    f = cached(client, 60, namespace="f", tags=user_tags)(source)

    def held() -> list[Any]:
        return [
            f.peek(1),
            f.lazy(1),
            f.get_ttl(1)[0],
            f.bg().peek(1),
            f.bg().lazy(1),
            f.future().peek(1).result(LATE),
            f.multi.peek([1])[1],
            f.multi.get_ttl([1])[1][0],
            asyncio.run(f.aio.peek(1)),
            f.client.get(f.callkey(1)),
            f.client.get_ttl(f.callkey(1))[0],
            f.client.get_multi([f.callkey(1)], None)[f.callkey(1)],
        ]

    assert f(1) == "1: (1,)"
    assert held() == ["1: (1,)"] * 12
    assert f.client.contains(f.callkey(1))
    client.invalidate_tag(("user", 1))
    asks: list[Callable[[], Any]] = [
        lambda: f.peek(1),
        lambda: f.lazy(1),
        lambda: f.get_ttl(1),
        lambda: f.bg().peek(1),
        lambda: f.future().peek(1).result(LATE),
        lambda: f.multi.peek([1])[1],
        lambda: f.multi.get_ttl([1])[1],
        lambda: asyncio.run(f.aio.peek(1)),
        lambda: f.client.get(f.callkey(1)),
        lambda: f.client.get_ttl(f.callkey(1)),
    ]
    for ask in asks:
        with pytest.raises(CacheMissError):
            ask()
    assert f.client.get_multi([f.callkey(1)], None) == {f.callkey(1): None}
    assert not f.client.contains(f.callkey(1))
    assert f(1) == "2: (1,)"
    assert held() == ["2: (1,)"] * 12


def test_a_put_value_has_the_tags_of_its_call(client: CacheClient, source: Source) -> None:
    f = cached(client, 60, namespace="f", tags=user_tags)(source)
    puts: list[Callable[[], Any]] = [
        lambda: f.put(1, _cache_put="put"),
        lambda: f.multi.put({1: "put"})[1],
        lambda: asyncio.run(f.aio.put(1, _cache_put="put")),
        lambda: f.future().put(1, _cache_put="put").result(LATE),
    ]
    for put in puts:
        assert put()
        assert f(1) == "put"
        client.invalidate_tag(("user", 2))
        assert f.peek(1) == "put"
        client.invalidate_tag(("user", 1))
        with pytest.raises(CacheMissError):
            f.peek(1)
    assert source.reads == []


def test_what_is_put_into_the_client_itself_has_no_tags(client: CacheClient) -> None:
    f = cached(client, 60, namespace="f", tags=user_tags)(lambda user: "computed")
    f.client.put(f.callkey(1), "put", 60)
    assert f(1) == "put"
    client.invalidate_tag(("user", 1))
    assert f(1) == "put"


def test_invalidating_and_expiring_one_call(client: CacheClient, source: Source) -> None:
    f = cached(client, 60, namespace="f", keep=60, tags=user_tags)(source)
    f(1)
    assert f.expire(1)
    assert f.get_ttl(1)[1] < 0
    assert f(1) == "2: (1,)"
    assert f.invalidate(1)
    assert f(1) == "3: (1,)"
    f.clear()
    assert f(1) == "4: (1,)"


def test_a_coroutine_function(client: CacheClient, source: Source) -> None:
    @cached(client, 60, namespace="f", keep=60, async_ttl=5, tags=user_tags)
    async def f(user: int) -> str:
        return source(user)

    async def use() -> None:
        assert await f(1) == await f(1) == "1: (1,)"
        assert f.stats.hits == 1
        await client.aio.invalidate_tag(("user", 1))
        assert await f(1) == await f(1) == "2: (1,)"
        assert await f.peek(1) == "2: (1,)"

    asyncio.run(use())


def test_stale_values_serve_only_while_their_tags_are_what_they_were(
    client: CacheClient, clock: ManualClock, source: Source
) -> None:
    pool = WorkerPool(0)
    f = cached(
        client,
        10,
        namespace="f",
        keep=1000,
        stale_if_error=True,
        error_backoff=30,
        tags=user_tags,
        pool=pool,
    )(source)
    f(1)
    clock.advance(11)
    assert f.bg()(1) == "1: (1,)"  # stale, and computed behind
    assert f(1) == "2: (1,)"
    clock.advance(11)
    source.error = OSError("down")
    assert f(1) == "2: (1,)"
    assert f.stats.rescued == 1
    assert f(1) == "2: (1,)"  # without another attempt
    assert f.stats.failures == 1
    client.invalidate_tag(("user", 1))
    with pytest.raises(OSError, match="down"):
        f(1)
    with pytest.raises(OSError, match="down"):
        f.bg()(1)
    source.error = None
    assert f(1) == "6: (1,)"


def test_remembered_errors_are_invalidated_too(client: CacheClient, source: Source) -> None:
    f = cached(client, 60, namespace="f", tags=user_tags, cache_errors={LookupError: 30})(source)
    source.error = LookupError("nobody")
    for _ in range(3):
        with pytest.raises(LookupError, match="nobody"):
            f(1)
    assert len(source.reads) == 1
    assert dict(f.explain(1).detail)["last_failure"]
    client.invalidate_tag(("user", 1))
    with pytest.raises(LookupError, match="nobody"):
        f(1)
    assert len(source.reads) == 2
    source.error = None
    client.invalidate_tag(("user", 1))
    assert f(1) == "3: (1,)"


def test_a_soft_timeout_does_not_fall_back_on_what_is_out_of_date(
    client: CacheClient, clock: ManualClock, source: Source
) -> None:
    f = cached(client, 10, namespace="f", keep=1000, soft_timeout=0.01, tags=user_tags)(source)
    f(1)
    clock.advance(11)
    source.held = held = Held()
    assert f(1) == "1: (1,)"  # takes too long
    assert held.started.wait(LATE)  # or the next call would read before this one does
    held.go.set()
    client.invalidate_tag(("user", 1))
    source.held = None
    assert f(1) == "3: (1,)"


def test_placeholders_take_the_place_of_what_is_out_of_date(
    client: CacheClient, clock: ManualClock, source: Source
) -> None:
    pool = WorkerPool(1)
    f = cached(client, 60, namespace="f", async_ttl=5, renew_time=30, tags=user_tags, pool=pool)(
        source
    )
    f.placeholder_value(lambda user: "soon")
    f(1)
    client.invalidate_tag(("user", 1))
    source.held = held = Held()
    assert f.bg()(1) == "soon"
    assert held.started.wait(LATE)
    assert f.peek(1) == "soon"
    held.go.set()
    assert pool.close(LATE)
    assert f(1) == "2: (1,)"


def test_early_refresh(client: CacheClient, source: Source) -> None:
    f = cached(client, 60, namespace="f", early_refresh=True, tags=user_tags)(source)
    assert f(1) == f(1)
    client.invalidate_tag(("user", 1))
    assert f(1) == f(1) == "2: (1,)"


@pytest.mark.parametrize("errors", [None, {LookupError: 30}])
def test_transforms_see_the_values_only(client: CacheClient, source: Source, errors: Any) -> None:
    seen: list[Any] = []

    def inward(value: str) -> list[str]:
        seen.append(value)
        return [value]

    def outward(kept: list[str]) -> str:
        seen.append(kept)
        return kept[0]

    f = cached(
        client,
        60,
        namespace="f",
        tags=user_tags,
        cache_errors=errors,
        value_serialization_function=inward,
        value_deserialization_function=outward,
    )(source)
    assert f(1) == f(1) == "1: (1,)"
    client.invalidate_tag(("user", 1))
    assert f(1) == f(1) == "2: (1,)"
    assert all(one in ("1: (1,)", "2: (1,)", ["1: (1,)"], ["2: (1,)"]) for one in seen)
    source.error = LookupError("nobody")
    with pytest.raises(LookupError):
        f(2)


def test_callbacks_are_told_of_what_is_up_to_date(clock: ManualClock, source: Source) -> None:
    server = inproc(clock)
    one, other = (
        cached(
            TieredInclusiveClient(inproc(clock), RemoteFake(server)),
            60,
            namespace="f",
            tags=user_tags,
        )(source)
        for _ in range(2)
    )
    told: list[Any] = []
    other.on_promote(lambda key, value, ttl: told.append((key, value, ttl)))
    one(1)
    assert other(1) == "1: (1,)"
    assert told == [(other.callkey(1), "1: (1,)", 60)]
    one.client.invalidate_tag(("user", 1))
    clock.advance(2)
    assert other(1) == "2: (1,)"
    assert len(told) == 1  # what was promoted and is out of date is nobody's affair


def test_a_callback_that_fails_is_counted(clock: ManualClock, source: Source) -> None:
    far = RemoteFake(inproc(clock))
    view = TaggedView(TieredInclusiveClient(inproc(clock), far))
    TaggedView(far).put("k", "v", 60)

    def fail(*_: Any) -> None:
        raise OSError("of the callback")

    assert view.get("k", promote_callback=fail) == "v"
    assert view.stats.errors == 1


def test_writes_in_the_background(clock: ManualClock, source: Source) -> None:
    for client in (
        AsyncWriteCacheClient(inproc(clock)),
        TieredInclusiveClient(inproc(clock), AsyncWriteCacheClient(RemoteFake(inproc(clock)))),
    ):
        f = cached(client, 60, namespace="f", tags=user_tags)(source)
        before = f(1)
        assert f(1) == before
        client.invalidate_tag(("user", 1))
        assert f(1) != before
        client.close()


# -- Beside functions without tags -----------------------------------------------------------


def test_a_function_without_tags_never_sees_what_one_with_tags_keeps(
    client: CacheClient, source: Source
) -> None:
    with_tags = cached(client, 60, namespace="f", tags=user_tags)(source)
    without = cached(client, 60, namespace="f")(source)
    assert with_tags(1) == "1: (1,)"
    assert without(1) == "2: (1,)"
    client.invalidate_tag(("user", 1))
    assert without(1) == "2: (1,)"
    assert with_tags(1) == "3: (1,)"
    without.clear()
    assert with_tags(1) == "4: (1,)"


def test_what_is_stored_is_judged_by_its_stamp(clock: ManualClock) -> None:
    client = inproc(clock)
    view = TaggedView(client)
    kept = view.inner_value(Stamped("v", view.table.stamp(tag_names(["t"]))))
    assert view.outer_value(kept) == "v"
    assert view.outer_value(view.inner_value("v")) == "v"
    client.invalidate_tag("t")
    assert view.outer_value(kept) is MISSING
    assert view.outer_value("v") is MISSING


@pytest.mark.parametrize(
    "strange",
    ["text", None, [], ["a"], [["odd"], "v"], [[1, 2], "v"], ["ab", "v"], {"a": 1}],
)
def test_what_no_view_has_written_is_a_miss(clock: ManualClock, strange: Any) -> None:
    client = inproc(clock)
    f = cached(client, 60, namespace=NO_NAMESPACE, tags=user_tags)(lambda user: "computed")
    client.put(("tagged", 1), strange, 60)
    view = f.client
    assert view.get(1, "none") == "none"
    assert view.near(1) is None
    assert view.explain(1).state == "fresh"  # as the client sees it
    assert f(1) == "computed"


# -- Tags that cannot be told ----------------------------------------------------------------


def failing(user: int) -> list[str]:
    raise ValueError("no tags today")


@pytest.mark.parametrize(
    "tags", [failing, lambda user: "user:1", lambda user: None, lambda user: [object()]]
)
def test_a_call_whose_tags_cannot_be_told_is_computed_without_the_cache(
    client: CacheClient, source: Source, caplog: pytest.LogCaptureFixture, tags: Any
) -> None:
    f = cached(client, 60, namespace="f", tags=tags)(source)
    with caplog.at_level(logging.WARNING):
        assert [f(1), f(1)] == ["1: (1,)", "2: (1,)"]
    assert "f is called without the cache" in caplog.text
    assert f.stats.errors == 2
    with pytest.raises(CacheMissError):
        f.peek(1)
    assert f.refresh(1) == "3: (1,)"
    assert f.bg()(1) == "4: (1,)"
    assert f.future()(1).result(LATE) == "5: (1,)"
    assert f.multi([1, 2])[2] == "7: (2,)"
    assert asyncio.run(f.aio(1)) == "8: (1,)"
    f.explain(1)


def test_what_cannot_be_put_does_not_leave_what_it_was_to_replace(
    client: CacheClient, source: Source
) -> None:
    fails: list[bool] = []

    def tags(user: int) -> list[str]:
        if fails:
            raise ValueError("no tags today")
        return ["t"]

    f = cached(client, 60, namespace="f", tags=tags)(source)
    f(1)
    fails.append(True)
    assert f.get_ttl(1)[0] == "1: (1,)"
    assert not f.put(1, _cache_put="newer")
    assert f.invalidate(1) is False  # it is gone
    fails.clear()
    assert f(1) == "2: (1,)"
    fails.append(True)
    assert f.invalidate(1)
    assert not f.expire(1)


def test_where_versions_cannot_be_had_nothing_is_kept(clock: ManualClock, source: Source) -> None:
    remote = FailingClient(inproc(clock), OSError("no server"))

    class Far(RemoteFake):
        pass

    client = TieredInclusiveClient(inproc(clock), Far(remote))
    f = cached(client, 60, namespace=NO_NAMESPACE, tags=user_tags, keep=60)(source)
    assert [f(1), f(1)] == ["1: (1,)", "2: (1,)"]
    assert f.stats.errors
    assert not f.put(1, _cache_put="put")
    f.placeholder_value(lambda user: "soon")
    remote.error = None
    assert [f(1), f(1)] == ["3: (1,)", "3: (1,)"]


# -- For people --------------------------------------------------------------------------


def test_an_explanation_shows_the_tags_and_their_versions(client: CacheClient) -> None:
    f = cached(client, 60, namespace="f", tags=lambda x: ["t", ("x", x)])(lambda x: x)
    assert f.explain(1).state == "absent"
    f(1)
    told = dict(f.explain(1).detail)
    tags: Any = told["tags"]
    now: Any = told["versions_by_now"]
    assert f.explain(1).state == "fresh"
    assert [tag for tag, _ in now] == ["t", ("x", 1)]
    assert [version for _, version in now] == [version for _, version in tags]
    client.invalidate_tag("t")
    explained = f.explain(1)
    told = dict(explained.detail)
    now = told["versions_by_now"]
    assert explained.state == "absent"
    assert told["outdated"] is True
    assert [a[1] == b[1] for a, b in zip(now, tags, strict=True)] == [False, True]


# -- What is refused -----------------------------------------------------------------------


def test_tags_must_be_callable_and_answer_at_once(clock: ManualClock) -> None:
    client = inproc(clock)
    with pytest.raises(TypeError, match=r"tags must be callable, not \['t'\]"):
        cached(client, 60, tags=["t"])(lambda x: x)  # type: ignore[arg-type]

    async def tags(x: int) -> list[str]:
        return ["t"]

    with pytest.raises(TypeError, match="tags must answer at once"):
        cached(client, 60, tags=tags)(lambda x: x)  # type: ignore[arg-type]


def test_a_client_of_bytes_cannot_keep_versions(clock: ManualClock) -> None:
    class Bytes(Wrapper):
        @property
        def capabilities(self) -> Capabilities:
            return super().capabilities._replace(bytes_only=True)

    with pytest.raises(ValueError, match="tags need a client that can keep more than bytes"):
        cached(Bytes(inproc(clock)), 60, tags=lambda x: ["t"])(lambda x: x)


# -- Threads -----------------------------------------------------------------------------


def test_threads_that_invalidate_and_read_never_read_what_is_older(clock: ManualClock) -> None:
    client = InprocCacheClient(100, clock=clock)
    truth, published = [0] * 4, [0] * 4
    lock = threading.Lock()
    f = cached(client, 60, namespace="f", tags=lambda number: [("n", number), "all"])(
        lambda number: truth[number]
    )

    def work(seed: int) -> list[Any]:
        errors = []
        for step in range(400):
            number = (seed + step) % len(truth)
            if step % 3 == 0:
                with lock:
                    truth[number] += 1
                    client.invalidate_tag(("n", number) if step % 2 else "all")
                    published[number] = truth[number]
            known = published[number]
            if f(number) < known:
                errors.append((seed, step))
        return errors

    assert together(work, 6) == [[]] * 6
