"""The backends on memcached: their arguments, their serialisers, and what they refuse."""

from __future__ import annotations

import functools
import json
import logging
import math
import pickle
from typing import Any

import pytest

from tests.logs import of_this_thread
from tests.opened import Opened
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.region import ProxyBackend, ValidationError, make_region
from tiered.region.backends.clients import ClientBackend
from tiered.region.backends.memcached import (
    BMemcachedBackend,
    MemcachedBackend,
    PylibmcBackend,
    PyMemcacheBackend,
)
from tiered.region.serialization import executes

URL = "localhost:11211"

NAMES = {
    "memcached": MemcachedBackend,
    "bmemcached": BMemcachedBackend,
    "pylibmc": PylibmcBackend,
    "pymemcache": PyMemcacheBackend,
}

IGNORED: dict[str, dict[str, Any]] = {
    "memcached": {"dead_retry": 30},
    "bmemcached": {},
    "pylibmc": {"binary": True, "behaviors": {"tcp_nodelay": True}},
    "pymemcache": {
        "default_noreply": False,
        "do_not_retry_for": None,
        "enable_retry_client": True,
        "hashclient_dead_timeout": 60,
        "hashclient_retry_attempts": 2,
        "hashclient_retry_timeout": 1,
        "retry_attempts": 3,
        "retry_delay": 0.1,
        "retry_for": None,
        "socket_keepalive": None,
    },
}


def configured(backend: Any = "memcached", **arguments: Any) -> ClientBackend:
    region = make_region().configure(backend, arguments={"url": URL, **arguments})
    made = region.backend
    assert isinstance(made, ClientBackend)
    return made


def client_of(backend: ClientBackend) -> MemcachedClient:
    assert isinstance(backend.client, MemcachedClient)
    return backend.client


# -- Arguments -------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "dogpile.cache."])
@pytest.mark.parametrize("name", NAMES)
def test_each_is_known_by_both_names(name: str, prefix: str) -> None:
    assert type(configured(prefix + name)) is NAMES[name]


def test_nothing_is_connected_or_started() -> None:
    opened = Opened()
    backend = configured("memcached", url="192.0.2.1:1", checksum_key="k", distributed_lock=True)
    assert not opened.threads
    assert client_of(backend).stats.servers == ()
    assert repr(backend) == "<MemcachedBackend over <MemcachedClient 192.0.2.1:1>>"


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("a", ["a:11211"]),
        ("a:1, b:2 ,", ["a:1", "b:2"]),
        (["a:1", "[::1]:2"], ["a:1", "[::1]:2"]),
        (("a", 1), ["a:1"]),
        ([("a", 1), "b"], ["a:1", "b:11211"]),
        ("/run/memcached.sock", ["/run/memcached.sock"]),
        ("unix:/run/memcached.sock", ["/run/memcached.sock"]),
    ],
)
def test_servers_are_named_in_many_ways(url: Any, addresses: list[str]) -> None:
    assert [str(one) for one in client_of(configured(url=url)).addresses] == addresses


def test_servers_may_be_asked_for() -> None:
    asked = client_of(configured(url=lambda: ["a"]))
    assert asked.addresses == ()


@pytest.mark.parametrize("name", NAMES)
def test_the_usual_values(name: str) -> None:
    backend = configured(name)
    assert not backend.distributed_lock
    assert backend.get_mutex("k") is None
    assert not backend.has_lock_timeout()
    assert (backend.lock_timeout, backend.life, backend.recheck) == (10.0, math.inf, 1.0)
    assert backend.capabilities.fenced
    assert backend.key_mangler is None


def test_arguments_reach_the_client() -> None:
    backend = configured(
        checksum_key=["new", "old"],
        distributed_lock=True,
        lock_timeout=3,
        memcached_expire_time=60,
        recheck=0.5,
        prefix="app/",
        pool_size=3,
        pool_timeout=2,
        connect_timeout=2,
        timeout=0.25,
        max_value_size=1000,
        compress="zlib",
        weights=[2],
        username="u",
        password="p",
    )
    assert backend.distributed_lock
    assert backend.has_lock_timeout()
    assert backend.get_mutex("k") is not None
    assert (backend.lock_timeout, backend.life, backend.recheck) == (3.0, 60.0, 0.5)
    assert backend.capabilities.authentic
    client = client_of(backend)
    assert client.concurrency == 3


@pytest.mark.parametrize(
    ("given", "compress_from"),
    [
        ({}, 1024),
        ({"min_compress_len": 0}, 1024),
        ({"min_compress_len": None}, 1024),
        ({"min_compress_len": 10}, 10),
    ],
)
def test_the_least_length_to_compress(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], compress_from: int
) -> None:
    options = noted_options(monkeypatch)
    configured(**given)
    assert options.get("compress_from", 1024) == compress_from


