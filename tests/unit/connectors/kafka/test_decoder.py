"""Whatever a producer writes into a record becomes a delivery: null headers, odd numbers, what nobody foresaw."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.contract import ClipPosition, Delivery
from connectors.errors import Poison, Reason
from connectors.kafka.decoder import RecordDecoder
from connectors.kafka.record import REPLAY_PREFIX, SourceRecord
from connectors.media.protocols import Media

PLAN = "ab" * 8
KNOWN = ("content-type", "prompt", "traceparent", "tracestate", "ce_specversion", "ce_id", "ce_subject")
REPLAY = tuple(REPLAY_PREFIX + name for name in ("clip_id", "first_window", "plan_hash", "count"))


def broken(uri: str, name: str) -> Media:
    raise RecursionError("nobody foresaw it")


def record(*headers: tuple[str, bytes | None], value: bytes | None = b"video") -> Any:
    return SimpleNamespace(
        topic="clips", partition=0, offset=7, timestamp=0, key=b"k", value=value, headers=list(headers)
    )


def decoded(*headers: tuple[str, bytes | None], value: bytes = b"video") -> Delivery:
    decoder = RecordDecoder("t", {"clips": "What?"}, 2**20, broken)
    delivery = decoder.decode(record(*headers, value=value), ClipPosition(), 1)
    assert isinstance(delivery, Delivery)
    delivery.clip.media.close()
    return delivery


@pytest.mark.parametrize("name", [*KNOWN, *REPLAY])
def test_a_header_without_a_value_is_as_if_it_were_not_there(name: str) -> None:
    delivery = decoded((name, None))

    assert (delivery.clip.clip_id, delivery.position) == ("clips/0/7", ClipPosition())
    assert delivery.clip.attributes == {"prompt": "What?"}


@pytest.mark.parametrize("digits", [b"9" * 5000, b"9" * 30, "\u0663".encode(), b"-1", b"1.0", b"", b" 2", b"1_0"])
def test_a_first_window_that_is_no_small_number_counts_as_none(digits: bytes) -> None:
    delivery = decoded((f"{REPLAY_PREFIX}first_window", digits), (f"{REPLAY_PREFIX}plan_hash", PLAN.encode()))

    assert delivery.position == ClipPosition()


def test_what_nobody_foresaw_is_refused_with_its_stack_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    value = b'{"uri": "film.mp4", "clip_id": "other"}'

    delivery = decoded(value=value)

    with pytest.raises(Poison) as refused:
        delivery.clip.media.open()
    assert (refused.value.reason, refused.value.origin) == (Reason.MALFORMED, "source")
    assert refused.value.detail == "the record is not understood: RecursionError"
    assert isinstance(delivery.handle, SourceRecord)
    assert delivery.handle.value == value  # for its dead letter
    (told,) = caplog.records
    assert (told.levelno, told.exc_info is not None) == (logging.ERROR, True)


@pytest.mark.parametrize("lack", [OSError(24, "Too many open files"), MemoryError()])
def test_that_the_machine_has_no_room_is_not_the_records_fault(
    lack: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise lack

    monkeypatch.setattr("connectors.kafka.decoder.BytesMedia", full)

    with pytest.raises(type(lack)):
        decoded()
