"""``@cached``: every mode, every spelling, and a cache that never breaks the call."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import pickle
import sys
import types
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import tiered
from tests.fakes import FailingClient, RemoteFake, inproc, together, waiting
from tests.logs import of_this_thread
from tiered import cached
from tiered.clients.base import CacheClient, Claim
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.null import NullCacheClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.decorators import CachedFunction
from tiered.decorators.verdict import CALL, LAZY, PEEK, REFRESHING, Action, Verdict, judge
from tiered.entry import Entry
from tiered.errors import CacheMissError
from tiered.sentinels import FOREVER
from tiered.testing import ManualClock


class Doubler:
    """A function that counts its calls and can be told to fail."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.error: BaseException | None = None
        self.generation = 0

    def __call__(self, x: Any, y: int = 0, *, z: int = 0) -> tuple[Any, ...]:
        self.calls.append((x, y, z))
        if self.error is not None:
            raise self.error
        return (x, y, z, self.generation)


@pytest.fixture
def function() -> Doubler:
    return Doubler()


@pytest.fixture
def client(clock: ManualClock) -> InprocCacheClient:
    return inproc(clock)


# -- Calling ----------------------------------------------------------------------


def test_a_value_is_computed_once_and_served_until_its_ttl(
    client: CacheClient, clock: ManualClock, function: Doubler
) -> None:
    f = cached(client, 60)(function)
    assert f(1) == f(1) == (1, 0, 0, 0)
    clock.advance(59)
    f(1)
    assert len(function.calls) == 1
    clock.advance(2)
    f(1)
    assert len(function.calls) == 2


def test_every_spelling_of_a_call_is_one_entry(client: CacheClient, function: Doubler) -> None:
    f = cached(client, 60)(function)
    f(1)
    f(x=1)
    f(1, 0)
    f(1, y=0)
    f(y=0, x=1)
    f(1, z=0)
    f(z=0, y=0, x=1)
    assert function.calls == [(1, 0, 0)]
    f(1, 1)
    f(1, z=1)
    assert function.calls[1:] == [(1, 1, 0), (1, 0, 1)]
    assert f.callkey(1) == f.callkey(x=1) == f.callkey(1, z=0)


def test_arguments_that_are_equal_are_one_call(client: CacheClient, function: Doubler) -> None:
    f = cached(client, 60)(function)
    f(1)
    f(1.0)
    f(True)
    assert len(function.calls) == 1
    f("1")
    assert len(function.calls) == 2


def test_typed_tells_equal_arguments_apart(client: CacheClient, function: Doubler) -> None:
    f = cached(client, 60, typed=True)(function)
    assert type(f(1)[0]) is int
    assert type(f(1.0)[0]) is float
    assert type(f(True)[0]) is bool
    assert len(function.calls) == 3
    f(x=1)
    assert len(function.calls) == 3


def test_ignored_parameters_are_no_part_of_the_key(client: CacheClient, function: Doubler) -> None:
    f = cached(client, 60, ignore=("y",))(function)
    f(1, 1)
    f(1, 2)
    assert function.calls == [(1, 1, 0)]
    f(2, 2)
    assert len(function.calls) == 2


def test_a_key_function_decides(client: CacheClient) -> None:
    @cached(client, 60, key=lambda user: user["id"])
    def f(user: dict[str, Any]) -> str:
        return str(user["name"])

    assert f({"id": 1, "name": "Ann"}) == "Ann"
    assert f(user={"id": 1, "name": "Bob"}) == "Ann"
    assert f.callkey({"id": 7}) == 7


def test_none_is_a_value(client: CacheClient) -> None:
    calls: list[int] = []

    @cached(client, 60)
    def f(x: int) -> None:
        calls.append(x)

    assert f(1) is f(1) is None
    assert calls == [1]
    assert f.peek(1) is None


