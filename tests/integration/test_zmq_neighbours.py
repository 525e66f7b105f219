"""Buses of one host that tell each other of changes straight, ahead of the broker."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import VersionedFake
from tests.integration.busnode import PATIENCE, TOPIC, BusProcess, Listener, wait_until
from tests.integration.test_zmq_bus import new_address
from tiered import InprocCacheClient, TieredInclusiveClient
from tiered.clients.base import CacheClient
from tiered.coherence import CoherenceManager, CoherentWrapperClient, ZmqBus, nodebus
from tiered.coherence.messages import Kind
from tiered.coherence.zeromq import neighbours
from tiered.coherence.zeromq.neighbours import Neighbours, folder_of


class Eager(Listener):
    """Hears of changes as soon as somebody knows of them."""

    eager = True


class Halls:
    """Buses at one address, in one process."""

    def __init__(self, address: str, stack: ExitStack) -> None:
        self.address = address
        self._stack = stack

    def join(self, member: Listener, **options: Any) -> ZmqBus:
        bus = self._stack.enter_context(ZmqBus([self.address], **options))
        bus.join(member)
        wait_until(lambda: member.verified)
        return bus


@pytest.fixture(params=["ipc", "tcp"])
def halls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Halls]:
    with ExitStack() as stack:
        yield Halls(new_address(request.param, tmp_path), stack)


def heard(member: Listener, name: str) -> bool:
    return member.heard[-1:] == [name]


def holds(client: CacheClient, value: object) -> bool:
    return bool(client.get("k", None) == value)


def met(*buses: ZmqBus) -> bool:
    """Whether each knows of all the others."""
    known = [bus.neighbours for bus in buses]
    return all(one is not None and len(one.others) == len(buses) - 1 for one in known)


def test_a_change_is_heard_of_once_and_first_by_notice(
    halls: Halls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodebus, "_QUIET", 0.0)
    told, member, patient = Listener(), Eager(), Listener()
    a, b = halls.join(told), halls.join(member)
    b.join(patient)
    wait_until(lambda: met(a, b))
    names = [f"{number}" for number in range(50)]
    for name in names:
        assert a.publish(Kind.DELETE, TOPIC, [name.encode()], source=told).accepted(PATIENCE)
        wait_until(partial(heard, patient, name))
    assert patient.heard == names
    assert member.heard == names
    assert 0 < b.stats.noticed <= 50  # the bus may be first, where a machine is busy
    assert b.stats.received == 50
    assert b.stats.foreign == 0


def is_stopped(pid: int) -> bool:
    """Whether none of its threads runs any more: the signal takes a moment to reach them all."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def test_neighbours_hear_while_the_broker_does_not(tmp_path: Path) -> None:
    """It is a head start, and no more: what was heard of early is not settled."""
    address = new_address("ipc", tmp_path)
    with ExitStack() as stack:
        broker = stack.enter_context(BusProcess([address], broker=True))
        halls = Halls(address, stack)
        told, member, patient = Listener(), Eager(), Listener()
        options = {"candidate": False, "detection": 2 * PATIENCE}
        a, b = halls.join(told, **options), halls.join(member, **options)
        b.join(patient)
        wait_until(lambda: met(a, b))
        broker.signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(broker.pid))
        receipt = a.publish(Kind.DELETE, TOPIC, [b"k"], source=told, urgent=True)
        wait_until(lambda: member.heard == ["k"])
        assert not receipt.accepted(0.05)
        assert patient.heard == []
        broker.signal(signal.SIGCONT)
        assert receipt.settled(PATIENCE)
        wait_until(lambda: patient.heard == ["k"])
        assert member.heard == ["k"]


def test_who_does_not_want_it_neither_tells_nor_hears(halls: Halls) -> None:
    a = halls.join(Listener())
    member = Eager()
    b = halls.join(member, neighbours=False)
    assert b.neighbours is None
    assert a.publish(Kind.DELETE, TOPIC, [b"k"]).accepted(PATIENCE)
    wait_until(lambda: member.heard == ["k"])
    assert b.stats.noticed == 0


def test_copies_of_others_are_dropped(halls: Halls) -> None:
    server = InprocCacheClient(100)

    def process() -> tuple[ZmqBus, CoherentWrapperClient]:
        bus = ZmqBus([halls.address], detection=5.0)  # so that nobody is out of step soon
        halls._stack.callback(bus.close)
        private, shared = InprocCacheClient(100), VersionedFake(server)
        manager = CoherenceManager("test", private, shared, bus, sample=0)
        tiers = TieredInclusiveClient(private, shared)
        manager.start()
        wait_until(lambda: manager.verified)
        return bus, CoherentWrapperClient(tiers, manager)

    (a, ours), (b, theirs) = process(), process()
    wait_until(lambda: met(a, b))
    for number in range(20):
        ours.put("k", number, 60)
        wait_until(partial(holds, theirs, number))
    wait_until(lambda: b.stats.received == a.stats.published)
    assert b.stats.noticed > 0
    wait_until(lambda: theirs.manager.stats.heard == a.stats.published)  # counted after that


