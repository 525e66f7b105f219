"""The memcached client against a real server, and against peers that misbehave."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.fakes import together
from tests.opened import Opened
from tests.ports import free_port, kept_port
from tests.scripted import ScriptedPeer
from tiered import NoServersError, cached
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.memcached.server import Server
from tiered.clients.tiered import TieredInclusiveClient
from tiered.errors import KeyEncodingError, UnserializableValue
from tiered.sentinels import FOREVER
from tiered.testing import ManualClock


class Raw:
    """A plain connection, to do to a server what no client of ours does."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), 5)
        self._file = self._socket.makefile("rb")

    def get(self, key: str) -> bytes | None:
        self._socket.sendall(f"get {key}\r\n".encode())
        line = self._file.readline()
        if line == b"END\r\n":
            return None
        data = self._file.read(int(line.split()[3]))
        self._file.read(2)
        assert self._file.readline() == b"END\r\n"
        return data

    def set(self, key: str, data: bytes) -> None:
        self._socket.sendall(f"set {key} 0 0 {len(data)}\r\n".encode() + data + b"\r\n")
        assert self._file.readline() == b"STORED\r\n"

    def delete(self, key: str) -> None:
        self._socket.sendall(f"delete {key}\r\n".encode())
        assert self._file.readline() == b"DELETED\r\n"

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def raw(memcached: PrivateMemcached) -> Iterator[Raw]:
    raw = Raw(memcached.address)
    yield raw
    raw.close()


def wire(client: MemcachedClient, key: Any) -> str:
    return str(dict(client.explain(key).detail)["wire_key"])


executed: list[str] = []


def explode() -> None:
    executed.append("boom")


class Bomb:
    def __reduce__(self) -> Any:
        return explode, ()


# -- What lies on the server --------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:10],
        lambda data: b"x",
        lambda data: data + b"x",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:30] + bytes([data[30] ^ 255]) + data[31:],
        lambda data: b"a value of somebody else's",
        lambda data: pickle.dumps(Bomb()),
        lambda data: data[:28] + pickle.dumps(Bomb()) + data[-16:],
    ],
)
def test_damaged_bytes_are_a_counted_miss(remote: MemcachedClient, raw: Raw, damage: Any) -> None:
    f = cached(remote, 60, namespace="damage")(lambda x: f"computed {x}")
    assert f(1) == "computed 1"
    key = wire(remote, f.client.inner_key(1))  # type: ignore[attr-defined]
    stored = raw.get(key)
    assert stored is not None
    raw.set(key, damage(stored))
    corrupt = remote.stats.corrupt
    assert f.client.get(1, "miss") == "miss"
    assert f.client.get_multi([1], "miss") == {1: "miss"}
    assert not f.client.contains(1)
    assert remote.stats.corrupt == corrupt + 3
    assert f(1) == "computed 1"
    assert f.peek(1) == "computed 1"
    assert executed == []


def test_a_value_moved_to_another_key_is_a_miss(remote: MemcachedClient, raw: Raw) -> None:
    remote.put("alice", "hers", 100)
    remote.put("bob", "his", 100)
    stored = raw.get(wire(remote, "alice"))
    assert stored is not None
    raw.set(wire(remote, "bob"), stored)
    assert remote.get("bob", "miss") == "miss"
    assert remote.get("alice") == "hers"


@pytest.mark.parametrize("act", ["add", "renew", "expire", "delete", "put"])
def test_writes_over_foreign_bytes(remote: MemcachedClient, raw: Raw, act: str) -> None:
    raw.set(wire(remote, "k"), b"foreign")
    results = {
        "add": lambda: remote.add("k", "v", 100),
        "renew": lambda: remote.renew("k", 100),
        "expire": lambda: remote.expire("k"),
        "delete": lambda: remote.delete("k"),
        "put": lambda: remote.put("k", "v", 100),
    }
    assert results[act]() is (act not in ("renew", "expire"))
    assert remote.get("k", "miss") == ("v" if act in ("add", "put") else "miss")


def test_clients_without_a_secret_do_not_mix_with_those_that_have_one(
    memcached: PrivateMemcached,
) -> None:
    prefix = unique_prefix()
    signed = MemcachedClient([memcached.address], checksum_key=SECRET, prefix=prefix)
    plain = MemcachedClient([memcached.address], serializer="json", prefix=prefix)
    with signed, plain:
        signed.put("k", 1, 100)
        assert plain.get("k", "miss") == "miss"
        plain.put("k", 2, 100)
        assert signed.get("k", "miss") == "miss"


