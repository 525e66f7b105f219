"""Canonical bytes: equal keys have the same, unequal keys have others, in every process."""

from __future__ import annotations

import array
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
import types
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.errors import CacheError, KeyEncodingError
from tiered.keys import canonical as module
from tiered.keys.canonical import canonical, register

# -- Kinds of parts --------------------------------------------------------------------


class Pair(NamedTuple):
    first: Any
    second: Any


class Twin(NamedTuple):
    first: Any
    second: Any


class Row(tuple[Any, ...]):
    __slots__ = ()


class Text(str):
    __slots__ = ()


class Blob(bytes):
    pass


class Number(int):
    pass


class Group(frozenset[Any]):
    pass


class Moment(dt.datetime):
    pass


class Day(dt.date):
    pass


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"
    CRIMSON = 1  # another name of RED


class Shade(enum.Enum):
    RED = 1


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Bit(enum.IntFlag):
    ONE = 1
    TWO = 2


class Corner(tuple[int, int], enum.Enum):
    ORIGIN = (0, 0)


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0
    note: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Spot:
    x: Any
    y: Any = 0


class Inherited(Point):
    """Compared by the generated ``==``, which asks for the same class."""


@dataclasses.dataclass(frozen=True)
class Deeper(Point):
    z: Any = 0


BERLIN = ZoneInfo("Europe/Berlin")
PARIS = ZoneInfo("Europe/Paris")
PLUS_TWO = dt.timezone(dt.timedelta(hours=2))
NOON = dt.datetime(2024, 7, 1, 12, tzinfo=dt.UTC)
TWICE = dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)
NEVER = dt.datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN)

# -- Strategies ------------------------------------------------------------------------

RATIONALS = [
    *(fractions.Fraction(value) for value in (0, 1, -1, 2, 2**53, 2**53 + 1, 2**64)),
    *(fractions.Fraction(text) for text in ("1/2", "-1/2", "1/3", "1/10")),
    *(fractions.Fraction(10**exponent) for exponent in (22, 23, 300, 400)),
    *(fractions.Fraction(1, 2**exponent) for exponent in (52, 1074, 1075)),
    *(fractions.Fraction(2**2048 + step) for step in (-1, 0, 1)),
]


@st.composite
def rationals(draw: st.DrawFn) -> fractions.Fraction:
    chosen = draw(st.integers(0, len(RATIONALS)))
    if chosen < len(RATIONALS):
        return RATIONALS[chosen]
    return draw(st.fractions(max_denominator=16))


def as_float(value: fractions.Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def as_decimal(value: fractions.Fraction) -> decimal.Decimal:
    # Rounded to the context's digits where it has no end: a near number, not an equal one.
    return decimal.Decimal(value.numerator) / value.denominator


SPELLINGS: list[Callable[[fractions.Fraction], Any]] = [
    lambda value: value,
    int,
    as_float,
    as_decimal,
    lambda value: decimal.Decimal(as_float(value)),
    lambda value: complex(as_float(value)),
    lambda value: complex(as_float(value), -0.0),
    lambda value: complex(0, as_float(value)),
    lambda value: -as_float(value),
    lambda value: bool(value),
    lambda value: Number(value),
]
numbers = st.builds(lambda value, spell: spell(value), rationals(), st.sampled_from(SPELLINGS))

moments = st.sampled_from(
    [
        NOON,
        NOON.astimezone(BERLIN),
        NOON.astimezone(PLUS_TWO),
        NOON.replace(tzinfo=None),
        NOON.replace(tzinfo=None, fold=1),
        NOON.replace(microsecond=1),
        Moment(2024, 7, 1, 12, tzinfo=dt.UTC),
        TWICE,
        TWICE.replace(fold=1),
        TWICE.astimezone(dt.UTC),
        TWICE.replace(fold=1).astimezone(dt.UTC),
        TWICE.replace(tzinfo=None),
        NEVER,
        NEVER.replace(fold=1),
        NEVER.astimezone(dt.UTC),
        dt.datetime(2024, 7, 1),
        dt.date(2024, 7, 1),
        dt.date(2024, 7, 2),
        dt.time(12),
        dt.time(12, fold=1),
        dt.time(12, tzinfo=BERLIN),  # such a zone needs a date, so this one has no offset
        dt.time(12, tzinfo=dt.UTC),
        dt.time(14, tzinfo=PLUS_TWO),
        dt.time(0, 30, tzinfo=PLUS_TWO),
        dt.time(22, 30, tzinfo=dt.UTC),
        dt.timedelta(days=1),
        dt.timedelta(hours=24),
        dt.timedelta(microseconds=-1),
    ]
)
others = st.sampled_from(
    [
        None,
        ...,
        NotImplemented,
        *("", "a", "é", "\ud800", "yes", Word.YES, Text("a")),
        *(b"", b"a", Blob(b"a"), memoryview(b"a"), memoryview(b"xax")[1:2]),
        *(Colour.RED, Colour.GREEN, Colour.CRIMSON, Shade.RED, Size.SMALL, Size.LARGE),
        *(Right.READ, Right.READ | Right.WRITE, Right(0), Bit.ONE, Bit.ONE | Bit.TWO),
        *(Corner.ORIGIN, (0, 0), Pair(0, 0), Twin(0.0, False), Row((0, 0))),
        *(uuid.UUID(int=1), uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe), uuid.UUID(int=2)),
        *(pathlib.PurePosixPath("a"), pathlib.Path("a"), pathlib.PurePosixPath("./a/")),
        *(pathlib.PurePosixPath("A"), pathlib.PureWindowsPath("a"), pathlib.PureWindowsPath("A")),
        *(int, bool, Point, Colour, len, canonical, math.sin, as_float),
        *(Point(1), Point(1.0, note="other"), Point(1, 1), Inherited(1), Deeper(1), Spot(1)),
        *(range(0), range(5, 5), range(1), range(0, 7, 9), range(2), range(0, 3, 2)),
        *(range(0, 4, 2), range(2, -1, -2)),
    ]
)
texts = st.text(max_size=2) | st.binary(max_size=2)


