"""The codec: what comes back is what was written under that key, or ``CorruptValue``."""

from __future__ import annotations

import json
import math
import pickle
import struct
import sys
import tracemalloc
import zlib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.codec.compress import COMPRESSORS, ZlibCompressor
from tiered.codec.serialize import (
    SERIALIZERS,
    JsonSerializer,
    PickleSerializer,
    RawSerializer,
)
from tiered.codec.sign import Signer
from tiered.codec.values import Header, ValueCodec
from tiered.errors import CorruptValue, UnserializableValue, ValueTooLarge

HEADER = Header(created=1.5, expires=2.5, keep=3.0, cost=0.25)
PICKLE, JSON, RAW = 1, 2, 3
ZLIB = 1

CODECS: dict[str, Callable[[], ValueCodec]] = {
    "signed pickle": lambda: ValueCodec(checksum_key="secret"),
    "signed json": lambda: ValueCodec(checksum_key="secret", serializer="json"),
    "json": lambda: ValueCodec(serializer="json"),
    "small json": lambda: ValueCodec(serializer="json", compress_from=0),
    "json as it is": lambda: ValueCodec(serializer="json", compress=False),
}
every_codec = pytest.mark.parametrize("kind", CODECS)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def codec(**options: Any) -> ValueCodec:
    return ValueCodec(**{"checksum_key": "secret", **options})


def raw(**options: Any) -> ValueCodec:
    return ValueCodec(serializer="raw", **options)


def sealed(
    one: ValueCodec, payload: bytes, *, serializer: int = PICKLE, compressor: int = 0
) -> bytes:
    """An envelope with a good signature around whatever is in it."""
    return one._seal(b"k", serializer, compressor, HEADER, payload)


class Bomb:
    """Says so when it is unpickled."""

    exploded = 0

    def __reduce__(self) -> Any:
        return explode, ()


def explode() -> None:
    Bomb.exploded += 1


@pytest.fixture(autouse=True)
def defused() -> None:
    Bomb.exploded = 0


# -- Round trips -----------------------------------------------------------------------


@every_codec
@given(value=json_values, name=st.binary())
def test_what_comes_back_is_what_was_written(kind: str, value: Any, name: bytes) -> None:
    one = CODECS[kind]()
    found, header = one.decode(name, one.encode(name, value, HEADER))
    # Text, because True == 1 == 1.0 and 0.0 == -0.0.
    assert repr(found) == repr(value)
    assert header == HEADER


@given(
    st.floats(allow_nan=False),
    st.floats(allow_nan=False),
    st.floats(0),
    st.floats(0, width=32),
)
def test_the_header_comes_back_exactly(
    created: float, expires: float, keep: float, cost: float
) -> None:
    header = Header(created, expires, keep, cost)
    one = codec()
    envelope = one.encode(b"k", None, header)
    assert one.header(b"k", envelope) == one.decode(b"k", envelope)[1] == header


def test_a_header_keeps_nothing_and_costs_nothing_unless_told() -> None:
    assert Header(1.0, 2.0) == (1.0, 2.0, 0.0, 0.0)


def test_the_overhead_is_that_of_an_empty_value() -> None:
    assert len(raw().encode(b"k", b"", HEADER)) == ValueCodec.OVERHEAD > 0


def test_the_envelope_is_the_documented_one() -> None:
    envelope = codec(serializer="raw").encode(b"k", b"payload", HEADER)
    layout = struct.Struct(">BBBBdddfI")
    signature, message = envelope[:16], envelope[16:]
    assert layout.unpack_from(message) == (0xC5, 1, RAW, 0, 1.5, 2.5, 3.0, 0.25, 1)
    assert message[layout.size :] == b"payload"
    assert signature == Signer(["secret"]).sign(message, b"k")
    # The bytes that lie on servers.
    assert signature.hex() == "d10c9227e84b926015f927e51ffde8b2"


