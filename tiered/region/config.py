"""A region's configuration as a program's settings have it: flat, under a prefix, and in texts."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tiered.region.exception import ValidationError

__all__ = ["RegionConfiguration", "coerce_string_conf", "configuration"]

_INT: Final = re.compile(r"[-+]?\d+")
_FLOAT: Final = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_WORDS: Final = {"true": True, "false": False}
_KNOWN: Final = ("backend", "expiration_time", "wrap", "replace_existing_backend")


class RegionConfiguration(NamedTuple):
    """What a configuration says of one region.

    Attributes:
        backend: the name of the backend, or what else the settings hold for it.
        expiration_time: seconds, a ``timedelta``, or ``None`` for no end.
        arguments: of the backend, by their names.
        wrap: proxies, the outermost first.
        replace_existing_backend: whether the region may have a backend already.
        options: all else that stands under the prefix with a plain name.
    """

    backend: Any
    expiration_time: Any
    arguments: dict[str, Any]
    wrap: tuple[Any, ...]
    replace_existing_backend: bool
    options: dict[str, Any]


def coerce_string_conf(conf: Mapping[str, Any]) -> dict[str, Any]:
    """*conf* with the texts in it read: numbers, ``true``, ``false`` and ``None``.

    Other texts lose the space around them; what is no text stays as it is.
    """
    return {
        name: _read(value.strip()) if isinstance(value, str) else value
        for name, value in conf.items()
    }


def configuration(config_dict: Mapping[str, Any], prefix: str) -> RegionConfiguration:
    """What *config_dict* says under *prefix*, with its texts read.

    The names are ``<prefix>backend``, ``<prefix>expiration_time``, ``<prefix>arguments.<name>``,
    ``<prefix>wrap`` and ``<prefix>replace_existing_backend``. ``wrap`` is a list of proxies; a
    text in it, or a text of several with commas between them, is the name of one to be imported,
    ``package.module:Class`` or ``package.module.Class``.

    Raises:
        ValidationError: there is no backend, a proxy cannot be imported, or a switch is neither
            true nor false.
    """
    own = coerce_string_conf(
        {
            name.removeprefix(prefix): value
            for name, value in config_dict.items()
            if name.startswith(prefix)
        }
    )
    if "backend" not in own:
        raise ValidationError(
            f"the configuration has no {prefix + 'backend'!r}, which names the region's backend, "
            f"such as 'memory'; under {prefix!r} there are {sorted(own)}"
        )
    return RegionConfiguration(
        own["backend"],
        own.get("expiration_time"),
        {
            name.removeprefix("arguments."): value
            for name, value in own.items()
            if name.startswith("arguments.")
        },
        _proxies(own.get("wrap"), f"{prefix}wrap"),
        _switch(own.get("replace_existing_backend"), f"{prefix}replace_existing_backend"),
        {name: value for name, value in own.items() if "." not in name and name not in _KNOWN},
    )


def _read(text: str) -> Any:
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text == "None":
        return None
    return _WORDS.get(text.lower(), text)


def _switch(value: Any, name: str) -> bool:
    if value not in (None, True, False):
        raise ValidationError(f"{name} must be true or false, not {value!r}")
    return bool(value)


def _proxies(value: Any, name: str) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    elif not isinstance(value, (list, tuple)):
        value = [value]
    return tuple(_imported(part, name) if isinstance(part, str) else part for part in value)


def _imported(path: str, name: str) -> Any:
    module, colon, attributes = path.partition(":")
    if not colon:
        module, _, attributes = path.rpartition(".")
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValidationError(
            f"{name} names {path!r}, which cannot be imported ({error}); write "
            "'package.module:Class', several with commas between them"
        ) from error
    return found
