"""Addresses of a bus, and what a bus can be made with."""

from __future__ import annotations

import gc
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.opened import Opened
from tiered.coherence import ZmqBroker, ZmqBus
from tiered.coherence.zeromq.addresses import BusAddress, parse_bus_address, parse_bus_addresses
from tiered.coherence.zeromq.bell import Bell
from tiered.coherence.zeromq.inherited import close_copies


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("tcp://10.0.0.1:5555", BusAddress("tcp://10.0.0.1:5555", "10.0.0.1", 5555)),
        ("tcp://cache.example:1", BusAddress("tcp://cache.example:1", "cache.example", 1)),
        ("tcp://[::1]:65535", BusAddress("tcp://[::1]:65535", "::1", 65535)),
        ("ipc:///run/bus", BusAddress("ipc:///run/bus", path="/run/bus")),
        ("ipc://@bus", BusAddress("ipc://@bus", path="@bus")),
    ],
)
def test_addresses_are_parsed(text: str, parsed: BusAddress) -> None:
    assert parse_bus_address(text) == parsed
    assert str(parsed) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.1:5555", "address must be 'tcp://host:port'"),
        ("udp://10.0.0.1:5555", "address must be 'tcp://host:port'"),
        ("tcp:10.0.0.1:5555", "address must be 'tcp://host:port'"),
        ("tcp:///run/bus", "address must be 'tcp://host:port'"),
        ("tcp://10.0.0.1", "has no port"),
        ("tcp://[::1]", "has no port"),
        ("tcp://10.0.0.1:", "has the port ''"),
        ("tcp://10.0.0.1:0", "it must be 1 to 65535"),
        ("tcp://10.0.0.1:65536", "it must be 1 to 65535"),
        ("tcp://:5555", "address must be 'tcp://host:port'"),
        ("tcp://::1:5555", "looks like IPv6"),
        ("tcp://a b:5555", "address must be 'tcp://host:port'"),
        ("tcp://eth0;10.0.0.1:5555", "address must be 'tcp://host:port'"),
        ("tcp://*:5555", "names no machine to connect to"),
        ("tcp://0.0.0.0:5555", "names no machine to connect to"),
        ("tcp://[::]:5555", "names no machine to connect to"),
        ("ipc://relative", "must have an absolute path or an @name"),
        ("ipc://*", "must have an absolute path or an @name"),
        ("ipc://", "must have an absolute path or an @name"),
        ("ipc://@", "must have an absolute path or an @name"),
        ("ipc:///", "is a directory"),
        ("ipc:///run/tiered/", "is a directory"),
        ("ipc:///" + "x" * 107, "has a path of 108 bytes"),
        ("inproc://bus", "address must be 'tcp://host:port'"),
        ("", "address must be 'tcp://host:port'"),
    ],
)
def test_what_is_no_address_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_bus_address(text)


def test_a_broker_of_its_own_may_bind_all_addresses() -> None:
    for text in ("tcp://*:5555", "tcp://0.0.0.0:5555", "tcp://[::]:5555"):
        address = parse_bus_address(text, wildcard=True)
        assert address.is_wildcard
        assert not address.is_private
    ZmqBroker(["tcp://*:5555"], key="secret")