# -- Whatever else there is, is corrupt ------------------------------------------------


@every_codec
def test_every_changed_bit_is_found(kind: str) -> None:
    one = CODECS[kind]()
    envelope = one.encode(b"k", {"a": "value"}, HEADER)
    for index in range(len(envelope)):
        for bit in range(8):
            changed = bytearray(envelope)
            changed[index] ^= 1 << bit
            for use in (one.decode, one.header):
                with pytest.raises(CorruptValue):
                    use(b"k", bytes(changed))


@every_codec
def test_every_cut_and_every_addition_is_found(kind: str) -> None:
    one = CODECS[kind]()
    envelope = one.encode(b"k", "value", HEADER)
    for length in range(len(envelope)):
        for part in (envelope[:length], envelope[length + 1 :]):
            with pytest.raises(CorruptValue):
                one.decode(b"k", part)
    for more in (envelope + b"\0", b"\0" + envelope, envelope * 2):
        with pytest.raises(CorruptValue):
            one.decode(b"k", more)


@every_codec
@pytest.mark.parametrize("other", [b"bob", b"", b"alic", b"alicee", b"Alice", b"alice\0"])
def test_a_value_moved_to_another_key_is_found(kind: str, other: bytes) -> None:
    one = CODECS[kind]()
    envelope = one.encode(b"alice", "hers", HEADER)
    for use in (one.decode, one.header):
        with pytest.raises(CorruptValue, match="the key it lies under"):
            use(other, envelope)
    with pytest.raises(CorruptValue):
        one.redate(other, envelope, 9.0)


@every_codec
@given(data=st.binary(max_size=200))
def test_foreign_bytes_are_found(kind: str, data: bytes) -> None:
    with pytest.raises(CorruptValue):
        CODECS[kind]().decode(b"k", data)


def test_no_byte_can_move_between_the_name_and_the_message() -> None:
    # What is signed is one after the other, so the bytes are the same; the length is not.
    for size in (10, 100_000):
        one, value = raw(compress=False), b"ab" * size
        envelope = one.encode(b"name", value, HEADER)
        for use in (one.decode, one.header, partial(one.redate, expires=9.0)):
            with pytest.raises(CorruptValue, match="the name has 3 bytes, the envelope is for 4"):
                use(b"ame", envelope + b"n")
            with pytest.raises(CorruptValue, match="the name has 5 bytes, the envelope is for 4"):
                use(b"bname", envelope[:-1])


def test_nothing_is_unpickled_before_its_signature_is_verified() -> None:
    one = codec()
    payload = pickle.dumps(Bomb())
    envelope = sealed(one, payload)
    attempts = [payload, payload + bytes(64), bytes(32) + payload + bytes(16)]
    attempts += [envelope[:length] for length in range(len(envelope))]
    attempts += [
        sealed(other, payload, serializer=serializer, compressor=compressor)
        for other in (codec(checksum_key="guess"), raw(), raw(compress=False))
        for serializer in (PICKLE, JSON, RAW)
        for compressor in (0, ZLIB)
    ]
    for index in range(len(envelope)):
        attempts.append(envelope[:index] + bytes([envelope[index] ^ 0x80]) + envelope[index + 1 :])
    for data in attempts:
        with pytest.raises(CorruptValue):
            one.decode(b"k", data)
    with pytest.raises(CorruptValue):
        one.decode(b"other", envelope)
    assert Bomb.exploded == 0
    one.header(b"k", envelope)
    one.redate(b"k", envelope, 9.0)
    assert Bomb.exploded == 0  # these leave the payload alone
    one.decode(b"k", envelope)  # and this is what would have happened
    assert Bomb.exploded == 1


def test_nothing_is_inflated_before_its_signature_is_verified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inflated: list[bytes] = []
    monkeypatch.setattr(
        ZlibCompressor, "decompress", lambda self, data, limit: inflated.append(data)
    )
    with pytest.raises(CorruptValue):
        codec().decode(b"k", sealed(codec(checksum_key="guess"), b"...", compressor=ZLIB))
    assert inflated == []


