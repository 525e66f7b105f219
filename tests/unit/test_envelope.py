"""The envelope: what comes back is what was written under that key, or nothing."""

from __future__ import annotations

import math
import pickle
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.codec.compress import ZlibCompressor
from tiered.codec.serialize import JsonSerializer, PickleSerializer, RawSerializer
from tiered.codec.sign import Signer
from tiered.codec.values import Header, ValueCodec
from tiered.errors import CorruptValue, UnserializableValue, ValueTooLarge

HEADER = Header(1.5, 2.5, 3.0, 0.25)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def codec(**options: Any) -> ValueCodec:
    return ValueCodec(**{"checksum_key": "secret", **options})


@given(json_values)
def test_what_comes_back_is_what_was_written(value: Any) -> None:
    for one in (codec(), codec(serializer="json"), ValueCodec(serializer="json")):
        found, header = one.decode(b"k", one.encode(b"k", value, HEADER))
        assert found == value
        assert type(found) is type(value)
        assert header == HEADER


def test_every_changed_byte_is_found() -> None:
    for one in (codec(), ValueCodec(serializer="json", compress=False)):
        sealed = one.encode(b"k", {"a": "value"}, HEADER)
        for index in range(len(sealed)):
            changed = bytearray(sealed)
            changed[index] ^= 1
            with pytest.raises(CorruptValue):
                one.decode(b"k", bytes(changed))


def test_every_cut_is_found() -> None:
    one = codec()
    sealed = one.encode(b"k", "value", HEADER)
    for length in range(len(sealed)):
        with pytest.raises(CorruptValue):
            one.decode(b"k", sealed[:length])
    with pytest.raises(CorruptValue):
        one.decode(b"k", sealed + b"x")


def test_a_value_moved_to_another_key_is_found() -> None:
    for one in (codec(), ValueCodec(serializer="json")):
        sealed = one.encode(b"alice", "hers", HEADER)
        for other in (b"bob", b"alic", b"alicee", b""):
            with pytest.raises(CorruptValue):
                one.decode(other, sealed)


def test_another_secret_does_not_open_it() -> None:
    sealed = codec(checksum_key="one").encode(b"k", 1, HEADER)
    with pytest.raises(CorruptValue):
        codec(checksum_key="other").decode(b"k", sealed)
    with pytest.raises(CorruptValue):
        ValueCodec(serializer="json").decode(b"k", sealed)


def test_secrets_can_be_rotated() -> None:
    old, new = codec(checksum_key="old"), codec(checksum_key=["new", "old"])
    assert new.decode(b"k", old.encode(b"k", 1, HEADER))[0] == 1
    sealed = new.encode(b"k", 2, HEADER)
    assert codec(checksum_key=b"new").decode(b"k", sealed)[0] == 2
    with pytest.raises(CorruptValue):
        old.decode(b"k", sealed)


def test_long_secrets_count_whole() -> None:
    sealed = codec(checksum_key="x" * 200).encode(b"k", 1, HEADER)
    assert codec(checksum_key="x" * 200).decode(b"k", sealed)[0] == 1
    with pytest.raises(CorruptValue):
        codec(checksum_key="x" * 199 + "y").decode(b"k", sealed)


executed: list[str] = []


def explode() -> None:
    executed.append("boom")


class Bomb:
    def __reduce__(self) -> Any:
        return explode, ()


def test_nothing_unsigned_is_unpickled() -> None:
    payload = pickle.dumps(Bomb())
    one = codec()
    forged = one._seal(b"k", 1, 0, HEADER, payload)
    foreign = [
        payload,
        bytes(16) + forged[16:],
        codec(checksum_key="x")._seal(b"k", 1, 0, HEADER, payload),
    ]
    for data in foreign:
        with pytest.raises(CorruptValue):
            one.decode(b"k", data)
    # Without a secret pickle is not even known, whoever signed.
    plain = ValueCodec(serializer="json")
    with pytest.raises(CorruptValue, match="not allowed"):
        plain.decode(b"k", plain._seal(b"k", 1, 0, HEADER, payload))
    assert executed == []
    one.decode(b"k", forged)  # and this is what would have happened
    assert executed == ["boom"]


def test_unknown_formats_are_found() -> None:
    one = codec()
    with pytest.raises(CorruptValue, match="serialiser 99"):
        one.decode(b"k", one._seal(b"k", 99, 0, HEADER, b""))
    with pytest.raises(CorruptValue, match="compressor 99"):
        one.decode(b"k", one._seal(b"k", 1, 99, HEADER, b""))
    with pytest.raises(CorruptValue, match="no expiry"):
        one.decode(b"k", one._seal(b"k", 1, 0, HEADER._replace(expires=math.nan), b""))
    message = b"\xc5\x02" + bytes(33) + b"\1"
    with pytest.raises(CorruptValue, match="format"):
        one.decode(b"k", one._signer.sign(message, b"k") + message)
    with pytest.raises(CorruptValue, match=r"cannot be read: UnpicklingError"):
        one.decode(b"k", one._seal(b"k", 1, 0, HEADER, b"not a pickle"))


