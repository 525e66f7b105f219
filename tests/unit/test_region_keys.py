"""Keys of a region's functions: those of dogpile.cache, and exact ones."""

from __future__ import annotations

import dataclasses
import enum
import functools
import gc
import importlib
import inspect
import string
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.errors import KeyEncodingError
from tiered.keys.canonical import canonical
from tiered.region import NO_VALUE, CacheRegion, make_region
from tiered.region import exact as exact_keys
from tiered.region import keys as ours
from tiered.region.exact import FunctionNames, exact_key_generator, exact_multi_key_generator

Generator = Callable[..., Callable[..., Any]]


def made(parameters: str, name: str = "f") -> Callable[..., Any]:
    """A function of this module with these parameters."""
    scope: dict[str, Any] = {"__name__": __name__}
    exec(f"def {name}({parameters}): return locals()", scope)
    function: Callable[..., Any] = scope[name]
    return function


def outcome(call: Callable[[], Any]) -> Any:
    """What came of *call*: what it gave, or the class of what it raised."""
    try:
        return call()
    except Exception as error:
        return type(error)


# -- As dogpile.cache ------------------------------------------------------------------

PARAMETERS = [
    "",
    "a",
    "a, b=2",
    "z, a=1, *, k, l=5",
    "a, /, b, c=None",
    "self",
    "self, b, a",
    "self, a=1, b='x y'",
    "self=None, a=3",
    "cls, /, a",
    "a, self",
    "a, **options",
    "*, only=3",
]
WITH_STARS = [*PARAMETERS, "*ids", "self, *ids", "a, b=1, *rest, k=2, **options"]
VALUES = st.one_of(
    st.none(), st.integers(), st.text(max_size=5), st.booleans(), st.binary(max_size=3), st.floats()
)
NAMESPACES = st.one_of(st.none(), st.text(max_size=4), st.just(("x", "y")))
TO_STR = st.sampled_from([str, repr, lambda value: "same"])
NAMES = st.sampled_from(["a", "b", "c", "k", "l", "only", "other", "self"])


@pytest.mark.parametrize("name", ["function_key_generator", "function_multi_key_generator"])
@given(
    namespace=NAMESPACES,
    parameters=st.sampled_from(WITH_STARS),
    to_str=TO_STR,
    args=st.lists(VALUES, max_size=4),
    kwargs=st.dictionaries(NAMES, VALUES, max_size=2),
)
def test_positional_keys_are_those_of_dogpile(
    name: str, namespace: Any, parameters: str, to_str: Any, args: list[Any], kwargs: dict[str, Any]
) -> None:
    theirs = pytest.importorskip("dogpile.cache.util")
    function = made(parameters)
    one, other = (getattr(module, name)(namespace, function, to_str) for module in (theirs, ours))
    assert outcome(lambda: other(*args, **kwargs)) == outcome(lambda: one(*args, **kwargs))


@given(
    namespace=NAMESPACES,
    parameters=st.sampled_from(WITH_STARS),
    to_str=TO_STR,
    args=st.lists(VALUES, max_size=4),
    kwargs=st.dictionaries(NAMES, VALUES, max_size=3),
)
def test_keyword_keys_are_those_of_dogpile(
    namespace: Any, parameters: str, to_str: Any, args: list[Any], kwargs: dict[str, Any]
) -> None:
    theirs = pytest.importorskip("dogpile.cache.util")
    function = made(parameters)
    one, other = (
        module.kwarg_function_key_generator(namespace, function, to_str)
        for module in (theirs, ours)
    )
    expected = outcome(lambda: one(*args, **kwargs))
    # Where theirs has no name for a value it fails anyhow; ours tells.
    assert outcome(lambda: other(*args, **kwargs)) == (
        ValueError if expected is IndexError else expected
    )


@pytest.mark.parametrize(
    "name",
    ["function_key_generator", "function_multi_key_generator", "kwarg_function_key_generator"],
)
def test_functions_around_functions_have_the_keys_that_they_have_with_dogpile(name: str) -> None:
    theirs = pytest.importorskip("dogpile.cache.util")
    inner = made("self, a, b=2")

    @functools.wraps(inner)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    told = made("*args")
    told.__signature__ = inspect.signature(inner)  # type: ignore[attr-defined]
    for function in (wrapper, told):
        one, other = (getattr(module, name)(None, function) for module in (theirs, ours))
        for args in ((), (1,), (1, 2), (1, 2, 3)):
            expected = outcome(lambda: one(*args))  # noqa: B023
            got = outcome(lambda: other(*args))  # noqa: B023
            assert got == (ValueError if expected is IndexError else expected)