def noted_options(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the client is made with, once it is."""
    options: dict[str, Any] = {}

    class Noting(MemcachedClient):
        def __init__(self, addresses: Any, **given: Any) -> None:
            options.update(given)
            super().__init__(addresses, **given)

    monkeypatch.setattr("tiered.region.backends.memcached.MemcachedClient", Noting)
    return options


def test_the_socket_timeout_is_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    options = noted_options(monkeypatch)
    configured(socket_timeout=3)
    assert options["timeout"] == 3
    configured(socket_timeout=3, timeout=1)
    assert options["timeout"] == 1


def of_regions(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What regions have logged in this thread."""
    return [one for one in of_this_thread(caplog) if one.name.startswith("tiered.region")]


@pytest.mark.parametrize("name", NAMES)
def test_what_means_nothing_here_is_accepted_and_told(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tiered.region")
    configured(name, **IGNORED[name])
    told = of_regions(caplog)
    assert [record.levelname for record in told] == ["DEBUG"] * bool(IGNORED[name])
    for argument in IGNORED[name]:
        assert argument in told[0].getMessage()


def test_a_serde_is_not_passed_over_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    class Json:
        pass

    configured("pymemcache", serde=Json())
    assert "give the region serializer= and deserializer= instead" in caplog.text


def test_the_usual_serde_is(caplog: pytest.LogCaptureFixture) -> None:
    serde = pytest.importorskip("pymemcache.serde")
    configured("pymemcache", serde=serde.pickle_serde)
    configured("pymemcache", serde=None)
    assert not of_regions(caplog)


@pytest.mark.parametrize("name", NAMES)
def test_what_another_class_knows_is_refused(name: str) -> None:
    for other, arguments in IGNORED.items():
        if other != name:
            for argument, value in arguments.items():
                with pytest.raises(ValidationError, match=f"does not know .*{argument}"):
                    configured(name, **{argument: value})


def test_a_program_of_dogpile_cache_may_have_arguments_that_nobody_knows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    configured("dogpile.cache.memcached", whatever=1)
    assert "does not know the argument 'whatever'" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"url": None}, "url must name at least one server"),
        ({"url": ""}, "at least one server"),
        ({"url": 5}, "addresses must be a list"),
        ({"url": "a:b"}, "must be a number"),
        ({"checksum_key": 5}, "checksum_key must be str or bytes"),
        ({"checksum_key": ""}, "checksum_key must not be empty"),
        ({"lock_timeout": -1}, "lock_timeout must be a number of seconds"),
        ({"memcached_expire_time": "soon"}, "memcached_expire_time must be a number of seconds"),
        ({"distributed_lock": "maybe"}, "distributed_lock must be True or False"),
        ({"min_compress_len": "x"}, "compress_from must be"),
        ({"timeout": 0}, "timeout must be a positive"),
        ({"pool_size": 0}, "pool_size"),
        ({"tls_context": 1}, "tls_context must be an ssl.SSLContext"),
        ({"username": "u"}, "go together"),
        ({"compress": "gzip"}, "compress must be one of"),
        ({"serializer": "pickle"}, "does not know the argument 'serializer'"),
        ({"client": None}, "does not know the argument 'client'"),
    ],
)
def test_arguments_that_cannot_be_right(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        configured(**arguments)


def test_a_configuration_of_texts_only() -> None:
    region = make_region().configure_from_config(
        {
            "cache.backend": "dogpile.cache.memcached",
            "cache.expiration_time": "30",
            "cache.arguments.url": "one:11211, two:11212",
            "cache.arguments.checksum_key": " 007 ",
            "cache.arguments.prefix": "1/",
            "cache.arguments.distributed_lock": "true",
            "cache.arguments.lock_timeout": "2.5",
            "cache.arguments.pool_size": "4",
            "cache.arguments.memcached_expire_time": "3600",
            "cache.arguments.username": "1",
            "cache.arguments.password": "1e5",
            "cache.arguments.tls_context": "None",
        },
        "cache.",
    )
    backend = region.backend
    assert isinstance(backend, MemcachedBackend)
    assert [str(one) for one in client_of(backend).addresses] == ["one:11211", "two:11212"]
    assert backend.distributed_lock
    assert (backend.lock_timeout, backend.life) == (2.5, 3600.0)
    assert backend.capabilities.authentic
    assert client_of(backend).concurrency == 4


def test_a_secret_of_digits_stays_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    options = noted_options(monkeypatch)
    settings = {"backend": "memcached", "arguments.url": "a", "arguments.checksum_key": " 007 "}
    make_region().configure_from_config(settings, "")
    assert options["checksum_key"] == "007"
    settings["arguments.checksum_key"] = "None"
    make_region().configure_from_config(settings, "")
    assert "checksum_key" in options  # of the first
    options.clear()
    make_region().configure_from_config(settings, "")
    assert "checksum_key" not in options


def test_settings_may_hold_a_client_and_its_arguments() -> None:
    settings = {"backend": InprocCacheClient(5), "arguments.lock_timeout": "3"}
    backend = make_region().configure_from_config(settings, "").backend
    assert isinstance(backend, ClientBackend)
    assert backend.lock_timeout == 3
    with pytest.raises(ValidationError, match="does not know the argument 'size'"):
        make_region().configure_from_config({**settings, "arguments.size": "3"}, "")


# -- Serialisers -----------------------------------------------------------------------


class Anything:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anything) and other.x == self.x

    def __hash__(self) -> int:
        return self.x


