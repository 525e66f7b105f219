"""Does anything grow while nothing more is held? Steady work, by the million."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from tests.fuzz.mischief import Boom
from tests.fuzz.stores import STORES
from tests.fuzz.trace import resident
from tiered import InprocCacheClient, TieredInclusiveClient, cached

__all__ = ["Steady", "measure"]

_ROUND: Final = 1000
_WARM: Final = 0.2
"""The share of the work before the first look."""


class Sentinel:
    """An object whose references are counted."""


class Failing:
    """A key that raises when it is compared, or hashed."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __hash__(self) -> int:
        if self.code < 0:
            raise Boom("hash")
        return self.code

    def __eq__(self, other: object) -> bool:
        raise Boom("comparison")


class Steady:
    """Rounds of work, of which each leaves what was there before.

    Attributes:
        rounds: each does about a thousand operations.
        sentinels: what they put, look for and pass.
    """

    def __init__(self) -> None:
        self.sentinels = {"key": Sentinel(), "value": Sentinel(), "default": Sentinel()}
        self.loop = asyncio.new_event_loop()
        self.numbers = itertools.count()
        stores = {name: make for name, make in STORES.items() if name != "py-locked"}
        self.rounds: list[Callable[[], None]] = []
        for make in stores.values():
            weighing = make(100, lambda key, value: 1.5, lambda *gone: None)
            self.rounds += [
                partial(self._churn, make(100)),
                partial(self._churn, weighing),
                partial(self._fail, make(math.inf)),
            ]
        for client in (
            InprocCacheClient(100),
            TieredInclusiveClient(InprocCacheClient(50), InprocCacheClient(100)),
        ):
            self.rounds += [
                partial(self._ask, client),
                self._calls(client),
            ]

    def _churn(self, store: Any) -> None:
        key, value = self.sentinels["key"], self.sentinels["value"]
        for number in itertools.islice(self.numbers, _ROUND // 10):
            store.put(number, value, 10.0, 0.0)
            store.put(("space", key), [value], 5.0, 0.0)
            store.put(("space", key), value, 5.0, 0.0)
            store.put(("space", f"{number}"), value, 1.0, 0.0)
            store.entry(("space", key))
            store.entry(("space", number))
            store.touch(number, 11.0)
            store.expire(number, 0.5)
            store.remove(number - 10)
            store.hot_path()
        store.sweep(1.0)
        if number % 7 == 0:
            store.clear()
        store.remove(("space", key))

    def _fail(self, store: Any) -> None:
        store.put(Failing(1), self.sentinels["value"], 1.0, 0.0)
        for _ in range(_ROUND // 20):
            for code in (1, -1):
                for key in (Failing(code), ("space", Failing(code))):
                    try:
                        store.entry(key)
                        store.put(key, self.sentinels["value"], 1.0, 0.0)
                    except Boom:
                        pass
        store.clear()

    def _ask(self, client: Any) -> None:
        key, value, default = self.sentinels.values()
        client.put(key, value, 1000.0)
        for number in range(_ROUND // 5):
            client.get(key)
            client.get(key, default)
            client.get(("absent", number), default)
            client.get(key=key, default=default)
            client.put(("space", number), value, 1000.0)
        client.delete(key)
        client.clear()

    def _calls(self, client: Any) -> Callable[[], None]:
        value = self.sentinels["value"]

        @cached(client, math.inf)
        def plain(x: Any, y: Any = 1, *, z: Any = 2) -> Any:
            return value

        @cached(client, math.inf)
        def star(*args: Any, **kwargs: Any) -> Any:
            return value

        @cached(client, math.inf)
        async def slow(x: Any, y: Any = 1) -> Any:
            return value

        class Owner:
            @cached(client, math.inf)
            def method(self, x: Any) -> Any:
                return value

        owner = Owner()

        def work() -> None:
            key = self.sentinels["key"]
            for number in range(_ROUND // 16):
                for function in (plain, star):
                    function(key)
                    function(key, y=number % 50)
                    function(key, z=key)
                    function(x=key, y=key)
                owner.method(key)
                bound = owner.method
                bound(key)
                bound(x=key)
                Owner.method(owner, key)
                plain(Failing(-1))
                star(Failing(-1))
                wrongs: list[Any] = [plain, slow]
                for wrong in wrongs:
                    try:
                        wrong(nonsense=key)
                    except TypeError:
                        pass
            self.loop.run_until_complete(self._await(slow, key))

        return work

    async def _await(self, slow: Any, key: Any) -> None:
        for number in range(_ROUND // 16):
            await slow(key)
            await slow(x=key, y=number % 50)
            slow(key).close()
            waiting = slow(key).__await__()
            try:
                waiting.send(None)
            except StopIteration:
                pass


def measure(operations: int, looks: int = 5) -> Iterator[tuple[int, float, dict[str, int]]]:
    """Work, and look now and then: operations so far, resident MiB, references of sentinels."""
    steady = Steady()
    try:
        yield from _looks(steady, operations, looks)
    finally:
        steady.loop.close()


def _looks(
    steady: Steady, operations: int, looks: int
) -> Iterator[tuple[int, float, dict[str, int]]]:
    done = 0
    limits = [operations * (_WARM + (1 - _WARM) * look / looks) for look in range(looks + 1)]
    for limit in limits:
        while done < limit:
            for work in steady.rounds:
                work()
                done += _ROUND
        gc.collect()
        references = {name: sys.getrefcount(one) for name, one in steady.sentinels.items()}
        references["None"] = sys.getrefcount(None)
        yield done, resident(), references