@pytest.mark.parametrize("serializer", ["json", "raw"])
def test_pickle_is_not_even_known_without_a_secret(serializer: str) -> None:
    # Without a secret everybody can make a good signature.
    one = ValueCodec(serializer=serializer)
    for compressor, payload in (
        (0, pickle.dumps(Bomb())),
        (ZLIB, zlib.compress(pickle.dumps(Bomb()))),
    ):
        with pytest.raises(CorruptValue, match="serialiser 1 is unknown or not allowed here"):
            one.decode(b"k", sealed(one, payload, compressor=compressor))
    assert Bomb.exploded == 0


def test_with_a_secret_each_serialiser_reads_what_the_others_wrote() -> None:
    codecs = [codec(serializer=name) for name in ("pickle", "json", "raw")]
    for writer in codecs:
        for reader in codecs:
            envelope = writer.encode(b"k", b"v" if writer is codecs[RAW - 1] else "v", HEADER)
            assert reader.decode(b"k", envelope)[0] in ("v", b"v")


def test_formats_of_another_time_are_found() -> None:
    one = codec()
    message = sealed(one, b"")[Signer.SIZE :]
    for index, value in ((0, 0xC4), (0, 0), (1, 0), (1, 2)):
        other = bytearray(message)
        other[index] = value
        with pytest.raises(CorruptValue, match=r"envelope format .* is not known here"):
            one.decode(b"k", one._signer.sign(bytes(other), b"k") + bytes(other))
        with pytest.raises(CorruptValue, match=r"envelope format .* is not known here"):
            one.header(b"k", one._signer.sign(bytes(other), b"k") + bytes(other))


@pytest.mark.parametrize("number", [6, 255])
def test_unknown_serialisers_are_found(number: int) -> None:
    with pytest.raises(CorruptValue, match=f"serialiser {number} is unknown"):
        codec().decode(b"k", sealed(codec(), b"", serializer=number))


@pytest.mark.parametrize("number", [4, 255])
def test_unknown_compressors_are_found(number: int) -> None:
    with pytest.raises(CorruptValue, match=f"unknown compressor {number}"):
        codec().decode(b"k", sealed(codec(), b"", compressor=number))


def test_an_expiry_that_is_no_number_is_found() -> None:
    one = codec()
    envelope = one.encode(b"k", 1, HEADER._replace(expires=math.nan))
    with pytest.raises(CorruptValue, match="no expiry"):
        one.decode(b"k", envelope)


def test_the_expiry_can_be_moved_without_the_value() -> None:
    one = codec(compress_from=0)
    value = ["value"] * 100
    dated = one.redate(b"k", one.encode(b"k", value, HEADER), 99.5)
    assert one.decode(b"k", dated) == (value, HEADER._replace(expires=99.5))


# -- Secrets ---------------------------------------------------------------------------


def test_another_secret_or_none_does_not_open_it() -> None:
    for writer, reader in (
        (codec(checksum_key="one"), codec(checksum_key="other")),
        (codec(checksum_key="one"), raw()),
        (raw(), codec(checksum_key="one")),
    ):
        with pytest.raises(CorruptValue, match="signature"):
            reader.decode(b"k", sealed(writer, b"", serializer=RAW))


def test_secrets_are_rotated_without_losing_a_value() -> None:
    old, both, new = (
        codec(checksum_key="old"),
        codec(checksum_key=["new", "old"]),
        codec(checksum_key=("new",)),
    )
    by_old, by_both = old.encode(b"k", 1, HEADER), both.encode(b"k", 2, HEADER)
    assert both.decode(b"k", by_old)[0] == 1
    assert both.decode(b"k", by_both)[0] == new.decode(b"k", by_both)[0] == 2
    # Who signs uses the newest, and what is dated anew is signed anew.
    assert new.decode(b"k", both.redate(b"k", by_old, 9.0))[0] == 1
    for reader, envelope in ((old, by_both), (new, by_old)):
        with pytest.raises(CorruptValue):
            reader.decode(b"k", envelope)


