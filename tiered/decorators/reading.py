"""One function's cache, as those who answer its calls see it: calls to keys, keys to entries.

Everything here keeps the cache's troubles from the caller: a failure of the client is counted,
logged once per interval, and looks like a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tiered.clients.base import Entry, Search
from tiered.decorators.failures import FailureOf
from tiered.decorators.hooks import Hooks
from tiered.decorators.plan import Plan
from tiered.decorators.space import Space
from tiered.decorators.terms import Terms
from tiered.decorators.verdict import Verdict, judge
from tiered.keys.call import BoundCall, CallShape
from tiered.stats.reports import Reports
from tiered.steps.counting import CallCounters
from tiered.steps.effects import Ask, Steps
from tiered.typing import Key

__all__ = ["Reading"]

T = TypeVar("T")


class Reading:
    """Keys and entries of one decorated function.

    Args:
        plan: the options.
        space: where the values are.
        shape: the calls of the function.

    Threads: safe.
    """

    def __init__(self, plan: Plan, space: Space, shape: CallShape) -> None:
        self.plan = plan
        self.space = space
        self.terms = Terms(plan)
        self.counters = CallCounters()
        self.monotonic = plan.client.clock.monotonic
        self.remembers_failures = plan.remembers_failures
        self.reports = Reports("tiered.decorators", plan.client.clock)
        self.hooks = Hooks(plan.initialize, plan.name, self.reports)
        self.bind = shape.binder()
        self._check = shape.checker()

    # -- Calls -------------------------------------------------------------------

    def keyed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundCall | None:
        """The call with its key; ``None`` if it has none that a cache could use.

        Raises:
            TypeError: the function does not take such a call.
            Exception: what the user's initializer raises.
        """
        if not self.hooks.initialized:
            self.hooks.initialize()
        try:
            call = self.bind(*args, **kwargs)
            hash(call.key)
        except Exception as error:
            self._check(*args, **kwargs)  # a wrong call is the caller's mistake, not the key's
            self.counters.errors += 1
            self.reports.warn("key", "%s is called without the cache: %r", self.plan.name, error)
            return None
        return call

    # -- Entries -----------------------------------------------------------------

    def ask(self, operation: Callable[[], T], fallback: T) -> Steps[T]:
        """Do *operation* on the client; *fallback* if it fails."""
        answer: T = yield Ask(lambda: self.guarded(operation, fallback))
        return answer

    def guarded(self, operation: Callable[[], T], fallback: T) -> T:
        """The same, here and now."""
        try:
            return operation()
        except Exception as error:
            self.counters.errors += 1
            self.reports.warn(
                type(error).__name__, "the cache of %s failed: %r", self.plan.name, error
            )
            return fallback

    def find(self, call: BoundCall) -> Steps[Entry | None]:
        """What is held for the call, fresh or stale."""
        search = self.hooks.search
        return (yield from self.ask(lambda: self.space.client.find(call.key, search), None))

    def find_all(self, keys: Iterable[Key], margin: float = 0.0) -> Steps[dict[Key, Entry]]:
        """What is held for *keys*, and beside them of failed computations, in one request.

        With a *margin*, farther tiers are asked for what has more than these seconds left:
        another process may have refreshed it.
        """
        wanted = list(keys)
        values, records = self.space.client, self.space.records
        failures: list[Key] = []
        if self.remembers_failures:
            failures = [FailureOf(key) for key in wanted]
        search = self._search(margin)

        def find() -> dict[Key, Entry]:
            if values is not records:
                found = values.find_many(wanted, search)
                return found | records.entries(failures) if failures else found
            if len(wanted) + len(failures) > 1:
                return values.find_many([*wanted, *failures], search)
            entry = values.find(wanted[0], search)
            return {} if entry is None else {wanted[0]: entry}

        none: dict[Key, Entry] = {}
        return (yield from self.ask(find, none)) if wanted else none

    def beside(self, key: Key) -> tuple[Key, ...]:
        """The keys that are asked for together with *key*, itself the first."""
        return (key, FailureOf(key)) if self.remembers_failures else (key,)

    def _search(self, margin: float) -> Search:
        search = self.hooks.search
        return search._replace(ttl_skip=margin) if margin else search

    def near(self, call: BoundCall) -> Entry | None:
        """What can be had without blocking, if it is fresh and not due for a refresh."""
        entry = self.guarded(lambda: self.space.client.near(call.key), None)
        if judge(entry, self.monotonic(), self.terms.due()) is not Verdict.FRESH:
            return None
        self.counters.far_hits += 1
        return entry

    def usable(self, entry: Entry | None) -> bool:
        """Whether *entry* may stand in for a value that cannot be had: fresh, or kept.

        Without ``keep``, whoever sets a soft timeout takes what there is.
        """
        if entry is None:
            return False
        keep = self.plan.keep
        return not keep or self.monotonic() - entry.deadline < keep
