"""Who is kept out of a bus, and that what comes in from them does no harm."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from tests.integration.test_zmq_bus import new_address
from tiered.coherence import CurveKeys, ZmqBroker, ZmqBus
from tiered.coherence.messages import (
    NODE_SIZE,
    Block,
    Event,
    Hello,
    Kind,
    Leave,
    Pong,
    Publish,
    packed,
)
from tiered.coherence.wire import MAX_FRAME, Wire

KEY = "a secret of this bus"
DELETE = packed([Event(Kind.DELETE, TOPIC, b"forged")])
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48)
READY = b"\4\x26\5READY\x0bSocket-Type\0\0\0\6DEALER\x08Identity\0\0\0\0"


@pytest.fixture
def address(tmp_path: Path) -> str:
    return new_address("tcp", tmp_path)


@pytest.fixture
def stranger() -> Iterator[zmq.Socket[bytes]]:
    """A socket of somebody else."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.set(zmq.LINGER, 1000)
        yield dealer


def in_step(bus: ZmqBus) -> Listener:
    member = Listener()
    bus.join(member)
    wait_until(lambda: member.verified)
    member.distrusted.clear()  # the first broker, if it was not found before
    return member


def say(stranger: zmq.Socket[bytes], address: str, *frames: bytes) -> None:
    stranger.connect(address)
    for frame in frames:
        stranger.send(frame)


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:5555", "tcp://cache.example:1"])
def test_addresses_that_others_reach_need_a_key(address: str) -> None:
    with pytest.raises(ValueError, match=r"can be reached by others.*give key="):
        ZmqBus([address])
    with pytest.raises(ValueError, match="can be reached by others"):
        ZmqBroker([address])
    ZmqBus([address], key=KEY)
    ZmqBus([address], curve=CurveKeys.generate())
    with pytest.raises(ValueError, match="can be reached by others"):
        ZmqBroker(["tcp://*:5555"])


def test_with_one_key_all_are_of_one_bus(address: str) -> None:
    with ZmqBus([address], key=KEY) as bus, BusProcess([address], key=[KEY, "new"]) as other:
        member = in_step(bus)
        wait_until(lambda: other.verified)
        other.ask("publish", ["a"], True)
        assert other.ask("settled", PATIENCE)
        assert member.heard == ["a"]
        assert bus.stats.foreign == 0


@pytest.mark.parametrize("key", ["another", None])
def test_with_another_key_nobody_takes_part(address: str, key: str | None) -> None:
    with ZmqBus([address], key=KEY) as bus:
        member = in_step(bus)
        with BusProcess([address], key=key) as other:
            other.ask("publish", ["a"], False)
            wait_until(lambda: bus.stats.foreign > 0)
            assert other.stats["phase"] in ("joining", "detached")
            assert not other.verified
            assert inquire(address, key=key, timeout=0.3) is None
            assert inquire(address, key=KEY) is not None
            assert member.heard == []
            assert bus.stats.nodes == 1
            assert other.end() == 0


def test_a_broker_with_another_key_is_believed_nothing(address: str) -> None:
    with BusProcess([address], broker=True, key="another"), ZmqBus([address], key=KEY) as bus:
        wait_until(lambda: bus.stats.phase == "joining")
        time.sleep(0.3)
        assert bus.stats.epoch == 0


