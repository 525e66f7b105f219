"""The compiled core's part in coherence and its twins in Python come to the same."""

from __future__ import annotations

import gc
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered import acceleration
from tiered.coherence import ledger, messages, names, wire
from tiered.coherence.ledger import PythonHeld, PythonRecords
from tiered.coherence.messages import Block, Event, Kind, Publish, made, packed, unpacked
from tiered.coherence.names import name_of
from tiered.coherence.wire import MAX_FRAME, ForeignFrame, Wire
from tiered.coherence.zeromq import neighbours
from tiered.concurrency import fork
from tiered.concurrency.generations import PythonWatchedKeys

core = acceleration.core
compiled = pytest.mark.skipif(core is None, reason="the core is not built, or not wanted")


def both(of_python: Any, of_core: str) -> pytest.MarkDecorator:
    """A test of ``twin``: *of_python*, and what the core has under the name *of_core*."""
    other = pytest.param(getattr(core, of_core, None), marks=compiled, id="compiled")
    return pytest.mark.parametrize("twin", [pytest.param(of_python, id="python"), other])


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[object, ...]:
    """What comes of a call, with the classes of all that is in it."""
    try:
        found = function(*arguments)
    except Exception as error:
        return type(error), str(error)
    parts = found if isinstance(found, tuple) else ()
    return type(found), found, [type(part) for part in parts]


# -- Frames --------------------------------------------------------------------------

NODE = b"node 001"
DELETED = packed([Event(Kind.DELETE, b"topic 01", b"a name")])
PUBLISHED = Publish(NODE, 2, 2**64 - 1, 1, DELETED, True)
BLOCK = Block(2, 3, NODE, 2**64 - 1, 1, DELETED, False)
WIRES = [Wire(keys) for keys in ((), ("new",), ("new", "old"), ("old",))]


class Number(int):
    """Of a class of its own."""


class Countable:
    """No number, but to be used as one."""

    def __index__(self) -> int:
        return 7


class Bytes(bytes):
    """Of a class of its own."""


numbers = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**64 - 1]),
)
odd_numbers = st.sampled_from(
    [-1, 2**64, -(2**63), True, Number(5), Countable(), 1.0, 1.5, Fraction(3, 2), "1", b"1", None]
)
nodes = st.binary(min_size=8, max_size=8)
odd_bytes = st.sampled_from([b"", b"1234567", Bytes(b"12345678"), bytearray(8), "12345678", None])
event_lists = st.lists(
    st.builds(Event, st.integers(0, 12), st.just(b"topic 01"), st.binary(max_size=255)), max_size=4
)
data = st.one_of(event_lists.map(packed), st.binary(max_size=60))
urgency = st.one_of(st.booleans(), st.sampled_from([0, 2, "", "x", None]))


@st.composite
def carriers(draw: st.DrawFn, odd: bool = False) -> Publish | Block:
    """Messages with events; with *odd*, one of the fields may be none that such a message has."""
    kind: Any = draw(st.sampled_from([Publish, Block]))
    fields: dict[str, Any] = dict.fromkeys(kind._fields)
    for field in fields:
        usual = {"node": nodes, "events": data, "urgent": urgency}.get(field, numbers)
        fields[field] = draw(usual)
    fields["size"] = draw(st.integers(0, 5))
    if odd:
        field = draw(st.sampled_from(kind._fields[:-1]))
        fields[field] = draw(odd_bytes if field in ("node", "events") else odd_numbers)
    message: Publish | Block = kind(**fields)
    return message


def test_frames_with_events_lie_as_they_are_described() -> None:
    pair = b"\0\0\0\0\0\0\0\x02" + b"\xff" * 8
    frame = b"\xc4t\x01\x02" + NODE + pair + b"\0\0\0\x01" + b"\x01" + DELETED
    assert WIRES[0].pack(PUBLISHED) == frame
    assert WIRES[0].of_node(frame) == PUBLISHED
    pair = b"\0\0\0\0\0\0\0\x02" + b"\0\0\0\0\0\0\0\x03"
    frame = b"\xc4t\x01\x82" + pair + NODE + b"\xff" * 8 + b"\0\0\0\x01" + b"\0" + DELETED
    assert WIRES[0].pack(BLOCK) == frame
    assert WIRES[0].of_broker(frame) == BLOCK