@st.composite
def leaves(draw: st.DrawFn) -> Any:
    # A function, because the repr of all these choices in a row is a nuisance.
    return draw(numbers | moments | others | texts)


keys = st.recursive(
    leaves(),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.builds(Pair, inner, inner)
        | st.builds(Twin, inner, inner)
        | st.frozensets(inner, max_size=3)
        | st.frozensets(inner, max_size=3).map(Group)
        | st.builds(Point, inner, inner)
    ),
    max_leaves=5,
)

# -- Equal keys are one entry, unequal keys never share one ----------------------------


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@given(keys, keys)
def test_keys_have_the_same_bytes_just_when_they_are_equal(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) is (one == other)


@given(numbers, numbers)
def test_numbers_of_all_types_have_the_same_bytes_just_when_they_are_equal(
    one: Any, other: Any
) -> None:
    assert (canonical(one) == canonical(other)) is (one == other)


@given(st.lists(leaves(), min_size=2, max_size=4))
def test_parts_do_not_run_into_one_another(parts: list[Any]) -> None:
    nestings = [
        tuple(parts),
        (tuple(parts),),
        (parts[0], tuple(parts[1:])),
        (tuple(parts[:-1]), parts[-1]),
        (*parts, ()),
    ]
    for index, one in enumerate(nestings):
        for other in nestings[index + 1 :]:
            assert (canonical(one) == canonical(other)) is (one == other)


@given(st.lists(leaves(), unique=True, max_size=6), st.randoms(use_true_random=False))
def test_sets_do_not_depend_on_the_order_of_their_making(parts: list[Any], chance: Any) -> None:
    shuffled = list(parts)
    chance.shuffle(shuffled)
    assert canonical(frozenset(parts)) == canonical(frozenset(shuffled))


paths = st.text(st.sampled_from("aAÄä./:\\"), max_size=6)


@given(paths, paths)
@pytest.mark.parametrize("kind", [pathlib.PurePosixPath, pathlib.PureWindowsPath])
def test_paths_have_the_same_bytes_just_when_they_are_equal(
    kind: type[pathlib.PurePath], one: str, other: str
) -> None:
    a, b = kind(one), kind(other)
    assert (canonical(a) == canonical(b)) is (a == b)


@given(
    st.builds(range, st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([-3, -1, 1, 2, 5])),
    st.builds(range, st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([-3, -1, 1, 2, 5])),
)
def test_ranges_have_the_same_bytes_just_when_they_are_equal(one: range, other: range) -> None:
    assert (canonical(one) == canonical(other)) is (one == other)


