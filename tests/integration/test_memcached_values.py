"""What a real server holds: forged and damaged bytes, lives, sizes, claims, many servers."""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.fakes import inproc
from tests.integration.peers import Raw
from tests.ports import free_port
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.memcached import MemcachedClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.codec.sign import Signer
from tiered.codec.values import Header, ValueCodec
from tiered.decorators import cached
from tiered.errors import CacheMissError, NoServersError, UnserializableValue, ValueTooLarge
from tiered.sentinels import FOREVER
from tiered.testing import ManualClock

DAY = 24 * 3600


@pytest.fixture
def raw(memcached: PrivateMemcached) -> Iterator[Raw]:
    with Raw(memcached.address) as raw:
        yield raw


def wire(client: MemcachedClient, key: Any) -> str:
    return str(dict(client.explain(key).detail)["wire_key"])


def sharing(memcached: PrivateMemcached, **options: Any) -> MemcachedClient:
    return MemcachedClient([memcached.address], **{"checksum_key": SECRET, **options})


def saying(caplog: pytest.LogCaptureFixture, words: str) -> list[logging.LogRecord]:
    """The records with these words; threads that other tests have left may log as well."""
    return [record for record in caplog.records if words in record.getMessage()]


def timely(look: Callable[[str], None]) -> None:
    """*look* at how many seconds a server keeps what is written under the key that is given.

    Where the machine stalls for some of them, what is found says nothing: another key then.
    """
    for number in range(20):
        began = time.monotonic()
        try:
            look(f"k{number}")
        except (AssertionError, CacheMissError):
            if time.monotonic() - began < 1:
                raise
        else:
            return
    raise AssertionError("there is not a second in which the machine does not stall")


executed: list[str] = []


class Bomb:
    """Runs code when it is unpickled, which no unauthenticated bytes may get to."""

    def __reduce__(self) -> Any:
        return executed.append, ("boom",)


@pytest.fixture(autouse=True)
def _nothing_is_executed() -> Iterator[None]:
    yield
    assert executed == []


# -- Bytes that are not what was written ----------------------------------------------


def test_each_changed_byte_and_each_length_is_a_counted_miss(
    remote: MemcachedClient, raw: Raw
) -> None:
    remote.put("k", "value", 1000)
    key, stored = wire(remote, "k"), raw.get(wire(remote, "k"))
    assert stored is not None
    changed = [
        stored[:at] + bytes([stored[at] ^ bit]) + stored[at + 1 :]
        for at in range(len(stored))
        for bit in (1, 128)
    ]
    # Nothing at all is what a claim looks like, and no damage.
    changed += [stored[:length] for length in range(1, len(stored))] + [stored + b"\0"]
    for data in changed:
        raw.set(key, data)
        assert remote.get("k", "miss") == "miss"
        assert remote.get_ttl("k", "miss") == ("miss", -1)
    assert remote.stats.corrupt == remote.stats.errors == 2 * len(changed)
    raw.set(key, stored)
    assert remote.get("k") == "value"


def forged(secret: str | None, client: MemcachedClient, key: Any) -> bytes:
    """A well-made envelope around a pickled bomb, signed by somebody else or by nobody."""
    name = client._name(key).signed
    sealed = ValueCodec(serializer="raw", compress=False).encode(
        name, pickle.dumps(Bomb()), Header(0.0, FOREVER)
    )
    message = bytearray(sealed[Signer.SIZE :])
    message[2] = 1  # pickle
    signer = Signer([] if secret is None else [secret])
    return signer.sign(bytes(message), name) + bytes(message)


@pytest.mark.parametrize("secret", [None, "another secret"])
@pytest.mark.parametrize("serializer", ["pickle", "json"])
def test_a_forged_value_is_a_miss_and_never_unpickled(
    memcached: PrivateMemcached, raw: Raw, secret: str | None, serializer: str
) -> None:
    with sharing(memcached, prefix=unique_prefix(), serializer=serializer) as client:
        raw.set(wire(client, "k"), forged(secret, client, "k"))
        assert client.get("k", "miss") == "miss"
        assert client.get_multi(["k"], "miss") == {"k": "miss"}
        assert not client.renew("k", 1000)
        assert client.explain("k").state == "absent"
        assert not client.expire("k")  # others may know the secret: it has to go
        assert client.stats.corrupt == 5
        assert raw.get(wire(client, "k")) is None
        assert client.add("k", "value", 100)
        assert client.get("k") == "value"


