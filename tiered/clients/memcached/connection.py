"""One connection to one server, and when it may be used again.

The rules that the rest relies on: an exchange that was interrupted, by whatever, closes
its socket, because the rest of the answer would be taken for the answer to the next
question; a clean error line from the server does not. In a forked child the sockets of
the parent are closed at once, also those in the middle of an exchange.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Generator
from typing import Final, NoReturn, Self, TypeVar

from tiered.clients.memcached.dial import Dialer, Terms, has_something_to_say
from tiered.clients.memcached.probe import (
    Dialect,
    Knowledge,
    Profile,
    authenticate,
    probe,
)
from tiered.clients.memcached.stream import Patience, Stream, Traffic
from tiered.concurrency import fork
from tiered.errors import BackendError, ServerRefusal, ValueTooLarge
from tiered.routing.addresses import Address

__all__ = ["Connection"]

T = TypeVar("T")

_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""On, for no seconds: the connection is reset, and the system drops what it has to send."""


class Connection:
    """A stream to *address*, opened on first use and again after a failure.

    Args:
        knowledge: of the server, shared by its connections; a probe adds to it.

    Attributes:
        stream: what passes, inside an exchange.
        profile: what the server is, since the connection was first opened.
        dialect: the commands to use.
        owner: whose it is; a pool tells its own by it after a fork.

    :meth:`run` and the steps of a conversation raise ``BackendError`` when the server
    cannot be reached, breaks off or answers nonsense, and ``ServerRefusal`` or
    ``ValueTooLarge`` for a clean refusal.

    Threads: one at a time.
    """

    stream: Stream
    profile: Profile
    dialect: Dialect
    owner: object = None

    def __init__(
        self,
        address: Address,
        terms: Terms,
        traffic: Traffic,
        knowledge: Knowledge,
    ) -> None:
        self.address = address
        self._terms = terms
        self._traffic = traffic
        self._knowledge = knowledge
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        fork.register(self)

    def run(self, exchange: Callable[[Self], T]) -> T:
        """The answer of *exchange*, which sends requests and reads all of their answers."""
        try:
            self.prepare()
            answer = exchange(self)
            self.stream.settle()
        except BaseException as error:
            self._fail(error)
        return answer

    def converse(
        self, turns: Callable[[Self], Generator[None, None, T]], patience: Patience | None = None
    ) -> Generator[None, None, T]:
        """The same for *turns*, which stops between each question and its answer."""
        try:
            self.prepare()
            self.stream.patience = patience
            answer = yield from turns(self)
            self.stream.settle()
        except BaseException as error:
            self._fail(error)
        return answer

    def prepare(self) -> None:
        """Have a stream that is open, and has nothing left on it from before."""
        connected = self._socket
        if connected is not None:
            # Not settled: the handling of an interruption was interrupted itself.
            if self.stream.settled and not has_something_to_say(connected, self._poll):
                return
            self.close()
        self._open()

    def _open(self) -> None:
        connected = Dialer(self.address, self._terms).dial()
        self._socket = connected
        self._poll.register(connected, select.POLLIN)
        self.stream = stream = Stream(
            connected, self._terms.timeout, self._traffic, longest=self._terms.longest
        )
        if self._terms.credentials is not None:
            authenticate(stream, self._terms.credentials)
        self.profile = probe(stream, self._knowledge.profile)
        self._knowledge.learn(self.profile)
        self.dialect = self.profile.dialect

    def _fail(self, error: BaseException) -> NoReturn:
        """Raise what *error*, met in an exchange, means; close the socket if that has to be."""
        if not (isinstance(error, ServerRefusal | ValueTooLarge) and self._is_settled()):
            self._abort()
            if isinstance(error, BackendError | ValueTooLarge):
                raise BackendError(f"{self.address}: {error}") from error
            if isinstance(error, OSError):
                raise BackendError(f"{self.address} cannot be reached: {error!r}") from error
        raise error  # a refusal; or an interruption or a bug, which is nobody's failure

    def _is_settled(self) -> bool:
        """Whether a refusal was the whole answer."""
        if self._socket is None:
            return False
        try:
            self.stream.settle()
        except BackendError:
            return False
        return True

    def close(self) -> None:
        """Close the socket; the next exchange opens another."""
        connected, self._socket = self._socket, None
        if connected is not None:
            # Unregistered first: a number that was given back may be another file's.
            if connected.fileno() >= 0:
                self._poll.unregister(connected)
            connected.close()

    def _abort(self) -> None:
        """Close the socket, and have what was sent and has not arrived never arrive.

        A write that arrived after the delete that is owed for it would undo that.
        """
        if self._socket is not None:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            except OSError:
                pass  # it is closed already
        self.close()

    def after_fork(self) -> None:
        """The parent has the connection; an exchange that is under way here ends in an error."""
        self.close()
        self._poll = select.poll()