def test_functions_of_no_and_of_many_arguments(client: CacheClient) -> None:
    calls: list[Any] = []

    @cached(client, 60)
    def nothing() -> int:
        calls.append(())
        return len(calls)

    @cached(client, 60)
    def anything(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return args, kwargs

    assert nothing() == nothing() == 1
    assert anything(1, 2, b=1, a=2) == anything(1, 2, a=2, b=1) == ((1, 2), {"a": 2, "b": 1})
    assert anything((1, 2)) != anything(1, 2)
    assert len(calls) == 4


def test_functions_do_not_meet_on_one_client(client: CacheClient) -> None:
    @cached(client, 60)
    def one(x: int) -> str:
        return f"one {x}"

    @cached(client, 60)
    def other(x: int) -> str:
        return f"other {x}"

    assert (one(1), other(1)) == ("one 1", "other 1")
    one.clear()
    with pytest.raises(CacheMissError):
        one.peek(1)
    assert other.peek(1) == "other 1"


def test_functions_of_one_namespace_share_their_values(client: CacheClient) -> None:
    first = cached(client, 60, namespace="shared")(lambda x: f"first {x}")
    second = cached(client, 60, namespace="shared")(lambda x: f"second {x}")
    assert first(1) == "first 1"
    assert second(1) == "first 1"
    second.clear()
    assert second(1) == "second 1"
    assert first(1) == "second 1"


def test_a_builtin_can_be_cached(client: CacheClient) -> None:
    f = cached(client, 60)(max)  # tells no signature
    assert f(1, 2) == f(1, 2) == 2
    assert f.stats.computations == 1
    length = cached(client, 60)(len)
    assert length("abc") == 3


def test_without_a_near_tier_it_works_the_same(clock: ManualClock, function: Doubler) -> None:
    for far in (RemoteFake(inproc(clock)), TieredInclusiveClient(RemoteFake(inproc(clock)))):
        function.calls.clear()
        f = cached(far, 60, namespace="far")(function)
        assert f(1) == f(x=1) == (1, 0, 0, 0)
        assert len(function.calls) == 1
        assert f.stats.near_hits == 0
        assert f.stats.hits == 1
        with pytest.raises(TypeError, match="missing"):
            f()  # type: ignore[call-arg]


def test_a_cache_that_holds_nothing_computes_each_time(function: Doubler) -> None:
    f = cached(NullCacheClient(), 60)(function)
    f(1)
    f(1)
    assert len(function.calls) == 2


# -- Modes ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["peek", "lazy"])
def test_peek_and_lazy_never_compute(
    client: CacheClient, clock: ManualClock, function: Doubler, mode: str
) -> None:
    f = cached(client, 60)(function)
    look = getattr(f, mode)
    with pytest.raises(CacheMissError):
        look(1)
    assert function.calls == []
    f(1)
    assert look(x=1) == (1, 0, 0, 0)
    clock.advance(61)
    with pytest.raises(CacheMissError):
        look(1)
    assert len(function.calls) == 1


def test_refresh_computes_now(client: CacheClient, function: Doubler) -> None:
    f = cached(client, 60)(function)
    f(1)
    function.generation = 1
    assert f(1) == (1, 0, 0, 0)
    assert f.refresh(x=1) == (1, 0, 0, 1)
    assert f(1) == (1, 0, 0, 1)


def test_put_stores_for_any_spelling(client: CacheClient, function: Doubler) -> None:
    f = cached(client, 60)(function)
    assert f.put(1, _cache_put="given")  # type: ignore[arg-type]
    assert f(x=1) == "given"  # type: ignore[comparison-overlap]
    assert f.put(x=1, _cache_put=None)  # type: ignore[arg-type]
    assert f(1) is None
    assert function.calls == []


def test_invalidate_forgets(client: CacheClient, function: Doubler) -> None:
    f = cached(client, 60)(function)
    f(1)
    f(2)
    assert f.invalidate(x=1)
    assert not f.invalidate(1)
    f(1)
    f(2)
    assert function.calls == [(1, 0, 0), (2, 0, 0), (1, 0, 0)]


def test_expire_keeps_the_value_for_readers_of_stale_ones(
    client: CacheClient, function: Doubler
) -> None:
    f = cached(client, 60)(function)
    f(1)
    assert f.expire(1)
    value, ttl = f.get_ttl(1)
    assert value == (1, 0, 0, 0)
    assert ttl <= 0
    f(1)
    assert len(function.calls) == 2


def test_get_ttl_tells_how_long_is_left(
    client: CacheClient, clock: ManualClock, function: Doubler
) -> None:
    f = cached(client, 60)(function)
    with pytest.raises(CacheMissError):
        f.get_ttl(1)
    f(1)
    clock.advance(15)
    assert f.get_ttl(x=1) == ((1, 0, 0, 0), 45)
    assert function.calls == [(1, 0, 0)]


def test_clear_forgets_the_function_and_nothing_else(
    client: CacheClient, function: Doubler
) -> None:
    f = cached(client, 60)(function)
    client.put("mine", "stays", 60)
    f(1)
    f(2)
    f.clear()
    for x in (1, 2):
        with pytest.raises(CacheMissError):
            f.peek(x)
    assert client.get("mine") == "stays"


def test_keep_reaches_the_client(clock: ManualClock) -> None:
    kept: list[float] = []

    class Keeping(InprocCacheClient):
        def store(self, *args: Any, keep: float = 0.0, **options: Any) -> bool:
            kept.append(keep)
            return super().store(*args, keep=keep, **options)

    f = cached(Keeping(10, clock=clock), 60, keep=30)(lambda x: x)
    f(1)
    f.put(2, _cache_put=2)
    f.refresh(3)
    assert kept == [30, 30, 30]


# -- What it shows ----------------------------------------------------------------


def test_it_looks_like_the_function(client: CacheClient) -> None:
    @cached(client, 60)
    def documented(x: int, *, y: str = "y") -> str:
        """What it does."""
        return f"{x}{y}"

    assert documented.__name__ == "documented"
    assert documented.__doc__ == "What it does."
    assert documented.__module__ == __name__
    assert str(inspect.signature(documented)).startswith("(x: 'int'")
    assert documented.uncached(1) == "1y"
    assert documented.__wrapped__ is documented.uncached
    assert repr(documented) == (
        f"<cached {__name__}.{documented.__qualname__} ttl=60 in <InprocCacheClient 0/100>>"
    )


def test_it_shows_its_parts(client: CacheClient, function: Doubler) -> None:
    f = cached(client, 60, async_ttl=-10, namespace="parts")(function)
    f(1)
    assert f.client.get(f.callkey(1)) == (1, 0, 0, 0)
    assert isinstance(f.client, NamespaceWrapper)
    assert (f.ttl, f.async_ttl) == (60, 50)
    assert f.explain(1).state == "fresh"
    assert f.explain(2).state == "absent"


def test_it_counts(client: CacheClient, clock: ManualClock, function: Doubler) -> None:
    f = cached(client, 60)(function)
    f(1)
    f(1)
    f(1)
    with pytest.raises(CacheMissError):
        f.peek(2)
    function.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        f(3)
    stats = f.stats
    assert (stats.hits, stats.near_hits, stats.misses) == (2, 2, 3)
    assert (stats.computations, stats.failures, stats.errors) == (2, 1, 0)
    assert stats.hit_ratio == pytest.approx(0.4)
    assert cached(client, 60)(function).stats.hit_ratio == 0


@cached(InprocCacheClient(10), 60)
def by_name(x: int) -> int:
    """For pickling."""
    return x


def test_it_is_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(by_name)) is by_name
    assert copy.copy(by_name) is by_name


