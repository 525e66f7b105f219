"""Serialisers: a value to bytes and back.

Each has a number that goes into the envelope, so that a reader never guesses.
Pickle executes what it reads and is therefore refused without a signature key
(see :mod:`tiered.codec.values`).
"""

from __future__ import annotations

import json
import pickle
from typing import Any, Final, Protocol

from tiered.codec.exact import ExactTypes
from tiered.codec.messagepack import MsgpackSerializer, MsgspecSerializer
from tiered.errors import UnserializableValue

__all__ = ["SERIALIZERS", "JsonSerializer", "PickleSerializer", "RawSerializer", "Serializer"]


class Serializer(Protocol):
    """A way to turn values into bytes.

    Attributes:
        number: 1 to 255, its name on the wire; never reused for another format. 0 is the
            manifest of a value in pages (see :mod:`tiered.codec.pages`).
        executes: whether reading may run code that the bytes name.
    """

    @property
    def number(self) -> int: ...

    @property
    def executes(self) -> bool: ...

    def require(self) -> None:
        """Raises ``MissingDependency`` if the package that it needs is not installed."""
        ...

    def dumps(self, value: Any) -> bytes:
        """Raises ``UnserializableValue`` if *value* would not come back equal."""
        ...

    def loads(self, data: bytes | memoryview) -> Any:
        """Raises any ``Exception`` if *data* cannot be read; a codec makes ``CorruptValue`` of it.

        Must not take much more memory than a small multiple of the length of *data*.
        """
        ...


class PickleSerializer:
    """Any picklable object, at the highest protocol of this interpreter."""

    number: Final = 1
    executes: Final = True

    # As it is: a frame around it would cost half of what it does. The bytes are authenticated
    # before they get here.
    loads = staticmethod(pickle.loads)

    def require(self) -> None:
        pass

    def dumps(self, value: Any) -> bytes:
        try:
            return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # reducers are user code: they raise anything
            raise UnserializableValue(f"cannot pickle {type(value).__name__}: {error}") from error


_JSON: Final = ExactTypes(
    "JSON", frozenset({type(None), bool, int, float, str}), keys=frozenset({str})
)


class JsonSerializer:
    """What JSON can say *exactly*: None, bool, int, float, str, list, dict with str keys."""

    number: Final = 2
    executes: Final = False

    def require(self) -> None:
        pass

    def dumps(self, value: Any) -> bytes:
        try:
            data = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise _JSON.refusal(value, error) from error
        if not _JSON.holds(value):
            raise _JSON.refusal(value)
        return data

    def loads(self, data: bytes | memoryview) -> Any:
        return json.loads(str(data, "utf-8"))


class RawSerializer:
    """``bytes`` as they are."""

    number: Final = 3
    executes: Final = False

    # ``bytes`` are not copied by this, views are.
    loads = staticmethod(bytes)

    def require(self) -> None:
        pass

    def dumps(self, value: Any) -> bytes:
        if type(value) is not bytes:
            raise UnserializableValue(f"the raw serialiser takes bytes, not {type(value).__name__}")
        return value


SERIALIZERS: Final[dict[str, Serializer]] = {
    "pickle": PickleSerializer(),
    "json": JsonSerializer(),
    "raw": RawSerializer(),
    "msgpack": MsgpackSerializer(),
    "msgspec": MsgspecSerializer(),
}
"""The serialisers by the name that users give."""