def test_clients_with_one_secret_share(memcached: PrivateMemcached) -> None:
    prefix = unique_prefix()
    one, other = (
        MemcachedClient([memcached.address], checksum_key=SECRET, prefix=prefix) for _ in range(2)
    )
    with one, other:
        one.put(("k", 1), {"a": [1]}, 100)
        assert other.get(("k", 1.0)) == {"a": [1]}
        assert other.delete(("k", True))
        assert one.get(("k", 1), None) is None


# -- Lives -----------------------------------------------------------------------


DAY = 24 * 3600


@pytest.mark.parametrize(
    "ttl",
    [0.3, 1, 59.5, 30 * DAY - 1, 30 * DAY, 30 * DAY + 1, 31 * DAY, 3650 * DAY, 1e9, FOREVER],
)
def test_every_ttl_lives(remote: MemcachedClient, clock: ManualClock, ttl: float) -> None:
    remote.put("k", "v", ttl)
    value, left = remote.get_ttl("k")
    assert value == "v"
    assert left == pytest.approx(ttl)
    if ttl < 1e8:
        clock.advance(ttl + 0.01)
        assert remote.get("k", "gone") == "gone"


def test_a_step_of_the_wall_clock_moves_lives_by_no_more_than_itself(
    remote: MemcachedClient, clock: ManualClock
) -> None:
    remote.put("k", "v", 100)
    clock.step_wall(-50)
    assert remote.get_ttl("k")[1] == pytest.approx(150)
    clock.step_wall(+200)
    assert remote.get("k", "gone") == "gone"


# -- Values and keys that do not fit -------------------------------------------------


def test_a_value_too_large_for_the_server_lies_in_pages(
    remote: MemcachedClient, memcached: PrivateMemcached
) -> None:
    remote.put("k", "old", 100)
    for size in (1_100_000, 3_000_000, 50_000_000):
        value = os.urandom(size)
        assert remote.put("k", value, 100)
        assert remote.get("k") == value
        assert remote.get_multi(["k", "l"], None) == {"k": value, "l": None}
        assert dict(remote.explain("k").detail)["paged"]
    assert remote.renew("k", 1000)
    assert remote.get_ttl("k")[1] > 900
    assert remote.expire("k")
    assert remote.get("k", "stale") == "stale"
    assert remote.get_ttl("k")[0] == value
    assert remote.delete("k")
    assert remote.get_ttl("k", "gone") == ("gone", -1)
    claim = remote.claim("k")
    assert claim is not None
    assert claim.fill(value, FOREVER)
    assert remote.get("k") == value
    assert remote.put("k", "new", 100)
    assert remote.get("k") == "new"
    assert remote.stats.errors == 0


def test_a_page_that_is_gone_or_of_another_value_makes_a_miss(
    remote: MemcachedClient, raw: Raw
) -> None:
    pages: list[list[str]] = []
    for number in range(2):
        value = os.urandom(2_500_000)
        assert remote.put(number, value, 100)
        sealed = raw.get(wire(remote, number))
        assert sealed is not None
        opened = remote._codec.open(remote._name(number).signed, sealed)
        assert opened is not None
        keys = remote._values.paging._keys(opened[0])
        pages.append([key.decode() for key in keys])
    first, other = pages
    kept = raw.get(first[1])
    raw.set(first[1], raw.get(other[1]) or b"")
    assert remote.get(0, "miss") == "miss"
    assert remote.stats.corrupt == 1
    raw.set(first[1], (kept or b"")[:-1])
    assert remote.get(0, "miss") == "miss"
    raw.delete(first[1])
    assert remote.get(0, "miss") == "miss"
    assert remote.stats.corrupt == 2  # what was evicted is a miss like others
    assert remote.get(1, "miss") != "miss"


def test_a_large_value_that_shrinks_fits(remote: MemcachedClient) -> None:
    text = "abc" * 1_000_000
    assert remote.put("k", text, 100)
    assert remote.get("k") == text


def test_a_value_that_cannot_be_pickled_takes_its_predecessor_along(
    remote: MemcachedClient,
) -> None:
    remote.put("k", "old", 100)
    assert not remote.put("k", lambda: 1, 100)
    assert remote.get("k", "gone") == "gone"
    remote.put("k", "kept", 100)
    assert not remote.add("k", lambda: 1, 100)
    assert remote.get("k") == "kept"
    f = cached(remote, 60)(lambda x: threading.Lock())
    assert f(1) is not None


