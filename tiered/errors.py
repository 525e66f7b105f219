"""Every exception that the package raises of its own accord.

::

    Exception
     └── CacheError
          ├── CacheMissError (KeyError)             the caller asked for what is not there
          ├── KeyEncodingError (TypeError)          the caller's key has no canonical form
          ├── ComputationTimeout (TimeoutError)     the function took longer than callers wait
          ├── UnsupportedOperation                  this client cannot do that, by design
          ├── MissingDependency (ImportError)       an optional package is not installed
          ├── CodecError                            a value cannot travel
          │    ├── UnserializableValue              ... because of what it is (the caller's side)
          │    ├── ValueTooLarge                    ... because of its size
          │    └── CorruptValue                     ... because of the bytes found (the far side)
          └── BackendError                          a server did not do its part
               ├── ServerRefusal                    it said no: ``SERVER_ERROR ...``
               ├── NoServersError                   none could be asked
               ├── DiscoveryError                   which there are could not be found out
               ├── StorageError                     the file system did not do its part
               └── PoolTimeout                      no connection came free in time

Arguments that can never be right raise plain ``TypeError`` or ``ValueError``
with the argument's name, its value and what would be right.
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "CacheError",
    "CacheMissError",
    "CodecError",
    "ComputationTimeout",
    "CorruptValue",
    "DiscoveryError",
    "KeyEncodingError",
    "MissingDependency",
    "NoServersError",
    "PoolTimeout",
    "ServerRefusal",
    "StorageError",
    "UnserializableValue",
    "UnsupportedOperation",
    "ValueTooLarge",
]


class CacheError(Exception):
    """Base of the tree above."""


class CacheMissError(CacheError, KeyError):
    """There is no fresh value for the key, and no default was given."""


class KeyEncodingError(CacheError, TypeError):
    """A key holds something that other processes could not recognise.

    The message names the offending part and where in the key it stands.
    """


class ComputationTimeout(CacheError, TimeoutError):
    """The function took longer than ``hard_timeout``; it goes on, and its value will be stored."""


class UnsupportedOperation(CacheError):
    """The client cannot do this without harming others, e.g. clear a shared server."""


class MissingDependency(CacheError, ImportError):
    """An optional package is needed; the message holds the ``pip install`` line."""


class CodecError(CacheError):
    """A value could not be turned into bytes, or bytes into a value."""


class UnserializableValue(CodecError):
    """The serialiser does not take this value, or would not give back the same one."""


class ValueTooLarge(CodecError):
    """The value is larger than the limit that the client or the server sets."""


class CorruptValue(CodecError):
    """The stored bytes are not what was written under this key; treated as a miss."""


class BackendError(CacheError):
    """A server failed, answered nonsense, or could not be reached."""


class ServerRefusal(BackendError):
    """The server answered with an error line; the connection is as good as before."""


class NoServersError(BackendError):
    """No server could be asked; raised only by clients made with ``strict=True``."""


class DiscoveryError(BackendError):
    """Which servers there are could not be found out: no answer, no servers, or nonsense."""


class StorageError(BackendError):
    """Files could not be read or written; raised only by clients made with ``strict=True``."""


class PoolTimeout(BackendError):
    """Every connection to the server was in use for the whole time allowed."""