def test_a_range_may_be_longer_than_a_sequence_can_be() -> None:
    huge = range(2**70)
    assert canonical(huge) == canonical(range(0, 2**70, 1))
    assert canonical(huge) != canonical(range(2**70 + 1))
    assert canonical(range(0, 2**70, 2)) == canonical(range(0, 2**70 - 1, 2))
    assert canonical(range(2**70, 2**70 + 1, 9)) == canonical(range(2**70, 2**70 + 1))
    assert canonical(range(2**70, 0, -1)) != canonical(huge)


# A day from the ends of the calendar, so that each has its moment in UTC.
dates = st.datetimes(
    dt.datetime(1, 1, 2),
    dt.datetime(9999, 12, 30),
    timezones=st.sampled_from([None, dt.UTC, PLUS_TWO, BERLIN]),
)


@given(dates, dates, st.booleans())
def test_moments_have_the_same_bytes_just_when_they_are_equal(
    one: dt.datetime, other: dt.datetime, move: bool
) -> None:
    if move and one.tzinfo is not None and other.tzinfo is not None:
        other = one.astimezone(other.tzinfo)
    assert (canonical(one) == canonical(other)) is (one == other)


def test_a_day_of_a_subclass_is_that_day_and_no_moment_of_it() -> None:
    # Not among the generated keys: before 3.13 such a day equals a datetime from one side only.
    day = Day(2024, 7, 1)
    assert canonical(day) == canonical(dt.date(2024, 7, 1))
    assert canonical(day) != canonical(dt.datetime(2024, 7, 1))


@pytest.mark.parametrize("moment", [TWICE, NEVER])
def test_a_wall_time_that_comes_twice_or_never_equals_its_twin_alone(moment: dt.datetime) -> None:
    twin = moment.replace(fold=1)
    assert moment == twin
    assert canonical(moment) == canonical(twin)
    for one in (moment, twin):
        assert canonical(one) != canonical(one.astimezone(dt.UTC))
        assert canonical(one) != canonical(one.replace(tzinfo=None))


@pytest.mark.parametrize("moment", [TWICE, NEVER])
def test_a_wall_time_that_comes_twice_or_never_differs_from_that_of_another_zone(
    moment: dt.datetime,
) -> None:
    elsewhere = moment.replace(tzinfo=PARIS)
    assert moment != elsewhere
    assert canonical(moment) != canonical(elsewhere)


def test_a_wall_time_that_comes_twice_needs_a_zone_with_a_name() -> None:
    class Unnamed(dt.tzinfo):
        def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
            return dt.timedelta(hours=when.fold if when else 0)

        def dst(self, when: dt.datetime | None) -> None:
            return None

        def tzname(self, when: dt.datetime | None) -> None:
            return None

    # Two such zones are unequal, and nothing tells them apart in another process.
    with pytest.raises(KeyEncodingError, match=r"^key is .*datetime"):
        canonical(dt.datetime(2024, 10, 27, 2, 30, tzinfo=Unnamed()))


@pytest.mark.parametrize(
    "scalar",
    [
        np.int8(1),
        np.uint64(2**64 - 1),
        np.int64(-(2**63)),
        np.float16(0.5),
        np.float32(0.1),
        np.float64(0.1),
        np.float64("inf"),
        np.longdouble(0.5),
    ],
)
def test_a_number_of_numpy_is_the_number_that_it_is(scalar: Any) -> None:
    plain = scalar.item() if not isinstance(scalar, np.longdouble) else float(scalar)
    assert scalar == plain
    assert canonical(scalar) == canonical(plain)
    assert canonical((scalar,)) == canonical((plain,))


def test_long_doubles_keep_all_their_digits() -> None:
    one, other = np.longdouble(1), np.nextafter(np.longdouble(1), np.longdouble(2))
    if float(other) != 1:
        pytest.skip("a long double is a double here")
    assert one != other
    assert canonical(one) == canonical(1)
    assert canonical(other) != canonical(1)


