"""The envelope: what is stored for a value outside the process.

::

    offset  size  field
         0     1  magic, 0xC5
         1     1  format, 1
         2     1  serialiser (see codec.serialize)
         3     1  compressor (see codec.compress), 0 for none
         4     8  created, wall-clock seconds, float64 big-endian
        12     8  expires, wall-clock seconds, float64; inf for never
        20     8  keep, seconds past expires for which stale readers want it, float64
        28     4  cost, seconds that the value took to compute, float32
        32     n  payload
      32+n    16  signature over the name (prefix and canonical key), and all bytes above

Nothing but the length is looked at before the signature is verified, and the
envelope is never empty, so an empty value on a server is never taken for one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

from tiered.codec.compress import COMPRESSORS, Compressor
from tiered.codec.serialize import SERIALIZERS, Serializer
from tiered.codec.sign import Signer
from tiered.errors import CorruptValue, ValueTooLarge
from tiered.validation import check_count, check_number

__all__ = ["Header", "ValueCodec"]

T = TypeVar("T")

_MAGIC: Final = 0xC5
_FORMAT: Final = 1
_LAYOUT: Final = struct.Struct(">BBBBdddf")


class Header(NamedTuple):
    """When the value was made, until when it is fresh (wall clock), and what it cost."""

    created: float
    expires: float
    keep: float = 0.0
    cost: float = 0.0


class ValueCodec:
    """Turns values into envelopes and back.

    Args:
        checksum_key: the signing secret (``str`` or ``bytes``), or several, newest
            first; ``None`` for plain digests.
        serializer: ``"pickle"`` (needs a *checksum_key*), ``"json"`` or ``"raw"``.
        compress: a compressor's name, ``True`` for ``"zlib"``, or ``False``.
        compress_from: bytes of payload below which compression is not tried.
        max_value_size: bytes that a value may have, serialised and not compressed.

    Raises:
        ValueError: pickle without a key; an unknown name.
        TypeError: an argument of the wrong type.

    Threads: safe, nothing changes after construction.
    """

    OVERHEAD: Final = _LAYOUT.size + Signer.SIZE

    def __init__(
        self,
        *,
        checksum_key: str | bytes | Sequence[str | bytes] | None = None,
        serializer: str = "pickle",
        compress: bool | str = True,
        compress_from: int = 1024,
        max_value_size: int = 128 * 1024 * 1024,
    ) -> None:
        self._serializer = _named("serializer", serializer, SERIALIZERS)
        self._compressor = _compressor(compress)
        keys = [checksum_key] if isinstance(checksum_key, (str, bytes)) else checksum_key
        if keys is not None and not isinstance(keys, (list, tuple)):
            raise TypeError(
                f"checksum_key must be str or bytes (or a list of them), "
                f"not {type(checksum_key).__name__}"
            )
        self._signer = Signer(keys or ())
        if self._serializer.executes and not self._signer.keyed:
            raise ValueError(
                f"serializer={serializer!r} executes what it reads, so it needs a checksum_key "
                f"to sign values with; give checksum_key=..., or serializer='json' or 'raw'"
            )
        self._readable: dict[int, Serializer] = {
            known.number: known
            for known in SERIALIZERS.values()
            if self._signer.keyed or not known.executes
        }
        self._expanders: dict[int, Compressor] = {
            known.number: known for known in COMPRESSORS.values()
        }
        self._compress_from = check_number(
            "compress_from", compress_from, low=0, hint="a number of bytes, 0 or more"
        )
        self._limit = check_count("max_value_size", max_value_size, low=1)

    def encode(self, name: bytes, value: Any, header: Header) -> bytes:
        """The envelope of *value* to be stored under *name*.

        Raises:
            UnserializableValue: the serialiser does not take it.
            ValueTooLarge: it is larger than ``max_value_size``.
        """
        payload = self._serializer.dumps(value)
        if len(payload) > self._limit:
            raise ValueTooLarge(f"{len(payload)} bytes, the limit is {self._limit}")
        compressor = 0
        if self._compressor is not None and len(payload) >= self._compress_from:
            shorter = self._compressor.compress(payload)
            if len(shorter) < len(payload):
                payload, compressor = shorter, self._compressor.number
        return self._seal(name, self._serializer.number, compressor, header, payload)

    def _seal(
        self, name: bytes, serializer: int, compressor: int, header: Header, payload: bytes
    ) -> bytes:
        message = _LAYOUT.pack(_MAGIC, _FORMAT, serializer, compressor, *header) + payload
        return message + self._signer.sign(name, message)

    def decode(self, name: bytes, data: bytes) -> tuple[Any, Header]:
        """What :meth:`encode` was given.

        Raises:
            CorruptValue: *data* is not an envelope that this codec wrote for *name*.
        """
        serializer, compressor, header, payload = self._open(name, data)
        if compressor:
            expander = self._expanders.get(compressor)
            if expander is None:
                raise CorruptValue(f"unknown compressor {compressor}")
            payload = expander.decompress(payload, self._limit)
        reader = self._readable.get(serializer)
        if reader is None:
            raise CorruptValue(f"serialiser {serializer} is unknown or not allowed here")
        return reader.loads(payload), header

    def header(self, name: bytes, data: bytes) -> Header:
        """The header alone; the payload stays unread. Raises ``CorruptValue``."""
        return self._open(name, data)[2]

    @staticmethod
    def is_compressed(data: bytes) -> bool:
        """Whether the payload of an envelope is compressed; nothing is verified."""
        return data[3] != 0

    def redate(self, name: bytes, data: bytes, expires: float) -> bytes:
        """The same envelope with another expiry; the payload stays unread.

        Raises:
            CorruptValue: *data* is not an envelope that this codec wrote for *name*.
        """
        serializer, compressor, header, payload = self._open(name, data)
        return self._seal(name, serializer, compressor, header._replace(expires=expires), payload)

    def _open(self, name: bytes, data: bytes) -> tuple[int, int, Header, bytes]:
        if len(data) < self.OVERHEAD:
            raise CorruptValue(f"{len(data)} bytes are too few for an envelope")
        message, signature = data[: -Signer.SIZE], data[-Signer.SIZE :]
        self._signer.verify(name, message, signature)
        magic, version, serializer, compressor, created, expires, keep, cost = _LAYOUT.unpack_from(
            message
        )
        if magic != _MAGIC or version != _FORMAT:
            raise CorruptValue(f"envelope format {magic:#x}.{version} is not known here")
        if math.isnan(expires):
            raise CorruptValue("the envelope has no expiry")
        return (
            serializer,
            compressor,
            Header(created, expires, keep, cost),
            message[_LAYOUT.size :],
        )


def _compressor(compress: bool | str) -> Compressor | None:
    if compress is False:
        return None
    return _named("compress", "zlib" if compress is True else compress, COMPRESSORS)


def _named(argument: str, name: Any, known: dict[str, T]) -> T:
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be one of {sorted(known)}, not {name!r}")
    if name not in known:
        raise ValueError(f"{argument} must be one of {sorted(known)}, not {name!r}")
    return known[name]