def test_a_secret_is_the_same_as_text_and_as_bytes() -> None:
    envelope = codec(checksum_key="schlüssel").encode(b"k", 1, HEADER)
    assert codec(checksum_key="schlüssel".encode()).decode(b"k", envelope)[0] == 1


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_secrets_of_any_length_count_to_their_last_byte(length: int) -> None:
    envelope = codec(checksum_key=b"x" * length).encode(b"k", 1, HEADER)
    assert codec(checksum_key=b"x" * length).decode(b"k", envelope)[0] == 1
    for other in (b"x" * (length - 1) + b"y", b"x" * (length + 1), b"x" * length + b"\0"):
        with pytest.raises(CorruptValue):
            codec(checksum_key=other).decode(b"k", envelope)


@pytest.mark.parametrize("size", [1, 100_000])
def test_signatures_are_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("tiered.codec.sign.hmac.compare_digest", compare)
    monkeypatch.setattr("tiered.codec.values.compare_digest", compare)
    old, both = (raw(checksum_key=keys, compress=False) for keys in ("old", ["new", "old"]))
    envelope = old.encode(b"k", bytes(size), HEADER)
    assert both.decode(b"k", envelope)[0] == bytes(size)
    signature = envelope[: Signer.SIZE]
    assert compared == [(both._signer.sign(envelope[16:], b"k"), signature), (signature, signature)]


def test_signing_does_not_change_the_signer() -> None:
    signer = Signer(["secret"])
    first = signer.sign(b"k", b"message")
    signer.sign(b"other", b"message")
    assert signer.sign(b"k", b"message") == first
    assert len(first) == Signer.SIZE
    # Each part counts, and where it is cut does not.
    assert signer.sign(b"k", b"mess", memoryview(b"age")) == first != signer.sign(b"message", b"k")


def test_no_secret_shows_in_a_message() -> None:
    with pytest.raises(TypeError, match="checksum_key must be str or bytes") as caught:
        Signer([12345])  # type: ignore[list-item]
    assert "12345" not in str(caught.value)
    with pytest.raises(TypeError, match="not bytearray") as caught:
        codec(checksum_key=bytearray(b"12345"))
    assert "12345" not in str(caught.value)


# -- Compression -----------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, "zlib"])
def test_compression_is_used_from_the_size_on_from_which_it_was_asked_for(
    compress: bool | str,
) -> None:
    one = raw(compress=compress, compress_from=100)
    at, below = (one.encode(b"k", bytes(length), HEADER) for length in (100, 99))
    assert len(at) < 60 + ValueCodec.OVERHEAD < len(below)
    assert at[19] == ZLIB
    assert below[19] == 0
    assert one.decode(b"k", at)[0] == bytes(100)
    assert len(raw(compress=False, compress_from=1).encode(b"k", bytes(100), HEADER)) > len(at)


@pytest.mark.parametrize("payload", [b"", b"abcdefgh", bytes(range(256))])
def test_what_does_not_get_shorter_stays_as_it_is(payload: bytes) -> None:
    one = raw(compress_from=0)
    envelope = one.encode(b"k", payload, HEADER)
    assert len(envelope) == len(payload) + ValueCodec.OVERHEAD
    assert one.decode(b"k", envelope)[0] == payload


def test_a_bomb_is_inflated_no_further_than_a_value_may_be() -> None:
    one = raw(max_value_size=1000)
    bomb = zlib.compress(bytes(100_000_000))
    envelope = sealed(one, bomb, serializer=RAW, compressor=ZLIB)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptValue, match="decompresses to more than 1000 bytes"):
            one.decode(b"k", envelope)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("length", "fits"), [(999, True), (1000, True), (1001, False)])
