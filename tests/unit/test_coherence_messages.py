"""Events as bytes, and what namespaces and keys are called in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.coherence.messages import (
    ALL_TOPICS,
    MOST_NAME,
    NOBODY,
    NODE_SIZE,
    TOPIC_SIZE,
    Event,
    Kind,
    packed,
    packed_names,
    unpacked,
    without,
)
from tiered.coherence.names import name_of, topic_of
from tiered.errors import KeyEncodingError
from tiered.keys.canonical import canonical

topics = st.binary(min_size=TOPIC_SIZE, max_size=TOPIC_SIZE)
names = st.binary(max_size=MOST_NAME)
events = st.lists(st.builds(Event, st.sampled_from(Kind), topics, names), max_size=20)


def before_the_fault(given_events: Iterable[Event]) -> tuple[list[Event], bool]:
    """What was given, and whether that was all."""
    found: list[Event] = []
    try:
        for event in given_events:
            found.append(event)
    except ValueError:
        return found, False
    return found, True


@given(events)
def test_events_come_back(some: list[Event]) -> None:
    found = list(unpacked(len(some), packed(some)))
    assert found == some
    assert all(isinstance(event.kind, Kind) for event in found)


@given(st.sampled_from(Kind), topics, st.lists(names, max_size=5))
def test_names_of_one_kind_are_packed_alike(kind: Kind, topic: bytes, some: list[bytes]) -> None:
    assert packed_names(kind, topic, some) == packed([Event(kind, topic, name) for name in some])


@given(events, st.integers(0, 25))
def test_the_first_events_can_be_cut_off(some: list[Event], skipped: int) -> None:
    data = packed(some)
    if skipped > len(some):
        with pytest.raises(ValueError):
            without(skipped, data)
    else:
        assert without(skipped, data) == packed(some[skipped:])


@given(events, st.integers(-2, 25))
def test_another_number_of_events_is_a_fault(some: list[Event], size: int) -> None:
    found, whole = before_the_fault(unpacked(size, packed(some)))
    assert whole is (max(size, 0) == len(some))
    assert found == some[: max(size, 0)]


@given(st.integers(-2, 2**64), st.binary(max_size=200))
def test_hostile_bytes_are_events_or_a_fault(size: int, data: bytes) -> None:
    found, whole = before_the_fault(unpacked(size, data))
    assert sum(10 + len(event.name) for event in found) <= len(data)
    if whole:
        assert len(found) == max(size, 0)
    for event in found:
        assert isinstance(event.kind, Kind)
        assert len(event.topic) == TOPIC_SIZE


@given(st.integers(0, 2**64), st.binary(max_size=200))
def test_hostile_bytes_can_be_cut_off_or_not(skipped: int, data: bytes) -> None:
    try:
        rest = without(skipped, data)
    except ValueError:
        return
    assert data.endswith(rest)


@given(events, st.data())
def test_what_is_damaged_never_becomes_more(some: list[Event], data: st.DataObject) -> None:
    whole = bytearray(packed(some))
    if whole:
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] ^= data.draw(st.integers(1, 255))
    found, _ = before_the_fault(unpacked(len(some), bytes(whole)))
    assert len(found) <= len(some)


@pytest.mark.parametrize("number", [0, 10, 77, 255])
def test_kinds_that_are_not_known_are_distrust(number: int) -> None:
    data = bytearray(packed([Event(Kind.DELETE, b"12345678", b"name")]))
    data[0] = number
    assert list(unpacked(1, bytes(data))) == [Event(Kind.DISTRUST, b"12345678", b"name")]


# -- Names ---------------------------------------------------------------------------

keys = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=400) | st.binary(max_size=400),
    lambda inner: st.tuples(inner, inner),
    max_leaves=4,
)


@given(keys, keys)
def test_names_are_equal_just_when_keys_are(one: Any, other: Any) -> None:
    assert (name_of(one) == name_of(other)) is (one == other)


@given(keys)
def test_names_are_not_too_long(key: Any) -> None:
    name = name_of(key)
    assert len(name) <= MOST_NAME
    assert (name == canonical(key)) is (len(canonical(key)) <= MOST_NAME)


def test_a_hashed_name_is_no_canonical_one() -> None:
    name = name_of("x" * 1000)
    assert (name[:1], len(name)) == (b"#", 21)
    assert canonical(0)[:1] != b"#"


def test_what_is_no_key_has_no_name() -> None:
    with pytest.raises(KeyEncodingError):
        name_of(object())


def test_topics_differ() -> None:
    topics = {topic_of(name) for name in ("", "a", "b", "ab", "é", "a" * 1000)}
    assert len(topics) == 6
    assert {len(topic) for topic in topics} == {TOPIC_SIZE}
    assert ALL_TOPICS not in topics
    assert (len(ALL_TOPICS), len(NOBODY)) == (TOPIC_SIZE, NODE_SIZE)
