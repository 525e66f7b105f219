"""Pages: all of one version of a value, each in its place, or ``CorruptValue``."""

from __future__ import annotations

import copy
import json
import pickle
import re
import tracemalloc
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.codec.pages import (
    MIN_PAGE_SIZE,
    PAGE_OVERHEAD,
    Manifest,
    join,
    page_key,
    split,
)
from tiered.codec.values import Header, ValueCodec
from tiered.errors import CorruptValue, UnserializableValue

HEADER: Final = Header(1.5, 2.5, 3.0, 0.25)
TOKEN: Final = bytes(range(16))
OTHER: Final = bytes(16)


def codec(**options: Any) -> ValueCodec:
    return ValueCodec(
        **{"checksum_key": "secret", "serializer": "raw", "compress": False, **options}
    )


def manifest_of(**changes: Any) -> Manifest:
    """One whose figures fit each other, but for the changes."""
    figures = {"token": TOKEN, "pages": 3, "size": 1400, "page_size": 512, "digest": bytes(16)}
    return Manifest(**{**figures, **changes})


# -- Cutting and joining ---------------------------------------------------------------


@given(size=st.integers(0, 5000), page_size=st.integers(MIN_PAGE_SIZE, 6000))
def test_what_is_joined_is_what_was_split(size: int, page_size: int) -> None:
    one = codec()
    value = bytes(index % 251 for index in range(size))
    sealed = one.encode(b"k", value, HEADER)
    manifest, pages = split(sealed, page_size)
    assert join(manifest, pages) == sealed
    assert all(len(page) == page_size for page in pages[:-1])
    assert PAGE_OVERHEAD < len(pages[-1]) <= page_size
    # By way of the bytes that lie on the server.
    found, header = one.decode(b"k", one.seal_manifest(b"k", manifest, HEADER))
    assert found == manifest
    assert type(found) is Manifest
    assert header == HEADER
    assert one.decode_pages(b"k", found, pages) == value


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_pages_are_as_few_as_can_be(count: int, extra: int) -> None:
    sealed = bytes(count * (MIN_PAGE_SIZE - PAGE_OVERHEAD) + extra)
    manifest, pages = split(sealed, MIN_PAGE_SIZE)
    assert manifest.pages == len(pages) == count + (extra > 0)
    assert join(manifest, pages) == sealed


def test_each_version_has_a_token_of_its_own() -> None:
    (one, pages), (other, _) = split(bytes(2000), 1000), split(bytes(2000), 1000)
    assert one.token != other.token
    assert one._replace(token=other.token) == other
    with pytest.raises(CorruptValue, match="page 0 is of another place or version"):
        join(other, pages)


@pytest.mark.parametrize("page_size", [MIN_PAGE_SIZE - 1, PAGE_OVERHEAD, 0, -1])
def test_a_page_size_that_cannot_be_right_is_refused(page_size: int) -> None:
    with pytest.raises(ValueError, match=f"page_size must be 512 bytes or more, not {page_size}"):
        split(b"sealed", page_size)


@pytest.mark.parametrize("token", [b"", bytes(15), bytes(17)])
def test_a_token_that_cannot_be_right_is_refused(token: bytes) -> None:
    with pytest.raises(ValueError, match="token must be 16 bytes, not "):
        split(b"sealed", 512, token=token)


def cut() -> tuple[ValueCodec, Manifest, list[bytes]]:
    one = codec()
    sealed = one.encode(b"k", bytes(range(250)) * 10, HEADER)
    manifest, pages = split(sealed, 600, token=TOKEN)
    assert len(pages) == 5
    return one, manifest, pages


def test_each_missing_page_is_found() -> None:
    _, manifest, pages = cut()
    for index in range(len(pages)):
        partial: list[bytes | None] = [*pages]
        partial[index] = None
        with pytest.raises(CorruptValue, match=f"^page {index} of 5 is missing$"):
            join(manifest, partial)
        with pytest.raises(CorruptValue, match="4 pages are there, not 5"):
            join(manifest, pages[:index] + pages[index + 1 :])
    for wrong in ([], [*pages, pages[0]], [*pages, None]):
        with pytest.raises(CorruptValue, match="pages are there, not 5"):
            join(manifest, wrong)


def test_each_page_of_another_length_is_found() -> None:
    _, manifest, pages = cut()
    for index, page in enumerate(pages):
        for other in (b"", page[:19], page[:20], page[:-1], page + b"\0", page * 2):
            with pytest.raises(CorruptValue, match=f"page {index} has {len(other)} bytes, not "):
                join(manifest, [*pages[:index], other, *pages[index + 1 :]])


def test_each_page_in_another_place_is_found() -> None:
    _, manifest, pages = cut()
    for index in range(len(pages) - 1):
        for other in range(len(pages) - 1):
            if index != other:
                with pytest.raises(CorruptValue, match=f"page {index} is of another place"):
                    join(manifest, [*pages[:index], pages[other], *pages[index + 1 :]])


