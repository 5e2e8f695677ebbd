"""Compressed batches are inflated up to a bound, whatever wrote them."""

import gzip
import os
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from kafka import codec as codecs
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from connectors.errors import ConfigurationError
from connectors.kafka.client.inflating import _Answer, _TooMuch, inflate
from connectors.kafka.record import Uninflated

DEFLATE: dict[int, Callable[[bytes], bytes]] = {
    1: codecs.gzip_encode,
    2: codecs.snappy_encode,
    3: codecs.lz4_encode,
    4: codecs.zstd_encode,
}
SIZE = 5 * 2**20 + 123
TEXT = (b"a video of a street, %d\n" * 2**18)[:SIZE]


@pytest.mark.parametrize("codec", DEFLATE)
@pytest.mark.parametrize("plain", [b"", b"clip", TEXT, os.urandom(SIZE)], ids=["nothing", "little", "text", "noise"])
def test_what_fits_comes_out_as_it_was(codec: int, plain: bytes) -> None:
    if plain or codec != 2:  # snappy's framing has no block for nothing, and Kafka no batch
        assert inflate(codec, DEFLATE[codec](plain), max(len(plain), 1)) == plain


def test_members_of_gzip_and_snappy_without_framing_are_read_as_the_client_reads_them() -> None:
    assert inflate(1, gzip.compress(b"one") + bytes(8) + gzip.compress(b"two") + bytes(70_000), 10) == b"onetwo"
    assert inflate(2, codecs.snappy_encode(TEXT, xerial_compatible=False), SIZE) == TEXT


@pytest.mark.parametrize("codec", DEFLATE)
@pytest.mark.parametrize("size_bytes", [SIZE, 2**29], ids=["a byte too many", "a bomb"])
def test_beyond_the_bound_nothing_more_comes_out(codec: int, size_bytes: int) -> None:
    data = DEFLATE[codec](bytes(size_bytes))
    tracemalloc.start()
    try:
        with pytest.raises(_TooMuch):
            inflate(codec, data, SIZE - 1)
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", [*DEFLATE, 5, 7])
@pytest.mark.parametrize("data", [b"", b"no such thing", bytes(100), b"\xff" * 5000])
def test_what_is_not_compressed_so_is_one_error(codec: int, data: bytes) -> None:
    if (codec, data) == (4, b""):
        return  # no frame is no bytes
    with pytest.raises(ValueError, match=r"\w"):
        inflate(codec, data, SIZE)


@pytest.mark.parametrize("codec", DEFLATE)
def test_what_ends_early_is_an_error_and_not_a_part(codec: int) -> None:
    data = DEFLATE[codec](os.urandom(2**20))

    try:
        part = inflate(codec, data[:-1000], SIZE)
    except ValueError:
        return
    assert codec == 4  # its reader does not say; the records in it then end early
    assert len(part) < 2**20


@pytest.mark.parametrize("size", [-5, 0, 2**31 - 1])
def test_a_block_of_snappy_that_leads_nowhere_is_an_error(size: int) -> None:
    header = struct.pack("!bccccccBii", -126, b"S", b"N", b"A", b"P", b"P", b"Y", 0, 1, 1)

    with pytest.raises(ValueError, match="a block of"):
        inflate(2, header + struct.pack("!i", size) + b"x" * 20, SIZE)


def _answer(
    values: list[bytes], codec: int, *, magic: int = 2, fetch_offset: int = 0, is_strict: bool = False
) -> _Answer:
    builder = MemoryRecordsBuilder(magic, codec, batch_size=2**30)
    for value in values:
        builder.append(1_700_000_000_000, b"key", value, [])
    builder.close()
    raw = bytearray(builder.buffer())
    if magic == 2:
        raw[:8] = struct.pack(">q", 10)  # the broker's part
    return _Answer(("clips", 0), MemoryRecords(bytes(raw)), fetch_offset, 2**20, is_strict=is_strict)


def _records(answer: _Answer) -> list[Any]:
    batch = answer.next_batch()
    assert batch.validate_crc()
    return list(batch)


@pytest.mark.parametrize("magic", [1, 2])
@pytest.mark.parametrize("codec", [1, 2, 3])
def test_a_batch_within_the_bound_is_the_client_s(codec: int, magic: int) -> None:
    values = [b"one" * 100, b"two" * 100, b"three" * 100]
    answer = _answer(values, codec, magic=magic)

    found = _records(answer)

    assert [(record.key, record.value) for record in found] == [(b"key", value) for value in values]
    assert [record.offset for record in found][-1] - found[0].offset == 2
    assert answer.inflated_bytes > 0
    assert answer.next_batch() is None
    assert answer.inflated_bytes == 0


@pytest.mark.parametrize("codec", DEFLATE)
def test_a_batch_beyond_it_has_a_record_for_each_of_its_own(codec: int) -> None:
    found = _records(_answer([bytes(8 * 2**20)] * 3, codec, fetch_offset=11))

    assert [record.offset for record in found] == [11, 12]  # from where it was asked for
    assert all(isinstance(record.value, Uninflated) and not record.value for record in found)
    assert found[0].value.reason == "too_large"
    assert found[0].value.inflated_bytes > 2**20


def test_a_batch_that_is_large_as_it_came_may_be_as_large_again() -> None:
    value = os.urandom(3 * 2**20)

    assert [record.value for record in _records(_answer([value], 1))] == [value]


def test_a_batch_that_can_not_be_inflated_has_them_too() -> None:
    answer = _answer([b"one" * 100, b"two" * 100], 1)
    batch = answer.next_batch()
    batch._batch._buffer[-20:] = bytes(20)

    assert [(record.offset, record.value.reason) for record in batch] == [(10, "corrupt"), (11, "corrupt")]


@pytest.mark.parametrize(("magic", "is_strict"), [(1, False), (2, True)], ids=["an old format", "a reader of letters"])
def test_where_no_record_can_stand_for_another_the_place_is_named(magic: int, *, is_strict: bool) -> None:
    with pytest.raises(ConfigurationError, match=r"clips/0 can't be read at offset \d+: a compressed batch of"):
        _records(_answer([bytes(8 * 2**20)] * 3, 1, magic=magic, is_strict=is_strict))