@compiled
@given(st.sampled_from(WIRES), carriers() | carriers(odd=True))
def test_the_same_is_written(wire: Wire, message: Publish | Block) -> None:
    assert outcome(wire.pack, message) == outcome(wire._pack, message)


@compiled
@given(st.sampled_from(WIRES), st.sampled_from(WIRES), carriers(), st.data())
def test_the_same_is_read(
    by: Wire, at: Wire, message: Publish | Block, more: st.DataObject
) -> None:
    frame: Any = by._pack(message)
    if more.draw(st.booleans()):
        changed = bytearray(frame)
        for _ in range(more.draw(st.integers(0, 2))):
            changed[more.draw(st.integers(0, len(frame) - 1))] = more.draw(st.integers(0, 255))
        # Damaged and signed again, or damaged only; cut off, or too long.
        if by._signer is not None and more.draw(st.booleans()):
            changed[-16:] = by._signer.sign(bytes(changed[:-16]))
        frame = bytes(changed[: more.draw(st.integers(0, len(frame)))])
        frame = more.draw(st.sampled_from([frame, bytes(changed), bytes(changed) + b"+"]))
    form = more.draw(st.sampled_from([bytes, bytes, bytes, Bytes, bytearray, memoryview]))
    frame = form(frame)
    assert outcome(at.of_node, frame) == outcome(at._parse, wire._NODES, frame)
    assert outcome(at.of_broker, frame) == outcome(at._parse, wire._BROKERS, frame)


@compiled
@pytest.mark.parametrize("frame", [None, 1, "frame", b""])
def test_what_is_no_frame_is_refused_alike(frame: Any) -> None:
    for at in WIRES:
        assert outcome(at.of_node, frame) == outcome(at._parse, wire._NODES, frame)


@compiled
@pytest.mark.parametrize("keys", [(), ("key",)])
@pytest.mark.parametrize("message", [PUBLISHED, BLOCK])
def test_the_longest_frame_is_the_same(keys: tuple[str, ...], message: Publish | Block) -> None:
    frame = Wire(keys)._pack(message)
    allowed = []
    for most in range(len(frame) - 20, len(frame) + 20):
        at = Wire(keys, max_frame=most)
        written = outcome(at.pack, message)
        assert written == outcome(at._pack, message)
        reads = at.of_node if message is PUBLISHED else at.of_broker
        try:
            assert reads(frame) == message
        except ForeignFrame:
            assert written[0] is ValueError
        else:
            assert written[1] == frame
            allowed.append(most)
    assert allowed[0] == len(frame)


