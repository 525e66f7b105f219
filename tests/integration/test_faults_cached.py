"""Every call of a cached function over a server that is spoilt in every way: none may fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.integration.downgraded import downgraded
from tests.integration.faults import FAULTS, STALLS, at, impatient
from tests.integration.proxy import Fault, Proxy, honest
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.base import CacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.decorators import cached
from tiered.decorators.plan import NO_NAMESPACE
from tiered.errors import CacheMissError
from tiered.testing import ManualClock

PAUSE_IS_OVER = 20.0
TTL = 100_000.0


class Call(NamedTuple):
    """A way of calling a cached function.

    Attributes:
        run: calls it for 1 and returns the answer, ``None`` for none.
        changes: whether the source has a new version first, which it is told of.
    """

    run: Callable[[Any], Any]
    changes: bool = False


def missing(call: Callable[[], Any]) -> Any:
    with contextlib.suppress(CacheMissError):
        return call()
    return None


def silent(done: object) -> None:
    """Whether it was done is not what is asked for."""


def peeked_ttl(f: Any) -> Any:
    value, ttl = f.get_ttl(1)
    assert ttl <= TTL
    return value


def many(f: Any) -> Any:
    values = f.multi([1, 2])
    assert values[2] == (2, values[2][1])
    return values[1]


CALLS = {
    "call": Call(lambda f: f(1)),
    "peek": Call(lambda f: missing(lambda: f.peek(1))),
    "lazy": Call(lambda f: missing(lambda: f.lazy(1))),
    "get_ttl": Call(lambda f: missing(lambda: peeked_ttl(f))),
    "multi": Call(many),
    "bg": Call(lambda f: f.bg()(1)),
    "future": Call(lambda f: f.future()(1).result(20)),
    "aio": Call(lambda f: asyncio.run(f.aio(1))),
    "refresh": Call(lambda f: f.refresh(1), changes=True),
    "put": Call(lambda f: silent(f.put(1, _cache_put=f.uncached(1)))),
    "invalidate": Call(lambda f: silent(f.invalidate(1)), changes=True),
    "expire": Call(lambda f: silent(f.expire(1)), changes=True),
}


class Source:
    """What is cached: the versions of numbers, and the functions that read them."""

    def __init__(self) -> None:
        self.version = 1

    def __call__(self, x: int) -> tuple[int, int]:
        return x, self.version


@pytest.fixture(params=["modern", "text"])
def proxy(request: pytest.FixtureRequest, memcached: PrivateMemcached) -> Iterator[Proxy]:
    with downgraded(memcached.address, request.param) as proxy:
        yield proxy


def remote(proxy: Proxy, clock: ManualClock, **options: Any) -> MemcachedClient:
    return MemcachedClient(
        [proxy.address], checksum_key=SECRET, prefix=unique_prefix(), clock=clock, **options
    )


def tiers(client: MemcachedClient, clock: ManualClock) -> CacheClient:
    return TieredInclusiveClient(InprocCacheClient(100, clock=clock), client)


def torture(
    proxy: Proxy,
    client: CacheClient,
    clock: ManualClock,
    call: Call,
    fault: Fault,
    meanwhile: AbstractContextManager[None] | None = None,
) -> Any:
    """*call* with *fault*, and what the function answers afterwards."""
    source = Source()
    f = cached(client, TTL, namespace=NO_NAMESPACE, claim_ttl=20)(source)
    client.delete(1)
    assert f(1) == (1, 1)
    source.version += call.changes
    allowed = {(1, source.version)}
    proxy.fault = fault
    try:
        with meanwhile or contextlib.nullcontext():
            answer = call.run(f)
    finally:
        proxy.fault = honest
    assert answer in allowed | {None}, "while it lasted"
    clock.advance(PAUSE_IS_OVER)
    if call is CALLS["refresh"]:
        allowed.add((1, 1))  # what was there stays, if what is new could not be stored
    if call is not CALLS["expire"]:
        assert f(1) in allowed, "afterwards"
        assert f.peek(1) in allowed
    f.refresh(1)
    assert f(1) == f.peek(1) == (1, source.version)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", FAULTS)
def test_no_call_fails_and_none_is_answered_wrongly(
    proxy: Proxy, clock: ManualClock, kind: str, name: str
) -> None:
    with remote(proxy, clock) as client:
        torture(proxy, client, clock, CALLS[name], FAULTS[kind](proxy))
        torture(proxy, client, clock, CALLS[name], at(0, FAULTS[kind](proxy)))
        torture(proxy, client, clock, CALLS[name], at(1, FAULTS[kind](proxy)))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["cut at once", "garbage", "out of memory", "answered twice"])
def test_tiers_are_no_worse_than_their_server(
    proxy: Proxy, clock: ManualClock, kind: str, name: str
) -> None:
    with remote(proxy, clock) as client, tiers(client, clock) as both:
        torture(proxy, both, clock, CALLS[name], FAULTS[kind](proxy))


@pytest.mark.parametrize("name", ["call", "peek", "multi", "aio", "refresh", "invalidate"])
@pytest.mark.parametrize("kind", STALLS)
def test_a_slow_server_fails_no_call(
    proxy: Proxy, clock: ManualClock, kind: str, name: str
) -> None:
    with remote(proxy, clock, timeout=20.0) as client:
        fault = STALLS[kind](proxy)
        torture(proxy, client, clock, CALLS[name], fault, impatient(client, 0.25))


@pytest.mark.parametrize("name", CALLS)
def test_a_server_that_refuses_connections_fails_no_call(
    proxy: Proxy, clock: ManualClock, name: str
) -> None:
    call, source = CALLS[name], Source()
    with remote(proxy, clock) as client:
        f = cached(client, TTL, namespace="refused")(source)
        proxy.refuse()
        assert call.run(f) in ((1, 1), None)
        assert f(1) == (1, 1)
        assert client.stats.errors > 0
        proxy.listen()
        clock.advance(PAUSE_IS_OVER)
        assert f(1) == f.peek(1) == (1, 1)
