"""From what ``configure()`` is given for a backend, to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiered.clients.base import CacheClient
from tiered.region.api import BackendArguments, CacheBackend
from tiered.region.arguments import check_arguments
from tiered.region.backends.clients import ClientBackend, TieredBackend
from tiered.region.config import coerce_string_conf
from tiered.region.exception import ValidationError
from tiered.region.loading import load_backend

__all__ = ["made_backend"]

_COMPATIBLE = "dogpile.cache."


def made_backend(
    backend: Any,
    arguments: BackendArguments | None,
    config: Mapping[str, Any] | None,
    prefix: str | None,
) -> CacheBackend:
    """The backend that *backend* names, or is.

    Args:
        backend: a name, a client, a list of clients, or a backend.
        arguments: for it.
        config, prefix: the same as settings, whose texts are read as numbers and so on unless
            the backend's class has the argument's name in its set ``arguments_text``; they
            come before *arguments*.

    Raises:
        PluginNotFound: no backend has that name.
        ValidationError: an argument that cannot be right.
    """
    if isinstance(backend, str):
        return _loaded(backend, arguments, config, prefix)
    given = dict(arguments or {})
    if config:
        given |= _arguments(coerce_string_conf(config), prefix or "")
    if isinstance(backend, CacheClient):
        return _of_ours(ClientBackend, {**given, "client": backend})
    if isinstance(backend, Sequence):
        return _of_ours(TieredBackend, {**given, "clients": backend})
    if all(callable(getattr(backend, name, None)) for name in ("get", "set", "delete")) and not (
        isinstance(backend, type)
    ):
        if given:
            raise ValidationError(
                f"{backend!r} is made already: it cannot be given the arguments {sorted(given)}"
            )
        made: CacheBackend = backend
        return made
    raise ValidationError(
        f"backend must be the name of a backend, a client of tiered, a list of clients or a "
        f"backend object, not {backend!r}"
    )


def _of_ours(cls: type[ClientBackend], arguments: dict[str, Any]) -> CacheBackend:
    check_arguments(cls, arguments, lenient=False)
    return cls(arguments)


def _loaded(
    name: str,
    arguments: BackendArguments | None,
    config: Mapping[str, Any] | None,
    prefix: str | None,
) -> CacheBackend:
    cls = load_backend(name)
    lenient = name.startswith(_COMPATIBLE)
    made: CacheBackend
    if config:
        start = prefix or ""
        read = _read(config, start, getattr(cls, "arguments_text", frozenset()))
        check_arguments(cls, _arguments(read, start), lenient=lenient)
        made = cls.from_config_dict(read, start)
    else:
        check_arguments(cls, arguments or {}, lenient=lenient)
        made = cls({} if arguments is None else arguments)
    return made


def _read(config: Mapping[str, Any], prefix: str, texts: frozenset[str]) -> dict[str, Any]:
    """*config* with its texts read, but for those that stay texts, such as a secret of digits."""
    read = coerce_string_conf(config)
    for name in texts:
        told = config.get(prefix + name)
        if isinstance(told, str) and read[prefix + name] is not None:
            read[prefix + name] = told.strip()
    return read


def _arguments(config: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value
        for name, value in config.items()
        if name.startswith(prefix)
    }
