"""``python -m tiered coherence`` as processes: what they say, how they end, what they do."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("zmq")

from tests.conftest import SECRET
from tests.integration import demos
from tiered import (
    FilesCacheClient,
    InprocCacheClient,
    MemcachedClient,
    TieredInclusiveClient,
    cached,
    coherent_cached,
)
from tiered.cli.demo.server import PrivateMemcached
from tiered.coherence import ZmqBus
from tiered.coherence.messages import ALL_TOPICS, Kind
from tiered.coherence.names import name_of, topic_of

PATIENCE = 30.0
NAMESPACE = "users"
KEY = "a secret of these tests"


until = partial(demos.until, patience=PATIENCE)


class Program:
    """``python -m tiered coherence``, in a process of its own."""

    def __init__(
        self, *arguments: str, env: dict[str, str] | None = None, output: Any = subprocess.PIPE
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tiered", "coherence", *arguments],
            stdout=output,
            stderr=subprocess.PIPE,
            env={**os.environ, "TIERED_BUS_KEY": "", **(env or {})},
        )
        self._unread = b""
        self.said: list[str] = []

    def line(self, words: str = "") -> str:
        """The next line of its output with *words* in it."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while True:
            line, end, rest = self._unread.partition(b"\n")
            if end:
                self._unread = rest
                self.said.append(line.decode())
                if words in self.said[-1]:
                    return self.said[-1]
                continue
            assert wait([descriptor], PATIENCE), (words, self.said)
            part = os.read(descriptor, 65536)
            assert part, (words, self.said, self.process.communicate()[1])
            self._unread += part

    def end(self, kind: signal.Signals | None = None) -> tuple[int, str, str]:
        """Status, the rest of its output, and its errors, once it has ended."""
        if kind is not None:
            self.process.send_signal(kind)
        output, errors = self.process.communicate(timeout=PATIENCE)
        assert b"Traceback" not in errors, errors.decode()
        said = self._unread + (output or b"")
        return self.process.returncode, said.decode(), errors.decode()

    def stop_reading(self) -> None:
        """As ``head`` does when it has seen enough."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.stdout = None


Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs; none of them outlives the test."""
    started: list[Program] = []

    def begin(*arguments: str, **options: Any) -> Program:
        started.append(Program(*arguments, **options))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/bus"


@pytest.fixture
def broker(start: Start, address: str) -> Program:
    """One that is ready."""
    program = start("broker", "--bind", address, "-v")
    program.line("ready")
    return program


@pytest.fixture
def bus(address: str) -> Iterator[ZmqBus]:
    """A node of this process, to publish with; it becomes no broker."""
    with ZmqBus([address], candidate=False, label="the test") as bus:
        yield bus


def follows(bus: ZmqBus) -> bool:
    return until(lambda: bus.stats.phase == "following")


def is_gone(client: FilesCacheClient, key: str) -> bool:
    return client.entry(key) is None


def tell(bus: ZmqBus, kind: Kind, key: Any, namespace: str = NAMESPACE) -> None:
    receipt = bus.publish(kind, topic_of(namespace), [name_of(key)])
    assert receipt.accepted(PATIENCE)


# -- The broker ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_broker_says_that_it_is_ready_and_ends_when_told(
    start: Start, address: str, bus: ZmqBus, kind: signal.Signals
) -> None:
    program = start("broker", "--bind", address)
    ready = program.line()
    assert re.fullmatch(rf".* broker: ready at {address}, epoch [0-9a-f]{{16}}", ready)
    assert follows(bus)
    assert bus.stats.broker == address
    assert f"{bus.stats.epoch:016x}" in ready
    before = time.monotonic()
    assert program.end(kind) == (0, "", "")
    assert time.monotonic() - before < PATIENCE / 2
    assert until(lambda: bus.stats.phase != "following")


def test_a_broker_tells_who_joins_and_who_leaves(broker: Program, address: str) -> None:
    with ZmqBus([address], candidate=False, label="a node\x1b[31m") as bus:
        joined = broker.line("joined")
        assert joined.endswith(f"joined: {bus.node.hex()} 'a node\\x1b[31m'")
    assert broker.line("left").endswith(f"left: {bus.node.hex()} 'a node\\x1b[31m'")


def test_a_broker_takes_several_addresses(start: Start, address: str) -> None:
    other = f"{address}2"
    program = start("broker", "--bind", address, other)
    assert f"ready at {address}, {other}" in program.line()
    for one in (address, other):
        with ZmqBus([one], candidate=False) as bus:
            assert follows(bus)


