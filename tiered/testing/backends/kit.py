"""What the suites of backends are made of: regions to test, and threads that meet."""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeVar

import pytest

from tiered.clock import SYSTEM_CLOCK
from tiered.region.api import KeyType
from tiered.region.region import CacheRegion
from tiered.testing.clock import ManualClock
from tiered.typing import Clock

__all__ = [
    "JSON",
    "BackendKit",
    "Making",
    "Running",
    "even_if_nothing_is_kept",
    "in_threads",
    "nothing_is_locked",
]

F = TypeVar("F", bound=Callable[..., Any])

JSON: Final[Mapping[str, Any]] = MappingProxyType(
    {"serializer": lambda value: json.dumps(value).encode(), "deserializer": json.loads}
)
"""Arguments of a region that keeps JSON."""

_PATIENCE: Final = 20.0
"""Seconds after which something hangs."""

_FOR_ALL: Final[set[str]] = set()


def even_if_nothing_is_kept(test: F) -> F:
    """Mark a test that holds for a backend without a memory, too."""
    # Not a pytest marker: those would have to be registered by whoever inherits the suite.
    _FOR_ALL.add(test.__name__)
    return test


class BackendKit:
    """How a suite gets its regions; see :mod:`tiered.testing.backends`."""

    backend: ClassVar[str] = ""
    """The name that the backend is registered by."""

    arguments: Mapping[str, Any] = MappingProxyType({})
    """For the backend."""

    config_args: Mapping[str, Any] = MappingProxyType({})
    """More for ``region.configure()``."""

    region_args: Mapping[str, Any] = MappingProxyType({})
    """For the region."""

    keeps: ClassVar[bool] = True
    """Whether it keeps anything at all."""

    def unavailable(self) -> str | None:
        """Why the suite cannot run here, e.g. that there is no server; ``None`` if it can."""
        return None

    def configured(self) -> Any:
        """What ``region.configure()`` is given first: a name, or a client, tiers, a backend.

        It is asked for once for each region; several of a test must come to the same store.
        """
        return self.backend

    def make_region(
        self,
        clock: Clock | None = None,
        *,
        region_args: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> CacheRegion:
        """A region over the backend, with these arguments above those of the suite."""
        region = CacheRegion(**{**self.region_args, **(region_args or {})}, clock=clock)
        return region.configure(
            self.configured(), **{"arguments": self.arguments, **self.config_args, **config}
        )

    def reason_to_skip(self, test: str) -> str | None:
        """Why the test of that name does not apply; ``None`` if it does."""
        if not self.keeps and test not in _FOR_ALL:
            return "the backend keeps nothing"
        return self.unavailable()

    # -- Fixtures --------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _can_run(self, request: pytest.FixtureRequest) -> None:
        reason = self.reason_to_skip(request.function.__name__)
        if reason is not None:
            pytest.skip(reason)

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def key(self) -> KeyType:
        """One that no other test has used, on whatever server."""
        return f"tiered-testing-{secrets.token_hex(8)}"

    @pytest.fixture
    def region(self, clock: ManualClock) -> CacheRegion:
        """Whose values are good for ever."""
        return self.make_region(clock)

    @pytest.fixture
    def short(self, clock: ManualClock) -> CacheRegion:
        """Whose values are good for 10 seconds."""
        return self.make_region(clock, expiration_time=10)


class Making:
    """A creator that says when it has begun, and ends when it is told to.

    Args:
        value: what it makes.
        error: what it raises instead.
    """

    def __init__(self, value: Any = "made", error: BaseException | None = None) -> None:
        self.value = value
        self.error = error
        self.calls: list[tuple[Any, ...]] = []
        self._begun = threading.Event()
        self._go = threading.Event()

    def __call__(self, *args: Any) -> Any:
        self.calls.append(args)
        self._begun.set()
        assert self._go.wait(_PATIENCE), "nobody let the creator go on"
        if self.error is not None:
            raise self.error
        return self.value

    def begun(self) -> None:
        """Wait until it runs."""
        assert self._begun.wait(_PATIENCE), "the creator was not called"

    def go(self) -> None:
        """Let it end."""
        self._go.set()


class Running:
    """*work* in *count* threads of its own, which are joined when the block is left.

    Attributes:
        outcomes: what each has returned or raised, after the block.
    """

    def __init__(self, work: Callable[[int], Any], count: int = 1) -> None:
        self.outcomes: list[Any] = [None] * count
        self._work = work
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(count)
        ]

    def _run(self, number: int) -> None:
        try:
            self.outcomes[number] = self._work(number)
        except BaseException as error:
            self.outcomes[number] = error

    def __enter__(self) -> Running:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(_PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads), "a thread hangs"

    def all_wait(self) -> None:
        """Until each of the threads waits for an event."""
        ends = SYSTEM_CLOCK.monotonic() + _PATIENCE
        while not all(map(_waits, self._threads)):
            assert SYSTEM_CLOCK.monotonic() < ends, "somebody does not wait"
            SYSTEM_CLOCK.sleep(0)


def _waits(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code is threading.Condition.wait.__code__


def in_threads(work: Callable[[int], Any], count: int = 1) -> list[Any]:
    """What *work* returned or raised in each of *count* threads that began at one moment."""
    together = threading.Barrier(count)

    def begin(number: int) -> Any:
        together.wait(_PATIENCE)
        return work(number)

    with Running(begin, count) as running:
        pass
    return running.outcomes


def nothing_is_locked(region: CacheRegion, *keys: KeyType) -> None:
    """Assert that nobody makes any of *keys*, nor holds what keeps others from it."""
    assert not any(map(region.key_is_locked, keys))
    for key in keys:
        mutex = region.backend.get_mutex(region.mangled(key))
        assert mutex is None or not mutex.locked()
