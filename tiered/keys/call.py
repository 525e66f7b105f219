"""A call's arguments to a key, so that every spelling of one call is one key.

The key is built by a function that is *generated* with the same signature as the
decorated one. Python's own call machinery then does the binding (positions,
keywords, defaults, the error for a wrong call), which is faster than anything
that could be written here and cannot disagree with how the function itself would
have read the call.

The key is the tuple of the arguments in the order of the signature, defaults
filled in; ``*args`` are one tuple in it, ``**kwargs`` a tuple of sorted pairs. A
function of one plain parameter has the argument itself as the key: the shorter
key is found a fifth faster, and the namespace keeps functions apart.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, Final, NamedTuple

from tiered.typing import Key

__all__ = ["BoundCall", "CallShape", "PlainSignature", "TaggedCall"]

_OWN: Final = "_tiered_"
"""Prefix of the names that generated code uses for itself."""
_STARS: Final[dict[Any, str]] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


class BoundCall(NamedTuple):
    """One call, in its canonical spelling: its key, and how to make the call itself."""

    key: Key
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the tags of its value."""
        return ()


class TaggedCall(BoundCall):
    """A call whose value has tags."""

    _tags: tuple[str, ...]

    @classmethod
    def of(cls, call: BoundCall, tags: tuple[str, ...]) -> TaggedCall:
        """*call*, with the names of its tags."""
        tagged = cls(*call)
        tagged._tags = tags
        return tagged

    @property
    def tags(self) -> tuple[str, ...]:
        return self._tags


class PlainSignature(NamedTuple):
    """A signature that can be bound without Python: no ``*args``, no ``**kwargs``.

    Its key is the one parameter that matters, or the tuple of them.

    Attributes:
        names: of the parameters.
        positional: how many of them can be given by position; the first ones.
        positional_only: how many only so.
        defaults: of each; ``Parameter.empty`` for none.
        kept: places of those that matter.
    """

    names: tuple[str, ...]
    positional: int
    positional_only: int
    defaults: tuple[Any, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CallShape:
    """A signature as source text, to generate functions with.

    Attributes:
        name: of the decorated function.
        qualname: in full; shows in the ``TypeError`` for a wrong call.
        parameters: source of the parameter list.
        key: source of an expression for the key, over the parameters.
        args, kwargs: source of expressions for the canonical call.
        scope: what the sources refer to besides the parameters.
        plain: the same as data, where it is as simple as that; else ``None``.
    """

    name: str
    qualname: str
    parameters: str
    key: str
    args: str
    kwargs: str
    scope: dict[str, Any]
    plain: PlainSignature | None

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        ignore: Iterable[str] = (),
        typed: bool = False,
        key: Callable[..., Key] | None = None,
    ) -> CallShape:
        """The shape of *function*'s calls.

        Args:
            function: what is decorated.
            ignore: parameters that do not matter for the result.
            typed: tell ``1``, ``1.0`` and ``True`` apart.
            key: computes the key from the arguments, in place of all that.

        Raises:
            ValueError: *ignore* names a parameter that there is not, or a parameter has a
                name that generated code keeps for itself.
        """
        parameters = _parameters(function)
        for parameter in parameters:
            if parameter.name.startswith(_OWN):
                raise ValueError(
                    f"the parameter {parameter.name!r} of {function!r} must be renamed: names "
                    f"that begin with {_OWN!r} are kept for generated code"
                )
        ignored = _checked_ignore(function, ignore, parameters)
        scope: dict[str, Any] = {
            f"{_OWN}pairs": _pairs,
            f"{_OWN}type": type,
            f"{_OWN}types": _types,
        }
        args, kwargs = _call_sources(parameters)
        if key is not None:
            scope[f"{_OWN}key"] = key
            source = f"{_OWN}key(*{args}, **{kwargs})"
        else:
            source = _key_source([p for p in parameters if p.name not in ignored], typed)
        as_it_is = key is None and not typed
        name = getattr(function, "__name__", "call")
        return cls(
            name,
            getattr(function, "__qualname__", name),
            _parameter_list(parameters, scope),
            source,
            args,
            kwargs,
            scope,
            _plain(parameters, ignored) if as_it_is else None,
        )

    def build(
        self, body: str, scope: dict[str, Any], preamble: str = "", coroutine: bool = False
    ) -> Any:
        """A function with this signature and *body*; *scope* is what the body refers to.

        *preamble* runs once, before the function is made; the body may use its
        names with ``nonlocal``.
        """
        names = {**self.scope, **scope}
        source = "\n".join(
            (
                f"def {_OWN}build({', '.join(names)}):",
                _indented(preamble, 1),
                # Any name of the function's own would hide a builtin or a parameter's default.
                f"    {'async ' if coroutine else ''}def {_OWN}made({self.parameters}):",
                _indented(body, 2),
                f"    {_OWN}made.__name__ = {self.name!r}",
                f"    {_OWN}made.__qualname__ = {self.qualname!r}",
                f"    {_OWN}made.__code__ = {_OWN}made.__code__.replace(co_name={self.name!r})",
                f"    return {_OWN}made",
            )
        )
        made: dict[str, Any] = {}
        # The only input is the signature of a function that the program already runs:
        # names that Python accepted as parameters, and defaults passed as objects.
        exec(compile(source, f"<tiered key of {self.name}>", "exec"), made)  # noqa: S102
        return made[f"{_OWN}build"](**names)

    def keymaker(self) -> Callable[..., Key]:
        """A function from the arguments of a call to its key."""
        keymaker: Callable[..., Key] = self.build(f"return {self.key}", {})
        return keymaker

    def checker(self) -> Callable[..., None]:
        """A function that raises the ``TypeError`` of a call that the signature refuses."""
        checker: Callable[..., None] = self.build("pass", {})
        return checker

    def binder(self) -> Callable[..., BoundCall]:
        """A function from the arguments of a call to its :class:`BoundCall`."""
        binder: Callable[..., BoundCall] = self.build(
            f"return {_OWN}call({self.key}, {self.args}, {self.kwargs})",
            {f"{_OWN}call": BoundCall},
        )
        return binder


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell
        return [
            Parameter("args", Parameter.VAR_POSITIONAL),
            Parameter("kwargs", Parameter.VAR_KEYWORD),
        ]


