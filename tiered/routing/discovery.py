"""How a client finds out which servers there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from tiered.errors import DiscoveryError
from tiered.routing.addresses import Address, parse_addresses
from tiered.sentinels import FOREVER
from tiered.validation import check_count, check_number

__all__ = ["CallableDiscovery", "Discovery", "FallbackDiscovery", "Found", "StaticDiscovery"]


class Found(NamedTuple):
    """The servers that there are.

    Attributes:
        addresses: each server once; their order has no meaning.
        ttl: seconds for which the answer is good; may be ``FOREVER``.
        weights: the share of each server, 1 or more, in the order of the addresses;
            ``None`` where all are equal.
    """

    addresses: tuple[Address, ...]
    ttl: float
    weights: tuple[int, ...] | None = None


class Discovery(Protocol):
    """What can tell which servers there are."""

    def find(self) -> Found:
        """The servers of this moment. May block; is called in one thread at a time.

        Raises:
            DiscoveryError: it cannot be told.
        """
        ...


class StaticDiscovery:
    """Servers that never change.

    Args:
        addresses: as :func:`parse_addresses` takes them, and refuses them.
        weights: the share of each; equal by default.
    """

    def __init__(self, addresses: Any, weights: Sequence[int] | None = None) -> None:
        parsed = parse_addresses(addresses)
        self._found = Found(parsed, FOREVER, _checked_weights(weights, len(parsed)))

    def find(self) -> Found:
        """The same servers each time."""
        return self._found

    def __repr__(self) -> str:
        return f"StaticDiscovery({[str(address) for address in self._found.addresses]!r})"


def _checked_weights(weights: Any, servers: int) -> tuple[int, ...] | None:
    if weights is None:
        return None
    if not isinstance(weights, Sequence) or isinstance(weights, str | bytes):
        raise TypeError(f"weights must be a list of whole numbers, not {weights!r}")
    if len(weights) != servers:
        raise ValueError(f"weights must hold {servers} numbers, one a server, not {weights!r}")
    for place, weight in enumerate(weights):
        check_count(f"weights[{place}]", weight, low=1)
    return tuple(weights)


class CallableDiscovery:
    """Servers that a function of the user's tells.

    Args:
        function: gives addresses as users write them. It must not read through the
            client whose servers it tells.
        every: seconds for which its answer is good.
    """

    def __init__(self, function: Callable[[], Iterable[Any]], every: float = 30.0) -> None:
        if not callable(function):
            raise TypeError(f"function must be callable, not {function!r}")
        self._function = function
        self._every = check_number("every", every, low=0, hint="0 seconds or more")

    def find(self) -> Found:
        """What the function says now.

        Raises:
            DiscoveryError: it raised something, or what it returned are no addresses.
        """
        try:
            return Found(parse_addresses(self._function()), self._every)
        except DiscoveryError:
            raise
        except Exception as error:  # whatever strangers raise
            raise DiscoveryError(f"{self!r} failed: {type(error).__name__}: {error}") from error

    def __repr__(self) -> str:
        name = getattr(self._function, "__qualname__", None) or repr(self._function)
        return f"CallableDiscovery({name}, every={self._every:g})"


class FallbackDiscovery:
    """Another discovery, and servers to use for as long as it has never found any.

    Args:
        discovery: is asked each time.
        addresses: the servers until it answers; what it found once is not replaced by them.
        every: seconds after which it is asked again, meanwhile.
    """

    def __init__(
        self, discovery: Discovery, addresses: tuple[Address, ...], every: float = 5.0
    ) -> None:
        self._discovery = discovery
        self._fallback = Found(addresses, check_number("every", every, low=0, hint="0 or more"))
        self._has_answered = False

    def find(self) -> Found:
        """What the other one finds.

        Raises:
            DiscoveryError: it fails, and has not always done so.
        """
        try:
            found = self._discovery.find()
        except DiscoveryError:
            if self._has_answered:
                raise
            return self._fallback
        self._has_answered = True
        return found

    def __repr__(self) -> str:
        return f"FallbackDiscovery({self._discovery!r})"
