"""What is deleted while its value is computed is not kept, whoever deletes it and how."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import RemoteFake, inproc
from tiered import (
    AsyncWriteCacheClient,
    CachedFunction,
    NamespaceWrapper,
    TieredInclusiveClient,
    cached,
)
from tiered.clients.base import CacheClient
from tiered.testing import ManualClock

CLIENTS: dict[str, Callable[[ManualClock], CacheClient]] = {
    "inproc": inproc,
    "tiers": lambda clock: TieredInclusiveClient(inproc(clock), inproc(clock)),
    "background": lambda clock: AsyncWriteCacheClient(inproc(clock)),
    "remote": lambda clock: RemoteFake(inproc(clock)),
    "tiers, remote": lambda clock: TieredInclusiveClient(inproc(clock), RemoteFake(inproc(clock))),
}
CHANGES: dict[str, Callable[[Any], object]] = {
    "delete": lambda f: f.client.delete(f.callkey(1)),
    "delete_multi": lambda f: f.client.delete_multi([f.callkey(1)]),
    "expire": lambda f: f.client.expire(f.callkey(1)),
    "clear": lambda f: f.client.clear(),
    "invalidate": lambda f: f.invalidate(1),
    "expire the call": lambda f: f.expire(1),
    "clear the function": lambda f: f.clear(),
}
CALLS: dict[str, Callable[[Any], object]] = {
    "call": lambda f: f(1),
    "refresh": lambda f: f.refresh(1),
    "aio": lambda f: asyncio.run(_awaited(f.aio(1))),
    "aio refresh": lambda f: asyncio.run(_awaited(f.aio.refresh(1))),
}


async def _awaited(call: Any) -> object:
    return await call


class Source:
    """Counts, and lets something happen while it does."""

    def __init__(self) -> None:
        self.value = 0
        self.meanwhile: Callable[[], object] | None = None

    def __call__(self, x: int) -> int:
        value, meanwhile, self.meanwhile = self.value, self.meanwhile, None
        if meanwhile is not None:
            self.value += 1
            meanwhile()
        return value


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["", "in a namespace"])
def test_what_others_delete_meanwhile_is_not_kept(
    clock: ManualClock, client: str, change: str, call: str, wrapped: bool
) -> None:
    shared = CLIENTS[client](clock)
    if wrapped:
        shared = NamespaceWrapper("outer", shared)
    source = Source()

    def function() -> CachedFunction[[int], int]:
        return cached(shared, 600, namespace="f", claim_ttl=1e9)(lambda x: source(x))

    ours, theirs = function(), function()
    source.meanwhile = lambda: CHANGES[change](theirs)
    assert CALLS[call](ours) == 0
    assert ours(1) == theirs(1) == 1


def test_one_computation_of_many_is_kept_though_another_key_is_deleted(clock: ManualClock) -> None:
    client = inproc(clock)
    source = Source()
    f = cached(client, 600, namespace="f")(lambda x: source(x))
    source.meanwhile = lambda: f.client.delete(f.callkey(2))
    assert f(1) == 0
    assert f(1) == 0
    assert f.stats.hits == 1
