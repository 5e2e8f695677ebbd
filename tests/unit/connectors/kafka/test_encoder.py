"""Records about a clip can be encoded, whatever its file is called and its record's headers hold."""

from types import SimpleNamespace
from typing import Any

import pytest

from connectors.contract import Caption, CaptionStatus, Clip, Delivery, Progress, WindowSpan
from connectors.errors import Poison
from connectors.kafka.encoder import records_of
from connectors.kafka.record import ERRORS_PREFIX, ProducerRecord, SourceRecord
from connectors.kafka.replay import replay_headers
from connectors.kafka.replay_key import ReplayKey
from connectors.kafka.settings import KafkaSinkSettings
from connectors.media.refused import RefusedMedia

SETTINGS = KafkaSinkSettings(bootstrap_servers="127.0.0.1:9")
ODD = "caf\udce9\udcff.mp4"  # a file's name that is not UTF-8, as Python reads it


def written(record: ProducerRecord) -> dict[str, bytes | None]:
    assert all(value is None or value.decode() is not None for _, value in record.headers)
    return dict(record.headers)


def progress(handle: Any) -> Progress:
    fault = Poison("vanished", f"{ODD} is not there any more\r\n" + "\u00e9" * 3000)
    delivery = Delivery(Clip("c1", "t", RefusedMedia(ODD, fault, 3), 0), handle=handle)
    caption = Caption("i", "c1", "t", WindowSpan(0, 0, 1), f"{ODD}", CaptionStatus.SUCCESS, "m", "p", "h", detail=ODD)
    return Progress(
        delivery,
        [caption],
        1,
        "h",
        last=True,
        rejection=Progress.rejected(delivery, fault, next_window=1, plan_hash="h").rejection,
    )


@pytest.mark.parametrize("handle", [None, SourceRecord("clips", 0, 7, 1, headers=(("null", None),), value=b"{}")])
def test_a_name_that_is_not_utf_8_is_written_readably(handle: SourceRecord | None) -> None:
    caption, letter = records_of(progress(handle), SETTINGS)

    assert b"caf\xef\xbf\xbd\xef\xbf\xbd.mp4" in (caption.value or b"")
    message = written(letter)[f"{ERRORS_PREFIX}exception.message"] or b""
    assert message.startswith("caf\ufffd\ufffd.mp4 is not there any more \u00e9".encode())
    assert len(message) <= 2048
    if handle is not None:
        assert ("null", None) in letter.headers


def test_a_replay_takes_headers_without_values_and_counts_of_any_length() -> None:
    def headers(*given: tuple[str, bytes | None]) -> dict[str, bytes | None]:
        letter: Any = SimpleNamespace(key=None, value=b"clip", headers=list(given))
        return dict(replay_headers(letter, ReplayKey(b"k" * 32)))

    again = headers((f"{ERRORS_PREFIX}topic", None), ("null", None), ("__captiond.replay.count", None))
    far = headers(("__captiond.replay.count", b"9" * 5000))

    assert again["null"] is None
    assert again["__captiond.replay.count"] == far["__captiond.replay.count"] == b"1"