@pytest.mark.parametrize(
    ("addresses", "error", "reason"),
    [
        ("tcp://10.0.0.1:5555", TypeError, "addresses must be a list"),
        (5, TypeError, "addresses must be a list"),
        ([5], TypeError, "address must be 'tcp://host:port'"),
        ([], ValueError, "at least one place for a broker"),
        (["ipc://@a", "ipc://@b", "ipc://@a"], ValueError, "addresses name 'ipc://@a' twice"),
        (["tcp://127.0.0.1:5", "tcp://127.0.0.1:05"], ValueError, "twice"),
    ],
)
def test_lists_of_addresses_are_checked(
    addresses: Any, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        parse_bus_addresses(addresses)
    with pytest.raises(error, match=reason):
        ZmqBus(addresses)


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.5.5.5:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://localhost:1", True),
        ("ipc:///run/bus", True),
        ("ipc://@bus", True),
        ("tcp://10.0.0.1:1", False),
        ("tcp://[fe80::1]:1", False),
        ("tcp://localhost.example:1", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(text: str, private: bool) -> None:
    assert parse_bus_address(text).is_private is private


def test_files_are_locked_and_other_addresses_lock_themselves() -> None:
    assert parse_bus_address("ipc:///run/bus").lock_path == "/run/bus.lock"
    assert parse_bus_address("ipc://@bus").lock_path is None
    assert parse_bus_address("tcp://10.0.0.1:1").lock_path is None


@pytest.mark.parametrize(
    ("found", "endpoint"),
    [
        ({socket.AF_INET: "10.1.2.3"}, ("tcp://10.1.2.3:5555", False)),
        ({socket.AF_INET: "10.1.2.3", socket.AF_INET6: "fd00::1"}, ("tcp://10.1.2.3:5555", False)),
        ({socket.AF_INET6: "fd00::1"}, ("tcp://[fd00::1]:5555", True)),
    ],
)
def test_a_name_is_asked_for_ipv4_first(
    found: dict[int, str], endpoint: tuple[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolved(host: str, port: int, family: int, kind: int) -> Any:
        assert (host, port, kind) == ("cache.example", 5555, socket.SOCK_STREAM)
        if family not in found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(family, kind, 6, "", (found[family], port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    assert parse_bus_address("tcp://cache.example:5555").located() == endpoint


def test_addresses_that_are_no_names_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    for text, ipv6 in [
        ("tcp://10.0.0.1:1", False),
        ("tcp://[::1]:1", True),
        ("ipc:///run/bus", False),
        ("ipc://@bus", False),
    ]:
        assert parse_bus_address(text).located() == (text, ipv6)
    assert parse_bus_address("tcp://*:1", wildcard=True).located() == ("tcp://*:1", False)


def test_making_a_bus_does_nothing(tmp_path: Path) -> None:
    opened = Opened()
    address = f"ipc://{tmp_path}/bus"
    bus, broker = ZmqBus([address]), ZmqBroker([address])
    assert not opened.descriptors
    assert not opened.threads
    assert os.listdir(tmp_path) == []
    assert bus.stats.role == broker.stats.role == "detached"
    assert bus.sole
    assert not ZmqBus([address, "ipc://@other"]).sole
    assert repr(bus) == f"<ZmqBus at {address}: detached>"
    broker.stop()
    broker.run()  # is told to stop already


@pytest.mark.parametrize("detection", [0, -1.0, float("nan"), "1"])
def test_a_detection_time_is_a_time(detection: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"detection must be 0\.01 s or more"):
        ZmqBus(["ipc://@never"], detection=detection)
    with pytest.raises((TypeError, ValueError), match=r"detection must be 0\.01 s or more"):
        ZmqBroker(["ipc://@never"], detection=detection)


def test_a_bell_rings_until_it_is_cleared() -> None:
    bell = Bell()
    bell.clear()
    bell.ring()
    bell.ring()
    assert os.eventfd_read(bell.descriptor) == 2
    descriptor = bell.descriptor
    del bell
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_copies_of_what_was_bound_are_closed_and_nothing_else(tmp_path: Path) -> None:
    """As in a forked child, on copies that ``dup`` makes."""
    path = f"{tmp_path}/bus"
    tcp = socket.create_server(("127.0.0.1", 0))
    other = socket.create_server(("127.0.0.1", 0))
    local = socket.socket(socket.AF_UNIX)
    local.bind(path)
    local.listen()
    name = f"tiered-test-{os.getpid()}"
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{name}")
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(tcp.getsockname())
    client = socket.create_connection(tcp.getsockname())
    accepted, _ = tcp.accept()
    port = tcp.getsockname()[1]
    bound = []
    for text in (f"tcp://127.0.0.1:{port}", f"ipc://{path}", f"ipc://@{name}"):
        address = parse_bus_address(text)
        bound.append((address, *address.located()))
    with other, client, datagrams:
        close_copies([])
        assert all(_is_open(one) for one in (tcp, local, abstract, accepted))
        close_copies(bound)
        assert not any(_is_open(one) for one in (tcp, local, abstract, accepted))
        assert all(_is_open(one) for one in (other, client, datagrams))
    for one in (tcp, local, abstract, accepted):
        one.detach()


def test_copies_of_what_was_bound_everywhere_are_closed() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    address = parse_bus_address(f"tcp://*:{server.getsockname()[1]}", wildcard=True)
    close_copies([(address, *address.located())])
    assert not _is_open(server)
    server.detach()


def _is_open(one: socket.socket) -> bool:
    try:
        os.fstat(one.fileno())
    except OSError:
        return False
    return True
