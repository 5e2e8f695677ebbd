"""A key is hashed once for all messages of a clip."""

from types import SimpleNamespace

from kafka.partitioner import default
from kafka.producer import KafkaProducer

from connectors.kafka.client import workarounds

PARTITIONS = SimpleNamespace(
    topics=lambda: {"captions"},
    partitions_for_topic=lambda _: set(range(12)),
    available_partitions_for_topic=lambda _: set(range(12)),
)


def test_a_key_that_comes_again_is_not_hashed_again_and_goes_where_every_client_sends_it() -> None:
    partitioner = KafkaProducer.DEFAULT_CONFIG["partitioner"]
    before = default.murmur2.cache_info()

    chosen = {partitioner.partition("captions", None, b"clips/3/727@abc", None, b"", PARTITIONS) for _ in range(6)}

    assert chosen == {(default.murmur2.__wrapped__(b"clips/3/727@abc") & 0x7FFFFFFF) % 12}
    after = default.murmur2.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 5)
    assert after.maxsize == workarounds._KEPT_HASHES
