"""A region's configuration in a program's settings, and the small helpers."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.region import util
from tiered.region.config import RegionConfiguration, coerce_string_conf, configuration
from tiered.region.exception import ValidationError
from tiered.region.proxy import ProxyBackend


class Loud(ProxyBackend):
    class Inner(ProxyBackend):
        pass


TEXTS = st.one_of(
    st.text(max_size=8),
    st.text(alphabet="+-.eE0123456789 _", max_size=7),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            "true",
            " False ",
            "TRUE",
            "None",
            "none",
            "null",
            "nan",
            "inf",
            "1.",
            ".5e3",
            "٣",
            "1e999",
            "1_0",
            "",
            ".",
        ]
    ),
)


@given(
    st.dictionaries(st.text(max_size=3), st.one_of(TEXTS, st.integers(), st.none(), st.just([1])))
)
def test_texts_are_read_as_dogpile_reads_them(conf: dict[str, Any]) -> None:
    theirs = pytest.importorskip("dogpile.cache.util")
    before = dict(conf)
    read = coerce_string_conf(conf)
    expected = theirs.coerce_string_conf(conf)
    assert read == expected
    assert {name: type(value) for name, value in read.items()} == {
        name: type(value) for name, value in expected.items()
    }
    assert conf == before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" 60 ", 60),
        ("-1", -1),
        ("1.5e3", 1500.0),
        ("True", True),
        ("false", False),
        ("None", None),
        ("none", "none"),
        (" localhost:11211 ", "localhost:11211"),
        ("1 2", "1 2"),
    ],
)
def test_texts_are_read(text: str, value: Any) -> None:
    (read,) = coerce_string_conf({"x": text}).values()
    assert (read, type(read)) == (value, type(value))


def test_a_configuration_under_a_prefix() -> None:
    hour = datetime.timedelta(hours=1)
    settings = {
        "cache.short.backend": "memory",
        "cache.short.expiration_time": " 60 ",
        "cache.short.arguments.url": "a, b",
        "cache.short.arguments.lock_timeout": "5",
        "cache.short.arguments.deep.name": "x",
        "cache.short.replace_existing_backend": "true",
        "cache.short.stale_if_error": "1.5",
        "cache.short.inner.backend": "null",
        "cache.long.backend": "null",
        "cache.long.expiration_time": hour,
        "other": "7",
    }
    before = dict(settings)
    assert configuration(settings, "cache.short.") == RegionConfiguration(
        "memory",
        60,
        {"url": "a, b", "lock_timeout": 5, "deep.name": "x"},
        (),
        True,
        {"stale_if_error": 1.5},
    )
    assert configuration(settings, "cache.long.") == RegionConfiguration(
        "null", hour, {}, (), False, {}
    )
    assert settings == before


def test_a_configuration_without_a_prefix() -> None:
    assert configuration({"backend": "memory", "arguments.size": "1"}, "").arguments == {"size": 1}


def test_a_missing_backend_is_told_by_its_name() -> None:
    with pytest.raises(ValidationError, match=r"no 'cache\.backend'.*\['expiration_time'\]"):
        configuration({"cache.expiration_time": "5", "backend": "memory"}, "cache.")


@pytest.mark.parametrize("value", ["yes", "off", 2])
def test_a_switch_is_true_or_false(value: Any) -> None:
    with pytest.raises(
        ValidationError, match=r"c\.replace_existing_backend must be .*true or false"
    ):
        configuration({"c.backend": "memory", "c.replace_existing_backend": value}, "c.")


@pytest.mark.parametrize(
    ("wrap", "proxies"),
    [
        (None, ()),
        ("", ()),
        (f"{__name__}:Loud", (Loud,)),
        (f" {__name__}.Loud , {__name__}:Loud.Inner ,", (Loud, Loud.Inner)),
        ([Loud, f"{__name__}:Loud.Inner"], (Loud, Loud.Inner)),
        ((), ()),
        (Loud, (Loud,)),
    ],
)
def test_proxies_are_imported_by_name(wrap: Any, proxies: Any) -> None:
    assert configuration({"backend": "memory", "wrap": wrap}, "").wrap == proxies


def test_proxy_objects_are_taken_as_they_are() -> None:
    proxy = Loud()
    assert configuration({"backend": "memory", "wrap": [proxy]}, "").wrap == (proxy,)


@pytest.mark.parametrize(
    "name", ["no_such_module:Loud", f"{__name__}:Quiet", f"{__name__}.Quiet", "Loud", ":Loud", "a:"]
)
def test_a_proxy_that_cannot_be_imported_is_told(name: str) -> None:
    with pytest.raises(ValidationError, match=f"c.wrap names '{name}'.*package.module:Class"):
        configuration({"c.backend": "memory", "c.wrap": name}, "c.")


# -- Helpers ---------------------------------------------------------------------------


def test_a_long_repr_is_cut_in_the_middle() -> None:
    assert repr(util.repr_obj([1, 2])) == "[1, 2]"
    assert repr(util.repr_obj("x" * 298)) == repr("x" * 298)
    assert (
        repr(util.repr_obj("abc" * 100 + "z", 10))
        == "'abca ... (293 characters left out) ... abcz'"
    )
    assert repr(util.repr_obj("abcdef", 3)) == "' ... (6 characters left out) ... '"
    assert repr(util.repr_obj("abcdef", 0)) == " ... (8 characters left out) ... "


def test_reprs_are_equal_where_their_values_are() -> None:
    assert util.repr_obj([1]) == util.repr_obj([1], 5)
    assert util.repr_obj([1]) != util.repr_obj([2])
    assert util.repr_obj([1]) != [1]


def test_lists_of_one() -> None:
    assert util.to_list(None) is None
    assert util.to_list(None, ()) == ()
    assert util.to_list("ab") == ["ab"]
    assert util.to_list((1, 2)) == (1, 2)
    assert util.to_list([1]) == [1]
