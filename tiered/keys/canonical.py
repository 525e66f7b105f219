"""Any key to canonical bytes: equal keys to the same, unequal keys to different ones.

The bytes are the same in every process, on every host and for every
``PYTHONHASHSEED``. Every part carries a type letter and its length, so no two
keys run into one another. What Python calls equal encodes alike: ``1``, ``1.0``,
``True``, ``Decimal(1)`` and ``Fraction(1)``; a named tuple and its plain twin;
a ``StrEnum`` member and its text; one instant in two time zones.

What has no meaning outside this process is refused with ``KeyEncodingError``:
objects that are equal by identity, ``nan`` (unequal to itself), local classes
and functions. A class can take part through :func:`register`.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import math
import pathlib
import struct
import sys
import types
import uuid
from collections.abc import Callable
from typing import Any, Final

from tiered.errors import KeyEncodingError

__all__ = ["canonical", "register"]

Encoder = Callable[[Any], bytes]

_PACK_FLOAT: Final = struct.Struct(">d").pack
_HUGE: Final = 4096
"""Decimal digits beyond which a Decimal is refused: expanding it would be the bigger harm."""


def canonical(key: Any) -> bytes:
    """The canonical bytes of *key*.

    Raises:
        KeyEncodingError: a part of it cannot be recognised by another process;
            the message names the part.
    """
    try:
        encoder = _ENCODERS.get(type(key)) or _encoder_of_kin(key)
        return encoder(key)
    except _Refusal as refusal:
        where = "".join(reversed(refusal.path))
        raise KeyEncodingError(
            f"key{where} is {_shown(refusal.part)} ({type(refusal.part).__qualname__}), "
            f"which {refusal.reason}"
        ) from None
    except RecursionError:
        raise KeyEncodingError("the key is nested too deeply") from None


def _shown(part: Any) -> str:
    try:
        return repr(part)
    except Exception:  # a repr is user code
        return "an object without a working repr"


def register(kind: type, parts: Callable[[Any], Any]) -> None:
    """Let objects of exactly the class *kind* be parts of keys.

    Args:
        kind: the class; its objects must be equal just when their *parts* are.
        parts: gives, for an object, a key (say, a tuple of its fields) that stands
            for it together with the class's module and qualified name.
    """
    name = _text(f"{kind.__module__}.{kind.__qualname__}")
    _ENCODERS[kind] = lambda value: _framed(b"o", name + _encode(parts(value)))


class _Refusal(Exception):
    """A part that cannot be encoded, on its way up to :func:`canonical`."""

    def __init__(self, part: Any, reason: str) -> None:
        self.part = part
        self.reason = reason
        self.path: list[str] = []


def _encode(value: Any) -> bytes:
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        encoder = _encoder_of_kin(value)
    return encoder(value)


def _framed(letter: bytes, body: bytes) -> bytes:
    return b"%b%d:%b" % (letter, len(body), body)


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"s%d:%b" % (len(data), data)


def _int(value: int) -> bytes:
    # One rule for the size, not "whatever the interpreter's digit limit allows":
    # that limit is a setting, and the bytes must not depend on settings.
    return b"x%x;" % value if value.bit_length() > 2048 else b"i%d;" % value


def _float(value: float) -> bytes:
    if value.is_integer():
        return _int(int(value))
    if math.isnan(value):
        raise _Refusal(value, "is not equal to itself")
    return b"f" + _PACK_FLOAT(value).hex().encode() + b";"


def _rational(value: Any) -> bytes:
    if isinstance(value, decimal.Decimal):
        if value.is_nan():
            raise _Refusal(value, "is not equal to itself")
        if value.is_infinite():
            return _float(float(value))
        if value and abs(value.adjusted()) > _HUGE:
            raise _Refusal(value, "has too many digits")
    numerator, denominator = value.as_integer_ratio()
    if denominator == 1:
        return _int(numerator)
    try:
        near = numerator / denominator
    except OverflowError:
        near = 0.0
    if near and near.as_integer_ratio() == (numerator, denominator):
        return _float(near)
    return b"q%b%b" % (_int(numerator), _int(denominator))


def _complex(value: complex) -> bytes:
    if not value.imag:
        return _float(value.real)
    return b"c%b%b" % (_float(value.real), _float(value.imag))


def _tuple(value: tuple[Any, ...]) -> bytes:
    try:
        parts = [_ENCODERS[type(part)](part) for part in value]
    except (KeyError, _Refusal):
        parts = _parts(value)
    return b"t%d:%b" % (len(parts), b"".join(parts))


def _parts(value: tuple[Any, ...]) -> list[bytes]:
    """The same for any tuple: for objects of unusual classes, and to tell what is refused."""
    parts = []
    for index, part in enumerate(value):
        try:
            parts.append(_encode(part))
        except _Refusal as refusal:
            refusal.path.append(f"[{index}]")
            raise
    return parts


def _set(value: frozenset[Any]) -> bytes:
    parts = []
    for part in value:
        try:
            parts.append(_encode(part))
        except _Refusal as refusal:
            refusal.path.append("{...}")
            raise
    return b"z%d:%b" % (len(parts), b"".join(sorted(parts)))


def _range(value: range) -> bytes:
    # Ranges are equal when they are equal as sequences. len() would stop at 2**63.
    length = max(0, -((value.start - value.stop) // value.step))
    if not length:
        return b"r0;"
    step = value.step if length > 1 else 0
    return b"r%d;%b%b" % (length, _int(value.start), _int(step))


def _view(value: memoryview) -> bytes:
    data = value.tobytes()
    if value != data:
        raise _Refusal(value, "is not equal to its bytes")
    return _framed(b"b", data)


def _iso(value: datetime.datetime) -> bytes:
    # The class's own method: a subclass may show itself otherwise.
    return datetime.datetime.isoformat(value).encode()


def _datetime(value: datetime.datetime) -> bytes:
    offset = value.utcoffset()
    if offset is None:
        return _framed(b"d", _iso(value.replace(tzinfo=None, fold=0)))
    other = value.replace(fold=1 - value.fold).utcoffset()
    if other != offset:
        # A wall time that comes twice (or never) when clocks change. Python calls it
        # equal to its twin in the same zone, and unequal to every time elsewhere.
        zone = getattr(value.tzinfo, "key", None)
        if zone is None:
            raise _Refusal(value, "comes twice (or never) in a zone that has no name")
        offsets = f"{zone} {value.replace(fold=0).utcoffset()} {value.replace(fold=1).utcoffset()}"
        return _framed(b"v", _iso(value.replace(tzinfo=None, fold=0)) + f" {offsets}".encode())
    try:
        instant = value.replace(tzinfo=None, fold=0) - offset
    except OverflowError:
        raise _Refusal(value, "lies outside the calendar in UTC") from None
    return _framed(b"u", _iso(instant))


def _time(value: datetime.time) -> bytes:
    offset = value.utcoffset()
    plain = value.replace(tzinfo=None, fold=0)
    if offset is None:
        return _framed(b"h", datetime.time.isoformat(plain).encode())
    since = datetime.timedelta(
        hours=plain.hour,
        minutes=plain.minute,
        seconds=plain.second,
        microseconds=plain.microsecond,
    )
    return b"k" + _timedelta(since - offset)


def _timedelta(value: datetime.timedelta) -> bytes:
    return b"e%d;" % ((value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds)


def _path(value: pathlib.PurePath) -> bytes:
    windows = isinstance(value, pathlib.PureWindowsPath)
    text = str(value).lower() if windows else str(value)
    return b"p%b%b" % (b"w" if windows else b"p", _text(text))


def _named(value: Any) -> bytes:
    """A class or a function, if its name leads back to it."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for step in name.split(".") if isinstance(name, str) else ():
        found = getattr(found, step, None)
    if found is not value and value not in _UNNAMED:
        raise _Refusal(value, "cannot be found by its name in another process")
    return b"n" + _text(str(module)) + _text(str(name))


