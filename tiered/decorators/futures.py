"""``f.future()``: the same as futures; the caller never waits, not even for a server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, ParamSpec, TypeVar

from tiered.concurrency.flight import Flight
from tiered.concurrency.pool import PoolRefuses
from tiered.decorators.engine import Engine
from tiered.decorators.refresher import Refresher
from tiered.decorators.verdict import LAZY, PEEK, REFRESHING, Row
from tiered.errors import CacheMissError
from tiered.keys.call import BoundCall

__all__ = ["FutureCalls"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class FutureCalls(Generic[P, R]):
    """A cached function that answers with ``concurrent.futures.Future`` objects.

    A hit in the nearest tier is a future that is done already; the rest happens in the
    pool. Misses and the function's exceptions are in the future.

    Threads: safe. A thread of the pool never waits for a computation that another makes.
    """

    __slots__ = ("_engine", "_refresher")

    def __init__(self, engine: Engine, refresher: Refresher) -> None:
        self._engine = engine
        self._refresher = refresher

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """The value, fresh or stale; computed if nothing is held."""
        return self._answer(REFRESHING, args, kwargs)

    def lazy(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """The fresh value or ``CacheMissError``; a miss is computed meanwhile."""
        return self._answer(LAZY, args, kwargs)

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """The fresh value or ``CacheMissError``; never computes."""
        return self._answer(PEEK, args, kwargs)

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Computed anew and stored."""
        return self._run(lambda: self._engine.refresh(args, kwargs))

    def put(self, *args: Any, _cache_put: Any, **kwargs: Any) -> Future[bool]:
        """Store ``_cache_put`` as the value of the call; whether it was written."""
        return self._run(lambda: self._engine.put(_cache_put, args, kwargs))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Future[bool]:
        """Forget the value of the call; whether there was one."""
        return self._run(lambda: self._engine.invalidate(args, kwargs))

    def expire(self, *args: P.args, **kwargs: P.kwargs) -> Future[bool]:
        """Make the value of the call stale; whether it was fresh."""
        return self._run(lambda: self._engine.expire(args, kwargs))

    def get_ttl(self, *args: P.args, **kwargs: P.kwargs) -> Future[tuple[R, float]]:
        """``(value, seconds left)`` or ``CacheMissError``; never computes."""
        return self._run(lambda: self._engine.get_ttl(args, kwargs))

    def _answer(self, row: Row, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[R]:
        call = self._engine.keyed(args, kwargs)
        if call is None:
            if row is REFRESHING:
                return self._run(lambda: self._engine.settle(args, kwargs))
            return _failed(CacheMissError(args, kwargs))
        near = self._engine.near(call)
        if near is not None:
            return _done(near.value)
        future: Future[R] = Future()
        future.set_running_or_notify_cancel()  # a computation is not one waiter's to cancel
        self._refresher.run(lambda: self._resolve(row, call, future))
        return future

    def _resolve(self, row: Row, call: BoundCall, future: Future[R]) -> None:
        """Find the answer; in a thread of the pool."""
        due: list[BoundCall] = []
        try:
            future.set_result(self._engine.serve(row, call, due.append, self._later(future)))
        except _Later:
            return  # the flight will
        except BaseException as error:
            future.set_exception(error)
        for one in due:
            # This thread is the pool's: it computes by itself, after it has answered.
            flight = self._engine.flights.queue(one.key)
            if flight is not None:
                self._refresher.lead(flight, one)

    def _later(self, future: Future[R]) -> Callable[[BoundCall], R]:
        """Computes, or leaves *future* to the flight of whoever does."""

        def compute(call: BoundCall) -> R:
            flight, leads = self._engine.flights.join(call.key)
            if leads:
                value: R = self._engine.fly(flight, call)
                return value

            def pass_on(landed: Flight) -> None:
                if landed.abandoned:
                    self._refresher.run(lambda: self._resolve(REFRESHING, call, future))
                else:
                    _copy(landed, future)

            flight.then(pass_on)
            raise _Later

        return compute

    def _run(self, work: Callable[[], T]) -> Future[T]:
        try:
            return self._refresher.pool.submit(work)
        except PoolRefuses:
            try:
                return _done(work())
            except Exception as error:
                return _failed(error)


class _Later(Exception):
    """The future is settled by a flight that somebody else leads."""


def _copy(flight: Flight, future: Future[Any]) -> None:
    try:
        future.set_result(flight.wait())
    except Exception as error:
        future.set_exception(error)


def _done(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