def test_pickle_is_not_read_where_nothing_is_signed(memcached: PrivateMemcached, raw: Raw) -> None:
    # The digest of an unsigned envelope is right, whoever made it.
    with sharing(memcached, prefix=unique_prefix(), serializer="json", checksum_key=None) as client:
        raw.set(wire(client, "k"), forged(None, client, "k"))
        assert client.get("k", "miss") == "miss"
        assert client.stats.corrupt == 1


def test_a_value_moved_to_the_same_key_of_another_prefix_is_a_miss(
    memcached: PrivateMemcached, raw: Raw
) -> None:
    # Prefixes keep applications apart that share servers and secrets.
    with (
        sharing(memcached, prefix=unique_prefix()) as one,
        sharing(memcached, prefix=unique_prefix()) as other,
    ):
        one.put("role", "administrator", 100)
        stored = raw.get(wire(one, "role"))
        assert stored is not None
        raw.set(wire(other, "role"), stored)
        assert other.get("role", "miss") == "miss"


def test_good_values_are_found_among_bad_ones(remote: MemcachedClient, raw: Raw) -> None:
    remote.put_multi({number: number for number in range(9)}, 100)
    for number in (1, 5):
        raw.set(wire(remote, number), b"foreign")
    found = remote.get_multi(range(10), "miss")
    assert found == {n: "miss" if n in (1, 5, 9) else n for n in range(10)}
    assert remote.stats.corrupt == 2


def test_corrupt_values_are_logged_once_an_interval(
    remote: MemcachedClient, raw: Raw, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    raw.set(wire(remote, "k"), b"foreign")
    for _ in range(10):
        remote.get("k", None)
    assert len(saying(caplog, "an unreadable value is a miss")) == 1
    clock.advance(31)
    remote.get("k", None)
    records = saying(caplog, "an unreadable value is a miss")
    assert len(records) == 2
    assert "9 more" in caplog.text
    assert all(record.levelno == logging.WARNING for record in records)


@pytest.mark.parametrize("behind_memory", [False, True])
def test_a_cached_call_answers_whatever_lies_on_the_server(
    remote: MemcachedClient, raw: Raw, clock: ManualClock, behind_memory: bool
) -> None:
    client = TieredInclusiveClient(inproc(clock), remote) if behind_memory else remote
    f = cached(client, 60, namespace="f")(lambda x: f"computed {x}")
    key = wire(remote, f.client.inner_key(1))  # type: ignore[attr-defined]
    for data in (
        b"",
        b"\x80\x04N.",
        pickle.dumps(Bomb()),
        forged(None, remote, 1),
        os.urandom(500),
    ):
        raw.set(key, data)
        assert f(1) == "computed 1"
        assert f.peek(1) == "computed 1"
        f.invalidate(1)
    assert f.stats.computations == 5
    assert remote.stats.corrupt >= 5


def test_a_secret_is_rotated_without_a_miss(memcached: PrivateMemcached) -> None:
    prefix = unique_prefix()
    with (
        sharing(memcached, prefix=prefix, checksum_key="old") as old,
        sharing(memcached, prefix=prefix, checksum_key=["new", "old"]) as both,
        sharing(memcached, prefix=prefix, checksum_key=b"new") as new,
    ):
        old.put("k", 1, 100)
        assert both.get("k") == 1
        assert new.get("k", "miss") == "miss"
        both.put("k", 2, 100)
        assert new.get("k") == 2
        assert old.get("k", "miss") == "miss"
        # What is only given another life is signed anew as well.
        old.put("k", 3, 100)
        assert both.renew("k", 200)
        assert new.get("k") == 3


# -- How long the server keeps what is put ---------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "keep"),
    [
        (0.3, 0),
        (0.3, 0.3),
        (1, 0),
        (59.9, 60),
        (30 * DAY - 2, 0),
        (30 * DAY - 1, 0),
        (30 * DAY, 0),
        (30 * DAY + 1, 0),
        (15 * DAY, 15 * DAY),
        (10 * 365 * DAY, 0),
        (1e12, 0),
        (FOREVER, 0),
        (60, FOREVER),
    ],
)
def test_the_server_keeps_a_value_for_its_life_and_little_more(
    remote: MemcachedClient, raw: Raw, ttl: float, keep: float
) -> None:
    def look(key: str) -> None:
        assert remote.put(key, "value", ttl, keep=keep)
        value, left = remote.get_ttl(key)
        assert value == "value"
        assert left == pytest.approx(ttl)
        kept, life = raw.life(wire(remote, key)), ttl + keep
        # Servers keep no date past 2038: what would end then does not end.
        assert life <= kept <= life + 10 or (kept == -1 and life > 10 * 365 * DAY - 1)
        assert remote.add(f"added {key}", "value", ttl, keep=keep)
        assert abs(raw.life(wire(remote, f"added {key}")) - kept) <= 1

    timely(look)


