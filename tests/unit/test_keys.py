"""Canonical keys: equal keys encode alike, unequal ones never do, in every process."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import os
import pathlib
import subprocess
import sys
import uuid
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.errors import KeyEncodingError
from tiered.keys.canonical import canonical, register
from tiered.keys.wire import wire_key

numbers = (
    st.integers()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.fractions(max_denominator=100)
    | st.decimals(allow_nan=False, places=3)
    | st.complex_numbers(allow_nan=False, max_magnitude=1e6)
    | st.sampled_from([0, 0.0, -0.0, 1, 1.0, True, 0.5, 2**53, float(2**53), 1e300, 10**300])
)
leaves = numbers | st.none() | st.text(max_size=5) | st.binary(max_size=5) | st.dates()
keys = st.recursive(
    leaves,
    lambda inner: (
        st.tuples(inner)
        | st.tuples(inner, inner)
        | st.frozensets(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=6,
)


@given(keys, keys)
def test_keys_encode_alike_just_when_they_are_equal(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) is (one == other)


@given(st.lists(numbers, min_size=2, max_size=2))
def test_numbers_of_different_types_encode_alike_when_equal(pair: list[Any]) -> None:
    one, other = pair
    assert (canonical(one) == canonical(other)) is (one == other)


class Pair(NamedTuple):
    a: int
    b: int


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"


class Size(enum.IntEnum):
    SMALL = 1


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Text(str):
    pass


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: Any = 0
    note: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class Other:
    x: int
    y: Any = 0


BERLIN = ZoneInfo("Europe/Berlin")
NOON = dt.datetime(2024, 7, 1, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "equal",
    [
        (1, 1.0, True, decimal.Decimal(1), fractions.Fraction(1), 1 + 0j, np.int64(1), Size.SMALL),
        (0.5, fractions.Fraction(1, 2), decimal.Decimal("0.5"), np.float64(0.5), np.float32(0.5)),
        (math.inf, decimal.Decimal("Infinity")),
        (10**300, fractions.Fraction(10**300)),
        ("yes", Word.YES, Text("yes")),
        ((1, 2), Pair(1, 2), (1.0, Size.SMALL + 1)),
        (b"ab", memoryview(b"ab")),
        (NOON, NOON.astimezone(BERLIN)),
        (dt.time(12, tzinfo=dt.UTC), dt.time(14, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
        (dt.timedelta(hours=24), dt.timedelta(days=1)),
        (range(0), range(5, 5), range(3, 1)),
        (range(0, 5, 2), range(0, 6, 2)),
        (range(4, 5), range(4, 9, 7)),
        (Point(1), Point(1, note="other")),
        (pathlib.PurePosixPath("/a"), pathlib.Path("/a")),
        (pathlib.PureWindowsPath("C:/A"), pathlib.PureWindowsPath("c:/a")),
        (Right.READ | Right.WRITE, Right.WRITE | Right.READ),
    ],
)
def test_what_is_equal_encodes_alike(equal: tuple[Any, ...]) -> None:
    for other in equal[1:]:
        assert equal[0] == other
        assert canonical(equal[0]) == canonical(other)


def test_what_is_unequal_encodes_apart() -> None:
    different: list[Any] = [
        1,
        2**64,
        2**5000,
        2**5000 + 1,
        "1",
        b"1",
        (1,),
        ("1",),
        ((1,),),
        (1, 1),
        frozenset({1}),
        frozenset({frozenset({1})}),
        None,
        (),
        ...,
        NotImplemented,
        1.5,
        math.inf,
        -math.inf,
        1j,
        fractions.Fraction(1, 3),
        decimal.Decimal("0.1"),
        0.1,
        "",
        b"",
        ("ab", ""),
        ("a", "b"),
        ("", "ab"),
        "\ud800",
        Colour.RED,
        Colour.GREEN,
        Right.READ,
        Point(1),
        Point(2),
        Point(1, 1),
        Other(1),
        dt.date(2024, 7, 1),
        dt.datetime(2024, 7, 1),
        NOON,
        NOON + dt.timedelta(microseconds=1),
        dt.time(12),
        dt.time(12, tzinfo=dt.UTC),
        dt.timedelta(1),
        range(1),
        range(2),
        uuid.UUID(int=1),
        pathlib.PurePosixPath("a"),
        pathlib.PureWindowsPath("a"),
        int,
        str,
        len,
        canonical,
    ]
    encoded = [canonical(key) for key in different]
    assert len(set(encoded)) == len(different)


def test_a_wall_time_that_comes_twice_equals_its_twin_and_no_other() -> None:
    first = dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)
    second = first.replace(fold=1)
    assert first == second
    assert canonical(first) == canonical(second)
    in_utc = first.astimezone(dt.UTC)
    assert first != in_utc
    assert canonical(first) != canonical(in_utc)


def test_sets_do_not_depend_on_their_order() -> None:
    one = frozenset(["a", "b", 1, None, ("x",)])
    assert canonical(one) == canonical(frozenset(reversed(list(one))))


KEY = '("a", 1, 2.5, None, frozenset({"x", "y", b"z"}), (True, "é"))'


def test_the_bytes_do_not_depend_on_the_process() -> None:
    program = f"from tiered.keys.canonical import canonical; print(canonical({KEY}).hex())"
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1", "42")
    }
    assert seen == {canonical(eval(KEY)).hex()}


class ByIdentity:
    pass


class Loud(str):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str(self).lower() == other.lower()

    def __hash__(self) -> int:
        return hash(str(self).lower())


@dataclasses.dataclass(frozen=True)
class Odd:
    x: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd) and self.x % 2 == other.x % 2


@dataclasses.dataclass
class Mutable:
    x: int
    __hash__ = object.__hash__


def local_class() -> type:
    class Local:
        pass

    return Local


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (object(), "canonical form"),
        (ByIdentity(), "canonical form"),
        (Loud("a"), "canonical form"),
        (Odd(1), "canonical form"),
        (Mutable(1), "canonical form"),
        (math.nan, "not equal to itself"),
        (decimal.Decimal("nan"), "not equal to itself"),
        (decimal.Decimal("1e999999"), "too many digits"),
        (complex(0, math.nan), "not equal to itself"),
        (local_class(), "by its name"),
        (lambda: 1, "by its name"),
        (dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=5))), "calendar"),
    ],
)
def test_what_others_could_not_recognise_is_refused_by_name(part: Any, reason: str) -> None:
    with pytest.raises(KeyEncodingError, match=r"^key is ") as caught:
        canonical(part)
    assert reason in str(caught.value)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(KeyEncodingError, match=r"^key\[1\]\[0\] is "):
        canonical(("a", (part,)))


def test_the_place_of_a_refused_part_is_told() -> None:
    with pytest.raises(KeyEncodingError, match=r"key\[0\]\{\.\.\.\} is"):
        canonical((frozenset({ByIdentity()}),))
    with pytest.raises(KeyEncodingError, match=r"key\.y is"):
        canonical(Point(1, ByIdentity()))


def test_a_key_may_not_be_endless() -> None:
    key: Any = ()
    for _ in range(100_000):
        key = (key,)
    with pytest.raises(KeyEncodingError, match="nested too deeply"):
        canonical(key)
    while key:  # or its deallocation would be the next to go too deep
        (key,) = key


def test_classes_can_take_part() -> None:
    class Version:
        def __init__(self, *parts: int) -> None:
            self.parts = parts

    register(Version, lambda version: version.parts)
    assert canonical(Version(1, 2)) == canonical(Version(1.0, 2))  # type: ignore[arg-type]
    assert canonical(Version(1, 2)) != canonical(Version(2, 1))
    assert canonical(Version(1, 2)) != canonical((1, 2))


@given(st.binary() | st.text().map(canonical))
def test_wire_keys_are_safe_and_apart(name: bytes) -> None:
    wire = wire_key(b"prefix/", name)
    assert len(wire) <= 250
    assert all(0x21 <= byte <= 0x7E for byte in wire)
    assert wire_key(b"prefix/", name + b"x") != wire


def test_short_safe_keys_stay_readable() -> None:
    assert wire_key(b"", b"s1:k") == b"s1:k"
    assert wire_key(b"", b"s9:two words").startswith(b"#")
    assert wire_key(b"", b"s" * 121).startswith(b"#")
