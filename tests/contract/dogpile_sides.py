"""A region of dogpile.cache and one of ours, driven by the same steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tiered import region as ours
from tiered.region import util as our_util
from tiered.testing import ManualClock

__all__ = ["CLOCK", "KEYS", "Package", "Setting", "Side", "is_even", "refuses"]

CLOCK = ManualClock()
KEYS = ["a", "b", "c d"]


class Failed(Exception):
    """Of a creator, or of what says whether a value is to be kept."""


def is_even(value: Any) -> bool:
    """Whether a created value is one to keep."""
    return bool(value[-1] % 2 == 0) if isinstance(value, list) else True


def refuses(value: Any) -> bool:
    """Fails when it is asked."""
    raise Failed(value)


class Package(NamedTuple):
    """Where the names of one side come from."""

    cache: Any
    api: Any
    util: Any
    proxy: Any

    @classmethod
    def ours(cls) -> Package:
        return cls(ours, ours, our_util, ours.ProxyBackend)

    @classmethod
    def theirs(cls) -> Package:
        from dogpile import cache
        from dogpile.cache import api, util
        from dogpile.cache.proxy import ProxyBackend

        return cls(cache, api, util, ProxyBackend)

    def region(self, backend: str = "memory", expiration_time: Any = None, **options: Any) -> Any:
        """A region on *backend*; *options* are those of ``make_region``, and ``wrap``."""
        wrap = options.pop("wrap", ())
        return self.bare(**options).configure(
            f"dogpile.cache.{backend}", expiration_time=expiration_time, wrap=wrap
        )

    def bare(self, **options: Any) -> Any:
        """A region that is not configured."""
        if self.cache is ours:
            options["clock"] = CLOCK
        return self.cache.make_region(**options)

    def json_options(self) -> dict[str, Any]:
        return {"serializer": lambda value: json.dumps(value).encode(), "deserializer": json.loads}


class Setting(NamedTuple):
    """How the regions of both sides are made."""

    backend: str = "memory"
    expiration_time: float | None = None
    mangled: bool = False
    as_json: bool = False
    keywords: bool = False
    wrapped: bool = False
    runner: bool = False


class Side:
    """One of the two regions, with decorated functions; each step is one method."""

    def __init__(self, package: Package, setting: Setting) -> None:
        self.package = package
        self.setting = setting
        self.made = 0
        self.fails = False
        self.jobs: list[Callable[[], None]] = []
        util = package.util
        self.region = package.region(
            setting.backend,
            setting.expiration_time,
            key_mangler=util.sha1_mangle_key if setting.mangled else None,
            function_key_generator=(
                util.kwarg_function_key_generator
                if setting.keywords
                else util.function_key_generator
            ),
            async_creation_runner=self._runner if setting.runner else None,
            wrap=[package.proxy] if setting.wrapped else [],
            **(package.json_options() if setting.as_json else {}),
        )
        self.functions = {
            "plain": self._function("plain"),
            "short": self._function("short", expiration_time=2.0),
            "even": self._function("even", should_cache_fn=is_even),
            "asked": self._function("asked", expiration_time=lambda: 3.0),
        }
        self.many = {
            "plain": self._many("plain", asdict=False),
            "short": self._many("short", asdict=False, expiration_time=2.0),
            "even": self._many("even", asdict=True, should_cache_fn=is_even),
        }
        self.owner = self._owner()

    def do(self, name: str, *args: Any) -> Any:
        """What came of a step, and how many values were made so far."""
        try:
            came: Any = getattr(self, name)(*args)
        except Exception as error:
            came = type(error).__name__
        finally:
            self.fails = False
        # What the runner of the region was handed; nobody waits for it.
        for job in self.jobs:
            job()
        self.jobs.clear()
        return self._told(came), self.made

    def _told(self, came: Any) -> Any:
        if came is self.package.api.NO_VALUE:
            return "NO_VALUE"
        if isinstance(came, (list, tuple)):
            return [self._told(part) for part in came]
        if isinstance(came, dict):
            return {name: self._told(part) for name, part in came.items()}
        return came

    def _create(self, what: Any) -> list[Any]:
        self.made += 1
        if self.fails:
            raise Failed(what)
        return [what, self.made]

    def _runner(self, region: Any, key: str, creator: Callable[[], Any], mutex: Any) -> None:
        def job() -> None:
            try:
                region.set(key, creator())
            except Failed:
                pass
            finally:
                mutex.release()

        self.jobs.append(job)

    def _function(self, name: str, **options: Any) -> Any:
        def function(a: Any, b: Any = 2) -> Any:
            return self._create([a, b])

        return self.region.cache_on_arguments(namespace=name, **options)(function)

    def _many(self, name: str, asdict: bool, **options: Any) -> Any:
        def function(*keys: Any) -> Any:
            if asdict:  # without the last one
                return {key: self._create(key) for key in keys if key != KEYS[-1]}
            return [self._create(key) for key in keys]

        return self.region.cache_multi_on_arguments(namespace=name, asdict=asdict, **options)(
            function
        )

    def _owner(self) -> Any:
        side = self

        def method(self: Any, a: Any, b: Any = 2) -> Any:
            return side._create([a, b])

        cached = self.region.cache_on_arguments(namespace="owner")(method)
        return type("Owner", (), {"method": cached})()

    # -- Steps -------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Done for both at once."""

    def get(self, key: str, expiration_time: Any, ignore: bool) -> Any:
        return self.region.get(key, expiration_time, ignore)

    def get_multi(self, keys: list[str], expiration_time: Any, ignore: bool) -> Any:
        return self.region.get_multi(keys, expiration_time, ignore)

    def metadata(self, key: str, expiration_time: Any, ignore: bool) -> Any:
        found = self.region.get_value_metadata(key, expiration_time, ignore)
        return found and (found.payload, dict(found.metadata), found.cached_time)

    def set(self, key: str, value: Any) -> Any:
        return self.region.set(key, value)

    def set_multi(self, mapping: dict[str, Any]) -> Any:
        return self.region.set_multi(mapping)

    def delete(self, key: str) -> Any:
        return self.region.delete(key)

    def delete_multi(self, keys: list[str]) -> Any:
        return self.region.delete_multi(keys)

    def invalidate(self, hard: bool) -> Any:
        return self.region.invalidate(hard)

    def invalidated(self, age: float) -> Any:
        strategy, made = self.region.region_invalidator, CLOCK.wall() - age
        return (
            strategy.was_hard_invalidated(),
            strategy.was_soft_invalidated(),
            strategy.is_invalidated(made),
        )

    def plant(self, key: str, age: float, version: int) -> None:
        """A value as another program may have left it."""
        region = self.region
        metadata = {"ct": CLOCK.wall() - age, "v": version}
        name = region.key_mangler(key) if region.key_mangler else key
        if region.serializer is None:
            region.backend.set(name, self.package.api.CachedValue("planted", metadata))
        else:
            text = json.dumps(metadata).encode() + b"|" + region.serializer("planted")
            region.backend.set_serialized(name, text)

    def get_or_create(
        self, key: str, expiration_time: Any, wanted: Any, given: bool, fails: bool
    ) -> Any:
        locked: list[Any] = []

        def creator(*args: Any, **kwargs: Any) -> Any:
            locked.append(self.is_locked(key))
            return self._create([key, list(args), kwargs])

        self.fails = fails
        arguments = ((1, 2), {"x": 3}) if given else None
        came = self.region.get_or_create(key, creator, expiration_time, wanted, arguments)
        return came, locked, self.is_locked(key)

    def nested(self, key: str, inner: str, expiration_time: Any) -> Any:
        """A creator that has another key made, which looks for the first one."""

        def create_inner() -> Any:
            return self._create([inner, self._told(self.region.get(key))])

        def creator() -> Any:
            return self._create(self.region.get_or_create(inner, create_inner, expiration_time))

        return self.region.get_or_create(key, creator, expiration_time)

    def get_or_create_multi(
        self, keys: list[str], expiration_time: Any, wanted: Any, fails: bool
    ) -> Any:
        asked: list[Any] = []

        def creator(*missing: str) -> list[Any]:
            asked.append(list(missing))
            return [self._create(key) for key in missing]

        self.fails = fails
        return asked, self.region.get_or_create_multi(keys, creator, expiration_time, wanted)

    def call(self, name: str, args: list[Any], kwargs: dict[str, Any], fails: bool) -> Any:
        self.fails = fails
        return self.functions[name](*args, **kwargs)

    def hanging(self, name: str, what: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        before = ["set"] if what == "set" else []
        return getattr(self.functions[name], what)(*before, *args, **kwargs)

    def call_method(self, args: list[Any]) -> Any:
        return self.owner.method(*args)

    def hanging_method(self, what: str, args: list[Any]) -> Any:
        before = ["set"] if what == "set" else []
        return getattr(self.owner.method, what)(*before, self.owner, *args)

    def call_many(self, name: str, keys: list[str], fails: bool) -> Any:
        self.fails = fails
        return self.many[name](*keys)

    def hanging_many(self, name: str, what: str, keys: list[str]) -> Any:
        function = self.many[name]
        if what == "set":
            return function.set({key: ["set", key] for key in keys})
        return getattr(function, what)(*keys)

    def is_locked(self, key: str) -> Any:
        # DIFFERENCES: "key_is_locked with a key mangler"
        return self.setting.mangled or self.region.key_is_locked(key)
