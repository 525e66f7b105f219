"""Small programs for both sides: those with the same answers, and those where we differ."""

from __future__ import annotations

import datetime
import enum
import inspect
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.contract.dogpile_sides import CLOCK, Package

__all__ = ["ALIKE", "DIFFERENCES", "Case"]


class Case(NamedTuple):
    """A program, and what comes of it; the name of its error, if it fails.

    Attributes:
        name: of the case.
        play: the program.
        reason: why we differ.
        theirs, ours: what comes of it.
    """

    name: str
    play: Callable[[Package], Any]
    reason: str = ""
    theirs: Any = None
    ours: Any = None


ALIKE: list[Case] = []
DIFFERENCES: list[Case] = []

Play = Callable[[Package], Any]
NO_VALUE = "NoValue.NO_VALUE"
"""What ``str`` makes of it on both sides."""


def alike(name: str) -> Callable[[Play], Play]:
    def note(play: Play) -> Play:
        ALIKE.append(Case(name, play))
        return play

    return note


def differs(name: str, reason: str, theirs: Any, ours: Any) -> Callable[[Play], Play]:
    def note(play: Play) -> Play:
        DIFFERENCES.append(Case(name, play, reason, theirs, ours))
        return play

    return note


def decorated(region: Any, function: Any = None, **options: Any) -> Any:
    """A function with a default, decorated; its value counts its calls."""
    calls: list[int] = []

    def counting(a: Any, b: Any = 2) -> int:
        calls.append(1)
        return len(calls)

    return region.cache_on_arguments(**options)(function or counting)


def shown(values: Any) -> list[str]:
    return [str(value) for value in values]


# -- Alike -----------------------------------------------------------------------------


