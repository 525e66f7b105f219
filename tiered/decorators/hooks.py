"""What users hang on a cached function: callbacks, a placeholder, an initializer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tiered.clients.base import ANY, Search
from tiered.decorators.failures import FailureOf
from tiered.keys.call import BoundCall
from tiered.sentinels import MISSING
from tiered.stats.reports import Reports
from tiered.typing import Key, PromoteCallback

__all__ = ["Hooks"]


class Hooks:
    """The callbacks of one function.

    A callback that raises is logged, once per interval, and disturbs nobody.

    Threads: safe; callbacks run in the thread that computed, or that promoted.
    """

    def __init__(self, initialize: Callable[[], Any] | None, name: str, reports: Reports) -> None:
        self.search = ANY
        """How to look through tiers, with the callback if there is one."""
        self.placeholder: Callable[..., Any] | None = None
        self._initialize = initialize
        self._name = name
        self._reports = reports
        self._on_value: list[Callable[..., Any]] = []
        self._on_promote: list[PromoteCallback] = []

    def on_value(self, callback: Callable[..., Any]) -> None:
        """Call *callback* with each value that is computed, and the arguments of the call."""
        self._on_value.append(callback)

    def on_promote(self, callback: PromoteCallback) -> None:
        """Call *callback* with key, value and ttl of each value that is copied to a near tier."""
        self._on_promote.append(callback)
        self.search = Search(on_promote=self._promoted)

    @property
    def initialized(self) -> bool:
        """Whether there is nothing left to initialize."""
        return self._initialize is None

    def initialize(self) -> None:
        """Run the initializer, until it has once returned true. What it raises passes."""
        if self._initialize is not None and self._initialize() is True:
            self._initialize = None

    def computed(self, value: Any, call: BoundCall) -> None:
        """Tell of a computed value."""
        for callback in self._on_value:
            self._quietly(partial(callback, value, *call.args, **call.kwargs))

    def _promoted(self, key: Key, value: Any, ttl: float) -> None:
        if isinstance(key, FailureOf):
            return  # ours
        for callback in self._on_promote:
            self._quietly(partial(callback, key, value, ttl))

    def stand_in(self, call: BoundCall) -> Any:
        """The placeholder for the value of *call*; ``MISSING`` if there is none."""
        if self.placeholder is None:
            return MISSING
        placeholder = self.placeholder
        try:
            return placeholder(*call.args, **call.kwargs)
        except Exception as error:
            self._reports.warn("hook", "the placeholder of %s failed: %r", self._name, error)
            return MISSING

    def _quietly(self, callback: Callable[[], Any]) -> None:
        try:
            callback()
        except Exception as error:
            self._reports.warn("hook", "a callback of %s failed: %r", self._name, error)
