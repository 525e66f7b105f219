"""Cached functions and their client under attack."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import time
from types import FrameType
from typing import Any, Final

from tests.fuzz.functions import Call, Function, Owner, functions_on
from tests.fuzz.hostile import Keys, Label, Payload
from tests.fuzz.mischief import ORDINARY, Census, Doom, Hostility, Mischief
from tests.fuzz.program import Program
from tests.fuzz.siege import Broken
from tiered.clients.base import CacheClient
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.clock import SYSTEM_CLOCK
from tiered.errors import CacheMissError
from tiered.testing import ManualClock

__all__ = ["CallSiege"]

_TTLS: Final = (math.inf, math.inf, 100.0, 1.0, 0.0, -1.0)
_SETTLERS: Final = frozenset(
    f"tiered.decorators.{module}" for module in ("core", "engine", "leader", "blocking", "awaiting")
)
_NOTHING: Final = object()


class Refusal(Hostility, Exception):
    """What a cached function raises by itself."""


class CallSiege:
    """Functions on one client, and what is done to them.

    Args:
        program: what is done.
        alone: by one thread only; then mischief calls the functions, too. (Code in Python
            compares keys under locks, several of them, so that two threads which take one
            lock within another could wait for each other for ever.)

    Threads: :meth:`step` from any; the rest from one while no other is in a step.
    """

    def __init__(self, program: Program, *, alone: bool = True) -> None:
        self.program = program
        self.rng = program.rng
        self.census = Census()
        failures = program.failures and self.rng.choice((ORDINARY, (*ORDINARY, Doom)))
        self.mischief = Mischief(
            self.rng, program.rate, lies=program.lies, failures=failures, deepest=program.deepest
        )
        self.mischief.restrained = _is_settling
        self.keys = Keys(self.mischief, self.census, spread=program.spread, count=program.labels)
        self.clock = self.rng.choice((ManualClock(), SYSTEM_CLOCK))
        self.client = self._make_client()
        self.broken: list[str] = []
        self.serials = self.calls = self.runs = self.interrupted = 0
        owners = [Owner(("owner", n), n, self.mischief) for n in range(2)]
        for owner in owners:
            self.census.add(owner)
        self.functions: list[Function] = functions_on(
            self.client, self._answer, owners, self._options
        )
        self.loop = asyncio.new_event_loop() if alone else None
        self.mischief.actions += [self._collect, lambda: time.sleep(0), gc.isenabled]
        if alone:
            self.mischief.actions += [self.operate] * 4

    def _make_client(self) -> CacheClient:
        def near() -> InprocCacheClient:
            size = self.rng.choice((1, 3, 20, 200, math.inf))
            if self.rng.random() < 0.7:
                return InprocCacheClient(size, clock=self.clock)
            return InprocCacheClient(
                size,
                clock=self.clock,
                weigher=self._weigh,
                on_evict=lambda key, value, cause: self.mischief.strike(),
            )

        choice = self.rng.randrange(3)
        if choice == 0:
            return near()
        return TieredInclusiveClient(*[near() for _ in range(choice)])

    def _weigh(self, key: Any, value: Any) -> int:
        self.mischief.strike()
        return 1

    def _options(self) -> dict[str, Any]:
        ttl: Any = self.rng.choice((*_TTLS, None))
        if ttl is None or ttl <= 0:
            ttl = self._any_ttl
        return {"ttl": ttl, "typed": self.rng.random() < 0.2}

    def _any_ttl(self, value: Any) -> float:
        self.mischief.strike()
        return self.rng.choice(_TTLS)

    def _answer(self, label: Label) -> Any:
        """What every function returns."""
        self.runs += 1
        if self.rng.random() < 0.02 and not self.mischief.quiet:
            raise Refusal(label)
        try:
            self.mischief.strike()
        except StopIteration:  # of a coroutine, Python makes something else of it
            raise Refusal(label) from None
        return self._payload(label)

    def _payload(self, label: Label) -> Payload:
        self.serials += 1
        value = Payload(label, self.serials, 1, self.mischief)
        if self.rng.random() < 0.1:
            value.bond = self.rng.choice((self.client, self.functions, value, self))
        self.census.add(value)
        return value

    # -- What is done ------------------------------------------------------------

    def step(self) -> None:
        """One operation; what hostile code raises ends it, and what else is raised is a bug."""
        self.mischief.renew()
        try:
            self.operate()
        except Hostility:
            pass
        except BaseException as error:
            self.broken.append(f"an operation raised {error!r}")

    def operate(self) -> None:
        """One operation by chance."""
        chance = self.rng.random()
        if chance < 0.7:
            self.call()
        elif chance < 0.97:
            try:
                (self.change if chance < 0.8 else self.use_client)()
            except CacheMissError:
                pass
            except KeyError as error:  # of the tables in Python, for keys that lie
                if not self.program.lies or isinstance(error, Hostility):
                    raise
        elif isinstance(self.clock, ManualClock):
            self.clock.advance(self.rng.choice((0.0, 0.5, 2.0)))

    def call(self) -> None:
        """Call a function."""
        function = self.rng.choice(self.functions)
        call = function.call(self.rng, lambda: self.keys.make(self.keys.any_label()))
        args, kwargs = call.spelling
        self.calls += 1
        try:
            if function.awaits:
                answer = self._awaited(function, call)
            else:
                answer = function.cached(*args, **kwargs)
        except Refusal:
            return
        except Hostility as error:
            self.interrupted += 1
            if isinstance(error, Exception) and not self._is_own(error):
                self.broken.append(f"{call.label} was broken by its key: {error!r}")
            raise
        except BaseException as error:
            self.broken.append(f"{call.label} raised {error!r}")
            raise
        self._check_value(call.label, answer)

    def _is_own(self, error: BaseException) -> bool:
        """Whether the function raised it, rather than its key."""
        frames = error.__traceback__
        while frames is not None:
            if frames.tb_frame.f_code.co_name == "_answer":
                return True
            frames = frames.tb_next
        return False

    def _awaited(self, function: Function, call: Call) -> Any:
        args, kwargs = call.spelling
        awaitable = function.cached(*args, **kwargs)
        if self.loop is not None and not self.loop.is_running():
            return self.loop.run_until_complete(_awaiting(awaitable))
        return self._driven(function, call, awaitable)

    def _driven(self, function: Function, call: Call, awaitable: Any) -> Any:
        """Await by hand; what is not done at once is thrown away."""
        steps = awaitable.__await__()
        try:
            next(steps)
        except StopIteration as stop:
            if isinstance(stop, Hostility):
                raise
            return stop.value
        except RuntimeError as error:  # no event loop in this thread
            if "event loop" in str(error) or "StopIteration" in str(error):
                raise Refusal from None
            raise
        steps.close()
        raise Refusal

    def change(self) -> None:
        """Forget, put, look."""
        function = self.rng.choice([one for one in self.functions if not one.awaits])
        call = function.call(self.rng, lambda: self.keys.make(self.keys.any_label()))
        args, kwargs = call.spelling
        choice = self.rng.randrange(5)
        if choice == 0:
            function.cached.invalidate(*args, **kwargs)
        elif choice == 1:
            function.cached.expire(*args, **kwargs)
        elif choice == 2:
            self._check_value(call.label, function.cached.peek(*args, **kwargs))
        elif choice == 3:
            value = self._payload(call.label)
            function.cached.put(*args, _cache_put=value, **kwargs)
        elif self.rng.random() < 0.02:
            function.cached.clear()

    def use_client(self) -> None:
        """The client by itself, with keys of its own."""
        label = ("client", self.keys.any_label())
        key = ("client", self.keys.make(label[1]))
        choice = self.rng.randrange(12)
        if choice < 4:
            answer = self.client.get(key, _NOTHING)
            if answer is not _NOTHING:
                self._check_value(label, answer)
        elif choice == 4:
            self._check_value(label, self.client.get(key))
        elif choice < 8:
            self.client.put(key, self._payload(label), self.rng.choice(_TTLS))
        elif choice == 8:
            self.client.delete(key)
        elif choice == 9:
            value, _ = self.client.get_ttl(key)
            self._check_value(label, value)
        elif choice == 10:
            self.client.add(key, self._payload(label), self.rng.choice(_TTLS))
        elif self.rng.random() < 0.1:
            self.client.purge()

    def _collect(self) -> None:
        gc.collect(self.rng.choice((0, 0, 0, 0, 0, 1, 2)))

    def _check_value(self, label: Label, value: Any) -> None:
        if not isinstance(value, Payload):
            self.broken.append(f"{label} answered {value!r}")
        elif value.label != label and not self.program.lies:
            self.broken.append(f"{label} answered the value of {value.label}")

    # -- Promises ----------------------------------------------------------------

    def check(self) -> None:
        """Everything that can be asked from outside, while nothing happens.

        Raises:
            Broken: a promise was not kept.
        """
        with self.mischief.silenced():
            self._check_counts()
            for function in self.functions:
                if not function.awaits:
                    self._check_call(function)
        self._raise_broken()

    def _check_counts(self) -> None:
        counts = [one.cached.stats for one in self._distinct()]
        answered = sum(one.hits + one.stale + one.misses for one in counts)
        ran = sum(one.computations for one in counts)
        self._expect(all(one.near_hits <= one.hits for one in counts), "near hits above hits")
        self._expect(answered <= self.calls + ran, f"{answered} answers to {self.calls} calls")
        self._expect(ran == self.runs, f"{ran} computations, but the functions ran {self.runs}")

    def _distinct(self) -> list[Function]:
        """The functions, each method once."""
        seen: dict[int, Function] = {}
        for one in self.functions:
            seen.setdefault(id(getattr(one.cached, "__func__", one.cached)), one)
        return list(seen.values())

    def _check_call(self, function: Function) -> None:
        """The same call twice, computed at most once if its value is to last."""
        if self.program.lies:
            return
        call = function.call(self.rng, lambda: self.keys.make(self.keys.any_label()))
        args, kwargs = call.spelling
        before = function.cached.stats
        first, second = (function.cached(*args, **kwargs) for _ in range(2))
        after = function.cached.stats
        self.calls += 2
        self._check_value(call.label, first)
        self._check_value(call.label, second)
        if function.cached.ttl == math.inf and "nan" not in repr(call.label):
            self._expect(first is second, f"{call.label} was not kept")
        added = (after.hits + after.stale + after.misses) - (
            before.hits + before.stale + before.misses
        )
        self._expect(added == 2, f"two calls of {call.label} counted as {added}")

    def _expect(self, kept: object, otherwise: str) -> None:
        if not kept:
            self.broken.append(otherwise)

    def _raise_broken(self) -> None:
        if self.broken:
            raise Broken("; ".join(dict.fromkeys(self.broken[:5])))

    def end(self) -> None:
        """Let go of everything; nothing may be left.

        Raises:
            Broken: something was.
        """
        self.check()
        self.mischief.quiet = True
        if self.loop is not None:
            self.loop.close()
        if self.rng.random() < 0.5:
            self.client.clear()
        del self.client
        self.functions.clear()
        self.mischief.actions.clear()
        for _ in range(3):
            gc.collect()
        examples = [type(one).__name__ for one in self.census.living()[:5]]
        self._expect(not examples, f"{len(self.census)} objects stay: {examples}")
        self._raise_broken()


def _is_settling() -> bool:
    """Whether a miss is being settled in this thread.

    Its table of running computations compares keys, too; one that fails or lies there leaves
    those who wait for the computation waiting, as does a callback of the store that asks for
    the very value that is being stored. What is under attack here is the way of a hit.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") in _SETTLERS:
            return True
        frame = frame.f_back
    return False


async def _awaiting(awaitable: Any) -> Any:
    return await awaitable
