"""How a region gets its backend, and what it is made of then."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

from tiered.clients.base import CacheClient
from tiered.clock import SYSTEM_CLOCK
from tiered.concurrency.pool import default_pool
from tiered.region.api import (
    BackendArguments,
    CacheBackend,
    Deserializer,
    KeyManglerType,
    KeyType,
    Serializer,
)
from tiered.region.backends.clients import ClientBackend
from tiered.region.config import configuration
from tiered.region.core import RegionCore
from tiered.region.exact import FunctionNames
from tiered.region.exception import (
    RegionAlreadyConfigured,
    RegionNotConfigured,
    ValidationError,
)
from tiered.region.freshness import ExpirationTime, patience_of
from tiered.region.functions import FunctionKeyGenerator
from tiered.region.invalidation import (
    DefaultInvalidationStrategy,
    RegionInvalidationStrategy,
    SharedInvalidationStrategy,
)
from tiered.region.keys import function_key_generator as default_key_generator
from tiered.region.keys import function_multi_key_generator as default_multi_key_generator
from tiered.region.making import made_backend
from tiered.region.multifunctions import FunctionMultiKeyGenerator
from tiered.region.near import attach, follow, near_nothing
from tiered.region.proxy import ProxyBackend
from tiered.steps.counting import CallCounters
from tiered.typing import Clock

__all__ = ["AsyncCreationRunner", "ConfiguredRegion"]

AsyncCreationRunner = Callable[[Any, KeyType, Callable[[], Any], Any], object]
"""``runner(region, key, creator, mutex)``: sees to a new value, some time, and then releases
the mutex; until then callers get the old one."""


class ConfiguredRegion:
    """A region's options and parts; see :class:`tiered.region.region.CacheRegion`.

    Attributes:
        near: what the calls of decorated functions read.
        function_names: what the keys of its functions begin with, where they are exact.
    """

    def __init__(
        self,
        name: str | None = None,
        function_key_generator: FunctionKeyGenerator = default_key_generator,
        function_multi_key_generator: FunctionMultiKeyGenerator = default_multi_key_generator,
        key_mangler: KeyManglerType | bool | None = None,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        async_creation_runner: AsyncCreationRunner | None = None,
        *,
        stale_if_error: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.function_key_generator = function_key_generator
        self.function_multi_key_generator = function_multi_key_generator
        self.async_creation_runner = async_creation_runner
        self.stale_if_error = stale_if_error
        self.near: Final = near_nothing()
        self.function_names: Final = FunctionNames()
        self._user_defined_key_mangler = key_mangler
        self._user_defined_serializer = serializer
        self._user_defined_deserializer = deserializer
        self._clock = clock
        self._core: RegionCore | None = None
        self._expiration_time: ExpirationTime = None
        self._counters = CallCounters()
        self._hit_counts: dict[weakref.ref[Any], Callable[[], int]] = {}
        self._past_hits = 0  # of functions that are gone
        self._invalidator: RegionInvalidationStrategy = DefaultInvalidationStrategy(
            clock or SYSTEM_CLOCK
        )
        self._own_invalidator = False
        self._early: list[bool] = []  # invalidations before there was a backend

    # -- Configuration -----------------------------------------------------------

    def configure(
        self,
        backend: str | CacheBackend | CacheClient | Sequence[CacheClient],
        expiration_time: ExpirationTime = None,
        arguments: BackendArguments | None = None,
        _config_argument_dict: Mapping[str, Any] | None = None,
        _config_prefix: str | None = None,
        wrap: ProxyBackend | type[ProxyBackend] | Sequence[ProxyBackend | type[ProxyBackend]] = (),
        replace_existing_backend: bool = False,
        region_invalidator: RegionInvalidationStrategy | None = None,
    ) -> Self:
        """Give the region its backend; returns the region.

        Args:
            backend: the name of one; a client of this package, or a list of clients that are
                to be tiers, the nearest first; or a backend itself.
            expiration_time: seconds, or a ``timedelta``, after which a value is made anew;
                ``None`` or -1 for never.
            arguments: of the backend.
            wrap: proxies around it, the outermost first; classes or objects.
            replace_existing_backend: configure a region that is configured.
            region_invalidator: what :meth:`invalidate` means.

        Raises:
            RegionAlreadyConfigured: it has a backend.
            PluginNotFound: no backend has that name.
            ValidationError: an argument that cannot be right.
        """
        if self._core is not None and not replace_existing_backend:
            raise RegionAlreadyConfigured(
                f"the region {self.name or ''!r} has a backend already, {self._core.backend!r}; "
                f"give replace_existing_backend=True to replace it"
            )
        patience = patience_of(expiration_time)
        actual = made_backend(backend, arguments, _config_argument_dict, _config_prefix)
        if isinstance(actual, ClientBackend):
            actual.check_deserializer(self._user_defined_deserializer)
        outermost = actual
        given = [wrap] if isinstance(wrap, type) or hasattr(wrap, "wrap") else list(wrap or ())
        for proxy in reversed(given):
            outermost = _wrapped(proxy, outermost)
        if region_invalidator is not None:
            self._invalidator, self._own_invalidator = region_invalidator, True
        elif not self._own_invalidator:
            self._invalidator = self._invalidator_for(actual)
        self._attach(outermost, actual)
        self._expiration_time = expiration_time
        self.near.patience = patience
        early, self._early = self._early, []
        for hard in early:
            self._invalidator.invalidate(hard)
        return self

    def invalidate(self, hard: bool = True) -> None:
        """Make invalid all that the region has made so far.

        On a shared backend it is so in all processes, for regions of the same name.

        Args:
            hard: the values are as good as gone. Otherwise they are out of date: served to all
                but the one who makes each anew; that needs an ``expiration_time``.
        """
        if self._core is None:
            self._early.append(bool(hard))
        else:
            self._core.invalidate(hard)

    def configure_from_config(self, config_dict: Mapping[str, Any], prefix: str) -> Self:
        """:meth:`configure` from settings: ``<prefix>backend``, ``<prefix>expiration_time``,
        ``<prefix>arguments.<name>``, ``<prefix>wrap``, ``<prefix>replace_existing_backend`` and
        ``<prefix>stale_if_error``.

        Texts are read as numbers, ``true``, ``false`` and ``None`` where they look so.

        Raises:
            ValidationError: there is no ``<prefix>backend``; and as of :meth:`configure`.
        """
        settings = configuration(config_dict, prefix)
        options = dict(settings.options)
        rescues = options.pop("stale_if_error", self.stale_if_error)
        if options:
            # Not refused: a program may keep settings of its own there.
            logging.getLogger("tiered.region").warning(
                "the settings %s mean nothing to a region",
                ", ".join(repr(f"{prefix}{name}") for name in sorted(options)),
            )
        if not isinstance(rescues, bool):
            raise ValidationError(f"{prefix}stale_if_error must be true or false, not {rescues!r}")
        self.stale_if_error = rescues
        return self.configure(
            settings.backend,
            expiration_time=settings.expiration_time,
            _config_argument_dict=config_dict,
            _config_prefix=f"{prefix}arguments.",
            wrap=settings.wrap,
            replace_existing_backend=settings.replace_existing_backend,
        )

    def wrap(self, proxy: ProxyBackend | type[ProxyBackend]) -> None:
        """Put *proxy*, an object or a class, around the backend.

        Raises:
            TypeError: it is no :class:`ProxyBackend`.
        """
        core = self.core
        self._attach(_wrapped(proxy, core.backend), self.actual_backend)

    def _attach(self, backend: CacheBackend, actual: CacheBackend) -> None:
        """Use *backend*, around *actual*, from now on."""
        previous, clock = self._core, self._clock_for(actual)
        self._core = core = RegionCore(
            backend,
            actual,
            serializer=self._user_defined_serializer,
            deserializer=self._user_defined_deserializer,
            strategy=self._invalidator,
            clock=clock,
            pool=default_pool(),
            counters=self._counters,
            name=self.name or "a region",
        )
        if self._user_defined_key_mangler is None:
            self.near.mangle = actual.key_mangler
        else:
            self.near.mangle = _mangler(self._user_defined_key_mangler)
        # What a proxy or a serialiser would see must not pass them by.
        plain = backend is actual and core.keeping.keeps_as_it_is
        attach(self.near, actual if plain else None, clock)
        follow(self.near, self._invalidator)
        if previous is not None:
            previous.flights.supersede_all()

    def _clock_for(self, actual: CacheBackend) -> Clock:
        clock: Clock = self._clock or getattr(actual, "clock", None) or SYSTEM_CLOCK
        return clock

    def _invalidator_for(self, actual: CacheBackend) -> RegionInvalidationStrategy:
        if isinstance(actual, ClientBackend) and actual.capabilities.shared:
            return SharedInvalidationStrategy.of(
                self.name or "", actual.client, recheck=actual.recheck
            )
        clock, known = self._clock_for(actual), self._invalidator
        if isinstance(known, DefaultInvalidationStrategy) and known.clock is clock:
            return known  # the values may be where they were, and are as invalid as they were
        return DefaultInvalidationStrategy(clock)

    @property
    def core(self) -> RegionCore:
        """The parts of the region. Raises ``RegionNotConfigured`` before there are any."""
        if self._core is None:
            raise RegionNotConfigured(
                f"the region {self.name or ''!r} has no backend yet; call configure() first, "
                f"for example region.configure('memory')"
            )
        return self._core

    @property
    def is_configured(self) -> bool:
        """Whether it has a backend."""
        return self._core is not None

    @property
    def backend(self) -> CacheBackend:
        """The backend, with all proxies around it.

        Raises:
            RegionNotConfigured: there is none yet.
        """
        return self.core.backend

    @property
    def actual_backend(self) -> CacheBackend:
        """The backend inside all proxies.

        Raises:
            RegionNotConfigured: there is none yet.
        """
        backend = self.backend
        while hasattr(backend, "proxied"):
            backend = backend.proxied
        return backend

    @property
    def expiration_time(self) -> ExpirationTime:
        """As given to :meth:`configure`; may be set."""
        return self._expiration_time

    @expiration_time.setter
    def expiration_time(self, expiration_time: ExpirationTime) -> None:
        self.near.patience = patience_of(expiration_time)
        self._expiration_time = expiration_time

    @property
    def key_mangler(self) -> KeyManglerType | None:
        """From every key to the one that the backend gets; may be set."""
        return self.near.mangle

    @key_mangler.setter
    def key_mangler(self, mangler: KeyManglerType | bool | None) -> None:
        self._user_defined_key_mangler = mangler
        self.near.mangle = _mangler(mangler)

    @property
    def serializer(self) -> Serializer | None:
        """From payloads to the bytes that the backend keeps."""
        own = self._user_defined_serializer
        return own or (self.actual_backend.serializer if self._core else None)

    @property
    def deserializer(self) -> Deserializer | None:
        """Undoes :attr:`serializer`."""
        own = self._user_defined_deserializer
        return own or (self.actual_backend.deserializer if self._core else None)

    @property
    def region_invalidator(self) -> RegionInvalidationStrategy:
        """What :meth:`invalidate` means; may be set."""
        return self._invalidator

    @region_invalidator.setter
    def region_invalidator(self, strategy: RegionInvalidationStrategy) -> None:
        self._invalidator, self._own_invalidator = strategy, True
        if self._core is not None:
            self._core.follow(strategy)
            follow(self.near, strategy)


def _wrapped(proxy: Any, backend: CacheBackend) -> CacheBackend:
    made: Any = proxy() if isinstance(proxy, type) else proxy
    if isinstance(made, ProxyBackend):
        return made.wrap(backend)
    if not all(callable(getattr(made, name, None)) for name in ("wrap", "get", "set", "delete")):
        raise TypeError(f"{proxy!r} is no ProxyBackend: derive it from tiered.region.ProxyBackend")
    # One that was written for dogpile.cache, whose own wrap() takes no backends but its own.
    made.proxied = backend
    outermost: CacheBackend = made
    return outermost


def _mangler(mangler: Any) -> KeyManglerType | None:
    if mangler is None or mangler is False:
        return None
    if not callable(mangler):
        raise ValidationError(
            f"key_mangler must be a function from a key to a key, None for the backend's own or "
            f"False for none, not {mangler!r}"
        )
    made: KeyManglerType = mangler
    return made