@pytest.mark.parametrize("ttl", [0, -0.3, -5, -40 * DAY, -FOREVER])
def test_what_is_put_stale_stays_readable_as_stale_for_a_while(
    remote: MemcachedClient, raw: Raw, ttl: float
) -> None:
    assert remote.put("k", "value", ttl)
    assert remote.get("k", "miss") == "miss"
    value, left = remote.get_ttl("k")
    assert value == "value"
    assert left < 0
    assert 10 <= raw.life(wire(remote, "k")) <= 60


def test_another_life_is_the_servers_too(remote: MemcachedClient, raw: Raw) -> None:
    def look(key: str) -> None:
        remote.put(key, "value", 100, keep=50)
        assert remote.renew(key, 31 * DAY)
        assert 31 * DAY + 50 <= raw.life(wire(remote, key)) <= 31 * DAY + 54
        assert remote.expire(key)
        # Stale now, and kept for as long as it would have lived.
        assert 31 * DAY <= raw.life(wire(remote, key)) <= 31 * DAY + 54
        assert remote.renew(key, FOREVER)
        assert raw.life(wire(remote, key)) == -1
        assert remote.get_ttl(key) == ("value", FOREVER)

    timely(look)


def test_a_finite_keep_of_any_size_is_taken(remote: MemcachedClient) -> None:
    # Larger than the envelope's field can say, and as good as for ever.
    assert remote.put("k", "value", 10, keep=1e39)
    assert remote.get("k") == "value"


# -- Values that do not fit ------------------------------------------------------------


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("not this one")


UNSTORABLE: dict[str, Callable[[], Any]] = {
    "a lambda": lambda: lambda: 1,
    "a reducer that raises": Unpicklable,
    "larger than the client may": lambda: b"x" * 5_000_000,
}


