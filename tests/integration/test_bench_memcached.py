"""The benchmark of memcached clients: each client does what it is timed for.

As when it is run, its sections have a process of their own, which closes what they open.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from typing import Any

import pytest

from bench import memcached as bench
from bench.goals import judge
from bench.remotes import compressing, remotes
from bench.sections import Measured
from bench.servers import Exchange
from tests.integration.peers import Raw
from tiered.cli.demo.server import PrivateMemcached

Apart = Callable[..., Any]


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    """Calls a function in another process."""
    # With the patience that clients have in tests.
    with ProcessPoolExecutor(
        1, get_context("spawn"), initializer=import_module, initargs=("tests.conftest",)
    ) as process:
        yield lambda *call: process.submit(*call).result(120)


@pytest.fixture
def addresses(memcached: PrivateMemcached, second_memcached: PrivateMemcached) -> list[str]:
    return [memcached.address, second_memcached.address]


def test_an_answer_is_read_to_its_end() -> None:
    near, far = socket.socketpair()
    exchange = Exchange.__new__(Exchange)
    exchange._socket = near

    def answer() -> None:
        assert far.recv(100) == b"mg k v\r\n"
        for piece in (b"VA 4\r\n", b"da", b"ta\r", b"\n"):
            far.sendall(piece)

    peer = threading.Thread(target=answer)
    peer.start()
    with near, far:
        assert exchange.ask(b"mg k v\r\n", b"data\r\n") == b"VA 4\r\ndata\r\n"
        peer.join()


def _measure(addresses: Sequence[str]) -> dict[str, Measured]:
    bench.CALLS = bench.CALLS_OF_LARGE = bench.CALLS_OF_MANY = 2
    bench.LOOKUPS = 10
    return {title: section(1) for title, section in bench.sections(addresses).items()}


def test_every_section_has_our_clients_and_every_goal_is_judged(
    apart: Apart, addresses: list[str]
) -> None:
    measured = apart(_measure, addresses)
    for title, section in measured.items():
        names = [result.name for result in section.results]
        assert names[0] == section.baseline
        assert len(set(names)) == len(names)
        ours = "tiered HashRing.node" if title == bench.RING else bench.SIGNED
        assert ours in names
    assert len(judge(bench.GOALS, measured)) == len(bench.GOALS)


def _read_back(made: bench.Made, addresses: Sequence[str]) -> None:
    for place, remote in enumerate(made(addresses)):
        remote.put(f"one{place}", bench.LARGE)
        assert remote.get(f"one{place}") == bench.LARGE, remote.name
        values = {f"many{place}/{number}": b"%d" % number for number in range(5)}
        if remote.put_many is not None and remote.get_many is not None:
            remote.put_many(values)
            found = remote.get_many(list(values)).values()
            assert sorted(found) == sorted(values.values()), remote.name


@pytest.mark.parametrize("made", [remotes, compressing])
@pytest.mark.parametrize("servers", [1, 2])
def test_each_client_reads_what_it_wrote(
    apart: Apart, addresses: list[str], made: bench.Made, servers: int
) -> None:
    apart(_read_back, made, addresses[:servers])


def _sizes(address: str) -> dict[str, int]:
    """The bytes that the server receives for a large value, by client."""
    sizes = {}
    with Raw(address) as raw:
        for remote in compressing([address]):
            before = raw.figure("bytes_read")
            remote.put("large", bench.LARGE)
            sizes[remote.name] = raw.figure("bytes_read") - before
    return sizes


def test_who_says_so_compresses_and_nobody_else(apart: Apart, addresses: list[str]) -> None:
    sizes = apart(_sizes, addresses[0])
    assert {name for name, size in sizes.items() if size < len(bench.LARGE)} == {
        name for name in sizes if name.endswith("compressed")
    }


def _asked(addresses: Sequence[str]) -> list[list[str]]:
    return [keys for _, keys in bench.shared_out(addresses)]


def _answered(addresses: Sequence[str]) -> list[bytes]:
    return [b"".join(one.call(0)) for one in bench.many_getters(addresses)[:2]]


def test_bare_sockets_ask_for_every_key_once(apart: Apart, addresses: list[str]) -> None:
    asked = apart(_asked, addresses)
    assert len(asked) == len(addresses)
    assert sorted(key for keys in asked for key in keys) == sorted(bench.OWN)
    for answer in apart(_answered, addresses):
        assert answer.count(bench.SMALL) == bench.COUNT


def test_keys_are_asked_for_in_turn() -> None:
    assert bench.requests(bench.COUNT + 2)[-3:] == [bench.COUNT - 1, 0, 1]
    texts: list[str] = []
    bench._over(["a", "b", "c"])(texts.append, [b"1", b"2"])
    assert texts == ["a", "b"]
    assert bench.ring_keys(3) == [b"shop/s:product/%d" % n for n in range(3)]