def test_one_with_another_key_is_foreign(halls: Halls) -> None:
    member = Eager()
    a, b = halls.join(Listener(), key="one"), halls.join(member, key="one")
    wait_until(lambda: met(a, b))
    assert a.publish(Kind.DELETE, TOPIC, [b"k"]).accepted(PATIENCE)
    wait_until(lambda: member.heard == ["k"])
    assert b.stats.foreign == 0
    with ZmqBus([halls.address], key="another", candidate=False) as stranger:
        wait_until(lambda: stranger.neighbours is not None and stranger.neighbours.others)
        stranger._protocol.epoch = a.stats.epoch
        stranger.publish(Kind.DELETE, TOPIC, [b"forged"])
        wait_until(lambda: b.stats.foreign > 0)
    assert member.heard == ["k"]


def test_all_is_well_without_a_place_to_meet(
    halls: Halls, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tiered.coherence")
    nowhere = Path("/nowhere/at/all")
    monkeypatch.setattr(neighbours, "folder_of", lambda _: nowhere)
    monkeypatch.setattr("tiered.coherence.zeromq.meeting.folder_of", lambda _: nowhere)
    member = Eager()
    a, b = halls.join(Listener()), halls.join(member)
    assert a.publish(Kind.DELETE, TOPIC, [b"k"]).accepted(PATIENCE)
    wait_until(lambda: member.heard == ["k"])
    assert (a.neighbours, b.neighbours, b.stats.noticed) == (None, None, 0)
    assert "told by the broker alone" in caplog.text


def test_who_was_tidied_away_meets_the_others_again(halls: Halls) -> None:
    a, b = halls.join(Listener()), halls.join(Eager())
    wait_until(lambda: met(a, b))
    before = b.neighbours
    assert isinstance(before, Neighbours)
    os.unlink(before._folder / before._own)
    wait_until(lambda: b.neighbours not in (None, before))
    wait_until(lambda: met(a, b))


def test_nothing_is_left_where_they_met(tmp_path: Path) -> None:
    address = new_address("ipc", tmp_path)
    with ExitStack() as stack:
        halls = Halls(address, stack)
        a, b = halls.join(Listener()), halls.join(Listener())
        wait_until(lambda: met(a, b))
        assert isinstance(a.neighbours, Neighbours)
        folder = a.neighbours._folder
        assert folder == folder_of(a._settings.addresses)
        assert len(list(folder.iterdir())) == 2
    wait_until(lambda: not folder.exists())


def test_a_child_does_not_take_its_parents_place(halls: Halls) -> None:
    member = Eager()
    a, b = halls.join(Listener()), halls.join(member)
    wait_until(lambda: met(a, b))
    pid = os.fork()
    if not pid:
        os._exit(0 if b.neighbours is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert met(a, b)
    assert a.publish(Kind.DELETE, TOPIC, [b"k"]).accepted(PATIENCE)
    wait_until(lambda: member.heard == ["k"])


def test_a_killed_neighbour_is_forgotten(tmp_path: Path) -> None:
    address = new_address("ipc", tmp_path)
    with ExitStack() as stack:
        a = Halls(address, stack).join(Listener())
        node = stack.enter_context(BusProcess([address]))
        wait_until(lambda: a.neighbours is not None and len(a.neighbours.others) == 1)
        node.kill()
        assert isinstance(a.neighbours, Neighbours)

        def forgotten() -> bool:
            a.publish(Kind.DELETE, TOPIC, [b"k"])
            return a.neighbours is not None and not a.neighbours.others

        wait_until(forgotten)
        wait_until(lambda: len(list(a.neighbours._folder.iterdir())) == 1)  # type: ignore[union-attr]


def test_callers_publish_while_a_bus_is_closed(halls: Halls) -> None:
    """The socket that they tell by is closed under their hands."""
    a = halls.join(Listener())
    member = Eager()
    b = halls.join(member)
    wait_until(lambda: met(a, b))
    failed: list[BaseException] = []
    done = threading.Event()

    def publish() -> None:
        try:
            while not done.is_set():
                a.publish(Kind.DELETE, TOPIC, [b"k"])
                done.wait(0.0006)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    for _ in range(5):
        a.close()
        a.start()
        wait_until(lambda: met(a, b))
    done.set()
    thread.join(PATIENCE)
    assert failed == []
