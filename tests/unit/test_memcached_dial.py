"""Opening connections: every address of a name, in the time there is; IPv6, sockets, TLS, users."""

from __future__ import annotations

import os
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.integration.peers import Peer
from tests.ports import kept_port
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.memcached import MemcachedClient
from tiered.clients.memcached import dial as module
from tiered.clients.memcached.dial import Dialer, Terms, has_something_to_say
from tiered.errors import NoServersError
from tiered.routing.addresses import Address, parse_address
from tiered.testing import ManualClock

Resolve = Callable[..., None]

HASTE = Terms(20.0, 20.0)
"""On a clock that is moved by hand; but a name is waited for in real time."""


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Makes the name "cache.test" stand for such IP addresses."""
    real = socket.getaddrinfo

    def named(*addresses: str) -> None:
        def getaddrinfo(host: str, *args: Any, **options: Any) -> list[Any]:
            hosts = addresses if host == "cache.test" else (host,)
            return [found for one in hosts for found in real(one, *args, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return named


def dialed(address: str | Address, **options: Any) -> socket.socket:
    return Dialer(parse_address(address), Terms(20, 20, **options)).dial()


@pytest.fixture
def closed_port() -> Iterator[int]:
    with kept_port() as port:
        yield port


# -- Addresses ----------------------------------------------------------------------------


def test_a_connection_is_without_delay_and_kept_alive() -> None:
    with Peer() as peer, dialed(peer.address) as connected:
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connected.gettimeout() == 20


def test_the_next_address_of_a_name_is_tried_when_one_refuses(resolve: Resolve) -> None:
    with Peer() as peer:
        resolve("127.0.0.2", "127.0.0.1")
        with dialed(f"cache.test:{peer.port}") as connected:
            assert connected.getpeername()[0] == "127.0.0.1"


@pytest.mark.parametrize("silent", ["127.0.0.1", "127.0.0.2"])
def test_a_refusal_is_told_only_if_all_refuse(
    resolve: Resolve, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    monkeypatch.setattr(module, "SYSTEM_CLOCK", clock)
    resolve("127.0.0.1", "127.0.0.2")

    def connected(_self: Dialer, where: Any, left: float) -> Any:
        if where[0] == silent:
            clock.advance(left)
            raise TimeoutError("timed out")
        raise ConnectionRefusedError

    monkeypatch.setattr(Dialer, "_connected", connected)
    with pytest.raises(TimeoutError):
        Dialer(Address("cache.test", 1), HASTE).dial()


def test_who_refuses_last_is_told_when_all_do(resolve: Resolve, closed_port: int) -> None:
    resolve("127.0.0.2", "127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        dialed(f"cache.test:{closed_port}")


@pytest.mark.parametrize("count", [2, 3, 8])
def test_an_address_that_does_not_answer_leaves_time_for_the_others(
    resolve: Resolve, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(module, "SYSTEM_CLOCK", clock)
    resolve(*(f"127.0.0.{number}" for number in range(1, count + 1)))
    tried: list[Any] = []

    def connected(_self: Dialer, where: Any, left: float) -> Any:
        tried.append(where[0])
        if where[0] != f"127.0.0.{count}":
            clock.advance(left)
            raise TimeoutError("timed out")
        assert left > HASTE.connect_timeout / 10
        return "the socket"

    monkeypatch.setattr(Dialer, "_connected", connected)
    began = clock.monotonic()
    found: Any = Dialer(Address("cache.test", 1), HASTE).dial()
    assert found == "the socket"
    assert len(tried) == count
    assert clock.monotonic() - began < HASTE.connect_timeout


def test_all_addresses_together_have_the_time_of_one(
    resolve: Resolve, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SYSTEM_CLOCK", clock)
    resolve("127.0.0.1", "127.0.0.2", "127.0.0.3")

    def connected(_self: Dialer, _where: Any, left: float) -> Any:
        clock.advance(left)
        raise TimeoutError("timed out")

    monkeypatch.setattr(Dialer, "_connected", connected)
    began = clock.monotonic()
    with pytest.raises(TimeoutError):
        Dialer(Address("cache.test", 1), HASTE).dial()
    assert clock.monotonic() - began == pytest.approx(HASTE.connect_timeout)


def test_a_resolver_that_takes_too_long_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go = threading.Event()

    def slow(*_: object, **__: object) -> list[Any]:
        assert go.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(TimeoutError, match=r"'cache\.test' was not resolved in time"):
        Dialer(Address("cache.test", 1), Terms(0.01, 1.0)).dial()
    go.set()
    for thread in threading.enumerate():
        if thread.name == "tiered-resolver":
            thread.join(10)


def test_a_name_that_no_thread_can_be_had_for_is_an_os_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    with pytest.raises(OSError, match="can't start new thread"):
        dialed(Address("cache.test", 1))


@pytest.mark.parametrize("host", ["x" * 70, "a..b"])
def test_a_name_that_cannot_be_one_is_an_os_error(host: str) -> None:
    with pytest.raises(OSError, match=r"label|resol|known|failure"):
        dialed(Address(host, 1))


def test_ipv6() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Peer(listener=listener) as peer:
        assert peer.address.startswith("[::1]:")
        with MemcachedClient([peer.address], checksum_key=SECRET, timeout=5) as client:
            assert client.put("k", "v", 100)
            assert client.get("k") == "v"


def test_a_unix_socket(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # tmp_path may be longer than such names are
        path = os.path.join(folder, "m.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        with (
            Peer(listener=listener) as peer,
            MemcachedClient([path], checksum_key=SECRET, timeout=5) as client,
        ):
            assert peer.address == path
            assert client.put("k", "v", 100)
            assert client.get("k") == "v"
        with (
            MemcachedClient([path], checksum_key=SECRET, strict=True) as client,
            pytest.raises(NoServersError, match="cannot be reached"),
        ):
            client.get("k")


# -- TLS ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The files of a certificate for "cache.test", and of its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    made, key = str(folder / "made.pem"), str(folder / "key.pem")
    wanted = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=cache.test"
    wanted += " -addext subjectAltName=DNS:cache.test"
    command = [openssl, *wanted.split(), "-keyout", key, "-out", made]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@pytest.fixture
def tls_peer(certificate: tuple[str, str]) -> Iterator[Peer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Peer(tls=context) as peer:
        yield peer


@pytest.fixture
def trusting(certificate: tuple[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])


def test_tls_expects_the_name_that_was_configured_whatever_address_it_has(
    tls_peer: Peer, trusting: ssl.SSLContext, resolve: Resolve
) -> None:
    resolve("127.0.0.1")
    with MemcachedClient(
        [f"cache.test:{tls_peer.port}"],
        checksum_key=SECRET,
        tls_context=trusting,
        connect_timeout=10,
        timeout=10,
    ) as client:
        assert client.put("k", "v" * 100_000, 100)
        assert client.get("k") == "v" * 100_000
        assert tls_peer.accepted == 1


def test_tls_refuses_another_name(
    tls_peer: Peer, trusting: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    with MemcachedClient(
        [tls_peer.address], checksum_key=SECRET, tls_context=trusting, connect_timeout=10
    ) as client:
        assert client.get("k", "miss") == "miss"
        assert "certificate" in caplog.text.lower()
    assert not tls_peer.requests


def test_a_server_without_tls_is_a_failure_within_the_time(trusting: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with MemcachedClient(
            [address], checksum_key=SECRET, tls_context=trusting, connect_timeout=0.05
        ) as client:
            assert client.get("k", "miss") == "miss"
            assert client.stats.errors == 1


@pytest.fixture
def tls_pair(
    certificate: tuple[str, str], trusting: ssl.SSLContext
) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Both ends of a connection; the tickets of the session wait at the first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = socket.create_connection(listener.getsockname(), 10)
        accepted, _ = listener.accept()
    ends: list[ssl.SSLSocket] = []
    server = threading.Thread(
        target=lambda: ends.append(context.wrap_socket(accepted, server_side=True))
    )
    server.start()
    with trusting.wrap_socket(plain, server_hostname="cache.test") as ours:
        server.join(10)
        with ends[0] as theirs:
            yield ours, theirs


def watched(connected: socket.socket) -> select.poll:
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return poll


def says_something(connected: socket.socket, poll: select.poll) -> bool:
    """Whether it does in the end; what comes first may be a ticket."""
    ends = time.monotonic() + 20
    while time.monotonic() < ends and poll.poll(10_000):
        if has_something_to_say(connected, poll):
            return True
    return False


def test_a_session_ticket_on_an_idle_connection_is_no_word(
    tls_pair: tuple[ssl.SSLSocket, ssl.SSLSocket],
) -> None:
    ours, theirs = tls_pair
    poll = watched(ours)
    if theirs.version() == "TLSv1.3":
        assert poll.poll(10_000)  # the ticket
    assert not has_something_to_say(ours, poll)
    assert ours.gettimeout() == 10
    theirs.sendall(b"MN\r\n")
    assert ours.recv(10) == b"MN\r\n"
    assert not has_something_to_say(ours, poll)


def test_a_word_on_an_idle_tls_connection_is_one(
    tls_pair: tuple[ssl.SSLSocket, ssl.SSLSocket],
) -> None:
    ours, theirs = tls_pair
    poll = watched(ours)
    assert not has_something_to_say(ours, poll)
    theirs.sendall(b"STORED\r\n")
    assert says_something(ours, poll)


def test_the_end_of_an_idle_tls_connection_is_one(
    tls_pair: tuple[ssl.SSLSocket, ssl.SSLSocket],
) -> None:
    ours, theirs = tls_pair
    poll = watched(ours)
    assert not has_something_to_say(ours, poll)
    theirs.close()
    assert says_something(ours, poll)


# -- Users --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded() -> Iterator[PrivateMemcached]:
    """A real server that wants to know who asks."""
    if not PrivateMemcached.installed():
        pytest.skip("memcached is not installed")
    folder = tempfile.mkdtemp()
    try:
        Path(folder).chmod(0o755)  # the server reads it as another user
        users = Path(folder, "users")
        users.write_text("me:right\n")
        try:
            server = PrivateMemcached(options=("-Y", str(users))).start()
        except OSError:
            pytest.skip("this memcached knows no -Y")
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder)


def test_who_says_who_he_is_is_served(guarded: PrivateMemcached) -> None:
    with MemcachedClient(
        [guarded.address],
        checksum_key=SECRET,
        prefix=unique_prefix(),
        username="me",
        password="right",
    ) as client:
        assert client.put("k", "v", 100)
        assert client.get("k") == "v"
        assert client.get_multi(["k", "l"], None) == {"k": "v", "l": None}
        assert client.stats.errors == 0


@pytest.mark.parametrize(
    ("credentials", "told"),
    [
        ({"username": "me", "password": "wrong"}, "does not accept the user and password"),
        ({"username": "you", "password": "right"}, "does not accept the user and password"),
        ({}, "wants a user and password"),
    ],
)
def test_who_does_not_is_not(
    guarded: PrivateMemcached,
    caplog: pytest.LogCaptureFixture,
    credentials: dict[str, str],
    told: str,
) -> None:
    with MemcachedClient([guarded.address], checksum_key=SECRET, **credentials) as client:  # type: ignore[arg-type]
        assert client.get("k", "miss") == "miss"
        assert not client.put("k", "v", 100)
        assert client.stats.errors == 2
    # Others may be of threads that earlier tests have left.
    lines = [line for line in caplog.messages if guarded.address in line]
    assert any(told in line for line in lines)
    assert not any("wrong" in line for line in lines)
