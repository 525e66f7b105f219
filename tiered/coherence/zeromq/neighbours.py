"""The other nodes of a bus on the same host, told of an event straight, ahead of the bus.

An event's way by the bus is three or six changes of threads long, as libzmq has threads of its
own. Where processes share a host, whoever publishes also sends a *notice* to the others himself:
a datagram with a Publish frame of that event. It is nothing but a head start. A notice
may be lost, and nobody waits for one or acknowledges it; the event itself comes by the bus, in
its order, and what is guaranteed is guaranteed by that.

Each node has a socket in a folder that its user alone may enter, so neighbours are the processes
of one user: others can neither read what is told there nor tell anything. That holds with CURVE
as well, what passes there never leaves the host. Frames are signed if the bus has a key.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from tiered.acceleration import core
from tiered.coherence.messages import Publish
from tiered.coherence.wire import ForeignFrame, Wire
from tiered.coherence.zeromq.foreign import ForeignCount

__all__ = ["Neighbours", "folder_of"]

_MOST: Final = 8
"""To more neighbours nothing is told: it would take longer than the bus does."""
_AT_ONCE: Final = 64
"""Notices that are taken before sockets have their turn."""
_LONGEST: Final = 1024
"""Bytes of a notice: of one event, with some to spare."""
_ATTEMPTS: Final = 5
_TICK: Final = 1_000_000_000
"""Nanoseconds after a folder's last change in which there may have been another, unseen."""
_TIDIED: Final = 256
"""Files that are looked at, at most, for whether anybody reads there."""
_CLEAN: Final = 10.0
"""Seconds between two times at which that is done for many neighbours: each asks all others."""
_GONE: Final = frozenset({errno.ECONNREFUSED, errno.ENOENT})


def folder_of(addresses: Sequence[object]) -> Path:
    """Where the neighbours on the bus with these addresses meet; they are to be written alike."""
    names = "\n".join(sorted(map(str, addresses)))
    name = hashlib.blake2b(names.encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"tiered-{os.geteuid()}" / name


class Neighbours:
    """Who else is there, told and heard.

    Args:
        folder: as :func:`folder_of` gives it; made if need be.
        node: of this process.
        wire: of the bus.
        foreign: counts what is no notice.

    Attributes:
        descriptor: readable when notices have come.
        others: the paths of the others; replaced as a whole, as callers walk through it.

    Raises:
        OSError: there can be none: the folder is not ours alone, or its path is too long.

    Threads: :meth:`tell` is safe; the others are for one thread.
    """

    def __init__(self, folder: Path, node: bytes, *, wire: Wire, foreign: ForeignCount) -> None:
        self._folder = folder
        self._own = node.hex()
        self._wire = wire
        self._foreign = foreign
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.others: tuple[bytes, ...] = ()
        self._stale: list[bytes] = []
        self._seen_at = -1
        self._cleaned_at = -math.inf
        try:
            self._socket.setblocking(False)
            self._bind()
        except OSError:
            self._socket.close()
            raise
        self.descriptor = self._socket.fileno()
        _tidy(folder.parent)
        self.look()

    def _bind(self) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                _make(self._folder.parent)
                _make(self._folder)
                self._socket.bind(str(self._folder / self._own))
            except FileNotFoundError:
                # The last one to leave has just taken the folder away.
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    def look(self) -> bool:
        """See who has come and who is gone, now and then; ``False`` if we cannot be found."""
        while self._stale:
            # Its process was killed; or else it has come back meanwhile, under the same name.
            _remove_dead(self._stale.pop())
        if len(self.others) > _MOST and time.monotonic() - self._cleaned_at >= _CLEAN:
            # Nobody is told, so that nobody would find out who is dead.
            self._cleaned_at = time.monotonic()
            for path in self.others[:_TIDIED]:
                _remove_dead(path)
        try:
            changed_at = os.stat(self._folder).st_mtime_ns
            if changed_at == self._seen_at:
                return True
            names = os.listdir(self._folder)
        except OSError:
            return False
        # Who comes within the same tick of the file system's clock leaves no trace in its time.
        self._seen_at = changed_at if time.time_ns() - changed_at > _TICK else -1
        if self._own not in names:
            return False
        names.remove(self._own)
        self.others = tuple(os.fsencode(self._folder / name) for name in names)
        return True

    def tell(self, notice: Publish) -> None:
        """Send *notice* to all, if they are few. Never waits; who has no room is left out."""
        others = self.others
        if len(others) > _MOST:
            return
        frame = self._wire.pack(notice)
        for path in others:
            if _send(self._socket, frame, path) in _GONE:
                self.others = tuple(other for other in self.others if other != path)
                self._stale.append(path)

    def receive(self) -> Iterator[Publish]:
        """The notices that have come, some at a time."""
        for _ in range(_AT_ONCE):
            frame = _receive(self._socket, _LONGEST)
            if frame is None:
                return
            try:
                message = self._wire.of_node(frame)
                if type(message) is not Publish:
                    raise ForeignFrame(f"a {type(message).__name__} is no notice")
            except ForeignFrame as error:
                self._foreign.refuse(str(self._folder), error)
            else:
                yield message

    def close(self) -> None:
        """Be nobody's neighbour any more."""
        self.forget()
        _remove(os.fsencode(self._folder / self._own))
        _leave(self._folder)

    def forget(self) -> None:
        """Give the socket up, and leave its file: in a forked child that is the parent's."""
        self.others = ()
        self.descriptor = -1
        self._socket.close()


def _make(folder: Path) -> None:
    """Have *folder* for this user alone."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user alone")


def _tidy(folder: Path) -> None:
    """Remove what processes that were killed have left in the folders of other buses."""
    try:
        for path in islice(folder.glob("*/*"), _TIDIED):
            if not path.parent.is_symlink():
                _remove_dead(os.fsencode(path))
                _leave(path.parent)
    except OSError:
        pass  # a folder went away while it was looked at: whoever comes next tidies up


def _remove_dead(path: bytes) -> None:
    """Remove the socket at *path*, if nobody reads there any more."""
    try:
        # Of other files it is said, too, that nobody reads there.
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
            caller.connect(path)
    except ConnectionRefusedError:
        _remove(path)
    except OSError:
        pass  # it is gone, or cannot be asked


def _leave(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # others are there


def _remove(path: bytes) -> None:
    """Remove the socket at *path*, and nothing else."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except OSError:
        pass  # somebody else has


def _python_send(sender: socket.socket, frame: bytes, path: bytes) -> int:
    """Send *frame* to *path*; 0, or the number of the error."""
    try:
        sender.sendto(frame, path)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _python_receive(receiver: socket.socket, most: int) -> bytes | None:
    """Up to *most* bytes of a datagram, if there is one."""
    try:
        return receiver.recv(most)
    except OSError:
        return None


_send = core.send_datagram if core else _python_send
_receive = core.receive_datagram if core else _python_receive
