"""Tiers from one string: what each part becomes, and where its secrets come from."""

from __future__ import annotations

import inspect
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiered
from tests.opened import Opened
from tiered import from_url
from tiered.clients.namespace import NamespaceWrapper
from tiered.clients.null import NullCacheClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.sizes import parse_size
from tiered.testing import ManualClock
from tiered.urls import options as kinds
from tiered.urls.options import Option
from tiered.urls.schemes import COMMON, SCHEMES

SECRET = "hunter2-and-more"
KEYS = "checksum_key=env:TIERED_TEST_KEY"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERED_TEST_KEY", SECRET)
    monkeypatch.setenv("TIERED_TEST_OLD", "an older one")
    monkeypatch.setenv("TIERED_TEST_EMPTY", "")
    monkeypatch.delenv("TIERED_TEST_UNSET", raising=False)


class Made:
    """Notes with what each constructor was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        for kind in (
            tiered.InprocCacheClient,
            tiered.FilesCacheClient,
            tiered.MemcachedClient,
            tiered.ElastiCacheClient,
            tiered.DnsDiscovery,
            tiered.SrvDiscovery,
        ):
            monkeypatch.setattr(kind, "__init__", self.noting(kind, kind.__init__))

    def noting(self, kind: type, real: Any) -> Any:
        def make(made: Any, *arguments: Any, **options: Any) -> None:
            if type(made) is kind:
                named = {name: value for name, value in options.items() if name != "clock"}
                self.calls.append((kind.__name__, arguments, named))
            real(made, *arguments, **options)

        return make

    def by(self, url: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """The last call that *url* leads to."""
        from_url(url)
        return self.calls[-1]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(monkeypatch)


# -- What is built ----------------------------------------------------------------------


def test_one_part_is_that_client() -> None:
    client = from_url("inproc:10000")
    assert type(client) is tiered.InprocCacheClient
    assert client.capacity == 10_000
    client.put("k", "v", 60)
    assert client.get("k") == "v"
    assert type(from_url("null:")) is NullCacheClient


def test_several_parts_are_tiers_the_nearest_first(tmp_path: Path) -> None:
    with from_url(f"inproc:10000 | files://{tmp_path}/cache?size=1GB") as client:
        assert type(client) is TieredInclusiveClient
        near, far = client.clients
        assert type(near) is tiered.InprocCacheClient
        assert type(far) is tiered.FilesCacheClient
        assert (far.capacity, far.path) == (10**9, f"{tmp_path}/cache")
        client.put("k", [1], 60)
        assert near.get("k") == far.get("k") == [1]


def test_a_server_with_a_secret_of_the_environment(made: Made) -> None:
    name, arguments, options = made.by(f"inproc:10000 | memcached://h1,h2?{KEYS}")
    assert (name, arguments) == ("MemcachedClient", (["h1", "h2"],))
    assert options == {"checksum_key": [SECRET.encode()]}


@pytest.mark.parametrize(
    ("url", "size"),
    [
        ("inproc:10", 10),
        ("inproc://10", 10),
        ("  INPROC:10\n", 10),
        ("inproc:1e3", 1000),
        ("inproc:2.5", 2.5),
        ("inproc:inf", math.inf),
        ("inproc:0", 0),
        ("inproc:%31%30", 10),
    ],
)
def test_sizes_of_memory(url: str, size: float) -> None:
    assert from_url(url).capacity == size


@pytest.mark.parametrize(
    ("body", "addresses"),
    [
        ("h", ["h"]),
        ("h1:11212,h2,[::1]:11213", ["h1:11212", "h2", "[::1]:11213"]),
        ("unix:/run/m.sock", ["unix:/run/m.sock"]),
        ("/run/a%2Cb.sock,h", ["/run/a,b.sock", "h"]),
    ],
)
@pytest.mark.parametrize("start", ["memcached://", "memcached:"])
def test_servers_are_spelt_as_the_client_takes_them(
    made: Made, start: str, body: str, addresses: list[str]
) -> None:
    assert made.by(f"{start}{body}?{KEYS}")[1] == (addresses,)


@pytest.mark.parametrize("start", ["files://", "files:"])
def test_paths_are_decoded(made: Made, start: str) -> None:
    _, (size, path), _ = made.by(f"{start}/var/a%20b%7C@x+y?size=2MiB")
    assert (size, path) == (2 * 1024 * 1024, "/var/a b|@x+y")


def test_discoveries(made: Made) -> None:
    from_url(
        f"memcached+dns://cache.example.com:11212?{KEYS}&nameservers=10.0.0.2,10.0.0.3:5353"
        "&dns_timeout=1&family=ipv4&timeout=0.25"
    )
    from_url(f"memcached+srv://_memcached._tcp.example.com?{KEYS}&dns_timeout=3")
    from_url(f"elasticache://cfg.example.com?{KEYS}&every=30&fallback=h1,h2:11212")
    discovery, client, srv, _, amazon = made.calls
    asking = {"nameservers": ["10.0.0.2", "10.0.0.3:5353"], "timeout": 1, "family": "ipv4"}
    assert discovery == ("DnsDiscovery", ("cache.example.com", 11212), asking)
    assert client[2] == {"checksum_key": [SECRET.encode()], "timeout": 0.25}
    assert srv == ("SrvDiscovery", ("_memcached._tcp.example.com",), {"timeout": 3})
    assert amazon[:2] == ("ElastiCacheClient", ("cfg.example.com",))
    assert amazon[2]["every"] == 30
    assert amazon[2]["fallback"] == ["h1", "h2:11212"]


def test_shares_of_a_life(clock: ManualClock) -> None:
    client = from_url(
        "inproc:10?ttl_fraction=0.1 | inproc:20?ttl_fraction=5e-1|inproc:30", clock=clock
    )
    assert isinstance(client, TieredInclusiveClient)
    client.put("k", "v", 100)
    assert [one.get_ttl("k")[1] for one in client.clients] == [10, 50, 100]


def test_a_namespace_is_that_of_the_whole() -> None:
    client = from_url("inproc:10 | inproc:20?namespace=a%20name")
    assert isinstance(client, NamespaceWrapper)
    assert client.namespace == "a name"
    assert isinstance(client.client, TieredInclusiveClient)
    client.put("k", "v", 60)
    client.clear()
    assert client.get("k", None) is None
    alone = from_url("inproc:10?namespace=x")
    assert isinstance(alone, NamespaceWrapper)


def test_all_clients_have_the_clock(clock: ManualClock, tmp_path: Path) -> None:
    client = from_url(
        f"inproc:1 | files://{tmp_path}/c?size=1MB | memcached://h?{KEYS} | "
        f"memcached+dns://h?{KEYS} | memcached+srv://h?{KEYS} | elasticache://h?{KEYS} | null:",
        clock=clock,
    )
    assert isinstance(client, TieredInclusiveClient)
    assert len(client.clients) == len(SCHEMES)
    assert all(one.clock is clock for one in client.clients)


def test_nothing_is_done_before_the_first_use(tmp_path: Path) -> None:
    opened = Opened()
    client = from_url(f"files://{tmp_path}/cache?size=1MB | memcached://nowhere.invalid?{KEYS}")
    assert not opened.descriptors
    assert not (tmp_path / "cache").exists()
    client.close()


def test_nothing_is_imported_that_no_part_needs() -> None:
    program = (
        "import sys, tiered\n"
        "heavy = {'pymemcache', 'numpy', 'zmq', 'dns', 'msgpack', 'zstandard', 'lz4'}\n"
        "assert not heavy & sys.modules.keys()\n"
        "assert 'tiered.urls' not in sys.modules\n"
        "tiered.from_url('inproc:10 | null:')\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- Round trips ------------------------------------------------------------------------

TEXT = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\x7f"), min_size=1
)
SAFE = st.text("abcxyz019-_.~ |&=?%#@,+/", min_size=1, max_size=12)
PRINTABLE = st.text([chr(number) for number in range(0x21, 0x7F)], min_size=1, max_size=64)


def spelt(values: st.SearchStrategy[Any], spell: Any) -> st.SearchStrategy[tuple[Any, str]]:
    return values.map(lambda value: (value, spell(value)))


def encoded(text: str) -> str:
    return quote(text, safe="")


def sizes() -> st.SearchStrategy[tuple[int, str]]:
    units = {"": 1, "KB": 10**3, "mb": 10**6, "GB": 10**9, "KiB": 2**10, "gib": 2**30}
    return st.tuples(st.integers(1, 10**6), st.sampled_from(sorted(units))).map(
        lambda pair: (pair[0] * units[pair[1]], f"{pair[0]}{pair[1]}")
    )


def values_of(option: Option) -> st.SearchStrategy[tuple[Any, str]]:
    """Pairs of what the constructor is to be given, and how the URL says it."""
    own: dict[str, st.SearchStrategy[tuple[Any, str]]] = {
        "prefix": spelt(PRINTABLE, encoded),
        "nameservers": spelt(
            st.lists(st.sampled_from(["10.0.0.2", "[::1]:53", "1.1.1.1"]), min_size=1),
            lambda texts: ",".join(map(encoded, texts)),
        ),
        "fallback": spelt(
            st.lists(st.sampled_from(["h1", "/a,b|c", "[::1]:1"]), min_size=1, unique=True),
            lambda texts: ",".join(map(encoded, texts)),
        ),
        "weights": spelt(
            st.tuples(st.integers(1, 9), st.integers(1, 9)).map(list),
            lambda numbers: ",".join(map(str, numbers)),
        ),
        "username": spelt(SAFE.map(lambda text: text.replace(" ", "x")), encoded),
        "serializer": spelt(st.sampled_from(["pickle", "json", "raw"]), str),
        "compress": st.sampled_from([(True, "true"), (False, "false"), ("zlib", "zlib")]),
        "checksum_key": st.sampled_from(
            [
                ([SECRET.encode()], "env:TIERED_TEST_KEY"),
                ([SECRET.encode(), b"an older one"], "env:TIERED_TEST_KEY,env:TIERED_TEST_OLD"),
            ]
        ),
        "password": st.just((SECRET, "env:TIERED_TEST_KEY")),
    }
    if option.name in own:
        return own[option.name]
    by_kind: dict[int, st.SearchStrategy[tuple[Any, str]]] = {
        id(kinds.FLAG): st.sampled_from([(True, "true"), (False, "False")]),
        id(kinds.NUMBER): spelt(st.floats(0.001, 1e6) | st.integers(1, 10**6), repr),
        id(kinds.COUNT): spelt(st.integers(1, 10**6), str),
        id(kinds.SIZE): sizes(),
    }
    if id(option.kind) in by_kind:
        return by_kind[id(option.kind)]
    return spelt(st.sampled_from(option.kind.choices), encoded)


BODIES = {
    "inproc": "10",
    "files": "/var/cache/app",
    "memcached": "h1,h2",
    "elasticache": "h1",
    "memcached+dns": "name.example",
    "memcached+srv": "name.example",
    "null": "",
}


@given(st.data())
def test_options_reach_the_client(data: st.DataObject) -> None:
    scheme = SCHEMES[data.draw(st.sampled_from(sorted(SCHEMES.keys() - {"null"})))]
    must = {"checksum_key"} & scheme.options.keys() | {"size"} & scheme.options.keys()
    names = set(data.draw(st.lists(st.sampled_from(sorted(scheme.options)), unique=True))) | must
    if names & {"username", "password"}:
        names |= {"username", "password"}
    drawn = {name: data.draw(values_of(scheme.options[name])) for name in names}
    order = data.draw(st.permutations(sorted(drawn)))
    query = "&".join(f"{name}={drawn[name][1]}" for name in order)
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = Made(monkeypatch)
        made.by(f"{scheme.name}://{BODIES[scheme.name]}" + (f"?{query}" if query else ""))
    given_to: dict[str, Any] = {}
    for name, arguments, options in made.calls:
        asking = name.endswith("Discovery")
        for key, value in options.items():
            given_to["dns_timeout" if asking and key == "timeout" else key] = value
        if name == "FilesCacheClient":
            given_to["size"] = arguments[0]
    for name, (value, _) in drawn.items():
        assert given_to.pop(name) == value
        assert type(value) in (str, int, float, bool, list)
    assert not given_to


@given(TEXT)
def test_any_text_can_be_a_namespace_or_a_path(text: str) -> None:
    client = from_url(f"inproc:1?namespace={encoded(text)}")
    assert isinstance(client, NamespaceWrapper)
    assert client.namespace == text
    found = from_url(f"files:///x/{encoded(text)}?size=1MB")
    assert isinstance(found, tiered.FilesCacheClient)
    assert found.path == os.path.abspath(f"/x/{text}")


# -- The table is that of the clients ---------------------------------------------------

LEFT_OUT = {
    "inproc": {"size", "store", "weigher", "on_evict", "clock"},
    "files": {"path", "clock"},
    "memcached": {"addresses", "tls_context", "clock"},
    "elasticache": {"endpoint", "options", "tls_context"},
}
CONSTRUCTORS: dict[str, Any] = {
    "inproc": tiered.InprocCacheClient,
    "files": tiered.FilesCacheClient,
    "memcached": tiered.MemcachedClient,
    "elasticache": tiered.ElastiCacheClient,
}


@pytest.mark.parametrize("scheme", sorted(CONSTRUCTORS))
def test_what_a_client_takes_a_url_can_say_but_for_what_is_no_text(scheme: str) -> None:
    takes = set(inspect.signature(CONSTRUCTORS[scheme]).parameters) - LEFT_OUT[scheme]
    says = {one.argument or one.name for one in SCHEMES[scheme].options.values()}
    if scheme == "elasticache":
        says -= {*SCHEMES["memcached"].options} - {"connect_timeout", "timeout"}
    assert says == takes


def reference() -> str:
    return (Path(__file__).parents[2] / "docs/reference/urls.md").read_text()


def rows_of(page: str, heading: str) -> list[list[str]]:
    section = page.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_reference_has_all_schemes() -> None:
    rows = rows_of(reference(), "Schemes")
    assert [row[0] for row in rows] == [f"`{scheme.form}`" for scheme in SCHEMES.values()]


def test_the_reference_has_all_options() -> None:
    expected: dict[str, list[str]] = {}
    for option in COMMON.values():
        expected[option.name] = [f"`{option.name}`", "all", option.kind.right, option.about]
    for scheme in SCHEMES.values():
        for option in scheme.options.values():
            row = expected.setdefault(
                option.name, [f"`{option.name}`", "", option.kind.right, option.about]
            )
            row[1] = f"{row[1]}, {scheme.name}".removeprefix(", ")
    assert rows_of(reference(), "Options") == list(expected.values())


# -- Secrets ----------------------------------------------------------------------------


def test_secrets_are_read_at_the_call(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memcached://h?{KEYS}"
    assert made.by(url)[2]["checksum_key"] == [SECRET.encode()]
    monkeypatch.setenv("TIERED_TEST_KEY", "another")
    assert made.by(url)[2]["checksum_key"] == [b"another"]


def test_secrets_that_are_no_text_are_bytes(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERED_TEST_KEY", os.fsdecode(b"\xff\xfe|&"))
    assert made.by(f"memcached://h?{KEYS}")[2]["checksum_key"] == [b"\xff\xfe|&"]


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"a key", b"a key"),
        (b"a key\n", b"a key"),
        (b"a key\r\n", b"a key"),
        (b"a key\r", b"a key\r"),
        (b" a key \n\n", b" a key \n"),
        (b"two\nlines", b"two\nlines"),
        (b"\xff\x00", b"\xff\x00"),
        (b"x" * 65_536, b"x" * 65_536),
    ],
)
def test_secrets_of_files_lose_the_last_line_end(
    made: Made, tmp_path: Path, content: bytes, key: bytes
) -> None:
    path = tmp_path / "the, key"
    path.write_bytes(content)
    found = made.by(f"memcached://h?checksum_key=file:{encoded(str(path))},env:TIERED_TEST_OLD")
    # A path is as good with plain slashes, which is how people write it.
    plain = made.by(f"memcached://h?checksum_key=file:{quote(str(path))}")
    assert found[2]["checksum_key"] == [key, b"an older one"]
    assert plain[2]["checksum_key"] == [key]


def test_several_keys_are_for_their_rotation(tmp_path: Path) -> None:
    path = f"files://{tmp_path}/c?size=1MB"
    with from_url(f"{path}&checksum_key=env:TIERED_TEST_OLD") as old:
        old.put("k", "v", 60)
    with from_url(f"{path}&checksum_key=env:TIERED_TEST_KEY,env:TIERED_TEST_OLD") as both:
        assert both.get("k") == "v"
    with from_url(f"{path}&{KEYS}") as new:
        assert new.get("k", None) is None


def test_what_is_built_shows_no_secret(tmp_path: Path) -> None:
    client = from_url(
        f"inproc:10 | files://{tmp_path}/c?size=1MB&{KEYS} | "
        f"memcached://h?{KEYS}&username=u&password=env:TIERED_TEST_KEY&namespace=n"
    )
    for one in (client, client.explain("k"), client.stats):
        assert SECRET not in repr(one)


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        (
            "env:TIERED_TEST_UNSET",
            "names the environment variable 'TIERED_TEST_UNSET', which is not set",
        ),
        (
            "env:TIERED_TEST_EMPTY",
            "names the environment variable 'TIERED_TEST_EMPTY', which is empty",
        ),
        (
            "file:/there/is/none",
            "names the file '/there/is/none', which cannot be read: No such file or directory",
        ),
        ("file:/", "names the file '/', which cannot be read: Is a directory"),
        ("file:/dev/null", "names the file '/dev/null', which is empty"),
        (
            "file:/dev/zero",
            "names the file '/dev/zero', which has more than 65536 bytes: that is no key",
        ),
    ],
)
@pytest.mark.parametrize("option", ["checksum_key", "password"])
def test_secrets_that_are_not_there(option: str, reference: str, problem: str) -> None:
    url = f"memcached://h?{option}={reference}"
    with pytest.raises(ValueError) as caught:
        from_url(f"inproc:5 | {url}")
    assert str(caught.value) == f"part 2 ({url!r}): {option} {problem}"


def test_a_password_is_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="password must name one secret, not several"):
        from_url(f"memcached://h?{KEYS}&password=env:TIERED_TEST_KEY,env:TIERED_TEST_KEY")
    monkeypatch.setenv("TIERED_TEST_OLD", os.fsdecode(b"\xff-hidden"))
    with pytest.raises(ValueError, match="holds something else than UTF-8 text") as caught:
        from_url(f"memcached://h?{KEYS}&password=env:TIERED_TEST_OLD")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1000000", 10**6),
        ("5B", 5),
        ("1KB", 1000),
        ("1k", 1000),
        ("500MB", 500 * 10**6),
        ("2gb", 2 * 10**9),
        ("1TB", 10**12),
        ("1KiB", 1024),
        ("3mib", 3 * 2**20),
        ("1GiB", 2**30),
        ("1TiB", 2**40),
        *((text, None) for text in ["", "0", "0GB", "-1", "1.5GB", "1XB", "1iB", "1Ki", "GB"]),
        *((text, None) for text in ["1 GB", "\u0661", "9" * 16, "inf", "1GB\n"]),
    ],
)
def test_sizes_have_units(text: str, size: int | None) -> None:
    assert parse_size(text) == size