def test_wrong_calls_are_the_functions_own_type_errors(client: CacheClient) -> None:
    @cached(client, 60)
    def f(x: int, /, y: int, *, z: int = 0) -> int:
        return x + y + z

    wrong: Any = f
    calls: list[Callable[[], Any]] = [
        lambda: wrong(),
        lambda: wrong(1, 2, 3),
        lambda: wrong(1, 2, w=1),
        lambda: wrong(x=1, y=2),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"wrong_calls.*<locals>\.f\(\)"):
            call()
    for mode in (wrong.peek, wrong.refresh, wrong.invalidate, wrong.callkey):
        with pytest.raises(TypeError, match="missing"):
            mode()


# -- Methods ----------------------------------------------------------------------


class Account:
    """Cached methods of each kind."""

    cache = InprocCacheClient(100)

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0

    @cached(cache, 60)
    def own(self, x: int) -> str:
        """Cached for each instance."""
        self.calls += 1
        return f"{self.name} {x}"

    @cached(cache, 60, ignore=("self",))
    def common(self, x: int) -> str:
        """Cached for all instances together."""
        self.calls += 1
        return f"{self.name} {x}"

    @classmethod
    @cached(cache, 60)
    def of_class(cls, x: int) -> str:
        """Below ``classmethod``."""
        return f"{cls.__name__} {x}"

    @staticmethod
    @cached(cache, 60)
    def static(x: int) -> str:
        """Below ``staticmethod``."""
        return f"static {x}"


