"""Keeps what a discovery found up to date, off the request path."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Callable
from typing import Final, TypeAlias

from tiered.errors import DiscoveryError
from tiered.routing.addresses import Address
from tiered.routing.discovery import Discovery, Found
from tiered.typing import Clock
from tiered.validation import check_number

__all__ = ["Watch"]

_Start: TypeAlias = Callable[[Callable[[], None]], None]

_MAX_DOUBLINGS: Final = 32


def _in_a_thread(work: Callable[[], None]) -> None:
    """A daemon: the interpreter's exit waits for no name server."""
    threading.Thread(target=work, name="tiered-discovery", daemon=True).start()


def _to_nobody(_message: str) -> None:
    """No report."""


class Watch:
    """The servers of a discovery, as last known.

    The first call finds them. Later ones never wait: when the answer is no longer
    good they start a refresh in a thread, one at a time, that ends with it, and go on
    with what is known. What is known outlives every failure to refresh it.

    Args:
        discovery: finds the servers.
        clock: tells when an answer is no longer good.
        floor: seconds that an answer is good for at least, and the first pause
            after a failure; 0.01 or more.
        longest: seconds of the longest pause after a failure; *floor* or more.
        report: is told of each failure, in the thread that met it.
        start: runs a refresh, elsewhere and soon; by default in a daemon thread.

    Attributes:
        failures: how many finds failed, in all.

    Threads: safe. After a fork, the child has to call :meth:`after_fork` first.
    """

    def __init__(
        self,
        discovery: Discovery,
        clock: Clock,
        *,
        floor: float = 5.0,
        longest: float = 300.0,
        report: Callable[[str], None] = _to_nobody,
        start: _Start = _in_a_thread,
    ) -> None:
        self._discovery = discovery
        self._clock = clock
        self._floor = check_number("floor", floor, low=0.01, hint="0.01 seconds or more")
        self._longest = check_number("longest", longest, low=floor, hint="floor or more")
        self._report = report
        self._start = start
        self._found: Found | None = None
        self._trouble: str | None = None
        self._due = -float("inf")
        self._in_a_row = 0
        self._closed = False
        self.failures = 0
        self._renew_locks()

    def _renew_locks(self) -> None:
        # Held while a thread finds the first answer; one that can be taken twice, so that a
        # discovery that needs its own answer is told so and does not wait for itself.
        self._first = threading.RLock()
        self._finding = False
        # Held while there is a refresh, and released by it.
        self._refreshing = threading.Lock()

    def current(self) -> Found:
        """The servers; the same object until there are others, or other weights.

        Raises:
            DiscoveryError: none were ever found. The next attempt is made by the first call
                after *floor* seconds; until then, and meanwhile, the others raise at once.
        """
        found = self._found
        if found is None:
            return self._find_first()
        if self._clock.monotonic() >= self._due:
            self._begin_refresh()
        return found

    def close(self, timeout: float = 2.0) -> bool:
        """Find no more; what is known can still be had. Whether no refresh is left.

        Args:
            timeout: seconds to wait for one that is under way.
        """
        self._closed = True
        refreshing = self._refreshing
        if not refreshing.acquire(timeout=timeout):
            return False
        refreshing.release()
        return True

    def after_fork(self) -> None:
        """Forget the threads of the parent, and stray from its time of the next refresh."""
        self._renew_locks()
        left = self._due - self._clock.monotonic()
        if left > 0:
            self._due -= left * random.uniform(0.0, 0.2)  # noqa: S311

    # -- The first answer --------------------------------------------------------------

    def _find_first(self) -> Found:
        trouble = self._trouble
        first = self._first
        # Where it has failed before, one caller at a time pays for the next attempt.
        if not first.acquire(blocking=trouble is None):
            raise DiscoveryError(trouble)
        try:
            return self._find_in_turn()
        finally:
            first.release()

    def _find_in_turn(self) -> Found:
        if self._found is not None:
            return self._found
        if self._finding:
            raise DiscoveryError(f"{self._discovery!r} needs the servers that it is to find")
        if self._closed:
            raise DiscoveryError(f"{self!r} is closed")
        # Only the text is kept: an exception would hold on to a request and its objects.
        if self._trouble is not None and self._clock.monotonic() < self._due:
            raise DiscoveryError(self._trouble)
        self._finding = True
        try:
            found = _look(self._discovery)
        except DiscoveryError as error:
            self._failed(error)
            raise
        finally:
            self._finding = False
        self._accept(found)
        return found

    # -- Refreshes ---------------------------------------------------------------------

    def _begin_refresh(self) -> None:
        refreshing = self._refreshing
        if not refreshing.acquire(blocking=False):
            return
        # Another may have ended between the look at the time and the claim.
        if self._closed or self._clock.monotonic() < self._due:
            refreshing.release()
            return
        try:
            self._start(_refresh(weakref.ref(self), self._discovery, refreshing))
        except BaseException as error:
            # Whether it runs all the same cannot be known; the next one is not to wait for it.
            self._refreshing = threading.Lock()
            if not isinstance(error, Exception):
                raise
            self._failed(DiscoveryError(f"no refresh can be started: {error}"))

    def _settle(self, outcome: Found | DiscoveryError) -> None:
        """Take over what a refresh has come to."""
        if self._closed:
            return
        if isinstance(outcome, DiscoveryError):
            self._failed(outcome)
        else:
            self._accept(outcome)

    # -- Outcomes; called by one thread at a time --------------------------------------

    def _accept(self, found: Found) -> None:
        self._in_a_row = 0
        # Never later than the ttl says, but for the floor, and not with the rest of the fleet.
        pause = found.ttl * random.uniform(0.8, 1.0)  # noqa: S311
        if not pause >= self._floor:  # NaN neither
            pause = self._floor * random.uniform(1.0, 1.2)  # noqa: S311
        self._due = self._clock.monotonic() + pause
        self._trouble = None
        if self._found is None or _shares(found) != _shares(self._found):
            self._found = found

    def _failed(self, error: DiscoveryError) -> None:
        self.failures += 1
        pause = self._floor
        if self._found is not None:
            # Nobody waits for it, so it may grow; without an answer, callers do.
            pause *= 2.0**self._in_a_row * random.uniform(1.0, 1.2)  # noqa: S311
            self._in_a_row = min(self._in_a_row + 1, _MAX_DOUBLINGS)
        self._due = self._clock.monotonic() + min(pause, self._longest)
        self._trouble = str(error)
        self._report(self._trouble)

    def __repr__(self) -> str:
        found = self._found
        known = "nothing found" if found is None else f"{len(found.addresses)} servers"
        return f"<Watch of {self._discovery!r}: {known}, {self.failures} failures>"