def test_the_bound_of_a_value_is_the_same_both_ways(length: int, fits: bool) -> None:
    one, value = raw(max_value_size=1000), bytes(length)
    envelope = sealed(one, zlib.compress(value), serializer=RAW, compressor=ZLIB)
    if fits:
        assert one.decode(b"k", one.encode(b"k", value, HEADER))[0] == value
        assert one.decode(b"k", envelope)[0] == value
    else:
        with pytest.raises(ValueTooLarge, match=r"^1001 bytes, the limit is 1000$"):
            one.encode(b"k", value, HEADER)
        with pytest.raises(CorruptValue, match="more than 1000 bytes"):
            one.decode(b"k", envelope)


def test_there_may_be_practically_no_bound() -> None:
    one = raw(max_value_size=sys.maxsize, compress_from=1)
    assert one.decode(b"k", one.encode(b"k", bytes(100), HEADER))[0] == bytes(100)


def test_damaged_compression_is_found() -> None:
    packed = zlib.compress(b"value" * 100)
    for length in range(len(packed)):
        with pytest.raises(CorruptValue, match=r"not zlib|ends early"):
            ZlibCompressor().decompress(packed[:length], 1000)
    with pytest.raises(CorruptValue, match="not zlib"):
        ZlibCompressor().decompress(b"nonsense", 1000)
    for more in (b"\0", packed):
        with pytest.raises(CorruptValue, match=f"{len(more)} bytes follow the zlib data"):
            ZlibCompressor().decompress(packed + more, 1000)
    assert ZlibCompressor().decompress(packed, 1000) == b"value" * 100


# -- JSON ------------------------------------------------------------------------------


@given(json_values)
def test_json_gives_back_exactly_what_it_took(value: Any) -> None:
    found = JsonSerializer().loads(JsonSerializer().dumps(value))
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": [1, -0.0], "a": None}, '{"b":[1,-0.0],"a":null}'),
        ("é\0\u2028", '"é\\u0000\u2028"'),
        ([math.inf, -math.inf], "[Infinity,-Infinity]"),
        (2**100, str(2**100)),
        (5e-324, "5e-324"),
    ],
)
def test_json_is_compact_utf8(value: Any, text: str) -> None:
    assert JsonSerializer().dumps(value) == text.encode()
    assert JsonSerializer().loads(text.encode()) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((1, 2), "value is a tuple, which JSON cannot give back"),
        ({1: "a"}, "value has the key 1; JSON keys are str"),
        ({True: "a"}, "value has the key True; JSON keys are str"),
        ({None: "a"}, "value has the key None; JSON keys are str"),
        ({type("Sub", (str,), {})("a"): 1}, "value has the key 'a'; JSON keys are str"),
        ({"a": [0, {"b": b"bytes"}]}, r"value\['a'\]\[1\]\['b'\] is a bytes,"),
        ({1, 2}, "value is a set"),
        (1j, "value is a complex"),
        (object(), "value is a object"),
        (type("Sub", (int,), {})(1), "value is a Sub"),
        (type("Sub", (list,), {})(), "value is a Sub"),
        (OrderedDict(a=1), "value is a OrderedDict"),
        ("\ud800", "a str is not valid Unicode"),
        ({"\ud800": 1}, "a str is not valid Unicode"),
        pytest.param(10**5000, "digits", id="a huge number"),
        pytest.param([-(10**5000)], "digits", id="a huge number in a list"),
    ],
)
def test_json_refuses_what_it_would_not_give_back(value: Any, message: str) -> None:
    with pytest.raises(UnserializableValue, match=message):
        JsonSerializer().dumps(value)


def test_json_refuses_what_is_nested_without_end() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(UnserializableValue, match="nested too deeply"):
        JsonSerializer().dumps(circle)
    circle.clear()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nope", b"\xff", b"[1] 2", b"[" * 100_000, b"1" * 5000]
)
def test_what_is_not_json_is_found(data: bytes) -> None:
    with pytest.raises(CorruptValue, match=r"serialiser 2, .* cannot be read: \w+Error: "):
        codec().decode(b"k", sealed(codec(), data, serializer=JSON))


