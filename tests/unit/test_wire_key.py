"""The key that a server is given: safe for its protocol, and one for each canonical key."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.keys.canonical import canonical
from tiered.keys.wire import MAX_READABLE, wire_key

names = st.one_of(
    st.binary(min_size=1, max_size=300),
    (st.text() | st.integers() | st.tuples(st.text(), st.binary())).map(canonical),
    st.integers(1, 2 * MAX_READABLE).map(lambda length: b"s" * length),
)


@given(names)
def test_a_server_can_be_given_every_wire_key(name: bytes) -> None:
    wire = wire_key(b"an-agreeable-prefix/", name)
    assert 0 < len(wire) <= 250
    assert all(0x21 <= byte <= 0x7E for byte in wire)


@given(names, names)
def test_names_have_one_wire_key_just_when_they_are_equal(one: bytes, other: bytes) -> None:
    assert (wire_key(b"p/", one) == wire_key(b"p/", other)) is (one == other)


@given(names)
def test_the_prefix_stands_before_whatever_the_key_becomes(name: bytes) -> None:
    assert wire_key(b"p/", name) == b"p/" + wire_key(b"", name)


@pytest.mark.parametrize("byte", range(256))
def test_one_unsafe_byte_anywhere_has_the_name_hashed(byte: int) -> None:
    safe = 0x21 <= byte <= 0x7E
    for name in (b"%cs1:k", b"s1%c:k", b"s1:k%c"):
        wire = wire_key(b"", name % byte)
        assert (wire == name % byte) is safe
        assert safe or wire.startswith(b"#")


def test_names_up_to_the_limit_stay_readable_and_longer_ones_do_not() -> None:
    longest = b"s" * MAX_READABLE
    assert wire_key(b"p/", longest) == b"p/" + longest
    assert wire_key(b"p/", longest + b"s").startswith(b"p/#")


def test_hashed_names_keep_160_bits() -> None:
    name = b"two words"
    wire = wire_key(b"p/", name)
    assert wire == b"p/#" + hashlib.blake2b(name, digest_size=20).hexdigest().encode()
    # The bytes that lie on servers.
    assert wire == b"p/#46b120aae2de04fa145598b34328806f0ad37745"


@given(st.text() | st.integers() | st.floats(allow_nan=False) | st.tuples(st.text()))
def test_a_readable_key_is_never_taken_for_a_hashed_one(key: object) -> None:
    # Canonical bytes start with the letter of a type.
    assert canonical(key)[:1].isalpha()
