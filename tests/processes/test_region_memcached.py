"""Regions on memcached: real servers, real processes."""

from __future__ import annotations

import os
import pickle
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.fakes import together
from tests.integration.peers import Raw
from tests.integration.proxy import Proxy
from tests.integration.test_fork import in_child
from tests.ports import free_port
from tests.processes.regions import Cluster, Setup, crowds, eventually
from tiered import InprocCacheClient, MemcachedClient
from tiered.cli.demo.server import PrivateMemcached
from tiered.codec.values import Header, ValueCodec
from tiered.region import NO_VALUE, CacheRegion, SharedInvalidationStrategy, make_region
from tiered.testing import ManualClock

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

LOCKED = {"distributed_lock": True}
KINDS = ("memcached", "client", "tiers")


@pytest.fixture
def setup(memcached: PrivateMemcached) -> Setup:
    return Setup(memcached.address, unique_prefix())


@pytest.fixture
def cluster(setup: Setup, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(setup, tmp_path) as cluster:
        yield cluster


def far(region: CacheRegion) -> MemcachedClient:
    """The client of the server."""
    client: Any = region.backend
    authority = client.client.authority
    assert isinstance(authority, MemcachedClient)
    return authority


def errors(region: CacheRegion) -> int:
    """All that were counted anywhere."""
    return region.stats.errors + far(region).stats.errors


# -- Values ----------------------------------------------------------------------------


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    def __hash__(self) -> int:
        return self.x


JSON: list[Any] = [None, False, 0, "", [], {}, 1.5, "äöü |", {"a": [1, {"b": None}]}, "x" * 5_000]
ANY: list[Any] = [*JSON, (1, 2), {1: {2}}, Point(3), b"|", os.urandom(3_000_000)]


@pytest.mark.parametrize("dogpile", ["", "dogpile.cache."])
@pytest.mark.parametrize("name", ["memcached", "pymemcache", "pylibmc", "bmemcached"])
@pytest.mark.parametrize("signed", [False, True])
def test_values_come_back_as_they_were(setup: Setup, name: str, dogpile: str, signed: bool) -> None:
    options = {} if signed else {"checksum_key": None}
    region = setup._replace(kind=dogpile + name, options=options).region()
    other = setup._replace(kind=dogpile + name, options=options).region()
    for number, value in enumerate(ANY if signed else JSON):
        key = f"key {number}"
        assert region.get(key) is NO_VALUE
        assert region.get_or_create(key, lambda value=value: value) == value
        assert other.get(key) == value
        assert type(other.get(key)) is type(value)
        other.set(key, [value])
        assert region.get(key) == [value]
        region.delete(key)
        assert other.get(key) is NO_VALUE
    assert errors(region) == errors(other) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_many_values(setup: Setup, kind: str) -> None:
    region, other = (setup._replace(kind=kind).region() for _ in "12")
    region.set_multi({"a": 1, "b": (2,)})
    assert other.get_multi(["a", "b", "c"]) == [1, (2,), NO_VALUE]
    made = other.get_or_create_multi(["c", "a"], lambda *keys: [key * 2 for key in keys])
    assert made == ["cc", 1]
    assert region.get_multi(["a", "b", "c"]) == [1, (2,), "cc"]
    other.delete_multi(["a", "c"])
    if kind != "tiers":  # of what another process deletes, a near tier hears nothing
        assert region.get_multi(["a", "b", "c"]) == [NO_VALUE, (2,), NO_VALUE]
    assert errors(region) == errors(other) == 0


def test_settings_of_texts_only(memcached: PrivateMemcached) -> None:
    settings = {
        "cache.backend": "dogpile.cache.memcached",
        "cache.expiration_time": "60",
        "cache.arguments.url": f"{memcached.address},",
        "cache.arguments.checksum_key": "123",
        "cache.arguments.prefix": unique_prefix(),
        "cache.arguments.distributed_lock": "true",
        "cache.arguments.lock_timeout": "5",
        "cache.arguments.memcached_expire_time": "1000",
        "cache.arguments.min_compress_len": "100",
    }
    region = make_region().configure_from_config(settings, "cache.")
    assert region.get_or_create("k", lambda: ("x" * 200,)) == ("x" * 200,)
    explained = far(region).explain("k")
    assert dict(explained.detail)["compressed"]
    with Raw(memcached.address) as raw:
        assert 990 <= raw.life(str(dict(explained.detail)["wire_key"])) <= 1002
    assert errors(region) == 0


def test_what_json_cannot_say_reaches_the_caller_and_is_not_kept(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    for locked in (False, True):
        options = {"checksum_key": None, "distributed_lock": locked}
        region = setup._replace(options=options, name=f"{locked}").region()
        region.delete("k")
        assert region.get_or_create("k", lambda: (1, 2)) == (1, 2)
        assert region.get("k") is NO_VALUE
        assert region.stats.errors == 1
        # Not what was there before, either.
        region.set_multi({"k": "old", "j": "old"})
        region.set_multi({"k": (1, 2), "j": "new"})
        assert region.get_multi(["k", "j"]) == [NO_VALUE, "new"]
        assert region.get_or_create("k", lambda: "new") == "new"
        assert region.stats.errors == 2
    assert "with a checksum_key, whatever pickles can be kept" in caplog.text


# -- One computation -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_cold_key_is_made_once(cluster: Cluster, kind: str) -> None:
    processes = cluster.start(4, kind=kind, options=LOCKED)
    for turn in range(1, 4):
        answers = list(crowds(processes, "threads", f"key {turn}", 4, 0.1))
        assert len(answers) == 16
        assert len({answer.value for answer in answers}) == 1
        assert len(cluster.creators) == turn
    assert all(one.ask("errors") == 0 for one in processes)


def test_without_a_lock_it_is_made_once_in_each_process(cluster: Cluster) -> None:
    processes = cluster.start(4)
    cluster.close()
    for one in processes:
        one.begin("crowd", "k", 4)
    cluster.await_creators(4)
    assert all(one.waits(0.1) for one in processes)
    cluster.open()
    for one in processes:
        assert {answer.value[0] for answer in one.hear()} == {one.pid}
    assert sorted(cluster.creators) == sorted(one.pid for one in processes)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_and_tasks_of_two_processes_are_in_one_lock_domain(
    cluster: Cluster, kind: str
) -> None:
    processes = cluster.start(2, kind=kind, options=LOCKED)
    for turn in range(1, 4):
        answers = list(crowds(processes, "both", f"key {turn}", 8, 0.1))
        assert len(answers) == 32
        assert len({answer.value for answer in answers}) == 1
        assert len(cluster.creators) == turn


@pytest.mark.parametrize("kind", KINDS)
def test_waiters_have_the_value_soon(cluster: Cluster, kind: str) -> None:
    holder, waiter = cluster.start(2, kind=kind, options=LOCKED)
    late = []
    for turn in range(5):
        holder.begin("threads", f"key {turn}", 1, 0.2)
        cluster.await_creators(turn + 1)
        (answer,) = waiter.ask("threads", f"key {turn}", 1)
        (made,) = holder.hear()
        assert answer.value == made.value
        late.append(answer.ended - made.value[1])
    # They look every 10 ms. A quarter of a second is for a machine that is busy.
    assert statistics.median(late) < 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_a_holder_that_is_killed_is_replaced(cluster: Cluster, kind: str) -> None:
    # A lock that ends while the creators are held up goes to the next one, which is right: it is
    # longer than the machine may stall here.
    victim, *waiters = cluster.start(3, kind=kind, options={**LOCKED, "lock_timeout": 3})
    cluster.close()
    victim.begin("threads", "k", 1)
    cluster.await_creators()
    for one in waiters:
        one.begin("threads", "k", 4)
    assert all(one.waits(0.2) for one in waiters)
    victim.kill()
    killed = time.monotonic()
    cluster.open()
    answers = [answer for one in waiters for answer in one.hear()]
    # Without the option it would be ten seconds.
    assert max(answer.ended for answer in answers) - killed < 9
    assert len({answer.value for answer in answers}) == 1
    assert len(cluster.creators) == 2


def test_a_failure_is_not_waited_for_by_other_processes(cluster: Cluster, setup: Setup) -> None:
    region = setup._replace(options=LOCKED).region()

    def fail() -> None:
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        region.get_or_create("k", fail)
    (other,) = cluster.start(1, options=LOCKED)
    assert other.ask("make", "k", 1) == 1


# -- Deletes and invalidations ---------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["delete", "set", "invalidate"])
def test_what_was_begun_before_a_change_is_not_kept_after_it(
    cluster: Cluster, kind: str, change: str
) -> None:
    maker, other = cluster.start(2, kind=kind, options={**LOCKED, "recheck": 0})
    cluster.close()
    maker.begin("threads", "k", 1)
    cluster.await_creators()
    if change == "delete":
        other.ask("delete", "k")
    elif change == "set":
        other.ask("set", "k", "set")
    else:
        other.ask("invalidate", True)
    cluster.open()
    (answer,) = maker.hear()
    assert answer.value[0] == maker.pid
    for one in (other, maker):
        assert one.ask("get", "k") == ("set" if change == "set" else None)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_an_invalidation_reaches_other_processes(cluster: Cluster, kind: str, hard: bool) -> None:
    recheck = 0.3
    one, other = cluster.start(2, kind=kind, expiration_time=1000.0, options={"recheck": recheck})
    assert one.ask("make", "k", "old") == other.ask("make", "k", "not made") == "old"
    assert one.ask("get", "k") == other.ask("get", "k") == "old"
    one.ask("invalidate", hard)
    assert one.ask("get", "k") is None
    if kind == "tiers":
        eventually(lambda: other.ask("get", "k") is None)
    assert other.ask("get", "k") is None
    assert other.ask("make", "k", "new") == "new"
    assert one.ask("get", "k") == other.ask("get", "k") == "new"
    assert one.ask("make", "k", "newer") == "new"


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_soft_invalidation_one_makes_it_and_the_others_get_the_old_one(
    cluster: Cluster, kind: str
) -> None:
    one, other = cluster.start(
        2, kind=kind, expiration_time=1000.0, options={**LOCKED, "recheck": 0}
    )
    one.ask("make", "k", "old")
    other.ask("invalidate", False)
    cluster.close()
    one.begin("threads", "k", 1)
    cluster.await_creators()
    assert other.ask("make", "k", "not made") == "old"
    cluster.open()
    (made,) = one.hear()
    assert other.ask("get", "k") == made.value


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_set_after_another_process_invalidates_is_there(
    cluster: Cluster, kind: str
) -> None:
    one, other = cluster.start(2, kind=kind, options={"recheck": 1000})
    for turn in range(3):
        one.ask("set", "k", f"old {turn}")
        assert one.ask("get", "k") == f"old {turn}"
        other.ask("invalidate", True)
        one.ask("set", "k", turn)
        assert one.ask("get", "k") == other.ask("get", "k") == turn


@pytest.mark.parametrize("kind", KINDS)
def test_regions_of_other_names_stay_as_they_are(setup: Setup, kind: str) -> None:
    options = {"recheck": 0}
    one, other, same = (
        setup._replace(kind=kind, name=name, options=options).region() for name in "aba"
    )
    for hard in (True, False):
        one.set("one", hard)
        other.set("other", hard)
        assert same.get("one") is hard
        one.invalidate(hard)
        assert same.get("one") is NO_VALUE
        assert other.get("other") is hard


# -- Servers that fail -----------------------------------------------------------------


@pytest.mark.usefixtures("memcached")  # skips where none is installed
@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("kind", ["raw", "client", "tiers"])
def test_a_server_that_is_killed_and_started_again(
    clock: ManualClock, kind: str, locked: bool
) -> None:
    server = PrivateMemcached().start(free_port())
    try:
        client = MemcachedClient(
            [server.address],
            checksum_key=SECRET,
            serializer="raw" if kind == "raw" else "pickle",
            clock=clock,
        )
        region = make_region("r").configure(
            [InprocCacheClient(10, clock=clock), client] if kind == "tiers" else client,
            expiration_time=1000,
            arguments={"distributed_lock": locked},
        )
        assert region.get_or_create("k", lambda: 1) == 1
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        made = together(lambda n: region.get_or_create(f"dead {n % 2}", lambda: n), 8)
        assert set(made) <= set(range(8))
        region.set("k", 2)
        region.delete("j")
        region.get_multi(["k", "j"])
        region.invalidate()
        region.invalidate(hard=False)
        assert region.get_or_create_multi(["m"], lambda *keys: list(keys)) == ["m"]
        assert errors(region) > 0
        server.start(server.port)
        clock.advance(60)
        region.get("k")
        assert region.get_or_create("afterwards", lambda: 1) == 1
        assert region.get_or_create("afterwards", lambda: 2) == 1
        known = errors(region)
        assert far(region).get("afterwards", None) is not None
        region.invalidate()
        assert region.get("afterwards") is NO_VALUE
        assert errors(region) == known
    finally:
        server.stop()


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("near", [False, True])
def test_an_invalidation_that_a_server_has_missed_is_not_lost(
    memcached: PrivateMemcached,
    second_memcached: PrivateMemcached,
    clock: ManualClock,
    near: bool,
    hard: bool,
) -> None:
    with Proxy(memcached.address) as one, Proxy(second_memcached.address) as other:
        proxies = {proxy.address: proxy for proxy in (one, other)}
        prefix = unique_prefix()

        def region() -> CacheRegion:
            client = MemcachedClient(list(proxies), checksum_key=SECRET, prefix=prefix, clock=clock)
            tiers: Any = [InprocCacheClient(100, clock=clock), client] if near else client
            return make_region("r").configure(tiers, 1000, {"recheck": 1})

        reader, changer = region(), region()
        strategy = changer.region_invalidator
        assert isinstance(strategy, SharedInvalidationStrategy)
        mark = strategy.keys[0 if hard else 1]
        home = proxies[str(dict(far(changer).explain(mark).detail)["server"])]
        keys = [f"key {number}" for number in range(10)]
        reader.set_multi(dict.fromkeys(keys, "old"))
        assert reader.get_multi(keys) == ["old"] * 10
        home.refuse()
        clock.advance(10.0)  # of two revisions, the younger is right, by what servers tell the time
        changer.invalidate(hard)
        far(changer).close()  # it does not tell the server any more
        home.listen()
        assert region().get_multi(keys) == [NO_VALUE] * 10
        clock.advance(2)
        assert reader.get_multi(keys) == [NO_VALUE] * 10
        clock.advance(2)
        assert reader.get_multi(keys) == [NO_VALUE] * 10


# -- Bytes that somebody else has written ----------------------------------------------


def wire_key(region: CacheRegion, key: str) -> str:
    return str(dict(far(region).explain(key).detail)["wire_key"])


class Evil:
    """Unpickled, it leaves a trace."""

    done: ClassVar[list[str]] = []

    def __reduce__(self) -> Any:
        return Evil.done.append, ("executed",)


@pytest.fixture
def untouched() -> Iterator[None]:
    Evil.done.clear()
    yield
    assert Evil.done == []


def envelope(region: CacheRegion, key: str, payload: Any, serializer: str, secret: Any) -> bytes:
    """What a client with another secret, or none, writes for the region's *key*."""
    name = far(region)._name(key)
    codec = ValueCodec(checksum_key=secret or "any", serializer=serializer)
    if secret is None:  # a good digest, and what no client of ours makes with it
        codec._signer = ValueCodec(serializer="raw")._signer
        codec._newest = codec._signer.prepared[0]
    now = time.time()
    return codec.encode(name.signed, payload, Header(now, now + 1000))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("locked", [False, True])
# The clients pickle, and refuse to be without a secret.
@pytest.mark.parametrize(
    ("kind", "signed"), [("memcached", False), *((kind, True) for kind in KINDS)]
)
def test_bytes_of_others_are_a_miss_and_are_never_executed(
    setup: Setup, kind: str, signed: bool, locked: bool
) -> None:
    options: dict[str, Any] = {"distributed_lock": locked, "recheck": 0}
    if not signed:
        options["checksum_key"] = None
    region = setup._replace(kind=kind, options=options).region()
    wire = wire_key(region, "k")
    with Raw(setup.address) as raw:
        region.set("k", "good")
        good = raw.get(wire)
        assert good is not None
        evil = pickle.dumps(Evil())
        head = b'{"ct": %r, "v": 2}|' % time.time()
        spoilt = [
            b"garbage",
            b"|",
            evil,
            head + evil,
            good[:-1],
            good[:20],
            good + b"x",
            bytes([good[0] ^ 1]) + good[1:],
            envelope(region, "other key", b"moved", "raw", SECRET if signed else None),
            envelope(region, "k", Evil(), "pickle", None),
            envelope(region, "k", Evil(), "pickle", "another secret"),
            envelope(region, "k", head + evil, "raw", None),
            envelope(region, "k", head + evil, "raw", "another secret"),
        ]
        for number, bad in enumerate(spoilt):
            if kind == "tiers":
                region = setup._replace(kind=kind, options=options).region()
            before = errors(region)
            raw.set(wire, bad)
            assert region.get("k") is NO_VALUE, bad
            assert errors(region) > before, bad
            assert region.get_or_create("k", lambda n=number: n) == number, bad
            assert region.get("k") == number, bad


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"|",
        b"no json|1",
        b"[]|1",
        b'{"v": 2}|1',
        b'{"ct": "soon", "v": 2}|1',
        b'{"ct": NaN, "v": 2}|1',
        b'{"ct": 1e999, "v": 2}|1',
        b'{"ct": true, "v": 2}|no json',
        b'{"ct": 1.0, "v": 2}',
        b"[" * 100_000,
        b'{"ct": 1.0, "v": 2}|' + b"[" * 100_000,
    ],
)
def test_bytes_that_no_region_wrote_are_a_miss(setup: Setup, payload: bytes) -> None:
    region = setup._replace(options={"checksum_key": None}).region()
    far(region).put("k", payload, 1000)
    assert region.get("k") is NO_VALUE
    assert region.stats.errors >= 1
    assert region.get_or_create("k", lambda: "new") == "new"
    assert region.get("k") == "new"