# -- The bytes themselves --------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, b"N"),
        (0, b"i0;"),
        (-1, b"i-1;"),
        (2**2048 - 1, b"i%d;" % (2**2048 - 1)),
        (2**2048, b"x1" + b"0" * 512 + b";"),
        (-(2**2048), b"x-1" + b"0" * 512 + b";"),
        (0.5, b"f3fe0000000000000;"),
        (math.inf, b"f7ff0000000000000;"),
        (1j, b"ci0;i1;"),
        (fractions.Fraction(1, 3), b"qi1;i3;"),
        ("é", b"s2:\xc3\xa9"),
        (b"\0", b"b1:\0"),
        ((), b"t0:"),
        (("a", 1), b"t2:s1:ai1;"),
        (frozenset({"b", "a"}), b"z2:s1:as1:b"),
        (range(0), b"r0;"),
        (range(1, 9, 3), b"r3;i1;i3;"),
        (dt.date(2024, 7, 1), b"y10:2024-07-01"),
        (NOON.replace(tzinfo=None), b"d19:2024-07-01T12:00:00"),
        (NOON, b"u19:2024-07-01T12:00:00"),
        (dt.time(12), b"h8:12:00:00"),
        (dt.time(14, tzinfo=PLUS_TWO), b"ke43200000000;"),
        (dt.timedelta(milliseconds=1), b"e1000;"),
        (uuid.UUID(int=1), b"g16:" + bytes(15) + b"\x01"),
        (pathlib.PurePosixPath("A/b"), b"pps3:A/b"),
        (pathlib.PureWindowsPath("A/b"), b"pws3:a\\b"),
    ],
)
def test_the_bytes_are_those_that_lie_on_servers(key: Any, expected: bytes) -> None:
    assert canonical(key) == expected


ELSEWHERE = """(
    "a", 1, 2.5, None, frozenset({"x", "y", b"z", ("n", 1.5)}), (True, "\\u00e9"), 2**3000,
    int, len, datetime.UTC.utcoffset(None), datetime.date(2024, 7, 1), uuid.UUID(int=5),
    fractions.Fraction(1, 3), decimal.Decimal("0.1"), range(3), pathlib.PurePosixPath("p"),
    enum.FlagBoundary.KEEP, re.RegexFlag.A | re.RegexFlag.I,
)"""


def test_the_bytes_do_not_depend_on_the_process() -> None:
    imports = "import datetime, decimal, enum, fractions, pathlib, re, uuid"
    program = f"{imports}\nfrom tiered.keys.canonical import canonical\nprint(canonical("
    program += f"{ELSEWHERE}).hex())"
    seen = {
        subprocess.run(
            [sys.executable, *options, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed, options in (("0", []), ("1", ["-O"]), ("42", ["-X", "int_max_str_digits=640"]))
    }
    scope: dict[str, Any] = {}
    exec(imports, scope)
    assert seen == {canonical(eval(ELSEWHERE, scope)).hex()}


# -- What is refused, and how ----------------------------------------------------------


class ByIdentity:
    pass


class LoudText(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str(self).lower() == other.lower()

    def __hash__(self) -> int:
        return hash(str(self).lower())


class ModuloSeven(int):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModuloSeven) and int(self) % 7 == int(other) % 7

    def __hash__(self) -> int:
        return int(self) % 7


class Roughly(float):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Roughly) and round(self) == round(other)

    def __hash__(self) -> int:
        return round(self)


class Unordered(tuple[Any, ...]):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unordered) and sorted(self) == sorted(other)

    def __hash__(self) -> int:
        return hash(frozenset(self))


class Strict(enum.IntEnum):
    ONE = 1

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 1


class Alike(enum.Enum):
    ONE = 1
    TWO = 2

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike)

    def __hash__(self) -> int:
        return 1


class Inode(pathlib.PurePosixPath):
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 1


class Month(dt.date):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Month) and self.month == other.month

    def __hash__(self) -> int:
        return self.month


@dataclasses.dataclass(frozen=True)
class Parity:
    x: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parity) and self.x % 2 == other.x % 2


class ChildOfPoint(Point):
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 1


@dataclasses.dataclass
class Mutable:
    x: int
    __hash__ = object.__hash__


@dataclasses.dataclass(frozen=True, eq=False)
class FrozenByIdentity:
    x: int


@dataclasses.dataclass(frozen=True)
class BuiltinEquality:
    x: int
    __eq__ = object.__eq__
    __hash__ = object.__hash__


def local_class() -> type:
    class Local:
        pass

    return Local


def local_enum() -> enum.Enum:
    class Local(enum.Enum):
        A = 1

    return Local.A


def local_record() -> Any:
    @dataclasses.dataclass(frozen=True)
    class Local:
        x: int = 1

    return Local()


def nowhere() -> None:
    pass


nowhere.__module__ = "no.such.module"


def misnamed() -> None:
    pass


misnamed.__qualname__ = "local_class"

