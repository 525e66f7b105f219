"""What is remembered of computations that failed, beside the values and for all who share them.

Under the key of a call lies its value; under :class:`FailureOf` the key lies, for a while,
what became of the last attempt: the exception itself where ``cache_errors`` names its type
(negative caching), or a note that an attempt failed (``error_backoff``). Both are asked for
in one request, forgotten together, and found by every process that shares the client.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiered.concurrency.outcome import Outcome
from tiered.typing import Key

__all__ = ["FailureOf", "lasting", "outcome_of", "record_of"]

_FAILED = "failed: "


@dataclass(frozen=True, slots=True)
class FailureOf:
    """The key of what is remembered about a failed computation of *key*.

    A type of its own: no call has such a key.
    """

    key: Key


def lasting(error: Exception, ttls: Mapping[type[Exception], float] | None) -> float | None:
    """Seconds for which *error* is to be remembered as the answer; ``None`` if it is not.

    The nearest of its types decides.
    """
    if ttls is None:
        return None
    return next((ttls[kind] for kind in type(error).__mro__ if kind in ttls), None)


def record_of(error: Exception, *, answers: bool) -> Any:
    """What is stored for *error*: itself if it *answers* later calls, else a note for people."""
    return _bare(error) if answers else f"{_FAILED}{error!r}"


def outcome_of(record: Any) -> Outcome | None:
    """The remembered answer, or ``None`` if only an attempt is on record."""
    return Outcome(error=_bare(record)) if isinstance(record, Exception) else None


def _bare(error: Exception) -> Exception:
    """*error* without the frames, and the objects in them, that it came through."""
    try:
        bare = copy.copy(error)
    except Exception:  # its constructor takes something else than its args
        bare = error
    bare.__context__ = None
    bare.__cause__ = None
    return bare.with_traceback(None)