def test_a_value_of_another_version_of_the_format_is_made_anew(setup: Setup) -> None:
    region = setup._replace(options={"checksum_key": None}).region()
    far(region).put("k", b'{"ct": %r, "v": 1}|"old"' % time.time(), 1000)
    assert region.get_or_create("k", lambda: "new") == "new"


# -- Forks -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_goes_on_by_itself(setup: Setup, kind: str) -> None:
    region = setup._replace(kind=kind, options={**LOCKED, "recheck": 0}).region()
    region.set("parent's", 1)
    started, go = threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        assert go.wait(30)
        return "parent's"

    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(region.get_or_create("slow", slow)))
    thread.start()
    assert started.wait(30)

    def child() -> None:
        assert region.get("parent's") == 1
        assert region.get_or_create("child's", lambda: 2) == 2
        # What the parent holds, it holds: a delete ends that, for all.
        region.delete("slow")
        assert region.get_or_create("slow", lambda: "child's") == "child's"
        region.set("parent's", 3)
        region.invalidate()
        assert region.get("child's") is NO_VALUE
        region.set("after", 4)

    in_child(child, 30)
    go.set()
    thread.join(30)
    assert answers == ["parent's"]
    assert region.get("slow") is NO_VALUE  # it was invalidated
    assert region.get("parent's") is NO_VALUE
    assert region.get("after") == 4
    assert errors(region) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_waits_for_what_its_parent_makes(setup: Setup, kind: str) -> None:
    region = setup._replace(kind=kind, options=LOCKED).region()
    started, go = threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        assert go.wait(30)
        return "parent's"

    thread = threading.Thread(target=lambda: region.get_or_create("slow", slow))
    thread.start()
    assert started.wait(30)
    told, tell = os.pipe()

    def child() -> None:
        os.write(tell, b"!")
        assert region.get_or_create("slow", lambda: "child's") == "parent's"

    def open_gate() -> None:
        os.read(told, 1)
        time.sleep(0.1)
        go.set()

    opener = threading.Thread(target=open_gate)
    opener.start()
    in_child(child, 30)
    opener.join(30)
    thread.join(30)
    os.close(told)
    os.close(tell)