def _enum(value: enum.Enum) -> bytes:
    # A flag may be a combination that has no name, but always has a value.
    inner = value.value if isinstance(value, enum.Flag) else value.name
    return b"m%b%b" % (_named(type(value)), _encode(inner))


def _dataclass(value: Any) -> bytes:
    fields = []
    for field in dataclasses.fields(value):
        if field.compare:
            try:
                fields.append(_encode(getattr(value, field.name)))
            except _Refusal as refusal:
                refusal.path.append(f".{field.name}")
                raise
    return b"a%b%d:%b" % (_named(type(value)), len(fields), b"".join(fields))


_ENCODERS: Final[dict[type, Encoder]] = {
    type(None): lambda _: b"N",
    type(Ellipsis): lambda _: b"E",
    type(NotImplemented): lambda _: b"I",
    bool: lambda value: b"i1;" if value else b"i0;",
    int: _int,
    float: _float,
    complex: _complex,
    decimal.Decimal: _rational,
    fractions.Fraction: _rational,
    str: _text,
    bytes: lambda value: _framed(b"b", value),
    memoryview: _view,
    tuple: _tuple,
    frozenset: _set,
    range: _range,
    datetime.datetime: _datetime,
    datetime.date: lambda value: _framed(b"y", datetime.date.isoformat(value).encode()),
    datetime.time: _time,
    datetime.timedelta: _timedelta,
    uuid.UUID: lambda value: _framed(b"g", value.bytes),
    type: _named,
    types.FunctionType: _named,
    types.BuiltinFunctionType: _named,
}

