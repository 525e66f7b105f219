"""Each serialiser and compressor: exactly what was written comes back, or nothing."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import random
import struct
import threading
import tracemalloc
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.codec.compress import COMPRESSORS, ZlibCompressor
from tiered.codec.serialize import SERIALIZERS
from tiered.codec.values import Header, ValueCodec
from tiered.errors import CorruptValue, UnserializableValue, ValueTooLarge

HEADER: Final = Header(1.5, 2.5, 3.0, 0.25)
PACKAGES: Final = {
    "msgpack": "msgpack",
    "msgspec": "msgspec",
    "zstd": "zstandard",
    "lz4": "lz4.frame",
}
TEXT: Final = ("json", "msgpack", "msgspec")
BINARY: Final = ("msgpack", "msgspec")

every_serializer = pytest.mark.parametrize("serializer", SERIALIZERS)
every_text = pytest.mark.parametrize("serializer", TEXT)
every_binary = pytest.mark.parametrize("serializer", BINARY)
every_compressor = pytest.mark.parametrize("compress", COMPRESSORS)


def make(serializer: str = "raw", compress: str | bool = False, **options: Any) -> ValueCodec:
    for name in (serializer, compress):
        if name in PACKAGES:
            pytest.importorskip(PACKAGES[str(name)])
    return ValueCodec(serializer=serializer, compress=compress, **options)


def keyed(serializer: str = "raw", compress: str | bool = False, **options: Any) -> ValueCodec:
    return make(serializer, compress, **{"checksum_key": "secret", **options})


def sealed(
    one: ValueCodec, payload: bytes, *, serializer: str = "raw", compress: str | None = None
) -> bytes:
    """An envelope with a good signature around whatever is in it."""
    compressor = 0 if compress is None else COMPRESSORS[compress].number
    return one._seal(b"k", SERIALIZERS[serializer].number, compressor, HEADER, payload)


@contextmanager
def allocating_less_than(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        assert tracemalloc.get_traced_memory()[1] - before < limit
    finally:
        tracemalloc.stop()


def values_of(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> Any:
    return st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=8
    )


TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN: Final = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
) | TEXTS
VALUES: Final = {
    "pickle": values_of(PLAIN | st.binary() | st.dates(), TEXTS | st.tuples(st.integers())),
    "json": values_of(PLAIN | st.integers(), TEXTS),
    "raw": st.binary(),
    "msgpack": values_of(PLAIN | st.binary(), PLAIN | st.binary()),
    "msgspec": values_of(PLAIN | st.binary(), PLAIN | st.binary()),
}


def as_text(value: Any) -> str:
    """Tells apart what is equal: 1 and True, 0.0 and -0.0."""
    return repr(value)


# -- Serialisers -----------------------------------------------------------------------


@every_serializer
@given(data=st.data())
def test_what_comes_back_is_what_was_written(serializer: str, data: st.DataObject) -> None:
    one = keyed(serializer)
    value = data.draw(VALUES[serializer])
    envelope = one.encode(b"k", value, HEADER)
    found, header = one.decode(b"k", envelope)
    assert as_text(found) == as_text(value)
    assert header == HEADER
    assert type(header) is Header


@every_serializer
def test_large_values_come_back_through_the_other_way_of_reading(serializer: str) -> None:
    one = keyed(serializer)
    for size in (8000, 8100, 8140, 8192, 8200, 100_000):
        value: Any = b"x" * size if serializer == "raw" else ["x" * size]
        found, _ = one.decode(b"k", one.encode(b"k", value, HEADER))
        assert found == value
        assert type(found) is type(value)


@every_text
@pytest.mark.parametrize("value", [math.inf, -math.inf, -0.0, 5e-324, 2**63, 2**64 - 1, -(2**63)])
def test_numbers_at_the_edge_come_back(serializer: str, value: Any) -> None:
    one = make(serializer)
    assert as_text(one.decode(b"k", one.encode(b"k", [value], HEADER))[0]) == as_text([value])


@every_text
def test_what_is_no_number_comes_back(serializer: str) -> None:
    one = make(serializer)
    found = one.decode(b"k", one.encode(b"k", math.nan, HEADER))[0]
    assert math.isnan(found)


class Colour(enum.IntEnum):
    RED = 1


class Word(enum.StrEnum):
    A = "a"


class Number(int):
    pass


class Text(str):
    __slots__ = ()


class Listed(list[Any]):
    pass


class Mapped(dict[Any, Any]):
    pass


class Fraction(float):
    pass


class Piece(bytes):
    pass


INEXACT: Final = {
    "tuple": (1, 2),
    "set": {1},
    "frozenset": frozenset({1}),
    "complex": 1j,
    "object": object(),
    "type": int,
    "int subclass": Number(1),
    "float subclass": Fraction(1.0),
    "str subclass": Text("a"),
    "bytes subclass": Piece(b"a"),
    "list subclass": Listed(),
    "dict subclass": Mapped(),
    "ordered": OrderedDict(a=1),
    "enum": Colour.RED,
    "str enum": Word.A,
    "bytearray": bytearray(b"a"),
    "memoryview": memoryview(b"a"),
    "datetime": datetime.datetime(2020, 1, 1),
    "aware datetime": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    "date": datetime.date(2020, 1, 1),
    "time": datetime.time(1),
    "timedelta": datetime.timedelta(1),
    "decimal": decimal.Decimal(1),
    "lone surrogate": "\ud800",
    "surrogate in a key": {"\udfff": 1},
    "tuple as a key": {(1, 2): 1},
    "subclass as a key": {Text("a"): 1},
    "enum as a key": {Colour.RED: 1},
    "frozenset as a key": {frozenset({1}): 1},
    "date as a key": {datetime.date(2020, 1, 1): 1},
    "generator": (each for each in "ab"),
    "range": range(3),
}


@every_text
@pytest.mark.parametrize("kind", INEXACT)
def test_what_would_not_come_back_the_same_is_refused(serializer: str, kind: str) -> None:
    one = make(serializer)
    value = INEXACT[kind]
    for whole in (value, [value], {"a": [1, {"b": value}]}):
        with pytest.raises(UnserializableValue):
            one.encode(b"k", whole, HEADER)


@every_binary
@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**50])
def test_integers_past_64_bits_are_refused(serializer: str, value: int) -> None:
    one = make(serializer)
    for whole in (value, [value], {value: 1}):
        with pytest.raises(UnserializableValue):
            one.encode(b"k", whole, HEADER)


@every_text
def test_a_refusal_names_the_part(serializer: str) -> None:
    with pytest.raises(UnserializableValue, match=r"value\['a'\]\[1\]\['b'\] is a tuple, which "):
        make(serializer).encode(b"k", {"a": [0, {"b": (1,)}]}, HEADER)
    with pytest.raises(UnserializableValue, match=r"value\['a'\] has the key \(1,\); .* keys are "):
        make(serializer).encode(b"k", {"a": {(1,): 2}}, HEADER)
    with pytest.raises(UnserializableValue, match="a str is not valid Unicode"):
        make(serializer).encode(b"k", ["\ud800"], HEADER)


@every_text
def test_what_holds_itself_is_refused(serializer: str) -> None:
    circle: list[Any] = []
    circle += [circle, circle]
    with pytest.raises(UnserializableValue, match="nested too deeply"):
        make(serializer).encode(b"k", circle, HEADER)
    circle.clear()


@every_text
def test_what_is_nested_as_deep_as_it_may_be_comes_back(serializer: str) -> None:
    value: Any = []
    for _ in range(200):
        value = [value]
    one = make(serializer)
    assert one.decode(b"k", one.encode(b"k", value, HEADER))[0] == value


def nested(head: bytes, depth: int, end: bytes) -> bytes:
    return head * depth + end


BOMBS: Final = {
    "array of four billion": b"\xdd\xff\xff\xff\xff",
    "map of four billion": b"\xdf\xff\xff\xff\xff",
    "text of four billion": b"\xdb\xff\xff\xff\xff",
    "bytes of four billion": b"\xc6\xff\xff\xff\xff",
    "extension of four billion": b"\xc9\xff\xff\xff\xff\x05",
    "arrays in arrays": nested(b"\xdd\x00\x00\x13\x88", 1000, bytes(100)),
    "short arrays in arrays": nested(b"\xdc\x00\xff", 80, bytes(15)),
    "long arrays in arrays": nested(b"\xdc\xff\xff", 900, bytes(100_000)),
    "maps in maps": nested(b"\xdf\x00\x00\x13\x88\xc0", 900, bytes(5000)),
    "deep arrays": nested(b"\x91", 100_000, b"\xc0"),
    "deep maps": nested(b"\x81\xc0", 100_000, b"\xc0"),
}


@every_binary
@pytest.mark.parametrize("kind", BOMBS)
def test_a_length_is_not_believed_before_the_content_is_there(serializer: str, kind: str) -> None:
    one, bomb = make(serializer), BOMBS[kind]
    envelope = sealed(one, bomb, serializer=serializer)
    with pytest.raises(CorruptValue):
        one.decode(b"k", envelope)  # imports what it needs
    with allocating_less_than(400_000 + 40 * len(bomb)), pytest.raises(CorruptValue):
        one.decode(b"k", envelope)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000])
def test_json_bombs_are_found(data: bytes) -> None:
    one = make("json")
    with allocating_less_than(3_000_000), pytest.raises(CorruptValue):
        one.decode(b"k", sealed(one, data, serializer="json"))


FOREIGN: Final = {
    "nothing": b"",
    "more": b"\xc0\xc0",
    "never used": b"\xc1",
    "extension": b"\xd4\x05\x00",
    "empty extension": b"\xc7\x00\x05",
    "map as a key": b"\x81\x80\x02",
    "not UTF-8": b"\xa1\xff",
    "surrogate": b"\xa3\xed\xa0\x80",
    "surrogate as a key": b"\x81\xa3\xed\xa0\x80\x01",
}


@every_binary
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_never_written_is_found(serializer: str, kind: str) -> None:
    one = make(serializer)
    with pytest.raises(CorruptValue, match="cannot be read"):
        one.decode(b"k", sealed(one, FOREIGN[kind], serializer=serializer))


@every_text
def test_each_cut_of_a_payload_is_found(serializer: str) -> None:
    one = make(serializer)
    payload = one.encode(b"k", {"a": [1, 2.5, "text", None, {"b": ["c"] * 60}]}, HEADER)[52:]
    for length in range(len(payload)):
        with pytest.raises(CorruptValue):
            one.decode(b"k", sealed(one, payload[:length], serializer=serializer))
    for more in (b"\0", b"1", payload):
        with pytest.raises(CorruptValue):
            one.decode(b"k", sealed(one, payload + more, serializer=serializer))


# -- Compressors -----------------------------------------------------------------------


@every_compressor
@given(
    value=st.binary(min_size=1)
    | st.builds(bytes.__mul__, st.binary(min_size=1), st.integers(1, 3000))
)
def test_what_is_inflated_is_what_was_compressed(compress: str, value: bytes) -> None:
    make(compress=compress)
    one = COMPRESSORS[compress]
    packed = one.compress(value)
    assert one.decompress(packed, len(value)) == value
    assert one.decompress(memoryview(packed), len(value) + 1) == value
    assert type(one.decompress(packed, len(value))) is bytes
    with pytest.raises(CorruptValue, match=f"more than {len(value) - 1} bytes"):
        one.decompress(packed, len(value) - 1)


@every_compressor
@every_serializer
def test_each_serialiser_goes_with_each_compressor(serializer: str, compress: str) -> None:
    one = keyed(serializer, compress, compress_from=100)
    value: Any = bytes(1000) if serializer == "raw" else ["value"] * 100
    envelope = one.encode(b"k", value, HEADER)
    assert envelope[19] == COMPRESSORS[compress].number
    assert len(envelope) < 300
    assert keyed(compress=False).decode(b"k", envelope) == (value, HEADER)


@every_compressor
@given(value=st.binary(max_size=300))
def test_compression_is_used_only_if_it_makes_shorter(compress: str, value: bytes) -> None:
    one = make(compress=compress, compress_from=0)
    envelope = one.encode(b"k", value, HEADER)
    assert one.decode(b"k", envelope)[0] == value
    assert len(envelope) <= len(value) + ValueCodec.OVERHEAD
    assert (envelope[19] == 0) == (len(envelope) == len(value) + ValueCodec.OVERHEAD)


def test_what_is_as_long_compressed_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ZlibCompressor, "compress", lambda self, data: data[::-1])
    envelope = make(compress=True, compress_from=0).encode(b"k", b"value", HEADER)
    assert envelope.endswith(b"value")


@every_compressor
def test_a_bomb_is_not_inflated_past_the_limit(compress: str) -> None:
    one = make(compress=compress, max_value_size=1000)
    bomb = COMPRESSORS[compress].compress(bytes(50_000_000))
    envelope = sealed(one, bomb, compress=compress)
    with (
        allocating_less_than(300_000 + len(envelope)),
        pytest.raises(CorruptValue, match="decompresses to more than 1000 bytes"),
    ):
        one.decode(b"k", envelope)
    with pytest.raises(ValueTooLarge):
        one.encode(b"k", bytes(1001), HEADER)


@every_compressor
@pytest.mark.parametrize("size", [1, 40, 5000, 200_000])
def test_each_cut_and_each_addition_to_compressed_data_is_found(compress: str, size: int) -> None:
    make(compress=compress)
    one = COMPRESSORS[compress]
    value = bytes(index * index % 251 for index in range(size))
    packed = one.compress(value)
    lengths = range(len(packed)) if size < 1000 else range(0, len(packed), len(packed) // 50)
    for length in lengths:
        with pytest.raises(CorruptValue):
            one.decompress(packed[:length], 10 * size)
    for more in (b"\0", packed[:1], packed, one.compress(b"other")):
        with pytest.raises(CorruptValue):
            one.decompress(packed + more, 10 * size + 100)


@every_compressor
@given(data=st.binary(max_size=60))
def test_what_was_never_compressed_is_found(compress: str, data: bytes) -> None:
    make(compress=compress)
    with pytest.raises(CorruptValue):
        COMPRESSORS[compress].decompress(data, 1000)


@every_compressor
def test_changed_data_give_an_error_or_something_within_the_limit(compress: str) -> None:
    make(compress=compress)
    one = COMPRESSORS[compress]
    packed = one.compress(b"some words, " * 20 + bytes(range(64)))
    with allocating_less_than(3_000_000):
        for index in range(len(packed)):
            for bit in range(8):
                changed = bytearray(packed)
                changed[index] ^= 1 << bit
                try:
                    assert len(one.decompress(bytes(changed), 1000)) <= 1000
                except CorruptValue:
                    pass


def zstd_frame(size: int | None, blocks: list[tuple[int, int, bytes]]) -> bytes:
    """A frame by hand: the size that it tells, and its blocks as type, size and content."""
    frame = b"\x28\xb5\x2f\xfd"
    frame += b"\x00\x58" if size is None else b"\xe0" + struct.pack("<Q", size)
    for index, (kind, length, content) in enumerate(blocks):
        last = index == len(blocks) - 1
        frame += struct.pack("<I", last | kind << 1 | length << 3)[:3] + content
    return frame


RAW_BLOCK, REPEATED = 0, 1


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (zstd_frame(None, [(RAW_BLOCK, 3, b"abc")]), "do not tell their size"),
        (zstd_frame(4, [(RAW_BLOCK, 3, b"abc")]), "not Zstandard data"),
        (zstd_frame(2, [(RAW_BLOCK, 3, b"abc")]), "not Zstandard data"),
        (zstd_frame(50_000_000, [(RAW_BLOCK, 3, b"abc")]), "cannot hold 50000000"),
        (zstd_frame(600_000, [(RAW_BLOCK, 3, b"abc")]), "not Zstandard data"),
        (zstd_frame(2**64 - 3, [(RAW_BLOCK, 3, b"abc")]), "decompresses to more than"),
        (zstd_frame(0, [(RAW_BLOCK, 3, b"abc")]), "or are of nothing"),
        (b"\x50\x2a\x4d\x18\x03\0\0\0abc", "Zstandard"),
        # A window of 128 MiB, on which a reader would have to keep that much.
        (b"\x28\xb5\x2f\xfd\x80\x88" + struct.pack("<I", 3) + b"\x18\0\0abc", "too much memory"),
    ],
)
def test_a_frame_that_lies_is_found(frame: bytes, message: str) -> None:
    make(compress="zstd")
    one = COMPRESSORS["zstd"]
    with (
        allocating_less_than(1_000_000),
        pytest.raises(CorruptValue, match=message),
    ):
        one.decompress(frame, 60_000_000)


def test_frames_by_hand_are_good_ones() -> None:
    make(compress="zstd")
    one = COMPRESSORS["zstd"]
    assert one.decompress(zstd_frame(3, [(RAW_BLOCK, 3, b"abc")]), 3) == b"abc"
    # The most that a byte of a frame can stand for.
    longest = zstd_frame(400 * 2**17, [(REPEATED, 2**17, b"x")] * 400)
    assert one.decompress(longest, 400 * 2**17) == b"x" * (400 * 2**17)


def lz4_frames() -> Any:
    return pytest.importorskip("lz4.frame")


def test_an_lz4_frame_without_a_size_is_found() -> None:
    frame = lz4_frames().compress(bytes(1000), store_size=False)
    with pytest.raises(CorruptValue, match="cannot hold 0"):
        COMPRESSORS["lz4"].decompress(frame, 1000)


@pytest.mark.parametrize("size", [1, 999, 1001, 4000, 2**20, 2**40, 2**64 - 1])
def test_an_lz4_frame_that_lies_about_its_size_is_found(size: int) -> None:
    true = lz4_frames().compress(bytes(1000), store_size=True)
    assert struct.unpack_from("<Q", true, 6) == (1000,)
    one = COMPRESSORS["lz4"]
    # The header has a check byte: the one that fits is among 256.
    with allocating_less_than(1_000_000):
        for check in range(256):
            lie = true[:6] + struct.pack("<Q", size) + bytes([check]) + true[15:]
            with pytest.raises(CorruptValue):
                one.decompress(lie, 2**30)


@every_compressor
def test_threads_do_not_get_each_others_bytes(compress: str) -> None:
    make(compress=compress)
    one = COMPRESSORS[compress]
    start = threading.Barrier(4)
    wrong: list[object] = []

    def work(seed: int) -> None:
        start.wait()
        for turn in range(50):
            value = bytes([seed, turn]) * (500 + 997 * turn)
            try:
                if one.decompress(one.compress(value), len(value)) != value:
                    wrong.append((seed, turn))
                with pytest.raises(CorruptValue):
                    one.decompress(one.compress(value)[:-1], len(value))
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_context_is_as_good_after_an_error() -> None:
    make(compress="zstd")
    one = COMPRESSORS["zstd"]
    good = one.compress(b"value" * 100)
    for length in range(len(good)):
        with pytest.raises(CorruptValue):
            one.decompress(good[:length], 1000)
        assert one.decompress(good, 1000) == b"value" * 100


# -- Whole envelopes -------------------------------------------------------------------


@every_compressor
@every_serializer
@pytest.mark.parametrize("secret", [None, "secret"])
def test_each_changed_byte_and_each_cut_of_an_envelope_is_found(
    serializer: str, compress: str, secret: str | None
) -> None:
    if serializer == "pickle" and secret is None:
        pytest.skip("refused, see test_codec")
    one = make(serializer, compress, checksum_key=secret, compress_from=0)
    value: Any = b"value" * 20 if serializer == "raw" else {"a": ["value"] * 20}
    envelope = one.encode(b"k", value, HEADER)
    for index in range(len(envelope)):
        changed = envelope[:index] + bytes([envelope[index] ^ 1]) + envelope[index + 1 :]
        for data in (changed, envelope[:index]):
            with pytest.raises(CorruptValue):
                one.decode(b"k", data)
    assert one.decode(b"k", envelope)[0] == value


KINDS: Final = [
    (serializer, compressor)
    for serializer in (0, *(one.number for one in SERIALIZERS.values()), 99)
    for compressor in (0, *(one.number for one in COMPRESSORS.values()), 99)
]


@pytest.mark.parametrize("kind", KINDS)
@given(payload=st.binary(max_size=200), deflated=st.booleans())
def test_without_a_secret_anything_may_come_and_nothing_breaks(
    kind: tuple[int, int], payload: bytes, deflated: bool
) -> None:
    one = ValueCodec(serializer="raw", max_value_size=100_000)
    data = zlib.compress(payload) if deflated else payload
    envelope = one._seal(b"k", *kind, HEADER, data)
    try:
        _, header = one.decode(b"k", envelope)
    except CorruptValue:
        return
    assert header == HEADER


@given(data=st.binary(max_size=300), name=st.binary(max_size=5))
def test_any_bytes_with_a_good_digest_break_nothing(data: bytes, name: bytes) -> None:
    one = ValueCodec(serializer="raw", max_value_size=100_000)
    for message in (data, b"\xc5\x01" + data):
        envelope = one._signer.sign(message, name) + message
        for use in (one.decode, one.header):
            try:
                use(name, envelope)
            except CorruptValue:
                pass


@pytest.mark.parametrize("kind", KINDS)
def test_random_payloads_take_little_memory(kind: tuple[int, int]) -> None:
    one = ValueCodec(serializer="raw", max_value_size=100_000)
    rng = random.Random(repr(kind))
    heads = [b"", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\xdc\xff\xff", b"\x78\x01", b"[["]
    envelopes = [
        one._seal(b"k", *kind, HEADER, rng.choice(heads) + rng.randbytes(rng.randrange(300)))
        for _ in range(300)
    ]
    for envelope in envelopes[:20]:
        decoded(one, envelope)
    with allocating_less_than(1_500_000):
        for envelope in envelopes:
            decoded(one, envelope)


def decoded(one: ValueCodec, envelope: bytes) -> Any:
    try:
        return one.decode(b"k", envelope)
    except CorruptValue:
        return None
