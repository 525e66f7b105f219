"""Keys and values of any kind, on a real server: one key each, and no command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.integration.downgraded import downgraded
from tests.integration.proxy import Proxy
from tests.integration.test_memcached import Raw
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.memcached import MemcachedClient
from tiered.decorators import cached
from tiered.testing import ManualClock

TTL = 100_000.0


@pytest.fixture(params=["modern", "text"])
def proxy(request: pytest.FixtureRequest, memcached: PrivateMemcached) -> Iterator[Proxy]:
    with downgraded(memcached.address, request.param) as proxy:
        yield proxy


KEYS = {
    "250 bytes": "k" * 250,
    "251 bytes": "k" * 251,
    "100 KB": "k" * 100_000,
    "empty": "",
    "a space": "a b",
    "spaces at the ends": " k ",
    "a line break": "k\r\nset evil 0 0 4\r\nevil",
    "meta in it": "k\r\nmn\r\nms evil 4\r\nevil",
    "a tab and a bell": "k\t\x07",
    "NUL": "k\x00l",
    "DEL": "k\x7f",
    "emoji": "🦜 key",
    "a lone surrogate": "k\ud800",
    "bytes": b"\x00\xff\r\n \x80",
    "a tuple": ("k", 1, ("\r\n", None, 2.5)),
    "a flag": "k N30 v",
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_any_kind_is_one_key_and_no_command(
    proxy: Proxy, memcached: PrivateMemcached, clock: ManualClock, kind: str
) -> None:
    key: Any = KEYS[kind]
    with MemcachedClient(
        [proxy.address], checksum_key=SECRET, prefix=unique_prefix(), clock=clock
    ) as client:
        assert client.put(key, "there", TTL)
        assert client.get(key) == "there"
        assert client.get_multi([key, "other"], None) == {key: "there", "other": None}
        assert client.put_multi({key: "again", "third": 3}, TTL) == {key: True, "third": True}
        assert not client.add(key, "added", TTL)
        assert client.renew(key, TTL + 10)
        assert client.expire(key)
        assert client.get(key, None) is None
        claim = client.claim(key, 60)
        assert claim is not None
        assert claim.fill("filled", TTL)
        f = cached(client, TTL, namespace="f")(lambda x: (x, "computed"))
        assert f(key) == f.peek(key) == (key, "computed")
        assert client.get(key) == "filled"
        assert client.delete(key)
        assert client.get(key, None) is None
        assert client.stats.errors == 0
        for request in proxy.requests:
            line = request.partition(b"\r\n")[0]
            assert len(line) < 2048
            assert all(0x20 <= byte < 0x7F for byte in line)
            if line[:2] in (b"mg", b"ms", b"md"):
                assert len(line.split()[1]) <= 250
    raw = Raw(memcached.address)
    try:
        assert raw.get("evil") is None
    finally:
        raw.close()


def test_a_value_that_grows_too_large_when_it_is_unpacked_is_a_counted_miss(
    memcached: PrivateMemcached, clock: ManualClock
) -> None:
    prefix = unique_prefix()

    def client(limit: int) -> MemcachedClient:
        return MemcachedClient(
            [memcached.address],
            checksum_key=SECRET,
            prefix=prefix,
            max_value_size=limit,
            clock=clock,
        )

    with client(20_000_000) as careless, client(1_000_000) as careful:
        assert careless.put("bomb", bytes(10_000_000), TTL)
        assert careful.get("bomb", "miss") == "miss"
        assert careful.get_multi(["bomb"], "miss") == {"bomb": "miss"}
        assert careful.stats.corrupt == 2


def test_a_secret_that_was_given_up_is_not_accepted_any_more(
    memcached: PrivateMemcached, clock: ManualClock
) -> None:
    prefix = unique_prefix()

    def client(*secrets: str) -> MemcachedClient:
        return MemcachedClient(
            [memcached.address], checksum_key=secrets, prefix=prefix, clock=clock
        )

    with client("old") as old, client("new", "old") as rotating, client("new") as new:
        assert old.put("k", "signed with the old one", TTL)
        assert rotating.get("k") == "signed with the old one"
        f = cached(new, TTL, namespace="f")(lambda x: "computed")
        assert new.get("k", "miss") == "miss"
        assert new.stats.corrupt == 1
        g = cached(old, TTL, namespace="f")(lambda x: "computed by one that has the old one only")
        assert g(1) == "computed by one that has the old one only"
        assert f(1) == "computed"
        assert f.peek(1) == "computed"