def test_each_page_of_another_version_is_found() -> None:
    one, manifest, pages = cut()
    _, others = split(one.encode(b"k", bytes(2500), HEADER), 600, token=OTHER)
    for index in range(len(pages)):
        with pytest.raises(CorruptValue, match=f"page {index} is of another place or version"):
            join(manifest, [*pages[:index], others[index], *pages[index + 1 :]])
    with pytest.raises(CorruptValue):
        join(manifest, others)


def test_each_changed_byte_of_each_page_is_found() -> None:
    one, manifest, pages = cut()
    for number, page in enumerate(pages):
        for index in range(len(page)):
            changed = page[:index] + bytes([page[index] ^ 1]) + page[index + 1 :]
            with pytest.raises(CorruptValue):
                one.decode_pages(b"k", manifest, [*pages[:number], changed, *pages[number + 1 :]])


def test_another_value_with_the_same_token_is_found() -> None:
    one, manifest, _ = cut()
    sealed = one.encode(b"k", bytes(2500), HEADER)  # good, and as long
    other, pages = split(sealed, 600, token=TOKEN)
    assert one.decode_pages(b"k", other, pages) == bytes(2500)
    with pytest.raises(CorruptValue, match="another value than the manifest stands for"):
        one.decode_pages(b"k", manifest, pages)


def test_pages_of_another_name_are_found() -> None:
    one, manifest, pages = cut()
    with pytest.raises(CorruptValue, match="the key it lies under"):
        one.decode_pages(b"other", manifest, pages)


# -- Keys ------------------------------------------------------------------------------


@given(
    prefix=st.binary(max_size=64).filter(lambda text: re.fullmatch(rb"[\x21-\x7e]*", text)),
    token=st.binary(min_size=16, max_size=16),
    index=st.integers(0, 2**32 - 1),
)
def test_keys_of_pages_are_safe_and_short(prefix: bytes, token: bytes, index: int) -> None:
    key = page_key(prefix, token, index)
    assert re.fullmatch(rb"[\x21-\x7e]{1,249}", key)
    assert key.startswith(prefix + b"%")


def test_no_two_pages_have_the_same_key() -> None:
    keys = {
        page_key(prefix, token, index)
        for prefix in (b"", b"a/")
        for token in (TOKEN, OTHER)
        for index in range(200)
    }
    assert len(keys) == 800


# -- Manifests -------------------------------------------------------------------------


def test_the_manifest_is_the_documented_one() -> None:
    packed = manifest_of(digest=b"d" * 16).pack()
    assert packed == TOKEN + bytes.fromhex("00000003 0000000000000578 00000200") + b"d" * 16
    assert Manifest.unpack(packed, max_size=1400) == manifest_of(digest=b"d" * 16)


@pytest.mark.parametrize(
    "changes",
    [
        {"pages": 0},
        {"pages": 2},
        {"pages": 4},
        {"pages": 2**32 - 1},
        {"size": 0, "pages": 0},
        {"size": 16, "pages": 1},
        {"size": 984},
        {"size": 1477},
        {"size": 2**64 - 1},
        {"size": 2**32 - 1, "pages": 8729600},
        {"page_size": 0},
        {"page_size": PAGE_OVERHEAD},
        {"page_size": PAGE_OVERHEAD + 1, "pages": 1400},
        {"page_size": 511},
        {"page_size": 2**32 - 1},
    ],
)
def test_figures_that_do_not_fit_are_found(changes: dict[str, int]) -> None:
    one = codec(max_value_size=10_000)
    good = one.seal_manifest(b"k", manifest_of(), HEADER)
    assert one.decode(b"k", good)[0] == manifest_of()
    with pytest.raises(CorruptValue, match=r"a manifest of \d+ pages"):
        one.decode(b"k", one.seal_manifest(b"k", manifest_of(**changes), HEADER))


@given(st.binary(min_size=48, max_size=48))
def test_whatever_a_manifest_says_what_it_asks_for_is_bounded(data: bytes) -> None:
    try:
        manifest = Manifest.unpack(data, max_size=100_000)
    except CorruptValue:
        return
    assert manifest.pages <= 100_000 // (MIN_PAGE_SIZE - PAGE_OVERHEAD) + 1
    assert manifest.size <= 100_000


@pytest.mark.parametrize("length", [0, 1, 47, 49])
def test_a_manifest_of_another_length_is_found(length: int) -> None:
    one = codec()
    with pytest.raises(CorruptValue, match=f"48 bytes, not {length}"):
        one.decode(b"k", one._seal(b"k", 0, 0, HEADER, bytes(length)))


@pytest.mark.parametrize("compressor", [1, 2, 3])
def test_a_manifest_is_not_compressed(compressor: int) -> None:
    one = codec()
    with pytest.raises(CorruptValue, match="serialiser 0 is unknown or not allowed"):
        one.decode(b"k", one._seal(b"k", 0, compressor, HEADER, manifest_of().pack()))