@pytest.mark.parametrize("backend", ["memcached", "a client"])
def test_with_a_secret_values_are_pickled(backend: str) -> None:
    if backend == "a client":
        client = MemcachedClient([URL], serializer="raw", checksum_key="k")
        region = make_region().configure(client)
    else:
        region = make_region().configure(backend, arguments={"url": URL, "checksum_key": "k"})
    assert region.serializer is not None
    assert region.deserializer is not None
    assert region.deserializer(region.serializer(Anything(3))) == Anything(3)


@pytest.mark.parametrize("near", [False, True])
def test_without_one_they_are_json(near: bool) -> None:
    client = MemcachedClient([URL], serializer="raw")
    region = make_region().configure([InprocCacheClient(5), client] if near else client)
    assert region.serializer is not None
    assert region.deserializer is not None
    assert json.loads(region.serializer({"a": [1, None]})) == {"a": [1, None]}
    assert region.deserializer(b'{"a": [1, null]}') == {"a": [1, None]}
    with pytest.raises(Exception, match="with a checksum_key, whatever pickles can be kept"):
        region.serializer((1, 2))


def test_a_client_that_takes_values_gets_them_as_they_are() -> None:
    region = make_region().configure(MemcachedClient([URL], checksum_key="k"))
    assert region.serializer is region.deserializer is None


def test_a_region_may_have_its_own() -> None:
    region = make_region(serializer=str.encode, deserializer=bytes.decode)
    region.configure("memcached", arguments={"url": URL})
    assert region.serializer == str.encode
    assert region.deserializer == bytes.decode


EXECUTING = [
    pickle.loads,
    pickle._loads,  # type: ignore[attr-defined]
    functools.partial(pickle.loads, encoding="bytes"),
    functools.partial(functools.partial(pickle.loads), encoding="bytes"),
]


def checked(data: bytes) -> Any:
    """Of a user who looks at the bytes before he trusts them."""
    return pickle.loads(data)


@pytest.mark.parametrize("deserializer", EXECUTING)
def test_deserializers_that_execute_are_known(deserializer: Any) -> None:
    assert executes(deserializer)


@pytest.mark.parametrize(
    "deserializer", [None, json.loads, checked, lambda data: data, bytes, object()]
)
def test_others_are_the_users_affair(deserializer: Any) -> None:
    assert not executes(deserializer)


def unsigned() -> dict[str, Any]:
    client = MemcachedClient([URL], serializer="raw")
    return {
        "name": "memcached",
        "client": client,
        "tiers": [InprocCacheClient(5), client],
        "tiers of json": [InprocCacheClient(5), MemcachedClient([URL], serializer="json")],
    }


@pytest.mark.parametrize("deserializer", EXECUTING)
@pytest.mark.parametrize("backend", unsigned())
def test_what_anybody_may_write_is_not_executed(backend: str, deserializer: Any) -> None:
    region = make_region(serializer=pickle.dumps, deserializer=deserializer)
    with pytest.raises(ValidationError, match="give a checksum_key"):
        region.configure(
            unsigned()[backend],
            arguments={"url": URL} if backend == "name" else {},
            wrap=[ProxyBackend],
        )
    assert not region.is_configured


def test_what_is_signed_may_be() -> None:
    for backend, arguments in (
        ("memcached", {"url": URL, "checksum_key": "k"}),
        (InprocCacheClient(5), {}),
        (MemcachedClient([URL], serializer="raw", checksum_key="k"), {}),
    ):
        region = make_region(serializer=pickle.dumps, deserializer=pickle.loads)
        assert region.configure(backend, arguments=arguments).is_configured
