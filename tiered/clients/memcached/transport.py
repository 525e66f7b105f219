"""One connection to one server: the only module that knows pymemcache.

The rules that the rest relies on: an exchange that was interrupted, by whatever,
closes its socket, because the rest of the answer would be taken for the answer
to the next question; a clean error line from the server does not.
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from pymemcache.client.base import Client
from pymemcache.exceptions import (
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
)

from tiered.errors import BackendError, ServerRefusal, ValueTooLarge
from tiered.routing.addresses import Address

__all__ = ["Connection", "Stored"]


class _Client(Client):  # type: ignore[misc]  # pymemcache ships no types
    """pymemcache's client, but for when it closes.

    It closes on every error. After a line ``SERVER_ERROR ...`` the exchange is over and
    the connection as good as before; to close it adds a storm of connects to whatever
    the server's trouble is.
    """

    def close(self) -> None:
        if not _is_refusal(sys.exc_info()[1]):
            super().close()


class Stored(NamedTuple):
    """An item as the server holds it; *token* changes with every write of it."""

    data: bytes
    token: bytes


class Connection:
    """A socket to *address*, opened on first use and again after a failure.

    Every method raises ``BackendError`` when the server cannot be reached, breaks
    off or answers nonsense.

    Threads: one at a time.
    """

    def __init__(self, address: Address, *, connect_timeout: float, timeout: float) -> None:
        self.address = address
        where = address.host if address.is_unix else (address.host, address.port)
        self._client = _Client(
            where,
            connect_timeout=connect_timeout,
            timeout=timeout,
            no_delay=not address.is_unix,
            default_noreply=False,
        )

    def close(self) -> None:
        """Close the socket; the next exchange opens another."""
        self._client.close()

    def read(self, keys: Iterable[bytes]) -> dict[bytes, Stored]:
        """The items of *keys* that are there, in one round trip."""
        found = self._exchange("gets_many", list(keys))
        return {
            key if isinstance(key, bytes) else key.encode(): Stored(*item)
            for key, item in found.items()
        }

    def set(self, key: bytes, data: bytes, exptime: int) -> bool:
        """Write, whatever is there; whether it wrote.

        Raises:
            ValueTooLarge: the server says so.
        """
        return bool(self._exchange("set", key, data, expire=exptime))

    def add(self, key: bytes, data: bytes, exptime: int) -> bool:
        """Write if nothing is there; whether it wrote."""
        return bool(self._exchange("add", key, data, expire=exptime))

    def swap(self, key: bytes, data: bytes, token: bytes, exptime: int) -> bool:
        """Write if the item is still the one that *token* came with; whether it wrote."""
        return bool(self._exchange("cas", key, data, token, expire=exptime))

    def delete(self, key: bytes) -> bool:
        """Remove; whether there was one."""
        command = b"delete " + key + b"\r\n"
        [line] = self._exchange("_misc_cmd", [command], "delete", False)
        if line not in (b"DELETED", b"NOT_FOUND"):
            self._client.close()
            raise BackendError(f"{self.address} answers nonsense to a delete: {line[:80]!r}")
        return bool(line == b"DELETED")

    def server_stats(self) -> dict[str, Any]:
        """The server's own counters, by name."""
        raw = self._exchange("stats")
        return {
            name.decode(errors="replace") if isinstance(name, bytes) else str(name): value
            for name, value in raw.items()
        }

    def _exchange(self, command: str, *args: Any, **options: Any) -> Any:
        try:
            if _has_something_to_say(self._client.sock):
                self._client.close()
            return getattr(self._client, command)(*args, **options)
        except (MemcacheUnexpectedCloseError, OSError) as error:
            self._client.close()
            raise BackendError(f"{self.address} cannot be reached: {error!r}") from error
        except MemcacheServerError as error:
            if b"too large" in _text(error):
                raise ValueTooLarge(f"{self.address} refuses the value: {error}") from error
            raise ServerRefusal(f"{self.address} answers {error}") from error
        except Exception as error:
            # An answer that pymemcache cannot read, which shows as any kind of error (a
            # KeyError for the answer to another question). What follows it cannot be trusted.
            self._client.close()
            raise BackendError(f"{self.address} answers nonsense: {error!r}") from error
        except BaseException:
            self._client.close()  # interrupted between question and answer
            raise


def _has_something_to_say(idle: socket.socket | None) -> bool:
    """Whether *idle* is readable before anything was asked.

    Then it was closed by the server, and would fail a request for nothing; or there are
    bytes that nobody asked for, and would be taken for the next answer.
    """
    if idle is None:
        return False
    poll = select.poll()
    poll.register(idle, select.POLLIN)
    return bool(poll.poll(0))


def _is_refusal(error: BaseException | None) -> bool:
    # pymemcache counts a connection that the server closed among the server's errors.
    return isinstance(error, MemcacheServerError) and not isinstance(
        error, MemcacheUnexpectedCloseError
    )


def _text(error: Exception) -> bytes:
    return b" ".join(a if isinstance(a, bytes) else str(a).encode() for a in error.args)