def test_frames_without_the_key_are_counted_and_dropped(
    address: str, stranger: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with ZmqBus([address], key=KEY) as bus:
        member = in_step(bus)
        epoch = bus.stats.epoch
        node = b"stranger"
        forged = [
            Wire().pack(Hello(node, 1, 0, 0, 1, "stranger")),
            Wire(["another"]).pack(Publish(node, epoch, 1, 1, DELETE, False)),
            b"",
            os.urandom(100),
        ]
        say(stranger, address, *forged)
        wait_until(lambda: bus.stats.foreign == len(forged))
        assert bus.stats.nodes == 1
        assert member.heard == []
        told = [record for record in caplog.records if "dropped what came in" in record.message]
        assert len(told) == 1


def test_what_a_broker_said_is_refused_from_a_node(
    address: str, stranger: zmq.Socket[bytes]
) -> None:
    """Nobody who can listen can send it back, though it is signed."""
    wire = Wire([KEY])
    with ZmqBus([address], key=KEY) as bus:
        in_step(bus)
        epoch = bus.stats.epoch
        block = Block(epoch, 1, b"n" * NODE_SIZE, 1, 1, DELETE, False)
        reflected = [wire.pack(block), wire.pack(Pong(epoch, 1, 1)), wire.pack(Leave(epoch))]
        say(stranger, address, *reflected)
        wait_until(lambda: bus.stats.foreign == 3)


def test_several_frames_in_one_message_are_refused(
    address: str, stranger: zmq.Socket[bytes]
) -> None:
    with ZmqBus([address]) as bus:
        in_step(bus)
        stranger.connect(address)
        frame = Wire().pack(Hello(b"stranger", 1, 0, 0, 1, "stranger"))
        stranger.send_multipart([frame, frame])
        stranger.send_multipart([b"", frame])
        wait_until(lambda: bus.stats.foreign == 2)
        wait_until(lambda: bus.stats.nodes == 1)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes(1000),
        b"\xff" * 1000,
        os.urandom(1000),
        GREETING + READY + b"\0\5hello",
        GREETING + READY + b"\2" + struct.pack(">Q", MAX_FRAME + 1) + bytes(MAX_FRAME),
        GREETING + READY + b"\2" + struct.pack(">Q", 2**62),
    ],
    ids=["http", "zeros", "ones", "random", "ours below", "too long", "huge"],
)
@pytest.mark.parametrize("options", [{}, {"key": KEY}, {"curve": CurveKeys.generate()}])
def test_garbage_from_a_raw_socket_does_no_harm(
    address: str, garbage: bytes, options: dict[str, Any]
) -> None:
    with ZmqBus([address], detection=SELDOM, **options) as bus:
        member = in_step(bus)
        host, _, port = address.removeprefix("tcp://").partition(":")
        with socket.create_connection((host, int(port))) as raw:
            raw.settimeout(PATIENCE)
            try:
                raw.sendall(garbage)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(4096):
                    pass
            except OSError:
                pass  # cut while we were still speaking
        assert bus.publish(Kind.DELETE, TOPIC, [b"a"], source=member).accepted(PATIENCE)
        wait_until(lambda: member.verified)
        assert member.heard == []
        assert not member.distrusted


# -- CURVE ---------------------------------------------------------------------------


def test_with_curve_all_who_have_the_keys_take_part(address: str) -> None:
    keys = CurveKeys.generate()
    pair = [keys.public, keys.secret]
    with (
        BusProcess([address], broker=True, curve=pair) as broker,
        ZmqBus([address], curve=keys) as bus,
        BusProcess([address], curve=pair) as other,
    ):
        member = in_step(bus)
        wait_until(lambda: other.verified)
        other.ask("publish", ["a"], False)
        wait_until(lambda: member.heard == ["a"])
        report = inquire(address, curve=keys)
        assert report is not None
        assert len(report.rows) == 2
        assert broker.stats["foreign"] == 0


def test_with_curve_a_broker_in_a_node_can_be_replaced(address: str) -> None:
    keys = CurveKeys.generate()
    pair = [keys.public, keys.secret]
    with BusProcess([address], curve=pair) as first:
        wait_until(lambda: first.stats["role"] == "broker")
        with ZmqBus([address], curve=keys) as bus:
            member = in_step(bus)
            first.kill()
            wait_until(lambda: bus.stats.role == "broker" and member.verified)


class _OtherPair(CurveKeys):
    """Knows the public key of a bus, and has a pair of its own."""

    def use(self, socket: zmq.Socket[bytes]) -> None:
        super().use(socket)
        public, secret = zmq.curve_keypair()
        socket.set(zmq.CURVE_PUBLICKEY, public)
        socket.set(zmq.CURVE_SECRETKEY, secret)


