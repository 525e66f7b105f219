"""Packages that are not there: told to who would write with them, and a miss for who reads."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tiered.clients.memcached import MemcachedClient
from tiered.codec import messagepack
from tiered.codec.optional import optional_module
from tiered.codec.values import Header, ValueCodec
from tiered.errors import CorruptValue, MissingDependency

HEADER = Header(1.5, 2.5)
SERIALIZERS = {"msgpack": 4, "msgspec": 5}
COMPRESSORS = {"zstd": 2, "lz4": 3}
MODULES = {"msgpack": "msgpack", "msgspec": "msgspec", "zstd": "zstandard", "lz4": "lz4"}


def forget() -> None:
    optional_module.cache_clear()
    messagepack._msgspec.cache_clear()


@pytest.fixture
def absent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an option whose package cannot be imported."""
    name: str = request.param
    module = MODULES[name]
    for loaded in [each for each in sys.modules if each.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    forget()
    yield name
    forget()


def options(name: str) -> dict[str, Any]:
    return {"serializer": name} if name in SERIALIZERS else {"compress": name}


@pytest.mark.parametrize("absent", MODULES, indirect=True)
def test_who_would_write_with_it_is_told_what_to_install(absent: str) -> None:
    argument = next(iter(options(absent)))
    message = (
        rf"^{argument}='{absent}' needs the package {MODULES[absent]}: "
        rf"pip install 'tiered\[{absent}\]'$"
    )
    with pytest.raises(MissingDependency, match=message):
        ValueCodec(checksum_key="secret", **options(absent))
    with pytest.raises(MissingDependency, match=message):
        MemcachedClient(["localhost"], checksum_key="secret", **options(absent))


@pytest.mark.parametrize("absent", MODULES, indirect=True)
def test_who_reads_misses(absent: str) -> None:
    one = ValueCodec(checksum_key="secret")
    numbers = (SERIALIZERS.get(absent, 1), COMPRESSORS.get(absent, 0))
    for _ in range(2):
        envelope = one._seal(b"k", *numbers, HEADER, b"payload")
        with pytest.raises(CorruptValue, match=rf"MissingDependency: .*'tiered\[{absent}\]'"):
            one.decode(b"k", envelope)
        assert one.header(b"k", envelope) == HEADER


@pytest.mark.parametrize("absent", ["msgspec"], indirect=True)
def test_what_was_absent_is_found_once_it_is_there(
    absent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingDependency):
        ValueCodec(serializer=absent)
    monkeypatch.undo()
    pytest.importorskip(absent)
    ValueCodec(serializer=absent)


def test_nothing_is_imported_before_it_is_used() -> None:
    program = (
        "import sys\n"
        "from tiered.codec.values import Header, ValueCodec\n"
        "one = ValueCodec(checksum_key='secret', compress_from=0)\n"
        "one.decode(b'k', one.encode(b'k', [1], Header(1.0, 2.0)))\n"
        f"assert not sys.modules.keys() & {set(MODULES.values())!r}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_plugin_for_mako_needs_mako(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mako", "mako.cache"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "tiered.region.plugins.mako", raising=False)
    forget()
    with pytest.raises(MissingDependency, match=r"needs the package mako: .*'tiered\[mako\]'$"):
        importlib.import_module("tiered.region.plugins.mako")
    forget()
