"""Flights and the circles that waiting for them could close."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from tiered import makeFutureWrapper
from tiered.concurrency import circles
from tiered.concurrency.circles import CircularWait
from tiered.concurrency.flight import Flight, Flights
from tiered.concurrency.outcome import Outcome


def test_one_flight_for_a_key() -> None:
    flights = Flights()
    flight, new = flights.enter("k")
    assert new
    assert flights.enter("k") == (flight, False)
    assert "k" in flights
    assert flight.begin()
    assert not flight.begin()
    flight.land(Outcome(5))
    flight.land(Outcome(6))  # too late
    flight.abandon()
    assert flight.outcome is not None
    assert flight.outcome.get() == 5
    assert not flight.abandoned
    flights.finish("k", flight)
    assert "k" not in flights
    flights.finish("k", flight)


def test_a_flight_whose_leader_has_vanished_is_replaced() -> None:
    flights = Flights()
    flight, _ = flights.enter("k")
    flight.alive = lambda: False
    told: list[Flight] = []
    flight.then(told.append)
    other, new = flights.enter("k")
    assert new
    assert other is not flight
    assert flight.abandoned
    assert told == [flight]
    flights.drop("k", flight)  # by its own leader, late: the other keeps its place
    assert flights.enter("k") == (other, False)


def test_a_waiter_notices_that_the_leader_has_vanished() -> None:
    flight = Flight()
    flight.begin()
    gone = threading.Event()
    flight.alive = lambda: not gone.is_set()
    gone.set()
    assert flight.wait()
    assert flight.abandoned
    assert flight.cause is None


def test_waiting_has_an_end() -> None:
    flight = Flight()
    assert not flight.wait(0.001)
    flight.land(Outcome(1))
    assert flight.wait(0.001)
    assert flight.wait()


def test_an_outcome_raises_the_same_each_time() -> None:
    def fail() -> None:
        raise ValueError("here")

    try:
        fail()
    except ValueError as error:
        outcome = Outcome(error=error)
    lengths = []
    for _ in range(3):
        with pytest.raises(ValueError, match="here") as caught:
            outcome.get()
        lengths.append(len(caught.traceback))
        assert caught.traceback[-1].name == "fail"
    assert len(set(lengths)) == 1
    assert "ValueError" in repr(outcome)
    assert repr(Outcome(5)) == "Outcome(5)"


def test_a_circle_is_found_before_it_closes() -> None:
    first, second, third = Flight(), Flight(), Flight()

    def in_flight(flight: Flight, work: Any) -> Any:
        def run() -> Any:
            with flight.computing():
                return work()

        return contextvars.copy_context().run(run)

    def wait(flight: Flight) -> Any:
        waiting = flight.waiting()
        waiting.__enter__()
        return waiting

    one = in_flight(first, lambda: wait(second))
    two = in_flight(second, lambda: wait(third))
    with pytest.raises(CircularWait):
        in_flight(third, lambda: wait(first))
    with pytest.raises(CircularWait):
        in_flight(first, lambda: wait(first))
    with pytest.raises(CircularWait):
        # The outer computation waits for the inner one, which waits.
        in_flight(third, lambda: in_flight(Flight(), lambda: wait(first)))
    two.__exit__(None, None, None)
    in_flight(third, lambda: wait(first)).__exit__(None, None, None)
    one.__exit__(None, None, None)
    assert not any(flight.waits_for for flight in (first, second, third))


def test_who_computes_nothing_may_wait_for_anything() -> None:
    flight = Flight()
    with flight.waiting(), flight.waiting():
        assert flight.waits_for == []


def test_what_has_ended_waits_for_nothing() -> None:
    flight = Flight()
    with flight.computing():
        flight.land(Outcome(1))
        with Flight().waiting():
            assert flight.waits_for == []


def test_detached_work_is_nobodys_computation() -> None:
    flight = Flight()
    with flight.computing():
        context = contextvars.copy_context()
    context.run(circles.detach)

    def wait() -> None:
        with flight.waiting():
            pass

    context.run(wait)


# -- Futures of other libraries --------------------------------------------------------


class Foreign:
    """A future as a library might have it."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.answer: Any = None

    def done(self) -> bool:
        return self.answer is not None

    def set_result(self, value: Any) -> None:
        self.answer = ("value", value)

    def set_exception(self, error: BaseException) -> None:
        self.answer = ("error", error)

    def cancel(self) -> None:
        self.answer = ("cancelled", None)


class Interface:
    """The class that a library checks for, without a state of its own."""

    def result(self, timeout: float | None = None) -> Any:
        raise NotImplementedError

    def done(self) -> bool:
        raise NotImplementedError


def test_a_wrapped_future_is_a_future_of_the_library() -> None:
    wrapper = makeFutureWrapper(Foreign)
    ours: Future[int] = Future()
    theirs = wrapper(ours, name="n")
    assert isinstance(theirs, Foreign)
    assert theirs.name == "n"
    assert not theirs.done()
    ours.set_result(5)
    assert theirs.answer == ("value", 5)
    error = ValueError()
    ours = Future()
    theirs = wrapper(ours)
    ours.set_exception(error)
    assert theirs.answer == ("error", error)
    for by_error in (True, False):
        ours = Future()
        theirs = wrapper(ours)
        if by_error:
            ours.set_exception(CancelledError())
        else:
            ours.cancel()
        assert theirs.answer == ("cancelled", None)
    ours = Future()
    theirs = wrapper(ours)
    theirs.cancel()
    ours.set_result(5)
    assert theirs.answer == ("cancelled", None)


def test_a_wrapped_future_is_set_in_the_thread_of_its_loop() -> None:
    import asyncio

    wrapper = makeFutureWrapper(asyncio.Future)

    async def main() -> None:
        ours: Future[int] = Future()
        threading.Timer(0.01, ours.set_result, (5,)).start()
        theirs = wrapper(ours)
        assert isinstance(theirs, asyncio.Future)
        assert await theirs == 5

    asyncio.run(main())
    late: Future[int] = Future()
    loop = asyncio.new_event_loop()
    theirs = wrapper(late, loop=loop)
    loop.close()
    late.set_result(5)
    assert not theirs.done()


def test_an_interface_is_answered_by_the_future() -> None:
    ours: Future[int] = Future()
    theirs = makeFutureWrapper(Interface)(ours)
    assert isinstance(theirs, Interface)
    assert not theirs.done()
    ours.set_result(5)
    assert theirs.done()
    assert theirs.result(timeout=0) == 5
    with pytest.raises(TypeError, match="base must be a class of futures, not 5"):
        makeFutureWrapper(5)  # type: ignore[arg-type]
