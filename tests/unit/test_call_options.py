"""The options of ``cached``, one by one, and what they refuse."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import RecordingClient, RemoteFake, inproc
from tiered import (
    FOREVER,
    NO_NAMESPACE,
    CacheMissError,
    DecoratedWrapper,
    TieredInclusiveClient,
    UnsupportedOperation,
    WorkerPool,
    cached,
)
from tiered.clients.base import CacheClient
from tiered.decorators.failures import FailureOf
from tiered.testing import ManualClock


class Source:
    """What a function reads from: counts its readers, and fails when told to."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.reads: list[Any] = []
        self.error: Exception | None = None
        self.clock = clock
        self.seconds = 0.0

    def __call__(self, key: Any) -> tuple[Any, int]:
        self.reads.append(key)
        if self.clock is not None:
            self.clock.advance(self.seconds)
        if self.error is not None:
            raise self.error
        return (key, len(self.reads))


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def inline() -> WorkerPool:
    return WorkerPool(0)


@pytest.fixture
def client(clock: ManualClock) -> CacheClient:
    return inproc(clock)


class Hosts:
    """The clients of several processes that share one server."""

    def __init__(self, clock: ManualClock) -> None:
        self.server = inproc(clock)
        self.clock = clock

    def client(self) -> CacheClient:
        return TieredInclusiveClient(inproc(self.clock), RemoteFake(self.server))


@pytest.fixture
def hosts(clock: ManualClock) -> Hosts:
    return Hosts(clock)


# -- Stale if error --------------------------------------------------------------------


def test_a_stale_value_stands_in_for_an_error_while_it_is_kept(
    client: CacheClient, clock: ManualClock, source: Source
) -> None:
    f = cached(client, 10, keep=30, stale_if_error=True)(source)
    assert f(1) == (1, 1)
    clock.advance(11)
    source.error = OSError("down")
    assert f(1) == (1, 1)
    assert (f.stats.failures, f.stats.rescued) == (1, 1)
    assert f(1) == (1, 1)  # without a back-off, each call is an attempt
    assert len(source.reads) == 3
    clock.advance(30)  # 41 s old: kept no longer
    with pytest.raises(OSError, match="down"):
        f(1)
    source.error = None
    assert f(1) == (1, 5)


def test_an_error_without_a_value_reaches_the_caller(client: CacheClient, source: Source) -> None:
    f = cached(client, 10, keep=30, stale_if_error=True, error_backoff=5)(source)
    source.error = OSError("down")
    for attempt in (1, 2):
        with pytest.raises(OSError, match="down"):
            f(1)
        assert len(source.reads) == attempt


def test_attempts_wait_for_the_backoff_in_every_process(
    hosts: Hosts, clock: ManualClock, source: Source
) -> None:
    one, other = (
        cached(hosts.client(), 10, keep=60, stale_if_error=True, error_backoff=5, namespace="n")(
            source
        )
        for _ in range(2)
    )
    assert one(1) == other(1) == (1, 1)
    clock.advance(11)
    source.error = OSError("down")
    assert one(1) == (1, 1)
    assert len(source.reads) == 2
    for _ in range(3):
        assert one(1) == other(1) == (1, 1)
    assert len(source.reads) == 2
    assert other.stats.failures == 0
    clock.advance(5)
    assert other(1) == (1, 1)
    assert len(source.reads) == 3
    source.error = None
    clock.advance(5)
    assert one(1) == (1, 4)
    assert other(1) == (1, 4)
    assert one.peek(1) == (1, 4)


def test_a_backoff_ends_with_the_value_that_it_protects(
    client: CacheClient, clock: ManualClock, source: Source
) -> None:
    f = cached(client, 10, keep=20, stale_if_error=True, error_backoff=100)(source)
    f(1)
    clock.advance(15)
    source.error = OSError("down")
    assert f(1) == (1, 1)
    clock.advance(16)  # 31 s old
    with pytest.raises(OSError, match="down"):
        f(1)


@pytest.mark.parametrize("act", ["invalidate", "put", "refresh", "clear"])
def test_a_backoff_is_over_when_somebody_changes_the_value(
    client: CacheClient, clock: ManualClock, source: Source, act: str
) -> None:
    f = cached(client, 10, keep=100, stale_if_error=True, error_backoff=100)(source)
    f(1)
    clock.advance(11)
    source.error = OSError("down")
    assert f(1) == (1, 1)
    source.error = None
    if act == "invalidate":
        f.invalidate(1)
    elif act == "put":
        f.put(1, _cache_put=(1, 0))
    elif act == "refresh":
        f.refresh(1)
    else:
        f.clear()
    clock.advance(20)
    reads = len(source.reads)
    f(1)
    assert len(source.reads) == reads + 1


