"""Regions as the cache of Mako templates."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from tiered.region import make_region
from tiered.region.exception import ValidationError
from tiered.testing import ManualClock

pytest.importorskip("mako")

from mako import cache as mako_cache
from mako.lookup import TemplateLookup
from mako.template import Template

from tiered.region.plugins.mako import MakoPlugin


class Region:
    """Notes what it is asked, and keeps all."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.timeouts: list[Any] = []

    def get_or_create(self, key: str, creator: Any, expiration_time: Any) -> Any:
        self.timeouts.append(expiration_time)
        if key not in self.kept:
            self.kept[key] = creator()
        return self.kept[key]

    def get(self, key: str, expiration_time: Any) -> Any:
        self.timeouts.append(expiration_time)
        return self.kept.get(key)

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = value

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin as its entry point registers it, installed or not."""
    monkeypatch.setattr(mako_cache._cache_plugins, "impls", {"tiered": lambda: MakoPlugin})


@pytest.fixture
def region() -> Region:
    return Region()


@pytest.fixture
def lookup(region: Region) -> TemplateLookup:
    return TemplateLookup(
        cache_impl="tiered", cache_args={"regions": {"short": region, "long": Region()}}
    )


def shown(lookup: TemplateLookup, text: str, uri: str = "page.html", **values: Any) -> str:
    if not lookup.has_template(uri):
        lookup.put_string(uri, text)
    rendered: str = lookup.get_template(uri).render(**values)
    return rendered.strip()


PART = '${part()}<%def name="part()" cached="True" cache_region="short">${word}</%def>'


def test_a_part_is_made_once(lookup: TemplateLookup, region: Region) -> None:
    assert [shown(lookup, PART, word=word) for word in ("one", "two")] == ["one", "one"]
    assert region.kept == {"page.html|render_part": "one"}
    assert region.timeouts == [None, None]


def test_a_part_has_a_life_of_its_own(lookup: TemplateLookup, region: Region) -> None:
    shown(lookup, PART.replace("cached", 'cache_timeout="60" cached'), word="one")
    assert region.timeouts == [60]


def test_pages_of_one_region_are_told_apart(lookup: TemplateLookup) -> None:
    page = "<%page cached='True' cache_region='short'/>"
    assert [shown(lookup, page + name, name) for name in ("a.html", "a_html")] == [
        "a.html",
        "a_html",
    ]


def test_nested_parts_of_two_templates_are_told_apart(lookup: TemplateLookup) -> None:
    nested = PART.replace('cached="True" cache_region="short"', "").replace(
        "${word}",
        "<%def name='in_it()' cached='True' cache_region='short'>${word}</%def>${in_it()}",
    )
    assert [shown(lookup, nested, uri, word=uri) for uri in "abab"] == ["a", "b", "a", "b"]


def test_templates_without_a_name_are_told_apart_by_their_text(region: Region) -> None:
    def template(text: str | bytes) -> Template:
        return Template(text, cache_impl="tiered", cache_args={"regions": {"short": region}})

    page = "<%page cached='True' cache_region='short'/>"
    assert template(page + "a").render() == "a"
    assert template(page + "b").render() == "b"
    before = dict(region.kept)
    assert template(page + "a").render() == "a"
    assert template((page + "b").encode()).render() == "b"
    assert region.kept == before


def test_a_key_of_the_programs_own_is_used_as_it_is(lookup: TemplateLookup, region: Region) -> None:
    keyed = PART.replace("cached", 'cache_key="news:${number}" cached')
    assert shown(lookup, keyed, word="one", number="5") == "one"
    region.delete("news:5")
    assert shown(lookup, keyed, word="two", number="5") == "two"
    assert shown(lookup, keyed, "other.html", word="three", number="5") == "two"


def test_parts_can_be_forgotten(lookup: TemplateLookup) -> None:
    shown(lookup, PART, word="one")
    cache = lookup.get_template("page.html").cache
    cache.invalidate_def("part")
    assert shown(lookup, PART, word="two") == "two"
    cache.invalidate("render_part", region="short")
    assert shown(lookup, PART, word="three") == "three"


def test_a_program_can_read_and_write(lookup: TemplateLookup, region: Region) -> None:
    shown(lookup, PART, word="one")
    cache = lookup.get_template("page.html").cache
    assert cache.get("render_part", region="short", timeout=5) == "one"
    assert region.timeouts[-1] == 5
    cache.set("render_part", "two", region="short", timeout=5)
    assert shown(lookup, PART, word="three") == "two"
    cache.impl.put("render_part", "four", region="short")
    assert shown(lookup, PART, word="three") == "four"
    assert cache.get_or_create("mine", lambda: "made", region="short") == "made"
    assert cache.impl.get_and_replace("mine", lambda: "made again", region="short") == "made"
    assert region.kept["mine"] == "made"


def test_a_part_can_be_written_before_it_was_shown(lookup: TemplateLookup) -> None:
    lookup.put_string("page.html", PART)
    lookup.get_template("page.html").cache.set("render_part", "one", region="short")
    assert shown(lookup, PART, word="two") == "one"


def test_a_region_itself() -> None:
    clock = ManualClock()
    real = make_region(clock=clock).configure("memory")
    lookup = TemplateLookup(cache_impl="tiered", cache_args={"regions": {"short": real}})
    part = PART.replace("cached", 'cache_timeout="60" cached')
    came = [shown(lookup, part, word="one"), shown(lookup, part, word="two")]
    clock.advance(61)
    assert [*came, shown(lookup, part, word="three")] == ["one", "one", "three"]


def test_a_part_that_names_no_region_is_told(lookup: TemplateLookup) -> None:
    with pytest.raises(ValidationError, match=r"cache_region; .*None, but \['long', 'short'\]"):
        shown(lookup, PART.replace('cache_region="short"', ""), word="")
    with pytest.raises(ValidationError, match="no region 'shrt'"):
        shown(lookup, PART.replace('"short"', '"shrt"'), "other.html", word="")


def test_a_template_without_regions_is_told() -> None:
    with pytest.raises(ValidationError, match=r"must hold 'regions'.*\['dir'\]"):
        Template(PART, cache_impl="tiered", cache_args={"dir": "x"}).render(word="")


def test_the_entry_point_leads_to_the_plugin() -> None:
    import configparser
    from pathlib import Path

    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[2] / "setup.cfg")
    name, value = settings["options.entry_points"]["mako.cache"].strip().split(" = ")
    assert name == "tiered"
    assert EntryPoint(name, value, "mako.cache").load() is MakoPlugin
