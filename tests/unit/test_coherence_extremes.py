"""Messages that are whole and make no sense: numbers at the end of their range, in any order."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tiered.coherence.broker import BrokerProtocol
from tiered.coherence.effects import Found, Gone, Send, Time
from tiered.coherence.messages import (
    NODE_SIZE,
    TOPIC_SIZE,
    Block,
    Bye,
    ClaimKey,
    Event,
    Granted,
    Held,
    Hello,
    Inquire,
    Kind,
    Leave,
    Lost,
    Ping,
    Pong,
    Publish,
    ReleaseKey,
    Replay,
    Settled,
    Stranger,
    Tell,
    Told,
    Welcome,
    packed,
)
from tiered.coherence.node import NodeProtocol
from tiered.coherence.wire import Wire

EPOCH = 7
LARGEST = 2**64 - 1
NODES = [bytes([number]) * NODE_SIZE for number in range(1, 4)]
TOPIC = b"t" * TOPIC_SIZE


class Sender:
    """Says anything."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def number(self) -> int:
        low, high = self.chance.choice([(0, 3), (LARGEST - 3, LARGEST), (0, LARGEST)])
        return self.chance.randint(low, high)

    def node(self) -> bytes:
        return self.chance.choice(NODES)

    def epoch(self) -> int:
        return self.chance.choice([0, EPOCH, EPOCH, EPOCH, LARGEST])

    def events(self) -> tuple[int, bytes]:
        size = self.chance.randint(1, 5)
        events = packed([Event(Kind.DELETE, TOPIC, b"x")] * size)
        if self.chance.random() < 0.3:
            events = self.chance.randbytes(len(events))
        return size, events

    def of_node(self) -> Any:
        number, node, epoch = self.number, self.node(), self.epoch()
        urgent = self.chance.random() < 0.5
        size, events = self.events()
        return self.chance.choice(
            [
                Hello(node, number(), epoch, number(), number(), "label"),
                Publish(node, epoch, number(), size, events, urgent),
                Publish(node, epoch, number(), size, events, urgent),
                Ping(node, epoch, number(), number()),
                Replay(node, epoch, number()),
                ClaimKey(node, epoch, number(), TOPIC, b"key", number()),
                ReleaseKey(node, epoch, TOPIC, b"key", number()),
                Tell(node, epoch, self.node(), b"payload"),
                Inquire(node, number()),
                Bye(node, epoch),
                Time(),
            ]
        )

    def of_broker(self, hello: int) -> Any:
        number, epoch = self.number, self.epoch()
        size, events = self.events()
        return self.chance.choice(
            [
                Welcome(hello, epoch, number(), number()),
                Block(epoch, number(), self.node(), number(), size, events, True),
                Pong(epoch, number(), number()),
                Lost(epoch, number()),
                Granted(epoch, number(), number()),
                Held(epoch, number(), number()),
                Settled(epoch, number()),
                Told(epoch, self.node(), b"payload"),
                Stranger(epoch),
                Leave(epoch),
                Found(),
                Gone(),
                Time(),
            ]
        )


@pytest.mark.parametrize("seed", range(30))
def test_a_broker_can_send_whatever_it_makes_of_what_nodes_say(seed: int) -> None:
    sender, wire = Sender(seed), Wire()
    broker = BrokerProtocol(EPOCH, 0.0, detection=1.0)
    for step in range(300):
        message = sender.of_node()
        for effect in broker.receive(message[0] if message else None, message, step / 50):
            wire.pack(effect.message)


@pytest.mark.parametrize("seed", range(30))
def test_a_node_outlives_whatever_a_broker_says(seed: int) -> None:
    sender, wire = Sender(seed), Wire()
    node = NodeProtocol(NODES[0], "label", detection=1.0, nonce=1, most_owed=3)
    hello = 0
    for step in range(300):
        size, events = sender.events()
        effects = list(node.receive(sender.of_broker(hello), step / 50))
        effects += node.publish(1 + step * 5, size, events, step / 50, urgent=bool(step % 2))
        for effect in effects:
            if isinstance(effect, Send):
                if isinstance(effect.message, Hello):
                    hello = effect.message.nonce
                try:
                    wire.pack(effect.message)
                except ValueError:
                    pass  # is not sent


def test_a_node_that_counts_to_the_end_does_not_end_its_broker() -> None:
    broker, wire = BrokerProtocol(EPOCH, 0.0, detection=1.0), Wire()
    node, events = NODES[0], packed([Event(Kind.DELETE, TOPIC, b"x")] * 2)
    for message in (
        Hello(node, 1, 0, 0, LARGEST, "label"),
        Publish(node, EPOCH, LARGEST, 2, events, False),
        Hello(node, 2, 0, 0, 1, "label"),
    ):
        for effect in broker.receive(node, message, 1.0):
            wire.pack(effect.message)
    assert broker.ignored == 1  # and then it is a stranger


def test_a_number_that_is_too_large_is_as_wrong_as_a_name_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="a Pong that fits no frame"):
        Wire().pack(Pong(EPOCH, 1, LARGEST + 1))