NO_FORM = "has no canonical form"
UNEQUAL = "is not equal to itself"
NOT_FOUND = "cannot be found by its name"
REFUSED = [
    (object(), NO_FORM),
    (ByIdentity(), NO_FORM),
    (LoudText("a"), NO_FORM),
    (ModuloSeven(1), NO_FORM),
    (Roughly(1.5), NO_FORM),
    (Unordered((1, 2)), NO_FORM),
    (Strict.ONE, NO_FORM),
    (Alike.ONE, NO_FORM),
    (Inode("a"), NO_FORM),
    (Month(2024, 7, 1), NO_FORM),
    (Parity(1), NO_FORM),
    (ChildOfPoint(1), NO_FORM),
    (Mutable(1), NO_FORM),
    (FrozenByIdentity(1), NO_FORM),
    (BuiltinEquality(1), NO_FORM),
    (np.complex128(1j), NO_FORM),
    (np.datetime64("2024-07-01"), NO_FORM),
    (np.timedelta64(1, "ns"), NO_FORM),  # unequal to 1 ps, though both are the integer 1
    (np.timedelta64(1, "s"), NO_FORM),
    ("".join, NOT_FOUND),
    (Point(1).__repr__, NO_FORM),
    (math.nan, UNEQUAL),
    (np.float64("nan"), UNEQUAL),
    (decimal.Decimal("nan"), UNEQUAL),
    (decimal.Decimal("snan"), UNEQUAL),
    (complex(math.nan, 0), UNEQUAL),
    (complex(0, math.nan), UNEQUAL),
    (decimal.Decimal("1e999999"), "has too many digits"),
    (decimal.Decimal("1e-999999"), "has too many digits"),
    (local_class(), NOT_FOUND),
    (local_enum(), NOT_FOUND),
    (local_record(), NOT_FOUND),
    (lambda: 1, NOT_FOUND),
    (nowhere, NOT_FOUND),
    (misnamed, NOT_FOUND),
    (types.new_class("Nowhere", (), {}, lambda space: space.update(__module__=5)), NOT_FOUND),
    (dt.datetime.min.replace(tzinfo=PLUS_TWO), "outside the calendar in UTC"),
]


@pytest.mark.parametrize(("part", "reason"), REFUSED)
def test_what_another_process_could_not_recognise_is_refused_by_name(
    part: Any, reason: str
) -> None:
    with pytest.raises(KeyEncodingError, match=r"^key is ") as caught:
        canonical(part)
    assert reason in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, CacheError)
    assert caught.value.__suppress_context__
    with pytest.raises(KeyEncodingError, match=r"^key\[1\]\[0\] is "):
        canonical(("a", (part,)))


@pytest.mark.parametrize("part", [[1], {1: 2}, {1}, bytearray(b"a")])
def test_what_can_change_is_refused(part: Any) -> None:
    with pytest.raises(KeyEncodingError, match=NO_FORM):
        canonical(part)


def test_the_message_names_the_place_the_part_its_class_and_a_way_out() -> None:
    part = ByIdentity()
    with pytest.raises(KeyEncodingError) as caught:
        canonical(("a", Point(1, (frozenset({Pair(0, part)}),))))
    assert str(caught.value) == (
        f"key[1].y[0]{{...}}[1] is {part!r} (ByIdentity), which has no canonical form; use plain "
        "values, a frozen dataclass, or tiered.keys.canonical.register"
    )


def test_a_part_without_a_working_repr_is_still_named_by_class() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(KeyEncodingError, match=r"key\[0\] is .*Shy"):
        canonical((Shy(),))


def test_zero_and_infinity_have_no_digits_to_be_too_many() -> None:
    for zero in ("0", "-0", "0e999999", "0e-999999"):
        assert canonical(decimal.Decimal(zero)) == canonical(0)
    assert canonical(decimal.Decimal("-Infinity")) == canonical(-math.inf)
    assert canonical(decimal.Decimal("1e4096")) == canonical(10**4096)
    with pytest.raises(KeyEncodingError, match="too many digits"):
        canonical(decimal.Decimal("1e4097"))


def test_a_fraction_that_no_float_reaches_keeps_its_own_bytes() -> None:
    huge, tiny = fractions.Fraction(10**400, 3), fractions.Fraction(1, 3 * 10**400)
    encoded = {canonical(huge), canonical(huge + 1), canonical(tiny), canonical(2 * tiny)}
    assert len(encoded | {canonical(math.inf), canonical(0)}) == 6


