"""A broker's end of all connections: one socket, bound to one or several addresses."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Final, TypeAlias

import zmq

from tiered.coherence.effects import Route
from tiered.coherence.messages import NodeMessage
from tiered.coherence.wire import ForeignFrame, Wire
from tiered.coherence.zeromq.addresses import BusAddress
from tiered.coherence.zeromq.election import BindResult
from tiered.coherence.zeromq.foreign import ForeignCount
from tiered.coherence.zeromq.security import CurveKeys, Gatekeeper
from tiered.coherence.zeromq.tuning import (
    EVENT,
    NOW,
    Context,
    Socket,
    is_readable,
    send,
    skip,
    tune,
)
from tiered.concurrency.filelock import FileLock
from tiered.typing import Clock

__all__ = ["CannotBind", "Listener"]

_Identity: TypeAlias = tuple[int, int]

_FIRST: Final = zmq.NOBLOCK | zmq.SNDMORE
_BACKLOG: Final = 1024
"""Connections that wait to be taken: when a broker begins, all nodes come at once."""
_RUSH: Final = 1.0
"""Seconds after the beginning in which connections may be given up half way, as ours to here is."""
_ELSEWHERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})
_REFUSED: Final = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
"""Of those that fail for want of the right keys, the gatekeeper knows."""


class CannotBind(OSError):
    """An address could not be bound.

    Attributes:
        result: whether somebody else has it.
        expected: whether that is nothing to tell anybody of: it is taken, or another machine's.
    """

    def __init__(self, address: BusAddress, result: BindResult, expected: bool, why: str) -> None:
        super().__init__(f"{address} cannot be bound: {why}")
        self.result = result
        self.expected = expected


class Listener:
    """Takes messages of nodes, and sends to them.

    It has a context of its own, with a gatekeeper of its own; and when that has ended, nothing is
    accepted any more, and what was locked can be unlocked.

    Attributes:
        located: the addresses, each with the endpoint that is bound for it.
        full: frames that were not sent because somebody has too many to read already.

    Raises:
        CannotBind: one of *addresses*; none is bound then.

    Threads: one.
    """

    def __init__(
        self,
        addresses: Iterable[BusAddress],
        *,
        wire: Wire,
        curve: CurveKeys | None,
        foreign: ForeignCount,
        clock: Clock,
    ) -> None:
        self.located = [(address, *_located(address)) for address in addresses]
        self.full = 0
        self._files: list[tuple[str, _Identity | None]] = []
        self._wire = wire
        self._foreign = foreign
        self._now = clock.monotonic
        self._settled_at = self._now() + _RUSH
        self._where = ", ".join(str(address) for address, _, _ in self.located)
        self._gate: Gatekeeper | None = None
        with ExitStack() as undo:
            self._locks = ExitStack()
            undo.callback(self._locks.close)
            self._context: Context = zmq.Context()
            undo.callback(self._context.term)
            if curve is not None:
                self._gate = Gatekeeper(self._context, curve)
                undo.callback(self._gate.socket.close)
            self.socket: Socket = self._context.socket(zmq.ROUTER)
            undo.callback(self.socket.close)
            tune(self.socket, ipv6=any(ipv6 for _, _, ipv6 in self.located))
            # Who is gone, or has no room, is an error that we hear of.
            self.socket.set(zmq.ROUTER_MANDATORY, 1)
            self.socket.set(zmq.BACKLOG, _BACKLOG)
            if curve is not None:
                curve.serve(self.socket)
            self.monitor: Socket = self.socket.get_monitor_socket(_REFUSED)
            undo.callback(self.monitor.close, 0)
            undo.callback(self.socket.disable_monitor)
            for address, endpoint, _ in self.located:
                self._bind(address, endpoint)
            undo.pop_all()

    def _bind(self, address: BusAddress, endpoint: str) -> None:
        self._lock(address)
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            busy = error.errno == errno.EADDRINUSE
            result = BindResult.BUSY if busy else BindResult.ELSEWHERE
            expected = busy or error.errno in _ELSEWHERE
            raise CannotBind(address, result, expected, zmq.strerror(error.errno or 0)) from error
        if address.lock_path is not None:
            # libzmq leaves it behind.
            made = _identity(address.path)
            self._files += [(address.path, made), (address.lock_path, _identity(address.lock_path))]
            self._locks.callback(_remove, address.path, made)

    def _lock(self, address: BusAddress) -> None:
        """libzmq takes a file's path from whoever has bound it, without a word to anybody."""
        path = address.lock_path
        if path is None:
            return
        lock = FileLock(path)
        try:
            taken = lock.take(wait=False)
        except OSError as error:
            raise CannotBind(address, BindResult.ELSEWHERE, False, str(error)) from error
        if not taken:
            raise CannotBind(address, BindResult.BUSY, True, "somebody has it")
        self._locks.callback(lock.drop)
        if os.path.lexists(address.path) and not _is_socket(address.path):
            # libzmq would remove that, too.
            raise CannotBind(address, BindResult.ELSEWHERE, False, "a file that is no socket")

    @property
    def in_place(self) -> bool:
        """Whether the files of local sockets are those that it made: else others can bind them."""
        return all(made is not None and _identity(path) == made for path, made in self._files)

    # -- Polling -------------------------------------------------------------------

    @property
    def sockets(self) -> Iterator[Socket]:
        """What is to be polled; when one but ``socket`` is readable, :meth:`attend`."""
        yield self.socket
        yield self.monitor
        if self._gate is not None:
            yield self._gate.socket

    def attend(self) -> None:
        """Let in who may come in, and count who did not."""
        if self._gate is not None:
            self._foreign.refuse(self._where, "no key of this bus", self._gate.answer())
        refused = 0
        while True:
            try:
                frames = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            refused += self._counts(frames[0])
        self._foreign.refuse(self._where, "a connection that came to nothing", refused)

    def _counts(self, event: bytes) -> bool:
        """Whether a connection that failed is worth a word."""
        given_up = EVENT.unpack(event)[0] == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        return not given_up or self._now() >= self._settled_at

    # -- Messages ------------------------------------------------------------------

    def receive(self, most: int) -> Iterator[tuple[Route, NodeMessage]]:
        """Up to *most* messages that have come, and by which way."""
        parse, socket = self._wire.of_node, self.socket
        for number in range(most):
            if number == 1 and not is_readable(socket):
                return
            try:
                route = socket.recv(NOW)
                # A Frame knows whether there are more; a socket must be asked, for as long again.
                frame = socket.recv(NOW, copy=False)
            except zmq.Again:
                return
            try:
                if frame.more:
                    raise ForeignFrame(f"{skip(socket) + 1} frames in the place of one")
                message = parse(frame.bytes)
            except ForeignFrame as error:
                self._foreign.refuse(self._where, error)
                continue
            yield route, message

    def send(self, routes: Iterable[Route], frame: bytes) -> None:
        """Send *frame* along *routes*; who cannot be reached is left out, and will notice."""
        socket = self.socket
        for route in routes:
            try:
                send(socket, route, _FIRST)  # type: ignore[call-overload]
                # Where there was room for the first part, there is for the whole.
                send(socket, frame, zmq.NOBLOCK)
            except zmq.Again:
                self.full += 1
            except zmq.ZMQError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise

    def close(self, linger: float) -> None:
        """Unbind, and have what was sent leave for up to *linger* seconds."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(round(linger * 1000))
        if self._gate is not None:
            self._gate.socket.close()
        # Nothing is accepted any more when that has ended, nor is anything still to be sent.
        self._context.term()
        self._locks.close()


def _is_socket(path: str) -> bool:
    return stat.S_ISSOCK(os.lstat(path).st_mode)


def _identity(path: str) -> _Identity | None:
    """The device and inode of *path*, or ``None``: there is nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _remove(path: str, made: _Identity | None) -> None:
    if made is None or _identity(path) != made:
        return  # somebody has tidied up before, and somebody else may be there
    try:
        os.unlink(path)
    except OSError:
        pass


def _located(address: BusAddress) -> tuple[str, bool]:
    try:
        return address.located()
    except OSError as error:
        raise CannotBind(address, BindResult.ELSEWHERE, False, str(error)) from error
