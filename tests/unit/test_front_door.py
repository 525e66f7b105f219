"""The front door, compiled or not: every spelling of a call, and answers that are awaited."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import sys
import weakref
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiered
from tests.fakes import RemoteFake
from tiered import (
    NO_NAMESPACE,
    CachedFunction,
    InprocCacheClient,
    NamespaceWrapper,
    TieredInclusiveClient,
    cached,
)
from tiered.clients.base import CacheClient
from tiered.entry import Entry
from tiered.testing import ManualClock

KINDS = ["positional only", "plain", "default", "keyword only", "keyword default"]


@st.composite
def signatures(draw: st.DrawFn) -> str:
    """The source of a parameter list."""
    kinds = sorted(draw(st.lists(st.sampled_from(KINDS), max_size=6)), key=KINDS.index)
    pieces, previous = [], ""
    for number, kind in enumerate(kinds):
        if previous == "positional only" != kind:
            pieces.append("/")
        if kind.startswith("keyword") and not previous.startswith("keyword"):
            pieces.append("*")
        pieces.append(f"p{number}" + (f"={number}" if "default" in kind else ""))
        previous = kind
    if previous == "positional only":
        pieces.append("/")
    return ", ".join(pieces)


def outcome(call: Any, args: list[int], kwargs: dict[str, int]) -> Any:
    try:
        return call(*args, **kwargs)
    except TypeError as error:
        return str(error)


@given(
    signature=signatures(),
    args=st.lists(st.integers(0, 2), max_size=7),
    names=st.lists(st.sampled_from([f"p{number}" for number in range(7)]), max_size=4),
    typed=st.booleans(),
)
def test_a_call_is_bound_as_the_function_binds_it(
    signature: str, args: list[int], names: list[str], typed: bool
) -> None:
    scope: dict[str, Any] = {}
    exec(f"def g({signature}): return sorted(locals().items())", scope)
    plain = scope["g"]
    f = cached(InprocCacheClient(100), 60, typed=typed)(plain)
    # Names that are equal to those of the parameters without being the same objects.
    kwargs = {"".join(name): number for number, name in enumerate(map(list, names))}
    expected = outcome(plain, args, kwargs)
    assert outcome(f, args, kwargs) == expected
    assert outcome(f, args, kwargs) == expected
    wrong = isinstance(expected, str)
    assert f.stats.near_hits == (0 if wrong else 1)
    if not wrong:
        bound = inspect.signature(plain).bind(*args, **kwargs)
        bound.apply_defaults()
        assert f(*bound.args, **bound.kwargs) == expected
        assert f.stats.computations == 1


def test_many_parameters_and_many_arguments() -> None:
    names = [f"p{number}" for number in range(40)]
    scope: dict[str, Any] = {}
    exec(f"def g({', '.join(names)}): return ({', '.join(names)})", scope)
    f = cached(InprocCacheClient(10), 60)(scope["g"])
    values = tuple(range(40))
    assert f(*values) == f(*values) == f(**dict(zip(names, values, strict=True))) == values
    assert f.stats.near_hits == 2

    class Holder:
        method = cached(InprocCacheClient(10), 60)(lambda self, *args, **kwargs: (args, kwargs))

    holder = Holder()
    bound = holder.method
    keywords = dict(zip(names, values, strict=True))
    assert bound(*values, **keywords) == holder.method(*values, **keywords) == (values, keywords)
    assert Holder.method.stats.near_hits == 1


def test_the_prefix_of_a_namespace_changes_under_the_door(clock: ManualClock) -> None:
    f = cached(InprocCacheClient(10, clock=clock), 60)(lambda x: object())
    first = f(1)
    assert f(1) is first
    f.clear()
    assert f(1) is not first
    # In the same place, by the client and its key.
    assert f.client.get(f.callkey(1)) is f(1)


def test_a_pair_as_the_only_argument_is_not_a_namespace() -> None:
    client = InprocCacheClient(10)
    f = cached(client, 60, namespace=NO_NAMESPACE)(lambda x: object())
    g = cached(client, 60, namespace="ns")(lambda x: object())
    pair = (g.client.state.prefix, 1)  # type: ignore[attr-defined]
    assert f(pair) is g(1)  # the very same key: it was asked for
    assert f(("ns", 1)) is not g(1)


def test_the_door_follows_the_clock_to_the_moment(clock: ManualClock) -> None:
    f = cached(InprocCacheClient(10, clock=clock), 10)(lambda x: object())
    first = f(1)
    clock.advance(9.999)
    assert f(1) is first
    clock.advance(0.001)
    assert f(1) is not first


def test_what_ends_soon_is_judged_by_the_exact_clock() -> None:
    # Long below the second for which the coarse clock is not believed.
    client = InprocCacheClient(10)
    f = cached(client, 0.02)(lambda x: object())
    now = client.clock.monotonic
    began = now()
    first, made = f(1), now()
    # It was made between the two, whenever that was, and is there for 0.02 s and no longer.
    while True:
        before = now()
        if f(1) is not first:
            break
        assert before < made + 0.02
    assert now() >= began + 0.02


def test_a_key_whose_comparison_fails_is_computed() -> None:
    class Moody:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise ValueError("not today")

    f = cached(InprocCacheClient(10), 60)(lambda x: "value")
    assert f(Moody()) == "value"
    assert f(Moody()) == "value"
    assert f(1) == "value"
    assert f.stats.computations == 3

    class Fatal(Moody):
        __hash__ = Moody.__hash__

        def __eq__(self, other: object) -> bool:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        f(Fatal())


def test_functions_and_values_in_a_cycle_are_collected() -> None:
    class Value:
        function: Any

    client = InprocCacheClient(10)
    f = cached(client, 60)(lambda x: Value())
    value = f(1)
    value.function, value.client = f, client  # type: ignore[attr-defined]
    gone = weakref.ref(value)
    del value, f, client
    gc.collect()
    assert gone() is None


# -- What is ready to be awaited ----------------------------------------------------------


async def identity(x: Any) -> Any:
    return x


def test_a_hit_is_awaited_like_a_coroutine() -> None:
    f = cached(InprocCacheClient(10), 60)(identity)
    # Values that a StopIteration would take apart.
    values = [None, (1, 2), (), StopIteration(3), ValueError("v"), [f]]

    async def main() -> None:
        for place, value in enumerate(values):
            g = cached(InprocCacheClient(10), 60, key=lambda x: 1)(identity)
            assert await g(value) is value, place
            assert await g(value) is value
            assert await asyncio.create_task(g(value)) is value
            assert await asyncio.wait_for(g(value), 20) is value
            assert (await asyncio.gather(g(value), g(value)))[1] is value
        await f(1)
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, lambda: asyncio.run(f(1))) == 1
        pending = f(1)
        assert asyncio.iscoroutine(pending)
        assert await pending == 1
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await pending
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            f()  # type: ignore[call-arg, unused-coroutine]

    asyncio.run(main())


def test_a_hit_has_the_methods_of_a_coroutine() -> None:
    f = cached(InprocCacheClient(10), 60)(identity)
    assert asyncio.run(f("value")) == "value"
    hit: Any = f("value")
    with pytest.raises(TypeError, match="just-started coroutine"):
        hit.send(1)
    with pytest.raises(StopIteration) as ended:
        hit.send(None)
    assert ended.value.value == "value"
    with pytest.raises(RuntimeError, match="already awaited"):
        hit.send(None)
    hit = f("value")
    hit.close()
    with pytest.raises(RuntimeError, match="already awaited"):
        hit.send(None)
    spelt: list[tuple[Any, ...]] = [(KeyError("k"),), (KeyError,)]
    if sys.version_info < (3, 12):  # which deprecates the others
        spelt += [(KeyError, "k"), (KeyError, KeyError("k"), None)]
    for thrown in spelt:
        hit = f("value")
        with pytest.raises(KeyError):
            hit.throw(*thrown)
        with pytest.raises(RuntimeError, match="already awaited"):
            hit.send(None)


def test_a_hit_that_holds_itself_is_collected() -> None:
    class Value:
        hit: Any

    f = cached(InprocCacheClient(10), 60)(identity)
    value = Value()
    assert asyncio.run(f(value)) is value
    value.hit = f(value)
    gone = weakref.ref(value)
    value.hit.close()  # a coroutine that is dropped before it was awaited warns
    f.clear()
    del value, f
    gc.collect()
    assert gone() is None


# -- get and put of near clients --------------------------------------------------------------


def test_put_in_memory_refuses_what_the_general_one_refuses() -> None:
    client = InprocCacheClient(10)
    wrong_ttls: list[Any] = ["60", None, True, float("nan"), 1j]
    for ttl in wrong_ttls:
        with pytest.raises((TypeError, ValueError), match="ttl must be a number of seconds"):
            client.put("k", 1, ttl)
    wrong_keeps: list[Any] = ["1", -1.0, float("nan"), None]
    for keep in wrong_keeps:
        with pytest.raises((TypeError, ValueError), match="keep must be seconds"):
            client.put("k", 1, 60, keep=keep)
    with pytest.raises(OverflowError):
        client.put("k", 1, 10**400)
    with pytest.raises(TypeError, match="unhashable"):
        client.put([], 1, 60)  # type: ignore[arg-type]
    assert client.get("k", None) is None
    assert client.put("k", 1, 60, keep=5, max_tiers=1)
    assert client.put("k", 2, 60, keep=5.0)
    assert client.stats.puts == 2


def test_a_subclass_is_asked_for_what_it_does_its_own_way() -> None:
    class Shouting(InprocCacheClient):
        def entry(self, key: Any) -> Any:
            found = super().entry(key)
            return found and Entry(str(found.value).upper(), found.deadline)

        def store(self, key: Any, value: Any, deadline: float, **options: Any) -> bool:
            return super().store(key, f"{value}!", deadline, **options)

    client = Shouting(10)
    client.put("k", "v", 60)
    assert client.get("k") == "V!"
    tiers = TieredInclusiveClient(Shouting(10), Shouting(10))
    tiers.put("k", "v", 60)
    assert tiers.get("k") == "V!"

    class Reading(TieredInclusiveClient):
        def find(self, key: Any, search: Any) -> Any:
            return None

        def entry(self, key: Any) -> Any:
            return None

    nothing = Reading(InprocCacheClient(10))
    nothing.put("k", "v", 60)
    assert nothing.get("k", None) is None


def test_hits_and_puts_are_counted_wherever_they_happen() -> None:
    client = InprocCacheClient(2)
    client.put("a", 1, 60)
    client.put("b", 1, 0)
    client.put("c", 1, 60, keep=1)
    assert client.get("c") == client.get("c", max_tiers=1) == 1
    assert client.get("a", None) is None  # evicted
    assert client.get("b", None) is None  # stale
    stats = client.stats
    assert (stats.puts, stats.hits, stats.misses) == (3, 2, 2)
    tiers = TieredInclusiveClient(InprocCacheClient(2), InprocCacheClient(2))
    tiers.put("a", 1, 60)
    assert [tiers.get("a"), tiers.get("a", ttl_skip=1)] == [1, 1]
    assert tiers.stats.hits == tiers.stats.tiers[0].hits == 2


# -- What others see, whatever is compiled ------------------------------------------------------


def test_a_call_that_is_awaited_late_is_judged_late(clock: ManualClock) -> None:
    f = cached(InprocCacheClient(10, clock=clock), 10)(fresh)

    async def main() -> None:
        first = await f(1)
        late = f(1)
        clock.advance(11)
        assert await late is not first
        second = await f(1)
        late = f(1)
        await f.invalidate(1)
        assert await late is not second
        hits = f.stats.hits
        f(1).close()
        assert f.stats.hits == hits

    asyncio.run(main())


async def fresh(x: Any) -> Any:
    return object()


def test_a_call_that_nobody_awaits_warns_with_its_name() -> None:
    f = cached(InprocCacheClient(10), 60)(identity)
    asyncio.run(f(1))
    for x in (1, 2):  # a hit and a miss
        with pytest.warns(RuntimeWarning, match="coroutine 'identity' was never awaited"):
            f(x)  # type: ignore[unused-coroutine]
    call: Any = f(3)
    assert (call.__name__, call.__qualname__) == ("identity", "identity")
    assert "identity" in repr(call)
    with pytest.raises(TypeError):
        list(call)
    call.close()


def test_a_plain_wrapper_of_a_coroutine_function_is_plain() -> None:
    f = cached(InprocCacheClient(10), 60)(identity)

    @functools.wraps(f)
    def wrapper(x: Any) -> Any:
        return asyncio.run(f(x))

    assert "__call__" not in vars(wrapper)
    assert inspect.iscoroutinefunction(f.__call__)
    assert inspect.iscoroutinefunction(f.aio.__call__)


def test_what_is_decorated_is_a_function() -> None:
    seen: list[Any] = []

    def decorate(function: Any) -> Any:
        seen.append(function)
        return functools.lru_cache(functools.partial(function))

    def plain(x: int, y: int = 2) -> int:
        """Documented."""
        return x + y

    f = cached(InprocCacheClient(10), 60, decorate=decorate)(plain)
    g = cached(InprocCacheClient(10), 60, decorate=decorate)(identity)
    assert f(1) == f(1, y=2) == 3
    assert asyncio.run(g(1)) == 1
    for function, original in ((seen[0], plain), (seen[-8], identity)):
        assert inspect.isfunction(function)
        assert inspect.signature(function) == inspect.signature(original)
        assert function.__doc__ == original.__doc__
        assert inspect.iscoroutinefunction(function) is (original is identity)


class Repository:
    def __init__(self) -> None:
        self.loads = 0

    @cached(InprocCacheClient(10), 60, ignore=("self",))
    def load(self, key: int, /, *, deep: bool = False) -> int:
        """Loads."""
        self.loads += 1
        return key


def test_a_method_is_seen_as_a_method() -> None:
    repository = Repository()
    method = repository.load
    assert str(inspect.signature(method)) == "(key: 'int', /, *, deep: 'bool' = False) -> 'int'"
    assert method == repository.load
    assert hash(method) == hash(repository.load)
    assert method != Repository().load
    assert method != 1
    assert copy.copy(method)(1) == 1
    with pytest.raises(TypeError):
        method(1, 2)  # type: ignore[call-arg, arg-type]


def test_a_mock_of_a_cached_function_knows_its_calls() -> None:
    f = cached(InprocCacheClient(10), 60)(lambda x, y=2: x)
    fake = mock.create_autospec(f)
    fake(1, y=3)
    with pytest.raises(TypeError):
        fake(1, 2, 3)
    fake.assert_called_once_with(1, y=3)


@pytest.mark.skipif(not tiered.accelerated, reason="about the compiled core")
def test_a_call_of_a_method_makes_no_bound_method() -> None:
    Repository().load(1)
    method_descriptor, vectorcall = 1 << 17, 1 << 11
    assert type(Repository.load).__flags__ & method_descriptor
    assert type(Repository.load).__flags__ & vectorcall
    assert type(Repository().load).__flags__ & vectorcall


def test_a_class_of_cached_functions_may_call_its_own_way() -> None:
    class Loud(CachedFunction[Any, Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return f"{self.entered(*args, **kwargs)}!"

    f = cached(InprocCacheClient(10), 60)(lambda x: x)
    loud = Loud(f._core.plan)
    assert [loud(1), loud(x=1), functools.partial(loud, 1)()] == ["1!"] * 3
    f.entered = f
    with pytest.raises(RecursionError):
        f(1)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_hit_through_namespaces_is_a_near_hit(clock: ManualClock, depth: int) -> None:
    client: CacheClient = InprocCacheClient(10, clock=clock)
    wrappers: list[NamespaceWrapper] = []
    for number in range(depth):
        client = NamespaceWrapper(f"outer{number}", client)
        wrappers.append(client)
    f = cached(client, 60)(lambda x: object())
    g = cached(client, 60, namespace=NO_NAMESPACE)(lambda x: object())
    for function in (f, g):
        first = function(1)
        assert function(1) is function(x=1) is first
        assert function.stats.near_hits == 2
        assert function.client.get(function.callkey(1)) is first
    for wrapper in wrappers:
        first = f(1)
        wrapper.clear()
        assert f(1) is not first
    first = f(1)
    f.clear()
    assert f(1) is not first


def test_a_shared_namespace_around_tiers_is_confirmed_when_that_is_due(clock: ManualClock) -> None:
    server = InprocCacheClient(100, clock=clock)

    def process() -> Any:
        tiers = TieredInclusiveClient(InprocCacheClient(10, clock=clock), RemoteFake(server))
        wrapper = NamespaceWrapper("outer", tiers)
        return wrapper, cached(wrapper, 600, namespace="f")(lambda x: object())

    (_, ours), (their_wrapper, theirs) = process(), process()
    first = ours(1)
    assert theirs(1) is ours(1) is first
    assert ours.stats.near_hits == 1
    their_wrapper.clear()
    assert theirs(1) is not first
    clock.advance(1.1)
    assert ours(1) is theirs(1) is not first