def test_methods_are_cached_by_instance() -> None:
    ann, bob = Account("Ann"), Account("Bob")
    assert ann.own(1) == ann.own(x=1) == "Ann 1"
    assert bob.own(1) == "Bob 1"
    assert (ann.calls, bob.calls) == (1, 1)


def test_methods_can_leave_self_out() -> None:
    ann, bob = Account("Ann"), Account("Bob")
    Account.common.clear()
    assert ann.common(1) == "Ann 1"
    assert bob.common(1) == "Ann 1"
    assert bob.calls == 0


def test_the_modes_of_a_method_are_bound_too() -> None:
    ann = Account("Ann")
    with pytest.raises(CacheMissError):
        ann.own.peek(2)
    ann.own(2)
    assert ann.own.peek(2) == ann.own.lazy(x=2) == "Ann 2"
    assert ann.own.refresh(2) == "Ann 2"
    assert ann.own.get_ttl(2)[0] == "Ann 2"
    assert ann.own.put(2, _cache_put="given")
    assert ann.own(2) == "given"
    assert ann.own.expire(2)
    assert ann.own.invalidate(2)
    assert ann.own.callkey(2) == (ann, 2)
    assert ann.own.uncached(3) == "Ann 3"
    assert ann.own.explain(9).state == "absent"
    assert ann.own.ttl == 60
    assert ann.own.__name__ == "own"
    assert ann.own.__self__ is ann
    assert ann.own.__func__ is Account.own
    assert "bound" in repr(ann.own)
    assert isinstance(Account.own, CachedFunction)
    with pytest.raises(AttributeError):
        ann.own.no_such_thing


def test_class_and_static_methods() -> None:
    # Type checkers see what classmethod and staticmethod are given, not what they make of it.
    account: Any = Account
    assert account.of_class(1) == account("Ann").of_class(1) == "Account 1"
    assert account.static(1) == account("Ann").static(1) == "static 1"


# -- The cache never breaks the call ----------------------------------------------


def test_arguments_that_cannot_be_hashed_call_through(
    client: CacheClient, function: Doubler, caplog: pytest.LogCaptureFixture
) -> None:
    f = cached(client, 60)(function)
    for _ in range(5):
        assert f([1])[0] == [1]
        assert f(x=[1], y=2)[0] == [1]
    assert len(function.calls) == 10
    assert f.stats.errors == 10
    assert len([r for r in of_this_thread(caplog) if "without the cache" in r.message]) == 1
    assert f.refresh([1])[0] == [1]
    assert not f.invalidate([1])
    assert not f.put([1], _cache_put=1)  # type: ignore[arg-type]
    with pytest.raises(CacheMissError):
        f.peek([1])