@compiled
@pytest.mark.parametrize("message", [PUBLISHED, BLOCK])
def test_the_most_events_are_the_same(message: Publish | Block) -> None:
    for length in (MAX_FRAME // 2, MAX_FRAME // 2 + 1):
        large = message._replace(size=length // 100, events=bytes(length))
        assert outcome(WIRES[1].pack, large) == outcome(WIRES[1]._pack, large)
        small = WIRES[0]._pack(large._replace(events=b""))
        frame = small + large.events  # as nobody writes it who keeps to the limit
        assert outcome(WIRES[0].of_node, frame) == outcome(WIRES[0]._parse, wire._NODES, frame)
        assert outcome(WIRES[0].of_broker, frame) == outcome(WIRES[0]._parse, wire._BROKERS, frame)


@compiled
@pytest.mark.parametrize("prepared", [None, WIRES[1]._signer], ids=["plain", "signed"])
def test_the_usual_way_is_the_compiled_one(prepared: Any) -> None:
    newest = prepared and prepared.prepared[0]
    by, limits = Wire(("new",) if newest else ()), (newest, MAX_FRAME, MAX_FRAME)
    heads = [wire._LAYOUTS[kind].head for kind in (Publish, Block)]
    general = pytest.fail  # would be called with the frame
    reads_node = core.FrameReader(Publish, heads[0], False, *limits, general)
    reads_broker = core.FrameReader(Block, heads[1], True, *limits, general)
    writes = core.FrameWriter(Publish, Block, heads, *limits, general)
    assert reads_node(by._pack(PUBLISHED)) == PUBLISHED
    assert reads_broker(by._pack(BLOCK)) == BLOCK
    assert writes(PUBLISHED) == by._pack(PUBLISHED)
    assert writes(BLOCK) == by._pack(BLOCK)
    kinds = {int(kind): kind for kind in Kind}
    assert core.EventsReader(Event, kinds, general)(1, DELETED) == [
        Event(Kind.DELETE, b"topic 01", b"a name")
    ]


def test_what_tells_whether_it_is_urgent_may_raise() -> None:
    class Undecided:
        def __bool__(self) -> bool:
            raise RuntimeError("undecided")

    message = made(Publish, (NODE, 1, 1, 1, DELETED, Undecided()))
    with pytest.raises(RuntimeError, match="undecided"):
        WIRES[1].pack(message)


def test_a_wire_is_freed() -> None:
    found = weakref.ref(Wire(["key"]))
    gc.collect()
    assert found() is None


# -- Events and names ----------------------------------------------------------------


def given_first(function: Callable[..., Any], size: Any, events: bytes) -> tuple[object, ...]:
    """What is given before the fault, if there is one, and that."""
    found: list[object] = []
    try:
        for event in function(size, events):
            found.append((event, *map(type, event)))
    except (ValueError, TypeError) as error:
        return found, type(error)
    return (found,)


@compiled
@given(st.data())
def test_the_same_events_are_unpacked(more: st.DataObject) -> None:
    events = more.draw(event_lists)
    held = bytearray(packed(events))
    if held and more.draw(st.booleans()):
        held[more.draw(st.integers(0, len(held) - 1))] = more.draw(st.integers(0, 255))
        del held[more.draw(st.integers(0, len(held))) :]
    size = more.draw(
        st.just(len(events)) | st.integers(-1, 6) | st.sampled_from([10**30, None, "1", True])
    )
    ours = given_first(unpacked, size, bytes(held))
    assert ours == given_first(messages._unpacked, size, bytes(held))


def test_what_is_no_bytes_holds_no_events() -> None:
    with pytest.raises(TypeError):
        list(unpacked(1, None))  # type: ignore[arg-type]


@compiled
@given(
    st.text(max_size=20)
    | st.integers(0, 300).map(lambda length: "a" * length)
    | st.text(st.characters(codec="ascii"), max_size=130)
    | st.integers()
    | st.binary(max_size=300)
    | st.tuples(st.text(max_size=200), st.floats())
    | st.sampled_from([None, Kind.DELETE, object(), [], "\ud800"])
)
def test_names_are_the_same(key: Any) -> None:
    assert outcome(name_of, key) == outcome(names._name_of, key)


# -- What is held --------------------------------------------------------------------


@both(PythonRecords, "Records")
def test_records_are_kept_while_they_are_used(twin: Any) -> None:
    records = twin()
    records.limit = 3
    first, again = records.enter(b"a", "A"), records.enter(b"a", "B")
    assert first is again is records.get(b"a")
    assert (first.key, first.uses, first.entered) == ("A", 2, 2)
    other = records.enter(b"b", "B")
    records.leave(other)
    assert records.all() == [(b"a", first), (b"b", other)]
    idle = [(b"a", first, 2), (b"b", other, 0), (b"c", other, 1)]
    records.forget(idle)
    assert len(records) == 2
    records.forget([(b"b", other, 1)])
    assert records.get(b"b") is None
    records.abandon()
    assert first.uses == 0
    records.forget([(b"a", first, 1)])
    assert len(records) == 1


@both(PythonRecords, "Records")
def test_another_record_of_the_name_is_not_forgotten(twin: Any) -> None:
    records, others = twin(), twin()
    records.limit = others.limit = 3
    records.leave(records.enter(b"a", "A"))
    other = others.enter(b"a", "A")
    others.leave(other)
    records.forget([(b"a", other, 1)])
    assert len(records) == 1


@both(PythonRecords, "Records")
def test_too_many_records_are_told_of(twin: Any) -> None:
    class Told(twin):  # type: ignore[misc]
        times = 0

        def crowded(self) -> None:
            self.times += 1
            if self.times == 1:
                self.leave(self.enter(b"a", "A"))  # it may be used there

    records = Told()
    records.limit = 2
    for name in (b"a", b"b"):
        records.enter(name, name)
    assert records.times == 0
    records.limit = 1
    held = records.enter(b"b", "B")
    assert (records.times, held.uses) == (2, 2)


@both(PythonHeld, "Held")
def test_a_new_copy_is_not_suspect(twin: Any) -> None:
    held = twin("key")
    assert (held.version, held.deadline, held.heard, held.uses, held.entered) == (None,) * 3 + (
        0,
        0,
    )
    held.deadline = 4.5
    assert held.suspect
    held.copied("version")
    assert not held.suspect
    assert (held.version, held.deadline) == ("version", None)


@both(PythonRecords, "Records")
def test_records_that_hold_each_other_are_freed(twin: Any) -> None:
    class Known(twin):  # type: ignore[misc]
        pass

    records = Known()
    records.limit = 3
    records.enter(b"a", records).version = records.get(b"a")
    found = weakref.ref(records)
    del records
    gc.collect()
    assert found() is None


def test_who_is_called_while_a_record_is_made_can_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a signal's handler is, or what the garbage collector finds. No twin: nothing is called.
    records = PythonRecords()
    records.limit = 3
    inner: list[PythonHeld] = []

    class Interrupted(PythonHeld):
        def __init__(self, key: Any) -> None:
            super().__init__(key)
            if not inner:
                inner.append(self)
                inner.append(records.enter(b"a", "inner"))

    monkeypatch.setattr(ledger, "PythonHeld", Interrupted)
    found: list[PythonHeld] = []
    thread = threading.Thread(target=lambda: found.append(records.enter(b"a", "A")), daemon=True)
    thread.start()
    thread.join(5)
    assert found == [inner[1]]
    assert found[0].uses == 2


# -- Who works on a key --------------------------------------------------------------


@both(PythonWatchedKeys, "WatchedKeys")
def test_watchers_of_a_key_share_a_state(twin: Any) -> None:
    keys = twin()
    state = keys.enter("a", False)
    assert keys.enter("a", True) is state is keys.states["a"]
    assert (state.watchers, state.writers, state.contested, state.version) == (2, 1, False, 0)
    keys.enter("a", True)
    assert state.contested
    state.passed()
    assert state.version == 1
    keys.leave("a", state, True)
    assert state.contested
    keys.leave("a", state, True)
    assert not state.contested
    keys.leave("a", state, False)
    assert not keys.states
    assert keys.enter("b", False) is state  # made once
    assert keys.enter("c", False) is not state
    keys.begin()
    assert not keys.states
    keys.leave("b", state, False)
    assert keys.enter("d", False) is not state


class Forward:
    """A key that is compared by what it is told to do."""

    table: object = None

    compare: Any = staticmethod(lambda: False)

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return bool(self.compare())


@pytest.fixture
def compare() -> Iterator[Callable[[Callable[[], bool]], None]]:
    yield lambda does: setattr(Forward, "compare", staticmethod(does))
    Forward.compare = staticmethod(lambda: False)


@both(PythonWatchedKeys, "WatchedKeys")
def test_a_key_that_raises_leaves_the_table_usable(twin: Any, compare: Any) -> None:
    def fail() -> bool:
        raise RuntimeError("not to be compared")

    keys = twin()
    state = keys.enter(Forward(), False)
    compare(fail)
    with pytest.raises(RuntimeError, match="not to be compared"):
        keys.enter(Forward(), True)
    with pytest.raises(RuntimeError, match="not to be compared"):
        keys.leave(Forward(), state, True)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(keys.enter("a", True)), daemon=True)
    thread.start()
    thread.join(5)
    assert found == [keys.states["a"]]


@both(PythonWatchedKeys, "WatchedKeys")
def test_a_key_may_use_the_table_when_it_is_compared(twin: Any, compare: Any) -> None:
    keys = twin()

    def use() -> bool:
        compare(lambda: False)
        keys.leave("a", keys.enter("a", True), True)
        return False

    keys.enter(Forward(), False)
    compare(use)
    key = Forward()
    keys.leave(key, keys.enter(key, True), True)
    assert len(keys.states) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # there are threads
@both(PythonWatchedKeys, "WatchedKeys")
def test_a_key_may_fork_when_it_is_compared(twin: Any, compare: Any) -> None:
    class Forked(twin):  # type: ignore[misc]
        def after_fork(self) -> None:
            self.begin()

    keys = Forked()
    fork.register(keys)
    pids: list[int] = []

    def forks() -> bool:
        compare(lambda: False)
        pids.append(os.fork())
        return False

    keys.enter(Forward(), False)
    compare(forks)
    failed = True
    try:
        key = Forward()
        state = keys.enter(key, True)
        compare(forks if pids[0] else lambda: False)
        keys.leave(key, state, True)
        failed = len(keys.states) > (0 if 0 in pids else 1)
    finally:
        if 0 in pids:
            os._exit(failed)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
    assert not failed


@both(PythonWatchedKeys, "WatchedKeys")
def test_a_table_may_begin_anew_when_a_key_is_compared(twin: Any, compare: Any) -> None:
    keys = twin()
    for _ in range(9):
        keys.enter(Forward(), False)
    found = weakref.ref(list(keys.states)[-1])
    freed: list[bool] = []

    def begin() -> bool:
        keys.begin()
        freed.append(found() is None)
        return False

    compare(begin)
    key = Forward()
    state = keys.enter(key, False)
    assert freed[0] is False  # it is being looked through
    keys.leave(key, state, False)
    assert not keys.states
    gc.collect()
    assert found() is None


@both(PythonWatchedKeys, "WatchedKeys")
def test_keys_that_hold_their_table_are_freed(twin: Any) -> None:
    class Table(twin):  # type: ignore[misc]
        pass

    keys, key = Table(), Forward()
    key.table = keys
    keys.enter(key, True)
    found = weakref.ref(keys)
    del keys, key
    gc.collect()
    assert found() is None


# -- Datagrams -----------------------------------------------------------------------


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket, bytes]]:
    path = tmp_path / "end"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        sender.setblocking(False)
        receiver.setblocking(False)
        receiver.bind(str(path))
        yield sender, receiver, bytes(path)


@both(neighbours._python_receive, "receive_datagram")
def test_a_datagram_is_received_as_far_as_it_fits(twin: Any, ends: Any) -> None:
    sender, receiver, path = ends
    for length in (0, 1, 1024, 1025, 5000):
        sender.sendto(bytes(length), path)
        assert twin(receiver, 1024) == bytes(min(length, 1024))
    assert twin(receiver, 1024) is None
    receiver.close()
    assert twin(receiver, 1024) is None


@both(neighbours._python_send, "send_datagram")
def test_a_datagram_is_sent_or_the_reason_told(twin: Any, ends: Any) -> None:
    sender, receiver, path = ends
    assert twin(sender, b"notice", path) == 0
    assert receiver.recv(100) == b"notice"
    full = 0
    while not full:
        full = twin(sender, b"notice", path)
    assert full not in neighbours._GONE
    assert twin(sender, b"notice", path + b"s") in neighbours._GONE
    receiver.close()
    assert twin(sender, b"notice", path) in neighbours._GONE
    too_long = twin(sender, b"notice", b"/" + b"long" * 100)
    assert too_long
    assert too_long not in neighbours._GONE
    sender.close()
    assert twin(sender, b"notice", path) not in {0, *neighbours._GONE}
