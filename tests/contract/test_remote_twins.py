"""What values from servers pass through, compiled and in Python: the same for any bytes."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.acceleration import core
from tiered.clients.memcached.bulk import python_split_items
from tiered.codec.pages import Manifest, split
from tiered.codec.values import Header, ValueCodec, _PlainOpener
from tiered.entry import Entry
from tiered.keys.wire import KeyName, PythonKeyNames, key_names
from tiered.sentinels import FOREVER

pytestmark = pytest.mark.skipif(core is None, reason="the compiled core is not in use")

NAME = KeyName(b"\x04app/s1:k", b"app/s1:k")
HEADERS = st.builds(
    Header,
    st.floats(0, 2e9),
    st.floats(allow_nan=False),
    st.floats(0, 1e9),
    st.floats(0, 1e6, width=32),
)
KEYS = st.one_of(
    st.text(max_size=130),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7F), max_size=130),
    st.integers(),
    st.tuples(st.text(max_size=5), st.integers()),
    st.binary(max_size=5),
    st.none(),
)


def codec(secret: Any = "a secret") -> ValueCodec:
    return ValueCodec(checksum_key=secret)


@given(st.sampled_from([b"", b"app/", b"x" * 64]), st.lists(KEYS, max_size=8))
def test_keys_have_the_same_names(prefix: bytes, keys: list[Any]) -> None:
    ours, general = key_names(prefix), PythonKeyNames(prefix)
    assert ours is not general
    for key in keys:
        name = ours(key)
        assert type(name) is KeyName
        assert name == general(key)
    assert ours.index(keys) == general.index(keys)
    assert [ours.sign(key) for key in keys] == [general(key)[0] for key in keys]
    assert [general.sign(key) for key in keys] == [general(key)[0] for key in keys]


class Text(str):
    """Not just a text."""


@pytest.mark.parametrize("key", [Text("k"), "", "k" * 112, "k" * 113, "k" * 120, "é", "\x7f", "k "])
def test_a_key_at_the_edge_has_the_same_names(key: str) -> None:
    assert key_names(b"p")(key) == PythonKeyNames(b"p")(key)


def test_a_key_without_a_canonical_form_is_refused_alike() -> None:
    with pytest.raises(TypeError, match="object"):
        key_names(b"")(object())


ITEMS = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"key", b"other"]), st.binary(max_size=12)), max_size=4
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Answers as a server gives them, and spoilt ones."""
    answer = b"".join(
        b"VALUE %b %d %d\r\n%b\r\n" % (key, draw(st.integers(0, 70000)), len(data), data)
        for key, data in draw(ITEMS)
    )
    answer += draw(st.sampled_from([b"END\r\n", b"", b"EN", b"END\r", b"SERVER_ERROR x\r\n"]))
    if answer and draw(st.booleans()):
        at = draw(st.integers(0, len(answer) - 1))
        answer = answer[:at] + draw(st.binary(max_size=3)) + answer[at + 1 :]
    return answer[: draw(st.integers(0, len(answer)))] if draw(st.booleans()) else answer


@given(st.binary(max_size=5), answers())
def test_answers_are_split_alike(before: bytes, answer: bytes) -> None:
    results = []
    for split_items in (core.split_items, python_split_items):
        asked, found = {b"a", b"b", b"key"}, dict[bytes, bytes]()
        where = split_items(before + answer, len(before), asked, found)
        results.append((where, asked, found))
    assert results[0] == results[1]


@given(HEADERS, st.binary(max_size=300), st.binary(max_size=30))
def test_envelopes_are_sealed_alike(header: Header, payload: bytes, name: bytes) -> None:
    ours = codec()
    kind = 0xC5_01_01_00
    sealed = core.seal(ours._newest, kind, header, name, payload)
    head = b"".join((kind.to_bytes(4, "big"), sealed[20:48], len(name).to_bytes(4, "big")))
    assert sealed == ours._signer.sign(head, payload, name) + head + payload
    assert ours.header(name, sealed) == header


@given(HEADERS, st.one_of(st.integers(), st.text(), st.none()), st.data())
def test_envelopes_are_opened_alike(header: Header, value: Any, data: st.DataObject) -> None:
    ours = codec(["new", "old"])
    plain = _PlainOpener(ours)
    writer = codec(data.draw(st.sampled_from(["new", "old", "foreign"])))
    sealed = writer.encode(NAME.signed, value, header)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(sealed) - 1))
        sealed = sealed[:at] + data.draw(st.binary(max_size=2)) + sealed[at + 1 :]
    opened, expected = ours.open(NAME.signed, sealed), plain.open(NAME.signed, sealed)
    if opened is not None:
        assert opened == expected
    elif expected is not None:
        # What is not usual is left to the other: here, the key of yesterday.
        assert ours.decode(NAME.signed, sealed)[0] == expected[0]


def broken() -> Any:
    raise ZeroDivisionError


class Broken:
    """Fails to be read."""

    def __reduce__(self) -> Any:
        return broken, ()


def test_many_are_opened_alike_and_the_unusual_are_named() -> None:
    ours = codec(["new", "old"])
    header = Header(1.0, 100.0)
    manifest, _ = split(ours.encode(b"n", "x" * 5000, header), 1000)
    stored = {
        b"usual": ours.encode(b"n", {"a": 1}, header),
        b"for ever": ours.encode(b"n", None, Header(1.0, FOREVER)),
        b"old": codec("old").encode(b"n", 2, header),
        b"foreign": codec("foreign").encode(b"n", 3, header),
        b"large": ours.encode(b"n", random.Random(1).randbytes(20_000), header),
        b"manifest": ours.seal_manifest(b"n", manifest, header),
        b"broken": ours.encode(b"n", Broken(), header),
        b"another's": ours.encode(b"m", 4, header),
        b"short": b"x",
        b"empty": b"",
    }
    asked: dict[bytes, Any] = {wire: (wire.decode(), (b"n", wire)) for wire in stored}
    found: dict[Any, Entry] = {}
    unusual = ours.open_many(stored, asked, 10.0, found)
    assert found == {"usual": Entry({"a": 1}, 110.0), "for ever": Entry(None, FOREVER)}
    assert set(unusual) == stored.keys() - {b"usual", b"for ever"}
    plain: dict[Any, Entry] = {}
    left = _PlainOpener(ours).open_many(stored, asked, 10.0, plain)
    assert plain.items() >= found.items() or all(plain[key] == found[key] for key in found)
    assert set(left) == {b"foreign", b"manifest", b"broken", b"another's", b"short", b"empty"}
    value, _ = ours.decode(b"n", stored[b"manifest"])
    assert type(value) is Manifest


def test_what_is_opened_holds_no_reference_to_where_it_lay() -> None:
    ours = codec()
    sealed = ours.encode(b"n", [1, 2], Header(1.0, 2.0))
    opened = ours.open(b"n", sealed)
    assert opened is not None
    assert opened[0] == [1, 2]
    assert pickle.loads(pickle.dumps(opened)) == opened