@pytest.mark.parametrize("what", UNSTORABLE)
def test_what_cannot_be_stored_is_dropped_with_what_it_replaced(
    memcached: PrivateMemcached, clock: ManualClock, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    value = UNSTORABLE[what]()
    options: dict[str, Any] = {"prefix": unique_prefix(), "max_value_size": 4_000_000}
    with (
        sharing(memcached, clock=clock, **options) as client,
        sharing(memcached, strict=True, **options) as strict,
    ):
        for round_number in range(1, 4):
            client.put("k", "old", 100)
            assert not client.put("k", value, 100)
            assert client.get("k", "gone") == "gone"
            assert client.stats.unstorable == client.stats.drops == round_number
        assert client.put_multi({"k": value, "l": 1}, 100) == {"k": False, "l": True}
        client.put("k", "old", 100)
        assert not client.add("k", value, 100)  # and there it would not have been written
        assert client.get("k") == "old"
        assert len(saying(caplog, "a value is not stored")) == 1
        with pytest.raises((UnserializableValue, ValueTooLarge)):
            strict.put("k", value, 100)
        assert client.get("k", "gone") == "gone"
        f = cached(client, 60)(lambda x: value)
        assert f(1) is value
        assert f(1) is value


def test_a_server_that_takes_more_gets_more(clock: ManualClock) -> None:
    value = os.urandom(3_000_000)
    with (
        PrivateMemcached(options=("-I", "8m")) as server,
        sharing(server, clock=clock, timeout=5) as client,
    ):
        assert client.put("k", value, 100)
        assert client.get("k") == value


def test_values_of_every_size_around_the_servers_limit_come_back(remote: MemcachedClient) -> None:
    megabyte = 1024 * 1024
    sizes = (0, 1, 1023, 1024, 500_000, *range(megabyte - 1000, megabyte + 100, 50))
    for size in sizes:
        value = os.urandom(size)
        assert remote.put("k", value, 100)
        assert remote.get("k") == value
    assert remote.stats.errors == 0


# -- Claims ----------------------------------------------------------------------------


def test_only_the_owner_releases_a_claim(memcached: PrivateMemcached) -> None:
    prefix = unique_prefix()
    with sharing(memcached, prefix=prefix) as ours, sharing(memcached, prefix=prefix) as theirs:
        claim = ours.claim("k", 100)
        assert claim is not None
        assert theirs.claim("k", 100) is None
        assert ours.claim("k", 100) is None
        assert claim.release()
        assert not claim.release()
        successor = theirs.claim("k", 100)
        assert successor is not None
        assert successor.token != claim.token
        # A late holder neither writes nor frees what is another's by now.
        assert not claim.fill("late", 100)
        assert not claim.release()
        assert ours.claim("k", 100) is None
        assert theirs.get("k", "miss") == "miss"
        assert successor.fill("value", 100)
        assert ours.get("k") == "value"


VOIDING: dict[str, Callable[[MemcachedClient], Any]] = {
    "delete": lambda client: client.delete("k"),
    "delete_multi": lambda client: client.delete_multi(["k"]),
    "expire": lambda client: client.expire("k"),
}


@pytest.mark.parametrize("void", VOIDING)
def test_a_claim_is_void_once_its_key_was_changed(memcached: PrivateMemcached, void: str) -> None:
    prefix = unique_prefix()
    with sharing(memcached, prefix=prefix) as ours, sharing(memcached, prefix=prefix) as theirs:
        claim = ours.claim("k", 100)
        assert claim is not None
        VOIDING[void](theirs)
        assert not claim.fill("computed from what was before", 100)
        assert ours.get("k", "miss") == "miss"


def test_a_claim_ends_by_the_holders_clock(remote: MemcachedClient, clock: ManualClock) -> None:
    claim = remote.claim("k", 10)
    assert claim is not None
    clock.advance(11)
    assert not claim.fill("late", 100)
    assert remote.get("k", "miss") == "miss"


@pytest.mark.parametrize("ttl", [0, 0.5, 10])
def test_the_server_keeps_a_claim_for_its_ttl_and_little_more(
    remote: MemcachedClient, raw: Raw, ttl: float
) -> None:
    # Else a holder that died would block the key for all others.
    def look(key: str) -> None:
        claim = remote.claim(key, ttl)
        assert claim is not None
        stub = wire(remote, key)
        assert raw.get(stub) == b""
        assert ttl <= raw.life(stub) <= ttl + 3
        assert remote.put(key, "there", 1)
        assert remote.claim(key, ttl) is not None
        mark = stub.replace("/", "/claim/", 1)
        assert raw.get(mark)
        assert ttl <= raw.life(mark) <= ttl + 3
        assert raw.life(stub) >= ttl  # what the claim depends on stays as long as it does

    timely(look)


def test_a_block_that_fails_gives_its_claim_back(remote: MemcachedClient) -> None:
    claim = remote.claim("k", 100)
    assert claim is not None
    with pytest.raises(ZeroDivisionError), claim:
        raise ZeroDivisionError
    assert remote.claim("k", 100) is not None


@pytest.mark.parametrize("ttl", [-1, float("nan"), "10", None])
def test_a_claim_needs_a_ttl(remote: MemcachedClient, ttl: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="ttl must be seconds, 0 or more, not"):
        remote.claim("k", ttl)


# -- Servers that come and go ------------------------------------------------------------


OPERATIONS: dict[str, Callable[[MemcachedClient], Any]] = {
    "get": lambda client: client.get("k", None),
    "get_multi": lambda client: client.get_multi(["k"], None),
    "put": lambda client: client.put("k", 1, 10),
    "put_multi": lambda client: client.put_multi({"k": 1}, 10),
    "add": lambda client: client.add("k", 1, 10),
    "renew": lambda client: client.renew("k", 10),
    "expire": lambda client: client.expire("k"),
    "delete": lambda client: client.delete("k"),
    "delete_multi": lambda client: client.delete_multi(["k"]),
    "contains": lambda client: client.contains("k"),
    "claim": lambda client: client.claim("k"),
    "capacity": lambda client: client.capacity,
    "explain": lambda client: client.explain("k"),
}


@pytest.fixture
def own(clock: ManualClock, memcached: PrivateMemcached) -> Iterator[PrivateMemcached]:
    """A server that the test may stop."""
    server = PrivateMemcached().start(free_port())  # nobody else gets it meanwhile
    try:
        yield server
    finally:
        server.stop()


def test_a_server_that_goes_and_comes_back(
    own: PrivateMemcached, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        sharing(own, clock=clock) as client,
        sharing(own, clock=clock, strict=True) as strict,
    ):
        f = cached(client, 60, namespace="f")(lambda x: x * 2)
        g = cached(strict, 60, namespace="g")(lambda x: x * 3)
        assert client.put("k", "value", 100)
        assert strict.get("k") == "value"
        assert f(1) == 2
        assert g(1) == 3
        port = own.port
        own.stop()
        for operation in OPERATIONS.values():
            operation(client)
            if operation in (OPERATIONS["capacity"], OPERATIONS["explain"]):
                operation(strict)  # for those who want to know what is the matter
            else:
                with pytest.raises(NoServersError, match=f"127.0.0.1:{port}"):
                    operation(strict)
            clock.advance(1)
        assert f(1) == 2
        assert g(1) == 3
        assert client.stats.errors >= len(OPERATIONS)
        assert (
            len(saying(caplog, f"memcached: 127.0.0.1:{port} ")) == 2
        )  # one of each client, for all of this
        own.start(port)
        clock.advance(20)
        assert strict.get("k", "gone") == "gone"  # it starts empty, and is told of deletes
        assert client.get("k", "gone") == "gone"
        assert client.put("k", "value", 100)
        assert strict.get("k") == "value"
        assert f(1) == 2
        assert f.peek(1) == 2


def test_two_servers_share_the_keys_whatever_the_order_of_their_names(
    memcached: PrivateMemcached, second_memcached: PrivateMemcached, clock: ManualClock
) -> None:
    prefix = unique_prefix()
    addresses = [memcached.address, second_memcached.address]

    def client(order: list[str]) -> MemcachedClient:
        return MemcachedClient(order, checksum_key=SECRET, prefix=prefix, clock=clock)

    with client(addresses) as one, client(addresses[::-1]) as other:
        items: dict[Any, int] = {f"key {number}": number for number in range(300)}
        assert all(one.put_multi(items, 100).values())
        assert other.get_multi(items, None) == items
        servers = [dict(one.explain(key).detail)["server"] for key in items]
        assert min(servers.count(address) for address in addresses) > 60
        # Each value is on its own server and on no other.
        with Raw(addresses[0]) as first, Raw(addresses[1]) as second:
            for key, server in zip(items, servers, strict=True):
                there, elsewhere = (first, second) if server == addresses[0] else (second, first)
                assert there.get(wire(one, key)) is not None
                assert elsewhere.get(wire(one, key)) is None
        assert all(other.delete_multi(items).values())
        assert one.get_multi(items, None) == dict.fromkeys(items)
        assert set(one.server_stats()) == set(addresses)
        assert one.capacity == 2 * 256 * 1024 * 1024


def test_a_stopped_server_takes_its_own_keys_only(
    memcached: PrivateMemcached, own: PrivateMemcached, clock: ManualClock
) -> None:
    with MemcachedClient(
        [memcached.address, own.address],
        checksum_key=SECRET,
        prefix=unique_prefix(),
        clock=clock,
    ) as client:
        items: dict[Any, int] = {number: number for number in range(200)}
        client.put_multi(items, 100)
        own.stop()
        away = {key for key in items if "stands_in_for" in dict(client.explain(key).detail)}
        assert client.get_multi(items, None) == {key: None if key in away else key for key in items}
        # One failure, and the rest of the lost keys was not even tried.
        assert client.server_stats()[str(client.addresses[1])] == {}
        # Until it returns, the other one stands in, for a short while each time.
        assert all(client.put_multi(items, 100).values())
        assert all(0 < client.get_ttl(key)[1] <= 10 for key in away)
        assert all(client.get_ttl(key)[1] > 90 for key in items if key not in away)
