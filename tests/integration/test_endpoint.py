"""A configuration endpoint on a real socket: whole answers in any pieces, and nothing else."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ports import kept_port
from tiered.errors import DiscoveryError
from tiered.routing import endpoint
from tiered.routing.addresses import Address, parse_address
from tiered.routing.elasticache import MAX_REPLY, ElastiCacheDiscovery, parse_configuration
from tiered.routing.endpoint import ask_configuration

DATA = b"12\na.example|10.0.0.1|11211 b.example||11211\n"
BODY = b" 0 %d\r\n" % len(DATA) + DATA + b"\r\nEND\r\n"
NEW = {b"version\r\n": b"VERSION 1.6.12\r\n", b"config get cluster\r\n": b"CONFIG cluster" + BODY}
OLD = {
    b"version\r\n": b"VERSION 1.4.5\r\n",
    b"get AmazonElastiCache:cluster\r\n": b"VALUE AmazonElastiCache:cluster" + BODY,
}

Sender = Callable[[socket.socket, bytes], object]


class Endpoint:
    """Answers lines by *answers*, an unknown one with ``ERROR``; ``send`` has the last word.

    It ends the connection when *send* returns ``False``.
    """

    def __init__(
        self,
        answers: dict[bytes, bytes],
        send: Sender = socket.socket.sendall,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answers = answers
        self.send = send
        self.tls = tls
        self.asked: list[bytes] = []
        self.closed = threading.Semaphore(0)
        """Released when the client has closed a connection, or one has ended here."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def address(self) -> Address:
        host, port = self._listener.getsockname()[:2]
        return Address(host, port)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a connection was left open"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        with plain as connection:
            try:
                if self.tls is not None:
                    connection = self.tls.wrap_socket(plain, server_side=True)
                with connection, connection.makefile("rb") as lines:
                    for line in lines:
                        self.asked.append(line)
                        answer = self.answers.get(line, b"ERROR\r\n")
                        if self.send(connection, answer) is False:
                            return
            except OSError:
                pass
            finally:
                self.closed.release()


def ask(where: Endpoint | Address, timeout: float = 10.0, **options: Any) -> bytes:
    address = where.address if isinstance(where, Endpoint) else where
    options = {"connect_timeout": 10.0, **options}
    return ask_configuration(address, timeout=timeout, **options)


def in_pieces(size: int) -> Sender:
    def send(connection: socket.socket, answer: bytes) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        for start in range(0, len(answer), size):
            connection.sendall(answer[start : start + size])

    return send


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Address]]:
    """What names stand for; without it, what they do on this machine."""
    known: dict[str, list[Address]] = {}

    def getaddrinfo(host: str, port: int, **_options: Any) -> Any:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (one.host, one.port)) for one in known[host]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


# -- Both forms ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "command"),
    [
        (b"1.4.13", b"get AmazonElastiCache:cluster"),
        (b"1.4.5", b"get AmazonElastiCache:cluster"),
        (b"0.99.99", b"get AmazonElastiCache:cluster"),
        (b"1.4.14", b"config get cluster"),
        (b"1.4.24", b"config get cluster"),
        (b"1.5.0", b"config get cluster"),
        (b"1.6.12-rc1", b"config get cluster"),
        (b"10.0.0", b"config get cluster"),
    ],
)
def test_the_version_decides_what_is_asked(version: bytes, command: bytes) -> None:
    answers = {**OLD, **NEW, b"version\r\n": b"VERSION " + version + b"\r\n"}
    with Endpoint(answers) as peer:
        reply = ask(peer)
        assert peer.asked == [b"version\r\n", command + b"\r\n"]
    assert reply == answers[command + b"\r\n"]
    assert parse_configuration(reply)[0] == 12


@pytest.mark.parametrize("answers", [NEW, OLD], ids=["config get", "get"])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_an_answer_may_come_in_any_pieces(answers: dict[bytes, bytes], size: int) -> None:
    with Endpoint(answers, in_pieces(size)) as peer:
        assert parse_configuration(ask(peer))[0] == 12


