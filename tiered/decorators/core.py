"""One decorated function's parts, put together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tiered.decorators.engine import Engine
from tiered.decorators.frontdoor import FrontDoor, front_door
from tiered.decorators.plan import Plan
from tiered.decorators.reading import Reading
from tiered.decorators.space import Space
from tiered.decorators.verdict import AWAITED, CALL, EARLY_CALL, Row
from tiered.keys.call import CallShape
from tiered.steps.awaiting import Awaiting
from tiered.steps.blocking import Blocking
from tiered.steps.counting import CallStats
from tiered.steps.pooled import Pooled

__all__ = ["Core"]


class Core:
    """The engine of one function, and the drivers that perform its steps.

    Attributes:
        plan: the options.
        space: where values are kept.
        reading, engine: see there.
        blocking, pooled, awaiting: the drivers.

    Threads: safe.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.space = Space.of(plan)
        self._shape = CallShape.of(
            plan.function, ignore=plan.ignore, typed=plan.typed, key=plan.key
        )
        self.reading = Reading(plan, self.space, self._shape)
        self.engine = Engine(self.reading)
        clock = plan.client.clock
        self.pooled = Pooled(
            plan.function,
            sleep=clock.sleep,
            pool=plan.pool,
            flights=self.engine.flights,
            elsewhere=plan.times_out,
            name=plan.name,
            reports=self.reading.reports,
        )
        self.blocking = Blocking(plan.function, clock.sleep, self.pooled, plan.times_out)
        self.awaiting = Awaiting(
            plan.function,
            awaits=plan.awaits,
            blocking=plan.client.capabilities.blocking,
            pooled=self.pooled,
            flights=self.engine.flights,
        )
        self._counts: list[Callable[[], int]] = []

    @property
    def row(self) -> Row:
        """The row of the table for a plain call."""
        if self.plan.awaits:
            return AWAITED
        return EARLY_CALL if self.plan.early_refresh else CALL

    def blocking_door(self) -> Callable[..., Any]:
        """``f(...)`` of a plain function."""
        row, run, answer = self.row, self.blocking.run, self.engine.answer

        def settle(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return run(answer(row, args, kwargs)).get()

        return self._door(settle, coroutine=False, looks_ahead=bool(self.plan.early_refresh))

    def awaitable_door(self, row: Row) -> Callable[..., Any]:
        """``await f(...)``, or ``await f.aio(...)``, by *row*."""
        get, answer = self.awaiting.get, self.engine.answer

        async def settle(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return await get(answer(row, args, kwargs))

        # Seen in tasks, and in the warning about a coroutine that nobody has awaited.
        settle.__name__, settle.__qualname__ = self._shape.name, self._shape.qualname
        return self._door(settle, coroutine=True, looks_ahead=True)

    def _door(
        self, settle: Callable[..., Any], *, coroutine: bool, looks_ahead: bool
    ) -> Callable[..., Any]:
        door = self._open(settle, coroutine=coroutine, looks_ahead=looks_ahead)
        if self.reading.hooks.initialized:
            return door.call
        # An initializer comes before every access, until it has said that it is done. From
        # then on calls go through the door, with one frame more.
        doors: list[Callable[..., Any]] = []

        @functools.wraps(self.plan.function)
        def first(*args: Any, **kwargs: Any) -> Any:
            if not doors:
                self.reading.hooks.initialize()
                if not self.reading.hooks.initialized:
                    return settle(args, kwargs)
                doors.append(door.call)
            return doors[0](*args, **kwargs)

        return first

    def _open(self, settle: Callable[..., Any], *, coroutine: bool, looks_ahead: bool) -> FrontDoor:
        door = front_door(
            self._shape,
            self.space,
            settle,
            coroutine=coroutine,
            ahead=self.reading.terms if looks_ahead else None,
        )
        self._counts.append(door.hits)
        return door

    def spoken(self, call: Callable[..., Any], *, awaits: bool) -> Callable[..., Any]:
        """*call* as a Python function, if it is none: with the function's name and signature.

        Args:
            call: an entrance, or what it enters.
            awaits: make a coroutine function.
        """
        if not inspect.isfunction(call):
            shape = self._shape
            body = f"_tiered_call(*{shape.args}, **{shape.kwargs})"
            call = shape.build(
                f"return await {body}" if awaits else f"return {body}",
                {"_tiered_call": call},
                coroutine=awaits,
            )
        return functools.update_wrapper(call, self.plan.function)

    @property
    def stats(self) -> CallStats:
        """A snapshot of what was counted."""
        return self.reading.counters.snapshot(sum(count() for count in self._counts))
