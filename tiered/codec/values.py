"""The envelope: what is stored for a value outside the process.

::

    offset  size  field
         0    16  signature over all bytes below, and the name (prefix and canonical key)
        16     1  magic, 0xC5
        17     1  format, 1
        18     1  serialiser (see codec.serialize), 0 for a manifest (see codec.pages)
        19     1  compressor (see codec.compress), 0 for none
        20     8  created, wall-clock seconds, float64 big-endian
        28     8  expires, wall-clock seconds, float64; inf for never
        36     8  keep, seconds past expires for which stale readers want it, float64
        44     4  cost, seconds that the value took to compute, float32
        48     4  length of the name
        52     n  payload

Nothing is looked at before the signature is verified, and the envelope is never empty, so an
empty value on a server is never taken for one. The length of the name stands where no other
byte can: so none can move between the payload and the name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hmac import compare_digest
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from tiered.acceleration import core
from tiered.codec.compress import COMPRESSORS, Compressor
from tiered.codec.pages import Manifest, join
from tiered.codec.serialize import SERIALIZERS, RawSerializer, Serializer
from tiered.codec.sign import Signer
from tiered.entry import Entry
from tiered.errors import CorruptValue, ValueTooLarge
from tiered.typing import Key
from tiered.validation import check_count, check_number

__all__ = ["Header", "ValueCodec"]

T = TypeVar("T")
_Bytes: TypeAlias = bytes | memoryview

_KIND: Final = 0xC5_01_00_00
"""Magic, format, serialiser and compressor as one number; the latter two are to be added."""

_FIELDS: Final = "IdddfI"
_LAYOUT: Final = struct.Struct(f">{_FIELDS}")
_pack: Final = _LAYOUT.pack
_unpack: Final = struct.Struct(f">{Signer.SIZE}x{_FIELDS}").unpack_from
_OVERHEAD: Final = Signer.SIZE + _LAYOUT.size
_SIGNATURE: Final = slice(Signer.SIZE)
_SIGNED: Final = slice(Signer.SIZE, None)
_PAYLOAD: Final = slice(_OVERHEAD, None)

_SMALL: Final = 8192
"""Bytes of an envelope below which a copy costs less than another call."""

_MANIFEST: Final = 0


class Header(NamedTuple):
    """When the value was made, until when it is fresh (wall clock), and what it cost."""

    created: float
    expires: float
    keep: float = 0.0
    cost: float = 0.0


# A header is made by this on the way of each read: its own constructor takes twice as long.
_new: Final = tuple.__new__


class ValueCodec:
    """Turns values into envelopes and back.

    Args:
        checksum_key: the signing secret (``str`` or ``bytes``), or several, newest
            first; ``None`` for plain digests.
        serializer: ``"pickle"`` (needs a *checksum_key*), ``"json"``, ``"raw"``, or, by
            the packages of these names, ``"msgpack"`` or ``"msgspec"``.
        compress: ``"zlib"``, ``"zstd"`` (package zstandard), ``"lz4"`` (package lz4),
            ``True`` for ``"zlib"``, or ``False``.
        compress_from: bytes of payload below which compression is not tried.
        max_value_size: bytes that a value may have, serialised and not compressed.
        guarded: nobody else can write where the values lie: pickle needs no key there.
        more: serialisers of the caller's own, for payloads that go through :meth:`seal`.
        light: without a key, look for damage only, in a fraction of the time.

    Raises:
        ValueError: pickle without a key; an unknown name.
        TypeError: an argument of the wrong type.
        MissingDependency: the package that *serializer* or *compress* needs is not there.

    Threads: safe.
    """

    OVERHEAD: Final = _OVERHEAD

    def __init__(
        self,
        *,
        checksum_key: str | bytes | Sequence[str | bytes] | None = None,
        serializer: str = "pickle",
        compress: bool | str = True,
        compress_from: int = 1024,
        max_value_size: int = 128 * 1024 * 1024,
        guarded: bool = False,
        more: Sequence[Serializer] = (),
        light: bool = False,
    ) -> None:
        self._guarded = guarded
        self._more = tuple(more)
        self._serializer = _named("serializer", serializer, SERIALIZERS)
        self._compressor = _compressor(compress)
        keys = [checksum_key] if isinstance(checksum_key, (str, bytes)) else checksum_key
        if keys is not None and not isinstance(keys, (list, tuple)):
            raise TypeError(
                f"checksum_key must be str or bytes (or a list of them), "
                f"not {type(checksum_key).__name__}"
            )
        self._signer = Signer(keys or (), light=light)
        self._newest = self._signer.prepared[0]
        if self._serializer.executes and not self._may_execute:
            raise ValueError(
                f"serializer={serializer!r} executes what it reads, so it needs a checksum_key "
                f"to sign values with; give checksum_key=..., or serializer='json' or 'raw'"
            )
        self._compress_from = check_number(
            "compress_from", compress_from, low=0, hint="a number of bytes, 0 or more"
        )
        self._limit = check_count("max_value_size", max_value_size, low=1)
        self._serializer.require()
        if self._compressor is not None:
            self._compressor.require()
        self._plain_kind = _kind(self._serializer.number, 0)
        self._plain_below: float = 0 if core is None else min(self._limit, _SMALL)
        if self._compressor is not None:
            self._plain_below = min(self._plain_below, self._compress_from)
        self._readers = self._make_readers()
        self.opener: Final[Any] = (
            _PlainOpener(self)
            if core is None
            else core.Opener(self._newest, self._readers, Manifest)
        )
        self.open: Callable[[bytes, bytes], tuple[Any, float, float] | None] = self.opener.open
        """``open(name, data)`` gives ``(value, created, expires)``, or ``None``: that is no miss
        yet, :meth:`decode` may read it, or says what is wrong with it."""
        self.open_many: Callable[..., list[bytes]] = self.opener.open_many
        """``open_many(stored, asked, shift, found)`` puts an ``Entry`` into *found* for each of
        *stored* (data by the server's key), with *shift* seconds added to its expiry. *asked*
        has, for each of these, the key and its names. Returns those that :attr:`open` does not
        read, and those of manifests."""

    @property
    def bytes_only(self) -> bool:
        """Whether values must be ``bytes``."""
        return isinstance(self._serializer, RawSerializer)

    @property
    def authentic(self) -> bool:
        """Whether values are signed with a secret."""
        return self._signer.keyed

    @property
    def signer(self) -> Signer:
        """What signs envelopes, for what belongs to them and lies elsewhere."""
        return self._signer

    @property
    def _may_execute(self) -> bool:
        return self._signer.keyed or self._guarded

    def _make_readers(self) -> dict[int, Callable[[Any], Any]]:
        """By the kind of an envelope, what reads its payload."""
        limit = self._limit
        readers: dict[int, Callable[[Any], Any]] = {
            _kind(_MANIFEST, 0): partial(Manifest.unpack, max_size=limit + _OVERHEAD)
        }
        for one in (*SERIALIZERS.values(), *self._more):
            if one.executes and not self._may_execute:
                continue  # without a secret everybody can make a good signature
            readers[_kind(one.number, 0)] = one.loads
            for other in COMPRESSORS.values():
                readers[_kind(one.number, other.number)] = partial(_expanded, one, other, limit)
        return readers

    def encode(self, name: bytes, value: Any, header: Header) -> bytes:
        """The envelope of *value* to be stored under *name*.

        Raises:
            UnserializableValue: the serialiser does not take it.
            ValueTooLarge: it is larger than ``max_value_size``.
        """
        payload = self._serializer.dumps(value)
        if len(payload) < self._plain_below:
            # The usual value, compiled: what follows would come to the same.
            sealed: bytes = core.seal(self._newest, self._plain_kind, header, name, payload)
            return sealed
        if len(payload) > self._limit:
            raise ValueTooLarge(f"{len(payload)} bytes, the limit is {self._limit}")
        compressor = 0
        if self._compressor is not None and len(payload) >= self._compress_from:
            shorter = self._compressor.compress(payload)
            if len(shorter) < len(payload):
                payload, compressor = shorter, self._compressor.number
        return self._seal(name, self._serializer.number, compressor, header, payload)

    def seal(
        self, name: bytes, payload: bytes, header: Header, serializer: Serializer | None = None
    ) -> bytes:
        """The envelope of a *payload* that was serialised already; it is not compressed.

        Args:
            serializer: which reads it; by default the codec's own.

        Raises:
            ValueTooLarge: it is larger than ``max_value_size``.
        """
        if len(payload) > self._limit:
            raise ValueTooLarge(f"{len(payload)} bytes, the limit is {self._limit}")
        return self._seal(name, (serializer or self._serializer).number, 0, header, payload)

    def seal_manifest(self, name: bytes, manifest: Manifest, header: Header) -> bytes:
        """The envelope of *manifest* to be stored under *name*, for a value in pages.

        *header* is the value's, so that its expiry is known, and can be moved, without the pages.
        """
        return self._seal(name, _MANIFEST, 0, header, manifest.pack())

    def _seal(
        self, name: bytes, serializer: int, compressor: int, header: Header, payload: _Bytes
    ) -> bytes:
        kind = _kind(serializer, compressor)
        if core is not None and type(payload) is bytes and len(payload) < _SMALL:
            sealed: bytes = core.seal(self._newest, kind, header, name, payload)
            return sealed
        head = _pack(kind, *header, len(name))
        if len(payload) < _SMALL:
            message = head + payload
            digest = self._newest.copy()
            digest.update(message + name)
            return digest.digest() + message
        return b"".join((self._signer.sign(head, payload, name), head, payload))

    def decode(self, name: bytes, data: bytes) -> tuple[Any, Header]:
        """What :meth:`encode` was given; or the ``Manifest`` of a value in pages.

        A value is never of the type ``Manifest`` itself. See :meth:`decode_pages`.

        Raises:
            CorruptValue: *data* is not an envelope that this codec wrote for *name*.
        """
        # All in one place, for speed: this is done once for each value that is read.
        if len(data) < _SMALL:
            signed = data[_SIGNED] + name
            digest = self._newest.copy()
            digest.update(signed)
            if not compare_digest(digest.digest(), data[_SIGNATURE]):
                self._signer.verify(data[_SIGNATURE], signed, skip=1)
            payload: _Bytes = data[_PAYLOAD]
        else:
            payload = self._verified(name, data)[_PAYLOAD]
        try:
            kind, created, expires, keep, cost, length = _unpack(data)
            # NaN alone differs from itself.
            if length != len(name) or expires != expires:  # noqa: PLR0124
                raise _misfit(name, length)
            value = self._readers[kind](payload)
        except CorruptValue:
            raise
        except Exception as error:  # the reader of a pickle is anybody's code
            raise self._complaint(data, error) from error
        return value, _new(Header, (created, expires, keep, cost))

    def decode_pages(self, name: bytes, manifest: Manifest, pages: Sequence[bytes | None]) -> Any:
        """The value in *pages*, which *manifest* under *name* stands for.

        Its header is that of the manifest: an expiry is moved there, and not in the pages.

        Raises:
            CorruptValue: a page is missing or not of this value; or a manifest again.
        """
        value, _ = self.decode(name, join(manifest, pages))
        if type(value) is Manifest:
            raise CorruptValue("the pages of a manifest hold a manifest")
        return value

    def header(self, name: bytes, data: bytes) -> Header:
        """The header alone; the payload stays unread. Raises ``CorruptValue``."""
        return self._open(name, data)[1]

    @staticmethod
    def told(data: bytes) -> Header | None:
        """The header that an envelope tells, or its beginning; nothing is verified.

        ``None`` if *data* is too short, or no envelope.
        """
        if len(data) < _OVERHEAD:
            return None
        kind, created, expires, keep, cost, _ = _unpack(data)
        return Header(created, expires, keep, cost) if kind & 0xFFFF_0000 == _KIND else None

    @staticmethod
    def is_compressed(data: bytes) -> bool:
        """Whether the payload of an envelope is compressed; nothing is verified."""
        return data[Signer.SIZE + 3] != 0

    @staticmethod
    def is_manifest(data: bytes) -> bool:
        """Whether an envelope stands for a value in pages; nothing is verified."""
        return data[Signer.SIZE + 2] == _MANIFEST

    def redate(self, name: bytes, data: bytes, expires: float) -> bytes:
        """The same envelope with another expiry; the payload stays unread.

        Raises:
            CorruptValue: *data* is not an envelope that this codec wrote for *name*.
        """
        kind, header, payload = self._open(name, data)
        serializer, compressor = kind >> 8 & 255, kind & 255
        return self._seal(name, serializer, compressor, header._replace(expires=expires), payload)

    def _open(self, name: bytes, data: bytes) -> tuple[int, Header, memoryview]:
        view = self._verified(name, data)
        try:
            kind, created, expires, keep, cost, length = _unpack(view)
        except struct.error as error:
            raise self._complaint(data, error) from error
        if length != len(name) or expires != expires:  # noqa: PLR0124
            raise _misfit(name, length)
        if kind & 0xFFFF_0000 != _KIND:
            raise self._complaint(data, None)
        return kind, Header(created, expires, keep, cost), view[_PAYLOAD]

    def _verified(self, name: bytes, data: bytes) -> memoryview:
        view = memoryview(data)
        self._signer.verify(data[_SIGNATURE], view[_SIGNED], name)
        return view

    def _complaint(self, data: bytes, error: Exception | None) -> CorruptValue:
        """Why *data*, with a good signature, could not be read."""
        if len(data) < _OVERHEAD:
            return CorruptValue(f"{len(data)} bytes are too few for an envelope")
        magic, version, serializer, compressor = data[_SIGNED][:4]
        if (magic, version) != (_KIND >> 24, _KIND >> 16 & 255):
            return CorruptValue(f"envelope format {magic:#x}.{version} is not known here")
        if _kind(serializer, compressor) in self._readers:
            return CorruptValue(
                f"the payload (serialiser {serializer}, compressor {compressor}) cannot be read: "
                f"{type(error).__name__}: {error}"
            )
        if compressor and compressor not in _COMPRESSOR_NUMBERS:
            return CorruptValue(f"unknown compressor {compressor}")
        return CorruptValue(f"serialiser {serializer} is unknown or not allowed here")


class _PlainOpener:
    """What ``core.Opener`` is where the compiled core is not in use."""

    def __init__(self, codec: ValueCodec) -> None:
        self._decode = codec.decode

    def open(self, name: bytes, data: bytes) -> tuple[Any, float, float] | None:
        try:
            value, (created, expires, _, _) = self._decode(name, data)
        except CorruptValue:
            return None
        return value, created, expires

    def open_many(
        self,
        stored: Mapping[bytes, bytes],
        asked: Mapping[bytes, tuple[Key, tuple[bytes, bytes]]],
        shift: float,
        found: dict[Key, Entry],
    ) -> list[bytes]:
        unusual: list[bytes] = []
        decode = self._decode
        for wire, data in stored.items():
            key, (signed, _) = asked[wire]
            try:
                value, (_, expires, _, _) = decode(signed, data)
            except CorruptValue:
                unusual.append(wire)
                continue
            if type(value) is Manifest:
                unusual.append(wire)
            else:
                found[key] = Entry(value, expires + shift)
        return unusual


_COMPRESSOR_NUMBERS: Final = frozenset(one.number for one in COMPRESSORS.values())


def _kind(serializer: int, compressor: int) -> int:
    return _KIND + (serializer << 8) + compressor


def _expanded(one: Serializer, other: Compressor, limit: int, payload: _Bytes) -> Any:
    return one.loads(other.decompress(payload, limit))


def _misfit(name: bytes, length: int) -> CorruptValue:
    if length != len(name):
        return CorruptValue(f"the name has {len(name)} bytes, the envelope is for {length}")
    return CorruptValue("the envelope has no expiry")


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
