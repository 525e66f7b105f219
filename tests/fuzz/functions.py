"""Cached functions of every signature, which tell what they were called with."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fuzz.hostile import Hostile, Label
from tiered import cached
from tiered.clients.base import CacheClient
from tiered.decorators.cached import CachedDecorator

__all__ = ["Call", "Function", "Spelling", "functions_on", "name_of"]

Spelling = tuple[tuple[Any, ...], dict[str, Any]]


def name_of(argument: Any) -> Any:
    """The same for equal arguments, and without hostile code in it."""
    if isinstance(argument, Hostile):
        return argument.label
    if isinstance(argument, str):
        return str.__str__(argument)
    if isinstance(argument, tuple):
        return tuple(map(name_of, tuple.__iter__(argument)))
    if isinstance(argument, float) and argument.is_integer():
        return int(argument)
    if isinstance(argument, float):
        return "nan"
    return argument


@dataclass(frozen=True)
class Call:
    """A way to call, and the label of the value that must come of it."""

    spelling: Spelling
    label: Label


@dataclass
class Function:
    """A cached function, and how to call it.

    Attributes:
        cached: the function.
        call: makes a call of it, by chance, with arguments that it is given the maker of.
        awaits: it is a coroutine function.
    """

    cached: Any
    call: Callable[[random.Random, Callable[[], Any]], Call]
    awaits: bool = False


class Owner(Hostile):
    """One whose methods are cached."""

    __slots__ = ()


def functions_on(
    client: CacheClient,
    answer: Callable[[Label], Any],
    owners: list[Owner],
    options: Callable[[], dict[str, Any]],
) -> list[Function]:
    """One of every kind.

    Args:
        client: for all of them.
        answer: makes the value, from the label.
        owners: of the methods.
        options: for ``cached``, asked for each.
    """

    def on(name: str) -> CachedDecorator:
        return cached(client, namespace=name, **options())

    @on("one")
    def one(x: Any) -> Any:
        return answer(("one", name_of(x)))

    @on("default")
    def default(x: Any, y: Any = "k1", *, z: Any = 2) -> Any:
        return answer(("default", name_of(x), name_of(y), name_of(z)))

    @on("star")
    def star(*args: Any) -> Any:
        return answer(("star", *map(name_of, args)))

    @on("options")
    def keywords(x: Any, /, **options: Any) -> Any:
        named = sorted((key, name_of(value)) for key, value in options.items())
        return answer(("options", name_of(x), *named))

    @on("nothing")
    def nothing() -> Any:
        return answer(("nothing",))

    @on("two")
    def two(x: Any, /, y: Any) -> Any:
        return answer(("two", name_of(x), name_of(y)))

    @on("method")
    def method(self: Any, x: Any) -> Any:
        return answer(("method", self.label, name_of(x)))

    @on("slow")
    async def slow(x: Any, *, y: Any = 0) -> Any:
        return answer(("slow", name_of(x), name_of(y)))

    @on("slow method")
    async def slow_method(self: Any, x: Any) -> Any:
        return answer(("slow method", self.label, name_of(x)))

    made = [
        Function(one, _call_of_one),
        Function(default, _call_of_default),
        Function(star, _call_of_star),
        Function(keywords, _call_of_keywords),
        Function(nothing, lambda rng, make: Call(((), {}), ("nothing",))),
        Function(two, _call_of_two),
        Function(slow, _call_of_slow, awaits=True),
    ]
    for owner in owners:
        made.append(_bound(method, owner, "method", awaits=False))
        made.append(_bound(slow_method, owner, "slow method", awaits=True))
    return made


def _bound(function: Any, owner: Owner, name: str, *, awaits: bool) -> Function:
    def call(rng: random.Random, make: Callable[[], Any]) -> Call:
        x = make()
        return Call(((x,), {}), (name, owner.label, name_of(x)))

    return Function(function.__get__(owner, type(owner)), call, awaits)


def _call_of_one(rng: random.Random, make: Callable[[], Any]) -> Call:
    x = make()
    spelling: Spelling = ((x,), {}) if rng.random() < 0.6 else ((), {"x": x})
    return Call(spelling, ("one", name_of(x)))


def _call_of_two(rng: random.Random, make: Callable[[], Any]) -> Call:
    x, y = make(), make()
    spelling: Spelling = ((x, y), {}) if rng.random() < 0.6 else ((x,), {"y": y})
    return Call(spelling, ("two", name_of(x), name_of(y)))


def _call_of_default(rng: random.Random, make: Callable[[], Any]) -> Call:
    x, y, z = make(), make(), make()
    label = ("default", name_of(x))
    choice = rng.randrange(6)
    if choice == 0:
        return Call(((x,), {}), (*label, "k1", 2))
    if choice == 1:
        return Call(((), {"x": x, "z": z}), (*label, "k1", name_of(z)))
    if choice == 2:
        return Call(((x, y), {}), (*label, name_of(y), 2))
    if choice == 3:
        return Call(((x, y), {"z": z}), (*label, name_of(y), name_of(z)))
    if choice == 4:
        return Call(((), {"z": z, "y": y, "x": x}), (*label, name_of(y), name_of(z)))
    return Call(((x,), {"y": y}), (*label, name_of(y), 2))


def _call_of_star(rng: random.Random, make: Callable[[], Any]) -> Call:
    args = tuple(make() for _ in range(rng.randrange(4)))
    return Call((args, {}), ("star", *map(name_of, args)))


def _call_of_keywords(rng: random.Random, make: Callable[[], Any]) -> Call:
    x = make()
    names = rng.sample(["x", "a", "b", "ä", "a_long_name"], rng.randrange(4))
    options = {name: make() for name in names}
    named = sorted((key, name_of(value)) for key, value in options.items())
    return Call(((x,), options), ("options", name_of(x), *named))


def _call_of_slow(rng: random.Random, make: Callable[[], Any]) -> Call:
    x = make()
    if rng.random() < 0.5:
        return Call(((x,), {}), ("slow", name_of(x), 0))
    y = make()
    spelling: Spelling = ((x,), {"y": y}) if rng.random() < 0.5 else ((), {"y": y, "x": x})
    return Call(spelling, ("slow", name_of(x), name_of(y)))
