"""Calls to keys: every spelling of one call is one key, and wrong calls fail as they always do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.keys.call import BoundCall, CallShape
from tiered.keys.canonical import canonical

Bind = Callable[..., BoundCall]


def made(parameters: str, body: str = "pass") -> Callable[..., Any]:
    """A function with parameters that a linter would not like to see."""
    scope: dict[str, Any] = {}
    exec(f"def f({parameters}): {body}", scope)
    function: Callable[..., Any] = scope["f"]
    return function


def binder(function: Callable[..., Any], **options: Any) -> Bind:
    return CallShape.of(function, **options).binder()


# -- Any signature, any call -----------------------------------------------------------

NAMES = ["a", "b", "c", "d"]


@st.composite
def functions(draw: st.DrawFn) -> Callable[..., Any]:
    """Functions of all kinds of parameters, that return what they were given."""
    names = list(NAMES)
    positional = [names.pop(0) for _ in range(draw(st.integers(0, 3)))]
    defaults = draw(st.integers(0, len(positional)))
    pieces = [
        name if index < len(positional) - defaults else f"{name}={index}"
        for index, name in enumerate(positional)
    ]
    if draw(st.booleans()) and positional:
        pieces.insert(draw(st.integers(1, len(positional))), "/")
    given_to = list(positional)
    star = draw(st.sampled_from(["", "*", "*args"]))
    kept = [draw(st.booleans()) for _ in names]
    by_name = [name for name, keep in zip(names, kept, strict=True) if star and keep]
    if star == "*args" or by_name:
        pieces.append(star)
    if star == "*args":
        given_to.append("args")
    pieces += [f"{name}=5" if draw(st.booleans()) else name for name in by_name]
    given_to += by_name
    if draw(st.booleans()):
        pieces.append("**kwargs")
        given_to.append("kwargs")
    return made(", ".join(pieces), f"return [{', '.join(given_to)}]")


values = st.integers(0, 2) | st.booleans()
calls = st.tuples(
    st.lists(values, max_size=4).map(tuple),
    st.dictionaries(st.sampled_from([*NAMES, "e", "args", "self"]), values, max_size=3),
)


def answer(function: Callable[..., Any], call: tuple[Any, ...]) -> Any:
    args, kwargs = call
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        return str(error)


@given(functions(), calls, calls)
def test_a_call_is_read_as_the_function_itself_reads_it(
    function: Callable[..., Any], one: Any, other: Any
) -> None:
    bind = binder(function)
    bound = answer(bind, one)
    received = answer(function, one)
    if isinstance(received, str):
        assert bound == received  # the very message of the TypeError
        return
    assert function(*bound.args, **bound.kwargs) == received
    received_other = answer(function, other)
    if not isinstance(received_other, str):
        assert (bound.key == answer(bind, other).key) is (received == received_other)


def kinds(received: Any) -> Any:
    """The types of arguments, one level into ``*args`` and ``**kwargs``."""
    if isinstance(received, (list, tuple)):
        return [kinds(part) for part in received]
    if isinstance(received, dict):
        return {name: type(part) for name, part in received.items()}
    return type(received)


@given(functions(), calls, calls)
def test_a_typed_key_tells_types_apart_too(
    function: Callable[..., Any], one: Any, other: Any
) -> None:
    bind = binder(function, typed=True)
    first, second = answer(function, one), answer(function, other)
    if isinstance(first, str) or isinstance(second, str):
        return
    same = first == second and kinds(first) == kinds(second)
    assert (answer(bind, one).key == answer(bind, other).key) is same


@given(functions(), calls, st.data())
def test_what_is_ignored_leaves_the_key_and_stays_in_the_call(
    function: Callable[..., Any], call: Any, data: st.DataObject
) -> None:
    received = answer(function, call)
    if isinstance(received, str):
        return
    names = [*function.__code__.co_varnames]
    ignored = data.draw(st.lists(st.sampled_from(names), unique=True) if names else st.just([]))
    bound = answer(binder(function, ignore=ignored), call)
    assert function(*bound.args, **bound.kwargs) == received
    whole = answer(binder(function, ignore=[name for name in names if name not in ignored]), call)
    # What one key leaves out is what the other one is made of.
    assert (bound.key == ()) is (len(ignored) == len(names))
    assert (whole.key == ()) is (not ignored)


# -- The key ---------------------------------------------------------------------------


def test_a_function_of_one_plain_parameter_has_the_argument_for_a_key() -> None:
    def positional(x: int, /) -> None: ...
    def plain(x: int = 5) -> None: ...
    def named(*, x: int) -> None: ...

    assert binder(positional)(1) == (1, (1,), {})
    assert binder(plain)() == (5, (5,), {})
    assert binder(plain)(x=1) == binder(plain)(1) == (1, (1,), {})
    assert binder(named)(x=1) == (1, (), {"x": 1})


def test_a_function_of_one_variable_parameter_has_a_tuple_for_a_key() -> None:
    def positional(*args: int) -> None: ...
    def named(**kwargs: int) -> None: ...

    assert binder(positional)(1, 2) == (((1, 2),), (1, 2), {})
    assert binder(positional)() == (((),), (), {})
    assert binder(named)(b=1, a=2) == (((("a", 2), ("b", 1)),), (), {"b": 1, "a": 2})


def test_a_function_without_parameters_has_one_key() -> None:
    def nothing() -> None: ...

    assert binder(nothing)() == ((), (), {})
    assert binder(nothing, typed=True)() == (((), ()), (), {})


def test_all_kinds_of_parameters_together() -> None:
    def f(a: int, /, b: int, c: int = 3, *args: int, d: int, e: int = 5, **kwargs: int) -> None: ...

    expected = ((1, 2, 3, (), 4, 5, (("f", 6),)), (1, 2, 3), {"d": 4, "e": 5, "f": 6})
    assert binder(f)(1, 2, d=4, f=6) == expected
    assert binder(f)(1, c=3, b=2, e=5, d=4, f=6) == expected
    # A keyword may have the name of a positional-only parameter.
    assert binder(f)(1, 2, d=4, a=6).kwargs == {"d": 4, "e": 5, "a": 6}
    assert binder(f)(1, 2, 3, 7, d=4).key == (1, 2, 3, (7,), 4, 5, ())


def test_ignoring_all_but_one_plain_parameter_leaves_the_argument_itself() -> None:
    class Thing:
        def method(self, x: int, *rest: int) -> None: ...

    bind = binder(Thing.method, ignore=("self", "rest"))
    thing = Thing()
    assert bind(thing, 1, 2) == (1, (thing, 1, 2), {})


def test_a_private_parameter_of_a_method_is_an_ordinary_one() -> None:
    class Thing:
        def method(self, __x: int) -> None: ...

    assert binder(Thing.method, ignore=("self",))(0, _Thing__x=1).key == 1


def test_keywords_count_in_any_order() -> None:
    def f(**kwargs: int) -> None: ...

    assert binder(f)(a=1, b=2).key == binder(f)(b=2, a=1).key
    assert binder(f)(a=1, b=2).key != binder(f)(a=2, b=1).key


def test_defaults_are_the_objects_themselves() -> None:
    marker = object()

    def f(x: object = marker) -> None: ...

    assert binder(f)().key is marker


def test_a_typed_key_of_none_can_go_to_a_server() -> None:
    def f(x: object) -> None: ...

    bind = binder(f, typed=True)
    assert canonical(bind(None).key) != canonical(bind(1).key) != canonical(bind(1.0).key)


# -- key= ------------------------------------------------------------------------------


def test_a_key_function_gets_the_call_in_its_canonical_spelling() -> None:
    def f(a: int, /, b: int = 2, *args: int, c: int = 3, **kwargs: int) -> None: ...

    seen: list[Any] = []

    def key(*args: int, **kwargs: int) -> str:
        seen.append((args, kwargs))
        return "the key"

    bind = binder(f, key=key)
    assert bind(1, b=5, d=4) == ("the key", (1, 5), {"c": 3, "d": 4})
    assert seen == [((1, 5), {"c": 3, "d": 4})]


def test_what_a_key_function_raises_comes_through() -> None:
    def f(a: int) -> None: ...

    with pytest.raises(ZeroDivisionError):
        binder(f, key=lambda a: 1 / a)(0)


# -- Names that the generated code could be confused by --------------------------------


@pytest.mark.parametrize("typed", [False, True])
def test_parameters_may_have_the_names_of_builtins(typed: bool) -> None:
    function = made("type, tuple, map, *len, print=4, **dict")
    bound = binder(function, typed=typed)(1, 2.0, "c", 4, None, print=5, x=6)
    assert (bound.args, bound.kwargs) == ((1, 2.0, "c", 4, None), {"print": 5, "x": 6})
    plain = (1, 2.0, "c", (4, None), 5, (("x", 6),))
    types = (int, float, str, (int, type(None)), int, (int,))
    assert bound.key == ((plain, types) if typed else plain)


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize(
    "name", ["type", "tuple", "map", "f", "x", "None", "class", "<lambda>", ""]
)
def test_a_function_may_have_any_name(name: str, typed: bool) -> None:
    def f(f: int, *x: int, **kwargs: int) -> None: ...

    f.__name__ = f.__qualname__ = name
    bound = binder(f, typed=typed)(1, 2, y=3)
    plain = (1, (2,), (("y", 3),))
    assert bound.key == ((plain, (int, (int,), (int,))) if typed else plain)
    with pytest.raises(TypeError) as caught:
        binder(f, typed=typed)()
    assert str(caught.value) == f"{name}() missing 1 required positional argument: 'f'"


def test_parameters_may_have_the_names_that_bodies_use() -> None:
    def f(name: int, value: int, _: int, key: int, args: int, kwargs: int, **rest: int) -> None: ...

    key: Any = binder(f, typed=True)(1, 2, 3, 4, 5, 6, call=7).key
    assert key[0] == (1, 2, 3, 4, 5, 6, (("call", 7),))


@pytest.mark.parametrize(
    "name", ["_tiered_call", "_tiered_pairs", "_tiered_key", "_tiered_default_x", "_tiered_build"]
)
def test_parameters_with_names_kept_for_generated_code_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*_tiered_"):
        CallShape.of(made(f"x=1, {name}=2, **kwargs"))


# -- Wrong calls, and wrong arguments --------------------------------------------------


class Outer:
    class Inner:
        def method(self, x: int, /, y: int, *, z: int) -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1,), {}),
        ((1, 2, 3, 4), {"z": 1}),
        ((1, 2, 3), {}),
        ((1, 2, 3), {"z": 1, "y": 2}),
        ((1,), {"x": 2, "y": 3, "z": 4}),
        ((1, 2, 3), {"z": 1, "w": 2}),
    ],
)
def test_a_wrong_call_fails_with_the_message_of_the_function_itself(
    args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    function: Any = Outer.Inner.method
    with pytest.raises(TypeError) as own:
        function(*args, **kwargs)
    assert str(own.value).startswith("Outer.Inner.method() ")
    shape = CallShape.of(function, ignore=("self",))
    for call in (shape.binder(), shape.checker(), shape.build("return 1", {})):
        with pytest.raises(TypeError) as caught:
            call(*args, **kwargs)
        assert str(caught.value) == str(own.value)


def test_a_right_call_passes_the_checker() -> None:
    def f(x: int) -> None: ...

    check: Callable[..., object] = CallShape.of(f).checker()
    assert check(1) is None


def test_ignoring_what_is_no_parameter_is_refused_with_those_that_are() -> None:
    def f(x: int, y: int) -> None: ...

    with pytest.raises(ValueError, match=r"ignore names 'z', .*\['x', 'y'\]"):
        CallShape.of(f, ignore=("x", "z"))


def test_a_lone_name_to_ignore_is_refused() -> None:
    def f(x: int) -> None: ...

    with pytest.raises(TypeError, match=r"ignore must be a tuple .*not 'x'"):
        CallShape.of(f, ignore="x")


# -- What is not a plain function ------------------------------------------------------


def test_a_builtin_that_does_not_tell_takes_anything() -> None:
    bound = binder(max)(3, 1, key=str)
    assert bound == (((3, 1), (("key", str),)), (3, 1), {"key": str})


def test_a_class_is_called_with_the_arguments_of_its_constructor() -> None:
    class Thing:
        def __init__(self, x: int, y: int = 2) -> None: ...

    assert binder(Thing)(1) == ((1, 2), (1, 2), {})


def test_a_partial_function_has_the_parameters_that_are_left() -> None:
    def f(a: int, b: int, c: int) -> None: ...

    bind = binder(functools.partial(f, 1, b=2))
    assert bind(c=3) == binder(functools.partial(f, 1, b=2))(b=2, c=3)
    assert bind(c=3) == ((2, 3), (), {"b": 2, "c": 3})
    with pytest.raises(TypeError, match=r"^call\(\) missing"):
        bind()


def test_a_wrapper_has_the_parameters_of_what_it_wraps() -> None:
    def f(a: int, b: int = 2) -> None: ...

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    assert binder(wrapper)(b=2, a=1).key == (1, 2)


def test_a_callable_without_a_name_is_shown_as_a_call() -> None:
    class Doubler:
        def __call__(self, x: int) -> int:
            return 2 * x

    shape = CallShape.of(Doubler())
    assert shape.name == shape.qualname == "call"
    assert shape.binder()(x=1).key == 1


# -- Building --------------------------------------------------------------------------


def test_a_built_function_sees_its_scope_and_its_preamble_keeps_state() -> None:
    def f(x: int, y: int = 10) -> None: ...

    call = CallShape.of(f).build(
        "nonlocal _tiered_n\n_tiered_n += 1\nreturn (x + y) * _tiered_factor, _tiered_n",
        {"_tiered_factor": 2},
        preamble="_tiered_n = 0",
    )
    assert call(1) == (22, 1)
    assert call(1, y=2) == (6, 2)
    assert call.__name__ == "f"
    assert call.__qualname__ == f.__qualname__


def test_functions_built_from_one_shape_share_nothing() -> None:
    def f(x: int) -> None: ...

    shape = CallShape.of(f)
    body, preamble = "nonlocal _tiered_n\n_tiered_n += x\nreturn _tiered_n", "_tiered_n = 0"
    one, other = (shape.build(body, {}, preamble=preamble) for _ in range(2))
    assert (one(1), one(1), other(1)) == (1, 2, 1)
