"""A bound on what kafka-python 3.0.12 inflates.

The client inflates a compressed batch whole, however large it becomes: a megabyte of gzip takes two gigabytes. Here a
batch is inflated up to a bound, and one that goes beyond is not: its header, which is never compressed, says which
offsets it has, and a record with an :class:`.record.Uninflated` value stands for each of them. One round of polling
takes no more than the bound either, and what the client keeps of paused partitions is kept within it.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import kafka.codec as codecs
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher

from connectors.errors import ConfigurationError, Reason
from connectors.kafka.client.settings import MIN_FETCH_BYTES
from connectors.kafka.record import Uninflated

FLOOR_BYTES = 8 * MIN_FETCH_BYTES  # producers' usual batches, of a megabyte of text, are below this
_TIMES_COMPRESSED = 2  # a large record that hardly shrinks comes alone, compressed or not
_PIECE_BYTES, _CHUNK_BYTES = 2**16, 2**20  # of what goes into an inflater, and of what comes out at once
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4  # Kafka's numbers
_KNOWN = (_GZIP, _SNAPPY, _LZ4, _ZSTD)
_XERIAL_HEADER_BYTES = 16


class _TooMuch(Exception):
    """More comes out than the bound allows; with the number of bytes that had come by then."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.size_bytes = size_bytes


def inflate(codec: int, data: bytes, max_bytes: int) -> bytearray:
    """Return what is compressed in ``data``.

    Raises:
        _TooMuch: it has more than ``max_bytes``.
        ValueError: it can't be inflated.
    """
    snappy = partial(_snappy, max_bytes=max_bytes)
    codecs_by_number: dict[int, Callable[[bytes], Iterator[bytes]]]
    codecs_by_number = {_GZIP: _gzip, _SNAPPY: snappy, _LZ4: _lz4, _ZSTD: _zstd}
    inflated = bytearray()
    try:
        for chunk in codecs_by_number[codec](data):
            inflated += chunk
            if len(inflated) > max_bytes:
                raise _TooMuch(len(inflated))
    except (_TooMuch, MemoryError):
        raise
    except Exception as error:  # each library has its own
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return inflated


def _gzip(data: bytes) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=31)
    for at in range(0, len(data), _PIECE_BYTES):
        piece = data[at : at + _PIECE_BYTES]
        while piece:
            if inflater.eof:  # zeros, or one more member
                piece = piece.lstrip(b"\0")
                inflater = zlib.decompressobj(wbits=31) if piece else inflater
                continue
            yield inflater.decompress(piece, _CHUNK_BYTES)
            piece = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    yield inflater.flush()
    if not inflater.eof:
        raise ValueError("it ends early")


def _snappy(data: bytes, max_bytes: int) -> Iterator[bytes]:
    total_bytes = 0
    for block in _snappy_blocks(data):
        total_bytes += _snappy_length(block)  # it is made in one piece, so its length is looked at first
        if total_bytes > max_bytes:
            raise _TooMuch(total_bytes)
        yield codecs.snappy.decompress(block)


def _snappy_blocks(data: bytes) -> Iterator[bytes]:
    """Yield the blocks of Kafka's framing, or the data as the one block that they are."""
    if not codecs._detect_xerial_stream(data):
        yield data
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        (size,) = struct.unpack_from("!i", data, at)
        at += 4
        if not 0 < size <= len(data) - at:
            raise ValueError(f"a block of {size} bytes")
        yield data[at : at + size]
        at += size


def _snappy_length(block: bytes) -> int:
    """Return the length that a block begins with, as LEB128."""
    length = 0
    for at, byte in enumerate(block[:5]):
        length |= (byte & 0x7F) << (7 * at)
        if byte < 0x80:
            return length
    raise ValueError("its length has no end")


def _lz4(data: bytes) -> Iterator[bytes]:
    inflater = codecs.lz4.LZ4FrameDecompressor()
    yield inflater.decompress(data, max_length=_CHUNK_BYTES)
    while not inflater.eof:
        if inflater.needs_input:
            raise ValueError("it ends early")
        yield inflater.decompress(b"", max_length=_CHUNK_BYTES)


def _zstd(data: bytes) -> Iterator[bytes]:
    with codecs.zstd.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        while chunk := reader.read(_CHUNK_BYTES):
            yield chunk


@dataclass(frozen=True, slots=True)
class _Unread:
    """A record that stands for one that was not inflated, in the form in which the client expects records."""

    offset: int
    timestamp: int
    timestamp_type: int
    value: Uninflated
    key: None = None
    headers: tuple[()] = ()
    checksum: None = None
    size_in_bytes: int = 0

    def validate_crc(self) -> bool:
        """Say that the batch's checksum covers it."""
        return True


