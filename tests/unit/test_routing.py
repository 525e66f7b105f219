"""Addresses, the ring, and the pauses of a failing server."""

from __future__ import annotations

from collections import Counter
from hashlib import md5
from typing import Any

import pytest

from tiered.clients.memcached.expiry import exptime
from tiered.routing.addresses import Address, parse_address, parse_addresses
from tiered.routing.health import NodeHealth
from tiered.routing.ring import HashRing
from tiered.testing import ManualClock


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("localhost", Address("localhost", 11211), "localhost:11211"),
        ("10.0.0.1:11212", Address("10.0.0.1", 11212), "10.0.0.1:11212"),
        ("[::1]:11212", Address("::1", 11212), "[::1]:11212"),
        ("[::1]", Address("::1", 11211), "[::1]:11211"),
        ("/run/m.sock", Address("/run/m.sock", 0), "/run/m.sock"),
        ("unix:/run/m.sock", Address("/run/m.sock", 0), "/run/m.sock"),
        (("host", 5), Address("host", 5), "host:5"),
        (Address("a", 1), Address("a", 1), "a:1"),
    ],
)
def test_addresses_as_people_write_them(text: Any, address: Address, shown: str) -> None:
    assert parse_address(text) == address
    assert str(address) == shown
    assert address.is_unix is (address.port == 0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", ValueError),
        (":11211", ValueError),
        ("host:", ValueError),
        ("host:port", ValueError),
        ("host:0", ValueError),
        ("host:65536", ValueError),
        ("host:-1", ValueError),
        ("host: 1", ValueError),
        ("two words:1", ValueError),
        ("::1", ValueError),
        ("::1:11211", ValueError),
        ("[::1", ValueError),
        ("[::1]11211", ValueError),
        ("a,b", ValueError),
        ("http://host", ValueError),
        (11211, TypeError),
        (None, TypeError),
        (("host", "1"), TypeError),
        (("host", True), TypeError),
        (("host",), TypeError),
        (b"host", TypeError),
    ],
)
def test_what_does_not_parse_is_refused_with_its_text(text: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="address") as caught:
        parse_address(text)
    assert repr(text).strip("'") in str(caught.value)


@pytest.mark.parametrize(
    ("addresses", "error"),
    [
        ("localhost:11211", TypeError),
        (None, TypeError),
        (5, TypeError),
        ([], ValueError),
        (["a", "a:11211"], ValueError),
        (["a", "b:x"], ValueError),
    ],
)
def test_lists_that_cannot_be_right_are_refused(addresses: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="address"):
        parse_addresses(addresses)


def ring(*names: str) -> HashRing[str]:
    return HashRing([(name, name) for name in names])


KEYS = [f"key:{number}".encode() for number in range(10_000)]


def test_servers_get_about_equal_shares() -> None:
    shares = Counter(map(ring(*"abcde").node, KEYS))
    assert max(shares.values()) / min(shares.values()) < 1.6


def test_a_server_that_leaves_moves_only_its_own_keys() -> None:
    before, after = ring(*"abcde"), ring(*"abde")
    for key in KEYS:
        if before.node(key) != "c":
            assert after.node(key) == before.node(key)


def test_the_order_of_the_servers_does_not_matter() -> None:
    one, other = ring(*"abc"), ring(*"cab")
    assert all(one.node(key) == other.node(key) for key in KEYS)


def test_one_server_has_everything() -> None:
    assert {ring("a").node(key) for key in KEYS} == {"a"}
    with pytest.raises(ValueError, match="at least one"):
        HashRing([])


def test_the_points_are_those_of_libmemcached() -> None:
    # Four little-endian numbers from the MD5 of the server's name and a counter.
    digest = md5(b"10.0.1.1:11211-0", usedforsecurity=False).digest()
    points = [int.from_bytes(digest[offset : offset + 4], "little") for offset in (0, 4, 8, 12)]
    assert set(points) <= set(ring("10.0.1.1:11211", "10.0.1.2:11211")._points)


def test_a_failing_server_is_left_alone_for_longer_and_longer() -> None:
    clock = ManualClock()
    health = NodeHealth(clock)
    pauses: list[float] = []
    for _ in range(10):
        health.failed()
        started = clock.monotonic()
        while not health.usable:
            clock.advance(0.01)
        pauses.append(clock.monotonic() - started)
    assert min(pauses) > 0.15
    assert pauses[0] <= 0.26
    assert pauses[3] > 4 * pauses[0]
    assert 7.4 < pauses[-1] <= 10.1
    health.succeeded()
    health.failed()
    clock.advance(0.26)
    assert health.usable


DAY = 24 * 3600
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("remaining", "keep", "told"),
    [
        (0.3, 0, 2),
        (1, 0, 2),
        (60, 0, 61),
        (60, 30, 91),
        (0, 0, 31),  # stale already: readable for a moment
        (-5, 0, 31),
        (-5, 100, 101),
        (30 * DAY - 1, 0, 30 * DAY),
        (30 * DAY, 0, int(NOW) + 30 * DAY + 1),
        (31 * DAY, 0, int(NOW) + 31 * DAY + 1),
        (3650 * DAY, 0, int(NOW) + 3650 * DAY + 1 if NOW + 3650 * DAY < 2**31 else 0),
        (1e6 * DAY, 0, 0),
        (float("inf"), 0, 0),
        (10, float("inf"), 0),
    ],
)
def test_what_the_server_is_told(remaining: float, keep: float, told: int) -> None:
    assert exptime(remaining, keep, NOW) == told