def test_strict_clients_say_so(memcached: PrivateMemcached) -> None:
    client = MemcachedClient(
        [memcached.address], checksum_key=SECRET, prefix=unique_prefix(), strict=True
    )
    with client, pytest.raises(UnserializableValue, match="cannot pickle"):
        client.put("k", lambda: 1, 100)


def test_keys_that_others_could_not_recognise(remote: MemcachedClient) -> None:
    for act in (
        lambda: remote.get(object(), None),
        lambda: remote.put(("a", object()), 1, 1),
        lambda: remote.get_multi([1, float("nan")], None),
        lambda: remote.claim(object()),
    ):
        with pytest.raises(KeyEncodingError, match="key"):
            act()
    f = cached(remote, 60)(lambda x: "computed")
    assert f(object()) == "computed"
    assert f.stats.errors > 0


def test_it_says_what_it_knows(remote: MemcachedClient, memcached: PrivateMemcached) -> None:
    remote.put("k", "v", 100)
    detail = dict(remote.explain("k").detail)
    assert detail["server"] == memcached.address
    assert detail["size"] == 52 + len(pickle.dumps("v", pickle.HIGHEST_PROTOCOL))
    assert detail["age"] == pytest.approx(0, abs=0.01)
    assert remote.capacity == 256 * 1024 * 1024
    assert remote.usage > 0
    assert remote.server_stats()[memcached.address]["version"]
    assert repr(remote) == f"<MemcachedClient {memcached.address}>"
    assert remote.explain("other").state == "absent"


# -- Servers that fail ---------------------------------------------------------------


@pytest.fixture
def dead_address() -> Iterator[str]:
    with kept_port() as port:
        yield f"127.0.0.1:{port}"


def test_a_server_that_is_down_is_a_counted_miss_and_one_line(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, dead_address: str
) -> None:
    client = MemcachedClient([dead_address], checksum_key=SECRET, clock=clock)
    for _ in range(5):
        assert client.get("k", "miss") == "miss"
        assert client.get_ttl("k", "miss") == ("miss", -1)
        assert client.get_multi(["k", "l"], 0) == {"k": 0, "l": 0}
        assert not client.put("k", "v", 10)
        assert client.put_multi({"k": 1}, 10) == {"k": False}
        assert not client.add("k", "v", 10)
        assert not client.renew("k", 10)
        assert not client.expire("k")
        assert not client.delete("k")
        assert client.server_stats() == {str(client.addresses[0]): {}}
        clock.advance(1)
    assert client.stats.errors >= 45
    assert client.stats.drops >= 10
    assert client.capacity == 0
    # Threads that other tests have left may log as well, of other servers.
    where = str(client.addresses[0])
    lines = [r.getMessage() for r in caplog.records if where in r.getMessage()]
    assert len(lines) == 1
    assert "memcached" in lines[0]
    f = cached(client, 60)(lambda x: x * 2)
    assert f(2) == 4


def test_a_claim_without_a_server_is_given(clock: ManualClock, dead_address: str) -> None:
    client = MemcachedClient([dead_address], checksum_key=SECRET, clock=clock)
    near = InprocCacheClient(10, clock=clock)
    claim = TieredInclusiveClient(near, client).claim("k", 10)
    assert claim is not None
    assert claim.fill("v", 100)
    assert near.get("k") == "v"
    assert not claim.release()


def test_strict_clients_raise(clock: ManualClock, dead_address: str) -> None:
    client = MemcachedClient([dead_address], checksum_key=SECRET, strict=True, clock=clock)
    for _ in range(2):  # the second time the server is not even asked
        with pytest.raises(NoServersError, match=r"failed a moment ago|cannot be reached"):
            client.get("k", None)
    with pytest.raises(NoServersError):
        client.put("k", 1, 1)
    f = cached(client, 60)(lambda x: x * 2)
    assert f(2) == 4


def test_a_restarted_server_serves_again(clock: ManualClock) -> None:
    if not PrivateMemcached.installed():
        pytest.skip("memcached is not installed")
    server = PrivateMemcached().start(free_port())  # nobody else gets it meanwhile
    port = server.port
    with MemcachedClient([server.address], checksum_key=SECRET, clock=clock) as client:
        client.put("k", "v", 100)
        server.stop()
        assert client.get("k", "miss") == "miss"
        with PrivateMemcached() as again:
            again.stop()
            again.start(port)
            clock.advance(0.3)
            assert client.get("k", "miss") == "miss"
            assert client.put("k", "w", 100)
            assert client.get("k") == "w"


