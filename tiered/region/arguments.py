"""Whether a backend knows the arguments that a configuration gives it."""

from __future__ import annotations

import logging
import math
from typing import Final

from tiered.region.api import BackendArguments
from tiered.region.exception import ValidationError

__all__ = ["check_arguments", "checked_flag", "checked_seconds"]

_log: Final = logging.getLogger(__name__)


def check_arguments(cls: type, arguments: BackendArguments, *, lenient: bool) -> None:
    """Refuse what the backend class *cls* does not know; *arguments* stay as they are.

    A class says what it knows by its attribute ``arguments_known``, a set of names. One without
    it is not checked.

    Args:
        lenient: only log what is not known, for configurations that were written for
            dogpile.cache, whose backends ignore it.

    Raises:
        ValidationError: there is an argument that *cls* does not know.
    """
    known: frozenset[str] | None = getattr(cls, "arguments_known", None)
    if known is None:
        return
    unknown = [name for name in arguments if name not in known]
    if not unknown:
        return
    told = (
        f"{cls.__name__} does not know the argument{'s' if len(unknown) > 1 else ''} "
        f"{', '.join(map(repr, unknown))}; it knows {', '.join(sorted(known)) or 'none'}"
    )
    if not lenient:
        raise ValidationError(told)
    _log.warning("%s. Ignored.", told)


def checked_flag(arguments: BackendArguments, name: str, default: bool) -> bool:
    """The argument *name*, true or false."""
    value = arguments.get(name)
    if value is None:
        return default
    if value not in (True, False):
        raise ValidationError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def checked_seconds(arguments: BackendArguments, name: str, default: float) -> float:
    """The argument *name*, a number of seconds."""
    value = arguments.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValidationError(f"{name} must be a number of seconds, 0 or more, not {value!r}")
    return float(value)