def test_json_that_came_from_elsewhere_is_read_as_json_reads_it() -> None:
    assert JsonSerializer().loads(json.dumps({"é": [1.5]}).encode()) == {"é": [1.5]}


# -- Pickle and raw --------------------------------------------------------------------


class Unwilling:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError("not today")


class Doubtful:
    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_pickle_says_what_it_cannot_take_and_why() -> None:
    with pytest.raises(UnserializableValue, match="cannot pickle function: ") as caught:
        PickleSerializer().dumps(lambda: 1)
    assert caught.value.__cause__ is not None
    with pytest.raises(UnserializableValue, match="cannot pickle Unwilling: not today"):
        PickleSerializer().dumps(Unwilling())


@pytest.mark.parametrize(
    "data", [b"", b"not a pickle", pickle.dumps(Doubtful()), b"cno_such\nx\n."]
)
def test_pickle_says_what_it_cannot_read_and_why(data: bytes) -> None:
    with pytest.raises(CorruptValue, match=r"serialiser 1, .* cannot be read: \w+Error: "):
        codec().decode(b"k", sealed(codec(), data))


@pytest.mark.parametrize("value", ["text", None, 1, bytearray(b"a"), memoryview(b"a")])
def test_raw_takes_bytes_alone(value: Any) -> None:
    with pytest.raises(UnserializableValue, match=f"takes bytes, not {type(value).__name__}"):
        RawSerializer().dumps(value)


@given(st.binary())
def test_raw_bytes_are_what_they_are(value: bytes) -> None:
    assert RawSerializer().dumps(value) == RawSerializer().loads(value) == value


def test_numbers_on_the_wire_are_never_given_twice() -> None:
    assert {name: one.number for name, one in SERIALIZERS.items()} == {
        "pickle": PICKLE,
        "json": JSON,
        "raw": RAW,
        "msgpack": 4,
        "msgspec": 5,
    }
    assert {name: one.number for name, one in COMPRESSORS.items()} == {
        "zlib": ZLIB,
        "zstd": 2,
        "lz4": 3,
    }
    assert [name for name, one in SERIALIZERS.items() if one.executes] == ["pickle"]


# -- Options ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checksum_key": None}, ValueError, "serializer='pickle' executes .* a checksum_key"),
        ({"checksum_key": []}, ValueError, "needs a checksum_key"),
        ({"checksum_key": ""}, ValueError, "checksum_key must not be empty"),
        ({"checksum_key": [b"a", b""]}, ValueError, "checksum_key must not be empty"),
        ({"checksum_key": 7}, TypeError, "checksum_key must be str or bytes .*, not int"),
        ({"checksum_key": [7]}, TypeError, "checksum_key must be str or bytes .*, not int"),
        ({"checksum_key": {"a"}}, TypeError, "checksum_key must be str or bytes .*, not set"),
        ({"serializer": "yaml"}, ValueError, r"serializer must be one of \['json', .*, not 'yaml'"),
        ({"serializer": None}, TypeError, "serializer must be one of .*, not None"),
        ({"compress": "rar"}, ValueError, r"compress must be one of \['lz4', .*, not 'rar'"),
        ({"compress": None}, TypeError, "compress must be one of .*, not None"),
        ({"max_value_size": 0}, ValueError, "max_value_size must be .*, not 0"),
        ({"max_value_size": "1"}, TypeError, "max_value_size must be .*, not '1'"),
        ({"compress_from": -1}, ValueError, "compress_from must be .*, not -1"),
        ({"compress_from": None}, TypeError, "compress_from must be .*, not None"),
    ],
)
def test_options_that_cannot_be_right_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        codec(**options)