def test_the_limit_is_that_of_the_largest_value_in_its_envelope() -> None:
    one = codec(max_value_size=5000)
    sealed = one.encode(b"k", bytes(5000), HEADER)
    manifest, pages = split(sealed, 1000)
    found, _ = one.decode(b"k", one.seal_manifest(b"k", manifest, HEADER))
    assert one.decode_pages(b"k", found, pages) == bytes(5000)
    smaller = codec(max_value_size=4999)
    with pytest.raises(CorruptValue, match="the limit is 5051"):
        smaller.decode(b"k", one.seal_manifest(b"k", manifest, HEADER))


def test_a_forged_manifest_takes_no_room() -> None:
    # Without a secret anybody can make one.
    one = codec(checksum_key=None)
    forged = [
        one.seal_manifest(b"k", manifest_of(size=size, pages=pages, page_size=page_size), HEADER)
        for size, pages, page_size in [
            (2**40, -(-(2**40) // (2**31 - 20)), 2**31),
            (2**31, -(-(2**31) // 492), 512),
            (2**27 + 52, -(-(2**27 + 52) // 492), 512),
        ]
    ]
    tracemalloc.start()
    try:
        for data in forged[:2]:
            with pytest.raises(CorruptValue):
                one.decode(b"k", data)
        # The largest that there may be. What it asks for is not made before it is there.
        manifest, _ = one.decode(b"k", forged[2])
        with pytest.raises(CorruptValue):
            join(manifest, [])
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_manifest_in_the_pages_of_another_is_found() -> None:
    one = codec()
    inner = one.seal_manifest(b"k", manifest_of(), HEADER)
    manifest, pages = split(inner, 512)
    with pytest.raises(CorruptValue, match="the pages of a manifest hold a manifest"):
        one.decode_pages(b"k", manifest, pages)


@pytest.mark.parametrize("serializer", ["pickle", "json", "raw", "msgpack", "msgspec"])
def test_no_value_is_a_manifest(serializer: str) -> None:
    if serializer.startswith("msg"):
        pytest.importorskip(serializer)
    for value in (manifest_of(), [manifest_of()]):
        with pytest.raises(UnserializableValue):
            codec(serializer=serializer).encode(b"k", value, HEADER)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_manifest_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="a manifest is not a value"):
        pickle.dumps(manifest_of(), protocol)
    with pytest.raises(TypeError, match="a manifest is not a value"):
        copy.copy(manifest_of())


def test_the_dates_of_a_value_in_pages_are_those_of_its_manifest() -> None:
    one, manifest, pages = cut()
    sealed = one.seal_manifest(b"k", manifest, HEADER)
    assert one.header(b"k", sealed) == HEADER
    dated = one.redate(b"k", sealed, 99.5)
    assert one.decode(b"k", dated) == (manifest, HEADER._replace(expires=99.5))
    assert one.decode_pages(b"k", manifest, pages) == bytes(range(250)) * 10


def test_each_changed_byte_and_each_cut_of_a_manifest_is_found() -> None:
    for one in (codec(), codec(checksum_key=None)):
        sealed = one.seal_manifest(b"k", manifest_of(), HEADER)
        for index in range(len(sealed)):
            changed = sealed[:index] + bytes([sealed[index] ^ 1]) + sealed[index + 1 :]
            for data in (changed, sealed[:index]):
                with pytest.raises(CorruptValue):
                    one.decode(b"k", data)
        with pytest.raises(CorruptValue):
            one.decode(b"other", sealed)


def test_secrets_are_rotated_without_losing_a_value_in_pages() -> None:
    old, both, new = (codec(checksum_key=keys) for keys in ("old", ["new", "old"], "new"))
    sealed = old.encode(b"k", bytes(3000), HEADER)
    manifest, pages = split(sealed, 1000)
    by_old = old.seal_manifest(b"k", manifest, HEADER)
    for envelope in (by_old, both.redate(b"k", by_old, 9.0)):
        found, _ = both.decode(b"k", envelope)
        assert both.decode_pages(b"k", found, pages) == bytes(3000)
    with pytest.raises(CorruptValue, match="signature"):
        new.decode(b"k", by_old)
    # Dated anew is signed anew, the pages are not.
    found, _ = new.decode(b"k", both.redate(b"k", by_old, 9.0))
    with pytest.raises(CorruptValue, match="signature"):
        new.decode_pages(b"k", found, pages)


def test_values_of_all_sizes_are_read_without_a_copy_for_each_step() -> None:
    one = codec(max_value_size=10_000_000)
    manifest, pages = split(one.encode(b"k", bytes(8_000_000), HEADER), 1_000_000)
    tracemalloc.start()
    try:
        one.decode_pages(b"k", manifest, pages)
        assert tracemalloc.get_traced_memory()[1] < 17_000_000  # the joined one, and the value
    finally:
        tracemalloc.stop()


def test_pages_carry_compressed_and_serialised_values() -> None:
    one = codec(serializer="json", compress=True)
    value = {"rows": [{"id": index, "text": json.dumps(index * 7919)} for index in range(3000)]}
    manifest, pages = split(one.encode(b"k", value, HEADER), 1024)
    assert len(pages) > 3
    assert one.decode_pages(b"k", manifest, pages) == value