class Shown(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "shown"

    def __format__(self, _spec: str) -> str:
        return "formatted"


class Letter(str, enum.Enum):  # noqa: UP042 - a StrEnum shows itself otherwise
    A = "a"


@alike("keys of functions")
def _keys(package: Package) -> Any:
    region = package.region()
    function = decorated(region, namespace="a{b}'\"\\ %s")
    values: list[Any] = [1, "x{}", None, 1.5, b"a", Shown("x"), Letter.A, [1], {}]
    for value in values:
        function(value)
    decorated(region, namespace="n", to_str=repr)("x")
    decorated(region, lambda *args: 1)("x", "y z")
    return sorted(region.backend._cache)


@alike("keys of methods")
def _methods(package: Package) -> Any:
    region = package.region()

    def method(self: Any, a: int) -> int:
        return a

    def of_class(cls: Any, a: int) -> int:
        return a

    def of_none(a: int) -> int:
        return a

    cached = [region.cache_on_arguments()(function) for function in (method, of_class, of_none)]
    owner_class: Any = type(
        "Owner",
        (),
        {
            "method": cached[0],
            "of_class": classmethod(cached[1]),
            "of_none": staticmethod(cached[2]),
        },
    )
    owner = owner_class()
    came = [owner.method(1), owner.of_class(2), owner.of_none(3)]
    owner.method.set(5, owner, 1)
    came += [owner.method(1), owner_class().method(1), owner.method.refresh(owner, 1)]
    return came, sorted(region.backend._cache), str(owner.of_class.get(owner_class, 2))


@alike("generators of the user's own")
def _generators(package: Package) -> Any:
    def single(namespace: Any, fn: Any, **options: Any) -> Any:
        return lambda *args: f"{namespace}{fn.__name__}{args}{options}"

    def by_name(namespace: Any, fn: Any) -> Any:
        return lambda *args, **kwargs: ":".join(
            [kwargs[name] for name in namespace] + [str(arg) for arg in args]
        )

    def many(namespace: Any, fn: Any, **options: Any) -> Any:
        return lambda *args: [f"{namespace}{fn.__name__}{arg}" for arg in args]

    region = package.region(function_key_generator=single, function_multi_key_generator=many)
    decorated(region, namespace="n")(1, b=3)
    decorated(
        region,
        lambda a, **options: 1,
        namespace=("x", "y"),
        function_key_generator=by_name,
    )(1, x="q", y="z")
    region.cache_multi_on_arguments(namespace="n")(lambda *keys: keys)(1, 2)
    return sorted(region.backend._cache)


@alike("what a decorated function looks like")
def _attributes(package: Package) -> Any:
    def function(a: int, b: str = "x") -> int:
        "About it."
        return a

    cached = decorated(package.region(), function)
    hanging = sorted(name for name in vars(cached) if not name.startswith("_"))
    return (
        cached.__name__,
        cached.__doc__,
        str(inspect.signature(cached)),
        cached.__wrapped__ is cached.original is function,
        hanging,
    )


@alike("an invalidated value of a function")
def _invalidated(package: Package) -> Any:
    function = decorated(region := package.region())
    came = [function(1), function(1)]
    CLOCK.advance(1)
    region.invalidate()
    CLOCK.advance(1)
    return [*came, str(function.get(1, 2)), function(1), function(1)]


@alike("a function's value in another version of the form")
def _version(package: Package) -> Any:
    function = decorated(region := package.region())
    function(1)
    (key,) = region.backend._cache
    region.backend.set(key, package.api.CachedValue("old", {"ct": CLOCK.wall(), "v": 1}))
    return function.get(1, 2), function(1)


@alike("the last instant of a function's value")
def _last_instant(package: Package) -> Any:
    function = decorated(package.region(), expiration_time=2.0)
    came = [function(1)]
    for _ in range(2):
        CLOCK.advance(2.0)
        came.append(function(1))
        CLOCK.advance(0.25)
        came.append(function(1))
    return came


@alike("no keys, where nothing is kept")
def _no_keys(package: Package) -> Any:
    asked: list[Any] = []

    def creator(*keys: str) -> list[str]:
        asked.append(keys)
        return list(keys)

    return package.region("null").get_or_create_multi([], creator), asked


@alike("a call that the signature refuses")
def _refused(package: Package) -> Any:
    return decorated(package.region())()


@alike("the order of many keys")
def _many(package: Package) -> Any:
    region, asked = package.region(), []

    def function(*keys: Any) -> list[Any]:
        asked.append(keys)
        return [key * 2 for key in keys]

    cached = region.cache_multi_on_arguments()(function)
    came = [cached(2, 1, 2), cached("b", "a"), cached(10, 9, 1), cached(), cached.get()]
    return came, asked, sorted(region.backend._cache)


@alike("the order of proxies")
def _proxies(package: Package) -> Any:
    log: list[Any] = []

    def proxy(name: str) -> Any:
        def init(self: Any, *args: Any) -> None:
            log.append(("made", name))

        def get(self: Any, key: str) -> Any:
            log.append(name)
            return self.proxied.get(key)

        return type(name, (package.proxy,), {"__init__": init, "get": get})

    region = package.region(wrap=[proxy("a"), proxy("b")()])
    region.get("x")
    region.wrap(proxy("c"))
    region.get("x")
    return log, type(region.actual_backend).__name__


@alike("a proxy's own key mangler is not asked")
def _proxied_mangler(package: Package) -> Any:
    proxy = type("Proxy", (package.proxy,), {"key_mangler": staticmethod(lambda key: "x" + key)})
    region = package.region(wrap=[proxy])
    region.set("a", 1)
    return sorted(region.actual_backend._cache)


@alike("what is no proxy")
def _no_proxy(package: Package) -> Any:
    package.region().wrap(object())


@alike("what a backend with a serialiser keeps")
def _stored(package: Package) -> Any:
    region = package.region(**package.json_options())
    region.set("a", {"x": 1})
    head, _, body = region.backend.get_serialized("a").partition(b"|")
    return json.loads(head), body


@alike("a deserialiser that gives up")
def _gives_up(package: Package) -> Any:
    def loads(data: bytes) -> Any:
        raise package.api.CantDeserializeException

    options = package.json_options() | {"deserializer": loads}
    region = package.region(**options)
    region.set("a", 1)
    return str(region.get("a")), region.get_or_create("a", lambda: 2), shown(region.get_multi("a"))


@alike("a creator that makes nothing")
def _nothing(package: Package) -> Any:
    region = package.region()
    made = region.get_or_create("a", lambda: package.api.NO_VALUE)
    return str(made), str(region.get("a")), region.get_value_metadata("a") is None


@alike("a creator of many that gives a generator")
def _generated(package: Package) -> Any:
    region = package.region()
    return region.get_or_create_multi(["a", "b"], lambda *keys: (key for key in keys))


@alike("keys that are no texts")
def _numbers(package: Package) -> Any:
    region = package.region()
    region.set(1, 2)
    return region.get(1), region.get_or_create(2, lambda: 5), region.get_multi([2, 1])


@alike("no key mangler")
def _no_mangler(package: Package) -> Any:
    region = package.region(key_mangler=False)
    region.set("a", 1)
    return region.key_mangler, region.get("a"), region.get_multi(["a"])


@alike("keys that come from a generator")
def _from_generator(package: Package) -> Any:
    region = package.region()
    region.set_multi({"a": 1, "b": 2})
    found = region.get_multi(key for key in "ab")
    region.delete_multi(key for key in "a")
    return found, shown(region.get_multi(iter("ab")))


@alike("a runner and what it is given")
def _runner(package: Package) -> Any:
    seen: list[Any] = []

    def runner(of: Any, key: str, creator: Any, mutex: Any) -> None:
        seen.extend((of is region, key, creator.__name__, mutex.locked()))
        of.set(key, creator())
        mutex.release()

    def creator(value: str) -> str:
        return value

    region = package.region(expiration_time=10, async_creation_runner=runner)
    region.set("a", "old")
    CLOCK.advance(11)
    came = region.get_or_create("a", creator, creator_args=(("new",), {}))
    return came, seen, region.get("a"), region.key_is_locked("a")


@alike("a runner that fails")
def _failing_runner(package: Package) -> Any:
    def runner(*args: Any) -> None:
        raise LookupError

    region = package.region(expiration_time=10, async_creation_runner=runner)
    region.set("a", "old")
    CLOCK.advance(11)
    try:
        region.get_or_create("a", lambda: 1)
    except LookupError:
        return region.key_is_locked("a")


@alike("settings")
def _settings(package: Package) -> Any:
    kept: dict[str, Any] = {}
    region = package.bare().configure_from_config(
        {
            "p.backend": "dogpile.cache.memory",
            "p.expiration_time": " 60 ",
            "p.arguments.cache_dict": kept,
            "p.replace_existing_backend": "false",
            "other": "x",
        },
        "p.",
    )
    region.set("a", 1)
    return region.expiration_time, region.is_configured, sorted(kept)


@alike("a configured region is not configured again")
def _twice(package: Package) -> Any:
    package.region().configure("dogpile.cache.memory")


@alike("a replaced backend")
def _replaced(package: Package) -> Any:
    region = package.region(expiration_time=5)
    region.configure("dogpile.cache.memory", replace_existing_backend=True)
    return region.expiration_time, region.is_configured


@alike("a backend that there is not")
def _unknown(package: Package) -> Any:
    package.bare().configure("dogpile.cache.nothing")


@alike("a region without a backend")
def _bare(package: Package) -> Any:
    region = package.bare()
    try:
        region.backend
    except Exception as error:
        return type(error).__name__, region.is_configured, region.name
    return None


@alike("an expiration time that is a text")
def _text(package: Package) -> Any:
    package.region(expiration_time="5")


@alike("an expiration time that is set later")
def _set_later(package: Package) -> Any:
    region = package.region()
    region.expiration_time = 5
    region.set("a", 1)
    CLOCK.advance(6)
    return str(region.get("a"))


@alike("a clock that is set back")
def _set_back(package: Package) -> Any:
    region = package.region(expiration_time=5)
    region.set("a", 1)
    CLOCK.step_wall(-100)
    return region.get("a"), region.get_or_create("a", lambda: 2)


# -- Where we differ -------------------------------------------------------------------


@differs(
    "never, for get()",
    "-1 means never to get_or_create, and so it does to get; theirs compares ages with it",
    [NO_VALUE, [NO_VALUE], None, 1],
    ["1", ["1"], 1, 1],
)
def _never(package: Package) -> Any:
    region = package.region()
    region.set("a", 1)
    metadata = region.get_value_metadata("a", -1)
    return [
        str(region.get("a", -1)),
        shown(region.get_multi(["a"], -1)),
        metadata and metadata.payload,
        region.get_or_create("a", lambda: 2, -1),
    ]


@differs(
    "soft, and for ever",
    "that it cannot be is told before the creator has run in vain, not after",
    ("DogpileCacheException", 1),
    ("DogpileCacheException", 0),
)
def _soft(package: Package) -> Any:
    region, made = package.region(), []
    region.invalidate(hard=False)
    CLOCK.advance(1)
    try:
        region.get_or_create("a", lambda: made.append(1))
    except Exception as error:
        return type(error).__name__, len(made)


@differs(
    "soft, and for ever, where nothing is kept",
    "nothing is there that could be invalid",
    "DogpileCacheException",
    1,
)
def _soft_null(package: Package) -> Any:
    region = package.region("null")
    region.invalidate(hard=False)
    return region.get_or_create("a", lambda: 1)


@differs(
    "whether to keep a value, where none is kept",
    "should_cache_fn is not asked",
    [1],
    [],
)
def _wanted_null(package: Package) -> Any:
    asked: list[int] = []
    package.region("null").get_or_create("a", lambda: 1, should_cache_fn=asked.append)
    return asked


@differs(
    "soft after hard",
    "what was as good as gone does not come back; theirs remembers the last invalidation only",
    ("old", True),
    ("new", False),
)
def _soft_after_hard(package: Package) -> Any:
    region = package.region(
        expiration_time=10, async_creation_runner=lambda of, key, creator, mutex: mutex.release()
    )
    region.set("a", "old")
    for hard in (True, False):
        CLOCK.advance(1)
        region.invalidate(hard=hard)
    CLOCK.advance(1)
    return region.get_or_create("a", lambda: "new"), region.get(
        "a", ignore_expiration=True
    ) == "old"


@differs(
    "the instant of an invalidation",
    "a value of the very time of an invalidation may be from before it",
    "1",
    NO_VALUE,
)
def _instant(package: Package) -> Any:
    region = package.region()
    region.set("a", 1)
    region.invalidate()
    return str(region.get("a"))


@differs(
    "an invalidation, and then the clock is set back",
    "what is made after an invalidation is valid",
    NO_VALUE,
    "1",
)
def _invalid_and_back(package: Package) -> Any:
    region = package.region(expiration_time=500)
    region.invalidate()
    CLOCK.step_wall(-100)
    region.set("a", 1)
    return str(region.get("a"))


def _while_it_is_made(change: Callable[[Any], Any]) -> Play:
    def play(package: Package) -> Any:
        region = package.region(expiration_time=10)

        def creator(*keys: str) -> Any:
            change(region)
            CLOCK.advance(1)
            return ["made" for _ in keys] or "made"

        came = [region.get_or_create("a", creator), str(region.get("a"))]
        region.delete("a")
        return came, [
            region.get_or_create_multi(["a", "b"], creator),
            shown(region.get_multi("ab")),
        ]

    return play


_MADE = (["made", "made"], [["made", "made"], ["made", "made"]])

for _name, _change, _ours in (
    ("deleted", lambda region: region.delete("a"), [NO_VALUE, "made"]),
    ("set", lambda region: region.set("a", "set"), ["set", "made"]),
    ("invalidated", lambda region: region.invalidate(), [NO_VALUE, NO_VALUE]),
    ("invalidated softly", lambda region: region.invalidate(False), [NO_VALUE, NO_VALUE]),
):
    differs(
        f"{_name} while it is made",
        "what the creator read may be from before, and must not be kept after",
        _MADE,
        (["made", _ours[0]], [["made", "made"], _ours]),
    )(_while_it_is_made(_change))


@differs(
    "get() of a function with a life of its own",
    "get() has the expiration time that the call has, not the region's",
    NO_VALUE,
    "1",
)
def _own_life(package: Package) -> Any:
    function = decorated(package.region(expiration_time=1), expiration_time=100)
    function(1)
    CLOCK.advance(50)
    return str(function.get(1, 2))


@differs(
    "get() of a function of many keys with a life of its own",
    "as above",
    ["1"],
    [NO_VALUE],
)
def _own_life_of_many(package: Package) -> Any:
    region = package.region()
    function = region.cache_multi_on_arguments(expiration_time=1)(lambda *keys: keys)
    function(1)
    CLOCK.advance(50)
    return shown(function.get(1))


@differs(
    "spellings of what hangs on a function",
    "get, set, refresh and invalidate mean the call, in any spelling; theirs make another key of "
    "a call with a default left out",
    [NO_VALUE, 2, 1, 1, 1],
    ["1", 2, 2, 9, 3],
)
def _spellings(package: Package) -> Any:
    function = decorated(package.region())
    function(1)
    came = [str(function.get(1)), function.refresh(1), function(1)]
    function.set(9, 1)
    came.append(function(1))
    function.invalidate(1)
    return [*came, function(1)]


@differs(
    "keywords for what hangs on a function",
    "as above",
    "ValueError",
    "1",
)
def _keywords(package: Package) -> Any:
    function = decorated(package.region())
    function(a=1, b=2)
    return str(function.get(b=2, a=1))


@differs(
    "defaults of keyword-only parameters",
    "as above",
    NO_VALUE,
    "1",
)
def _keyword_only(package: Package) -> Any:
    region = package.region(function_key_generator=package.util.kwarg_function_key_generator)

    def function(a: int, *, b: int = 2) -> int:
        return a

    cached = decorated(region, function)
    cached(1)
    return str(cached.get(1))


@differs(
    "more arguments than kwarg_function_key_generator has names for",
    "told, with what to do, in place of an accident",
    "IndexError",
    "ValueError",
)
def _no_names(package: Package) -> Any:
    region = package.region(function_key_generator=package.util.kwarg_function_key_generator)
    return decorated(region, lambda *args: 1)(1)


@differs(
    "keywords for a function of many keys",
    "the error of the key generator, which tells what to do",
    "TypeError",
    "ValueError",
)
def _many_keywords(package: Package) -> Any:
    return package.region().cache_multi_on_arguments()(lambda *keys: keys)(a=1)


@differs(
    "refresh() of what a function leaves out",
    "the call may leave keys out, and so may this",
    "KeyError",
    {1: 2},
)
def _left_out(package: Package) -> Any:
    def function(*keys: int) -> dict[int, int]:
        return {key: key * 2 for key in keys if key != 3}

    return package.region().cache_multi_on_arguments(asdict=True)(function).refresh(1, 3)


@differs(
    "a method of many keys",
    "theirs takes the object for the first key",
    (["2", NO_VALUE], 1),
    (["2", "4"], 2),
)
def _many_of_method(package: Package) -> Any:
    region = package.region()

    def method(self: Any, *keys: int) -> list[int]:
        return [key * 2 for key in keys]

    owner = type("Owner", (), {"method": region.cache_multi_on_arguments()(method)})()
    return shown(owner.method(1, 2)), len(region.backend._cache)


@differs(
    "too few values",
    "a creator that is out of step is told, not guessed at",
    ["1", NO_VALUE],
    "DogpileCacheException",
)
def _too_few(package: Package) -> Any:
    return shown(package.region().get_or_create_multi(["a", "b"], lambda *keys: [1]))


@differs(
    "too many values",
    "as above",
    [1, 2],
    "DogpileCacheException",
)
def _too_many(package: Package) -> Any:
    return package.region().get_or_create_multi(["a", "b"], lambda *keys: [1, 2, 3])


@differs(
    "keys for get_or_create_multi from a generator",
    "theirs reads it twice",
    [],
    ["a", "b"],
)
def _generator_of_keys(package: Package) -> Any:
    return package.region().get_or_create_multi(iter("ab"), lambda *keys: keys)


@differs(
    "keys without an order",
    "there is none needed",
    "TypeError",
    ["a", 1],
)
def _no_order(package: Package) -> Any:
    return package.region().get_or_create_multi(["a", 1], lambda *keys: keys)


@differs(
    "key_is_locked with a key mangler",
    "it means the key that is locked",
    [False],
    [True],
)
def _locked(package: Package) -> Any:
    region, seen = package.region(key_mangler=lambda key: "x" + key), []
    region.get_or_create("a", lambda: seen.append(region.key_is_locked("a")))
    return seen


def _failing(package: Package, *names: str) -> Any:
    def fails(self: Any, *args: Any) -> Any:
        raise OSError

    return package.region(wrap=[type("Failing", (package.proxy,), dict.fromkeys(names, fails))])


@differs("a backend that fails to read", "the cache never breaks the call", "OSError", 1)
def _fails_to_read(package: Package) -> Any:
    return _failing(package, "get").get_or_create("a", lambda: 1)


@differs("a backend that fails to write", "as above", "OSError", 1)
def _fails_to_write(package: Package) -> Any:
    return _failing(package, "set").get_or_create("a", lambda: 1)


@differs("a backend that fails to delete", "as above", "OSError", None)
def _fails_to_delete(package: Package) -> Any:
    return _failing(package, "delete").delete("a")


@differs("bytes that no region wrote", "as above", "JSONDecodeError", NO_VALUE)
def _garbage(package: Package) -> Any:
    region = package.region(**package.json_options())
    region.backend.set_serialized("a", b"garbage")
    return str(region.get("a"))


@differs("a value that the serialiser refuses", "as above", "TypeError", 1j)
def _unserializable(package: Package) -> Any:
    return package.region(**package.json_options()).get_or_create("a", lambda: 1j)


@differs(
    "a fraction of a second as a timedelta",
    "it is not cut off",
    NO_VALUE,
    "1",
)
def _fraction(package: Package) -> Any:
    region = package.region(expiration_time=datetime.timedelta(seconds=1.5))
    region.set("a", 1)
    CLOCK.advance(1.25)
    return str(region.get("a"))


def _given_time(expiration_time: Any) -> Play:
    return lambda package: package.region(expiration_time=expiration_time) is None


for _time in (True, float("nan"), ""):
    differs(f"an expiration time of {_time!r}", "it is no time", False, "ValidationError")(
        _given_time(_time)
    )


@differs(
    "actual_backend of a region whose backend was replaced",
    "it is the backend; theirs remembers the first one",
    "MemoryBackend",
    "NullBackend",
)
def _actual(package: Package) -> Any:
    region = package.region()
    assert type(region.actual_backend).__name__ == "MemoryBackend"
    region.configure("dogpile.cache.null", replace_existing_backend=True)
    return type(region.actual_backend).__name__


@differs(
    "settings without a backend",
    "the key is told",
    "KeyError",
    "ValidationError",
)
def _no_backend(package: Package) -> Any:
    package.bare().configure_from_config({"p.expiration_time": 5}, "p.")


@differs(
    "a region without a backend that is asked for nothing",
    "told early, not with the first key",
    ([], None),
    "RegionNotConfigured",
)
def _bare_nothing(package: Package) -> Any:
    region = package.bare()
    return region.get_multi([]), region.set_multi({})
