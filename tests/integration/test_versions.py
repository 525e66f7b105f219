"""Versions on real servers: what one is true of, and what it must not be mistaken for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.integration.downgraded import KINDS, downgraded
from tests.integration.proxy import Proxy
from tests.integration.test_leases import two
from tests.integration.test_memcached import Raw, wire
from tests.ports import free_port
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.base import CacheClient
from tiered.clients.decorating import DecoratedWrapper
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.memcached.versions import Version
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.tiered import TieredInclusiveClient
from tiered.errors import NoServersError
from tiered.testing import ManualClock

TTL = 1000.0
PAUSE_IS_OVER = 20.0

pytestmark = pytest.mark.usefixtures("memcached")  # skips where none is installed


@pytest.fixture(params=KINDS)
def proxy(request: pytest.FixtureRequest, memcached: PrivateMemcached) -> Iterator[Proxy]:
    with downgraded(memcached.address, request.param) as proxy:
        yield proxy


def version_of(client: MemcachedClient, key: str) -> Version:
    version = client.version(key)
    assert isinstance(version, Version)
    return version


def test_two_processes_see_one_version(proxy: Proxy, clock: ManualClock) -> None:
    users = two(proxy.address, clock=clock)
    with users.one, users.other:
        users.one.put("k", "v", TTL)
        held = users.one.versioned("k")
        assert held.entry is not None
        assert held.version == users.other.version("k") is not None
        users.other.put("k", "v", TTL)
        assert users.one.version("k") == users.other.version("k") != held.version


def test_a_stub_has_no_version(proxy: Proxy, clock: ManualClock) -> None:
    users = two(proxy.address, clock=clock)
    with users.one, users.other:
        claim = users.one.claim("k", 10)
        assert claim is not None
        assert users.other.version("k") is None
        assert users.other.versioned("k") == (None, None)
        assert claim.fill("v", TTL)
        assert users.other.version("k") is not None


def test_a_value_in_pages_has_the_version_of_its_manifest(proxy: Proxy, clock: ManualClock) -> None:
    users = two(proxy.address, clock=clock, compress=False)
    value = bytes(3_000_000)
    with users.one, users.other:
        users.one.put("k", value, TTL)
        held = users.one.versioned("k")
        assert held.entry is not None
        assert held.entry.value == value
        assert held.version == users.other.version("k") is not None
        users.other.put("k", value, TTL)
        assert users.one.version("k") not in (None, held.version)


def test_the_value_is_not_moved_where_the_server_allows(
    memcached: PrivateMemcached, clock: ManualClock
) -> None:
    with MemcachedClient(
        [memcached.address], checksum_key=SECRET, prefix=unique_prefix(), clock=clock
    ) as client:
        client.put("k", bytes(range(256)) * 2000, TTL)
        received = client.stats.servers[0].received
        assert client.version("k") is not None
        assert client.stats.servers[0].received < received + 100


WAYS: dict[str, Callable[[CacheClient], CacheClient]] = {
    "itself": lambda client: client,
    "wrapped": DecoratedWrapper,
    "in a namespace": lambda client: NamespaceWrapper("ns", client),
    "the farthest tier": lambda client: TieredInclusiveClient(
        InprocCacheClient(10, clock=client.clock), client
    ),
}


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize("way", WAYS)
def test_the_version_of_a_write_comes_with_its_answer(
    memcached: PrivateMemcached, clock: ManualClock, way: str, size: int
) -> None:
    users = two(memcached.address, clock=clock, compress=False)
    with users.one, users.other:
        client = WAYS[way](users.one)
        written, version = client.store_versioned("k", bytes(size), clock.monotonic() + TTL)
        assert written
        assert version == WAYS[way](users.other).version("k") is not None
        assert client.get("k") == bytes(size)
        claim = client.claim("k", 10)
        assert claim is not None
        assert claim.fill(bytes(size), TTL)
        assert claim.version == WAYS[way](users.other).version("k") not in (None, version)
        lost = client.claim("l", 10)
        assert lost is not None
        client.delete("l")
        assert not lost.fill(bytes(size), TTL)
        assert lost.version is None


def test_a_server_that_does_not_tell_is_written_all_the_same(
    proxy: Proxy, clock: ManualClock
) -> None:
    users = two(proxy.address, clock=clock)
    with users.one, users.other:
        assert users.one.store_versioned("k", "v", clock.monotonic() + TTL) in (
            (True, None),
            (True, users.one.version("k")),
        )
        claim = users.one.claim("k", 10)
        assert claim is not None
        assert claim.fill("w", TTL)
        assert claim.version in (None, users.one.version("k"))
        assert users.other.get("k") == "w"


def test_what_cannot_be_stored_has_no_version(
    memcached: PrivateMemcached, clock: ManualClock
) -> None:
    users = two(memcached.address, clock=clock)
    with users.one, users.other:
        users.one.put("k", "before", TTL)
        assert users.one.store_versioned("k", lambda: 0, clock.monotonic() + 1) == (False, None)
        assert users.other.version("k") is None


def test_what_cannot_be_believed_has_no_version(
    memcached: PrivateMemcached, clock: ManualClock
) -> None:
    prefix, address = unique_prefix(), memcached.address
    with MemcachedClient([address], checksum_key=SECRET, prefix=prefix, clock=clock) as client:
        client.put("k", "v", TTL)
        raw = Raw(address)
        raw.set(wire(client, "k"), b"x" * 100)
        raw.close()
        assert client.versioned("k") == (None, None)
        assert client.stats.corrupt == 1


def test_what_is_older_than_what_the_server_has_missed_is_not_confirmed(
    memcached: PrivateMemcached, clock: ManualClock
) -> None:
    with MemcachedClient(
        [memcached.address], checksum_key=SECRET, prefix=unique_prefix(), clock=clock
    ) as client:
        client.put("k", "v", TTL)
        before = client.version("k")
        [server] = client._servers.fleet.servers
        server.trusted_from = clock.wall()
        assert before is not None
        assert client.version("k") is None
        clock.advance(1)
        client.put("k", "v", TTL)
        assert client.version("k") not in (None, before)


def test_what_another_client_has_marked_as_stale_is_not_confirmed(
    memcached: PrivateMemcached, clock: ManualClock
) -> None:
    with MemcachedClient(
        [memcached.address], checksum_key=SECRET, prefix=unique_prefix(), clock=clock
    ) as client:
        client.put("k", "v", TTL)
        before = client.version("k")
        raw = Raw(memcached.address)
        raw._socket.sendall(f"md {wire(client, 'k')} I T30\r\n".encode())
        assert raw._file.readline() == b"HD\r\n"
        raw.close()
        assert before is not None
        assert client.version("k") is None
        assert client.versioned("k").version is None


def test_a_restarted_server_counts_anew_and_no_version_comes_back(clock: ManualClock) -> None:
    server = PrivateMemcached().start(free_port())
    try:
        with MemcachedClient([server.address], checksum_key=SECRET, clock=clock) as client:
            client.put("k", "before", TTL)
            before = version_of(client, "k")
            server.stop()
            assert client.version("k") is None
            server.start(int(server.address.rpartition(":")[2]))
            clock.advance(PAUSE_IS_OVER)
            assert client.version("k") is None
            client.put("k", "after", TTL)
            after = version_of(client, "k")
            # The very coincidence that is to be feared.
            assert (after.server, after.token) == (before.server, before.token)
            assert after != before
    finally:
        server.stop()


def test_a_restart_between_two_uses_of_an_idle_connection_is_noticed(clock: ManualClock) -> None:
    server = PrivateMemcached().start(free_port())
    port = int(server.address.rpartition(":")[2])
    try:
        with MemcachedClient([server.address], checksum_key=SECRET, clock=clock) as client:
            client.put("k", "before", TTL)
            before = version_of(client, "k")
            server.stop()
            server.start(port)
            other = MemcachedClient([server.address], checksum_key=SECRET, clock=clock)
            with other:
                other.put("k", "after", TTL)
                assert version_of(other, "k").token == before.token
            # Nothing failed: the connection was found closed, and opened again.
            assert client.version("k") not in (None, before)
            assert client.stats.errors == 0
    finally:
        server.stop()


def test_the_stand_in_counts_for_itself(clock: ManualClock) -> None:
    home, spare = PrivateMemcached().start(free_port()), PrivateMemcached().start()
    try:
        addresses = [home.address, spare.address]
        with MemcachedClient(addresses, checksum_key=SECRET, clock=clock) as client:
            key = next(
                key
                for key in map(str, range(1000))
                if dict(client.explain(key).detail)["server"] == home.address
            )
            client.put(key, "at home", TTL)
            before = version_of(client, key)
            home.stop()
            assert client.version(key) is None
            client.put(key, "away", TTL)
            away = version_of(client, key)
            assert away.token == before.token
            assert away.server == spare.address
            assert away != before
    finally:
        home.stop()
        spare.stop()


def test_nobody_to_ask_is_no_version(clock: ManualClock) -> None:
    server = PrivateMemcached().start(free_port())
    address = server.address
    server.stop()
    with MemcachedClient([address], checksum_key=SECRET, clock=clock) as client:
        assert client.version("k") is None
        assert client.versioned("k") == (None, None)
    with MemcachedClient([address], checksum_key=SECRET, strict=True, clock=clock) as strict:
        for ask in (strict.version, strict.versioned):
            with pytest.raises(NoServersError):
                ask("k")
        tiers = TieredInclusiveClient(InprocCacheClient(10, clock=clock), strict)
        assert tiers.version("k") is None
        assert tiers.versioned("k") == (None, None)
        assert tiers.stats.tiers[1].errors == 2


def test_tiers_tell_what_the_farthest_holds(
    memcached: PrivateMemcached, clock: ManualClock
) -> None:
    users = two(memcached.address, clock=clock)
    with users.one, users.other:
        near = InprocCacheClient(10, clock=clock)
        tiers = TieredInclusiveClient(near, users.one)
        tiers.put("k", "ours", TTL)
        before = tiers.versioned("k").version
        users.other.put("k", "theirs", TTL)
        found = tiers.versioned("k")
        assert found.entry is not None
        assert (found.entry.value, near.get("k")) == ("theirs", "ours")
        assert found.version == tiers.version("k") == users.other.version("k") != before
