"""The ring: servers have equal shares, keep them when others go, and are libmemcached's."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from hashlib import md5
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.clients.memcached.dial import Terms
from tiered.clients.memcached.fleet import Fleet
from tiered.clients.memcached.server import Server
from tiered.routing.addresses import Address
from tiered.routing.discovery import StaticDiscovery
from tiered.routing.ring import HashRing
from tiered.routing.watch import Watch
from tiered.testing import ManualClock

KEYS = [f"key:{number}".encode() for number in range(10_000)]

# Where libmemcached 1.0.16 has the keys key:0 ... key:39, with ketama_weighted set, by
# memcached_generate_hash(): a letter for each key, "a" for the first of the servers.
TEN = [f"10.0.1.{number}" for number in range(1, 6)]
ON_ANOTHER_PORT = "adbcaeadaedecdabdecbcadbdbdeecccbaebdaae"
ON_THE_DEFAULT_PORT = "deeddbecddabdbcbbcaeecdbbcaadbececcccccb"
ON_SEVERAL_PORTS = "addbbacaacddbdcacddbcdbdddbdacabccbaaacb"
IPV6 = "dedbbcaaabdbbcbdbbcddacabbbdbadeabdacecb"
IPV6_ON_THE_DEFAULT_PORT = "eaaedeeaedeeddcdcccdceeadccbdceddaecacda"
ON_SOCKETS = "bdabdbbaddbedcdddabaddadaddadddabbcebcba"
ON_25 = "bokskbuqevgfnjtftkcxxthjdcfaqpiqhxqyykhg"
# 25 is the smallest number of servers whose equal shares, as libmemcached computes them in
# single precision, come to less than 160 points each. These keys show it.
ON_25_WHERE_IT_SHOWS = {13: 9, 25: 2, 91: 15, 136: 4, 260: 18, 300: 9, 310: 24, 334: 21, 442: 2}


def ring(*names: str) -> HashRing[str]:
    return HashRing([(name, name) for name in names])


def placed(nodes: HashRing[int], count: int = 40) -> str:
    return "".join(chr(ord("a") + nodes.node(key)) for key in KEYS[:count])


def fleet(addresses: Sequence[Any]) -> Fleet:
    clock = ManualClock()

    def server(address: Address) -> Server:
        return Server(address, Terms(1.0, 1.0), pool_size=1, pool_timeout=1.0, clock=clock)

    return Fleet(Watch(StaticDiscovery(addresses), clock), server, clock)


# -- As libmemcached -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"{host}:11212" for host in TEN], ON_ANOTHER_PORT),
        (TEN, ON_THE_DEFAULT_PORT),
        (["a.example", "b.example", "b.example:11212", "c.example:11300"], ON_SEVERAL_PORTS),
    ],
)
def test_a_key_belongs_to_the_server_that_libmemcached_has_it_on(
    names: list[str], expected: str
) -> None:
    assert placed(HashRing([(name, index) for index, name in enumerate(names)])) == expected


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([f"{host}:11212" for host in TEN], ON_ANOTHER_PORT),
        (TEN, ON_THE_DEFAULT_PORT),
        ([f"{host}:11211" for host in TEN], ON_THE_DEFAULT_PORT),
        (["a.example", "b.example", "b.example:11212", "c.example:11300"], ON_SEVERAL_PORTS),
        ([f"[::{number}]:11212" for number in range(1, 6)], IPV6),
        ([f"[::{number}]" for number in range(1, 6)], IPV6_ON_THE_DEFAULT_PORT),
        ([f"/run/{number}.sock" for number in range(1, 6)], ON_SOCKETS),
        ([f"cache{number}:11212" for number in range(25)], ON_25),
    ],
    ids=["a port", "no port", "its port", "ports", "ipv6", "ipv6 no port", "sockets", "25"],
)
def test_a_client_asks_the_server_that_libmemcached_would_ask(
    addresses: list[str], expected: str
) -> None:
    ours = fleet(addresses)
    homes = [ours.servers.index(ours.ring().node(key)) for key in KEYS[:40]]
    assert "".join(chr(ord("a") + home) for home in homes) == expected


def test_the_number_of_points_is_libmemcacheds_even_where_it_computes_less_than_160() -> None:
    nodes = HashRing([(f"cache{number}:11212", number) for number in range(25)])
    assert {key: nodes.node(KEYS[key]) for key in ON_25_WHERE_IT_SHOWS} == ON_25_WHERE_IT_SHOWS


def test_each_server_has_four_points_for_each_md5() -> None:
    nodes = ring("one", "other")
    expected = {
        int.from_bytes(
            md5(f"{name}-{group}".encode(), usedforsecurity=False).digest()[offset : offset + 4],
            "little",
        )
        for name in ("one", "other")
        for group in range(40)
        for offset in (0, 4, 8, 12)
    }
    assert nodes._points == sorted(expected)
    assert Tally(owner for owner, _ in nodes._pairs[:-1]) == {"one": 160, "other": 160}


def test_a_key_belongs_to_the_first_point_at_or_after_its_hash() -> None:
    nodes = ring("one", "other")
    points = [5, 2**31, 2**32 - 10]
    nodes._pairs = [("low", None), ("middle", None), ("high", None), ("low", None)]

    def of(place: int) -> str:
        # A key with any hash one likes is not to be had, but a list of points is.
        nodes._points = [point - place + hashed for point in points]
        return nodes.node(b"key")

    hashed = int.from_bytes(md5(b"key", usedforsecurity=False).digest()[:4], "little")
    assert [of(0), of(5), of(6), of(2**31), of(2**32 - 10)] == [
        "low",
        "low",
        "middle",
        "middle",
        "high",
    ]
    assert of(2**32 - 9) == "low"  # past the last, and round


# -- Shares ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 5, 20])
def test_servers_have_about_equal_shares(count: int) -> None:
    shares = Tally(map(ring(*(f"10.0.0.{n}:11211" for n in range(count))).node, KEYS))
    assert len(shares) == count
    assert max(shares.values()) < 1.5 * len(KEYS) / count


names = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=6, unique=True)


@given(names, st.lists(st.binary(), max_size=50), st.data())
def test_a_server_that_leaves_moves_only_its_own_keys(
    names: list[str], keys: list[bytes], data: st.DataObject
) -> None:
    leaving = data.draw(st.sampled_from(names))
    before, after = ring(*names), ring(*(name for name in names if name != leaving))
    for key in keys:
        if before.node(key) == leaving:
            assert after.node(key) in names
        else:
            assert after.node(key) == before.node(key)


@given(names, st.lists(st.binary(), max_size=50), st.randoms(use_true_random=False))
def test_the_order_of_the_servers_does_not_matter(
    names: list[str], keys: list[bytes], chance: Any
) -> None:
    shuffled = list(names)
    chance.shuffle(shuffled)
    one, other = ring(*names), ring(*shuffled)
    assert [one.node(key) for key in keys] == [other.node(key) for key in keys]


def test_the_name_is_hashed_and_not_the_server_behind_it() -> None:
    before = HashRing([("a", "10.0.0.1"), ("b", "10.0.0.2")])
    after = HashRing([("a", "10.0.0.7"), ("b", "10.0.0.2")])
    moved = {"10.0.0.1": "10.0.0.7", "10.0.0.2": "10.0.0.2"}
    assert all(after.node(key) == moved[before.node(key)] for key in KEYS[:1000])


@pytest.mark.parametrize("node", ["a", None, 0])
def test_one_server_has_every_key_whatever_it_is(node: Any) -> None:
    assert {HashRing([("a", node)]).node(key) for key in (b"", *KEYS[:100])} == {node}


def test_a_ring_without_servers_is_refused() -> None:
    with pytest.raises(ValueError, match="nodes must hold at least one server"):
        HashRing([])