def _checked_ignore(
    function: Callable[..., Any], ignore: Iterable[str], parameters: list[Parameter]
) -> frozenset[str]:
    if isinstance(ignore, str):
        raise TypeError(
            f"ignore must be a tuple of parameter names such as ('self',), not {ignore!r}"
        )
    ignored = frozenset(ignore)
    for name in ignored:
        if name not in {parameter.name for parameter in parameters}:
            raise ValueError(
                f"ignore names {name!r}, but the parameters of {function!r} are "
                f"{[parameter.name for parameter in parameters]}"
            )
    return ignored


def _parameter_list(parameters: list[Parameter], scope: dict[str, Any]) -> str:
    pieces: list[str] = []
    previous: Parameter | None = None
    for parameter in parameters:
        kind = parameter.kind
        if previous is not None and previous.kind is Parameter.POSITIONAL_ONLY != kind:
            pieces.append("/")
        if kind is Parameter.KEYWORD_ONLY and (
            previous is None
            or previous.kind not in (Parameter.VAR_POSITIONAL, Parameter.KEYWORD_ONLY)
        ):
            pieces.append("*")
        piece = _STARS.get(kind, "") + parameter.name
        if parameter.default is not Parameter.empty:
            default = f"{_OWN}default_{parameter.name}"
            scope[default] = parameter.default
            piece += f"={default}"
        pieces.append(piece)
        previous = parameter
    if previous is not None and previous.kind is Parameter.POSITIONAL_ONLY:
        pieces.append("/")
    return ", ".join(pieces)


def _plain(parameters: list[Parameter], ignored: frozenset[str]) -> PlainSignature | None:
    kinds = [parameter.kind for parameter in parameters]
    if any(kind in _STARS for kind in kinds):
        return None
    return PlainSignature(
        names=tuple(sys.intern(parameter.name) for parameter in parameters),
        positional=sum(kind is not Parameter.KEYWORD_ONLY for kind in kinds),
        positional_only=sum(kind is Parameter.POSITIONAL_ONLY for kind in kinds),
        defaults=tuple(parameter.default for parameter in parameters),
        kept=tuple(at for at, one in enumerate(parameters) if one.name not in ignored),
    )


def _call_sources(parameters: list[Parameter]) -> tuple[str, str]:
    positional: list[str] = []
    by_name: list[str] = []
    for parameter in parameters:
        name = parameter.name
        if parameter.kind is Parameter.VAR_POSITIONAL:
            positional.append(f"*{name}")
        elif parameter.kind is Parameter.VAR_KEYWORD:
            by_name.append(f"**{name}")
        elif parameter.kind is Parameter.KEYWORD_ONLY:
            by_name.append(f"{name!r}: {name}")
        else:
            positional.append(name)
    return _tuple_source(positional), "{" + ", ".join(by_name) + "}"


def _key_source(parameters: list[Parameter], typed: bool) -> str:
    parts: list[str] = []
    types: list[str] = []
    for parameter in parameters:
        name = parameter.name
        if parameter.kind is Parameter.VAR_KEYWORD:
            parts.append(f"{_OWN}pairs({name})")
            types.append(f"{_OWN}types(value for _, value in {_OWN}pairs({name}))")
        elif parameter.kind is Parameter.VAR_POSITIONAL:
            parts.append(name)
            types.append(f"{_OWN}types({name})")
        else:
            parts.append(name)
            types.append(f"{_OWN}type({name})")
    if typed:
        return f"({_tuple_source(parts)}, {_tuple_source(types)})"
    plain = len(parameters) == 1 and parts[0] == parameters[0].name
    if plain and parameters[0].kind is not Parameter.VAR_POSITIONAL:
        return parts[0]
    return _tuple_source(parts)


def _tuple_source(parts: list[str]) -> str:
    return f"({', '.join(parts)},)" if parts else "()"


def _pairs(kwargs: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, kwargs[name]) for name in sorted(kwargs))


def _types(values: Iterable[Any]) -> tuple[type, ...]:
    return tuple(map(type, values))


def _indented(source: str, levels: int) -> str:
    return "\n".join("    " * levels + line for line in source.splitlines())
