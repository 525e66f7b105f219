"""Serialisers: a value to bytes and back.

Each has a number that goes into the envelope, so that a reader never guesses.
Pickle executes what it reads and is therefore refused without a signature key
(see :mod:`tiered.codec.values`).
"""

from __future__ import annotations

import json
import pickle
from typing import Any, Final, Protocol

from tiered.errors import CorruptValue, UnserializableValue

__all__ = ["SERIALIZERS", "JsonSerializer", "PickleSerializer", "RawSerializer", "Serializer"]


class Serializer(Protocol):
    """A way to turn values into bytes.

    Attributes:
        number: 1 to 255, its name on the wire; never reused for another format.
        executes: whether reading may run code that the bytes name.
    """

    @property
    def number(self) -> int: ...

    @property
    def executes(self) -> bool: ...

    def dumps(self, value: Any) -> bytes:
        """Raises ``UnserializableValue`` if *value* would not come back equal."""
        ...

    def loads(self, data: bytes) -> Any:
        """Raises ``CorruptValue`` if *data* cannot be read."""
        ...


class PickleSerializer:
    """Any picklable object, at the highest protocol of this interpreter."""

    number = 1
    executes = True

    def dumps(self, value: Any) -> bytes:
        try:
            return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # reducers are user code: they raise anything
            raise UnserializableValue(f"cannot pickle {type(value).__name__}: {error}") from error

    def loads(self, data: bytes) -> Any:
        try:
            return pickle.loads(data)  # noqa: S301 - authenticated before it gets here
        except Exception as error:  # a moved class, a constructor that raises: anything
            raise CorruptValue(f"cannot unpickle: {type(error).__name__}: {error}") from error


class JsonSerializer:
    """What JSON can say *exactly*: None, bool, int, float, str, list, dict with str keys.

    A tuple would come back as a list and the key ``1`` as ``"1"``; a cache that
    answers with something else than was put is worse than one that does not
    answer, so such values are refused.
    """

    number = 2
    executes = False

    def dumps(self, value: Any) -> bytes:
        try:
            _check_json(value, "value")
            return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        except RecursionError as error:
            raise UnserializableValue("the value is nested too deeply for JSON") from error
        except UnicodeEncodeError as error:
            raise UnserializableValue(f"a str is not valid Unicode: {error}") from error
        except ValueError as error:  # an int of more digits than the interpreter reads
            raise UnserializableValue(f"the value cannot be written as JSON: {error}") from error

    def loads(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise CorruptValue(f"not JSON: {error}") from error


_JSON_LEAVES: Final = frozenset({type(None), bool, int, float, str})


def _check_json(value: Any, where: str) -> None:
    kind = type(value)
    if kind in _JSON_LEAVES:
        return
    if kind is list:
        for index, item in enumerate(value):
            _check_json(item, f"{where}[{index}]")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise UnserializableValue(f"{where} has the key {key!r}; JSON keys are str")
            _check_json(item, f"{where}[{key!r}]")
    else:
        raise UnserializableValue(f"{where} is a {kind.__name__}, which JSON cannot give back")


class RawSerializer:
    """``bytes`` as they are."""

    number = 3
    executes = False

    def dumps(self, value: Any) -> bytes:
        if type(value) is not bytes:
            raise UnserializableValue(f"the raw serialiser takes bytes, not {type(value).__name__}")
        return value

    def loads(self, data: bytes) -> bytes:
        return bytes(data)


SERIALIZERS: Final[dict[str, Serializer]] = {
    "pickle": PickleSerializer(),
    "json": JsonSerializer(),
    "raw": RawSerializer(),
}
"""The serialisers by the name that users give."""
