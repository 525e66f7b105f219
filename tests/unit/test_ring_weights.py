"""The ring with weights: libmemcached's, to the last bit; who moves; and who is next."""

from __future__ import annotations

import json
from collections import Counter as Tally
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.record_ketama import DIGITS, KEYS, SHOWN
from tiered.routing.addresses import parse_address
from tiered.routing.ring import HashRing

FLEETS = json.loads(Path(__file__).with_name("ketama.json").read_text())["fleets"]


def ring(names: Sequence[str], weights: Sequence[int] | None = None) -> HashRing[str]:
    return HashRing([(name, name) for name in names], weights)


def points(nodes: HashRing[str]) -> Tally[str]:
    """So many points each server has."""
    return Tally(owner for owner, _ in nodes._pairs[:-1])


# -- As libmemcached -------------------------------------------------------------------


@pytest.mark.parametrize("fleet", FLEETS, ids=lambda fleet: f"{len(fleet['servers'])} servers")
def test_each_of_many_keys_is_where_libmemcached_has_it(fleet: Any) -> None:
    named = [(parse_address(one).ring_name, DIGITS[n]) for n, one in enumerate(fleet["servers"])]
    nodes = HashRing(named, fleet["weights"])
    placed = "".join(map(nodes.node, KEYS))
    assert placed[:SHOWN] == fleet["placed"]
    assert sha256(placed.encode()).hexdigest().startswith(fleet["digest"])


def test_the_record_has_fleets_of_every_kind() -> None:
    servers = [fleet["servers"] for fleet in FLEETS]
    assert {len(one) for one in servers} == set(range(1, 31))
    for end in (":11211", "]:11211", ":11212", "]:11212", ".sock"):
        assert sum(one[0].endswith(end) for one in servers) >= 5
    rings = [ring(fleet["servers"], fleet["weights"]) for fleet in FLEETS]
    assert any(len(points(nodes)) < len(fleet) for nodes, fleet in zip(rings, servers, strict=True))
    assert any(len(set(nodes._points)) < len(nodes._points) for nodes in rings)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.integers(2, 10))
def test_only_what_weights_are_to_each_other_counts(weights: list[int], factor: int) -> None:
    names = [f"cache{number}" for number in range(len(weights))]
    one, other = ring(names, weights), ring(names, [factor * weight for weight in weights])
    assert one._pairs == other._pairs
    assert one._points == other._points


@pytest.mark.parametrize("count", [1, 5, 25])
def test_equal_weights_are_no_weights(count: int) -> None:
    names = [f"cache{number}" for number in range(count)]
    assert ring(names)._pairs == ring(names, [3] * count)._pairs


def test_shares_are_about_as_the_weights() -> None:
    shares = Tally(map(ring("abcd", [1, 2, 3, 4]).node, KEYS))
    for name, weight in zip("abcd", [1, 2, 3, 4], strict=True):
        assert 0.7 < shares[name] / len(KEYS) / (weight / 10) < 1.3


# -- Who moves -------------------------------------------------------------------------

Weights = dict[str, int]

fleets = st.sampled_from([1, 2, 10, 1000]).flatmap(
    lambda heaviest: st.dictionaries(
        st.text(min_size=1, max_size=8), st.integers(1, heaviest), min_size=1, max_size=8
    )
)
keys = st.lists(st.binary(), max_size=50)


def of(fleet: Weights) -> HashRing[str]:
    return ring(list(fleet), list(fleet.values()))


def moves(one: HashRing[str], other: HashRing[str], keys: list[bytes]) -> set[tuple[str, str]]:
    """From where to where keys move."""
    found = {(one.node(key), other.node(key)) for key in keys}
    return {(start, end) for start, end in found if start != end}


def changed(fleet: Weights, data: st.DataObject) -> tuple[Weights, str]:
    """The fleet with a server more, or one less, or with another weight; and that server."""
    name = data.draw(st.one_of(st.sampled_from(list(fleet)), st.text(min_size=1)))
    weight = data.draw(st.one_of(st.none(), st.integers(1, 3), st.integers(1, 1000)))
    rest = {known: weighs for known, weighs in fleet.items() if known != name}
    if weight is None and rest:
        return rest, name
    return {**fleet, name: weight or 1}, name


