"""A record is read whatever bytes its headers' names are, and is written again with the same bytes."""

from collections.abc import Sequence
from typing import Any

import pytest
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from connectors.kafka.client.workarounds import HeaderName, RecordBatch, headers_with_nulls

Headers = list[tuple[str, bytes | None]]
ODD = (b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80", b"\xc3")


def batch_of(*records: tuple[bytes, Headers], compression: int = 0) -> bytes:
    """Return a batch as a producer of any bytes writes it."""
    builder = MemoryRecordsBuilder(2, compression, 2**20)
    for value, headers in records:
        builder.append(1_700_000_000_000, b"key", value, headers)
    builder.close()
    return bytes(builder.buffer())


def named(raw: bytes) -> HeaderName:
    return HeaderName(raw.decode("utf-8", "surrogateescape"))


def read(batch: bytes) -> list[tuple[bytes, Headers]]:
    return [(record.value, record.headers) for records in MemoryRecords(batch) for record in records]


RECORDS: Sequence[tuple[bytes, Headers]] = (
    (b"before", [("color", b"blue")]),
    *((b"odd", [(named(name), b"x"), ("null", None)]) for name in ODD),
    (b"after" * 1000, [("color", None)]),
)


@pytest.mark.parametrize("compression", [0, 1], ids=["plain", "gzip"])
def test_a_batch_is_read_whatever_its_headers_are_called(compression: int) -> None:
    batch = batch_of(*RECORDS, compression=compression)

    found = read(batch)

    assert found == list(RECORDS)
    assert [name.encode("utf-8") for _, headers in found[1:-1] for name, value in headers if value] == list(ODD)
    assert batch_of(*found, compression=compression)[61:] == batch[61:]


def test_batches_are_not_compressed_at_the_slowest_level() -> None:
    batch = batch_of((b"a caption " * 100, []), compression=1)

    assert batch[61:63] == b"\x1f\x8b"
    assert batch[61 + 8] == 0  # gzip's own word for the level: 2 is the slowest, as the client has it by itself


def test_the_client_by_itself_stands_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.record.memory_records.DefaultRecordBatch", DefaultRecordBatch)

    with pytest.raises(CorruptRecordError):
        read(batch_of(*RECORDS))


def test_other_damage_is_still_damage() -> None:
    class Cut(RecordBatch):
        def _maybe_uncompress(self) -> Any:
            super()._maybe_uncompress()
            self._buffer = self._buffer[:-3]

    with pytest.raises(CorruptRecordError):
        list(Cut(batch_of(*RECORDS)))


def test_a_null_value_goes_through_the_client_as_null() -> None:
    given = headers_with_nulls([("null", None), ("empty", b""), ("color", b"blue")])

    assert all(isinstance(value, bytes) for _, value in given)  # what the client asks for
    assert read(batch_of((b"clip", list(given)))) == [(b"clip", [("null", None), ("empty", b""), ("color", b"blue")])]