def test_the_share_of_a_dead_server_has_a_short_life_on_the_next(
    memcached: PrivateMemcached, clock: ManualClock, dead_address: str
) -> None:
    client = MemcachedClient(
        [memcached.address, dead_address],
        checksum_key=SECRET,
        prefix=unique_prefix(),
        clock=clock,
    )
    with client:
        written = client.put_multi({number: number for number in range(200)}, 100)
        found = client.get_multi(range(200), None)
        assert {key for key, value in found.items() if value is not None} == {
            key for key, wrote in written.items() if wrote
        }
        # The other one stands in for it.
        assert sum(written.values()) == 200
        away = [k for k in written if "stands_in_for" in dict(client.explain(k).detail)]
        assert 40 < len(away) < 160
        clock.advance(11)
        assert {k for k, v in client.get_multi(range(200), None).items() if v is None} == set(away)


# -- Connections ---------------------------------------------------------------------


def test_many_threads_share_few_connections(memcached: PrivateMemcached) -> None:
    client = MemcachedClient(
        [memcached.address],
        checksum_key=SECRET,
        prefix=unique_prefix(),
        pool_size=4,
        pool_timeout=30,
    )

    def work(number: int) -> bool:
        for step in range(10):
            client.put((number, step), (number, step), 100)
        return all(client.get((number, step)) == (number, step) for step in range(10))

    with client:
        assert together(work, 100) == [True] * 100
        assert len(only_server(client).pool._idle) <= 4
    assert client.stats.errors == 0


def test_a_pool_that_stays_full_is_a_counted_miss(
    memcached: PrivateMemcached, caplog: pytest.LogCaptureFixture
) -> None:
    client = MemcachedClient(
        [memcached.address], checksum_key=SECRET, pool_size=1, pool_timeout=0.01
    )
    pool = only_server(client).pool
    connection = pool.take()
    assert client.get("k", "miss") == "miss"
    assert client.stats.errors == 1
    assert "in use" in caplog.text
    pool.give(connection)
    with client:
        assert client.put("k", "v", 10)  # the server was not to blame, and is asked


def test_an_interrupted_exchange_closes_its_socket_and_keeps_its_place(
    remote: MemcachedClient,
) -> None:
    remote.put("a", "value of a", 100)
    remote.put("b", "value of b", 100)
    pool = only_server(remote).pool
    stream: Any = pool._idle[-1].stream
    connected = stream._socket

    class Interrupted:
        """Sends the question, and is interrupted before the answer is read."""

        def __getattr__(self, name: str) -> Any:
            return getattr(connected, name)

        def sendall(self, data: bytes) -> None:
            connected.sendall(data)
            raise KeyboardInterrupt

    stream._socket = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        remote.get("a")
    assert connected.fileno() == -1
    assert remote.get("b") == "value of b"
    assert len(pool._idle) == 1


def test_closing_closes_and_works_on(remote: MemcachedClient) -> None:
    remote.put("k", "v", 100)
    connected: Any = only_server(remote).pool._idle[-1].stream._socket
    remote.close()
    assert connected.fileno() == -1
    assert remote.get("k") == "v"


def only_server(client: MemcachedClient) -> Server:
    [server] = client._servers.fleet.servers
    return server


ANSWER = b"VALUE s1:k 0 5 77\r\nvalue\r\nEND\r\n"


def client_of(peer: ScriptedPeer, **options: Any) -> MemcachedClient:
    return MemcachedClient([peer.address], checksum_key=SECRET, timeout=0.05, **options)


