"""When and how the hostile objects misbehave, and who is still alive of them."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["FAILURES", "ORDINARY", "Boom", "Census", "Doom", "Hostility", "Mischief"]


class Hostility(BaseException):
    """What hostile objects raise, to be told from what a bug raises."""


class Boom(Hostility, Exception):
    """An ordinary failure."""


class BoomKey(Hostility, KeyError):
    """One that code around a mapping might take for a miss."""


class BoomValue(Hostility, ValueError):
    """One that a refusal might be taken for."""


class BoomAttribute(Hostility, AttributeError):
    """One that a missing method might be taken for."""


class BoomStop(Hostility, StopIteration):
    """One that ends loops."""


class BoomMemory(Hostility, MemoryError):
    """One that an allocation might have raised."""


class Doom(Hostility):
    """What no ``except Exception`` stops."""


class DoomInterrupt(Hostility, KeyboardInterrupt):
    """Ctrl-C in the middle of a comparison."""


class DoomExit(Hostility, GeneratorExit):
    """What ends generators and coroutines."""


ORDINARY: tuple[type[Hostility], ...] = (
    Boom,
    BoomKey,
    BoomValue,
    BoomAttribute,
    BoomStop,
    BoomMemory,
)
FAILURES: tuple[type[Hostility], ...] = (*ORDINARY, Doom, DoomInterrupt, DoomExit)


MOST: Final = 40
"""How often something is done within one operation: mischief multiplies."""


class Mischief:
    """Decides, by a seeded generator, what happens at each chance that hostile code gets.

    Args:
        rng: the generator.
        rate: the share of the chances that are taken, 0 to 1.
        lies: comparisons may answer wrongly, and hashes change.
        failures: what may be raised; nothing if empty.
        deepest: how often mischief may happen within mischief.

    Attributes:
        actions: what to do; the one under attack adds its operations.
        restrained: tells whether nothing may happen just now in this thread.
        quiet: nothing happens while it is true.
        strikes: how often something was done.

    Threads: the depth is each thread's own.
    """

    def __init__(
        self,
        rng: random.Random,
        rate: float,
        *,
        lies: bool = False,
        failures: tuple[type[Hostility], ...] = FAILURES,
        deepest: int = 3,
    ) -> None:
        self.rng = rng
        self.rate = rate
        self.lies = lies
        self.failures = failures
        self.deepest = deepest
        self.actions: list[Callable[[], object]] = []
        self.restrained: Callable[[], bool] = bool
        self.quiet = False
        self.strikes = 0
        self._left = MOST
        self._local = threading.local()

    def renew(self) -> None:
        """An operation begins that is not in the middle of another."""
        self._left = MOST

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Nothing happens within; to look at things."""
        before, self.quiet = self.quiet, True
        try:
            yield
        finally:
            self.quiet = before

    def strike(self, times: float = 1.0) -> None:
        """Perhaps do something, *times* as likely as usual; perhaps raise."""
        rng = self.rng
        if self.quiet or rng.random() >= self.rate * times:
            return
        depth = getattr(self._local, "depth", 0)
        if depth >= self.deepest or self._left <= 0 or self.restrained():
            return
        self._left -= 1
        self.strikes += 1
        self._local.depth = depth + 1
        try:
            if self.failures and rng.random() < 0.25:
                raise rng.choice(self.failures)("on purpose")
            if self.actions:
                rng.choice(self.actions)()
        finally:
            self._local.depth = depth

    def lying(self) -> bool:
        """Whether lies may be told just now."""
        return self.lies and not self.quiet and not self.restrained()

    def verdict(self, truth: bool) -> Any:
        """The answer of a comparison whose right answer is *truth*."""
        rng = self.rng
        if self.quiet or rng.random() >= self.rate:
            return truth
        if self.lying() and rng.random() < 0.5:
            return rng.random() < 0.5
        return rng.choice([Truth(truth, self), truth, 1 if truth else 0])


class Truth:
    """An answer that runs code when it is asked what it means."""

    __slots__ = ("_mischief", "_truth")

    def __init__(self, truth: bool, mischief: Mischief) -> None:
        self._truth = truth
        self._mischief = mischief

    def __bool__(self) -> bool:
        self._mischief.strike()
        return self._truth


class _Sign(weakref.ref[Any]):
    """A sign of life that knows its number."""

    __slots__ = ("number",)

    number: int


class Census:
    """Counts those that live. Threads: safe."""

    def __init__(self) -> None:
        self.born = 0
        self._signs: dict[int, _Sign] = {}

    def __len__(self) -> int:
        return len(self._signs)

    def add(self, one: Any) -> None:
        """Follow *one* until it is gone."""
        number = self.born = self.born + 1
        sign = _Sign(one, self._gone)
        sign.number = number
        self._signs[number] = sign

    def living(self) -> list[Any]:
        """Those that are not gone."""
        return [one for one in (sign() for sign in [*self._signs.values()]) if one is not None]

    def _gone(self, sign: _Sign) -> None:
        self._signs.pop(sign.number, None)
