"""Who waits until all have applied his events: right in any order, and cheap in great numbers."""

from __future__ import annotations

import math
from random import Random

import pytest

from tiered.coherence import peers
from tiered.coherence.peers import Peer, Waits


class Counted(set[bytes]):
    """Counts how often it is looked at."""

    looks = 0

    def __contains__(self, node: object) -> bool:
        Counted.looks += 1
        return super().__contains__(node)

    def discard(self, node: object) -> None:
        Counted.looks += 1
        super().discard(node)


def test_a_stalled_node_does_not_make_what_others_say_expensive() -> None:
    waits, peer = Waits(), Peer(b"A")
    Counted.looks = 0
    for seq in range(1, 1001):
        peer.serial = seq
        waits.add(peer, seq, Counted({b"B", b"C", b"stalled"}))
        waits.applied(b"B", seq)
        waits.applied(b"C", seq)
        assert waits.settled() == []
    assert Counted.looks <= 4 * 1000
    waits.applied(b"stalled", math.inf)
    assert [serial for _, serial in waits.settled()] == list(range(1, 1001))
    assert not waits


@pytest.mark.parametrize("seed", range(50))
def test_each_is_told_once_when_all_who_were_there_have_it(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = Random(seed)
    monkeypatch.setattr(peers, "_WAITS", chance.choice([3, 10_000]))
    there = {name: Peer(name) for name in (b"A", b"B", b"C", b"D")}
    waits = Waits()
    expected: dict[tuple[bytes, int], tuple[int, set[bytes]]] = {}
    told: dict[bytes, int] = {}
    seq = 0
    for _ in range(500):
        node = there[chance.choice(list(there))]
        step = chance.random()
        if step < 0.4:
            seq += chance.randint(1, 3)
            node.serial += 1
            others = there.keys() - {node.node}
            expected[node.node, node.serial] = seq, set(others)
            waits.add(node, seq, set(others))
        else:
            # Also what was said before and comes late, more than there is, and farewells.
            applied = math.inf if step > 0.95 else chance.randint(0, seq + 2)
            waits.applied(node.node, applied)
            for number, waiting in expected.values():
                if number <= applied:
                    waiting.discard(node.node)
        if chance.random() < 0.5:
            for peer, serial in waits.settled():
                assert told.get(peer.node, 0) != serial
                told[peer.node] = max(told.get(peer.node, 0), serial)
                assert not expected[peer.node, serial][1]
        assert len(waits) <= 3 + len(there) or peers._WAITS > 3
    for name in there:
        waits.applied(name, math.inf)
    for peer, serial in waits.settled():
        told[peer.node] = max(told.get(peer.node, 0), serial)
    assert told == {name: peer.serial for name, peer in there.items()}
    assert not waits