def test_the_expiry_can_be_moved_without_the_value() -> None:
    one = codec()
    sealed = one.encode(b"k", "value", HEADER)
    assert one.header(b"k", sealed) == HEADER
    dated = one.redate(b"k", sealed, 99.5)
    assert one.decode(b"k", dated) == ("value", HEADER._replace(expires=99.5))
    with pytest.raises(CorruptValue):
        one.redate(b"other", sealed, 1.0)


def test_compression_is_used_when_it_helps() -> None:
    one = codec(compress_from=100)
    text = "abc" * 1000
    sealed = one.encode(b"k", text, HEADER)
    assert len(sealed) < 200
    assert one.decode(b"k", sealed)[0] == text
    noise = bytes(range(256)) * 2
    plain = codec(compress=False).encode(b"k", noise, HEADER)
    assert len(codec(compress_from=1, compress="zlib").encode(b"k", noise[:64], HEADER)) <= len(
        plain
    )


def test_a_bomb_is_not_inflated() -> None:
    one = codec(max_value_size=1000, serializer="raw")
    bomb = zlib.compress(bytes(1_000_000))
    with pytest.raises(CorruptValue, match="more than 1000 bytes"):
        one.decode(b"k", one._seal(b"k", 3, 1, HEADER, bomb))
    exact = zlib.compress(bytes(1000))
    assert one.decode(b"k", one._seal(b"k", 3, 1, HEADER, exact))[0] == bytes(1000)


def test_damaged_compression_is_found() -> None:
    packed = zlib.compress(b"value" * 100)
    with pytest.raises(CorruptValue, match="not zlib"):
        ZlibCompressor().decompress(b"nonsense", 1000)
    with pytest.raises(CorruptValue, match="ends early"):
        ZlibCompressor().decompress(packed[:-5], 1000)


def test_a_value_over_the_limit_is_refused() -> None:
    with pytest.raises(ValueTooLarge, match="the limit is 100"):
        codec(max_value_size=100, serializer="raw").encode(b"k", bytes(101), HEADER)


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1: "a"},
        {"a": (1,)},
        [{"a": b"bytes"}],
        b"bytes",
        {1, 2},
        1j,
        object(),
        "\ud800",
        type("Sub", (int,), {})(1),
    ],
)
def test_json_refuses_what_it_would_not_give_back(value: Any) -> None:
    with pytest.raises(UnserializableValue):
        JsonSerializer().dumps(value)


def test_json_that_is_none_is_found() -> None:
    for data in (b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(CorruptValue, match="cannot be read"):
            codec().decode(b"k", codec()._seal(b"k", 2, 0, HEADER, data))
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnserializableValue, match="deeply"):
        JsonSerializer().dumps(deep)
    while deep:
        deep = deep[0]


def test_pickle_says_what_it_cannot_take() -> None:
    with pytest.raises(UnserializableValue, match="cannot pickle function"):
        PickleSerializer().dumps(lambda: 1)


def test_raw_takes_bytes_alone() -> None:
    assert RawSerializer().loads(RawSerializer().dumps(b"as is")) == b"as is"
    with pytest.raises(UnserializableValue, match="takes bytes, not str"):
        RawSerializer().dumps("text")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, ValueError, "needs a checksum_key"),
        ({"checksum_key": ""}, ValueError, "checksum_key must not be empty"),
        ({"checksum_key": [b"a", b""]}, ValueError, "checksum_key must not be empty"),
        ({"checksum_key": []}, ValueError, "needs a checksum_key"),
        ({"checksum_key": 7}, TypeError, "checksum_key must be str or bytes"),
        ({"checksum_key": [7]}, TypeError, "checksum_key must be str or bytes"),
        ({"checksum_key": "k", "serializer": "yaml"}, ValueError, "serializer must be one of"),
        ({"checksum_key": "k", "serializer": None}, TypeError, "serializer must be one of"),
        ({"checksum_key": "k", "compress": "rar"}, ValueError, "compress must be one of"),
        ({"checksum_key": "k", "max_value_size": 0}, ValueError, "max_value_size must be"),
        ({"checksum_key": "k", "compress_from": -1}, ValueError, "compress_from must be"),
    ],
)
def test_options_that_cannot_be_right_are_refused(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        ValueCodec(**options)


def test_no_secret_shows_in_an_error() -> None:
    with pytest.raises(TypeError) as caught:
        Signer([12345])  # type: ignore[list-item]
    assert "12345" not in str(caught.value)
