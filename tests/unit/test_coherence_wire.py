"""Frames of the coherence bus: every message comes back as it was, and nothing else passes."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.codec.sign import Signer
from tiered.coherence import messages
from tiered.coherence.messages import (
    MOST_NAME,
    NODE_SIZE,
    TOPIC_SIZE,
    Block,
    Bye,
    Event,
    Hello,
    Kind,
    Ping,
    Pong,
    Publish,
    Report,
    Row,
    Tell,
    packed,
    unpacked,
)
from tiered.coherence.wire import MAX_FRAME, ForeignFrame, Wire

KEY = b"a secret of this bus"

numbers = st.integers(0, 2**64 - 1)
nodes = st.binary(min_size=NODE_SIZE, max_size=NODE_SIZE)
topics = st.binary(min_size=TOPIC_SIZE, max_size=TOPIC_SIZE)
names = st.binary(max_size=MOST_NAME)
labels = st.text(max_size=60)
events = st.lists(st.builds(Event, st.sampled_from(Kind), topics, names), min_size=1, max_size=40)

_BY_FIELD: dict[str, st.SearchStrategy[Any]] = {
    "node": nodes,
    "to": nodes,
    "topic": topics,
    "name": names,
    "label": labels,
    "payload": st.binary(max_size=300),
    "urgent": st.booleans(),
    "rows": st.lists(st.builds(Row, nodes, labels, numbers, numbers), max_size=5).map(tuple),
}


def _messages(kind: Any) -> st.SearchStrategy[Any]:
    fields = {name: _BY_FIELD.get(name, numbers) for name in kind._fields}
    if "events" in fields:
        together = events.map(lambda some: (len(some), packed(some)))
        del fields["size"], fields["events"]
        return st.builds(
            lambda pair, **others: kind(size=pair[0], events=pair[1], **others),
            together,
            **fields,
        )
    return st.builds(kind, **fields)


NODE_KINDS = messages.NodeMessage.__args__
BROKER_KINDS = messages.BrokerMessage.__args__
of_nodes = st.one_of([_messages(kind) for kind in NODE_KINDS])
of_brokers = st.one_of([_messages(kind) for kind in BROKER_KINDS])
SIGNED = Wire([KEY])
wires = st.sampled_from([Wire(), SIGNED])


@given(wires, of_nodes)
def test_what_a_node_says_arrives_as_it_was(wire: Wire, message: Any) -> None:
    again = wire.of_node(wire.pack(message))
    assert again == message
    assert type(again) is type(message)


@given(wires, of_brokers)
def test_what_a_broker_says_arrives_as_it_was(wire: Wire, message: Any) -> None:
    again = wire.of_broker(wire.pack(message))
    assert again == message
    assert type(again) is type(message)


@given(wires, of_nodes, of_brokers)
def test_nothing_can_be_sent_back_to_where_it_came_from(
    wire: Wire, said: Any, answered: Any
) -> None:
    with pytest.raises(ForeignFrame, match="wrong side"):
        wire.of_broker(wire.pack(said))
    with pytest.raises(ForeignFrame, match="wrong side"):
        wire.of_node(wire.pack(answered))


@given(wires, of_nodes | of_brokers, st.data())
def test_a_frame_that_was_cut_or_grew_is_foreign_or_another_message(
    wire: Wire, message: Any, data: st.DataObject
) -> None:
    frame = wire.pack(message)
    cut = data.draw(st.integers(0, len(frame)))
    more = data.draw(st.binary(max_size=20))
    changed = frame[:cut] + more
    for parse in (wire.of_node, wire.of_broker):
        try:
            again = parse(changed)
        except ForeignFrame:
            continue
        assert again == parse(wire.pack(again))
        if wire is SIGNED:
            assert changed == frame


@given(of_nodes | of_brokers, st.data())
def test_a_signed_frame_that_was_changed_anywhere_is_foreign(
    message: Any, data: st.DataObject
) -> None:
    wire = Wire([KEY])
    frame = bytearray(wire.pack(message))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    for parse in (wire.of_node, wire.of_broker):
        with pytest.raises(ForeignFrame, match="not signed"):
            parse(bytes(frame))


@given(of_nodes | of_brokers, st.data())
def test_an_unsigned_frame_that_was_changed_is_foreign_or_another_message(
    message: Any, data: st.DataObject
) -> None:
    wire = Wire()
    frame = bytearray(wire.pack(message))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    for parse in (wire.of_node, wire.of_broker):
        try:
            again = parse(bytes(frame))
        except ForeignFrame:
            continue
        assert type(again) in (*NODE_KINDS, *BROKER_KINDS)
        assert parse(wire.pack(again)) == again


@given(wires, st.binary(max_size=400))
def test_garbage_is_foreign(wire: Wire, garbage: bytes) -> None:
    for parse in (wire.of_node, wire.of_broker):
        with pytest.raises(ForeignFrame):
            parse(garbage)


def test_keys_are_exchanged_one_process_after_the_other() -> None:
    old, both, new = Wire(["old"]), Wire(["new", "old"]), Wire(["new"])
    bye = Bye(b"n" * NODE_SIZE, 7)
    assert both.of_node(old.pack(bye)) == bye
    assert new.of_node(both.pack(bye)) == bye
    with pytest.raises(ForeignFrame, match="not signed"):
        new.of_node(old.pack(bye))


def test_with_and_without_a_key_do_not_understand_each_other() -> None:
    bye = Bye(b"n" * NODE_SIZE, 7)
    with pytest.raises(ForeignFrame):
        Wire().of_node(Wire([KEY]).pack(bye))
    with pytest.raises(ForeignFrame):
        Wire([KEY]).of_node(Wire().pack(bye))


def test_the_signature_of_a_cached_value_is_none_of_a_frame() -> None:
    frame = Wire().pack(Bye(b"n" * NODE_SIZE, 7))
    with pytest.raises(ForeignFrame, match="not signed"):
        Wire([KEY]).of_node(frame + Signer([KEY]).sign(frame))


def test_a_frame_says_what_is_wrong_with_it() -> None:
    wire = Wire()
    frame = wire.pack(Ping(b"n" * NODE_SIZE, 1, 2, 3))
    for changed, reason in [
        (b"", "too few"),
        (b"HTTP/1.1 200 OK", "not of a coherence bus"),
        (frame[:2] + b"\x02" + frame[3:], "version 2 of the format, not 1"),
        (frame[:3] + b"\x7f" + frame[4:], "unknown code 127"),
        (frame[:-1], "35 bytes are no Ping"),
        (frame + b"\0", "37 bytes are no Ping"),
    ]:
        with pytest.raises(ForeignFrame, match=reason):
            wire.of_node(changed)


@pytest.mark.parametrize(
    ("size", "data"),
    [(0, b""), (0, b"1234567890"), (2, bytes(19)), (1, bytes(266)), (2**32 - 1, bytes(20))],
)
def test_a_count_that_cannot_be_is_foreign(size: int, data: bytes) -> None:
    frame = Wire().pack(Publish(b"n" * NODE_SIZE, 1, 1, size, data, False))
    with pytest.raises(ForeignFrame, match="events cannot be"):
        Wire().of_node(frame)
    frame = Wire().pack(Block(1, 1, b"n" * NODE_SIZE, 1, size, data, False))
    with pytest.raises(ForeignFrame, match="events cannot be"):
        Wire().of_broker(frame)


def test_names_and_labels_have_bounds() -> None:
    wire = Wire()
    hello = wire.pack(Hello(b"n" * NODE_SIZE, 1, 2, 3, 4, ""))
    assert wire.of_node(hello + b"l" * 255) == Hello(b"n" * NODE_SIZE, 1, 2, 3, 4, "l" * 255)
    with pytest.raises(ForeignFrame, match="a label of 256 bytes"):
        wire.of_node(hello + b"l" * 256)
    with pytest.raises(ForeignFrame, match="utf-8"):
        wire.of_node(hello + b"\xff")
    release = wire.pack(messages.ReleaseKey(b"n" * NODE_SIZE, 1, b"t" * TOPIC_SIZE, b"", 2))
    with pytest.raises(ForeignFrame, match="a name of 256 bytes"):
        wire.of_node(release + b"k" * 256)


def test_a_label_is_cut_between_characters() -> None:
    wire = Wire()
    hello = Hello(b"n" * NODE_SIZE, 1, 2, 3, 4, "x" + "é" * 200)
    assert wire.of_node(wire.pack(hello)) == hello._replace(label="x" + "é" * 127)
    report = Report(1, 2, 3, 4, 5, 6, (Row(b"n" * NODE_SIZE, "é" * 200, 7, 8),))
    again = wire.of_broker(wire.pack(report))
    assert again == report._replace(rows=(report.rows[0]._replace(label="é" * 127),))


def test_half_a_row_is_foreign() -> None:
    wire = Wire()
    rows = (Row(b"n" * NODE_SIZE, "one", 7, 8),)
    frame = wire.pack(Report(1, 2, 3, 4, 5, 6, rows))
    with pytest.raises(ForeignFrame, match="half a label"):
        wire.of_broker(frame[:-1])
    with pytest.raises(ForeignFrame, match="half a row"):
        wire.of_broker(frame[:-4])


@pytest.mark.parametrize("keys", [(), (KEY,)])
def test_a_frame_has_a_longest(keys: tuple[bytes, ...]) -> None:
    wire = Wire(keys)
    tell = Tell(b"n" * NODE_SIZE, 1, b"m" * NODE_SIZE, b"")
    room = MAX_FRAME - len(wire.pack(tell))
    longest = tell._replace(payload=bytes(room))
    frame = wire.pack(longest)
    assert len(frame) == MAX_FRAME
    assert wire.of_node(frame) == longest
    with pytest.raises(ValueError, match="a frame is up to 1048576"):
        wire.pack(tell._replace(payload=bytes(room + 1)))
    with pytest.raises(ForeignFrame, match="a frame is up to 1048576"):
        wire.of_node(frame + b"\0")


def test_the_bytes_of_a_frame_stay_what_they_are() -> None:
    pong = Pong(0x0102030405060708, 9, 10)
    frame = Wire().pack(pong)
    assert frame == b"\xc4t\x01\x83" + struct.pack(">QQQ", *pong)
    assert Wire([KEY]).pack(pong)[:-16] == frame
    assert Wire([KEY]).pack(pong)[-16:].hex() == "83fafe69bc2a2f183b24c8424e617e8f"


@given(events)
def test_events_are_unpacked_as_they_were_packed(some: list[Event]) -> None:
    assert list(unpacked(len(some), packed(some))) == some


@pytest.mark.parametrize("key", ["", b""])
def test_an_empty_key_is_refused(key: Any) -> None:
    with pytest.raises(ValueError, match="key must not be empty"):
        Wire([key])


def test_a_label_that_is_no_text_is_shown_as_escapes() -> None:
    # The name of a program need not be UTF-8; Python keeps such bytes as surrogates.
    wire = Wire()
    hello = Hello(b"n" * NODE_SIZE, 1, 0, 0, 0, "host/caf\udce9.py/7")
    said = wire.of_node(wire.pack(hello))
    assert isinstance(said, Hello)
    assert said.label == r"host/caf\udce9.py/7"
    report = Report(1, 1, 0, 1, 0, 0, (Row(b"n" * NODE_SIZE, hello.label, 0, 0),))
    told = wire.of_broker(wire.pack(report))
    assert isinstance(told, Report)
    assert told.rows[0].label == r"host/caf\udce9.py/7"