def test_an_address_that_is_taken_is_an_error(start: Start, broker: Program, address: str) -> None:
    status, output, errors = start("broker", "--bind", address).end()
    assert (status, output) == (1, "")
    assert errors == f"tiered coherence broker: {address} cannot be bound: somebody has it\n"


def test_a_broker_goes_on_when_nobody_reads_what_it_says(
    start: Start, address: str, bus: ZmqBus
) -> None:
    program = start("broker", "--bind", address, "-v")
    program.line("ready")
    program.stop_reading()
    for _ in range(3):
        with ZmqBus([address], candidate=False) as other:
            assert follows(other)
        time.sleep(0.2)
    assert follows(bus)
    assert program.end(signal.SIGTERM)[0] == 0


def test_a_broker_keeps_as_many_events_as_it_is_told(
    start: Start, address: str, bus: ZmqBus
) -> None:
    start("broker", "--bind", address, "--journal-events", "10").line("ready")
    assert follows(bus)
    for number in range(30):
        tell(bus, Kind.DELETE, number)
    data = json.loads(start("status", "--connect", address, "--json").end()[1])
    assert data["brokers"][0]["seq"] == 30
    assert data["brokers"][0]["journal"] == 10


# -- Secrets -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["--key", "--key-file", "environment"])
def test_only_who_has_the_key_takes_part(
    start: Start, address: str, tmp_path: Path, way: str
) -> None:
    file = tmp_path / "key"
    file.write_text(f"\n{KEY}\n an older one \n")
    options = {"--key": ["--key", KEY], "--key-file": ["--key-file", str(file)]}.get(way, [])
    env = {"TIERED_BUS_KEY": KEY} if way == "environment" else {}
    program = start("broker", "--bind", address, *options, env=env)
    program.line("ready")
    if way != "--key":
        assert KEY.encode() not in Path(f"/proc/{program.process.pid}/cmdline").read_bytes()
    with ZmqBus([address], key=KEY, candidate=False) as bus:
        assert follows(bus)
    if way == "--key-file":
        with ZmqBus([address], key=["an older one", KEY], candidate=False) as bus:
            assert follows(bus)
    status, output, errors = start("status", "--connect", address, "--timeout", "0.5").end()
    assert (status, output) == (1, "")
    assert "no broker answers" in errors
    assert start("status", "--connect", address, *options, env=env).end()[0] == 0


def test_a_key_that_is_given_counts_more_than_the_environment(start: Start, address: str) -> None:
    program = start("broker", "--bind", address, "--key", KEY, env={"TIERED_BUS_KEY": "another"})
    program.line("ready")
    with ZmqBus([address], key=KEY, candidate=False) as bus:
        assert follows(bus)


def test_curve_keys_are_made_and_used(start: Start, address: str, tmp_path: Path) -> None:
    file = tmp_path / "bus.curve"
    assert start("keys", str(file)).end() == (0, "", "")
    assert file.stat().st_mode & 0o777 == 0o600
    program = start("broker", "--bind", address, "--curve-file", str(file))
    program.line("ready")
    assert start("status", "--connect", address, "--curve-file", str(file)).end()[0] == 0
    assert start("status", "--connect", address, "--timeout", "0.5").end()[0] == 1
    another = tmp_path / "another"
    assert start("keys", str(another)).end()[0] == 0
    options = ["--connect", address, "--curve-file", str(another), "--timeout", "0.5"]
    assert start("status", *options).end()[0] == 1


