"""From the call of a function to its key in a region: one call one key, another call another one.

A key is ``module:qualname|namespace|arguments``. The arguments are bound to the function's
signature and defaults filled in, so that every spelling of a call is one key; and they are
written in the canonical form of :mod:`tiered.keys.canonical`, in which what is equal is alike
(``1``, ``1.0`` and ``True``), and what is not is not (``1`` and ``"1"``). Keys are printable ASCII
without spaces, of at most 200 characters, as any server takes them: ``%20`` stands for a
space, and the rest of a long key is hashed to 160 bits.

*Methods.* ``self`` is an argument as any other is: objects that are not equal have keys of
their own, and so its class must have a canonical form (a frozen dataclass, an enum, or one that
was made known with :func:`tiered.keys.canonical.register`), or ``to_str`` must tell what stands for
it. An address in memory would be another key in each process, and one day the key of another
object. ``cls`` is the class, by its module and qualified name.

*Functions of one name.* Closures and lambdas may bear the name of another function, whose
values would be wrong for them. In one region, the second one is refused; give it a namespace.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import string
import weakref
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from inspect import Parameter
from typing import Any, Final, TypeAlias
from urllib.parse import quote_from_bytes

from tiered.errors import KeyEncodingError
from tiered.keys.call import BoundCall, CallShape
from tiered.keys.canonical import canonical
from tiered.keys.identity import function_identity
from tiered.region.api import KeyType
from tiered.typing import Key

__all__ = [
    "FunctionNames",
    "exact_key_generator",
    "exact_multi_key_generator",
    "generator_with_names",
]

StandIn: TypeAlias = Callable[[Any], Key]

_LONGEST: Final = 200
"""Characters in a key; servers of memcached take 250, and prefixes are put before it."""
_LONGEST_HEAD: Final = 150
"""Characters of the readable part of a hashed key."""
_SAFE: Final = "".join(sorted(set(string.punctuation) - set("%|#")))
"""What stands for itself in a key besides letters and digits; ``|`` and ``#`` divide its parts."""
_LARGE: Final = 10**18
"""Of larger numbers, the canonical form may be another one."""
_PLAIN: Final = (string.ascii_letters + string.digits + _SAFE).encode()
_PLAIN_TEXT: Final = re.compile(f"[{re.escape(_PLAIN.decode())}]*").fullmatch


_KEY: Final = """\
try:
    return _tiered_write(_tiered_head, {key})
except _tiered_refused:
    _tiered_explain{call}
    raise
"""


class FunctionNames:
    """The names that keys begin with, and which function each of them stands for.

    A name that was taken stays taken when its function is gone: its values are still there.

    Threads: safe.
    """

    def __init__(self) -> None:
        self._taken: dict[str, object] = {}

    def take(self, name: str, function: Callable[..., Any]) -> None:
        """Let *name* stand for *function*.

        Raises:
            ValueError: it stands for another function.
        """
        identity = function_identity(function)
        if inspect.isfunction(identity):
            identity = weakref.ref(identity)  # with all that it closes over, it is the user's
        known = self._taken.setdefault(name, identity)
        if known is identity or known == identity:
            return
        if inspect.isfunction(function) and "<" not in function.__qualname__:
            return  # a function of a module that was loaded again
        raise ValueError(
            f"another function has the keys {name}|..., and its values would be taken for those "
            f"of {function!r}; give each a namespace=... of its own"
        )


_OF_THIS_PROCESS: Final = FunctionNames()


def exact_key_generator(
    namespace: str | None,
    fn: Callable[..., Any],
    to_str: StandIn | None = None,
    *,
    names: FunctionNames = _OF_THIS_PROCESS,
) -> Callable[..., KeyType]:
    """A function from the arguments of *fn*, however they are given, to the key of that call.

    For ``make_region(function_key_generator=exact_key_generator)``, and for the argument of the
    same name of ``cache_on_arguments``.

    Args:
        namespace: tells functions of one name apart; ``None`` for nothing.
        fn: the function that is cached.
        to_str: gives what stands for an argument: a text, or anything with a canonical form. It
            is asked for every argument, ``self`` included, ``cls`` not. ``None``, and ``str``,
            which is the default of regions, for the argument itself.
        names: those that are taken already; a region gives its own, and without one they are
            those of this process.

    Raises:
        ValueError: another function has the same name and namespace.
        TypeError: *namespace* is not a text.

    The function raises :class:`~tiered.errors.KeyEncodingError` for an argument that has no
    canonical form, and ``TypeError`` as *fn* does for a call that its signature refuses.
    """
    head = _head(namespace, fn, names)
    arguments = _Arguments(fn, to_str)
    shape = CallShape.of(fn)

    def explain(*args: Any, **kwargs: Any) -> None:
        _check(head, arguments.of(BoundCall(None, args, kwargs)))

    def stand_ins(*args: Any, **kwargs: Any) -> Key:
        return tuple(arguments.of(BoundCall(None, args, kwargs)))

    call = f"(*{shape.args}, **{shape.kwargs})"
    key = shape.key if arguments.as_they_are else f"_tiered_stand_ins{call}"
    scope = {
        "_tiered_write": _key,
        "_tiered_head": head,
        "_tiered_stand_ins": stand_ins,
        "_tiered_refused": KeyEncodingError,
        "_tiered_explain": explain,
    }
    generate_key: Callable[..., KeyType]
    generate_key = shape.build(_KEY.format(key=key, call=call), scope)
    return generate_key