class _Batch:
    """A compressed batch of the client's, inflated within the bound."""

    def __init__(self, batch: Any, answer: "_Answer") -> None:
        self._batch, self._answer = batch, answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        batch, answer = self._batch, self._answer
        max_bytes = max(answer.max_bytes, _TIMES_COMPRESSED * batch.size_in_bytes)
        if batch.compression_type in _KNOWN:
            batch._assert_has_codec(batch.compression_type)
        try:
            inflated = inflate(batch.compression_type, _compressed_part(batch), max_bytes)
        except _TooMuch as error:
            detail = f"a compressed batch of {batch.size_in_bytes} bytes has more than {max_bytes} when it is inflated"
            return self._stand_ins(Uninflated(Reason.TOO_LARGE, detail, error.size_bytes))
        except ValueError as error:
            detail = f"a compressed batch can't be inflated: {error}"
            return self._stand_ins(Uninflated(Reason.CORRUPT, detail, batch.size_in_bytes))
        answer.inflated_bytes = len(inflated)
        batch._decompressed = True
        if batch.magic > 1:
            batch._buffer, batch._pos = inflated, 0
        else:
            batch._buffer = memoryview(inflated)
        records: Iterator[Any] = iter(batch)
        return records

    def _stand_ins(self, value: Uninflated) -> Iterator[Any]:
        batch, answer = self._batch, self._answer
        if batch.magic < 2 or answer.is_strict:  # the offsets of older batches are within what is compressed
            place = "{}/{}".format(*answer.place)
            detail = f"{place} can't be read at offset {batch.base_offset}: {value.detail}"
            raise ConfigurationError(f"{detail}; it can't be rejected record by record, so move the group past it")
        first = max(batch.base_offset, answer.fetch_offset)
        time_ms, kind = batch.max_timestamp, batch.timestamp_type
        return (_Unread(offset, time_ms, kind, value) for offset in range(first, batch.next_offset))


def _compressed_part(batch: Any) -> bytes:
    """Return the compressed bytes of a batch: in the formats before 2 the value of the one message that it is."""
    if batch.magic > 1:
        return bytes(memoryview(batch._buffer)[batch._pos :])
    if batch.magic == 0 and batch.compression_type == _LZ4:
        raise ValueError("LZ4 in Kafka's first message format is not read")  # with checksums of its own
    at = batch.KEY_OFFSET_V1 if batch.magic == 1 else batch.KEY_OFFSET_V0
    (key_bytes,) = struct.unpack_from(">i", batch._buffer, at)
    at += batch.KEY_LENGTH + max(key_bytes, 0)
    (value_bytes,) = struct.unpack_from(">i", batch._buffer, at)
    at += batch.VALUE_LENGTH
    return bytes(batch._buffer[at : at + max(value_bytes, 0)])


class _Answer:
    """The batches that came for one partition; ``inflated_bytes`` is the size of the one that is read now."""

    def __init__(self, place: Any, batches: Any, fetch_offset: int, max_bytes: int, *, is_strict: bool) -> None:
        self.place, self.fetch_offset, self.max_bytes, self.is_strict = place, fetch_offset, max_bytes, is_strict
        self.inflated_bytes = 0
        self._batches = batches

    def next_batch(self) -> Any:
        """Return the next batch; None after the last."""
        self.inflated_bytes = 0
        batch = self._batches.next_batch()
        return batch if batch is None or not batch.compression_type else _Batch(batch, self)


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The client's records of one partition, over an :class:`_Answer`."""

    def __init__(self, inflation: "_Inflation", fetch_offset: int, place: Any, batches: Any, **settings: Any) -> None:
        self.answer = _Answer(place, batches, fetch_offset, inflation.max_bytes, is_strict=inflation.is_strict)
        super().__init__(fetch_offset, place, self.answer, **settings)

    def take(self, n: int | None = None) -> Any:
        """Return records; what can't be taken apart ends the reading, or the client would go on asking for ever."""
        try:
            return super().take(n)
        except BaseException:
            self.drain()
            raise


class _Inflation:
    """What one consumer inflates."""

    def __init__(self, consumer: KafkaConsumer, max_bytes: int, *, is_strict: bool) -> None:
        self.max_bytes, self.is_strict = max_bytes, is_strict
        self._taken_bytes = 0
        self._fetcher = consumer._fetcher
        self._positions = consumer._subscription.assignment
        self._append: Callable[..., int] = self._fetcher._append
        self._take_up: Callable[..., Any] = self._fetcher.fetched_records

    def take_up(self, *args: Any, **kwargs: Any) -> Any:
        """Begin a round of polling: nothing is taken up yet, and nothing more is kept than may be."""
        self._taken_bytes = 0
        self._let_go()
        return self._take_up(*args, **kwargs)

    def _let_go(self) -> None:
        """Drop what was inflated for partitions that are paused now, where it is of no use or above the bound.

        It is fetched again when they go on.
        """
        kept_bytes = 0
        parked = self._fetcher._paused_partition_records
        for place, part in list(parked.items()):
            state = self._positions.get(place)
            is_stale = state is None or state.position is None or state.position.offset != part.next_fetch_offset
            kept_bytes += part.answer.inflated_bytes
            if part.answer.inflated_bytes and (is_stale or kept_bytes > self.max_bytes):
                kept_bytes -= part.answer.inflated_bytes
                parked.pop(place).drain()  # it refers to itself, and would wait for the garbage collector

    def append(self, drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:
        """Take up records one by one, until there are as many as the client wants or a round has enough bytes."""
        place = part.topic_partition
        took = self._append(drained, part, 1, update_offsets)
        if took:
            record = drained[place][-1]
            sizes = (record.serialized_key_size, record.serialized_value_size, record.serialized_header_size)
            self._taken_bytes += sum(max(size, 0) for size in sizes)
        return max_records if self._taken_bytes > self.max_bytes else took


def bound_inflating(consumer: KafkaConsumer, max_bytes: int, *, is_strict: bool = False) -> None:
    """Make a consumer inflate no batch beyond ``max_bytes``. To be called before it polls.

    Records stand for those of a batch that goes beyond; with ``is_strict`` it is a :class:`ConfigurationError`.
    """
    inflation = _Inflation(consumer, max(max_bytes, FLOOR_BYTES), is_strict=is_strict)
    fetcher = consumer._fetcher
    fetcher.PartitionRecords = partial(_PartitionRecords, inflation)
    fetcher.fetched_records, fetcher._append = inflation.take_up, inflation.append
