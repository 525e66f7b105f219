"""The bus over ZeroMQ: real sockets, real processes."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import zmq

from tests.integration.busnode import (
    PATIENCE,
    SELDOM,
    TOPIC,
    BusProcess,
    Listener,
    inquire,
    wait_until,
)
from tests.opened import Opened
from tests.ports import free_port
from tiered.coherence import ZmqBroker, ZmqBus
from tiered.coherence.messages import Event, Kind
from tiered.coherence.zeromq import bus as zeromq_bus
from tiered.coherence.zeromq import driver

_numbers = itertools.count()


def new_address(kind: str, folder: Path) -> str:
    number = next(_numbers)
    return {
        "tcp": lambda: f"tcp://127.0.0.1:{free_port()}",
        "name": lambda: f"tcp://localhost:{free_port()}",
        "ipc": lambda: f"ipc://{folder}/{number}.sock",
        "abstract": lambda: f"ipc://@tiered-test-{os.getpid()}-{number}",
    }[kind]()


@pytest.fixture(params=["tcp", "ipc", "abstract", "name"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_address(request.param, tmp_path)


@pytest.fixture(params=["tcp", "ipc"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_address(request.param, tmp_path)


@pytest.fixture
def node(address: str) -> Iterator[tuple[ZmqBus, Listener]]:
    """A bus in this process."""
    with ZmqBus([address]) as bus:
        member = Listener()
        bus.join(member)
        yield bus, member


def test_two_nodes_follow_one_broker_and_hear_of_each_other(anywhere: str) -> None:
    with ZmqBus([anywhere]) as one, ZmqBus([anywhere]) as other:
        listeners = Listener(), Listener()
        one.join(listeners[0])
        other.join(listeners[1])
        wait_until(lambda: all(listener.verified for listener in listeners))
        # Who has stood still for a while looks for the broker anew.
        wait_until(lambda: sorted([one.stats.role, other.stats.role]) == ["broker", "node"])
        assert one.stats.epoch == other.stats.epoch
        wait_until(lambda: {one.stats.broker, other.stats.broker} == {anywhere})
        assert one.stats.takeovers + other.stats.takeovers == 1
        for number in range(3):
            receipt = one.publish(Kind.DELETE, TOPIC, [b"%d" % number], source=listeners[0])
            assert receipt.accepted(PATIENCE)
        other.publish(Kind.DELETE, TOPIC, [b"back"], source=listeners[1])
        wait_until(lambda: listeners[1].heard == ["0", "1", "2"])
        wait_until(lambda: listeners[0].heard == ["back"])
        assert one.stats.foreign == other.stats.foreign == 0


def test_three_processes_with_a_broker_in_one_of_them(address: str) -> None:
    with (
        BusProcess([address]) as first,
        BusProcess([address]) as second,
        BusProcess([address]) as third,
    ):
        processes = [first, second, third]
        wait_until(lambda: all(process.verified for process in processes))
        wait_until(
            lambda: sorted(one.stats["role"] for one in processes) == ["broker", "node", "node"]
        )
        for number, process in enumerate(processes):
            process.ask("publish", [f"from {number}"], True)
            assert process.ask("accepted", PATIENCE)
            assert process.ask("settled", PATIENCE)
        for number, process in enumerate(processes):
            others = {0, 1, 2} - {number}
            expected = [f"from {other}" for other in sorted(others)]
            wait_until(partial(process.has_heard, expected))
        assert [process.end() for process in processes] == [0, 0, 0]


def test_a_broker_of_its_own_and_who_is_no_candidate(address: str) -> None:
    with BusProcess([address], candidate=False) as early:
        time.sleep(0.3)
        assert early.stats["phase"] == "detached"
        with BusProcess([address], broker=True) as broker, BusProcess([address]) as late:
            wait_until(lambda: early.verified and late.verified)
            wait_until(lambda: {early.stats["role"], late.stats["role"]} == {"node"})
            wait_until(lambda: broker.stats["nodes"] == 2)
            late.ask("publish", ["a"], False)
            wait_until(lambda: early.ask("heard") == ["a"])
            report = inquire(address)
            assert report is not None
            assert report.epoch == broker.stats["epoch"]
            assert {row.node.hex() for row in report.rows} == {
                early.stats["node"],
                late.stats["node"],
            }
            assert late.end() == 0
            wait_until(lambda: broker.stats["nodes"] == 1)
            assert broker.end() == 0
        wait_until(lambda: early.stats["phase"] == "detached")
        assert early.end() == 0


def test_a_broker_says_which_address_is_taken(address: str) -> None:
    with BusProcess([address], broker=True):
        with pytest.raises(OSError, match=f"^{address} cannot be bound: "):
            ZmqBroker([address]).run()
        with BusProcess([address], candidate=False) as node:
            wait_until(lambda: node.verified)  # nobody has taken the place of the first


def test_what_was_published_before_there_was_a_broker_arrives(address: str) -> None:
    with BusProcess([address], candidate=False) as early:
        early.ask("publish", ["early"], False)
        assert not early.ask("accepted", 0.2)
        with BusProcess([address], broker=True) as broker:
            assert early.ask("accepted", PATIENCE)
            assert broker.stats["seq"] == 1


def test_a_node_that_joins_while_events_pass_knows_from_where_on_it_hears(address: str) -> None:
    """The slow joiner: nothing is served before the stream is known to be whole."""
    with BusProcess([address], broker=True), BusProcess([address]) as publisher:
        wait_until(lambda: publisher.verified)
        stop = threading.Event()
        published = itertools.count()

        def publish() -> None:
            while not stop.is_set():
                publisher.ask("publish", [str(next(published))], False)

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            bus, member = ZmqBus([address], candidate=False), Listener()
            bus.join(member)  # before it can have found the broker
            with bus:
                wait_until(lambda: member.verified and len(member.heard) > 50)
        finally:
            stop.set()
            thread.join()
        heard = [int(name) for name in member.heard]
        assert heard == list(range(heard[0], heard[0] + len(heard)))
        assert member.distrusted == ["another broker"]


# -- Takeover ------------------------------------------------------------------------


def test_a_killed_broker_is_replaced_and_nothing_that_was_published_is_lost(
    address: str,
) -> None:
    processes = [BusProcess([address]) for _ in range(3)]
    try:
        wait_until(lambda: all(process.verified for process in processes))
        broker = next(one for one in processes if one.stats["role"] == "broker")
        left = [one for one in processes if one is not broker]
        epoch = left[0].stats["epoch"]
        before = {one: len(one.ask("distrusted")) for one in left}
        broker.kill()
        left[0].ask("publish", ["meanwhile"], False)
        began = time.monotonic()
        wait_until(lambda: all(one.stats["epoch"] != epoch for one in left))
        wait_until(lambda: all(one.verified for one in left))
        assert time.monotonic() - began < 5.0
        wait_until(lambda: sorted(one.stats["role"] for one in left) == ["broker", "node"])
        assert left[0].ask("accepted", PATIENCE)
        # Who joins the new broker after that does not hear of it, and trusts nothing from before.
        wait_until(lambda: left[1].stats["seq"] == left[0].stats["seq"] >= 1)
        assert left[1].ask("heard") in ([], ["meanwhile"])
        assert all(len(one.ask("distrusted")) > before[one] for one in left)
        assert [one.end() for one in left] == [0, 0]
    finally:
        for process in processes:
            process.__exit__()


def test_a_killed_broker_is_missed_at_once(address: str) -> None:
    """Not only when it has been silent for so long that who waits for it would have failed."""
    with BusProcess([address], detection=SELDOM) as first:
        wait_until(lambda: first.stats["role"] == "broker")
        with ZmqBus([address], detection=SELDOM) as bus:
            wait_until(lambda: bus.stats.phase == "following")
            first.kill()
            wait_until(lambda: bus.stats.role == "broker")


def test_a_broker_that_closes_is_replaced(address: str) -> None:
    with BusProcess([address]) as first:
        wait_until(lambda: first.verified)
        with BusProcess([address]) as second:
            wait_until(lambda: second.verified)
            assert first.end() == 0
            wait_until(lambda: second.stats["role"] == "broker" and second.verified)
            assert second.stats["takeovers"] == 1


def test_a_broker_that_is_frozen_is_believed_no_longer_and_followed_again(address: str) -> None:
    bus, member = ZmqBus([address]), Listener()
    bus.join(member)  # before it can have found the broker
    with BusProcess([address], broker=True) as broker, bus:
        wait_until(lambda: member.verified)
        epoch = bus.stats.epoch
        broker.signal(signal.SIGSTOP)
        wait_until(lambda: not member.verified)
        wait_until(lambda: bus.stats.phase == "detached")
        assert bus.stats.takeovers == 0  # the address is still taken
        broker.signal(signal.SIGCONT)
        wait_until(lambda: member.verified)
        assert bus.stats.epoch == epoch
        assert member.distrusted == ["another broker"]  # the first time only
        assert bus.stats.unverified > 0


def test_a_node_that_is_frozen_serves_nothing_until_it_has_caught_up(address: str) -> None:
    with ZmqBus([address]) as bus:
        member = Listener()
        bus.join(member)
        wait_until(lambda: bus.stats.role == "broker")
        with BusProcess([address]) as other:
            wait_until(lambda: member.verified and other.verified)
            other.signal(signal.SIGSTOP)
            names = [str(number) for number in range(100)]
            for name in names:
                bus.publish(Kind.DELETE, TOPIC, [name.encode()], source=member)
            time.sleep(1.6)
            wait_until(lambda: bus.stats.nodes == 1)
            other.signal(signal.SIGCONT)
            wait_until(lambda: other.verified)
            assert other.ask("heard") == names
            assert len(other.ask("distrusted")) == 1


# -- Files that others remove --------------------------------------------------------


@pytest.mark.parametrize("removed", [[".lock"], [""], ["", ".lock"]])
def test_a_broker_whose_files_are_removed_leaves_them_to_another(
    removed: list[str], tmp_path: Path
) -> None:
    address = new_address("ipc", tmp_path)
    path = address.removeprefix("ipc://")
    with ZmqBus([address]) as first, BusProcess([address]) as follower:
        member = Listener()
        first.join(member)
        wait_until(lambda: first.stats.role == "broker" and member.verified)
        wait_until(lambda: follower.verified)
        before = first.stats.epoch
        for suffix in removed:
            os.unlink(path + suffix)
        # Nothing keeps this one from binding, too.
        with BusProcess([address]) as second:
            wait_until(lambda: first.stats.epoch not in (0, before))
            wait_until(lambda: second.stats["epoch"] == first.stats.epoch)
            wait_until(lambda: follower.stats["epoch"] == first.stats.epoch)
            wait_until(lambda: member.verified and second.verified and follower.verified)
            roles = ["broker", "node", "node"]
            wait_until(
                lambda: (
                    sorted([first.stats.role, second.stats["role"], follower.stats["role"]])
                    == roles
                )
            )
            assert os.path.exists(path)
            assert os.path.exists(path + ".lock")


def test_a_broker_of_its_own_ends_when_its_file_is_removed(tmp_path: Path) -> None:
    address = new_address("ipc", tmp_path)
    broker = ZmqBroker([address])
    ended: list[str] = []

    def run() -> None:
        try:
            broker.run()
        except OSError as error:
            ended.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: inquire(address) is not None)
        os.unlink(address.removeprefix("ipc://"))
        wait_until(lambda: ended)
    finally:
        broker.stop()
        thread.join(PATIENCE)
    assert address in ended[0]


# -- Several addresses ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_a_broker_at_a_later_address_gives_way(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_PATIENCE", PATIENCE)  # the broker may be slow to say that it is
    first, second = new_address(kind, tmp_path), new_address(kind, tmp_path)
    with (
        BusProcess([second], broker=True, detection=SELDOM) as later,
        ZmqBus([first, second], detection=SELDOM) as bus,
    ):
        member = Listener()
        bus.join(member)
        wait_until(lambda: member.verified)
        wait_until(lambda: bus.stats.broker == second)
        later.kill()
        wait_until(lambda: bus.stats.role == "broker")
        wait_until(lambda: bus.stats.broker == first)  # the first that can be bound


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_two_brokers_become_one_at_the_earlier_address(kind: str, tmp_path: Path) -> None:
    """As after a split: each side has had one."""
    first, second = new_address(kind, tmp_path), new_address(kind, tmp_path)
    # As long as the other side cannot be seen, both addresses are this side's own.
    with BusProcess([second], broker=False) as away, ZmqBus([first, second]) as bus:
        member = Listener()
        bus.join(member)
        wait_until(lambda: away.verified and member.verified)
    with ZmqBus([first, second], candidate=False) as bus, BusProcess([first, second]) as leader:
        member = Listener()
        bus.join(member)
        wait_until(lambda: member.verified and leader.stats["broker"] == first)
        leader.signal(signal.SIGSTOP)
        with BusProcess([first, second]) as other:
            wait_until(lambda: other.stats["role"] == "broker")
            assert other.stats["broker"] == second
            wait_until(lambda: bus.stats.broker == second and member.verified)
            leader.signal(signal.SIGCONT)
            wait_until(lambda: other.stats["role"] == "node")
            epoch = leader.stats["epoch"]
            wait_until(lambda: bus.stats.epoch == other.stats["epoch"] == epoch)
            wait_until(lambda: other.verified and leader.verified and member.verified)
            followed = [other, leader]
            wait_until(
                lambda: {bus.stats.broker, *(one.stats["broker"] for one in followed)} == {first}
            )


def test_who_starts_finds_the_broker_at_a_later_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_PATIENCE", PATIENCE)  # the broker may be slow to say that it is
    first, second = new_address("tcp", tmp_path), new_address("tcp", tmp_path)
    with (
        BusProcess([second], broker=True, detection=SELDOM),
        ZmqBus([first, second], detection=SELDOM) as bus,
    ):
        wait_until(lambda: bus.stats.phase == "following")
        wait_until(lambda: bus.stats.broker == second)
        assert not bus.sole


def test_an_address_that_answers_to_nobody_is_passed_over(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        first = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        second = new_address("tcp", tmp_path)
        with ZmqBus([first, second]) as bus:
            wait_until(lambda: bus.stats.role == "broker")
            wait_until(lambda: bus.stats.broker == second)


def test_a_broker_at_several_addresses_is_one(tmp_path: Path) -> None:
    addresses = [new_address(kind, tmp_path) for kind in ("tcp", "ipc", "abstract")]
    with BusProcess(addresses, broker=True) as broker:
        for address in addresses:
            with ZmqBus([address], candidate=False) as bus:
                assert bus.publish(Kind.DELETE, TOPIC, [b"a"]).accepted(PATIENCE)
                assert bus.stats.epoch == broker.stats["epoch"]


def test_a_broker_binds_all_of_its_addresses_or_none(tmp_path: Path) -> None:
    free, taken = new_address("ipc", tmp_path), new_address("tcp", tmp_path)
    with BusProcess([taken], broker=True):
        with pytest.raises(OSError, match=taken):
            ZmqBroker([free, taken]).run()
        with ZmqBus([free]) as bus:
            wait_until(lambda: bus.stats.role == "broker")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_broker_at_all_addresses_of_a_machine(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host.strip("[]"), 0), family=family) as probe:
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no such address")
    everywhere = "[::]" if ":" in host else "*"
    with (
        BusProcess([f"tcp://{everywhere}:{port}"], broker=True, key="secret") as broker,
        ZmqBus([f"tcp://{host}:{port}"], key="secret") as bus,
    ):
        wait_until(lambda: bus.stats.phase == "following")
        assert bus.stats.epoch == broker.stats["epoch"]
        wait_until(lambda: bus.stats.role == "node")


def test_an_address_of_another_machine_cannot_be_bound(tmp_path: Path) -> None:
    # Of a block for documentation.
    with ZmqBus(["tcp://203.0.113.77:5555", "tcp://203.0.113.78:5555"], key="secret") as bus:
        wait_until(lambda: bus.stats.phase == "detached")
        time.sleep(1.0)
        assert bus.stats.takeovers == 0
    here = new_address("tcp", tmp_path)
    with ZmqBus(["tcp://203.0.113.77:5555", here], key="secret") as bus:
        wait_until(lambda: bus.stats.role == "broker")
        wait_until(lambda: bus.stats.broker == here)


def test_what_cannot_be_bound_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    address = f"ipc://{tmp_path}/no/such/folder/bus"
    with ZmqBus([address]):
        wait_until(lambda: "cannot be bound" in caplog.text)
    with pytest.raises(OSError, match="No such file or directory"):
        ZmqBroker([address]).run()


def test_an_address_where_another_bus_is_found_is_passed_over(tmp_path: Path) -> None:
    first, second = new_address("tcp", tmp_path), new_address("tcp", tmp_path)
    with (
        BusProcess([first], broker=True, key="another"),
        ZmqBus([first, second], key="secret") as bus,
    ):
        wait_until(lambda: bus.stats.role == "broker")
        wait_until(lambda: bus.stats.broker == second)


def test_a_broker_that_says_goodbye_is_replaced_at_once(tmp_path: Path) -> None:
    """And who comes next at its address is not blamed for it."""
    address = new_address("tcp", tmp_path)
    buses = [ZmqBus([address], detection=SELDOM) for _ in range(4)]

    def leading() -> list[ZmqBus]:
        """Who is the broker, once all follow one that is still there."""
        # Who has not read yet that the last one has left follows that.
        if {bus.stats.phase for bus in buses} != {"following"}:
            return []
        return [bus for bus in buses if bus.stats.role == "broker"]

    with ExitStack() as stack:
        for bus in buses:
            stack.enter_context(bus)
        while len(buses) > 1:
            wait_until(leading)
            [broker] = leading()
            broker.close()
            buses.remove(broker)


def test_a_connection_on_which_nobody_answers_is_given_up(address: str) -> None:
    """TCP may connect a socket with itself, on a port that is given to who dials."""
    with ZmqBus([address], candidate=False) as bus:
        # All is well here below our protocol.
        with zmq.Context() as context, context.socket(zmq.DEALER) as mute:
            monitor = mute.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            with monitor:
                mute.bind(address)
                wait_until(lambda: bus.stats.phase == "joining")
                assert monitor.poll(int(PATIENCE * 1000))
                mute.disable_monitor()
        with BusProcess([address], broker=True):
            wait_until(lambda: bus.stats.phase == "following")


# -- Claims and messages -------------------------------------------------------------


def test_claims_are_granted_to_one(address: str) -> None:
    with BusProcess([address]) as one, BusProcess([address]) as other:
        wait_until(lambda: one.verified and other.verified)
        asked, token, _ = one.ask("claim", "key")
        assert asked
        assert token
        asked, none, left = other.ask("claim", "key")
        assert asked
        assert not none
        assert 0 < left <= 5.0
        one.ask("release", "key", token)
        wait_until(lambda: other.ask("claim", "key")[1])


def test_nodes_send_messages_to_each_other(address: str) -> None:
    with (
        ZmqBus([address], detection=SELDOM) as bus,
        BusProcess([address], detection=SELDOM) as other,
    ):
        member = Listener()
        bus.join(member)
        wait_until(lambda: member.verified and other.verified)
        other.ask("tell", bus.node.hex(), "hello")
        wait_until(lambda: member.heard == [f"{other.stats['node']}: hello"])


# -- The end of a bus ----------------------------------------------------------------


def test_a_closed_bus_is_started_again_as_another_node(address: str) -> None:
    bus = ZmqBus([address])
    bus.close()  # nothing to close
    with bus:
        wait_until(lambda: bus.stats.phase == "following")
        node = bus.stats.node
        bus.publish(Kind.DELETE, TOPIC, [b"a"])
        bus.start()
    assert bus.stats.role == "detached"
    bus.close()
    with bus:
        member = Listener()
        bus.join(member)
        wait_until(lambda: member.verified)
        assert bus.stats.node != node
        assert bus.publish(Kind.DELETE, TOPIC, [b"b"]).accepted(PATIENCE)


def test_what_is_published_last_is_delivered(address: str) -> None:
    with ZmqBus([address]) as bus:
        member = Listener()
        bus.join(member)
        with BusProcess([address]) as other:
            wait_until(lambda: member.verified and other.verified)
            names = [str(number) for number in range(1000)]
            for name in names:
                other.ask("publish", [name], False)
            other.ask("close")
            wait_until(lambda: len(member.heard) == 1000)
            assert member.heard == names


def test_what_is_published_before_a_broker_was_found_is_delivered_by_the_close(
    address: str, node: tuple[ZmqBus, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zeromq_bus, "_PATIENCE", PATIENCE)  # of the close, on a busy machine
    _, member = node
    wait_until(lambda: member.verified)
    for number in range(5):
        with ZmqBus([address]) as brief:
            brief.publish(Kind.DELETE, TOPIC, [b"%d" % number])
    wait_until(lambda: member.heard == ["0", "1", "2", "3", "4"])


def test_a_close_without_a_broker_does_not_take_long(address: str) -> None:
    bus = ZmqBus([address], candidate=False)
    member = Listener()
    bus.start()
    bus.join(member)
    bus.publish(Kind.DELETE, TOPIC, [b"never"])
    began = time.monotonic()
    bus.close()
    assert time.monotonic() - began < PATIENCE / 2
    wait_until(lambda: member.late)


def test_nobody_waits_for_a_bus_that_is_closed(address: str) -> None:
    bus = ZmqBus([address], candidate=False)
    bus.start()
    receipts = [bus.publish(Kind.DELETE, TOPIC, [b"never"], urgent=True)]
    answers: list[bool] = []

    def wait() -> None:
        answers.append(receipts[0].settled(PATIENCE) or receipts[0].accepted(PATIENCE))

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(lambda: bus._progress._waiting == 1)
    began = time.monotonic()
    bus.close()
    waiting.join(PATIENCE)
    receipts.append(bus.publish(Kind.DELETE, TOPIC, [b"never"], urgent=True))
    assert not any(receipt.settled(PATIENCE) for receipt in receipts)
    assert not any(receipt.accepted(PATIENCE) for receipt in receipts)
    assert time.monotonic() - began < PATIENCE - 1
    assert answers == [False]


def test_a_bus_that_is_dropped_ends_its_thread(address: str) -> None:
    opened = Opened()
    bus = ZmqBus([address])
    bus.start()
    assert bus.publish(Kind.DELETE, TOPIC, [b"a"]).accepted(PATIENCE)
    (thread,) = opened.threads
    gone = weakref.ref(bus)
    del bus
    gc.collect()
    wait_until(lambda: gone() is None)  # its thread may hold it for what it does just now
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_member_that_is_dropped_is_forgotten(
    node: tuple[ZmqBus, Listener],
) -> None:
    bus, _ = node
    other = Listener()
    bus.join(other)
    gone = weakref.ref(other)
    del other
    wait_until(lambda: gone() is None)
    bus.publish(Kind.DELETE, TOPIC, [b"a"])


def test_nothing_is_left_open(address: str) -> None:
    def live() -> None:
        with ZmqBus([address]) as bus, ZmqBus([address]) as other:
            wait_until(lambda: {bus.stats.phase, other.stats.phase} == {"following"})

    live()
    opened = Opened()
    for _ in range(3):
        live()
    gc.collect()
    assert not opened.left()


class Raising(Listener):
    """Has a mistake in it."""

    def hear(self, events: Sequence[Event]) -> None:
        raise RuntimeError("a mistake in hear")


def test_a_member_that_raises_harms_itself_and_is_told_of(
    address: str, node: tuple[ZmqBus, Listener], caplog: pytest.LogCaptureFixture
) -> None:
    bus, member = node
    wrong = Raising()
    bus.join(wrong)
    with BusProcess([address]) as other:
        wait_until(lambda: other.verified and member.verified)
        before = len(member.distrusted)
        other.ask("publish", ["a"], True)
        assert other.ask("settled", PATIENCE)
        wait_until(lambda: "an error in this process" in wrong.distrusted)
        wait_until(lambda: len(member.distrusted) > before)
        assert "a mistake in hear" in caplog.text
        wait_until(lambda: member.verified)


# -- Floods --------------------------------------------------------------------------


def test_a_flood_to_a_node_that_does_not_read_is_noticed_and_made_good(address: str) -> None:
    """More than the high-water mark and all buffers take: a gap, and a replay or distrust."""
    with ZmqBus([address]) as bus:
        member = Listener()
        bus.join(member)
        wait_until(lambda: bus.stats.role == "broker")
        with BusProcess([address]) as other:
            wait_until(lambda: member.verified and other.verified)
            other.signal(signal.SIGSTOP)
            name = b"n" * 200
            for _ in range(3000):
                bus.publish(Kind.DELETE, TOPIC, [name] * 10, source=member)
            assert bus.publish(Kind.DELETE, TOPIC, [b"last"], source=member).accepted(PATIENCE)
            other.signal(signal.SIGCONT)
            assert bus.stats.seq == 30_001
            wait_until(lambda: other.stats["seq"] == 30_001)
            wait_until(lambda: other.verified)
            told = other.ask("distrusted")
            assert other.ask("count") == 30_001 or len(told) > 1


def test_a_name_that_nobody_knows_is_told_of_and_passed_over(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with ZmqBus(["tcp://no.such.name:5555", address], key="secret") as bus:
        wait_until(lambda: bus.stats.role == "broker")
        wait_until(lambda: bus.stats.broker == address)
        assert "tcp://no.such.name:5555: " in caplog.text
        assert bus.publish(Kind.DELETE, TOPIC, [b"a"]).accepted(PATIENCE)