def test_who_knows_only_the_public_key_is_turned_away(address: str) -> None:
    keys = CurveKeys.generate()
    with ZmqBus([address], curve=keys) as bus:
        in_step(bus)
        known = _OtherPair(keys.public, keys.secret)

        def turned_away() -> bool:
            assert inquire(address, curve=known, timeout=0.3) is None
            assert inquire(address, curve=CurveKeys.generate(), timeout=0.3) is None
            assert inquire(address, timeout=0.3) is None
            return bus.stats.foreign > 0

        wait_until(turned_away)  # on a busy machine they may have given up before
        assert inquire(address, curve=keys) is not None


def test_a_secret_stays_out_of_messages() -> None:
    keys = CurveKeys.generate()
    assert keys.secret not in repr(keys)
    with pytest.raises(ValueError, match=r"^secret must be a key") as told:
        CurveKeys(keys.public, keys.secret[:-1])
    assert keys.secret[:-1] not in str(told.value)
    with pytest.raises(ValueError, match=r"^secret must be a key") as told:
        CurveKeys(keys.public, "%" * 40)  # its letters, but no number of 32 bytes
    with pytest.raises(ValueError, match=r"^public and secret are no pair") as told:
        CurveKeys(CurveKeys.generate().public, keys.secret)
    assert keys.secret not in str(told.value)
    with pytest.raises(TypeError, match=r"^public must be text, not bytes"):
        CurveKeys(keys.public.encode(), keys.secret)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^curve must be CurveKeys"):
        ZmqBus(["ipc://@never"], curve=(keys.public, keys.secret))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^key must be str or bytes"):
        ZmqBus(["ipc://@never"], key=5)  # type: ignore[arg-type]


# -- What a node is told -------------------------------------------------------------


def test_what_comes_from_a_broker_that_is_none_is_dropped(address: str) -> None:
    wire = Wire()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as false:
        false.set(zmq.LINGER, 0)
        false.bind(address)
        # It would give up a broker that does not answer its hello for a while, and the connection.
        with ZmqBus([address], candidate=False, detection=4 * PATIENCE) as bus:
            member = Listener()
            bus.join(member)
            assert false.poll(int(PATIENCE * 1000))
            route, hello = false.recv_multipart()
            asked = wire.of_node(hello)
            assert isinstance(asked, Hello)
            pong = wire.pack(Pong(1, 1, 1))
            for frames in ([b"garbage"], [pong, pong], [hello], [b""]):
                false.send_multipart([route, *frames])
            wait_until(lambda: bus.stats.foreign == 4)
            false.send_multipart([route, pong])  # of a broker that is not followed
            assert not member.verified
            assert bus.stats.epoch == 0


def test_a_message_that_is_too_long_is_told_of_and_not_sent(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with ZmqBus([address], detection=SELDOM) as bus:
        member = in_step(bus)
        with BusProcess([address], detection=SELDOM) as other:
            wait_until(lambda: other.verified)
            other.ask("tell", bus.node.hex(), "x" * (MAX_FRAME - 100))
            wait_until(lambda: len(member.heard) == 1)
        bus.tell(b"somebody", bytes(MAX_FRAME))
        wait_until(lambda: bus.publish(Kind.DELETE, TOPIC, [b"a"]).accepted(PATIENCE))
        assert not member.distrusted
    # As the broker in its thread it needs no frame; as a node of another it does.
    with (
        BusProcess([address], broker=True, detection=SELDOM),
        ZmqBus([address], candidate=False, detection=SELDOM) as bus,
    ):
        member = in_step(bus)
        bus.tell(b"somebody", bytes(MAX_FRAME))
        wait_until(lambda: "a message was not sent" in caplog.text)
        assert bus.publish(Kind.DELETE, TOPIC, [b"a"]).accepted(PATIENCE)