def test_a_failed_refresh_behind_the_caller_backs_off_too(
    client: CacheClient, clock: ManualClock, source: Source, inline: WorkerPool
) -> None:
    f = cached(client, 10, keep=60, stale_if_error=True, error_backoff=5, pool=inline)(source)
    f(1)
    clock.advance(11)
    source.error = OSError("down")
    assert f.bg()(1) == (1, 1)
    assert f.bg()(1) == (1, 1)
    assert f.future()(1).result(0) == (1, 1)
    assert len(source.reads) == 2


def test_stale_values_do_not_look_fresh(
    client: CacheClient, clock: ManualClock, source: Source
) -> None:
    f = cached(client, 10, keep=60, stale_if_error=True, error_backoff=5)(source)
    f(1)
    clock.advance(11)
    source.error = OSError("down")
    f(1)
    with pytest.raises(CacheMissError):
        f.peek(1)
    assert f.get_ttl(1) == ((1, 1), -1)


# -- Remembered errors -----------------------------------------------------------------


class NotThere(LookupError):
    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} is not there")
        self.code = code


def test_a_named_exception_is_an_answer_for_a_while(
    hosts: Hosts, clock: ManualClock, source: Source
) -> None:
    one, other = (
        cached(hosts.client(), 60, cache_errors={LookupError: 5, OSError: 1}, namespace="n")(source)
        for _ in range(2)
    )
    source.error = NotThere("it", 404)
    for f in (one, other, one):
        with pytest.raises(NotThere, match="it is not there") as caught:
            f(1)
        assert caught.value.code == 404
    assert len(source.reads) == 1
    clock.advance(5)
    with pytest.raises(NotThere):
        other(1)
    assert len(source.reads) == 2
    source.error = ValueError("another")
    clock.advance(5)
    for reads in (3, 4):
        with pytest.raises(ValueError, match="another"):
            one(1)
        assert len(source.reads) == reads


def test_the_nearest_type_decides(client: CacheClient, clock: ManualClock, source: Source) -> None:
    f = cached(client, 60, cache_errors={Exception: 1, LookupError: 50, NotThere: 5})(source)
    for error, ttl in ((NotThere("x", 1), 5), (KeyError("k"), 50), (OSError(), 1)):
        f.clear()
        source.error = error
        reads = len(source.reads)
        with pytest.raises(type(error)):
            f(1)
        clock.advance(ttl - 0.5)
        with pytest.raises(type(error)):
            f(1)
        assert len(source.reads) == reads + 1
        clock.advance(0.5)
        with pytest.raises(type(error)):
            f(1)
        assert len(source.reads) == reads + 2


@pytest.mark.parametrize("act", ["invalidate", "put", "refresh", "clear"])
def test_a_remembered_error_is_forgotten_by_what_changes_the_value(
    client: CacheClient, source: Source, act: str
) -> None:
    f = cached(client, 60, cache_errors={LookupError: 50})(source)
    source.error = LookupError("no")
    with pytest.raises(LookupError):
        f(1)
    source.error = None
    if act == "put":
        f.put(1, _cache_put=(1, 2))
    elif act == "refresh":
        assert f.refresh(1) == (1, 2)
        assert f.expire(1)
        assert f(1) == (1, 3)
        return
    elif act == "invalidate":
        f.invalidate(1)
    else:
        f.clear()
    assert f(1) == (1, 2)


def test_a_remembered_error_holds_no_frames(client: CacheClient) -> None:
    @cached(client, 60, cache_errors={LookupError: 50})
    def f(x: int) -> int:
        try:
            raise OSError("below")
        except OSError as error:
            raise LookupError("above") from error

    with pytest.raises(LookupError) as first:
        f(1)
    assert first.value.__cause__ is not None
    entry = f.client.entry(FailureOf(1))
    assert entry is not None
    assert entry.value.__traceback__ is None
    assert entry.value.__cause__ is None
    with pytest.raises(LookupError) as second:
        f(1)
    assert second.value is not first.value
    assert pickle.loads(pickle.dumps(entry.value)).args == ("above",)
    assert f.stats.computations == 1