_BASES: Final[tuple[type, ...]] = (
    str,
    bytes,
    int,
    float,
    complex,
    tuple,
    frozenset,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
)


_UNNAMED: Final = frozenset({type(None), type(Ellipsis), type(NotImplemented)})
"""Classes that ``builtins`` does not show under their names."""

_PLAIN: Final[dict[type, Callable[[Any], Any]]] = {
    str: lambda value: str.__getitem__(value, slice(None)),
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    int: lambda value: int.__add__(value, 0),
    float: lambda value: float.__add__(value, 0.0),
    complex: lambda value: complex.__add__(value, 0j),
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    frozenset: frozenset.union,
}
"""From an object of a subclass to the plain one that it equals."""


def _numpy_scalar(value: Any) -> bytes:
    if value.dtype.kind not in "biufSU":
        raise _Refusal(value, "has no canonical form")
    if value != value:  # noqa: PLR0124 - this is what NaN means
        raise _Refusal(value, "is not equal to itself")
    plain = value.item()
    if type(plain).__module__ != "numpy":
        return _encode(plain)
    # A long double has no plain twin, but a value.
    return _float(float(value)) if math.isinf(value) else _rational(value)


def _encoder_of_kin(value: Any) -> Encoder:
    """The encoder of an object whose exact class is not in the table."""
    kind = type(value)
    for base in _BASES:
        if isinstance(value, base) and _inherits_equality(kind, base):
            # What a subclass shows of itself is not what it is compared by.
            plain = _PLAIN.get(base)
            encoder = _ENCODERS[base]
            return encoder if plain is None else functools.partial(_through, plain, encoder)
    if isinstance(value, enum.Enum) and _inherits_equality(kind, object):
        return _enum
    if isinstance(value, pathlib.PurePath) and _inherits_equality(kind, pathlib.PurePath):
        return _path
    if isinstance(value, type):
        return _named
    if kind.__module__ == "numpy" and getattr(value, "dtype", None) is not None:
        return _numpy_scalar
    if _is_frozen_record(kind):  # type: ignore[arg-type]  # a class is hashable
        return _dataclass
    raise _Refusal(
        value,
        "has no canonical form; use plain values, a frozen dataclass, or "
        "tiered.keys.canonical.register",
    )


def _inherits_equality(kind: type, base: type) -> bool:
    """Whether objects of *kind* are compared as those of *base* are."""
    own: object = kind.__eq__
    return own is base.__eq__


def _through(plain: Callable[[Any], Any], encoder: Encoder, value: Any) -> bytes:
    return encoder(plain(value))


@functools.lru_cache(maxsize=1024)
def _is_frozen_record(kind: type) -> bool:
    """Whether *kind* is a frozen dataclass whose ``==`` compares its fields and class."""
    params = getattr(kind, "__dataclass_params__", None)
    if params is None or not (params.frozen and params.eq):
        return False
    # An __eq__ that the user wrote may mean anything: it must be the generated one.
    twin = dataclasses.make_dataclass(
        "Twin",
        [
            (field.name, object, dataclasses.field(compare=field.compare))
            for field in dataclasses.fields(kind)
        ],
    )
    own, generated = (getattr(one.__eq__, "__code__", None) for one in (kind, twin))
    return (
        own is not None
        and generated is not None
        and (own.co_code, own.co_names) == (generated.co_code, generated.co_names)
    )
