"""A value's file, if it has one: its key, its envelope, and large buffers beside it.

::

    offset  size  field
         0     4  "tFv1"
         4     4  length of the name
         8     n  name: what the envelope is signed for, 0 and the canonical key
     8 + n     e  envelope (see ``codec.values``)
           0..63  nothing, and the region of buffers, if the envelope holds a sheet

The deadline is in the first bytes of the envelope, and moved there in place: what is signed
with it changes, what the value is read from does not.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tiered.clients.files.buffers import (
    Sheet,
    SheetSerializer,
    apart,
    joined,
    laid_out,
    pickled_part,
    region_start,
)
from tiered.codec.sign import Signer
from tiered.codec.values import Header, ValueCodec
from tiered.errors import CorruptValue, ValueTooLarge

__all__ = [
    "Layout",
    "Sealed",
    "Told",
    "Version",
    "allocated",
    "beginning",
    "expires_in",
    "peeked",
    "version",
]

_HEAD: Final = struct.Struct(">4sI")
_MAGIC: Final = b"tFv1"
_EXPIRES: Final = struct.Struct(">d")
_EXPIRES_AT: Final = 28
"""In an envelope."""

_SERIALIZER_AT: Final = 18
_USUAL: Final = 8192
"""Bytes that are read at first, most often all."""

_BLOCK: Final = 4096

_VERIFIED: Final = 1024
"""Files with a region that are remembered to be sound."""

_SHEETS: Final = SheetSerializer()


class Sealed(NamedTuple):
    """What is to be kept of a value.

    Attributes:
        envelope: all of it, or of what is not in the region.
        region: the parts of its large buffers, to follow the envelope in a file.
    """

    envelope: bytes
    region: Sequence[bytes | memoryview] = ()


class Version(NamedTuple):
    """Which writing of a value a file is: a file of its own for each, or another signature.

    The number of a file may be another's later, but not with the same time and signature, unless
    the same was written in the same moment. A value in a pack has its place there instead, with
    the device -1.
    """

    device: int
    inode: int
    changed: int
    size: int
    signature: bytes


class _State(NamedTuple):
    """What changes with a file's contents; the time of change cannot be forged.

    Attributes:
        pickle: a signature of the beginning of the region, which is executed.
    """

    changed: int
    size: int
    signature: bytes
    pickle: bytes


class Layout:
    """Turns values into the parts of a file, and a file back.

    Args:
        codec: for envelopes, with ``SheetSerializer`` among those that it reads.
        pickles: whether values are pickled, so that buffers can lie apart.
        limit: bytes that a file may take.

    Attributes:
        serializers: what the codec is to be given as ``more``.

    Threads: safe.
    """

    serializers: Final = (_SHEETS,)

    def __init__(self, codec: ValueCodec, *, pickles: bool, limit: int) -> None:
        self._codec = codec
        self._pickles = pickles
        self._limit = limit
        self._verified: OrderedDict[tuple[int, int], _State] = OrderedDict()

    # -- Writing -----------------------------------------------------------------

    def seal(self, name: bytes, value: Any, header: Header) -> Sealed:
        """What is to be kept of *value*.

        Raises:
            CodecError: it cannot be written.
        """
        if not self._pickles:
            return Sealed(self._codec.encode(name, value, header))
        stream, buffers = apart(value)
        if not buffers:
            return Sealed(self._codec.seal(name, stream, header))
        return self._with_region(name, header, laid_out(stream, buffers), buffers)

    def parts(self, name: bytes, sealed: Sealed) -> list[bytes | memoryview]:
        """What a file consists of, to be written one after the other.

        Raises:
            CodecError: it cannot be written.
        """
        parts = [_HEAD.pack(_MAGIC, len(name)) + name + sealed.envelope, *sealed.region]
        size = allocated(sum(map(len, parts)))
        if size > self._limit:
            raise ValueTooLarge(f"a file that takes {size} bytes, the limit is {self._limit}")
        return parts

    def _with_region(
        self,
        name: bytes,
        header: Header,
        region: list[bytes | memoryview],
        buffers: Sequence[memoryview],
    ) -> Sealed:
        start = _end_of_envelope(name)
        offset = region_start(start)
        gap = bytes(offset - start)
        signature = self._codec.signer.sign(gap, *region)
        sheet = Sheet(signature, offset, sum(map(len, region)), len(buffers) + 1)
        envelope = self._codec.seal(name, _SHEETS.dumps(sheet), header, _SHEETS)
        return Sealed(envelope, [gap, *region])

    # -- Reading -----------------------------------------------------------------

    def read(self, name: bytes, descriptor: int) -> tuple[Any, float, float]:
        """``(value, created, expires)`` from an open file.

        Raises:
            CorruptValue: the file is not one that was written under this name.
        """
        sealed = self._sealed(name, descriptor)
        value, created, expires = self._open(name, sealed)
        if _holds_sheet(sealed):
            value = joined(value, *self._region(value, name, descriptor))
        return value, created, expires

    def opened(self, name: bytes, envelope: bytes) -> tuple[Any, float, float]:
        """The same, from the envelope of a value in a pack, which has no region beside it."""
        opened = self._open(name, envelope)
        _refuse_sheet(envelope)
        return opened

    def _open(self, name: bytes, envelope: bytes) -> tuple[Any, float, float]:
        opened = self._codec.open(name, envelope)
        if opened is None:
            value, header = self._codec.decode(name, envelope)
            opened = value, header.created, header.expires
        _refuse_manifest(envelope)
        return opened

    def header_in(self, name: bytes, envelope: bytes) -> Header:
        """The header of an envelope alone. Raises as :meth:`read`."""
        return self._codec.header(name, envelope)

    def redated(self, name: bytes, envelope: bytes, expires: float) -> bytes:
        """What an envelope begins with to have another expiry. Raises as :meth:`read`."""
        return self._codec.redate(name, envelope, expires)[: ValueCodec.OVERHEAD]

    def header(self, name: bytes, descriptor: int) -> Header:
        """The header alone. Raises as :meth:`read`."""
        return self._codec.header(name, self._sealed(name, descriptor))

    def check(self, name: bytes, descriptor: int) -> None:
        """Verify all of an open file. Raises as :meth:`read`."""
        sealed = self._sealed(name, descriptor)
        self._codec.header(name, sealed)
        _refuse_manifest(sealed)
        if _holds_sheet(sealed):
            # Not by the codec, which may have to refuse what the region holds.
            sheet = _SHEETS.loads(sealed[ValueCodec.OVERHEAD :])
            self._region(sheet, name, descriptor)

    def check_packed(self, name: bytes, envelope: bytes) -> None:
        """Verify the envelope of a value in a pack. Raises as :meth:`read`."""
        self._codec.header(name, envelope)
        _refuse_manifest(envelope)
        _refuse_sheet(envelope)

    def redate(self, name: bytes, descriptor: int, expires: float) -> None:
        """Give the value another expiry, in place. Raises as :meth:`read`, and ``OSError``."""
        redated = self.redated(name, self._sealed(name, descriptor), expires)
        # In one call, and as little as there is to change: nothing lies between old and new.
        os.pwrite(descriptor, redated, _HEAD.size + len(name))

    def _sealed(self, name: bytes, descriptor: int) -> bytes:
        """The envelope in an open file."""
        data = os.pread(descriptor, _USUAL, 0)
        head, sheet_end = _HEAD.size + len(name), _end_of_envelope(name)
        whole = len(data) < _USUAL
        if not whole and sheet_end > _USUAL:  # a long name
            data += _rest(descriptor, _USUAL)
            whole = True
        if data[: _HEAD.size] != _HEAD.pack(_MAGIC, len(name)) or data[_HEAD.size : head] != name:
            raise _strange(data, name)
        kind = head + _SERIALIZER_AT
        if len(data) > kind and data[kind] == SheetSerializer.number:
            return data[head:sheet_end]
        return data[head:] if whole else _rest(descriptor, head)

    def _region(self, sheet: Sheet, name: bytes, descriptor: int) -> tuple[bytes, memoryview]:
        """The region of a file, and a copy of its beginning, up to the end of the pickle.

        Buffers are verified once in each process as long as the file stays as it is: to verify
        is to read all of it, which is what views are to save. The pickle, which is short beside
        them, is verified each time, as a change by mapped memory need not show in a file's time.
        """
        status = os.fstat(descriptor)
        if status.st_size != sheet.offset + sheet.size:
            raise CorruptValue(
                f"the file has {status.st_size} bytes, not {sheet.offset + sheet.size}"
            )
        view = memoryview(_mapped(descriptor, status.st_size))
        region = view[sheet.offset :]
        head = pickled_part(sheet, region)
        signer = self._codec.signer
        file = status.st_dev, status.st_ino
        state = _State(status.st_ctime_ns, status.st_size, sheet.signature, signer.sign(head))
        if self._verified.get(file) != state:
            gap = view[_end_of_envelope(name) : sheet.offset]
            signer.verify(sheet.signature, gap, head, region[len(head) :])
            self._verified[file] = state
            while len(self._verified) > _VERIFIED:
                try:
                    self._verified.popitem(last=False)
                except KeyError:  # another thread was faster
                    break
        return head, region


def _holds_sheet(envelope: bytes) -> bool:
    """Whether a verified envelope does; not by what is in it, which may be anybody's pickle."""
    return envelope[_SERIALIZER_AT] == SheetSerializer.number


