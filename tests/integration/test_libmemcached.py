"""The ring beside libmemcached: the library itself, and pylibmc with servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymemcache.client.base import Client

from tests.libmemcached import Libmemcached, library
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.memcached import MemcachedClient
from tiered.routing.addresses import parse_address
from tiered.routing.ring import HashRing

COUNT = 10_000
SERVERS = 5


# -- The library -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def libmemcached() -> Libmemcached:
    path = library()
    if path is None:
        pytest.skip("libmemcached is not installed; pylibmc (the test extra) brings it")
    return Libmemcached(path)


hosts = st.one_of(
    st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
)
servers = st.one_of(
    st.builds("{}:{}".format, hosts, st.one_of(st.just(11211), st.integers(1, 65535))),
    st.from_regex(r"/[a-z0-9/]{1,20}\.sock", fullmatch=True),
)
weights = st.one_of(st.integers(1, 3), st.integers(1, 1000), st.integers(1, 2**32 - 1))


@given(
    st.lists(st.tuples(servers, weights), min_size=1, max_size=30, unique_by=lambda one: one[0]),
    st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=100),
)
def test_the_ring_is_that_of_the_library(
    libmemcached: Libmemcached, fleet: list[tuple[str, int]], keys: list[bytes]
) -> None:
    names, shares = [name for name, _ in fleet], [weight for _, weight in fleet]
    named = [(parse_address(name).ring_name, index) for index, name in enumerate(names)]
    nodes = HashRing(named, shares)
    assert [nodes.node(key) for key in keys] == libmemcached.placed(names, shares, keys)


# -- pylibmc, and where the servers say that a key is ----------------------------------


@pytest.fixture(scope="module")
def fleet(memcached: PrivateMemcached) -> Iterator[list[str]]:
    """The addresses of several servers."""
    with ExitStack() as stack:
        yield [stack.enter_context(PrivateMemcached(memory=64)).address for _ in range(SERVERS)]


def held(address: str) -> set[str]:
    """Which of the keys a server has; it forgets them."""
    server = parse_address(address)
    with closing(Client((server.host, server.port))) as client:
        found = client.get_many([f"key:{number}" for number in range(COUNT)])
        client.flush_all(noreply=False)
    return set(found)


def agreement(addresses: list[str], weights: list[int], behaviors: dict[str, Any]) -> float:
    """The share of keys that are where our ring has them, after pylibmc wrote them."""
    pylibmc = pytest.importorskip("pylibmc")
    specs = [f"{address}:{weight}" for address, weight in zip(addresses, weights, strict=True)]
    client = pylibmc.Client(specs, behaviors=behaviors)
    assert client.set_multi({f"key:{number}": "value" for number in range(COUNT)}) == []
    client.disconnect_all()
    ring = HashRing([(address, address) for address in addresses], weights)
    placed = {key: address for address in addresses for key in held(address)}
    assert len(placed) == COUNT
    return sum(ring.node(key.encode()) == where for key, where in placed.items()) / COUNT


@pytest.mark.parametrize("weights", [[1, 1, 1, 1, 1], [1, 2, 3, 4, 5], [1000, 10, 300, 1, 65]])
@pytest.mark.parametrize(
    "behaviors",
    [
        {"ketama_weighted": True},
        {"ketama": True, "ketama_weighted": True},
        {"hash": "crc", "ketama_weighted": True},
    ],
)
def test_pylibmc_writes_each_key_to_the_server_that_the_ring_has_it_on(
    fleet: list[str], weights: list[int], behaviors: dict[str, Any]
) -> None:
    assert agreement(fleet, weights, behaviors) == 1


@pytest.mark.parametrize(
    "behaviors",
    [
        {},
        {"ketama": True},
        {"hash": "md5", "ketama": True},
        {"distribution": "consistent ketama"},
        {"distribution": "consistent ketama", "ketama_weighted": True},
    ],
)
def test_other_behaviors_of_pylibmc_give_other_rings(
    fleet: list[str], behaviors: dict[str, Any]
) -> None:
    assert agreement(fleet, [1] * SERVERS, behaviors) < 0.5


def test_what_our_client_wrote_pylibmc_reads(fleet: list[str]) -> None:
    pylibmc = pytest.importorskip("pylibmc")
    theirs = pylibmc.Client(fleet, behaviors={"ketama_weighted": True})
    with MemcachedClient(fleet, serializer="raw") as ours:
        assert all(ours.put(f"key:{number}", b"value", 100) for number in range(200))
        wires = [str(dict(ours.explain(f"key:{n}").detail)["wire_key"]) for n in range(200)]
    assert len(theirs.get_multi(wires)) == 200
    theirs.disconnect_all()
