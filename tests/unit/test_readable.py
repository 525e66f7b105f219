"""Canonical bytes as people read them: like the key, and a text in any case."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
import uuid
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiered.coherence.names import name_of
from tiered.keys.canonical import canonical, register
from tiered.keys.readable import readable


class Colour(enum.Enum):
    RED = "red"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


register(Money, lambda money: (money.cents, "EUR"))

HERE = __name__
ZONE = dt.timezone(dt.timedelta(hours=2))
LARGE = 2**2100


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, "None"),
        (..., "Ellipsis"),
        (NotImplemented, "NotImplemented"),
        (True, "1"),
        (-5, "-5"),
        (LARGE, hex(LARGE)),
        (-LARGE, hex(-LARGE)),
        (0.5, "0.5"),
        (math.inf, "inf"),
        (1 + 2.5j, "complex(1, 2.5)"),
        (fractions.Fraction(1, 3), "Fraction(1, 3)"),
        (decimal.Decimal("0.1"), "Fraction(1, 10)"),
        ("", "''"),
        ("émoji 🎉", "'émoji 🎉'"),
        ("it's", '"it\'s"'),
        ("\x1b[31m\u202e", "'\\x1b[31m\\u202e'"),
        ("\ud800", "'\\ud800'"),
        (b"\x00x", "b'\\x00x'"),
        ((), "()"),
        ((1,), "(1,)"),
        (("users@4f", ("a", (1, None))), "('users@4f', ('a', (1, None)))"),
        (frozenset(), "frozenset()"),
        (frozenset({1, 2}), "{1, 2}"),
        (range(0), "range(0)"),
        (range(0, 10, 3), "range of 4 from 0 by 3"),
        (dt.datetime(2026, 1, 2, 3, 4), "datetime(2026-01-02T03:04:00)"),
        (dt.datetime(2026, 1, 2, 3, 4, tzinfo=ZONE), "datetime(2026-01-02T01:04:00 UTC)"),
        (dt.date(2026, 1, 2), "date(2026-01-02)"),
        (dt.time(3, 4), "time(03:04:00)"),
        (dt.time(3, 0, tzinfo=ZONE), "time(UTC, midnight + timedelta(3600000000 µs))"),
        (dt.timedelta(seconds=1.5), "timedelta(1500000 µs)"),
        (pathlib.PurePosixPath("/a b"), "PurePosixPath('/a b')"),
        (pathlib.PureWindowsPath("C:\\A"), "PureWindowsPath('c:\\\\a')"),
        (Point, f"{HERE}.Point"),
        (len, "builtins.len"),
        (Colour.RED, f"{HERE}.Colour.RED"),
        (Right.READ | Right.WRITE, f"{HERE}.Right(3)"),
        (Point(1, "a"), f"{HERE}.Point(1, 'a')"),
        (Money(5), f"{HERE}.Money((5, 'EUR'))"),
        (uuid.UUID(int=7), "UUID('00000000-0000-0000-0000-000000000007')"),
    ],
)
def test_a_key_is_shown_as_it_looks_in_python(key: Any, text: str) -> None:
    assert readable(canonical(key), most=1000) == text
    assert readable(canonical((key, 0)), most=1000) == f"({text}, 0)"


def test_a_time_that_comes_twice_is_shown_with_its_zone() -> None:
    from zoneinfo import ZoneInfo

    twice = dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    shown = readable(canonical(twice))
    assert shown == "datetime(2024-10-27T02:30:00 Europe/Berlin 2:00:00 1:00:00)"


def test_of_a_long_key_the_digest_is_shown() -> None:
    name = name_of("x" * 1000)
    assert readable(name) == f"#{name[1:].hex()}"


def test_a_long_text_is_cut() -> None:
    shown = readable(canonical("x" * 1000))
    assert len(shown) == 500
    assert shown.endswith("x…")
    assert readable(canonical("abc"), most=4) == "'ab…"
    assert readable(canonical("abc"), most=5) == "'abc'"


NO_KEYS = [
    b"",
    b"?",
    b"#",
    b"#too short",
    b"i1",
    b"i;",
    b"i1 ;",
    b"i+1;",
    b"i\xd9\xa1;",
    b"i1;i1;",
    b"x-;",
    b"f12;",
    b"f-00000000000000;",
    b"fzzzzzzzzzzzzzzzz;",
    b"s5:ab",
    b"s-1:a",
    b"s2:\xff\xff",
    b"s" + b"9" * 5000 + b":",
    b"t2:i1;",
    b"t999999999999999999:N",
    b"t1:" * 1000 + b"N",
    b"r5;",
    b"px1:s0:",
    b"pps",
    b"d3:a\nb",
    b"d2:\xc3\xa9",
    b"g3:abc",
    b"ni1;i1;",
    b"mi1;",
    b"ai1;0:",
    b"o4:s1:x",
    b"o7:s1:xNNN",
]


@pytest.mark.parametrize("data", NO_KEYS)
def test_what_is_no_key_is_shown_as_it_is(data: bytes) -> None:
    assert readable(data, most=10**6) == f"<no key: {data!r}>"


def test_names_that_are_none_are_told_by_their_quotes() -> None:
    assert readable(b"ns2:a s1:b") == "'a '.b"
    assert readable(b"ns5:a.b.cs1:\n") == "a.b.c.'\\n'"


PARTS = st.sampled_from(
    [b"N", b"i1;", b"s1:a", b"t2:", b"z1:", b"o5:", b"a", b"n", b"m", b"q", b"k"]
)


@given(st.one_of(st.binary(max_size=300), st.lists(PARTS, max_size=100).map(b"".join)))
@example(b"#" + bytes(20))
def test_whatever_the_bytes_there_is_a_text_that_can_be_printed(data: bytes) -> None:
    text = readable(data)
    assert 0 < len(text) <= 500
    assert text.isprintable()
