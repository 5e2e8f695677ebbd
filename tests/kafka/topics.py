"""The topics of one test: clips in, captions and rejections out, and what is found in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.kafka.client.admin import KafkaAdminClient, NewTopic
from connectors.kafka.client.consumer import TopicPartition, open_reader
from connectors.kafka.offset_ledger import PartitionPosition, decode_position
from connectors.kafka.settings import KafkaConnectionSettings, KafkaSinkSettings
from tests.kafka.stand_in import AnyRoute, make_route, produce, read_all, seen, windows_of


@dataclass(frozen=True)
class Topics:
    """Three topics on one broker, and a folder for what routes keep. The group has the name of the clips' topic."""

    bootstrap: str
    state_dir: Path
    clips: str = "clips"
    captions: str = "captions"

    @property
    def rejected(self) -> str:
        return f"{self.captions}.rejected"

    def make(
        self,
        partitions: int = 1,
        *,
        captions: int = 1,
        clips_config: Mapping[str, str] | None = None,
        captions_config: Mapping[str, str] | None = None,
    ) -> "Topics":
        """Make the topics, with so many partitions of clips and of captions."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=30_000)
        try:
            admin.create_topics(
                [
                    NewTopic(self.clips, partitions, 1, topic_configs=dict(clips_config or {})),
                    NewTopic(self.captions, captions, 1, topic_configs=dict(captions_config or {})),
                    NewTopic(self.rejected, 1, 1),
                ]
            )
            admin.wait_for_topics([self.clips, self.captions, self.rejected])
        finally:
            admin.close()
        return self

    def produce(self, values: Sequence[bytes | None], **more: Any) -> None:
        """Write clips, the n-th with key ``k<n>``."""
        produce(self.bootstrap, self.clips, values, **more)

    def route(self, *, transactional: bool, **more: Any) -> AnyRoute:
        """Return a route from the clips to the captions."""
        return make_route(
            self.bootstrap, self.clips, self.captions, self.state_dir, transactional=transactional, **more
        )

    def sink_settings(self) -> KafkaSinkSettings:
        return KafkaSinkSettings(bootstrap_servers=self.bootstrap, topic=self.captions, dead_letter_topic=self.rejected)

    def seen(self) -> list[Any]:
        """Return the captions that came so far."""
        return seen(self.bootstrap, self.captions)

    def read(self) -> list[Any]:
        """Return every caption."""
        return read_all(self.bootstrap, self.captions)

    def letters(self) -> list[Any]:
        """Return every dead letter."""
        return read_all(self.bootstrap, self.rejected)

    def windows(self) -> dict[str, list[int]]:
        """Return the window indices of each clip, in the order of the topic."""
        return windows_of(self.read())

    def committed(self, partition: int = 0) -> PartitionPosition | None:
        """Return the group's position."""
        reader = open_reader(KafkaConnectionSettings(bootstrap_servers=self.bootstrap), group_id=self.clips)
        try:
            stored = reader.committed(TopicPartition(self.clips, partition), metadata=True, timeout_ms=20_000)
            return None if stored is None else decode_position(stored.offset, stored.metadata)
        finally:
            reader.close()
