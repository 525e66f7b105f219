"""One function's cache, as those who answer its calls see it: calls to keys, keys to entries.

Everything here keeps the cache's troubles from the caller: a failure of the client is counted,
logged once per interval, and looks like a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tiered.clients.base import Entry, Search
from tiered.clients.tags import Stamp
from tiered.decorators.failures import FailureOf
from tiered.decorators.hooks import Hooks
from tiered.decorators.plan import Plan
from tiered.decorators.space import Space
from tiered.decorators.tagging import Tagging
from tiered.decorators.terms import Terms
from tiered.decorators.verdict import Verdict, judge
from tiered.keys.call import BoundCall, CallShape
from tiered.sentinels import MissingType
from tiered.stats.reports import Reports
from tiered.steps.counting import CallCounters
from tiered.steps.effects import Ask, Steps
from tiered.steps.following import Followed
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
        self.tagging = None if plan.tags is None else Tagging(plan, space, self.guarded)

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

    def tagged(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundCall | None:
        """The call with its key and tags; ``None`` if it has none that a cache could use.

        Raises as :meth:`keyed`.
        """
        call = self.keyed(args, kwargs)
        return None if call is None else self.with_tags(call)

    def with_tags(self, call: BoundCall) -> BoundCall | None:
        """*call* with its tags; ``None`` if these cannot be told."""
        if self.tagging is None:
            return call
        try:
            return self.tagging.tagged(call)
        except Exception as error:
            self.counters.errors += 1
            self.reports.warn("tags", "%s is called without the cache: %r", self.plan.name, error)
            return None

    def stamp(self, call: BoundCall) -> Steps[Stamp | MissingType | None]:
        """What a value that is computed from now on is to be kept with.

        ``None`` for a function without tags, and ``MISSING`` if it cannot be kept.
        """
        return None if self.tagging is None else (yield from self.tagging.stamp(call))

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
        search, tagging = self.hooks.search, self.tagging

        def find() -> Entry | None:
            if tagging is None:
                return self.space.client.find(call.key, search)
            return tagging.values.find_tagged((call.key,), search, call.tags).get(call.key)

        return (yield from self.ask(find, None))

    def find_all(
        self, calls: Iterable[BoundCall], margin: float = 0.0, followed: Iterable[Followed] = ()
    ) -> Steps[dict[Key, Entry]]:
        """What is held for *calls*, and beside them of failed computations, in one request.

        With a *margin*, farther tiers are asked for what has more than these seconds left:
        another process may have refreshed it. The *followed* flights follow their keys from
        before that on.
        """
        wanted: list[Key] = []
        tags: dict[str, None] = {}
        for call in calls:
            wanted.append(call.key)
            tags.update(dict.fromkeys(call.tags))
        values, records, tagging = self.space.client, self.space.records, self.tagging
        failures: list[Key] = []
        if self.remembers_failures:
            failures = [FailureOf(key) for key in wanted]
        search = self._search(margin)

        def find() -> dict[Key, Entry]:
            for flight in followed:
                flight.begin()
            together = values is records
            asked = [*wanted, *failures] if together else wanted
            if tagging is not None or not together or len(asked) > 1:
                if tagging is None:
                    found = values.find_many(asked, search)
                else:
                    found = tagging.values.find_tagged(asked, search, tags)
                return found if together or not failures else found | records.entries(failures)
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
