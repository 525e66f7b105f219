"""Several real servers, of which some fail, freeze, take little, or come and go."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.integration.faults import impatient
from tests.integration.peers import Peer
from tests.ports import free_port
from tests.unit.test_memcached_dial import certificate as certificate  # noqa: PLC0414
from tiered import MemcachedClient, NamespaceWrapper, cached
from tiered.cli.demo.server import PrivateMemcached
from tiered.testing import ManualClock

KEYS: list[Any] = list(range(100))


@pytest.fixture
def servers(memcached: PrivateMemcached) -> Iterator[list[PrivateMemcached]]:
    """Three that the test may stop."""
    # On ports that nobody else gets while they are down.
    made = [PrivateMemcached().start(free_port()) for _ in range(3)]
    yield made
    for server in made:
        server.stop()


def client_of(servers: Any, clock: ManualClock, **options: Any) -> MemcachedClient:
    addresses = servers if callable(servers) else [server.address for server in servers]
    options = {"prefix": unique_prefix(), "checksum_key": SECRET, "clock": clock, **options}
    return MemcachedClient(addresses, **options)


def test_what_was_deleted_while_the_fleet_was_larger_stays_deleted(
    servers: list[PrivateMemcached], clock: ManualClock
) -> None:
    fleet = [servers[0].address]
    with client_of(lambda: list(fleet), clock) as client:
        assert all(client.put_multi(dict.fromkeys(KEYS, "old"), 1000).values())
        fleet += [servers[1].address, servers[2].address]
        change(client, clock)
        client.delete_multi(KEYS)
        assert all(client.put_multi(dict.fromkeys(KEYS[:50], "new"), 1000).values())
        del fleet[1:]
        change(client, clock)
        found = client.get_multi(KEYS, None)
        assert "old" not in found.values()
        assert client.put("k", "later", 1000)
        assert client.get("k") == "later"


def change(client: MemcachedClient, clock: ManualClock) -> None:
    """Have the client see what its discovery says by now."""
    clock.advance(60)
    client.get("any", None)  # starts the refresh
    watch = client._servers.fleet.watch
    assert watch._refreshing.acquire(timeout=10)
    watch._refreshing.release()


def test_a_strict_client_goes_on_with_the_servers_that_are_left(
    servers: list[PrivateMemcached], clock: ManualClock
) -> None:
    calls: list[int] = []
    with client_of(servers[:2], clock, strict=True) as client:

        @cached(client, 1000, namespace="f")
        def f(x: int) -> int:
            calls.append(x)
            return x

        assert [f(key) for key in KEYS[:30]] == KEYS[:30]
        servers[0].stop()
        client.get_multi(KEYS, None)
        for _ in range(3):
            assert [f(key) for key in KEYS[:30]] == KEYS[:30]
        assert len(calls) < 60
        space = NamespaceWrapper("another", client)
        assert space.put("k", 1, 5)
        space.clear()
        assert space.get("k", None) is None
        assert client.server_stats()[servers[0].address] == {}
        assert "stands_in_for" in "".join(str(client.explain(key).detail) for key in KEYS)


def test_expiring_reaches_the_stand_in(servers: list[PrivateMemcached], clock: ManualClock) -> None:
    with client_of(servers[:2], clock) as client:
        client.get_multi(KEYS, None)
        port = servers[0].port
        servers[0].stop()
        assert all(client.put_multi(dict.fromkeys(KEYS, 1), 1000).values())
        servers[0].start(port)
        clock.advance(1)
        client.put_multi(dict.fromkeys(KEYS, 2), 1000)
        assert client.get_multi(KEYS, None) == dict.fromkeys(KEYS, 2)
        assert all(client.expire(key) for key in KEYS)
        servers[0].stop()
        client.get_multi(KEYS, None)
        assert set(client.get_multi(KEYS, None).values()) == {None}


def test_frozen_servers_are_waited_for_together(
    servers: list[PrivateMemcached], clock: ManualClock
) -> None:
    with ExitStack() as stack:
        frozen = [stack.enter_context(PrivateMemcached(memory=8)) for _ in range(5)]
        client = stack.enter_context(client_of([*servers, *frozen], clock, timeout=20))
        assert all(client.put_multi(dict.fromkeys(KEYS, 1), 1000).values())
        for server in frozen:
            os.kill(server._process.pid, signal.SIGSTOP)  # type: ignore[union-attr]
        try:
            started = time.monotonic()
            with impatient(client, 1.5):
                found = client.get_multi(KEYS, None)
            # One patience for all, and one more for those who stand in; one after the other would
            # take five.
            assert time.monotonic() - started < 7.0
            assert 1 in found.values()
        finally:
            for server in frozen:
                os.kill(server._process.pid, signal.SIGCONT)  # type: ignore[union-attr]


def test_the_first_large_value_finds_out_how_little_a_server_takes(clock: ManualClock) -> None:
    with PrivateMemcached(options=("-I", "512k")) as server, client_of([server], clock) as client:
        value = os.urandom(2_500_000)
        assert client.put("k", value, 100)
        assert client.get("k") == value
    with PrivateMemcached(options=("-I", "512k")) as server, client_of([server], clock) as client:
        assert client.put_multi({"k": value, "l": 1}, 100) == {"k": True, "l": True}
        assert client.get_multi(["k", "l"]) == {"k": value, "l": 1}


def test_a_strict_client_writes_the_others_of_many(
    servers: list[PrivateMemcached], clock: ManualClock
) -> None:
    with client_of(servers[:1], clock, strict=True) as client:
        client.put("b", "old", 100)
        with pytest.raises(Exception, match="pickle"):
            client.put_multi({"a": 1, "b": lambda: 0, "c": 3}, 100)
        assert client.get_multi(["a", "b", "c"], None) == {"a": 1, "b": None, "c": 3}


def test_a_host_whose_clock_is_off_keeps_the_servers_time(clock: ManualClock) -> None:
    """The peer's clock is an hour ahead; all of its users can see that."""
    ahead = int(time.time()) + 3600

    def late(request: bytes, answer: bytes) -> bytes:
        if request != b"stats":
            return answer
        return b"STAT pid 1\r\nSTAT uptime 10\r\nSTAT time %d\r\nEND\r\n" % ahead

    with (
        Peer(late) as peer,
        MemcachedClient([peer.address], checksum_key=SECRET, clock=clock) as client,
    ):
        assert client.get("k", None) is None  # it is known from the first connection on
        assert client._values.wall() == pytest.approx(clock.wall() + 3600, abs=5)
        assert client.put("k", 1, 60)
        assert client.get_ttl("k")[1] == pytest.approx(60, abs=1)
        header = client._codec.header(client._name("k").signed, peer.items[b"s1:k"][0])
        assert header.expires == pytest.approx(clock.wall() + 3660, abs=5)
        assert client.expire("k")
        assert client.get("k", "stale") == "stale"


@pytest.fixture
def readable_folder() -> Iterator[str]:
    """For a server that has given up its rights by the time when it reads."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield folder


def readable(path: str, folder: str) -> str:
    copied = shutil.copy(path, folder)
    os.chmod(copied, 0o644)
    return copied


def test_much_at_once_over_tls(
    certificate: tuple[str, str], readable_folder: str, clock: ManualClock
) -> None:
    made, key = (readable(path, readable_folder) for path in certificate)
    options = ("-Z", "-o", f"ssl_chain_cert={made},ssl_key={key}")
    try:
        server = PrivateMemcached(options=options).start()
    except (OSError, RuntimeError) as error:
        pytest.skip(f"this memcached speaks no TLS: {error}")
    context = ssl.create_default_context(cafile=made)
    context.check_hostname = False
    try:
        with client_of([server], clock, tls_context=context, timeout=5) as client:
            items: dict[Any, Any] = {number: os.urandom(3000) for number in range(300)}
            assert all(client.put_multi(items, 100).values())
            assert client.get_multi(items) == items
            large = os.urandom(5_000_000)
            assert client.put("large", large, 100)
            assert client.get("large") == large
            assert all(client.delete_multi(items).values())
            assert client.stats.errors == 0
    finally:
        server.stop()