def exact_multi_key_generator(
    namespace: str | None,
    fn: Callable[..., Any],
    to_str: StandIn | None = None,
    *,
    names: FunctionNames = _OF_THIS_PROCESS,
) -> Callable[..., list[KeyType]]:
    """A function that gives a key for each of its arguments.

    Of a method, ``self`` or ``cls`` is part of each of the keys, and has none of its own. The
    function raises ``ValueError`` for keyword arguments; the rest is as of
    :func:`exact_key_generator`.
    """
    head = _head(namespace, fn, names)
    arguments = _Arguments(fn, to_str)
    owned = int(arguments.names[:1] in (["self"], ["cls"]))

    def generate_keys(*args: Any, **kwargs: Any) -> list[KeyType]:
        if kwargs:
            raise ValueError(
                f"{head} was called with the keyword argument {next(iter(kwargs))!r}, and a "
                "function of many keys takes positional ones only"
            )
        given = list(arguments.of(BoundCall(None, args, kwargs)))
        try:
            owner = tuple(value for _, value in given[:owned])
            return [_key(head, (*owner, value)) for _, value in given[owned:]]
        except KeyEncodingError:
            _check(head, given)
            raise

    return generate_keys


def generator_with_names(generator: Callable[..., Any], names: FunctionNames) -> Callable[..., Any]:
    """*generator*; where it is one of this module, taking names from *names*."""
    if generator in (exact_key_generator, exact_multi_key_generator):
        return functools.partial(generator, names=names)
    return generator


class _Arguments:
    """The arguments of calls by the names of their parameters, as they are to stand in keys."""

    def __init__(self, fn: Callable[..., Any], to_str: StandIn | None) -> None:
        self._stand_in = None if to_str is str else to_str
        try:
            parameters = list(inspect.signature(fn).parameters.values())
        except (TypeError, ValueError):  # a builtin that does not tell
            parameters = []
        self.names = [
            one.name
            for one in parameters
            if one.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        ]
        stars = [one.name for one in parameters if one.kind is Parameter.VAR_POSITIONAL]
        self._rest = stars[0] if stars else "args"

    @property
    def as_they_are(self) -> bool:
        """Whether they stand for themselves."""
        return self._stand_in is None

    def of(self, call: BoundCall) -> Iterator[tuple[str, Any]]:
        """Each argument of *call* that there is, with its name."""
        names = itertools.chain(self.names, itertools.repeat(self._rest))
        for name, value in (*zip(names, call.args, strict=False), *sorted(call.kwargs.items())):
            if self._stand_in is None or (name == "cls" and isinstance(value, type)):
                yield name, value
            else:
                yield name, self._stand_in(value)


def _head(namespace: str | None, fn: Callable[..., Any], names: FunctionNames) -> str:
    """What all keys of *fn* begin with."""
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace must be a text or None, not {namespace!r}")
    module = getattr(fn, "__module__", None) or "?"
    qualname = getattr(fn, "__qualname__", type(fn).__qualname__)
    head = f"{_printable(module).replace(':', '%3A')}:{_printable(qualname)}"
    if namespace is not None:
        head += f"|{_printable(namespace)}"
    names.take(head, fn)
    return head


def _printable(text: str | bytes) -> str:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if not data.translate(None, _PLAIN):
        return data.decode("ascii")  # as it is: in a third of the time
    return quote_from_bytes(data, _SAFE)


def _key(head: str, key: Any) -> KeyType:
    body = f"i{key};" if type(key) is int and -_LARGE < key < _LARGE else _written(key)
    if body and len(head) + len(body) < _LONGEST and _PLAIN_TEXT(body):
        return f"{head}|{body}"
    name = canonical(key)
    if len(head) + len(name) < _LONGEST:
        whole = f"{head}|{_printable(name)}"
        if len(whole) <= _LONGEST:
            return whole
    digest = blake2b(b"%d:%b%b" % (len(head), head.encode(), name), digest_size=20)
    return f"{head[:_LONGEST_HEAD]}#{digest.hexdigest()}"


def _written(key: Any) -> str:
    """The canonical form of ASCII text, and of several such and numbers; "" for all else.

    Most arguments are such, and this takes half of the time.
    """
    if type(key) is str:
        return f"s{len(key)}:{key}"
    if type(key) is not tuple:
        return ""
    parts = f"t{len(key)}:"
    for part in key:
        kind = type(part)
        if kind is int and -_LARGE < part < _LARGE:
            parts += f"i{part};"
        elif kind is str:
            parts += f"s{len(part)}:{part}"
        else:
            return ""
    return parts


def _check(head: str, arguments: Iterable[tuple[str, Any]]) -> None:
    """Tell which of *arguments* has no canonical form."""
    for name, value in arguments:
        try:
            canonical(value)
        except KeyEncodingError as error:
            raise KeyEncodingError(
                f"the argument {name!r} of {head} cannot be part of a key: {error}; or tell with "
                f"to_str=... what stands for an argument{_OF_METHODS if name == 'self' else ''}"
            ) from None


_OF_METHODS: Final = ", or cache a function of the module that takes what it needs of the object"
