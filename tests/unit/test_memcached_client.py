"""The memcached client without a server: its options, what it is, and what it leaves undone."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest

from tests.conftest import SECRET
from tests.opened import Opened
from tiered.clients.base import Capabilities
from tiered.clients.memcached import MemcachedClient
from tiered.clients.memcached.client import MemcachedStats
from tiered.errors import KeyEncodingError, UnsupportedOperation
from tiered.routing.addresses import Address
from tiered.testing import ManualClock

ADDRESS_FORMS = "'host', 'host:port', '[ipv6]:port', '/path/to.sock' or a (host, port) pair"


@pytest.mark.parametrize(
    ("option", "value", "error", "right"),
    [
        ("addresses", "localhost:11211", TypeError, "a list such as"),
        ("addresses", b"localhost:11211", TypeError, "a list such as"),
        ("addresses", None, TypeError, "a list such as"),
        ("addresses", 11211, TypeError, "a list such as"),
        ("addresses", [], ValueError, "at least one server"),
        ("addresses", [None], TypeError, ADDRESS_FORMS),
        ("addresses", [11211], TypeError, ADDRESS_FORMS),
        ("addresses", [""], ValueError, ADDRESS_FORMS),
        ("addresses", [":11211"], ValueError, ADDRESS_FORMS),
        ("addresses", ["two words"], ValueError, ADDRESS_FORMS),
        ("addresses", ["a,b"], ValueError, ADDRESS_FORMS),
        ("addresses", ["host:"], ValueError, "must be a number"),
        ("addresses", ["host:http"], ValueError, "must be a number"),
        ("addresses", ["host:0"], ValueError, "must be 1 to 65535"),
        ("addresses", ["host:65536"], ValueError, "must be 1 to 65535"),
        ("addresses", ["::1"], ValueError, "write it as '[::1]:port'"),
        ("addresses", [("host", "11211")], TypeError, "not an int"),
        ("addresses", ["host", "host:11211"], ValueError, "twice"),
        ("checksum_key", 5, TypeError, "str or bytes (or a list of them)"),
        ("checksum_key", ["good", 5], TypeError, "str or bytes (or a list of them)"),
        ("checksum_key", "", ValueError, "must not be empty"),
        ("checksum_key", None, ValueError, "serializer='json' or 'raw'"),
        ("checksum_key", [], ValueError, "serializer='json' or 'raw'"),
        (
            "serializer",
            "marshal",
            ValueError,
            "['json', 'msgpack', 'msgspec', 'pickle', 'raw']",
        ),
        ("serializer", None, TypeError, "['json', 'msgpack', 'msgspec', 'pickle', 'raw']"),
        ("compress", "zip", ValueError, "one of ['lz4', 'zlib', 'zstd']"),
        ("compress", None, TypeError, "one of ['lz4', 'zlib', 'zstd']"),
        ("max_value_size", 0, ValueError, "a whole number, 1 or more"),
        ("max_value_size", "1M", TypeError, "a whole number, 1 or more"),
        ("prefix", "two words", ValueError, "up to 64 printable characters without spaces"),
        ("prefix", "line\n", ValueError, "up to 64 printable characters without spaces"),
        ("prefix", "é", ValueError, "up to 64 printable characters without spaces"),
        ("prefix", "x" * 65, ValueError, "up to 64 printable characters without spaces"),
        ("prefix", b"bytes", ValueError, "up to 64 printable characters without spaces"),
        ("prefix", None, ValueError, "up to 64 printable characters without spaces"),
        ("connect_timeout", 0, ValueError, "a positive, finite number of seconds"),
        ("connect_timeout", -1, ValueError, "a positive number of seconds"),
        ("timeout", float("inf"), ValueError, "a positive, finite number of seconds"),
        ("timeout", float("nan"), ValueError, "a positive number of seconds"),
        ("timeout", None, TypeError, "a positive number of seconds"),
        ("timeout", True, TypeError, "a positive number of seconds"),
        ("pool_size", 0, ValueError, "1 or more"),
        ("pool_size", -3, ValueError, "1 or more"),
        ("pool_size", "16", TypeError, "1 or more"),
        ("pool_size", 1.5, (TypeError, ValueError), "1 or more"),
        ("pool_size", float("inf"), (TypeError, ValueError), "1 or more"),
        ("max_value_size", float("inf"), (TypeError, ValueError), "a whole number, 1 or more"),
        ("pool_timeout", 0, ValueError, "a positive, finite number of seconds"),
        ("pool_timeout", "1", TypeError, "a positive number of seconds"),
    ],
)
def test_an_option_that_cannot_be_right_is_named_with_its_value_and_what_would_be(
    option: str,
    value: Any,
    error: type[Exception] | tuple[type[Exception], ...],
    right: str,
) -> None:
    options: dict[str, Any] = {"addresses": ["localhost"], "checksum_key": SECRET, option: value}
    with pytest.raises(error, match=re.escape(right)) as caught:
        MemcachedClient(**options)
    message = str(caught.value)
    assert option.removesuffix("es") in message
    # Of a secret not even a part is told, and a message about one address shows that one.
    if option != "checksum_key":
        shown = value[0] if isinstance(value, list) and value else value
        assert repr(shown) in message or f"'{shown}'" in message or "twice" in message


def test_a_secret_is_not_told() -> None:
    class Secret:
        def __repr__(self) -> str:
            return "hunter2"

    options: Any = {"addresses": ["localhost"], "checksum_key": Secret()}
    with pytest.raises(TypeError) as caught:
        MemcachedClient(**options)
    assert "hunter2" not in str(caught.value)
    client = MemcachedClient(["localhost"], checksum_key="hunter2")
    assert "hunter2" not in f"{client!r} {client.stats} {vars(client)}"


def test_the_constructor_opens_nothing_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("a socket was opened or a name was looked up")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    opened = Opened()
    with MemcachedClient(["localhost", "other:1"], checksum_key=SECRET) as client:
        assert client.near("k") is None
        assert client.get_multi([], None) == {}
        assert client.put_multi({}, 10) == {}
        assert client.delete_multi([]) == {}
        stats = client.stats
        assert stats == MemcachedStats(servers=stats.servers)
        assert [one.release for one in stats.servers] == [None, None]
        assert client.purge() == 0
    assert not opened.threads


def test_it_says_what_it_is() -> None:
    client = MemcachedClient(
        ["a", ("b", 1), "[::1]:2", "/run/m.sock", Address("c", 3)], checksum_key=SECRET
    )
    assert repr(client) == "<MemcachedClient a:11211, b:1, [::1]:2, /run/m.sock, c:3>"
    assert client.capabilities == Capabilities(
        shared=True, near=False, blocking=True, clearable=False, fenced=True
    )
    assert client.authority is client
    assert client.hot_path() is None
    assert not client.is_async
    assert client.wait("k")


def test_it_refuses_to_clear_what_others_use() -> None:
    client = MemcachedClient(["localhost"], checksum_key=SECRET)
    for act in (client.clear, lambda: client.sweep(None)):
        with pytest.raises(UnsupportedOperation, match="wrap the client in a NamespaceWrapper"):
            act()


@pytest.mark.parametrize(
    "key", [object(), ("a", object()), float("nan"), lambda: 1, ("deep", (1, object()))]
)
def test_a_key_that_others_could_not_recognise_is_the_callers_mistake(
    key: Any, clock: ManualClock
) -> None:
    client = MemcachedClient(["localhost"], checksum_key=SECRET, clock=clock)
    for act in (
        lambda: client.get(key, None),
        lambda: client.get_multi([1, key], None),
        lambda: client.put(key, 1, 10),
        lambda: client.add(key, 1, 10),
        lambda: client.renew(key, 10),
        lambda: client.expire(key),
        lambda: client.delete(key),
        lambda: client.claim(key),
        lambda: client.explain(key),
    ):
        with pytest.raises(KeyEncodingError, match=r"^key"):
            act()
    assert client.stats.errors == 0
