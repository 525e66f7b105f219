"""A cache decorator built on the dogpile lock, as its users write it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.fakes import together
from tiered import MemcachedClient
from tiered.cli.demo.server import PrivateMemcached
from tiered.dogpile import (
    Dogpile,
    FileMutex,
    Lock,
    MemcachedMutex,
    NeedRegenerationException,
    ThreadMutex,
)

Mutex = Callable[[str], Any]


@pytest.fixture
def client(memcached: PrivateMemcached) -> Iterator[MemcachedClient]:
    with MemcachedClient(
        [memcached.address], checksum_key=SECRET, prefix=unique_prefix()
    ) as client:
        yield client


def in_file(key: str) -> FileMutex:
    folder = Path(tempfile.gettempdir())
    return FileMutex(folder / f"{sha1(key.encode()).hexdigest()}.lock")


@pytest.mark.parametrize("kind", ["thread", "file", "memcached"])
def test_a_decorator_on_the_lock(client: MemcachedClient, kind: str) -> None:
    shared = ThreadMutex()
    key = unique_prefix()
    mutexes: dict[str, Mutex] = {
        "thread": lambda key: shared,
        "file": in_file,  # an ad-hoc one for each use: the file is what they share
        "memcached": lambda key: MemcachedMutex(client, key, ttl=30),
    }

    def cached(key: str, expiration_time: float) -> Callable[[Callable[[], Any]], Any]:
        def get_value() -> tuple[Any, float]:
            value_plus_time = client.get(key, None)
            if value_plus_time is None:
                raise NeedRegenerationException
            found: tuple[Any, float] = value_plus_time
            return found

        def decorate(fn: Callable[[], Any]) -> Callable[[], Any]:
            def gen_cached() -> tuple[Any, float]:
                value_plus_time = (fn(), time.time())
                client.put(key, value_plus_time, 3600)
                return value_plus_time

            def invoke() -> Any:
                mutex = mutexes[kind](key)
                with Lock(mutex, gen_cached, get_value, expiration_time) as value:
                    return value

            return invoke

        return decorate

    lookups: list[int] = []

    @cached(key, 3600)
    def generate_my_expensive_value() -> str:
        lookups.append(1)
        time.sleep(0.02)
        return "stuff"

    assert together(lambda _: generate_my_expensive_value(), 16) == ["stuff"] * 16
    assert lookups == [1]
    client.delete(key)  # values can disappear at any time
    assert generate_my_expensive_value() == "stuff"
    assert lookups == [1, 1]
    if kind == "file":
        Path(in_file(key).path).unlink()


def test_the_resource_of_dogpile_core() -> None:
    the_resource: list[Any] = [None]
    created: list[int] = []

    def some_creation_function() -> None:
        created.append(1)
        the_resource[0] = object()

    dogpile = Dogpile(3600)

    def use(_: int) -> Any:
        with dogpile.acquire(some_creation_function):
            return the_resource[0]

    resources = together(use, 16)
    assert len(set(map(id, resources))) == 1
    assert resources[0] is not None
    assert created == [1]