def _refuse_sheet(envelope: bytes) -> None:
    if _holds_sheet(envelope):
        raise CorruptValue("a value in a pack has no region")


def _refuse_manifest(envelope: bytes) -> None:
    if ValueCodec.is_manifest(envelope):
        raise CorruptValue("a value in files is not in pages")


def _end_of_envelope(name: bytes) -> int:
    """Of one that holds a sheet, in its file."""
    return _HEAD.size + len(name) + ValueCodec.OVERHEAD + SheetSerializer.SIZE


def allocated(size: int) -> int:
    """What a file of *size* bytes takes: file systems give whole blocks."""
    return -(-size // _BLOCK) * _BLOCK


def version(name: bytes, descriptor: int) -> Version | None:
    """Of the value in an open file, unverified; ``None`` if that is not *name*'s."""
    status = os.fstat(descriptor)
    head = _HEAD.pack(_MAGIC, len(name)) + name
    data = os.pread(descriptor, len(head) + Signer.SIZE, 0)
    if not data.startswith(head) or len(data) < len(head) + Signer.SIZE:
        return None
    file = status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size
    return Version(*file, data[len(head) :])


class Told(NamedTuple):
    """What a file tells of itself, unverified: its name, and its expiry in the time of files."""

    name: bytes
    expires: float


def peeked(descriptor: int) -> Told | None:
    """What an open file tells of itself; ``None`` if it is none of ours."""
    found = beginning(descriptor)
    return None if found is None else Told(found[0], expires_in(found[1]))


def beginning(descriptor: int) -> tuple[bytes, bytes] | None:
    """An open file's name, and what its envelope begins with; ``None`` if it is none of ours.

    Of the envelope there are at least the bytes that each one has; nothing is verified.
    """
    data = os.pread(descriptor, _USUAL, 0)
    if len(data) < _HEAD.size:
        return None
    magic, length = _HEAD.unpack_from(data)
    end = _HEAD.size + length
    least = end + ValueCodec.OVERHEAD
    if magic != _MAGIC:
        return None
    if least > len(data):  # a long name
        if least > os.fstat(descriptor).st_size:
            return None
        data = os.pread(descriptor, least, 0)
    if least > len(data):
        return None
    return data[_HEAD.size : end], data[end:]


def expires_in(envelope: bytes) -> float:
    """The expiry that an envelope tells, unverified; it has one, or is damaged: then 0."""
    if len(envelope) < ValueCodec.OVERHEAD:
        return 0.0
    expires: float = _EXPIRES.unpack_from(envelope, _EXPIRES_AT)[0]
    return expires


def _rest(descriptor: int, start: int) -> bytes:
    """What follows *start* in a file."""
    pieces: list[bytes] = []
    wanted = os.fstat(descriptor).st_size - start
    while wanted > 0:
        piece = os.pread(descriptor, wanted, start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
        wanted -= len(piece)
    return b"".join(pieces)


def _mapped(descriptor: int, size: int) -> mmap.mmap:
    # A file that is replaced or removed stays as long as somebody has it mapped.
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, size, prot=mmap.PROT_READ, trackfd=False)
    return mmap.mmap(descriptor, size, prot=mmap.PROT_READ)


def _strange(data: bytes, name: bytes) -> CorruptValue:
    if not data.startswith(_MAGIC):
        return CorruptValue("the file is of another format")
    return CorruptValue(f"the file is not of the key with the canonical name {name[:100]!r}")