def test_a_large_configuration_is_read_whole() -> None:
    nodes = b" ".join(b"node%d.%s.example|10.0.0.1|11211" % (n, b"x" * 200) for n in range(3000))
    data = b"7\n" + nodes + b"\n"
    answer = b"CONFIG cluster 0 %d\r\n" % len(data) + data + b"\r\nEND\r\n"
    with Endpoint({**NEW, b"config get cluster\r\n": answer}, in_pieces(5000)) as peer:
        assert len(parse_configuration(ask(peer))[1]) == 3000


def test_a_discovery_asks_it() -> None:
    with Endpoint(NEW) as peer:
        found = ElastiCacheDiscovery(lambda: ask(peer)).find()
    assert [str(address) for address in found.addresses] == ["a.example:11211", "b.example:11211"]


def test_what_comes_after_the_answer_is_not_part_of_it() -> None:
    answer = NEW[b"config get cluster\r\n"]
    with Endpoint({**NEW, b"config get cluster\r\n": answer + b"more"}) as peer:
        assert ask(peer) == answer


# -- No answer -------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [NEW, OLD], ids=["config get", "get"])
def test_an_answer_that_is_cut_anywhere_is_a_failure(answers: dict[bytes, bytes]) -> None:
    for question, answer in answers.items():
        for end in range(len(answer)):

            def send(
                connection: socket.socket,
                said: bytes,
                whole: bytes = answer,
                cut: bytes = answer[:end],
            ) -> bool:
                connection.sendall(cut if said == whole else said)
                return said != whole

            with Endpoint(answers, send) as peer:
                with pytest.raises(DiscoveryError, match=r"gives no configuration: 127\.0\.0\.1: "):
                    ask(peer)
                assert peer.asked[-1] == question


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        (b"version", b"ERROR\r\n", "it answers b'ERROR' when asked for its version"),
        (b"version", b"CLIENT_ERROR unauthenticated\r\n", "b'CLIENT_ERROR unauthenticated'"),
        (b"version", b"VERSION new\r\n", "b'VERSION new'"),
        (b"version", b"VERSION 1.6.1\r\nVERSION 1.6.1\r\n", "more than a line"),
        (b"version", b"VERSION 1.6.1\r\nX", "more than a line"),
        (b"version", b"\x16\x03\x01" * 100, "more than a line"),
        (b"version", b"\r\n", "when asked for its version"),
        (b"config get cluster", b"ERROR\r\n", "no configuration of a cluster: b'ERROR"),
        (b"config get cluster", b"END\r\n", "no configuration of a cluster: b'END"),
        (b"config get cluster", b"SERVER_ERROR busy\r\n", "b'SERVER_ERROR busy"),
        (b"config get cluster", b"CLIENT_ERROR unauthenticated\r\n", "unauthenticated"),
        (b"config get cluster", b"x" * 100, "no configuration of a cluster: b'xxx"),
        (b"config get cluster", b"CONFIG cluster 0 -1\r\n", "no configuration"),
        (b"config get cluster", b"CONFIG cluster 0 9999999\r\n", f"{MAX_REPLY} may be"),
        (b"config get cluster", b"CONFIG cluster 0 %d\r\n" % (MAX_REPLY - 20), "may be"),
    ],
)
def test_what_is_no_answer_is_a_failure_at_once(
    question: bytes, answer: bytes, message: str
) -> None:
    with Endpoint({**NEW, question + b"\r\n": answer}) as peer:
        with pytest.raises(DiscoveryError) as caught:
            ask(peer, timeout=60.0)
        assert message in str(caught.value)
        assert peer.closed.acquire(timeout=10)


def test_an_endpoint_that_never_stops_is_not_listened_to_for_ever() -> None:
    def flood(connection: socket.socket, _answer: bytes) -> None:
        while True:
            connection.sendall(b"x" * 10_000)

    with Endpoint(NEW, flood) as peer, pytest.raises(DiscoveryError, match="more than a line"):
        ask(peer, timeout=60.0)


def drip(connection: socket.socket, answer: bytes) -> None:
    for byte in answer:
        connection.sendall(bytes([byte]))
        time.sleep(0.1)


def silent(_connection: socket.socket, _answer: bytes) -> None:
    return


@pytest.mark.parametrize("send", [drip, silent])
def test_an_answer_that_does_not_come_in_time_is_a_failure(send: Sender) -> None:
    with Endpoint(NEW, send) as peer:
        began = time.monotonic()
        with pytest.raises(DiscoveryError, match="the time is over"):
            ask(peer, timeout=0.3)
        assert time.monotonic() - began < 5.0  # the drips are over after 9.5 s
        assert peer.closed.acquire(timeout=10)