def test_a_key_that_is_nested_without_end_is_refused() -> None:
    key: Any = ()
    for _ in range(100_000):
        key = (key,)
    with pytest.raises(KeyEncodingError, match="nested too deeply"):
        canonical(key)
    while key:  # or its deallocation would be the next to go too deep
        (key,) = key


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"\xff").cast("b"),  # -1, which is not 255
        memoryview(b"a").cast("c"),  # b"a", which is not 97
        memoryview(b"abcd").cast("B", (2, 2)),
        memoryview(array.array("i", [1])),
    ],
)
def test_a_view_is_bytes_only_when_it_equals_them(view: memoryview) -> None:
    assert view != view.tobytes()
    try:
        encoded = canonical(view)
    except KeyEncodingError:
        return
    assert encoded != canonical(view.tobytes())


class Rendered(dt.datetime):
    def isoformat(self, *args: Any) -> str:
        return "some day"


class Encoded(str):
    __slots__ = ()

    def encode(self, *args: Any) -> bytes:
        return b"text"


class Empty(tuple[Any, ...]):
    __slots__ = ()

    def __iter__(self) -> Any:
        return iter(())


class Void(frozenset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Rendered(2024, 7, 1), Rendered(2024, 7, 2)),
        (Rendered(2024, 7, 1, tzinfo=dt.UTC), Rendered(2024, 7, 2, tzinfo=dt.UTC)),
        (Encoded("a"), Encoded("b")),
        (Empty((1,)), Empty((2,))),
        (Void((1,)), Void((2,))),
    ],
)
def test_what_a_subclass_shows_of_itself_does_not_change_what_it_is(one: Any, other: Any) -> None:
    assert one != other
    assert canonical(one) != canonical(other)


def test_an_equality_written_in_generated_code_is_not_taken_for_a_dataclass_own() -> None:
    # Both have code that comes "from <string>", as everything after `python -c` does.
    scope: dict[str, Any] = {"dataclasses": dataclasses, "__name__": __name__}
    exec(
        "@dataclasses.dataclass(frozen=True)\n"
        "class Handmade:\n"
        "    x: int\n"
        "    def __eq__(self, other):\n"
        "        return self.x % 2 == other.x % 2\n",
        scope,
    )
    kind = scope["Handmade"]
    globals()["Handmade"] = kind
    try:
        with pytest.raises(KeyEncodingError, match=NO_FORM):
            canonical(kind(1))
    finally:
        del globals()["Handmade"]


# -- Names -----------------------------------------------------------------------------


def test_a_class_in_a_class_is_not_one_in_a_module_of_that_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def kind(module: str, qualname: str) -> Any:
        return type(qualname, (), {"__module__": module, "__qualname__": qualname})

    package: Any = types.ModuleType("some_package")
    inner: Any = types.ModuleType("some_package.part")
    package.part = kind("some_package", "part")
    package.part.Thing = kind("some_package", "part.Thing")
    inner.Thing = kind("some_package.part", "Thing")
    monkeypatch.setitem(sys.modules, "some_package", package)
    monkeypatch.setitem(sys.modules, "some_package.part", inner)
    assert package.part.Thing is not inner.Thing
    assert canonical(package.part.Thing) != canonical(inner.Thing)


@pytest.mark.parametrize("value", [None, ..., NotImplemented])
def test_the_classes_of_the_singletons_have_a_form_too(value: Any) -> None:
    # A typed function has them in its keys: f(None) has the key ((None,), (NoneType,)).
    assert canonical(type(value)) != canonical(value)
    assert canonical(type(value)) != canonical(int)


class Version:
    def __init__(self, *parts: float) -> None:
        self.parts = parts


class Release(Version):
    pass


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> type[Version]:
    monkeypatch.setattr(module, "_ENCODERS", dict(module._ENCODERS))
    register(Version, lambda value: value.parts)
    return Version


def test_a_registered_class_takes_part(version: type[Version]) -> None:
    assert canonical(version(1, 2)) == canonical(version(1.0, 2))
    assert canonical(version(1, 2)) != canonical(version(2, 1))
    assert canonical(version(1, 2)) != canonical((1, 2))
    assert canonical((version(1), 2)) != canonical((version(1, 2),))


def test_a_registration_holds_for_exactly_that_class(version: type[Version]) -> None:
    with pytest.raises(KeyEncodingError, match=r"\(Release\)"):
        canonical(Release(1))
    register(Release, lambda value: value.parts)
    assert canonical(Release(1)) != canonical(version(1))


def test_a_registered_class_with_a_part_that_cannot_go_is_refused(version: type[Version]) -> None:
    with pytest.raises(KeyEncodingError, match=r"key\[0\].* is nan"):
        canonical((version(math.nan),))