def test_an_exception_that_cannot_be_copied_is_kept_as_it_is(client: CacheClient) -> None:
    class Odd(Exception):
        def __init__(self, one: int, *, other: int) -> None:
            super().__init__()

    @cached(client, 60, cache_errors={Odd: 50})
    def f() -> None:
        raise Odd(1, other=2)

    for _ in range(2):
        with pytest.raises(Odd):
            f()
    assert f.stats.computations == 1


def test_an_error_that_was_invalidated_while_it_came_about_is_not_remembered(
    client: CacheClient,
) -> None:
    @cached(client, 60, cache_errors={LookupError: 50})
    def f(x: int) -> int:
        f.invalidate(x)
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            f(1)
    assert f.stats.computations == 2


# -- What is stored, and for how long --------------------------------------------------


def test_cache_if_sees_the_value_and_the_call(client: CacheClient) -> None:
    seen: list[Any] = []

    def big(value: int, x: int, y: int = 0) -> bool:
        seen.append((value, x, y))
        return value > 10

    @cached(client, 60, cache_if=big)
    def add(x: int, y: int = 1) -> int:
        return x + y

    assert add(1) == add(x=1) == 2
    assert add.stats.computations == 2
    assert add(10, 5) == add(10, y=5) == 15
    assert add.stats.computations == 3
    assert seen == [(2, 1, 1), (2, 1, 1), (15, 10, 5)]


@pytest.mark.parametrize("predicate", [bool, lambda value: value])
def test_cache_if_may_want_the_value_alone(client: CacheClient, predicate: Any) -> None:
    @cached(client, 60, cache_if=predicate)
    def f(x: int) -> int:
        return x

    assert (f(0), f(0), f(1), f(1)) == (0, 0, 1, 1)
    assert f.stats.computations == 3


