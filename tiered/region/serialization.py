"""Values as bytes: their form, serialisers for clients that keep bytes, and which deserialisers
may be used there.

The form is dogpile.cache's: the metadata as JSON, ``|``, the serialised payload.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from typing import Any, Final

from tiered.codec.serialize import JsonSerializer, PickleSerializer
from tiered.errors import UnserializableValue
from tiered.region.api import CachedValue, Deserializer, Serializer, ValuePayload

__all__ = ["dumped", "executes", "is_metadata", "parsed", "serialization"]

_SEPARATOR: Final = b"|"

_PICKLE: Final = PickleSerializer()
_JSON: Final = JsonSerializer()

_EXECUTING: Final = {
    "pickle": {"loads", "_loads"},
    "cloudpickle": {"loads"},
    "dill": {"loads"},
    "jsonpickle": {"decode", "loads"},
    "marshal": {"loads"},
    "yaml": {"unsafe_load"},
}
"""By package: functions that run what the bytes name that they read, or crash on some bytes."""


def dumped(value: CachedValue, serializer: Serializer) -> bytes:
    """*value* as bytes. Raises what *serializer* raises."""
    head = json.dumps(dict(value.metadata)).encode("ascii")
    return head + _SEPARATOR + serializer(value.payload)


def parsed(data: bytes, deserializer: Deserializer) -> CachedValue:
    """Undoes :func:`dumped`.

    Raises:
        ValueError: *data* are not of that form.
        Exception: what *deserializer* raises.
    """
    head, _, body = data.partition(_SEPARATOR)
    metadata = json.loads(head)
    if not is_metadata(metadata):
        raise ValueError("no region wrote it")
    return CachedValue(deserializer(body), metadata)


def is_metadata(value: object) -> bool:
    """Whether *value* is what a region notes with its values."""
    if not isinstance(value, Mapping):
        return False
    made = value.get("ct")
    return isinstance(made, (int, float)) and math.isfinite(made)


def serialization(*, authentic: bool) -> tuple[Serializer, Deserializer]:
    """How to make bytes of payloads, and payloads of bytes, where nobody says.

    Args:
        authentic: the bytes come back from nobody but who has the secret: anything that
            pickles. Otherwise they are read as JSON, which executes nothing, and a payload
            that JSON would not give back as it is raises ``UnserializableValue``.
    """
    if authentic:
        return _PICKLE.dumps, _PICKLE.loads
    return _json, _JSON.loads


def executes(deserializer: Deserializer | None) -> bool:
    """Whether *deserializer* is known to run what it reads.

    A function of the user's own is never known to: it may have checked the bytes before.
    """
    function: Any = deserializer
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None) or ""
    package = module.partition(".")[0].removeprefix("_")
    return getattr(function, "__qualname__", None) in _EXECUTING.get(package, ())


def _json(payload: ValuePayload) -> bytes:
    try:
        return _JSON.dumps(payload)
    except UnserializableValue as error:
        raise UnserializableValue(
            f"{error}; with a checksum_key, whatever pickles can be kept"
        ) from error