@given(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary()), st.integers(0, 9))
def test_manglers_are_those_of_dogpile(key: Any, length: int) -> None:
    theirs = pytest.importorskip("dogpile.cache.util")
    assert ours.sha1_mangle_key(key) == theirs.sha1_mangle_key(key)
    one, other = (
        module.length_conditional_mangler(length, lambda key: "mangled")
        for module in (theirs, ours)
    )
    assert other(key) == one(key)


def test_the_form_of_compatible_keys() -> None:
    function = made("self, a, b=2")
    name = __name__
    assert ours.function_key_generator(None, function)(object(), 3, 4) == f"{name}:f|3 4"
    assert ours.function_key_generator("ns", function)(object(), 3) == f"{name}:f|ns|3"
    assert ours.function_multi_key_generator(None, made("*ids"))(1, 2) == [
        f"{name}:f|1",
        f"{name}:f|2",
    ]
    assert ours.kwarg_function_key_generator("ns", function)(None, a=3) == f"{name}:f|ns|3 2"
    assert ours.sha1_mangle_key("\udc80") == ours.sha1_mangle_key(b"\xed\xb2\x80")


@pytest.mark.parametrize(
    "generator", [ours.function_key_generator, ours.function_multi_key_generator]
)
def test_positional_generators_tell_what_to_do_about_keywords(generator: Generator) -> None:
    with pytest.raises(ValueError, match=r"f\|ns.*'a'.*kwarg_function_key_generator.*exact_key"):
        generator("ns", made("a"))(a=1)


def test_the_keyword_generator_refuses_what_it_has_no_name_for() -> None:
    with pytest.raises(ValueError, match=r"3 positional .* for 1; use exact_key_generator"):
        ours.kwarg_function_key_generator(None, made("a, *rest"))(1, 2, 3)


def test_what_has_no_name_has_no_keys() -> None:
    with pytest.raises(TypeError, match=r"fn must be a function with a name.*functools\.partial"):
        ours.function_key_generator(None, functools.partial(made("a"), 1))


# -- Exact keys ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Thing:
    number: int

    def method(self, a: int) -> int:
        return a

    @classmethod
    def of(cls, a: int) -> int:
        return a

    def many(self, *ids: int) -> list[int]:
        return list(ids)


class Other(Thing):
    pass


class Plain:
    def method(self, a: int) -> int:
        return a

    def many(self, *ids: int) -> list[int]:
        return list(ids)


class Colour(enum.Enum):
    RED = 1

    def method(self, a: int) -> int:
        return a


def exact(parameters: str, to_str: Any = None) -> Callable[..., str]:
    return exact_key_generator(None, made(parameters), to_str, names=FunctionNames())


PLAIN = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.booleans(),
    st.floats(-3, 3),
    st.text(alphabet=" |#%:;ab\n1é\udc80", max_size=4),
    st.binary(max_size=2),
    st.sampled_from([1.0, "1", b"1", Thing(1), Other(1), Colour.RED, Thing, "x" * 300, "y" * 300]),
)
PARTS = st.recursive(PLAIN, lambda parts: st.lists(parts, max_size=3).map(tuple), max_leaves=4)
SIGNATURES = [
    "a",
    "*args",
    "**kwargs",
    "a, b=2, *, k=5",
    "a, /, b=None, *args, k='x', **kwargs",
]
CALLS = st.tuples(
    st.lists(PARTS, max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "k", "other"]), PARTS, max_size=2),
)


def meaning(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What *function* understood; unequal for unequal calls."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return {
        name: tuple(sorted(value.items())) if name == "kwargs" else value
        for name, value in bound.arguments.items()
    }


@given(st.sampled_from(SIGNATURES), CALLS, CALLS)
def test_calls_have_one_key_just_when_they_are_equal(signature: str, one: Any, other: Any) -> None:
    function = made(signature)
    generate = exact_key_generator("n s", function, names=FunctionNames())
    try:
        meanings = [meaning(function, *call) for call in (one, other)]
    except TypeError:  # the signature refuses one of them
        return
    keys = [generate(*args, **kwargs) for args, kwargs in (one, other)]
    assert (keys[0] == keys[1]) == (meanings[0] == meanings[1])
    for key in keys:
        assert key.startswith(f"{__name__}:f|n%20s")
        assert len(key) <= 200
        assert key.isascii()
        assert key.isprintable()
        assert " " not in key


