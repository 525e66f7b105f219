"""For how long a value is fresh, when it is due for a refresh, and whether it is kept at all."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from typing import Any, Final

from tiered.decorators.plan import Plan
from tiered.keys.call import BoundCall
from tiered.validation import check_ttl

__all__ = ["Terms"]

_SHARE: Final = 0.05
"""Of the span that is spread automatically."""
_CERTAIN: Final = 25.0
"""Gaps of so many costs: the chance of an early refresh is exp(-25), and not worth a draw."""
_WEIGHT: Final = 0.25
"""Of the newest computation in the cost that is expected of the next one."""


class Terms:
    """The terms on which one function's values are kept.

    Args:
        plan: the options.

    Threads: safe; a cost that two threads measure at a time may be counted once.
    """

    __slots__ = (
        "_beta",
        "_cache_if",
        "_spread",
        "_spreads_share",
        "_ttl",
        "cost",
        "due_below",
        "horizon",
    )

    def __init__(self, plan: Plan) -> None:
        self.due_below: Final = plan.due_below
        self.cost = 0.0
        """Seconds that a computation takes, as measured here; 0 before the first."""
        self.horizon = plan.due_below
        """Seconds left above which nothing is due, early refreshes included."""
        self._ttl = plan.ttl
        self._beta = float(plan.early_refresh)
        self._spread = _spread(plan)
        self._spreads_share = callable(plan.ttl) and isinstance(plan.ttl_spread, (bool, str))
        self._cache_if = None if plan.cache_if is None else _predicate(plan.cache_if)

    def ttl(self, value: Any) -> float:
        """Seconds for which *value* is to be fresh, spread; 0 or less if it is not to be stored.

        Raises:
            Exception: what a callable ttl raises, or its answer is no number of seconds.
        """
        ttl = check_ttl("ttl(value)", self._ttl(value)) if callable(self._ttl) else self._ttl
        if not self._spread or not math.isfinite(ttl):
            return ttl
        # Only ever shorter: past the ttl that was asked for, nothing is fresh.
        reach = self._spread * ttl if self._spreads_share else min(self._spread, ttl / 2)
        return ttl - max(reach, 0.0) * random.random()  # noqa: S311

    def wants(self, value: Any, call: BoundCall) -> bool:
        """Whether *value* is to be stored. Raises what ``cache_if`` raises."""
        return self._cache_if is None or bool(self._cache_if(value, call))

    def measured(self, seconds: float) -> None:
        """A computation took *seconds*."""
        self.cost += (seconds - self.cost) * (_WEIGHT if self.cost else 1.0)
        self.horizon = max(self.due_below, _CERTAIN * self._beta * self.cost)

    @property
    def looks_ahead(self) -> bool:
        """Whether anything is ever due before its end."""
        return self.due_below > 0 or self._beta > 0

    @property
    def is_steady(self) -> bool:
        """Whether :attr:`horizon` stays what it is."""
        return not self._beta

    def due(self) -> float:
        """Seconds left at which a refresh is due, for one reader.

        With early refresh this is a draw, as in XFetch (Vattani et al., VLDB 2015): a reader
        who finds a gap of ``t`` seconds to the end refreshes with the chance
        ``exp(-t / (beta * cost))``. So it happens earlier where it takes longer, and where
        there are many readers, to one of them at a time.
        """
        if not self._beta or not self.cost:
            return self.due_below
        # 1 - random() is never 0, whose logarithm there is none of.
        return max(self.due_below, -self._beta * self.cost * math.log(1.0 - random.random()))  # noqa: S311


def _spread(plan: Plan) -> float:
    """Seconds by which a ttl may be shorter; a share of it, where values decide their own."""
    spread = plan.ttl_spread
    if spread is None or spread is False:
        return 0.0
    if spread == "auto":
        # Without a refresh point, a ttl is what was asked for. With one, processes that were
        # filled together must not all refresh together.
        spread = plan.due_below > 0 and plan.client.capabilities.shared
    if isinstance(spread, bool):
        if callable(plan.ttl):
            return _SHARE if spread else 0.0
        fresh = plan.ttl - plan.due_below
        return _SHARE * fresh if spread and math.isfinite(fresh) else 0.0
    return float(spread)


def _predicate(cache_if: Callable[..., Any]) -> Callable[[Any, BoundCall], Any]:
    """``cache_if(value)`` or ``cache_if(value, *args, **kwargs)``, as its signature has it."""
    try:
        parameters = list(inspect.signature(cache_if).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell: bool, for example
        return lambda value, call: cache_if(value)
    if len(parameters) == 1 and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        return lambda value, call: cache_if(value)
    return lambda value, call: cache_if(value, *call.args, **call.kwargs)