def test_a_predicate_that_fails_costs_nobody_his_value(client: CacheClient) -> None:
    @cached(client, 60, cache_if=lambda value: 1 // 0)
    def f(x: int) -> int:
        return x

    assert f(1) == f(1) == 1
    assert f.stats.errors == 2


def test_the_value_may_decide_its_ttl(client: CacheClient, clock: ManualClock) -> None:
    @cached(client, ttl=lambda value: value["max_age"])
    def fetch(url: str) -> dict[str, float]:
        return {"max_age": {"long": 100, "short": 5, "never": 0, "ended": -3}.get(url, 1)}

    for url in ("long", "short", "never", "ended"):
        fetch(url)
    assert fetch.get_ttl("long")[1] == 100
    assert fetch.get_ttl("short")[1] == 5
    for url in ("never", "ended"):
        with pytest.raises(CacheMissError):
            fetch.get_ttl(url)
    assert callable(fetch.ttl)
    assert "ttl=callable" in repr(fetch)


@pytest.mark.parametrize("nonsense", ["5", None, float("nan"), KeyError])
def test_a_ttl_that_is_none_costs_nobody_his_value(client: CacheClient, nonsense: Any) -> None:
    def ttl(value: Any) -> Any:
        if nonsense is KeyError:
            raise KeyError
        return nonsense

    @cached(client, ttl)
    def f(x: int) -> int:
        return x

    assert f(1) == f(1) == 1
    assert f.stats.errors == 2


def test_lives_are_spread_and_only_ever_shorter(clock: ManualClock) -> None:
    client = inproc(clock, 1000)

    def ttls(**options: Any) -> list[float]:
        f = cached(client, namespace="spread", **options)(lambda x: x)
        f.clear()
        for x in range(200):
            f(x)
        return [f.get_ttl(x)[1] for x in range(200)]

    spread = ttls(ttl=100, ttl_spread=True)
    assert max(spread) <= 100
    assert 95 <= min(spread) < 96 < 99 < max(spread)
    assert len(set(spread)) > 190
    spread = ttls(ttl=100, ttl_spread=40)
    assert 60 <= min(spread) < 65 < 95 < max(spread) <= 100
    spread = ttls(ttl=100, ttl_spread=True, async_ttl=80)
    assert 99 <= min(spread) < 99.2
    spread = ttls(ttl=lambda value: 10.0, ttl_spread=True)
    assert 9.5 <= min(spread) < 9.6
    spread = ttls(ttl=lambda value: 10.0, ttl_spread=100)
    assert 5 <= min(spread) < 5.5
    for exact in ({"ttl_spread": None}, {"ttl_spread": False}, {"ttl_spread": 0}, {}):
        assert set(ttls(ttl=100, **exact)) == {100}
    assert set(ttls(ttl=100, async_ttl=20)) == {100}
    assert set(ttls(ttl=FOREVER, ttl_spread=True)) == {FOREVER}
    assert set(ttls(ttl=lambda value: FOREVER, ttl_spread=True)) == {FOREVER}


def test_lives_on_a_shared_client_are_spread_where_there_is_a_refresh_point(hosts: Hosts) -> None:
    f = cached(hosts.client(), 100, async_ttl=20)(lambda x: x)
    g = cached(hosts.client(), 100, namespace="exact")(lambda x: x)
    for x in range(50):
        f(x), g(x)
    assert len({f.get_ttl(x)[1] for x in range(50)}) > 40
    assert {g.get_ttl(x)[1] for x in range(50)} == {100}


def test_what_can_be_used_once_is_not_cached(
    client: CacheClient, caplog: pytest.LogCaptureFixture
) -> None:
    @cached(client, 60)
    def numbers(count: int) -> Any:
        return (x for x in range(count))

    assert list(numbers(3)) == list(numbers(3)) == [0, 1, 2]
    assert "returns a generator, which serves one user only" in caplog.text
    assert numbers.stats.errors == 2


# -- Renewals and placeholders ---------------------------------------------------------


def test_what_is_being_refreshed_is_renewed_for_others(
    hosts: Hosts, clock: ManualClock, source: Source
) -> None:
    held: list[Callable[[], Any]] = []

    class Held(WorkerPool):
        """Keeps its jobs until they are asked for."""

        def submit(self, work: Any, *, delay: float = 0.0) -> Any:
            held.append(work)
            return super().submit(lambda: None)

    options: dict[str, Any] = {"async_ttl": 20, "renew_time": 15, "namespace": "n"}
    slow = cached(hosts.client(), 100, pool=Held(0), ttl_spread=None, **options)(source)
    other = cached(hosts.client(), 100, pool=WorkerPool(0), ttl_spread=None, **options)(source)
    slow(1)
    clock.advance(85)

    def refreshing(key: Any) -> Any:
        # While the value is computed, the others find it renewed, and start nothing.
        assert other.client.get_ttl(1)[1] == 35
        assert other.bg()(1) == (1, 1)
        return source(key)

    slow = cached(hosts.client(), 100, pool=Held(0), ttl_spread=None, **options)(refreshing)
    assert slow.bg()(1) == (1, 1)
    held.pop()()
    assert source.reads == [1, 1]
    assert slow.get_ttl(1) == ((1, 2), 100)


def test_a_placeholder_answers_until_the_first_value_is_there(
    client: CacheClient, clock: ManualClock, source: Source
) -> None:
    pool = WorkerPool(1)
    f = cached(client, 100, renew_time=10, pool=pool)(source)
    gate: list[Any] = []

    @f.placeholder_value
    def soon(key: Any) -> tuple[Any, int]:
        gate.append(key)
        return (key, -1)

    assert soon("x") == ("x", -1)  # still a function
    assert f.bg()(1) == (1, -1)
    assert f.future()(2).result(20) in ((2, -1), (2, 2))
    pool.submit(lambda: None).result(20)
    assert f.bg()(1) == (1, 1)
    assert f(1) == (1, 1)
    assert f(7) == (7, 3)  # a plain call waits
    pool.close()


def test_others_get_the_placeholder_too(
    hosts: Hosts, clock: ManualClock, source: Source, inline: WorkerPool
) -> None:
    other = cached(hosts.client(), 100, renew_time=10, namespace="n", pool=inline)(source)
    seen: list[Any] = []

    def watched(key: Any) -> tuple[Any, int]:
        seen.append((other(key), other.get_ttl(key)[1]))
        return source(key)

    f = cached(hosts.client(), 100, renew_time=10, namespace="n", pool=inline)(watched)
    f.placeholder_value(lambda key: (key, -1))
    assert f.bg()(1) == (1, -1)
    assert seen == [((1, -1), 10)]
    assert f.bg()(1) == (1, 1)


def test_a_placeholder_that_fails_is_none(
    client: CacheClient, source: Source, inline: WorkerPool
) -> None:
    f = cached(client, 100, pool=inline)(source)
    f.placeholder_value(lambda key: 1 // 0)
    assert f.bg()(1) == (1, 1)


# -- Hooks -----------------------------------------------------------------------------


def test_on_value_hears_of_each_computation(
    client: CacheClient, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    f = cached(client, 100)(source)
    heard: list[Any] = []

    @f.on_value
    def broken(value: Any, key: Any) -> None:
        raise RuntimeError("mine")

    @f.on_value
    def hear(value: Any, key: Any) -> None:
        heard.append((value, key))

    with caplog.at_level(logging.WARNING):
        f(1), f(key=1), f(2)
    assert heard == [((1, 1), 1), ((2, 2), 2)]
    assert "RuntimeError('mine')" in caplog.text
    hear((0, 0), 0)
    assert f.stats.failures == 0


def test_on_promote_hears_of_copies(hosts: Hosts, source: Source) -> None:
    options: dict[str, Any] = {
        "namespace": "n",
        "keep": 5,
        "stale_if_error": True,
        "error_backoff": 5,
    }
    one = cached(hosts.client(), 100, **options)(source)
    other = cached(hosts.client(), 100, **options)(source)
    heard: list[Any] = []
    other.on_promote(lambda key, value, ttl: 1 // 0)

    @other.on_promote
    def hear(key: Any, value: Any, ttl: float) -> None:
        heard.append((key, value, ttl))

    one(1)
    assert other(1) == other(1) == (1, 1)
    assert heard == [(1, (1, 1), 100)]


def test_an_initializer_comes_before_every_access_until_it_is_done(
    client: CacheClient, source: Source, inline: WorkerPool
) -> None:
    calls: list[int] = []

    def initialize() -> bool:
        calls.append(1)
        return len(calls) >= 4

    f = cached(client, 100, initialize=initialize, pool=inline)(source)
    f(1)
    assert len(calls) >= 1
    f.get_ttl(1), f.bg()(1)
    f(1), f(1)
    assert f(1) == (1, 1)
    assert len(calls) == 4
    assert f.stats.near_hits >= 1


def test_an_initializer_that_raises_is_heard(client: CacheClient, source: Source) -> None:
    def initialize() -> None:
        raise RuntimeError("no configuration")

    f = cached(client, 100, initialize=initialize)(source)
    for call in (f, f.peek, f.refresh, f.invalidate, f.bg(), f.future()):
        with pytest.raises(RuntimeError, match="no configuration"):
            call(1)
    assert source.reads == []


def test_a_decorator_is_applied_to_every_mode(
    client: CacheClient, source: Source, inline: WorkerPool
) -> None:
    calls: list[str] = []

    def logged(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(getattr(function, "__name__", "?"))
            return function(*args, **kwargs)

        return call

    class Service:
        @cached(client, 100, decorate=logged, pool=inline)
        def read(self, key: int) -> tuple[Any, int]:
            return source(key)

    f = Service().read
    f(1)
    f.peek(1)
    f.bg()(1)
    f.bg().lazy(1)
    f.future()(1).result(0)
    f.future().get_ttl(1).result(0)
    f.multi([1])
    f.multi.peek([1])
    f.invalidate(1)
    assert len(calls) == 9
    assert f.client is Service.read.client
    assert source.reads == [1]


# -- Where and how values are kept -----------------------------------------------------


def test_values_are_kept_in_another_form(hosts: Hosts) -> None:
    @cached(
        hosts.client(),
        100,
        namespace="n",
        value_serialization_function=lambda value: {"points": list(value)},
        value_deserialization_function=lambda stored: frozenset(stored["points"]),
        cache_errors={LookupError: 5},
    )
    def points(x: int) -> frozenset[int]:
        if not x:
            raise LookupError("none")
        return frozenset({x, x + 1})

    assert points(1) == points(1) == {1, 2}
    assert points.stats.computations == 1
    assert isinstance(points.client, DecoratedWrapper)
    assert points.client.client.get(1) == {"points": [1, 2]}
    for _ in range(2):
        with pytest.raises(LookupError, match="none"):
            points(0)
    assert points.stats.computations == 2
    points.invalidate(0)
    with pytest.raises(LookupError, match="none"):
        points(0)
    assert points.stats.computations == 3
    assert points.multi([1, 2]) == {1: {1, 2}, 2: {2, 3}}


def test_a_form_that_cannot_be_read_is_a_miss(client: CacheClient, source: Source) -> None:
    f = cached(client, 100, value_deserialization_function=lambda stored: 1 // 0)(source)
    assert (f(1), f(1)) == ((1, 1), (1, 2))
    assert f.stats.errors == 1


def test_keys_may_be_used_as_they_are(client: CacheClient, source: Source) -> None:
    f = cached(client, 100, namespace=NO_NAMESPACE, key=lambda key: ("mine", key))(source)
    assert f(1) == f(1) == (1, 1)
    assert client.get(("mine", 1)) == (1, 1)
    assert f.client is client
    assert f.callkey(1) == ("mine", 1)
    assert "NO_NAMESPACE" in repr(NO_NAMESPACE)
    f.clear()
    assert f(1) == (1, 2)
    client.put(("mine", 1), (1, 0), 5)
    assert f(1) == (1, 0)
    assert "test_call_options.Source ttl" in repr(f)


def test_a_shared_client_without_a_namespace_is_not_cleared(clock: ManualClock) -> None:
    class Server(RemoteFake):
        @property
        def capabilities(self) -> Any:
            return super().capabilities._replace(clearable=False)

    f = cached(Server(inproc(clock)), 100, namespace=NO_NAMESPACE)(lambda x: x)
    f(1)
    with pytest.raises(UnsupportedOperation, match="without a namespace"):
        f.clear()
    assert f.peek(1) == 1


def test_a_salt_makes_another_namespace_of_the_same_name(client: CacheClient) -> None:
    def make(salt: Any) -> Any:
        def f(x: int) -> Any:
            return salt

        return cached(client, 100, autonamespace_version_salt=salt)(f)

    old, new = make(1), make("2")
    assert (old(5), new(5)) == (1, "2")
    assert old.client.namespace.endswith("f?1")
    assert new.client.namespace.endswith("f?2")


def test_the_function_is_told_of_no_more_round_trips_than_it_needs(clock: ManualClock) -> None:
    server = RecordingClient(RemoteFake(inproc(clock)))
    f = cached(server, 100, cache_errors={LookupError: 5}, namespace="n")(lambda x: x)
    f(1)
    f(1)
    asked = [call for call in server.calls if call[0] in ("entry", "entries")]
    assert all(call[0] == "entries" for call in asked[1:])  # value and failure together


# -- Statistics ------------------------------------------------------------------------


def test_times_of_misses_are_measured(client: CacheClient, clock: ManualClock) -> None:
    source = Source(clock)
    f = cached(client, 1000)(source)
    times = f.stats.miss_times
    assert (times.count, times.mean, times.percentile(0.5)) == (0, 0, 0)
    for x, seconds in enumerate((0.1, 0.2, 0.3, 2.0)):
        source.seconds = seconds
        f(x)
        f(x)
    source.error = OSError()
    source.seconds = 0.5
    with pytest.raises(OSError):
        f(99)
    times = f.stats.miss_times
    assert times.count == 5
    assert times.total == pytest.approx(3.1)
    assert times.mean == pytest.approx(0.62)
    assert times.shortest == pytest.approx(0.1)
    assert times.longest == pytest.approx(2.0)
    assert times.percentile(0.5) == pytest.approx(0.3, rel=0.06)
    assert times.percentile(1.0) == pytest.approx(2.0, rel=0.06)
    assert sum(count for _, count in times.buckets) == 5


def test_a_call_can_be_explained(hosts: Hosts, clock: ManualClock, source: Source) -> None:
    f = cached(hosts.client(), 10, keep=60, stale_if_error=True, error_backoff=5, namespace="n")(
        source
    )
    assert f.explain(1).state == "absent"
    f(1)
    explanation = f.explain(1)
    assert explanation.state == "fresh"
    assert [tier.state for tier in explanation.tiers[0].tiers] == ["fresh", "fresh"]
    assert "computing=False" in repr(explanation)
    assert "is fresh, ttl 10.000 s" in repr(explanation)
    clock.advance(11)
    source.error = OSError("down")
    f(1)
    clock.advance(1)
    assert "is stale, ttl -2.000 s" in repr(f.explain(1))
    assert dict(f.explain(1).detail) == {
        "computing": False,
        "last_failure": "failed: OSError('down')",
        "retry_in": 4,
    }
    seen: list[Any] = []

    @cached(inproc(clock), 10)
    def g(x: int) -> None:
        seen.append(g.explain(x))

    g(1)
    assert dict(seen[0].detail) == {"computing": True}
    with pytest.raises(AttributeError):
        explanation.ttl = 5  # type: ignore[misc]


# -- What cannot be right --------------------------------------------------------------


async def _coroutine(*_: Any) -> Any: ...


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"ttl": -1}, ValueError, "ttl must be a positive number of seconds, not -1"),
        ({"async_ttl": 60}, ValueError, "async_ttl must be below ttl"),
        ({"async_ttl": -61}, ValueError, "async_ttl must be below ttl"),
        ({"ttl": lambda v: 1, "async_ttl": -5}, ValueError, "a negative async_ttl counts from"),
        ({"ttl": _coroutine}, TypeError, "ttl must answer at once"),
        ({"key": _coroutine}, TypeError, "key must answer at once"),
        ({"cache_if": _coroutine}, TypeError, "cache_if must answer at once"),
        ({"cache_if": 5}, TypeError, "cache_if must be callable, not 5"),
        ({"initialize": _coroutine}, TypeError, "initialize must answer at once"),
        ({"initialize": 1}, TypeError, "initialize must be callable, not 1"),
        ({"decorate": 1}, TypeError, "decorate must be callable"),
        ({"value_serialization_function": 1}, TypeError, "value_serialization_function must be"),
        ({"typed": True, "key": lambda x: x}, ValueError, "typed and ignore shape the key"),
        ({"stale_if_error": True}, ValueError, "stale_if_error needs keep"),
        ({"keep": 5, "error_backoff": 5}, ValueError, "it needs stale_if_error=True"),
        ({"error_backoff": -5}, ValueError, "error_backoff must be seconds"),
        ({"soft_timeout": 5, "hard_timeout": 5}, ValueError, "soft_timeout must be below hard"),
        ({"hard_timeout": -1}, ValueError, "hard_timeout must be seconds, 0 or more, not -1"),
        ({"soft_timeout": "1"}, TypeError, "soft_timeout must be seconds"),
        ({"early_refresh": -1}, ValueError, "early_refresh must be a beta"),
        ({"early_refresh": "1"}, TypeError, "early_refresh must be a beta"),
        ({"cache_errors": [OSError]}, TypeError, "cache_errors must be a dict"),
        ({"cache_errors": {int: 5}}, TypeError, "names <class 'int'>, which is no type"),
        ({"cache_errors": {OSError: 0}}, ValueError, r"cache_errors\[OSError\] must be above 0"),
        ({"ttl_spread": -1}, ValueError, "ttl_spread must be True"),
        ({"ttl_spread": 60}, ValueError, "ttl_spread must be less than the 60 s"),
        ({"ttl_spread": 41, "async_ttl": 20}, ValueError, "less than the 40 s"),
        ({"ttl_spread": "much"}, TypeError, "ttl_spread must be True"),
        ({"renew_time": -1}, ValueError, "renew_time must be seconds"),
        ({"namespace": ""}, TypeError, "namespace must be a str that is not empty"),
        ({"namespace": 5}, TypeError, "namespace must be a str that is not empty"),
        ({"namespace": "n", "autonamespace_version_salt": 1}, ValueError, "into namespace="),
        ({"ignore": "self"}, TypeError, "ignore must be a tuple"),
        ({"claim_ttl": -1}, ValueError, "claim_ttl must be"),
        ({"pool": 5}, TypeError, "pool must be a WorkerPool, not 5"),
        ({"client": 5}, TypeError, "client must be a CacheClient, not 5"),
    ],
)
def test_options_that_cannot_be_right_are_refused_with_the_reason(
    client: CacheClient, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        cached(**{"client": client, "ttl": 60, **options})(lambda x: x)


def test_hooks_must_answer_at_once(client: CacheClient, source: Source) -> None:
    f = cached(client, 5)(source)
    for hang in (f.on_value, f.on_promote, f.placeholder_value):
        with pytest.raises(TypeError, match="must answer at once"):
            hang(_coroutine)


def test_a_coroutine_function_needs_a_pool_that_does_not_block_its_loop(hosts: Hosts) -> None:
    async def f(x: int) -> int:
        return x

    with pytest.raises(ValueError, match="stop the loop meanwhile"):
        cached(hosts.client(), 5, pool=WorkerPool(0))(f)
