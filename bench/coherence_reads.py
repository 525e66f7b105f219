"""What a read costs on a node that may serve what it holds, and on one that has to ask."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from bench.coherence_latency import Addresses
from bench.sections import Measured, Sections
from bench.servers import with_server
from bench.timing import Contender, Result, time_calls
from tiered import InprocCacheClient, MemcachedClient, TieredInclusiveClient
from tiered.coherence import CoherenceManager, CoherentWrapperClient, ZmqBus

__all__ = ["ASKING", "FAR", "NEAR", "reads", "title"]

FAR = "get from memcached"
NEAR = "get, verified"
ASKING = "get, unverified: its version confirmed"
SIZES = {"100 B": 100, "1 MB": 1_000_000}
CALLS = {"100 B": 2_000, "1 MB": 200}
COUNT = 20
TTL = 3600
PATIENCE = 20.0


def title(size: str) -> str:
    """Of the section of values of *size*."""
    return f"read of {size}"


def reads() -> Sections:
    """A section for each size."""
    return {title(size): partial(_measure, size) for size in SIZES}


def _measure(size: str, rounds: int) -> Measured:
    found: list[Measured] = []

    def run(memcached: str) -> int:
        with ExitStack() as stack:
            contenders = _contenders(memcached, os.urandom(SIZES[size]), stack)
            asked = [f"user:{number % COUNT}" for number in range(CALLS[size])]
            taken = time_calls(contenders, asked, baseline=FAR, rounds=rounds)
        results = [Result(one.name, one.value / 1e3, one.ratio) for one in taken]
        found.append(Measured(FAR, "µs", results))
        return 0

    with_server(run)
    return found[0]


def _contenders(memcached: str, value: bytes, stack: ExitStack) -> list[Contender]:
    addresses = stack.enter_context(Addresses("tcp"))
    far = MemcachedClient([memcached], checksum_key="bench")
    keys = [f"user:{number}" for number in range(COUNT)]
    for key in keys:
        far.put(key, value, TTL)
    found = [Contender(FAR, far.get)]
    for name, candidate in {NEAR: True, ASKING: False}.items():
        # Who may not be the broker, and finds none, is never verified.
        bus = stack.enter_context(ZmqBus([addresses.new()], candidate=candidate))
        private = InprocCacheClient(1000)
        manager = CoherenceManager("bench", private, far, bus)
        client = CoherentWrapperClient(TieredInclusiveClient(private, far), manager)
        manager.start()
        for key in keys:
            assert client.get(key) == value
            _await(partial(_is_near, client, key, verified=candidate))
        found.append(Contender(name, client.get))
    return found


def _is_near(client: CoherentWrapperClient, key: str, *, verified: bool) -> bool:
    """Whether reads of *key* do what they are to be timed for: nothing, or one question."""
    before = client.coherence
    client.get(key)
    after = client.coherence
    asked = (after.confirmed - before.confirmed, after.refetched - before.refetched)
    return after.verified is verified and asked == (0 if verified else 1, 0)


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "no broker, or no copy"
        time.sleep(0.01)