def test_keys_overwrite_nothing(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "bus.curve"
    file.write_text("mine")
    status, output, errors = start("keys", str(file)).end()
    assert (status, output) == (1, "")
    assert errors == f"tiered coherence keys: '{file}': File exists\n"
    assert file.read_text() == "mine"


# -- Listening -----------------------------------------------------------------------------


@pytest.fixture
def listener(start: Start, broker: Program, address: str) -> Start:
    """Starts listeners, and waits until they hear."""

    def begin(*options: str) -> Program:
        program = start("listen", "--connect", address, "--namespace", NAMESPACE, *options)
        program.line("verified")
        return program

    return begin


def test_events_are_shown_for_people(listener: Start, bus: ZmqBus) -> None:
    program = listener()
    tell(bus, Kind.DELETE, ("users@4f", 7))
    tell(bus, Kind.EXPIRE, "émoji 🎉\x1b", namespace="orders")
    tell(bus, Kind.STORED, "x" * 1000)
    time_ = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
    assert re.fullmatch(time_ + r"  delete    users  \('users@4f', 7\)", program.line("delete"))
    topic = topic_of("orders").hex()
    assert program.line("expire").endswith(f"  expire    {topic}  'émoji 🎉\\x1b'")
    assert re.search(r"  stored    users  #[0-9a-f]{40}$", program.line("stored"))
    bus.publish(Kind.CLEAR, topic_of(NAMESPACE), [b""])
    assert program.line("clear").endswith("  clear     users")
    bus.publish(Kind.PROBE, topic_of(NAMESPACE), [bus.node + name_of("k")])
    assert program.line("probe").endswith("  probe     users  'k'")
    bus.publish(Kind.DELETE, topic_of(NAMESPACE), [b"\xff\x00"])
    assert program.line("no key").endswith(r"  delete    users  <no key: b'\xff\x00'>")
    status, _, errors = program.end(signal.SIGTERM)
    assert (status, errors) == (0, "")


def test_events_are_shown_as_json(listener: Start, bus: ZmqBus) -> None:
    program = listener("--json", "--count", "2")
    before = time.time()
    tell(bus, Kind.DELETE, "k")
    tell(bus, Kind.DELETE, "k", namespace="orders")
    one, other = (json.loads(program.line('"delete"')) for _ in range(2))
    assert before - 1 < one.pop("time") < time.time() + 1
    assert one == {
        "event": "delete",
        "namespace": NAMESPACE,
        "topic": topic_of(NAMESPACE).hex(),
        "key": "'k'",
        "name": name_of("k").hex(),
    }
    assert other["namespace"] is None
    assert program.end() == (0, "", "")
    assert [json.loads(line)["event"] for line in program.said] == [
        "found",
        "distrust",
        "verified",
        "delete",
        "delete",
    ]


def test_a_locale_without_these_characters_is_no_error(
    start: Start, broker: Program, address: str, bus: ZmqBus
) -> None:
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    program = start("listen", "--connect", address, "--count", "1", env=env)
    program.line("verified")
    tell(bus, Kind.DELETE, "é")
    assert program.line("delete").endswith("'\\xe9'")
    assert program.end()[0] == 0


def test_what_becomes_of_the_broker_is_told(
    start: Start, broker: Program, listener: Start, address: str, bus: ZmqBus
) -> None:
    program = listener("--quiet")
    assert f"-- found: {address}, epoch " in program.said[0]
    assert "-- distrust: another broker" in program.said[1]
    bus.publish(Kind.DISTRUST, ALL_TOPICS, [b""])
    assert "another node may have missed events" in program.line("distrust")
    tell(bus, Kind.DELETE, "k")
    broker.process.kill()
    assert program.line().endswith(f"-- lost: {address}")
    assert program.line().endswith("-- unverified")
    start("broker", "--bind", address).line("ready")
    assert f"-- found: {address}, epoch " in program.line()
    program.line("verified")
    assert program.end(signal.SIGINT)[0] == 0


def test_events_that_do_not_come_in_time_are_a_failure(listener: Start, bus: ZmqBus) -> None:
    program = listener("--count", "2", "--timeout", "1.5")
    tell(bus, Kind.DELETE, "k")
    assert program.end()[0] == 1


def test_listening_for_a_while_is_none(start: Start, broker: Program, address: str) -> None:
    assert start("listen", "--connect", address, "--timeout", "1").end()[0] == 0


def test_a_broker_that_is_not_found_in_time_is_a_failure(start: Start, address: str) -> None:
    # A detection time after which it would say that nobody answers, if this took so long.
    options = ["--detection", str(PATIENCE), "--timeout", "0.5"]
    assert start("listen", "--connect", address, *options).end() == (1, "", "")


def test_who_hears_nothing_is_told_that_nobody_answers(start: Start, address: str) -> None:
    options = ["--connect", address, "--detection", "0.2", "--timeout", "1"]
    status, output, errors = start("listen", *options).end()
    assert (status, output) == (1, "")
    assert errors.count("\n") == 1
    assert f"no broker answers at {address}; nobody is there, or the key is another" in errors


def test_who_has_heard_a_broker_is_not(start: Start, broker: Program, address: str) -> None:
    options = ["--connect", address, "--detection", "1", "--timeout", "3"]
    status, output, errors = start("listen", *options).end()
    assert (status, errors) == (0, "")
    assert "found" in output


def test_a_listener_ends_when_nobody_reads_what_it_says(listener: Start, bus: ZmqBus) -> None:
    program = listener()
    program.stop_reading()
    tell(bus, Kind.DELETE, "k")
    assert program.end()[0] == 0


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize("command", ["listen", "status"])
def test_output_that_cannot_be_written_is_told_of(start: Start, address: str, command: str) -> None:
    with open("/dev/full", "wb") as full:
        program = start(command, "--connect", address, output=full)
        status, _, errors = program.end()
    assert status == 2
    assert errors == f"tiered coherence {command}: standard output: {os.strerror(errno.ENOSPC)}\n"


# -- Files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [None, "a checksum key"])
def test_the_files_of_a_host_are_kept_in_step(
    listener: Start, bus: ZmqBus, tmp_path: Path, secret: str | None
) -> None:
    path = tmp_path / "files"
    files = FilesCacheClient(10_000_000, path, checksum_key=secret)
    files.put("before", "value", 1000)
    key_file = tmp_path / "checksum"
    key_file.write_text(secret or "")
    options = ["--checksum-key-file", str(key_file)] if secret else []
    program = listener("--files", str(path), "--size", "10M", *options)
    # What was there before is not believed, but kept.
    assert until(lambda: files.get("before", None) is None)
    assert files.entry("before") is not None
    files.put("early", "value", 1000)  # what is written in the first second is not believed either
    assert until(lambda: files.get("early", None) is None)
    for key in ("k", "x" * 1000, "stale", "other"):
        files.put(key, "value", 1000)
    tell(bus, Kind.DELETE, "k")
    tell(bus, Kind.STORED, "x" * 1000)
    tell(bus, Kind.EXPIRE, "stale")
    tell(bus, Kind.DELETE, "other", namespace="orders")
    assert until(lambda: files.get("stale", None) is None)
    assert files.entry("k") is None
    assert files.entry("x" * 1000) is None
    assert files.entry("stale") is not None
    assert files.get("other") == "value"
    assert program.end(signal.SIGTERM)[0] == 0


def test_workers_without_a_bus_see_what_others_change(
    listener: Start, address: str, tmp_path: Path, memcached: PrivateMemcached
) -> None:
    """A worker that reads through files in front of the server, and one elsewhere on the bus."""
    truth = ["old"]
    server = [memcached.address]
    files = FilesCacheClient(10_000_000, tmp_path / "files")
    worker = TieredInclusiveClient(files, MemcachedClient(server, checksum_key=SECRET))
    read = cached(worker, 1000, namespace=f"pages {tmp_path}")(lambda number: truth[0])
    program = listener("--files", files.path)
    time.sleep(1.5)
    with ZmqBus([address], candidate=False) as bus:
        shared = MemcachedClient(server, checksum_key=SECRET)
        decorate = coherent_cached(
            InprocCacheClient(10), shared, bus, 1000, topic=NAMESPACE, namespace=f"pages {tmp_path}"
        )
        elsewhere = decorate(lambda number: truth[0])
        assert elsewhere(1) == read(1) == "old"
        assert files.usage > 0
        truth[0] = "new"
        assert read(1) == "old"  # nobody has told anybody
        elsewhere.invalidate(1)
        assert until(lambda: read(1) == "new")
    for client in (worker, shared):
        client.close()
    assert program.end(signal.SIGTERM)[0] == 0


def test_files_are_not_believed_without_a_broker(
    broker: Program, listener: Start, tmp_path: Path
) -> None:
    files = FilesCacheClient(10_000_000, tmp_path / "files")
    program = listener("--files", files.path, "--quiet")
    time.sleep(1.5)
    files.put("k", "value", 1000)
    broker.process.kill()
    program.line("unverified")
    assert until(lambda: files.get("k", None) is None)
    assert program.end(signal.SIGTERM)[0] == 0


def test_files_are_kept_in_step_when_nobody_reads_what_is_said(
    listener: Start, bus: ZmqBus, tmp_path: Path
) -> None:
    files = FilesCacheClient(10_000_000, tmp_path / "files")
    program = listener("--files", files.path)
    time.sleep(1.5)
    files.put_multi({"k": "value", "l": "value"}, 1000)
    program.stop_reading()
    for key in ("k", "l"):
        tell(bus, Kind.DELETE, key)
        assert until(partial(is_gone, files, key))
    assert program.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("command", ["listen", "broker"])
def test_who_is_told_again_and_again_to_end_ends_as_if_told_once(
    start: Start, broker: Program, address: str, command: str
) -> None:
    program = broker
    if command == "listen":
        program = start("listen", "--connect", address)
        program.line("found")
    while program.process.poll() is None:
        program.process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
    assert program.end()[0] == 0


# -- Status --------------------------------------------------------------------------------


SLOWLY = ["--detection", str(PATIENCE)]
"""A detection time that no machine stalls for: else the node of the test would be silent."""


def test_all_is_well(start: Start, address: str, bus: ZmqBus) -> None:
    start("broker", "--bind", address, *SLOWLY).line("ready")
    assert follows(bus)
    for number in range(3):
        tell(bus, Kind.DELETE, number)
    # Who is out of step for a moment does not ask.
    assert until(lambda: bus.claim(topic_of(NAMESPACE), b"k", 60, PATIENCE).token)
    status, output, errors = start("status", "--connect", address, *SLOWLY).end()
    assert (status, errors) == (0, "")
    first, second, _, node = output.splitlines()
    assert re.fullmatch(rf"{address}  epoch {bus.stats.epoch:016x}, since \d+\.\d (s|min)", first)
    assert second == "event 3, the last 3 kept; 1 claims; 1 nodes"
    assert node.startswith(bus.node.hex())
    assert node.endswith("the test")


def test_all_is_well_as_json(start: Start, address: str, bus: ZmqBus) -> None:
    start("broker", "--bind", address, *SLOWLY).line("ready")
    assert follows(bus)
    tell(bus, Kind.DELETE, "k")
    status, output, errors = start("status", "--connect", address, "--json", *SLOWLY).end()
    assert (status, errors) == (0, "")
    data = json.loads(output)
    assert data["well"]
    (one,) = data["brokers"]
    assert (one["address"], one["seq"], one["journal"], one["claims"]) == (address, 1, 1, 0)
    assert one["epoch"] == f"{bus.stats.epoch:016x}"
    assert one["age"] > 0
    (node,) = one["nodes"]
    assert (node["node"], node["label"]) == (bus.node.hex(), "the test")
    assert (node["seq"], node["lag"], node["trouble"]) == (1, 0, "")
    assert 0 <= node["silent"] < PATIENCE


def test_no_broker_is_told(start: Start, address: str) -> None:
    status, output, errors = start("status", "--connect", address, "--json").end()
    assert status == 1
    assert json.loads(output) == {"well": False, "brokers": []}
    assert errors == ""


@pytest.mark.parametrize("events", [0, 1])
def test_a_node_that_is_frozen_is_told(start: Start, address: str, events: int) -> None:
    # It has nodes in its list for a while, so that we can see them there.
    start("broker", "--bind", address, "--detection", "30").line("ready")
    frozen = start("listen", "--connect", address)
    frozen.line("verified")
    with ZmqBus([address], candidate=False, label="the test") as bus:
        assert follows(bus)
        frozen.process.send_signal(signal.SIGSTOP)
        try:
            for number in range(events):
                tell(bus, Kind.DELETE, number)
            time.sleep(0 if events else 3)
            status, output, _ = start("status", "--connect", address, "--detection", "2").end()
        finally:
            frozen.process.send_signal(signal.SIGCONT)
    assert status == 3
    troubled, well = sorted(output.splitlines()[3:], key=lambda line: "the test" in line)
    assert re.search(" silent | behind " if events else " silent ", troubled)
    assert well.endswith("s          the test")


def test_two_brokers_are_told(start: Start, broker: Program, address: str) -> None:
    other = f"{address}2"
    start("broker", "--bind", other).line("ready")
    status, output, errors = start("status", "--connect", address, other).end()
    assert status == 3
    assert output.count("epoch") == 2
    assert "2 brokers at a time" in errors


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_status_can_be_watched(
    start: Start, broker: Program, address: str, kind: signal.Signals
) -> None:
    program = start("status", "--connect", address, "--watch", "--json")
    for _ in range(2):
        assert json.loads(program.line())["well"]
    broker.process.kill()
    while json.loads(program.line())["well"]:
        pass
    assert program.end(kind)[0] == 1


def test_a_status_that_nobody_reads_has_its_exit_code(
    start: Start, broker: Program, address: str
) -> None:
    program = start("status", "--connect", address)
    program.stop_reading()
    assert program.end()[0] == 0
