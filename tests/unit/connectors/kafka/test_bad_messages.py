"""Each of forty malformed messages is refused with its reason, and says nothing of the machine (M1)."""

from types import SimpleNamespace

import pytest

from connectors.contract import ClipPosition, Delivery
from connectors.errors import Poison
from connectors.kafka.decoder import RecordDecoder
from connectors.media.reference import open_reference
from tests.corpus.messages import BAD_MESSAGES, BadMessage


def test_there_are_forty() -> None:
    assert len(BAD_MESSAGES) == len({message.name for message in BAD_MESSAGES}) == 40


@pytest.mark.parametrize("message", BAD_MESSAGES, ids=lambda message: message.name)
def test_a_record_is_refused_or_left_to_the_decoder(message: BadMessage) -> None:
    decoder = RecordDecoder("t", {}, 2**20, lambda uri, name: open_reference(uri, name, roots=(), max_clip_bytes=2**20))
    record = SimpleNamespace(
        topic="clips",
        partition=0,
        offset=7,
        timestamp=0,
        key=b"k",
        value=message.value,
        headers=list(message.headers.items()),
    )

    delivery = decoder.decode(record, ClipPosition(), 1)

    assert isinstance(delivery, Delivery)
    assert delivery.clip.clip_id in {"clips/0/7", "a"}
    if message.reason in ("not_a_video", "forbidden_format"):
        delivery.clip.media.close()  # only a decoder can tell
        return
    with pytest.raises(Poison) as refused:
        delivery.clip.media.open()
    assert refused.value.reason == message.reason
    assert len(refused.value.detail) < 500
