"""Strings that are no tiers: what is said, and what must not be."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered import from_url
from tiered.clients.base import CacheClient
from tiered.codec.optional import optional_module
from tiered.errors import MissingDependency
from tiered.urls.schemes import SCHEMES

SECRET = "hunter2-and-more"
KEYS = "checksum_key=env:TIERED_TEST_KEY"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERED_TEST_KEY", SECRET)


# -- What cannot be right ---------------------------------------------------------------

PARTS = (
    "(parts are written inproc:ENTRIES, files:///PATH?size=BYTES, memcached://SERVER,SERVER, "
    "elasticache://ENDPOINT, memcached+dns://NAME:PORT, memcached+srv://NAME, null:)"
)
EMPTY = "it is empty; parts are divided by one |, as in 'inproc:1000 | null:'"

PROBLEMS = [
    ("", EMPTY),
    ("memcachd://h", "'memcachd' is no scheme; did you mean 'memcached'? " + PARTS),
    ("localhost:11211", "'localhost' is no scheme " + PARTS),
    ("inproc:1#2", "a # must be written as %23"),
    ("inproc:", "the size must be a number of entries, such as 10000, not ''"),
    ("inproc:1GB", "the size must be a number of entries, such as 10000, not '1GB'"),
    ("inproc:nan", "the size must be a number of entries, such as 10000, not 'nan'"),
    ("inproc:1e999", "the size must be a number of entries, such as 10000, not '1e999'"),
    ("inproc:-1", "size must be a number of entries (or units of weigher), 0 or more, not -1"),
    (
        "inproc:5?policy=lur",
        "policy must be one of fifo, lfu, lru, rr, s3fifo, not 'lur'; did you mean 'lru'?",
    ),
    ("null:1", "null: must stand alone, without '1'"),
    ("inproc:5?", "an option has no name; options are written ?name=value&name=value"),
    ("inproc:5?policy=lru&", "an option has no name; options are written ?name=value&name=value"),
    ("inproc:5?policy", "policy has no value; write policy=..., one of fifo, lfu, lru, rr, s3fifo"),
    (
        "inproc:5?policy=",
        "policy has no value; write policy=..., one of fifo, lfu, lru, rr, s3fifo",
    ),
    ("inproc:5?policy=lru&policy=lru", "policy is given twice"),
    ("inproc:5?namespace=%zz", "a % must be followed by two hexadecimal digits; write %25 for a %"),
    ("inproc:5?namespace=%ff", "what is written with % must be UTF-8"),
    ("inproc:5?namespace=%00", "control characters cannot be part of a value"),
    ("inproc:5?ttl_fraction=1", "ttl_fraction is for tiers, and there is one part only"),
    ("files:///x", "size must be given: what the files may take together, such as size=1GB"),
    (
        "files:///x?size=1XB",
        "size must be a number of bytes such as 1000000, 500MB or 1GiB, not '1XB'",
    ),
    ("files:///x?size=0", "size must be a number of bytes such as 1000000, 500MB or 1GiB, not '0'"),
    (
        "files://x/y?size=1GB",
        "the path must be that of a directory, from the root: files:///path, not 'x/y'",
    ),
    (
        "files:x?size=1GB",
        "the path must be that of a directory, from the root: files:///path, not 'x'",
    ),
    (
        "files:///?size=1GB",
        "the path must be that of a directory, from the root: files:///path, not '/'",
    ),
    (
        "files://?size=1GB",
        "the path must be that of a directory, from the root: files:///path, not ''",
    ),
    (
        "files://~/x?size=1GB",
        "~ stands for nobody's home here; write the whole path, files:///path",
    ),
    (
        "files:///~/x?size=1GB",
        "~ stands for nobody's home here; write the whole path, files:///path",
    ),
    ("files:///x?size=1GB&fsync=1", "fsync must be true or false, not '1'"),
    (
        "files:///x?size=1GB&strict=ture",
        "strict must be true or false, not 'ture'; did you mean 'true'?",
    ),
    (
        "memcached://h",
        "serializer='pickle' executes what it reads, so it needs a checksum_key to sign "
        "values with; give checksum_key=..., or serializer='json' or 'raw'",
    ),
    ("memcached://h:x?serializer=json", "address 'h:x' has the port 'x'; it must be a number"),
    (
        "memcached://?serializer=json",
        "address must be 'host', 'host:port', '[ipv6]:port', '/path/to.sock' or a (host, "
        "port) pair, not ''",
    ),
    ("memcached://h,h?serializer=json", "addresses name 'h:11211' twice"),
    (
        "memcached://h?serializer=jsn",
        "serializer must be one of json, msgpack, msgspec, pickle, raw, not 'jsn'; did you "
        "mean 'json'?",
    ),
    (
        "memcached://h?compress=yes",
        "compress must be one of lz4, zlib, zstd, true, false, not 'yes'",
    ),
    ("memcached://h?timeout=soon", "timeout must be a number, not 'soon'"),
    (
        "memcached://h?serializer=json&timeout=0",
        "timeout must be a positive, finite number of seconds, not 0",
    ),
    ("memcached://h?serializer=json&pool_size=1.5", "pool_size must be a whole number, not '1.5'"),
    (
        "memcached://h?serializer=json&pool_size=0",
        "pool_size must be a whole number, 1 or more, not 0",
    ),
    (
        "memcached://h?serializer=json&weights=1,2",
        "weights must hold 1 numbers, one a server, not [1, 2]",
    ),
    (
        "memcached://h?serializer=json&weights=1,x",
        "weights must be whole numbers with commas between them, not '1,x'",
    ),
    (
        "memcached://h?serializer=json&username=u",
        "password must be text without spaces, and go together with the other of username "
        "and password",
    ),
    (
        "memcached+dns://1.2.3.4?serializer=json",
        "name '1.2.3.4' is an IP address; it can be given as a server itself",
    ),
    (
        "memcached+srv://?serializer=json",
        "name must be a host name such as 'cache.example.com', not ''",
    ),
]
"""In the first part, which is shown as it is."""

MESSAGES = [
    ("  ", "part 1 (''): " + EMPTY),
    ("|inproc:1", "part 1 (''): " + EMPTY),
    ("inproc:1 |", "part 2 (''): " + EMPTY),
    ("inproc:1 || null:", "part 2 (''): " + EMPTY),
    ("inproc:1 | /var/cache", "part 2 ('/var/cache'): it has no scheme " + PARTS),
    ("\ud800", "url has a character that is no text, at 0"),
    (
        "inproc:5?polcy=lru",
        "part 1 ('inproc:5?***'): inproc has no option 'polcy'; did you mean 'policy'? "
        "(its options are namespace, policy, ttl_fraction)",
    ),
    (
        "inproc:5?size=9",
        "part 1 ('inproc:5?***'): inproc has no option 'size', which is one of files (its "
        "options are namespace, policy, ttl_fraction)",
    ),
    (
        "inproc:5?namespace=a|null:",
        "part 1 ('inproc:5?namespace=a'): namespace is for the whole, and must stand in "
        "the last part",
    ),
    (
        "inproc:5?ttl_fraction=x|null:",
        "part 1 ('inproc:5?ttl_fraction=x'): ttl_fraction must be a number, not 'x'",
    ),
    (
        "inproc:5|null:?ttl_fraction=1.5",
        "part 2 ('null:?ttl_fraction=1.5'): ttl_fraction must be above 0 and at most 1, not 1.5",
    ),
    (
        "inproc:5|null:?ttl_fraction=0",
        "part 2 ('null:?ttl_fraction=0'): ttl_fraction must be above 0 and at most 1, not 0",
    ),
    (
        "elasticache://h?serializer=json&weights=1",
        "part 1 ('elasticache://h?serializer=json&***'): elasticache has no option "
        "'weights', which is one of memcached (its options are checksum_key, compress, "
        "compress_from, connect_timeout, every, fallback, max_value_size, namespace, "
        "password, pool_size, pool_timeout, prefix, serializer, strict, timeout, "
        "ttl_fraction, username)",
    ),
]


@pytest.mark.parametrize(
    ("url", "message"),
    [*MESSAGES, *((url, f"part 1 ({url!r}): {problem}") for url, problem in PROBLEMS)],
)
def test_what_cannot_be_right_is_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        from_url(url)
    assert type(caught.value) is ValueError
    assert str(caught.value) == message


@pytest.mark.parametrize("url", [None, 5, b"inproc:5", ["inproc:5"]])
def test_a_url_is_text(url: Any) -> None:
    with pytest.raises(TypeError) as caught:
        from_url(url)
    kind = type(url).__name__
    assert str(caught.value) == f"url must be text such as 'inproc:1000', not {kind}"


def test_a_long_part_is_cut_in_messages() -> None:
    with pytest.raises(ValueError) as caught:
        from_url("inproc:" + "9" * 500)
    assert str(caught.value).startswith(f"part 1 ('inproc:{'9' * 93}...'): the size must be")


def test_a_package_that_is_not_there_is_told_with_the_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    optional_module.cache_clear()
    url = "memcached://h?serializer=json&compress=zstd"
    with pytest.raises(MissingDependency) as caught:
        from_url(f"null: | {url}")
    optional_module.cache_clear()
    assert str(caught.value) == (
        f"part 2 ({url!r}): compress='zstd' needs the package zstandard: pip install 'tiered[zstd]'"
    )


# -- Secrets that somebody wrote into it ---------------------------------------------------

LITERAL = "must not stand in a URL"
LEAKY = [
    ("memcached://h?checksum_key={}", LITERAL),
    ("memcached://h?checksum_key=literal:{}", LITERAL),
    ("memcached://h?checksum_key=env:{}", LITERAL),
    ("memcached://h?checksum_key=file:{}", LITERAL),
    ("memcached://h?checksum_key=env:HOME,{}", LITERAL),
    ("memcached://h?password={}&user=me", LITERAL),
    ("memcached://h?username=me&timeout=x&password={}", LITERAL),
    ("memcached://h?{}&password={}", LITERAL),
    ("files:///x?size=1GB&checksum_key={}", LITERAL),
    ("files:///x?size=huge&checksum_key={}", LITERAL),
    ("memcached://h?checksum_kye={}", "did you mean 'checksum_key'"),
    ("memcached://h?key={}&checksum_key=env:HOME", "no option 'key'"),
    ("memcachd://h?checksum_key={}", "did you mean 'memcached'"),
    ("redis://h?password={}", "no scheme"),
    ("memcached://me:{}@h", "must be written as %40"),
    ("memcached://{}@h?checksum_key=env:HOME", "must be written as %40"),
    ("redis://:{}@h:6379/0", "must be written as %40"),
    ("me:{}@h", "must be written as %40"),
    ("memcached://h?password={}@x", "must be written as %40"),
]


@pytest.mark.parametrize(("form", "problem"), LEAKY)
@pytest.mark.parametrize("secret", ["hunter-2", "a|hunter-2", "hunter-2&x=hunter-2", "%hunter-2"])
@pytest.mark.parametrize("before", ["", "inproc:10 | "])
def test_no_message_holds_a_secret_of_a_url(
    form: str, problem: str, secret: str, before: str
) -> None:
    url = before + form.replace("{}", secret)
    with pytest.raises(ValueError, match=r"^part [123] ") as caught:
        from_url(url)
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None
    if "|" not in secret:
        assert problem in str(caught.value)


# -- Anything ---------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(f"{name}:" for name in SCHEMES),
        *(f"{name}=" for scheme in SCHEMES.values() for name in scheme.options),
        *("//", "/", "|", " | ", "?", "&", "=", ",", ":", "%", "%2C", "%00", "@", "#", "[", "~"),
        *("env:TIERED_TEST_KEY", "env:", "file:/dev/null", "file:", "namespace=", "ttl_fraction="),
        *("h1", "11211", "[::1]:1", "unix:/x", "1", "0", "-1", "1e9", "inf", "nan", "1GB", "9" * 9),
        *("true", "json", "pickle", "raw", "zlib", "lru", "s3fifo", "rr", "ipv4", "é", "\x00"),
    ]
)  # fmt: skip


def check_anything(url: str) -> None:
    outcome: CacheClient | Exception
    try:
        outcome = from_url(url)
    except (ValueError, MissingDependency) as error:
        outcome = error
    if isinstance(outcome, CacheClient):
        assert SECRET not in repr(outcome)
        return
    assert type(outcome) in (ValueError, MissingDependency)
    assert re.match(r"part [0-9]+ \(|url has a character", str(outcome)), outcome
    assert SECRET not in str(outcome)


@given(st.text())
def test_any_text_is_a_client_or_refused(url: str) -> None:
    check_anything(url)


@given(st.lists(PIECES, max_size=16).map("".join))
def test_any_pieces_are_a_client_or_refused(url: str) -> None:
    check_anything(url)


@given(
    st.sampled_from(["files:/x", "memcached:h", "elasticache:h", "memcached+dns:h"]),
    st.lists(st.tuples(PIECES | st.text(), PIECES | st.text()), min_size=1, max_size=4),
)
def test_any_options_are_taken_or_refused(start: str, pairs: list[tuple[str, str]]) -> None:
    check_anything(f"{start}?{KEYS}&size=1MB&{'&'.join(map(''.join, pairs))}")