@pytest.mark.parametrize("length", range(0, len(ANSWER)))
def test_an_answer_cut_anywhere_is_a_miss(length: int) -> None:
    cut = ANSWER[:length]
    answered: list[bytes] = []

    def answer(request: bytes) -> bytes | None:
        # Once what there is of the answer; then nothing comes any more.
        answered.append(request)
        return cut

    with ScriptedPeer(answer) as peer, client_of(peer) as client:
        assert client.get("k", "miss") == "miss"
        assert client.stats.errors == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n",
        b"\r\n",
        b"VALUE\r\n",
        b"VALUE s1:k 0 x 1\r\n\r\nEND\r\n",
        b"VALUE another 0 5 1\r\nvalue\r\nEND\r\n",
        b"ERROR\r\n",
        b"CLIENT_ERROR bad\r\n",
        b"SERVER_ERROR out of memory\r\n",
        b"STORED\r\n",
        b"\xff\xfe\x00\r\n",
        b"END\r\nVALUE s1:k 0 5 1\r\nvalue\r\nEND\r\n",
    ],
)
def test_nonsense_is_a_miss(answer: bytes) -> None:
    with ScriptedPeer(lambda request: answer) as peer, client_of(peer) as client:
        assert client.get("k", "miss") == "miss"
        f = cached(client, 60)(lambda x: "computed")
        assert f(1) == "computed"


def test_a_server_that_does_not_answer_costs_the_timeout_once() -> None:
    with ScriptedPeer(lambda request: b"") as peer, client_of(peer) as client:
        for _ in range(50):
            assert client.get("k", "miss") == "miss"
        assert peer.accepted <= 2  # the others were not even asked


# -- Claims --------------------------------------------------------------------------


def test_a_claim_reaches_other_processes(memcached: PrivateMemcached) -> None:
    prefix = unique_prefix()
    ours, theirs = (
        MemcachedClient([memcached.address], checksum_key=SECRET, prefix=prefix) for _ in range(2)
    )
    with ours, theirs:
        claim = ours.claim("k", 30)
        assert claim is not None
        assert theirs.claim("k", 30) is None
        theirs.delete("k")
        second = theirs.claim("k", 30)
        assert second is not None
        assert not claim.fill("computed before the delete", 100)
        assert not claim.release()  # it is another's by now
        assert theirs.claim("k", 30) is None
        assert second.fill("v", 100)
        assert ours.get("k") == "v"
        assert ours.claim("k", 30) is not None


def test_processes_compute_once_between_them(memcached: PrivateMemcached) -> None:
    prefix = unique_prefix()
    calls: list[int] = []

    def node() -> Any:
        tiers = TieredInclusiveClient(
            InprocCacheClient(10),
            MemcachedClient([memcached.address], checksum_key=SECRET, prefix=prefix),
        )

        @cached(tiers, 60, namespace="once")
        def f(x: int) -> int:
            calls.append(x)
            return x * 2

        return f

    nodes = [node() for _ in range(4)]
    assert together(lambda number: nodes[number % 4](21), 32) == [42] * 32
    assert calls == [21]
    for f in nodes:
        f.client.close()


# -- Bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"addresses": "localhost:11211"}, TypeError, "addresses must be a list"),
        ({"addresses": ["a", "b"], "weights": [1]}, ValueError, "weights must hold 2"),
        ({"weights": [0]}, ValueError, r"weights\[0\] must be"),
        ({"username": "me"}, ValueError, "password must be"),
        ({"tls_context": True}, TypeError, "tls_context must be"),
        ({"addresses": []}, ValueError, "addresses must name"),
        ({"addresses": ["host:port"]}, ValueError, "has the port 'port'"),
        ({"checksum_key": None}, ValueError, "needs a checksum_key"),
        ({"prefix": "two words"}, ValueError, "prefix must be"),
        ({"prefix": "x" * 65}, ValueError, "prefix must be"),
        ({"prefix": 3}, ValueError, "prefix must be"),
        ({"timeout": 0}, ValueError, "timeout must be"),
        ({"timeout": None}, TypeError, "timeout must be"),
        ({"connect_timeout": -1}, ValueError, "connect_timeout must be"),
        ({"connect_timeout": float("inf")}, ValueError, "connect_timeout must be"),
        ({"pool_size": 0}, ValueError, "pool_size must be"),
        ({"pool_timeout": "1"}, TypeError, "pool_timeout must be"),
    ],
)
def test_options_that_cannot_be_right_are_refused(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    arguments = {"addresses": ["localhost"], "checksum_key": SECRET, **options}
    with pytest.raises(error, match=match):
        MemcachedClient(**arguments)


def test_constructors_do_no_work() -> None:
    opened = Opened()
    with ScriptedPeer(lambda request: b"END\r\n") as peer:
        client = client_of(peer)
        cached(client, 60)(lambda x: x)
        assert peer.accepted == 0
        assert len(opened.threads) == 1  # the peer's own