def test_an_interrupt_closes_the_connection() -> None:
    with Endpoint(NEW) as peer:

        def interrupted(_reply: bytes) -> int:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(endpoint, "expected_length", interrupted)
            with pytest.raises(KeyboardInterrupt):
                ask(peer)
        assert peer.closed.acquire(timeout=10)


# -- Addresses -------------------------------------------------------------------------


def test_all_addresses_of_a_name_are_tried(names: dict[str, list[Address]]) -> None:
    with (
        kept_port() as deaf,
        Endpoint({}) as useless,
        Endpoint(NEW, silent) as hangs,
        Endpoint(NEW) as peer,
    ):
        gone = Address("127.0.0.1", deaf)
        names["config.example"] = [gone, useless.address, hangs.address, peer.address]
        # Those that answer have as long as the one that does not.
        reply = ask(Address("config.example", 11211), timeout=3.0)
        assert parse_configuration(reply)[0] == 12
        names["config.example"].pop()
        with pytest.raises(DiscoveryError) as caught:
            ask(Address("config.example", 11211), timeout=3.0)
    text = str(caught.value)
    assert text.startswith("the endpoint config.example:11211 gives no configuration: ")
    for part in ("Connection refused", "b'ERROR'", "the time is over"):
        assert part in text


def test_a_name_without_addresses_is_a_failure(names: dict[str, list[Address]]) -> None:
    with pytest.raises(
        DiscoveryError, match=r"config\.example:11211 has no addresses: .*not known"
    ):
        ask(Address("config.example", 11211))


def test_an_address_that_does_not_answer_a_connect_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        full = Address("127.0.0.1", listener.getsockname()[1])
        waiting = []
        try:
            for _ in range(3):  # its backlog is full then, and no more connects are answered
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex((full.host, full.port))
                waiting.append(one)
            began = time.monotonic()
            with pytest.raises(DiscoveryError, match="the time is over"):
                ask(full, connect_timeout=0.2)
            assert time.monotonic() - began < 5
        finally:
            for one in waiting:
                one.close()


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Endpoint(NEW, host="::1") as peer:
        assert parse_configuration(ask(peer))[0] == 12


@pytest.mark.parametrize(
    ("where", "options"),
    [
        ("/run/memcached.sock", {}),
        ("localhost", {"timeout": 0}),
        ("localhost", {"timeout": float("nan")}),
        ("localhost", {"connect_timeout": -1}),
        ("localhost", {"connect_timeout": "1"}),
    ],
)
def test_what_can_never_be_right_is_refused(where: str, options: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^(address|timeout|connect_timeout) must"):
        ask(parse_address(where), **options)


# -- TLS -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost and its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    try:
        made = subprocess.run(
            [*command, *subject, "-keyout", "-", "-out", "-"], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl makes no certificate here")
    path.write_bytes(made.stdout)
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_tls(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize("size", [1, 1000])
def test_over_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, size: int) -> None:
    with Endpoint(NEW, in_pieces(size), tls=server_tls) as peer:
        address = Address("localhost", peer.address.port)
        assert parse_configuration(ask(address, tls_context=client_tls))[0] == 12


def test_a_certificate_for_another_name_is_a_failure(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    with Endpoint(NEW, tls=server_tls) as peer:
        with pytest.raises(DiscoveryError, match="certificate"):
            ask(peer, tls_context=client_tls)
        with pytest.raises(DiscoveryError, match="certificate"):
            ask(Address("localhost", peer.address.port), tls_context=ssl.create_default_context())
        assert not peer.asked


def test_a_handshake_that_is_not_answered_is_given_up(client_tls: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        with pytest.raises(DiscoveryError, match="the time is over"):
            ask(
                Address("127.0.0.1", listener.getsockname()[1]),
                tls_context=client_tls,
                connect_timeout=0.2,
            )
        assert time.monotonic() - began < 5


def test_plain_text_where_tls_is_wanted_is_a_failure(client_tls: ssl.SSLContext) -> None:
    with Endpoint({}) as peer, pytest.raises(DiscoveryError, match=r"SSL|closed|time"):
        ask(peer, tls_context=client_tls, connect_timeout=1.0)
