"""Serialisers for regions on clients that keep bytes, and which deserialisers may be used there."""

from __future__ import annotations

import functools
from typing import Any, Final

from tiered.codec.serialize import JsonSerializer, PickleSerializer
from tiered.errors import UnserializableValue
from tiered.region.api import Deserializer, Serializer, ValuePayload

__all__ = ["executes", "serialization"]

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