@given(CALLS)
def test_every_spelling_of_a_call_has_its_key(call: Any) -> None:
    function = made("a, b=2, *, k=5, **kwargs")
    generate = exact("a, b=2, *, k=5, **kwargs")
    args, kwargs = call
    refused = outcome(lambda: function(*args, **kwargs))
    if refused is TypeError:
        assert outcome(lambda: generate(*args, **kwargs)) is TypeError
        return
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    named = {**bound.arguments, **bound.arguments.pop("kwargs")}
    named.pop("kwargs", None)
    assert generate(**named) == generate(*args, **kwargs)
    assert generate(**dict(reversed(named.items()))) == generate(*args, **kwargs)


@pytest.mark.parametrize(
    ("parameters", "one", "other"),
    [
        ("*words", ("a b",), ("a", "b")),
        ("x", (1,), ("1",)),
        ("x", (None,), ("None",)),
        ("x", ((1, 2),), ("(1, 2)",)),
        ("x", (b"a",), ("a",)),
    ],
)
def test_calls_that_share_a_key_with_dogpile_do_not_with_exact_ones(
    parameters: str, one: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    assert exact(parameters)(*one) != exact(parameters)(*other)


def test_keyword_names_matter() -> None:
    assert exact("**words")(a=1) != exact("**words")(b=1)
    assert exact("a=None, b=None")(a=1) != exact("a=None, b=None")(b=1)


def test_equal_arguments_are_one_key() -> None:
    generate = exact("x")
    assert generate(1) == generate(1.0) == generate(True)


@given(
    st.lists(
        st.tuples(
            st.text("mod.|:#% é", min_size=1, max_size=4),
            st.text("f.<|:#%", max_size=4),
            st.none() | st.text("n|i1;%#", max_size=4),
        ),
        min_size=2,
        max_size=2,
        unique=True,
    ),
    st.lists(st.text("|i1;ns:", max_size=5), min_size=2, max_size=2),
)
def test_no_two_functions_share_keys(functions: list[Any], arguments: list[str]) -> None:
    keys = set()
    for (module, qualname, namespace), argument in zip(functions, arguments, strict=True):
        function = made("x")
        function.__module__, function.__qualname__ = module, qualname
        generate = exact_key_generator(namespace, function, names=FunctionNames())
        keys.add(generate(argument))
    assert len(keys) == 2


def named(module: str, qualname: str, namespace: str | None, argument: str) -> str:
    function = made("x")
    function.__module__, function.__qualname__ = module, qualname
    return exact_key_generator(namespace, function, names=FunctionNames())(argument)


LONG = "x" * 300
HASHED = named("m", "f", "s45:abcd", LONG)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("m", "f", "s6:q", "b"), ("m", "f", None, "q|s1:b")),
        (("m", "f|n", None, "a"), ("m", "f", "n", "a")),
        (("m", "f", "%20", "a"), ("m", "f", " ", "a")),
        (("m", "f", None, "%20"), ("m", "f", None, " x")),
        (("m", "f", "", "a"), ("m", "f", None, "a")),
        (("m:", "f", None, "a"), ("m", ":f", None, "a")),
        (("m", "f", "s45:abcd", LONG), ("m", "f", None, HASHED.partition("s45:")[2])),
        (("m", "f", None, LONG), ("m", "f", "s300", LONG)),
        (("m", "f" * 160 + "a", None, LONG), ("m", "f" * 160 + "b", None, LONG)),
    ],
)
def test_what_might_look_alike_does_not(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert named(*one) != named(*other)


USUAL = st.one_of(
    st.integers(),
    st.integers(-(10**19), 10**19),
    st.sampled_from([10**18, -(10**18), 10**18 - 1, 10**700, True]),
    st.text(st.characters(codec="utf-8"), max_size=6),
    st.text(string.printable, max_size=6),
    st.text("ab", max_size=60),
    st.floats(allow_nan=False),
)


@given(st.one_of(USUAL, st.lists(st.one_of(USUAL, st.tuples(USUAL)), max_size=5).map(tuple)))
def test_what_is_usual_is_written_as_all_else_is(key: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        quick = exact_keys._key("m:f", key)
        patch.setattr(exact_keys, "_LARGE", 0)
        patch.setattr(exact_keys, "_written", lambda _: "")
        assert exact_keys._key("m:f", key) == quick


def test_numbers_that_python_does_not_write_have_keys() -> None:
    huge = 10**5000
    for parameters, rest in (("a", ()), ("a, b", ("x",))):
        assert exact(parameters)(huge, *rest) != exact(parameters)(huge + 1, *rest)


@given(st.integers(1, 230), st.text("ab", max_size=2))
def test_long_names_and_arguments_are_hashed_as_a_whole(length: int, end: str) -> None:
    arguments = ("a", "b", "c" * 300, "c" * 301, "é" * 40, "é" * 41)
    keys = [
        named("m m", name, "n", argument + end)
        for name in ("f" * length, "f" * (length + 1))
        for argument in arguments
    ]
    assert len(set(keys)) == len(keys)
    assert max(map(len, keys)) <= 200
    assert all(key.isascii() and key.isprintable() and " " not in key for key in keys)


def test_short_keys_can_be_read() -> None:
    generate = exact_key_generator("people", made("name, age"), names=FunctionNames())
    assert generate("Ann Lee", 7) == f"{__name__}:f|people|t2:s7:Ann%20Leei7;"
    assert exact("x")("ann") == f"{__name__}:f|s3:ann"
    assert exact("x")("x" * 400).startswith(f"{__name__}:f#")


def test_keys_do_not_depend_on_the_process() -> None:
    # Whoever changes this loses what lies in caches.
    assert exact("x")("x" * 400) == f"{__name__}:f#3b55ab333f82b858ed7303963bd7ffb6b734e4fa"


def test_a_namespace_is_a_text() -> None:
    with pytest.raises(TypeError, match=r"namespace must be a text or None, not \('x', 'y'\)"):
        exact_key_generator(("x", "y"), made("a"))  # type: ignore[arg-type]


# -- Methods ---------------------------------------------------------------------------


def test_self_counts_where_it_has_a_canonical_form() -> None:
    names = FunctionNames()
    generate = exact_key_generator(None, Thing.method, names=names)
    assert generate(Thing(1), 5) == generate(self=Thing(1), a=5)
    assert len({generate(one, 5) for one in (Thing(1), Thing(2), Other(1))}) == 3
    assert exact_key_generator(None, Colour.method, names=names)(Colour.RED, 5)


def test_cls_is_the_class() -> None:
    generate = exact_key_generator(None, Thing.of.__func__, names=FunctionNames())  # type: ignore[attr-defined]
    assert generate(Thing, 1) != generate(Other, 1)
    assert "Thing" in generate(Thing, 1)

    class Local:
        pass

    with pytest.raises(KeyEncodingError, match=r"'cls' of .*found by its name"):
        generate(Local, 1)


def test_methods_of_two_classes_have_keys_of_their_own() -> None:
    names = FunctionNames()
    keys = [
        exact_key_generator(None, method, names=names)(Thing(1), 5)
        for method in (Thing.method, Colour.method)
    ]
    assert keys[0] != keys[1]


def test_an_object_that_other_processes_cannot_know_is_refused_by_name() -> None:
    names = FunctionNames()
    for generate in (
        exact_key_generator(None, Plain.method, names=names),
        exact_multi_key_generator(None, Plain.many, names=names),
    ):
        with pytest.raises(
            KeyEncodingError,
            match=r"'self' of .*Plain\.m.* frozen dataclass.* to_str=.* of the module",
        ):
            generate(Plain(), 5)


def test_other_arguments_that_cannot_be_part_of_a_key_are_named() -> None:
    with pytest.raises(KeyEncodingError, match=r"argument 'b' of .*:f cannot .*\[1\] is \[\]"):
        exact("a, b")(1, b=(1, []))
    with pytest.raises(KeyEncodingError, match=r"'rest'.*to_str"):
        exact("a, *rest")(1, 2, [])
    with pytest.raises(KeyEncodingError, match="'other'"):
        exact("a, **options")(1, other=[])
    with pytest.raises(KeyEncodingError, match="'args'"):
        exact_key_generator(None, max, names=FunctionNames())(1, [])


def test_to_str_gives_what_stands_for_each_argument() -> None:
    def stand_in(value: Any) -> Any:
        return "me" if isinstance(value, Plain) else value

    names = FunctionNames()
    generate = exact_key_generator(None, Plain.method, stand_in, names=names)
    assert generate(Plain(), 5) == generate(Plain(), a=5) != generate(Plain(), 6)
    same = exact("*args, **kwargs", lambda value: "same")
    assert same(1) == same(2) != same(1, 2) != same(x=1) != same(y=1)
    assert same(x=1, y=2) == same(y=1, x=2)
    of_class = exact_key_generator(None, Thing.of.__func__, lambda value: "same", names=names)  # type: ignore[attr-defined]
    assert of_class(Thing, 1) == of_class(Thing, 2) != of_class(Other, 1)
    with pytest.raises(KeyEncodingError, match="'a' of"):
        exact("a", lambda value: [])(1)


def test_str_as_regions_hand_it_on_makes_no_texts_of_arguments() -> None:
    assert exact("a", str)(1) == exact("a")(1) != exact("a", str)("1")
    function = made("*ids")
    both = [
        exact_multi_key_generator(None, function, to_str, names=FunctionNames())(1, "1")
        for to_str in (None, str)
    ]
    assert both[0] == both[1]
    assert len(set(both[0])) == 2


# -- Many keys -------------------------------------------------------------------------


@given(st.lists(PARTS, max_size=5))
def test_each_of_many_arguments_has_a_key(arguments: list[Any]) -> None:
    generate = exact_multi_key_generator("n", made("*ids"), names=FunctionNames())
    keys = generate(*arguments)
    assert keys == [generate(argument)[0] for argument in arguments]
    for one, key in zip(arguments, keys, strict=True):
        for other, another in zip(arguments, keys, strict=True):
            assert (one == other) == (key == another)


def test_many_keys_of_a_method_hold_the_object() -> None:
    generate = exact_multi_key_generator(None, Thing.many, names=FunctionNames())
    assert generate(Thing(1)) == []
    assert len({*generate(Thing(1), 1, 2), *generate(Thing(2), 1, 2)}) == 4
    assert generate(Thing(1), 1, 2) == generate(Thing(1), 1.0, True + 1)


def test_to_str_of_many() -> None:
    generate = exact_multi_key_generator(None, made("*ids"), abs, names=FunctionNames())
    assert generate(1, -1, 2) == [*generate(1), *generate(1), *generate(2)]


def test_many_keys_take_no_keywords() -> None:
    with pytest.raises(ValueError, match=r"'a'.*positional ones only"):
        exact_multi_key_generator(None, made("a"), names=FunctionNames())(a=1)


# -- Functions of one name -------------------------------------------------------------


def closure(number: int) -> Callable[[int], int]:
    def inner(a: int) -> int:
        return a + number

    return inner


def nothing_closed_over() -> Callable[[int], int]:
    def inner(a: int) -> int:
        return a

    return inner


def test_a_closure_is_not_taken_for_another_one() -> None:
    names = FunctionNames()
    first = closure(1)
    for _ in range(2):
        exact_key_generator(None, first, names=names)
    with pytest.raises(
        ValueError, match=r"another function has the keys .*inner\|\.\.\..*namespace"
    ):
        exact_key_generator(None, closure(2), names=names)
    exact_key_generator("second", closure(2), names=names)
    exact_key_generator(None, closure(2), names=FunctionNames())


def test_a_name_stays_taken_when_its_function_is_gone() -> None:
    names = FunctionNames()
    exact_key_generator(None, closure(1), names=names)
    with pytest.raises(ValueError, match="another function"):
        exact_key_generator(None, closure(2), names=names)


def test_names_do_not_keep_what_a_function_closes_over() -> None:
    function = closure(1)
    seen = weakref.ref(function)
    exact_key_generator(None, function, names=FunctionNames())
    exact_key_generator("a name for this test", function)
    del function
    gc.collect()
    assert seen() is None


def test_the_same_code_made_again_is_the_same_function() -> None:
    names = FunctionNames()
    keys = {exact_key_generator(None, nothing_closed_over(), names=names)(1) for _ in range(2)}
    assert len(keys) == 1


def test_lambdas_share_a_name_and_are_told_apart() -> None:
    exact_key_generator("lambdas", lambda a: a)
    with pytest.raises(ValueError, match="lambda"):
        exact_key_generator("lambdas", lambda a: a + 1)


def test_objects_that_are_called_have_the_name_of_their_class() -> None:
    names = FunctionNames()
    first = functools.partial(made("a, b"), 1)
    assert exact_key_generator(None, first, names=names)(2)
    with pytest.raises(ValueError, match="partial"):
        exact_key_generator(None, functools.partial(made("a, b"), 2), names=names)


def test_a_module_that_is_loaded_again_keeps_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    source = tmp_path / "tiered_reloaded.py"
    source.write_text("def f(a): return a\n")
    module = importlib.import_module("tiered_reloaded")
    first = exact_key_generator(None, module.f)(1)
    source.write_text("def f(a): return a + 1  # and longer\n")
    importlib.reload(module)
    assert exact_key_generator(None, module.f)(1) == first
    monkeypatch.delitem(sys.modules, "tiered_reloaded")


def test_the_safe_characters_stand_for_themselves() -> None:
    text = "".join(sorted({*string.printable} - {*string.whitespace} - {*"|#%"}))
    assert canonical(text).decode() in exact("x")(text)


# -- In a region -----------------------------------------------------------------------


def exact_region() -> CacheRegion:
    return make_region(
        function_key_generator=exact_key_generator,
        function_multi_key_generator=exact_multi_key_generator,
    ).configure("memory")


def decorated(region: CacheRegion, number: int) -> Any:
    """A closure: the same name each time."""

    @region.cache_on_arguments()
    def inner(a: Any, b: Any = 0) -> Any:
        return [number, a, b]

    return inner


def test_a_region_with_exact_keys() -> None:
    function = decorated(exact_region(), 1)
    assert function("1") == [1, "1", 0]
    assert function(1) == function(b=0, a=1.0) == function(True) == [1, 1, 0]
    assert function(1) is function(b=0, a=1.0)
    function.invalidate(a=1)
    assert function.get(1, 0) is NO_VALUE
    assert function.get("1")


def test_a_region_refuses_another_function_of_one_name() -> None:
    region = exact_region()
    decorated(region, 1)
    with pytest.raises(ValueError, match="namespace"):
        decorated(region, 2)
    # Made again with all that is around it, as by who makes an application twice.
    assert decorated(exact_region(), 2)(1) == [2, 1, 0]


def test_many_exact_keys_in_a_region() -> None:
    region = exact_region()

    def make(number: int) -> Any:
        @region.cache_multi_on_arguments()
        def inner(*ids: Any) -> list[Any]:
            return [(number, one) for one in ids]

        return inner

    function = make(1)
    assert function(1, "1", 1.0) == [(1, 1), (1, "1"), (1, 1)]
    with pytest.raises(ValueError, match="namespace"):
        make(2)


def test_methods_in_a_region_with_exact_keys() -> None:
    class Account(NamedTuple):
        number: int

    region = exact_region()

    def balance(self: Account) -> int:
        return self.number

    Account.balance = region.cache_on_arguments()(balance)  # type: ignore[attr-defined]
    assert [Account(n).balance() for n in (1, 2, 1)] == [1, 2, 1]  # type: ignore[attr-defined]
    assert Plain().method(1) == 1
    method = region.cache_on_arguments()(Plain.method)
    with pytest.raises(KeyEncodingError, match="'self'"):
        method(Plain(), 1)


def around(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    "generator",
    [ours.function_key_generator, ours.kwarg_function_key_generator],
    ids=["positional", "keyword"],
)
@pytest.mark.parametrize("function", [Thing(1).method, Thing.of, Thing], ids=repr)
def test_what_is_bound_already_is_no_argument(generator: Generator, function: Any) -> None:
    region = make_region(function_key_generator=generator).configure("memory")
    cached = region.cache_on_arguments()(function)
    assert [cached(1), cached(2)] == [function(1), function(2)]
    assert [cached.get(1), cached.get(2)] == [function(1), function(2)]
    cached.invalidate(1)
    assert [cached.get(1), cached.get(2)] == [NO_VALUE, function(2)]


def test_what_hangs_on_a_wrapped_method_has_its_keys() -> None:
    region = make_region().configure("memory")
    method = region.cache_on_arguments()(around(Thing.method))
    assert (method(Thing(1), 2), method.get(Thing(1), 2)) == (2, 2)
    assert list(region.backend.cache) == [f"{__name__}:method|{Thing(1)} 2"]  # type: ignore[attr-defined]
    method.invalidate(Thing(1), 2)
    assert method.get(Thing(1), 2) is NO_VALUE


def test_many_keys_of_a_wrapped_method() -> None:
    class Twice:
        def of(self, *numbers: int) -> list[int]:
            return [number * 2 for number in numbers]

    region = make_region().configure("memory")
    twice, wrapped = Twice(), region.cache_multi_on_arguments()(around(Twice.of))
    assert wrapped(twice, 2, 1) == [4, 2]
    assert sorted(region.backend.cache) == [f"{__name__}:of|{n}" for n in (1, 2)]  # type: ignore[attr-defined]
    wrapped.set({1: "one"})
    wrapped.invalidate(twice, 2)
    assert wrapped.get(twice, 1, 2) == ["one", NO_VALUE]
    assert wrapped.refresh(twice, 1) == wrapped.get(twice, 1) == [2]