@given(fleets, keys, st.data())
def test_a_key_leaves_a_server_that_lost_points_or_goes_to_one_that_gained(
    fleet: Weights, keys: list[bytes], data: st.DataObject
) -> None:
    other, _ = changed(fleet, data)
    before, after = of(fleet), of(other)
    had, has = points(before), points(after)
    for start, end in moves(before, after, keys):
        assert has[start] < had[start] or has[end] > had[end]


@given(fleets, keys, st.data())
def test_while_the_others_keep_their_points_only_the_changed_servers_keys_move(
    fleet: Weights, keys: list[bytes], data: st.DataObject
) -> None:
    other, name = changed(fleet, data)
    before, after = of(fleet), of(other)
    had, has = points(before), points(after)
    del had[name], has[name]
    if had == has:
        assert all(name in move for move in moves(before, after, keys))


@given(st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=24), keys)
def test_an_equal_server_that_leaves_gives_its_keys_to_the_next(
    names: set[str], keys: list[bytes]
) -> None:
    before = ring(sorted(names))
    for key in keys:
        rest = ring(sorted(names - {before.node(key)}))
        assert rest.node(key) == before.after(key)


def test_a_server_of_average_weight_moves_only_its_own_keys() -> None:
    before, after = ring("abc", [1, 2, 3]), ring("abcd", [1, 2, 3, 2])
    assert {end for _, end in moves(before, after, KEYS)} == {"d"}


def test_one_far_from_the_average_moves_others_too() -> None:
    before, after = ring("abc", [1, 2, 3]), ring("abcd", [1, 2, 3, 20])
    assert {"d"} < {end for _, end in moves(before, after, KEYS)}


# -- Who is next -----------------------------------------------------------------------


@given(fleets, keys)
def test_the_next_server_is_the_first_other_one_clockwise(
    fleet: Weights, keys: list[bytes]
) -> None:
    nodes = of(fleet)
    owners = [owner for owner, _ in nodes._pairs[:-1]]
    for place, (owner, heir) in enumerate(nodes._pairs[:-1]):
        others = [one for one in owners[place:] + owners[:place] if one != owner]
        assert heir == (others[0] if others else None)
    for key in keys:
        assert nodes.pair(key) == (nodes.node(key), nodes.after(key))


def test_servers_are_different_though_they_are_equal() -> None:
    nodes: HashRing[list[int]] = HashRing([("one", []), ("other", [])])
    for key in KEYS[:100]:
        node, heir = nodes.pair(key)
        assert heir == node
        assert heir is not node


def test_nobody_is_next_where_there_is_one_server_or_one_with_points() -> None:
    alone = ring("a")
    assert (alone.after(b"key"), alone.pair(b"key")) == (None, ("a", None))
    heavy = ring("ab", [1, 1000])
    assert {heavy.pair(key) for key in KEYS[:100]} == {("b", None)}


# -- What is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "weights", "error", "words"),
    [
        ("aba", None, ValueError, "nodes must have different names, not 'a' 2 times"),
        ("ab", [1], ValueError, "weights must be as many as the nodes, 2, not 1"),
        ("ab", [1, 2, 3], ValueError, "weights must be as many as the nodes, 2, not 3"),
        ("ab", [1, 0], ValueError, "weights[1] must be a whole number, 1 or more, not 0"),
        ("ab", [-1, 1], ValueError, "weights[0] must be a whole number, 1 or more, not -1"),
        ("ab", [1, 2**32], ValueError, "weights[1] must be 4,294,967,295 or less, not 4294967296"),
        ("ab", [1, 1.5], TypeError, "weights[1] must be a whole number, 1 or more, not 1.5"),
        ("ab", [True, 1], TypeError, "weights[0] must be a whole number, 1 or more, not True"),
        ("ab", "11", TypeError, "weights[0] must be a whole number, 1 or more, not '1'"),
        ("", [], ValueError, "nodes must hold at least one server"),
    ],
)
def test_what_cannot_be_right_is_refused(
    names: str, weights: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        ring(names, weights)
    assert words in str(caught.value)
