"""Tags on real servers and files: serialisers, servers that die, other processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.integration.downgraded import KINDS, downgraded
from tests.integration.test_fork import in_child
from tests.integration.test_memcached import Raw
from tests.ports import free_port
from tiered import FilesCacheClient, InprocCacheClient, TieredInclusiveClient, cached
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.base import CacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.tags import tag_name
from tiered.clients.tagtable import TagTable
from tiered.errors import MissingDependency
from tiered.testing import ManualClock

RECHECKED = 1.1
PAUSE_IS_OVER = 20.0


class Source:
    """Gives another value each time."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self, key: str) -> list[Any]:
        self.reads += 1
        return [key, self.reads, {"nested": [None, 1.5]}]


def tags(key: str) -> list[Any]:
    return ["all", ("key", key), 7]


def functions(clients: list[CacheClient], source: Source) -> list[Any]:
    return [cached(client, 600, namespace="f", tags=tags)(source) for client in clients]


Maker = Callable[[], CacheClient]


@pytest.fixture(params=["pickle", "json", "msgpack", "msgspec", "files", *KINDS])
def make(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> Iterator[Maker]:
    kind, prefix = request.param, unique_prefix()
    if kind == "files":
        yield lambda: FilesCacheClient(10_000_000, tmp_path / "cache", clock=clock)
        return
    memcached: PrivateMemcached = request.getfixturevalue("memcached")
    serializer = "pickle" if kind in KINDS else kind

    def client(address: str) -> CacheClient:
        return MemcachedClient(
            [address], checksum_key=SECRET, serializer=serializer, prefix=prefix, clock=clock
        )

    try:
        client(memcached.address)
    except MissingDependency:
        pytest.skip(f"{kind} is not installed")
    if kind in KINDS:
        with downgraded(memcached.address, kind) as proxy:
            yield lambda: client(proxy.address)
    else:
        yield lambda: client(memcached.address)


@pytest.mark.parametrize("tiers", [False, True])
def test_what_one_process_invalidates_the_others_compute_anew(
    make: Maker, clock: ManualClock, tiers: bool
) -> None:
    clients = [make(), make()]
    if tiers:
        clients = [TieredInclusiveClient(InprocCacheClient(9, clock=clock), one) for one in clients]
    source = Source()
    one, other = functions(clients, source)
    first = one("k")
    assert one("k") == other("k") == first
    assert one("l") == other("l")
    for tag in ("all", ("key", "k"), 7.0):
        before, reads = one("k"), source.reads
        clients[1].invalidate_tag(tag)
        newer = other("k")
        assert newer != before
        clock.advance(RECHECKED)
        assert one("k") == newer
        assert source.reads == reads + 1
    assert one.stats.errors == other.stats.errors == 0
    for client in clients:
        client.close()


def test_a_restarted_server_brings_nothing_back(clock: ManualClock) -> None:
    server = PrivateMemcached.installed() and PrivateMemcached().start(free_port())
    if not server:
        pytest.skip("memcached is not installed")
    try:
        clients: list[CacheClient] = [
            TieredInclusiveClient(
                InprocCacheClient(9, clock=clock),
                MemcachedClient([server.address], checksum_key=SECRET, clock=clock),
            )
            for _ in range(2)
        ]
        source = Source()
        one, other = functions(clients, source)
        old = one("k")
        assert other("k") == old
        clients[0].invalidate_tag("all")
        server.stop()
        assert one("k") != old  # here it is known
        server.start(int(server.address.rpartition(":")[2]))
        clock.advance(PAUSE_IS_OVER)
        newer = one("k")
        assert newer != old
        assert other("k") == newer
    finally:
        server.stop()


@pytest.mark.parametrize("lost", [0, 1])
def test_while_one_of_two_servers_is_down_and_when_it_is_back(
    memcached: PrivateMemcached, clock: ManualClock, lost: int
) -> None:
    servers = [PrivateMemcached().start(free_port()) for _ in range(2)]
    addresses = [server.address for server in servers]
    try:
        clients: list[CacheClient] = [
            TieredInclusiveClient(
                InprocCacheClient(99, clock=clock),
                MemcachedClient(addresses, checksum_key=SECRET, clock=clock),
            )
            for _ in range(2)
        ]
        source = Source()
        one, other = functions(clients, source)
        keys = [str(number) for number in range(10)]
        old = {key: one(key) for key in keys}
        assert {key: other(key) for key in keys} == old

        port = int(addresses[lost].rpartition(":")[2])
        servers[lost].stop()
        clients[0].invalidate_tag("all")
        clock.advance(RECHECKED)
        newer = {key: other(key) for key in keys}
        assert all(newer[key] != old[key] for key in keys)
        servers[lost].start(port)
        for _ in range(3):
            clock.advance(PAUSE_IS_OVER)
            for f in (one, other):
                assert all(f(key) != old[key] for key in keys)
    finally:
        for server in servers:
            server.stop()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_child_and_its_parent(memcached: PrivateMemcached) -> None:
    client = TieredInclusiveClient(
        InprocCacheClient(9),
        MemcachedClient([memcached.address], checksum_key=SECRET, prefix=unique_prefix()),
    )
    source = Source()
    [f] = functions([client], source)
    old = f("k")

    def child() -> None:
        assert f("k") == old
        client.invalidate_tag("all")
        assert f("k") != old

    in_child(child)
    table = TagTable.of(client)
    held = table.stamp_at_once([tag_name("all")])
    table.confirm([tag_name("all")])
    assert held is None or not table.matches(held)
    assert f("k") != old


def test_a_version_on_the_server_is_readable(memcached: PrivateMemcached) -> None:
    prefix = unique_prefix()
    client = MemcachedClient([memcached.address], serializer="json", compress=False, prefix=prefix)
    client.invalidate_tag(("user", 1))
    table = TagTable.of(client)
    name = tag_name(("user", 1))
    raw = Raw(memcached.address)
    data = raw.get(str(dict(client.explain(table.tag(name).key).detail)["wire_key"]))
    raw.close()
    assert data is not None
    assert data.endswith(f'"{table.tag(name).version}"'.encode())