def test_a_failing_key_function_calls_through(client: CacheClient) -> None:
    @cached(client, 60, key=lambda x: 1 // x)
    def f(x: int) -> int:
        return x

    assert f(0) == 0
    assert f.stats.errors == 1


class Awkward:
    """A key that raises when it is hashed, or compared, as it is told."""

    def __init__(self, error: Exception, when: str) -> None:
        self.error = error
        self.when = when

    def __hash__(self) -> int:
        if self.when == "hash":
            raise self.error
        return 1

    def __eq__(self, other: object) -> bool:
        if self.when == "eq":
            raise self.error
        return self is other


@pytest.mark.parametrize("error", [TypeError("t"), KeyError("k"), ValueError("v")])
@pytest.mark.parametrize("when", ["hash", "eq"])
def test_keys_that_raise_call_through(client: CacheClient, error: Exception, when: str) -> None:
    f = cached(client, 60)(lambda x: "value")
    f(Awkward(error, "never"))
    for _ in range(3):
        assert f(Awkward(error, when)) == "value"


@pytest.mark.parametrize("error", [OSError("down"), ValueError("odd"), TypeError("bug")])
def test_a_failing_client_is_a_counted_miss(
    clock: ManualClock, function: Doubler, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    client = FailingClient(inproc(clock), error)
    f = cached(client, 60)(function)
    for _ in range(3):
        assert f(1) == (1, 0, 0, 0)
    assert f.refresh(1) == (1, 0, 0, 0)
    assert not f.put(1, _cache_put=2)  # type: ignore[arg-type]
    assert not f.invalidate(1)
    assert not f.expire(1)
    with pytest.raises(CacheMissError):
        f.peek(1)
    with pytest.raises(CacheMissError):
        f.get_ttl(1)
    f.clear()
    assert f.stats.errors >= 8
    assert len([r for r in of_this_thread(caplog) if "failed" in r.message]) == 1
    client.error = None
    f(1)
    computed = len(function.calls)
    f(1)
    assert len(function.calls) == computed


def test_a_failing_server_side_is_a_counted_miss(clock: ManualClock, function: Doubler) -> None:
    far = FailingClient(RemoteFake(inproc(clock)))
    f = cached(TieredInclusiveClient(inproc(clock), far), 60)(function)
    far.error = OSError("down")
    assert f(1) == f(1) == (1, 0, 0, 0)
    assert len(function.calls) == 1  # tier 0 goes on


def test_the_functions_own_errors_reach_the_caller_and_are_not_cached(
    client: CacheClient, function: Doubler
) -> None:
    f = cached(client, 60)(function)
    function.error = KeyError("mine")
    for _ in range(2):
        with pytest.raises(KeyError, match="mine"):
            f(1)
    function.error = None
    assert f(1) == (1, 0, 0, 0)
    assert len(function.calls) == 3


# -- One computation --------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_threads_share_one_computation(clock: ManualClock, shared: bool) -> None:
    client: CacheClient = inproc(clock)
    if shared:
        client = TieredInclusiveClient(client, RemoteFake(inproc(clock)))
    calls: list[int] = []

    @cached(client, 60)
    def f(x: int) -> int:
        calls.append(x)
        while waiting(f) < 15:
            pass  # until everybody else waits
        return x * 2

    assert together(lambda _: f(1), 16) == [2] * 16
    assert calls == [1]
    assert f.stats.shared == 15


def test_a_failure_is_everybodys_who_waited(client: CacheClient) -> None:
    calls: list[int] = []

    @cached(client, 60)
    def f(x: int) -> int:
        calls.append(x)
        while waiting(f) < 19:
            pass
        raise ValueError("for all")

    results = together(lambda _: f(1), 20)
    assert calls == [1]
    assert all(isinstance(result, ValueError) for result in results)


def test_a_function_may_ask_for_what_it_is_computing(client: CacheClient) -> None:
    depth: list[int] = []

    @cached(client, 60)
    def f(x: int) -> int:
        depth.append(x)
        return f(x) + 1 if len(depth) < 3 else 0

    assert f(1) == 2
    assert len(depth) == 3


def test_recursion_computes_each_value_once(client: CacheClient) -> None:
    @cached(client, 60)
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(30) == 832040
    assert fibonacci.stats.computations == 31


def test_an_interrupted_leader_hands_over(client: CacheClient) -> None:
    attempts: list[int] = []

    @cached(client, 60)
    def f(x: int) -> int:
        attempts.append(x)
        if len(attempts) == 1:
            while waiting(f) < 3:
                pass
            raise KeyboardInterrupt
        return x

    def work(_: int) -> Any:
        try:
            return f(1)
        except KeyboardInterrupt:
            return "interrupted"

    results = together(work, 4)
    assert sorted(map(str, results)) == ["1", "1", "1", "interrupted"]
    assert len(attempts) == 2


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("act", ["invalidate", "put", "expire", "clear", "refresh"])
def test_what_was_computed_before_a_change_is_not_stored_after_it(
    clock: ManualClock, act: str, shared: bool
) -> None:
    client: CacheClient = inproc(clock)
    if shared:
        client = TieredInclusiveClient(client, RemoteFake(inproc(clock)))
    changes: list[str] = [act]

    @cached(client, 60)
    def f(x: int) -> str:
        if changes:
            change = changes.pop()
            if change == "put":
                f.put(x, _cache_put="given")
            elif change == "clear":
                f.clear()
            elif change == "refresh":
                assert f.refresh(x) == "new"
            else:
                getattr(f, change)(x)
            return "old"
        return "new"

    assert f(1) == "old"  # asked before the change
    assert f(1) == ("given" if act == "put" else "new")


def test_a_change_in_another_process_voids_the_claim_too(clock: ManualClock) -> None:
    server = inproc(clock)
    client = TieredInclusiveClient(inproc(clock), RemoteFake(server))
    other = TieredInclusiveClient(inproc(clock), RemoteFake(server))
    theirs = cached(other, 60, namespace="f")(lambda x: "theirs")

    @cached(client, 60, namespace="f")
    def ours(x: int) -> str:
        theirs.invalidate(x)
        return "old"

    assert ours(1) == "old"
    assert theirs(1) == "theirs"


def test_processes_share_one_computation(clock: ManualClock) -> None:
    """A claim is held elsewhere; we look again until the value is there."""
    server = inproc(clock)
    elsewhere = NamespaceWrapper("f", RemoteFake(server))
    client = TieredInclusiveClient(inproc(clock), RemoteFake(server))
    held = elsewhere.claim(1, 10)
    assert held is not None
    claim: Claim = held
    pauses: list[float] = []

    class Clock(ManualClock):
        def sleep(self, seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 5:
                assert claim.fill("theirs", 60)

    client.clock = Clock()
    f = cached(client, 60, namespace="f")(lambda x: "ours")
    assert f(1) == "theirs"
    assert len(pauses) == 5
    assert all(0 < pause <= 0.015 for pause in pauses)
    assert f.stats.shared == 1
    assert f.stats.computations == 0


def test_a_holder_that_died_is_replaced_when_its_claim_ends(clock: ManualClock) -> None:
    server = inproc(clock)
    elsewhere = NamespaceWrapper("f", RemoteFake(server))
    assert elsewhere.claim(1, 10) is not None  # and dies
    client = TieredInclusiveClient(inproc(clock), RemoteFake(server))
    started = clock.monotonic()
    f = cached(client, 60, namespace="f")(lambda x: "ours")
    assert f(1) == "ours"
    assert 10 <= clock.monotonic() - started < 10.1


def test_a_failure_gives_the_claim_back(clock: ManualClock) -> None:
    client = RemoteFake(inproc(clock))

    @cached(client, 60)
    def f(x: int) -> int:
        raise ValueError("no")

    started = clock.monotonic()
    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            f(1)
    assert clock.monotonic() == started


# -- The front door ---------------------------------------------------------------


def frames_of(call: Any) -> list[str]:
    """The names of the Python functions that *call* runs."""
    names: list[str] = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            names.append(frame.f_code.co_name)

    gc.collect()
    gc.disable()  # what it frees may run functions too
    try:
        call()  # which looks whether the namespace has changed, if that took a second
        sys.setprofile(profile)
        try:
            call()
        finally:
            sys.setprofile(None)
    finally:
        gc.enable()
    return names


def test_a_hit_in_tier_0_runs_one_frame_or_none() -> None:
    frames = 0 if tiered.accelerated else 1
    # On the real clock: a manual one is a Python function, and would be counted.
    lru = InprocCacheClient(10)
    tiers = TieredInclusiveClient(InprocCacheClient(10), RemoteFake(InprocCacheClient(10)))
    fifo = InprocCacheClient(10, policy="fifo")
    for client in (lru, tiers):

        @cached(client, 60)
        def f(x: int, y: int = 0) -> int:
            return x

        f(1)
        for hit in (
            functools.partial(f, 1),
            functools.partial(f, x=1),
            functools.partial(f, 1, y=0),
        ):
            assert len(frames_of(hit)) == frames
        f_ = cached(client, 60, namespace="method")(Account.own.uncached)
        account = Account("Ann")
        f_(account, 1)
        assert len(frames_of(functools.partial(f_.__get__(account), 1))) == frames
    g = cached(fifo, 60)(lambda x: x)
    g(1)
    assert len(frames_of(lambda: g(1))) > 2  # a foreign mapping takes a lock and more


def test_a_near_hit_confirms_the_namespace_when_that_is_due(clock: ManualClock) -> None:
    server = inproc(clock)
    ours = cached(TieredInclusiveClient(inproc(clock), RemoteFake(server)), 600, namespace="f")(
        lambda x: object()
    )
    theirs = cached(TieredInclusiveClient(inproc(clock), RemoteFake(server)), 600, namespace="f")(
        lambda x: object()
    )
    first = ours(1)
    assert theirs(1) is first
    theirs.clear()
    assert theirs(1) is not first
    clock.advance(1.1)
    assert ours(1) is not first


# -- The table --------------------------------------------------------------------


def test_verdicts() -> None:
    assert judge(None, 0.0, 0.0) is Verdict.ABSENT
    assert judge(Entry(1, 10.0), 10.0, 0.0) is Verdict.STALE
    assert judge(Entry(1, 10.0), 9.0, 0.0) is Verdict.FRESH
    assert judge(Entry(1, 10.0), 9.0, 1.0) is Verdict.DUE


def test_every_row_answers_every_verdict() -> None:
    for row in (CALL, PEEK, LAZY, REFRESHING):
        assert set(row) == set(Verdict)
        assert row[Verdict.FRESH] is Action.VALUE
    assert Action.COMPUTE not in [*PEEK.values(), *LAZY.values()]
    assert not any(action.refreshes for action in [*CALL.values(), *PEEK.values()])


# -- Bad input --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"ttl": 0}, ValueError, "ttl must be a positive number of seconds, not 0"),
        ({"ttl": -5}, ValueError, "ttl must be"),
        ({"ttl": "60"}, TypeError, "ttl must be"),
        ({"ttl": None}, TypeError, "ttl must be"),
        ({"client": {}}, TypeError, "client must be a CacheClient"),
        ({"key": 3}, TypeError, "key must be callable, not 3"),
        ({"key": len, "typed": True}, ValueError, "typed"),
        ({"key": len, "ignore": ("x",)}, ValueError, "ignore"),
        ({"ignore": ("no_such",)}, ValueError, "ignore names 'no_such'"),
        ({"ignore": "self"}, TypeError, "ignore must be a tuple"),
        ({"ignore": (1,)}, TypeError, "ignore must be a tuple"),
        ({"namespace": ""}, TypeError, "namespace must be"),
        ({"namespace": 3}, TypeError, "namespace must be"),
        ({"async_ttl": 60}, ValueError, "async_ttl must be below ttl"),
        ({"async_ttl": -61}, ValueError, "async_ttl must be"),
        ({"async_ttl": "1"}, TypeError, "async_ttl must be"),
        ({"keep": -1}, ValueError, "keep must be"),
        ({"claim_ttl": -1}, ValueError, "claim_ttl must be"),
    ],
)
def test_options_that_cannot_be_right_are_refused(
    client: CacheClient, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    arguments: dict[str, Any] = {"client": client, "ttl": 60, **options}
    with pytest.raises(error, match=match):
        cached(**arguments)(lambda x: x)


def test_what_cannot_be_cached_is_refused(client: CacheClient) -> None:
    def generator() -> Any:
        yield 1

    async def async_generator() -> Any:
        yield 1

    for function, match in (
        (generator, "generator"),
        (async_generator, "generator"),
        (classmethod(lambda cls: 1), "below @classmethod"),
        (staticmethod(lambda: 1), "below @staticmethod"),
        (3, "decorates a function, not 3"),
    ):
        with pytest.raises(TypeError, match=match):
            cached(client, 60)(function)  # type: ignore[arg-type]


def test_ttls_without_an_end(client: CacheClient, clock: ManualClock, function: Doubler) -> None:
    f = cached(client, FOREVER)(function)
    f(1)
    clock.advance(1e12)
    f(1)
    assert len(function.calls) == 1
    assert cached(client, FOREVER, async_ttl=5)(function).async_ttl == 5


# -- Functions of one name ----------------------------------------------------------


def multiplier(client: CacheClient, factor: int, namespace: str | None = None) -> Any:
    @cached(client, 60, namespace=namespace)
    def multiply(x: int) -> int:
        return x * factor

    return multiply


def test_closures_of_one_name_do_not_share_values(client: CacheClient) -> None:
    double, triple = multiplier(client, 2), multiplier(client, 3)
    assert (double(5), triple(5)) == (10, 15)
    assert (double.peek(5), triple.peek(5)) == (10, 15)
    lambdas = [cached(client, 60)(lambda x, n=n: x * n) for n in range(3)]
    assert [one(5) for one in lambdas] == [0, 5, 10]


def test_redefined_functions_do_not_share_values(client: CacheClient) -> None:
    def f(x: int) -> str:
        return "first"

    first = cached(client, 60)(f)

    def f(x: int) -> str:  # type: ignore[no-redef]
        return "second"

    second = cached(client, 60)(f)
    assert (first(1), second(1)) == ("first", "second")


def test_one_function_decorated_twice_shares_its_values(client: CacheClient) -> None:
    calls: list[int] = []

    def f(x: int) -> int:
        calls.append(x)
        return x

    assert cached(client, 60)(f)(1) == cached(client, 60)(f)(1) == 1
    assert calls == [1]


def test_on_a_shared_client_a_taken_name_is_refused(clock: ManualClock) -> None:
    shared = RemoteFake(inproc(clock))
    multiplier(shared, 2)
    with pytest.raises(ValueError, match="give each a namespace"):
        multiplier(shared, 3)
    double, triple = multiplier(shared, 2, "double"), multiplier(shared, 3, "triple")
    assert (double(5), triple(5)) == (10, 15)
    # A module that is loaded again brings its functions again.
    again: Any = types.FunctionType(compile("def identity_of(): 1", "x", "exec").co_consts[0], {})
    again.__qualname__ = "identity_of"
    again.__module__ = __name__
    cached(shared, 60)(identity_of)
    cached(shared, 60)(again)


def identity_of() -> None:
    """A function of this module."""