def _look(discovery: Discovery) -> Found:
    """What *discovery* finds, which is at least one server.

    Raises:
        DiscoveryError: whatever else happens.
    """
    try:
        found = discovery.find()
        if not found.addresses:
            raise DiscoveryError(f"{discovery!r} found no servers")
        if not isinstance(found.ttl, (int, float)):
            raise TypeError(f"ttl must be a number of seconds, not {found.ttl!r}")
        _shares(found)
    except DiscoveryError:
        raise
    except Exception as error:  # whatever strangers raise
        raise DiscoveryError(f"{discovery!r} failed: {type(error).__name__}: {error}") from error
    return found


def _shares(found: Found) -> frozenset[tuple[Address, int]]:
    """What makes two answers the same."""
    weights = found.weights or (1,) * len(found.addresses)
    return frozenset(zip(found.addresses, weights, strict=True))


def _refresh(
    watch: weakref.ref[Watch], discovery: Discovery, refreshing: threading.Lock
) -> Callable[[], None]:
    """The work of a refresh. It holds no watch while it waits for an answer."""

    def run() -> None:
        outcome: Found | DiscoveryError
        try:
            try:
                outcome = _look(discovery)
            except DiscoveryError as error:
                outcome = error
            except BaseException as error:  # or the next call would start the next at once
                outcome = DiscoveryError(f"{discovery!r} ended its thread: {error!r}")
            if (alive := watch()) is not None:
                alive._settle(outcome)
        finally:
            refreshing.release()

    return run
