"""The bytes that pass over one connection: read in lines and blocks, within a bounded time."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Final

from tiered.clock import SYSTEM_CLOCK
from tiered.errors import BackendError

__all__ = ["Patience", "Stream", "Traffic"]

_PIECE: Final = 65536
_LONGEST_LINE: Final = 8192
"""Bytes; servers can be told to take items up to this size."""
_PACE: Final = 256 * 1024
"""Bytes that are to arrive within each timeout: who sends less is too slow to be waited for."""


class Traffic:
    """Bytes sent to and received from one server, over all its connections."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0


class Patience:
    """What is left of it, for those whose answers are awaited together.

    Attributes:
        exhausted: somebody has been waited for in vain, and who has not answered by now is
            waited for no longer.
    """

    __slots__ = ("exhausted",)

    def __init__(self) -> None:
        self.exhausted = False


class Stream:
    """A connected socket, with what it has received and nobody has read yet.

    Args:
        connected: the socket; its timeout is set here.
        timeout: seconds for sending, and for receiving each 256 KB of an answer, the
            first included, however many pieces they come in.
        traffic: where bytes are counted.
        longest: bytes of the largest block that is read.

    Attributes:
        patience: with all whose answers are awaited together, if there are others.
        settled: whether all that was asked has been answered, as :meth:`settle` found.

    Every method raises ``OSError`` when the connection fails or takes too long, and
    ``BackendError`` when what arrives cannot be an answer.

    Threads: one at a time.
    """

    __slots__ = (
        "_at",
        "_data",
        "_due",
        "_expected",
        "_hurried",
        "_longest",
        "_serial",
        "_socket",
        "_timeout",
        "_traffic",
        "patience",
        "settled",
    )

    def __init__(
        self,
        connected: socket.socket,
        timeout: float,
        traffic: Traffic,
        *,
        longest: int = 1 << 30,
    ) -> None:
        connected.settimeout(timeout)
        self._socket = connected
        self._timeout = timeout
        self._traffic = traffic
        self._data = b""
        self._at = 0
        self._due = 0.0
        self._expected = _PACE  # bytes, until then
        self._hurried = False
        self._serial = 0
        self._longest = longest
        self.patience: Patience | None = None
        self.settled = True

    def serial(self) -> int:
        """A number that no earlier request on this stream had."""
        self._serial += 1
        return self._serial

    def send(self, request: bytes) -> None:
        """Send all of *request*."""
        self._traffic.sent += len(request)
        self.settled = False
        if self._due:
            self._start_anew()  # another question of the same exchange
        self._socket.sendall(request)

    def send_each(self, parts: Sequence[bytes], each: int) -> None:
        """Send commands of *each* parts, which are to be answered together.

        Over TLS one by one: a server that has read as much as it takes at a time leaves the
        rest of a record where nothing tells it to look again, and both sides would wait.
        """
        if isinstance(self._socket, ssl.SSLSocket):
            for start in range(0, len(parts), each):
                self.send(b"".join(parts[start : start + each]))
        else:
            self.send(b"".join(parts))

    def line(self) -> bytes:
        """The next line, without its end."""
        end = self._data.find(b"\r\n", self._at)
        while end < 0:
            if len(self._data) - self._at > _LONGEST_LINE:
                raise BackendError(f"a line of more than {_LONGEST_LINE} bytes")
            self._more()
            end = self._data.find(b"\r\n", self._at)
        line = self._data[self._at : end]
        self._at = end + 2
        return line

    def block(self, size: int) -> bytes:
        """The next *size* bytes, and the end of line after them, which is dropped."""
        stop = self._at + size
        if size > self._longest:
            raise BackendError(f"an item of {size} bytes; {self._longest} may be read")
        if len(self._data) < stop + 2:
            self._gather(size + 2)
            stop = self._at + size
        block = self._data[self._at : stop]
        if self._data[stop : stop + 2] != b"\r\n":
            raise BackendError("a block of data does not end where it should")
        self._at = stop + 2
        return block

    def unread(self) -> tuple[bytes, int]:
        """What is here, and from where on it was not read yet; see :meth:`skip_to`."""
        return self._data, self._at

    def skip_to(self, at: int) -> None:
        """What was :meth:`unread` has been read up to *at*."""
        self._at = at

    def settle(self) -> None:
        """The exchange is over. Raises ``BackendError`` if there is more than its answer."""
        if self._at != len(self._data):
            raise BackendError(f"{self._data[self._at :][:40]!r} after the answer")
        self._data = b""
        self._at = 0
        self._start_anew()
        self.patience = None
        self.settled = True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def fileno(self) -> int:
        """The socket's, for polling."""
        return self._socket.fileno()

    def _gather(self, size: int) -> None:
        """Have *size* unread bytes; memory is taken for what arrives, not for what is announced."""
        pieces = [self._data[self._at :]]
        missing = size - len(pieces[0])
        while missing > 0:
            piece = self._receive()
            pieces.append(piece)
            missing -= len(piece)
        self._data = b"".join(pieces)
        self._at = 0

    def _more(self) -> None:
        rest = self._data[self._at :]
        piece = self._receive()
        self._data = rest + piece if rest else piece
        self._at = 0

    def _receive(self) -> bytes:
        now = SYSTEM_CLOCK.monotonic()
        if not self._due:
            # Counted from the first look, not from the question: other servers may have been
            # waited for in between.
            self._due = now + self._timeout
            if self.patience is not None and self.patience.exhausted:
                self._due = now
        if self._due < now + self._timeout:
            # Past the time, what is here already is still read: it may have been our own
            # thread that was kept from running.
            self._hurried = True
            self._socket.settimeout(max(self._due - now, 0.0))
        try:
            piece = self._socket.recv(_PIECE)
        except (BlockingIOError, ssl.SSLWantReadError) as error:
            raise TimeoutError("the answer comes too slowly") from error
        if not piece:
            raise ConnectionResetError("the server closed the connection")
        self._traffic.received += len(piece)
        self._expected -= len(piece)
        if self._expected <= 0:
            self._expected = _PACE
            self._due = SYSTEM_CLOCK.monotonic() + self._timeout
        return piece

    def _start_anew(self) -> None:
        """The next answer has the whole time again."""
        self._due = 0.0
        self._expected = _PACE
        if self._hurried:
            self._hurried = False
            self._socket.settimeout(self._timeout)
