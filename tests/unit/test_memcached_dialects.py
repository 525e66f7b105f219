"""The two dialects: one contract, whatever a server answers, against a peer and a real server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple, TypeVar

import pytest

from tests.conftest import unique_prefix
from tests.integration.peers import Peer
from tiered.clients.memcached.bulk import windows
from tiered.clients.memcached.meta import EARLY_META, META
from tiered.clients.memcached.probe import Dialect
from tiered.clients.memcached.replies import Slot, Stored
from tiered.clients.memcached.stream import Stream, Traffic
from tiered.clients.memcached.text import TEXT
from tiered.errors import BackendError, ServerRefusal, ValueTooLarge

T = TypeVar("T")

DIALECTS: dict[str, Dialect] = {"meta": META, "text": TEXT}


class Link(NamedTuple):
    """A dialect, a stream to somebody who speaks it, and a prefix of keys that are ours."""

    dialect: Dialect
    stream: Stream
    prefix: bytes

    def key(self, name: str) -> bytes:
        return self.prefix + name.encode()

    def do(self, method: str, *args: Any) -> Any:
        """One exchange, all of it."""
        done = getattr(self.dialect, method)(self.stream, *args)
        answer = finished(done) if isinstance(done, Generator) else done
        self.stream.settle()
        return answer


def finished(turns: Generator[None, None, T]) -> T:
    while True:
        try:
            next(turns)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


@pytest.fixture(params=["meta, peer", "text, peer", "meta, real", "text, real"])
def link(request: pytest.FixtureRequest) -> Iterator[Link]:
    name, _, kind = request.param.partition(", ")
    if kind == "real":
        host, _, port = request.getfixturevalue("memcached").address.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as connected:
            prefix = unique_prefix().encode()
            yield Link(DIALECTS[name], Stream(connected, 10, Traffic()), prefix)
    else:
        with Peer(speaks_meta=name == "meta") as peer:
            host, _, port = peer.address.rpartition(":")
            with socket.create_connection((host, int(port)), 10) as connected:
                yield Link(DIALECTS[name], Stream(connected, 10, Traffic()), b"")


# -- Items --------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"x", b"\r\n", b"END\r\n", b"VALUE k 0 1\r\n", bytes(70_000)])
def test_what_was_set_is_got(link: Link, data: bytes) -> None:
    key = link.key("k")
    assert link.do("get", key) is None
    assert link.do("fetch", key) is None
    assert link.do("set", key, data, 100)
    assert link.do("get", key) == data
    assert link.do("fetch", key).data == data
    assert link.do("get_many", [key]) == {key: data}


def test_an_empty_value_is_none(link: Link) -> None:
    key = link.key("k")
    assert link.do("set", key, b"", 100)
    assert link.do("get", key) is None
    assert link.do("get_many", [key]) == {}
    assert link.do("fetch", key).data == b""


def test_a_token_changes_with_every_write(link: Link) -> None:
    key = link.key("k")
    tokens = []
    for data in (b"one", b"two", b"two"):
        assert link.do("set", key, data, 100)
        tokens.append(link.do("fetch", key).token)
    assert link.do("fetch", key).token == tokens[-1]
    assert len(set(tokens)) == 3


def test_a_token_is_told_without_the_value(link: Link) -> None:
    key = link.key("k")
    assert link.do("token", key) is None
    link.do("set", key, bytes(70_000), 100)
    received = link.stream._traffic.received
    assert link.do("token", key) == link.do("fetch", key).token
    assert link.dialect is TEXT or received < 1000
    link.do("delete", key)
    assert link.do("reserve", key, 30).won
    assert link.do("token", key) is None


@pytest.mark.parametrize("conditional", [False, True])
def test_a_write_may_come_with_its_token(link: Link, conditional: bool) -> None:
    key = link.key("k")
    link.do("set", key, b"before", 100)
    token = link.do("fetch", key).token if conditional else None
    written, told = link.do("put", key, b"x", 100, token)
    assert written
    assert told in (link.do("fetch", key).token, None)
    if conditional:
        assert link.do("put", key, b"y", 100, token) == (False, None)


def test_early_servers_are_not_asked_for_the_token_of_a_write() -> None:
    for dialect, asks in ((META, True), (EARLY_META, False)):
        script = Script(dialect, b"HD O1\r\n")
        with script as link:
            assert link.do("put", b"k", b"x", 100) == (True, None)
            assert (b" c\r\n" in script.asked()) == asks


def test_a_write_on_condition_needs_the_very_item(link: Link) -> None:
    key = link.key("k")
    assert not link.do("set", key, b"new", 100, b"1")
    link.do("set", key, b"old", 100)
    token = link.do("fetch", key).token
    link.do("set", key, b"others", 100)
    assert not link.do("set", key, b"new", 100, token)
    assert link.do("get", key) == b"others"
    assert link.do("set", key, b"new", 100, link.do("fetch", key).token)
    assert link.do("get", key) == b"new"


def test_an_add_needs_a_free_place(link: Link) -> None:
    key = link.key("k")
    assert link.do("add", key, b"one", 100)
    assert not link.do("add", key, b"two", 100)
    assert link.do("get", key) == b"one"
    link.do("delete", key)
    assert link.do("reserve", key, 100).won
    assert not link.do("add", key, b"over a stub", 100)


def test_a_delete_says_whether_there_was_one(link: Link) -> None:
    key = link.key("k")
    assert not link.do("delete", key)
    link.do("set", key, b"x", 100)
    assert link.do("delete", key)
    assert link.do("get", key) is None


def test_a_delete_on_condition_needs_the_very_item(link: Link) -> None:
    key = link.key("k")
    assert not link.do("delete", key, b"1")
    link.do("set", key, b"x", 100)
    token = link.do("fetch", key).token
    link.do("set", key, b"y", 100)
    assert not link.do("delete", key, token)
    assert link.do("get", key) == b"y"
    assert link.do("delete", key, link.do("fetch", key).token)
    assert link.do("get", key) is None
    assert link.do("add", key, b"z", 100)


# -- Many ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 512, 513, 1500])
def test_many_are_as_one_each(link: Link, count: int) -> None:
    items = {link.key(f"key{number}"): b"value %d" % number for number in range(count)}
    keys = list(items)
    assert link.do("delete_many", keys) == [False] * count
    assert link.do("set_many", list(items.items()), 100) == [True] * count
    assert link.do("get_many", keys) == items
    assert link.do("get_many", [link.key("nothing"), *keys[:3]]) == dict(list(items.items())[:3])
    assert link.do("delete_many", keys[1:]) == [True] * (count - 1 if count else 0)
    assert link.do("get_many", keys) == dict(list(items.items())[:1])


def test_many_large_ones_go_in_pieces(link: Link) -> None:
    items = {link.key(f"key{number}"): bytes([number]) * 300_000 for number in range(8)}
    assert link.do("set_many", list(items.items()), 100) == [True] * 8
    assert link.do("get_many", list(items)) == items


def test_many_long_keys_go_in_pieces(link: Link) -> None:
    keys = [link.key(f"{number}".zfill(200)) for number in range(600)]
    assert link.do("set_many", [(key, b"x") for key in keys], 100) == [True] * 600
    assert link.do("get_many", keys) == dict.fromkeys(keys, b"x")
    assert link.do("delete_many", keys) == [True] * 600


def test_a_key_that_is_asked_for_twice_is_answered(link: Link) -> None:
    key = link.key("k")
    link.do("set", key, b"x", 100)
    assert link.do("get_many", [key, key]) == {key: b"x"}
    assert link.do("delete_many", [key, key]) == [True, False]


def test_windows_are_bounded_in_number_and_in_bytes() -> None:
    assert [len(window) for window in windows([1] * 1100, lambda _: 1)] == [512, 512, 76]
    sizes = [400_000, 400_000, 10, 600_000, 1]
    assert [list(window) for window in windows(sizes, int)] == [
        [400_000],
        [400_000, 10],
        [600_000],
        [1],
    ]
    assert list(windows([], int)) == []


# -- Stubs --------------------------------------------------------------------------------


def test_one_stub_at_a_time(link: Link) -> None:
    key = link.key("k")
    first = link.do("reserve", key, 30)
    assert (first.won, first.held) == (True, False)
    second = link.do("reserve", key, 30)
    assert (second.won, second.held) == (False, True)
    assert link.do("stub", key) == first.token
    link.do("delete", key)
    assert link.do("stub", key) is None
    assert link.do("reserve", key, 30).won


def test_a_stub_is_no_value(link: Link) -> None:
    key = link.key("k")
    link.do("reserve", key, 30)
    assert link.do("get", key) is None
    assert link.do("get_many", [key]) == {}
    assert link.do("fetch", key).data == b""


def test_a_stub_is_filled_by_its_holder_only(link: Link) -> None:
    key = link.key("k")
    gone = link.do("reserve", key, 30)
    link.do("delete", key)
    assert not link.do("set", key, b"late", 100, gone.token)
    there = link.do("reserve", key, 30)
    assert not link.do("set", key, b"late", 100, gone.token)
    assert link.do("set", key, b"value", 100, there.token)
    assert link.do("get", key) == b"value"
    assert link.do("stub", key) is None


def test_a_value_is_not_reserved_and_its_token_is_told(link: Link) -> None:
    key = link.key("k")
    link.do("set", key, b"value", 100)
    slot = link.do("reserve", key, 30)
    assert (slot.won, slot.held) == (False, False)
    assert slot.token == link.do("fetch", key).token
    assert link.do("get", key) == b"value"


def test_renumbering_changes_the_token_only(link: Link) -> None:
    key = link.key("k")
    link.do("renumber", key)
    assert link.do("get", key) is None
    link.do("set", key, b"value", 100)
    before = link.do("fetch", key)
    link.do("renumber", key)
    after = link.do("fetch", key)
    assert (after.data, after.token != before.token) == (b"value", True)


def test_touching_leaves_the_item_and_its_token(link: Link) -> None:
    key = link.key("k")
    assert not link.do("touch", key, 30)
    link.do("set", key, b"value", 100)
    before = link.do("fetch", key)
    assert link.do("touch", key, 30)
    assert link.do("fetch", key) == before


def test_the_other_dialects_stub_is_one(memcached: Any) -> None:
    host, _, port = memcached.address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as connected:
        stream, key = Stream(connected, 10, Traffic()), unique_prefix().encode() + b"k"
        assert TEXT.reserve(stream, key, 30).won
        slot = META.reserve(stream, key, 30)
        assert (slot.won, slot.held) == (False, True)
        assert META.get(stream, key) is None
        assert META.stub(stream, key) is not None


# -- Whatever a server answers --------------------------------------------------------------


class Script:
    """A server that has answered already, and what it was asked."""

    def __init__(self, dialect: Dialect, answer: bytes) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.link = Link(dialect, Stream(self._ours, 0.02, Traffic()), b"")
        self._theirs.sendall(answer)

    def asked(self) -> bytes:
        """What it was asked so far."""
        return self._theirs.recv(65536)

    def __enter__(self) -> Link:
        return self.link

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._theirs.close()


ITEMS = [(b"k", b"x"), (b"l", b"y")]
CALLS: dict[str, tuple[Any, ...]] = {
    "get": (b"k",),
    "fetch": (b"k",),
    "token": (b"k",),
    "get_many": ([b"k", b"l"],),
    "set": (b"k", b"x", 100),
    "put": (b"k", b"x", 100),
    "add": (b"k", b"x", 100),
    "set_many": (ITEMS, 100),
    "delete": (b"k",),
    "delete_many": ([b"k", b"l"],),
    "reserve": (b"k", 30),
    "stub": (b"k",),
    "renumber": (b"k",),
}


A_STUB = b"VALUE k 22299 0 77\r\n\r\nEND\r\n"
OTHERS_VALUE = b"VALUE k 0 5 77\r\nvalue\r\nEND\r\n"


@pytest.mark.parametrize(
    ("dialect", "method", "answer", "expected"),
    [
        ("meta", "get", b"VA 1 O1\r\nx\r\n", b"x"),
        ("meta", "get", b"VA 1 c5 O1 Z\r\nx\r\n", b"x"),
        ("meta", "get", b"VA 0 O1\r\n\r\n", None),
        ("meta", "get", b"EN\r\n", None),
        ("meta", "get", b"EN O1\r\n", None),
        ("meta", "fetch", b"VA 1 c77 O1\r\nx\r\n", Stored(b"x", b"77")),
        ("meta", "fetch", b"VA 0 c77 O1 Z\r\n\r\n", Stored(b"", b"77")),
        ("meta", "fetch", b"VA 1 c77 O1 X W\r\nx\r\n", Stored(b"x", b"77", outdated=True)),
        ("meta", "token", b"HD c77 s1 O1\r\n", b"77"),
        ("meta", "token", b"HD c77 s0 O1 Z\r\n", None),
        ("meta", "token", b"HD c77 s1 O1 Z X\r\n", None),
        ("meta", "token", b"EN\r\n", None),
        ("meta", "set", b"HD O1\r\n", True),
        ("meta", "set", b"NS O1\r\n", False),
        ("meta", "set", b"EX O1\r\n", False),
        ("meta", "set", b"NF O1\r\n", False),
        ("meta", "put", b"HD c77 O1\r\n", (True, b"77")),
        ("meta", "put", b"HD O1\r\n", (True, None)),
        ("meta", "put", b"NS c0 O1\r\n", (False, None)),
        ("meta", "add", b"NS O1\r\n", False),
        ("meta", "set_many", b"MN\r\n", [True, True]),
        ("meta", "delete", b"HD O1\r\n", True),
        ("meta", "delete", b"NF O1\r\n", False),
        ("meta", "delete_many", b"HD O1\r\nNF O2\r\n", [True, False]),
        ("meta", "reserve", b"HD c5 s0 t-1 O1 W\r\n", Slot(True, False, b"5", -1)),
        ("meta", "reserve", b"HD c5 s0 t29 O1 Z\r\n", Slot(False, True, b"5", 29)),
        ("meta", "reserve", b"HD c5 s9 t29 O1\r\n", Slot(False, False, b"5", 29)),
        # The text dialect's stub; and what is empty for ever, and nobody's.
        ("meta", "reserve", b"HD c5 s0 t29 O1\r\n", Slot(False, True, b"5", 29)),
        ("meta", "reserve", b"HD c5 s0 t-1 O1\r\n", Slot(False, False, b"5", -1)),
        # Of an item that somebody else marked as stale: it is a value all the same.
        ("meta", "reserve", b"HD c5 s9 t29 O1 W X\r\n", Slot(False, False, b"5", 29)),
        ("meta", "stub", b"HD c5 s0 O1\r\n", b"5"),
        ("meta", "stub", b"HD c5 s9 O1\r\n", None),
        ("meta", "stub", b"EN\r\n", None),
        ("meta", "renumber", b"NS O1\r\n", None),
        ("text", "get", b"VALUE k 0 1\r\nx\r\nEND\r\n", b"x"),
        ("text", "get", b"VALUE k 7 1\r\nx\r\nEND\r\n", b"x"),
        ("text", "get", b"VALUE k 0 0\r\n\r\nEND\r\n", None),
        ("text", "get", b"END\r\n", None),
        ("text", "fetch", b"VALUE k 0 1 77\r\nx\r\nEND\r\n", Stored(b"x", b"77")),
        ("text", "fetch", b"VALUE k 0 0 77\r\n\r\nEND\r\n", Stored(b"", b"77")),
        ("text", "token", b"VALUE k 0 1 77\r\nx\r\nEND\r\n", b"77"),
        ("text", "token", A_STUB, None),
        ("text", "token", b"END\r\n", None),
        ("text", "set", b"STORED\r\n", True),
        ("text", "set", b"NOT_STORED\r\n", False),
        ("text", "put", b"STORED\r\n", (True, None)),
        ("text", "put", b"NOT_STORED\r\n", (False, None)),
        ("text", "set_many", b"STORED\r\nNOT_STORED\r\n", [True, False]),
        ("text", "delete", b"DELETED\r\n", True),
        ("text", "delete", b"NOT_FOUND\r\n", False),
        ("text", "delete_many", b"DELETED\r\nNOT_FOUND\r\n", [True, False]),
        (
            "text",
            "reserve",
            b"NOT_STORED\r\nVALUE k 22299 0 77\r\n\r\nEND\r\n",
            Slot(False, True, b"77"),
        ),
        (
            "text",
            "reserve",
            b"NOT_STORED\r\nVALUE k 0 0 77\r\n\r\nEND\r\n",
            Slot(False, False, b"77"),
        ),
        # Somebody's stub that is gone when one looks, twice: he may hold it for all we know.
        ("text", "reserve", b"NOT_STORED\r\nEND\r\n" * 2, Slot(False, True, b"0")),
        # It was stored, and what is there is another's all the same, or nothing any more.
        ("text", "reserve", b"STORED\r\n" + OTHERS_VALUE, Slot(False, False, b"77")),
        ("text", "reserve", b"STORED\r\nEND\r\nSTORED\r\n" + A_STUB, Slot(True, False, b"77")),
        ("text", "stub", b"VALUE k 0 1 77\r\nx\r\nEND\r\n", None),
        ("text", "renumber", b"NOT_STORED\r\n", None),
    ],
)
def test_an_answer_is_understood(dialect: str, method: str, answer: bytes, expected: Any) -> None:
    with Script(DIALECTS[dialect], answer) as link:
        assert link.do(method, *CALLS[method]) == expected


NONSENSE = [
    b"\r\n",
    b"OK\r\n",
    b"ERROR\r\n",
    b"CLIENT_ERROR bad command line format\r\n",
    b"\x00\xff\r\n",
    b"VA\r\n",
    b"VA x O1\r\n\r\n",
    b"VA -1 O1\r\n",
    b"VA 1 O2\r\nx\r\n",
    b"VA 1 O1\r\nxx\r\n",
    b"VA 1 O1 O11\r\nxEN\r\n",
    b"VA 123456789012345678901 O1\r\n",
    b"HD O2\r\n",
    b"HD O11\r\n",
    b"HD xO1\r\n",
    b"EN O2\r\n",
    b"EN k\r\n",
    b"VALUE k 0 1\r\nx\r\nVALUE l 0 1\r\nEND\r\n",
    b"VALUE k 0 1 1 1\r\nx\r\nEND\r\n",
    b"VALUE k\r\n",
    b"VALUE  k 0 1\r\nx\r\nEND\r\n",
    b"VALUE m 0 1\r\nx\r\nEND\r\n",
    b"VALUE m 0 1 77\r\nx\r\nEND\r\n",
    b"VALUE k 0 +1\r\nx\r\nEND\r\n",
    b"VALUE k 0 \xb2\r\nx\r\nEND\r\n",
    b"VALUE k 0 1\r\nx\r\nSTORED\r\n",
    b"VALUE k 0 1 77\r\nx\r\nDELETED\r\n",
    b"VALUE k 0 1\r\nx\r\n" * 3 + b"END\r\n",
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("answer", NONSENSE)
def test_anything_else_makes_no_sense(dialect: str, method: str, answer: bytes) -> None:
    with Script(DIALECTS[dialect], answer) as link, pytest.raises((BackendError, TimeoutError)):
        link.do(method, *CALLS[method])


@pytest.mark.parametrize("method", ["reserve", "stub", "fetch", "token"])
@pytest.mark.parametrize("line", [b"HD O1 s0 t1", b"HD O1 c s0 t1x", b"VA 1 O1\r\nx"])
def test_an_answer_that_lacks_what_was_asked_for_makes_no_sense(method: str, line: bytes) -> None:
    if method in ("stub", "token") and b" c " in line:
        pytest.skip("it does not ask for the time")
    with Script(META, line + b"\r\n") as link, pytest.raises(BackendError):
        link.do(method, *CALLS[method])


# -- Refusals -------------------------------------------------------------------------------

BUSY = b"SERVER_ERROR out of memory\r\n"
LARGE = b"SERVER_ERROR object too large for cache\r\n"
WRITES = ("set", "put", "add")
Refused = Callable[[], None]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("method", [name for name in CALLS if not name.endswith("_many")])
def test_a_refusal_is_the_whole_answer(dialect: str, method: str) -> None:
    with Script(DIALECTS[dialect], BUSY) as link:
        with pytest.raises(ServerRefusal, match="SERVER_ERROR out of memory"):
            link.do(method, *CALLS[method])
        link.stream.settle()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("method", CALLS)
def test_only_what_was_to_be_stored_can_be_too_large(dialect: str, method: str) -> None:
    # Who reads or deletes does not expect this error, and cannot help it.
    with Script(DIALECTS[dialect], LARGE * 2 + b"MN\r\n" * (dialect == "meta")) as link:
        if method == "set_many":
            return
        stores = method in (*WRITES, "reserve") if dialect == "text" else method in WRITES
        with pytest.raises(ValueTooLarge if stores else ServerRefusal):
            link.do(method, *CALLS[method])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_refused_read_of_many_has_no_end_line(dialect: str) -> None:
    with Script(DIALECTS[dialect], b"VALUE k 0 1\r\nx\r\n" + BUSY) as link:
        with pytest.raises(ServerRefusal):
            link.do("get_many", *CALLS["get_many"])
        link.stream.settle()


@pytest.mark.parametrize(
    ("dialect", "answer"),
    [
        ("meta", BUSY + b"HD O2\r\nHD O3\r\n"),
        ("meta", b"HD O1\r\n" + BUSY + b"NF O3\r\n"),
        ("meta", BUSY * 3),
        ("text", BUSY + b"DELETED\r\nDELETED\r\n"),
        ("text", b"DELETED\r\n" + BUSY + b"NOT_FOUND\r\n"),
        ("text", BUSY * 3),
    ],
)
def test_a_refusal_among_deletes_does_not_leave_the_other_answers_to_come(
    dialect: str, answer: bytes
) -> None:
    with Script(DIALECTS[dialect], answer) as link:
        with pytest.raises(ServerRefusal):
            link.do("delete_many", [b"k", b"l", b"m"])
        link.stream.settle()
        # Or what is still to come would be the answer to the next question.
        assert not link.stream._data


def test_refusals_among_writes_in_text_are_told_apart() -> None:
    with Script(TEXT, b"STORED\r\n" + BUSY + LARGE + b"STORED\r\n") as link:
        written = link.do("set_many", [(b"%d" % number, b"x") for number in range(4)], 100)
    assert [type(one) for one in written] == [bool, ServerRefusal, ValueTooLarge, bool]


def test_refusals_among_quiet_writes_are_told_apart_by_writing_one_by_one() -> None:
    answer = BUSY + LARGE + b"MN\r\n" + b"HD O1\r\n" + BUSY + LARGE + b"HD O4\r\n"
    with Script(META, answer) as link:
        written = link.do("set_many", [(b"%d" % number, b"x") for number in range(4)], 100)
    assert [type(one) for one in written] == [bool, ServerRefusal, ValueTooLarge, bool]


def test_more_refusals_than_writes_make_no_sense() -> None:
    with Script(META, BUSY * 100) as link, pytest.raises(BackendError) as caught:
        link.do("set_many", ITEMS, 100)
    assert not isinstance(caught.value, ServerRefusal)


def test_an_item_that_is_answered_again_and_again_makes_no_sense() -> None:
    with Script(TEXT, b"VALUE k 0 1\r\nx\r\n" * 100) as link, pytest.raises(BackendError):
        link.do("get_many", [b"k", b"l"])
